"""Whatever happens to files, a run is what a fresh run would be, or refuses to be read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from islet_imaging.errors import Cancelled, IsletImagingError
from islet_imaging.network.weights import load_model
from islet_imaging.protocol import Cells, Channel, Correction, Nuclei, Positivity, Protocol, Reading
from islet_imaging.review.journal import Edit, Journal
from islet_imaging.run.folder import TABLES, Run
from islet_imaging.scoring import task as task_module
from islet_imaging.scoring.folder import score_folder
from islet_imaging.scoring.results import resummarise
from tests.stainings import staining, write

A = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")),
    nuclei=Nuclei(method="classical"),
    positivity={"INS": Positivity(method="otsu")},
)
#: another protocol: other rings, other numbers
B = A.replace(cells=Cells(ring_um=1.5))


@pytest.fixture(autouse=True)
def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is of no interest here, and takes most of the time."""
    monkeypatch.setattr(
        "islet_imaging.report.write_report", lambda path, data: path.write_text("report")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "f"
    write(root / "1.ome.tif", staining(1, 0.3))
    write(root / "11.ome.tif", staining(2, 0.7))
    write(root / "sub" / "1.ome.tif", staining(3, 0.5))
    return root


def numbers(run: Run) -> dict[str, str]:
    """Every table of a run as bytes, what does not change from run to run."""
    return {
        n: hashlib.sha256((run.path / n).read_bytes()).hexdigest()
        for n in (*(f"{t}.csv" for t in TABLES), "cells.parquet", "protocol.yaml")
    }


def score(folder: Path, out: Path, protocol: Protocol = A, **more: object) -> Run:
    return score_folder(folder, out, protocol=protocol, workers=1, **more)


def fresh(folder: Path, tmp_path: Path, protocol: Protocol = A, **more: object) -> dict[str, str]:
    out = tmp_path / "fresh"
    shutil.rmtree(out, ignore_errors=True)
    return numbers(score(folder, out, protocol, **more))


def fraction(run: Run, image: str) -> float:
    return float(run.images.set_index("image").loc[image, "INS_fraction"])


# ------------------------------------------------------------ inputs


@pytest.mark.parametrize("name", ["1.ome.tif", "11.ome.tif", "sub/1.ome.tif"])
@pytest.mark.parametrize("how", ["write", "move", "same size and time"])
def test_an_exchanged_file_is_measured_again(
    folder: Path, tmp_path: Path, name: str, how: str
) -> None:
    score(folder, tmp_path / "run")
    path = folder / name
    if how == "write":
        write(path, staining(9, 0.9))
    else:
        stat = path.stat()
        write(tmp_path / "new.ome.tif", staining(9, 0.9))
        if how == "same size and time":
            data = (tmp_path / "new.ome.tif").read_bytes()
            (tmp_path / "new.ome.tif").write_bytes(data[: stat.st_size].ljust(stat.st_size, b"\0"))
        os.replace(tmp_path / "new.ome.tif", path)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert numbers(score(folder, tmp_path / "run")) == fresh(folder, tmp_path)


def test_a_file_exchanged_while_it_is_measured_has_no_number(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from islet_imaging.scoring.image import measure_image

    def exchange(image: object, *rest: object, **more: object) -> object:
        found = measure_image(image, *rest, **more)
        if image.name == "11.ome.tif":
            write(folder / "11.ome.tif", staining(8, 0.1))
        return found

    monkeypatch.setattr("islet_imaging.scoring.image.measure_image", exchange)
    run = score(folder, tmp_path / "run")
    row = run.images.set_index("image").loc["11.ome.tif"]
    assert row["status"] == "failed"
    assert "changed while" in row["message"]
    assert "11.ome.tif" in run.summary["note"][0]
    monkeypatch.undo()
    monkeypatch.setattr(
        "islet_imaging.report.write_report", lambda path, data: path.write_text("report")
    )
    assert numbers(score(folder, tmp_path / "run")) == fresh(folder, tmp_path)


def test_an_image_measured_early_and_exchanged_late_has_no_number(
    folder: Path, tmp_path: Path
) -> None:
    def tell(_: int, __: int, image: str) -> None:
        if image == "sub/1.ome.tif":
            write(folder / "1.ome.tif", staining(8, 0.1))

    run = score(folder, tmp_path / "run", progress=tell)
    assert run.images.set_index("image").loc["1.ome.tif", "status"] == "failed"


def test_a_picture_is_not_shown_for_another(folder: Path, tmp_path: Path) -> None:
    run = score(folder, tmp_path / "run")
    write(folder / "1.ome.tif", staining(9, 0.9))
    with pytest.raises(IsletImagingError, match="changed or exchanged"):
        run.read_image("1.ome.tif")


# ------------------------------------------------------------ protocols


def _stop_at(monkeypatch: pytest.MonkeyPatch, where: str, at: int) -> None:
    """Raise at the n-th call of something: a stop there."""
    import importlib

    module, name = where.rsplit(".", 1)
    real = getattr(importlib.import_module(module), name)
    count = 0

    def stop(*args: object, **more: object) -> object:
        nonlocal count
        count += 1
        if count == at:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(where, stop)


STOPS = [
    *(("islet_imaging.scoring.task.write_labels", n) for n in (1, 2, 4)),
    *(("islet_imaging.scoring.task.write_arrow", n) for n in (1, 3, 5)),
    *(("islet_imaging.scoring.task.write_record", n) for n in (1, 3)),
    ("islet_imaging.run.cell_parts.write_arrow", 2),
    *(("islet_imaging.scoring.results.write_table", n) for n in (1, 2, 5)),
    ("islet_imaging.report.write_report", 1),
    ("islet_imaging.scoring.results.exchange", 1),
    *(("islet_imaging.run.stage.stamp_of", n) for n in (1, 2, 4)),
    *(("islet_imaging.run.stage.write_text", n) for n in (1, 2)),
]


@pytest.mark.parametrize(("where", "at"), STOPS)
def test_another_protocol_stopped_anywhere_leaves_no_mixture(
    folder: Path, tmp_path: Path, where: str, at: int
) -> None:
    out = tmp_path / "run"
    first = numbers(score(folder, out, A))
    with pytest.MonkeyPatch.context() as patch:
        _stop_at(patch, where, at)
        with pytest.raises(KeyboardInterrupt):
            score(folder, out, B)
    wanted_b = fresh(folder, tmp_path, B)
    # whoever reads now gets one of the two, whole, or a refusal
    try:
        found = Run.open(out)
        seen = {t: found.table(t) for t in TABLES}
        assert len(seen) == len(TABLES)
        assert numbers(found) in (first, wanted_b)
    except IsletImagingError:
        pass
    try:
        assert numbers(resummarise(out)) in (first, wanted_b)
    except IsletImagingError as error:
        assert "score" in str(error)  # noqa: PT017
    assert numbers(score(folder, out, A)) == first
    assert numbers(resummarise(out)) == first
    assert numbers(score(folder, out, B)) == wanted_b


def test_labels_of_a_stopped_scoring_are_not_shown(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = score(folder, out, A)
    done: list[str] = []
    with pytest.raises(Cancelled):
        score(
            folder, out, A.replace(nuclei=Nuclei(method="classical", min_area_um2=20)),
            progress=lambda n, m, image: done.append(image), cancelled=lambda: len(done) > 1,
        )  # fmt: skip
    changed = next(d for d in done if d)
    with pytest.raises(IsletImagingError, match="score the folder again"):
        run.labels(changed)
    with pytest.raises(IsletImagingError, match="score the folder again"):
        resummarise(out)


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "rubbish"])
@pytest.mark.parametrize(
    "name",
    [
        *(".work/1.ome.tif.cells.arrow", ".work/1.ome.tif.islets.arrow"),
        ".work/1.ome.tif.record",
        *("labels/1.ome.tif.nuclei.tif", "labels/11.ome.tif.islets.tif"),
        *("summary.csv", "cells.parquet", "provenance.json", "protocol.yaml", "report.html"),
    ],
)  # fmt: skip
def test_damage_is_noticed_and_mended(folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    out = tmp_path / "run"
    wanted = numbers(score(folder, out))
    path = out / name
    data = path.read_bytes()
    changed = {
        "cut": data[: len(data) // 2],
        "flip": bytes([data[0] ^ 1]) + data[1:],
        "rubbish": b"\0rubbish" * 40,
        "gone": None,
    }[damage]
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)
    run = score(folder, out)
    assert numbers(run) == wanted
    assert (out / "report.html").read_text() == "report"
    run.labels("1.ome.tif")
    run.labels("11.ome.tif", "islets")


def test_a_table_changed_by_hand_is_refused(folder: Path, tmp_path: Path) -> None:
    run = score(folder, tmp_path / "run")
    path = run.path / "summary.csv"
    path.write_text(path.read_text().replace("INS", "GCG"))
    with pytest.raises(IsletImagingError, match=r"summary\.csv"):
        _ = Run.open(run.path).summary
    assert "INS" in set(resummarise(run).summary["marker"])


def test_a_copy_of_a_run_is_that_run(folder: Path, tmp_path: Path) -> None:
    run = score(folder, tmp_path / "run")
    shutil.copytree(run.path, tmp_path / "copy")
    copy = Run.open(tmp_path / "copy")
    assert copy.labels("1.ome.tif").max() == run.labels("1.ome.tif").max()
    assert numbers(resummarise(copy)) == numbers(run)


# ------------------------------------------------------------ networks and flat fields


@pytest.mark.parametrize("which", ["weights", "settings"])
def test_a_network_exchanged_in_place_is_noticed(
    folder: Path, tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = tmp_path / "net"
    shutil.copytree(load_model("islet-nuclei").folder, net)
    protocol = A.replace(nuclei=Nuclei(method="network", model=str(net)))
    out = tmp_path / "run"
    score(folder, out, protocol)
    description = yaml.safe_load((net / "bioimageio.yaml").read_text())
    settings = description["config"]["islet_imaging"]
    if which == "settings":
        settings["postprocess"]["foreground"] = 0.9
    else:
        # bytes that the format ignores: other weights to us, and the test needs no training
        data = (net / "weights.safetensors").read_bytes() + b"\0"
        (net / "weights.safetensors").write_bytes(data)
        settings["sha256"]["weights.safetensors"] = hashlib.sha256(data).hexdigest()
    (net / "bioimageio.yaml").write_text(yaml.safe_dump(description))
    measured: list[str] = []
    real = task_module.measure_task

    def count(task: object, *rest: object) -> object:
        measured.append(task.image)
        return real(task, *rest)

    monkeypatch.setattr("islet_imaging.scoring.executors.measure_task", count)
    run = score(folder, out, protocol)
    assert len(measured) == 3
    assert numbers(run) == fresh(folder, tmp_path, protocol)


def test_a_flat_field_exchanged_in_place_is_noticed(folder: Path, tmp_path: Path) -> None:
    import numpy as np
    import tifffile

    field = tmp_path / "flat.tif"
    slope = np.linspace(0.5, 1.5, 200)[:, None] * np.ones((200, 200))
    tifffile.imwrite(field, slope.astype(np.float32))
    protocol = A.replace(correction=Correction(flat_field=str(field)))
    out = tmp_path / "run"
    before = numbers(score(folder, out, protocol))
    tifffile.imwrite(field, slope[::-1].astype(np.float32))
    after = numbers(score(folder, out, protocol))
    assert after == fresh(folder, tmp_path, protocol)
    assert after["cells.csv"] != before["cells.csv"]


def test_a_relative_flat_field_is_found_from_the_run(folder: Path, tmp_path: Path) -> None:
    import numpy as np
    import tifffile

    tifffile.imwrite(tmp_path / "flat.tif", np.full((200, 200), 7, np.uint16))
    (tmp_path / "p.yaml").write_text(A.replace(correction=Correction(flat_field="flat.tif")).dump())
    run = score_folder(folder, tmp_path / "run", protocol=tmp_path / "p.yaml", workers=1)
    again = score_folder(folder, tmp_path / "again", protocol=run.path / "protocol.yaml", workers=1)
    assert numbers(again) == numbers(run)


# ------------------------------------------------------------ fitted thresholds


def test_thresholds_of_another_experiment_are_not_used_and_that_is_said(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write(one / "a.ome.tif", staining(1, 0.5))
    write(two / "a.ome.tif", staining(2, 0.5) + 80)
    run = score(one, tmp_path / "run1")
    foreign = score_folder(two, tmp_path / "run2", protocol=run.path / "protocol.yaml", workers=1)
    clean = score(two, tmp_path / "run3")
    assert numbers(foreign)["cells.csv"] == numbers(clean)["cells.csv"]
    assert foreign.protocol.fitted == clean.protocol.fitted
    assert foreign.summary["note"].str.contains("fitted on other images").all()
    assert not clean.summary["note"].str.contains("fitted on other images").any()
    # and it is still said when the tables are made again
    assert resummarise(foreign).summary["note"].str.contains("fitted on other images").all()


def test_thresholds_of_other_settings_are_not_used(folder: Path, tmp_path: Path) -> None:
    run = score(folder, tmp_path / "run")
    changed = run.protocol.replace(positivity={"INS": Positivity(method="manual", threshold=5.0)})
    found = score(folder, tmp_path / "run2", changed)
    assert found.protocol.fitted[""]["INS"]["method"] == "manual"


# ------------------------------------------------------------ corrections


def _edits(run: Run, image: str, n: int = 6, after: str = "positive") -> list[Edit]:
    journal = Journal(run.corrections)
    cells = run.cells[run.cells["image"] == image].head(n)
    return [
        journal.append(
            Edit("ana", image, "call", int(r.cell), r.y_px, r.x_px, "INS", r.INS_call, after)
        )
        for r in cells.itertuples()
    ]


def test_score_after_a_review_makes_the_tables_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = score(folder, out)
    before = fraction(run, "1.ome.tif")
    edits = _edits(run, "1.ome.tif", 40)
    assert Run.open(out).corrections_pending
    run = score(folder, out)
    assert not run.corrections_pending
    assert fraction(run, "1.ome.tif") > before
    assert all(len(e.pixels) == 2 and e.nucleus for e in edits)
    assert numbers(run) == numbers(resummarise(run))


def test_corrections_do_not_fall_on_another_picture(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = score(folder, out)
    _edits(run, "1.ome.tif", 20)
    _edits(run, "11.ome.tif", 2, "negative")
    write(folder / "1.ome.tif", staining(7, 0.3))
    wanted = fraction(score(folder, tmp_path / "clean"), "1.ome.tif")
    run = score(folder, out)
    assert fraction(run, "1.ome.tif") == wanted
    assert run.summary["note"].str.contains("20 corrections not applied: the picture was").all()
    assert run.provenance["corrections"]["other_pixels"] == 20
    # back again: they are laid over their picture again
    write(folder / "1.ome.tif", staining(1, 0.3))
    assert score(folder, out).provenance["corrections"]["other_pixels"] == 0


def test_a_picture_saved_anew_keeps_its_corrections(folder: Path, tmp_path: Path) -> None:
    import tifffile

    out = tmp_path / "run"
    run = score(folder, out)
    _edits(run, "1.ome.tif", 20)
    corrected = fraction(score(folder, out), "1.ome.tif")
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "INS"]},
                "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}  # fmt: skip
    tifffile.imwrite(
        folder / "1.ome.tif", staining(1, 0.3), ome=True, metadata=metadata, compression="zlib"
    )
    run = score(folder, out)
    assert run.provenance["corrections"]["other_pixels"] == 0
    assert fraction(run, "1.ome.tif") == corrected


def test_damaged_lines_of_the_journal_are_told(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = score(folder, out)
    _edits(run, "1.ome.tif", 2)
    with run.corrections.open("ab") as stream:
        stream.write(b'{"who": 3}\nrubbish\n{"who": "bo", "ima')
    run = score(folder, out)
    assert run.summary["note"].str.contains("3 lines of corrections.jsonl cannot be read").all()
    assert run.provenance["corrections"]["damaged_lines"] == 3


# ------------------------------------------------------------ places


def test_the_images_are_no_run_folder(folder: Path, tmp_path: Path) -> None:
    for out in (folder, folder / ".." / folder.name, tmp_path):
        with pytest.raises(IsletImagingError, match="must not be the folder of the images"):
            score(folder, out)
    assert not (folder / "provenance.json").exists()
    assert not (folder / ".work").exists()


def test_images_without_a_file_elsewhere_may_lie_in_the_run(tmp_path: Path) -> None:
    write(tmp_path / "run" / "input" / "layer.ome.tif", staining(1, 0.5))
    for _ in range(2):
        run = score(tmp_path / "run" / "input", tmp_path / "run")
    assert list(run.images["image"]) == ["layer.ome.tif"]


def test_tables_of_somebody_else_are_not_overwritten(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "summary.csv").write_text("years of work")
    with pytest.raises(IsletImagingError, match="is no run"):
        score(folder, out)
    assert (out / "summary.csv").read_text() == "years of work"


def test_a_run_inside_of_its_folder_is_no_input(folder: Path, tmp_path: Path) -> None:
    out = folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        _stop_at(patch, "islet_imaging.scoring.results.exchange", 1)
        with pytest.raises(KeyboardInterrupt):
            score(folder, out)
    assert (out / "labels").is_dir()
    run = score(folder, out)
    assert list(run.images["image"]) == ["1.ome.tif", "11.ome.tif", "sub/1.ome.tif"]


def test_failed_images_and_controls_are_named_in_the_summary(folder: Path, tmp_path: Path) -> None:
    for name in ("bad.tif", "control.tif"):
        (folder / name).write_bytes(b"<html>")
    sheet = tmp_path / "s.csv"
    sheet.write_text(
        "file,condition,batch,role\n1.ome.tif,x,b1,sample\nbad.tif,x,b1,sample\n"
        "11.ome.tif,y,b1,sample\ncontrol.tif,,b1,negative_control\n"
    )
    run = score(folder, tmp_path / "run", samples=sheet)
    notes = run.summary.set_index("condition")["note"]
    assert "1 of 2 images failed (bad.tif)" in notes["x"]
    assert "bad.tif" not in notes["y"]
    assert notes.str.contains("negative controls of b1 are missing").all()


def test_provenance_stays_small(folder: Path, tmp_path: Path) -> None:
    run = score(folder, tmp_path / "run")
    rows = run.provenance["images"]
    assert max(len(json.dumps(r)) for r in rows) < 2500
    assert all(r["key"] and len(r["pixels"]) == 2 and len(r["inputs"][0]) == 64 for r in rows)


def test_older_and_newer_runs_are_named(folder: Path, tmp_path: Path) -> None:
    run = score(folder, tmp_path / "run")
    path = run.path / "provenance.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "format": 3}))
    with pytest.raises(IsletImagingError, match="newer"):
        Run.open(run.path)
    old = {k: v for k, v in facts.items() if k not in ("format", "files")}
    path.write_text(json.dumps(old))
    assert len(Run.open(run.path).summary) == 1
    with pytest.raises(IsletImagingError, match="score the folder again"):
        resummarise(run.path)
    assert numbers(score(folder, run.path)) == fresh(folder, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: dataclasses.replace(p, reading=Reading(pixel_size_um=0.6)),
        lambda p: dataclasses.replace(p, cells=Cells(ring_um=2)),
        lambda p: dataclasses.replace(p, nuclei=Nuclei(method="classical", min_area_um2=12)),
        lambda p: dataclasses.replace(p, positivity={"INS": Positivity(method="levels")}),
    ],
)
def test_every_part_of_the_protocol_is_in_the_key(
    folder: Path, tmp_path: Path, change: Callable[[Protocol], Protocol]
) -> None:
    out = tmp_path / "run"
    score(folder, out)
    assert numbers(score(folder, out, change(A))) == fresh(folder, tmp_path, change(A))
    assert numbers(score(folder, out)) == fresh(folder, tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_record_proves_nothing(folder: Path, tmp_path: Path, seed: int) -> None:
    """Its stamps prove the files, and nothing proved the record: numbers in it were believed."""
    out = tmp_path / "run"
    wanted = numbers(score(folder, out))
    record = out / ".work" / "1.ome.tif.record"
    whole = record.read_bytes()
    at = len(whole) // 4 * seed + 3
    # any byte: a digit of a stamp, of the key, or of how the image fared
    record.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(IsletImagingError, match="score the folder again"):
        resummarise(out)
    assert numbers(score(folder, out)) == wanted
