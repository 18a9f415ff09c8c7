"""A folder run: whole, resumable, repeatable, and never ended by one bad image."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from islet_imaging.errors import Cancelled, IsletImagingError
from islet_imaging.protocol import Channel, Nuclei, Protocol
from islet_imaging.review.journal import Edit, Journal
from islet_imaging.run.called import call_run
from islet_imaging.run.folder import TABLES, Run
from islet_imaging.run.image_checks import checked_rows, current_cells
from islet_imaging.scoring.folder import score_folder
from islet_imaging.scoring.results import resummarise
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stainings")
    rows = []
    for b in (1, 2):
        for condition, positive in (("low", 0.3), ("high", 0.7)):
            name = f"d{b}/{condition}.ome.tif"
            write(root / name, staining(10 * b + int(10 * positive), positive))
            rows.append((name, condition, f"d{b}", "sample"))
        for k in (1, 2):
            name = f"d{b}/secondary{k}.ome.tif"
            write(root / name, staining(100 * b + k, 0.0))
            rows.append((name, "", f"d{b}", "negative_control"))
    sheet = pd.DataFrame(rows, columns=["file", "condition", "batch", "role"])
    sheet.to_csv(root / "samples.csv", index=False)
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run")
    return score_folder(folder, out, protocol=PROTOCOL, samples=folder / "samples.csv", workers=1)


def tables(path: Path) -> dict[str, bytes]:
    names = [f"{t}.csv" for t in TABLES] + ["cells.parquet", "protocol.yaml"]
    return {n: (path / n).read_bytes() for n in names}


def test_fractions_are_near_the_truth(run: Run) -> None:
    by_condition = run.summary.set_index("condition")["fraction"]
    assert by_condition["low"] == pytest.approx(0.3, abs=0.15)
    assert by_condition["high"] == pytest.approx(0.7, abs=0.15)
    assert set(run.summary["interval"]) == {"over batches"}
    controls = run.images[run.images["role"] == "negative_control"]
    assert (controls["INS_fraction"] < 0.05).all()


def test_the_run_folder_is_as_designed(run: Run) -> None:
    names = [f"{t}.csv" for t in TABLES]
    for name in [
        *names,
        "cells.parquet",
        "report.html",
        "protocol.yaml",
        "provenance.json",
        "run.log",
    ]:
        assert (run.path / name).is_file(), name
    cells = run.cells
    # what the sample sheet says of the image stands behind all others
    assert list(cells.columns[-2:]) == ["condition", "batch"]
    names = list(cells.columns[:-2])
    assert names[:6] == ["image", "islet", "cell", "y_px", "x_px", "y_um"]
    assert names[6:8] == ["x_um", "nucleus_area_um2"]
    assert names[-3:] == ["phenotype", "excluded", "flags"]
    assert set(cells["INS_call"]) <= {"positive", "negative", "unsure"}
    for image, rows in cells.groupby("image"):
        labels = run.labels(str(image))
        assert set(np.unique(labels[labels > 0])) == set(rows["cell"])
    pd.testing.assert_frame_equal(
        pd.read_csv(run.path / "cells.csv", keep_default_na=False, na_values=[""])[
            ["image", "cell", "INS_probability"]
        ],
        cells[["image", "cell", "INS_probability"]],
    )


def test_the_cells_table_gives_the_headline(run: Run) -> None:
    cells = run.cells.merge(run.images[["image", "role"]], on="image")
    cells = cells[(cells["role"] == "sample") & ~cells["excluded"]]
    unsure = cells["INS_call"] == "unsure"
    weight = (cells["INS_call"] == "positive").astype(float)
    weight[unsure] = cells.loc[unsure, "INS_probability"]
    by_batch = weight.groupby([cells["condition"], cells["batch"]]).mean()
    headline = by_batch.groupby("condition").mean()
    for row in run.summary.to_dict("records"):
        assert row["fraction"] == pytest.approx(headline[row["condition"]], abs=1e-9)


def test_scoring_again_from_its_own_protocol_gives_the_same_bytes(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    score_folder(
        folder,
        tmp_path / "again",
        protocol=run.path / "protocol.yaml",
        samples=folder / "samples.csv",
    )
    assert tables(tmp_path / "again") == tables(run.path)


def test_the_executor_does_not_matter(run: Run, folder: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        score_folder(
            folder,
            tmp_path / "pool",
            protocol=PROTOCOL,
            samples=folder / "samples.csv",
            executor=pool,
        )
    assert tables(tmp_path / "pool") == tables(run.path)


@pytest.mark.slow
def test_processes_do_not_matter(run: Run, folder: Path, tmp_path: Path) -> None:
    score_folder(
        folder, tmp_path / "two", protocol=PROTOCOL, samples=folder / "samples.csv", workers=2
    )
    assert tables(tmp_path / "two") == tables(run.path)


def test_a_finished_run_is_kept(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was scored again")

    monkeypatch.setattr("islet_imaging.scoring.executors.measure_task", never)
    before = (run.path / "report.html").stat().st_mtime_ns
    score_folder(folder, run.path, protocol=PROTOCOL, samples=folder / "samples.csv", workers=1)
    assert (run.path / "report.html").stat().st_mtime_ns == before


def test_a_stopped_run_goes_on(folder: Path, tmp_path: Path, run: Run) -> None:
    done: list[str] = []
    counts: list[int] = []
    args = {"protocol": PROTOCOL, "samples": folder / "samples.csv", "workers": 1}

    def stop_after_two() -> bool:
        return len(done) >= 2

    def tell(count: int, _: int, image: str) -> None:
        counts.append(count)
        if image:
            done.append(image)

    with pytest.raises(Cancelled):
        score_folder(folder, tmp_path / "r", **args, progress=tell, cancelled=stop_after_two)
    first = list(done)
    done.clear()
    counts.clear()
    score_folder(folder, tmp_path / "r", **args, progress=tell)
    # those that were finished before are named first, and count as done from the start
    assert len(first) == 2
    assert set(done[:2]) == set(first)
    assert counts == [2, 2, 2, *range(3, len(done) + 1)]
    assert len(done) == len(set(done))
    assert tables(tmp_path / "r") == tables(run.path)


def test_one_bad_image_never_ends_a_run(folder: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(folder / "d1", mixed)
    (mixed / "empty.tif").write_bytes(b"")
    (mixed / "page.tif").write_bytes(b"<html><body>not found</body></html>")
    good = (mixed / "low.ome.tif").read_bytes()
    (mixed / "cut.ome.tif").write_bytes(good[: len(good) // 2])
    write(mixed / "other.ome.tif", staining(5, 0.5), names=["DAPI", "GFP"])
    write(mixed / "black.ome.tif", np.zeros((2, 200, 200), np.uint16))
    tifffile.imwrite(mixed / "unscaled.tif", staining(6, 0.5), imagej=True,
                     metadata={"axes": "CYX", "Labels": ["DAPI", "INS"]})  # fmt: skip
    run = score_folder(mixed, tmp_path / "run", protocol=PROTOCOL, workers=1)
    images = run.images.set_index("image")
    failed = set(images.index[images["status"] == "failed"])
    assert {"empty.tif", "page.tif", "cut.ome.tif", "other.ome.tif", "unscaled.tif"} <= failed
    assert images.loc["low.ome.tif", "status"] == "scored"
    for name in failed:
        assert name.split(".")[0] in images.loc[name, "message"]
    assert "GFP" in images.loc["other.ome.tif", "message"]
    assert "pixel" in images.loc["unscaled.tif", "message"]
    assert images.loc["black.ome.tif", "n_cells"] == 0
    assert images.loc["black.ome.tif", "flags"]


def test_a_wrong_row_of_the_sheet_costs_its_image_only(folder: Path, tmp_path: Path) -> None:
    sheet = pd.read_csv(folder / "samples.csv", keep_default_na=False)
    sheet = sheet[sheet["batch"] == "d1"].reset_index(drop=True)
    sheet.loc[0, "role"] = "controll"
    sheet.to_csv(tmp_path / "s.csv", index=False)
    run = score_folder(
        folder, tmp_path / "run", protocol=PROTOCOL, samples=tmp_path / "s.csv", workers=1
    )
    images = run.images.set_index("image")
    assert images.loc[sheet.loc[0, "file"], "status"] == "failed"
    assert "controll" in images.loc[sheet.loc[0, "file"], "message"]
    assert (images["status"] == "scored").sum() == len(sheet) - 1


def test_a_run_made_from_a_relative_path_opens_from_anywhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    run = score_folder("d1", tmp_path / "run", protocol=PROTOCOL, workers=1)
    monkeypatch.chdir(tmp_path)
    assert run.read_image("low.ome.tif").channel_names == ("DAPI", "INS")
    assert 'id="gallery"' in (resummarise(run).path / "report.html").read_text("utf-8")


@pytest.mark.parametrize("make", ["missing", "empty"])
def test_nothing_to_score_is_said(tmp_path: Path, make: str) -> None:
    folder = tmp_path / "f"
    if make == "empty":
        folder.mkdir()
    with pytest.raises(IsletImagingError, match="f"):
        score_folder(folder, tmp_path / "run", protocol=PROTOCOL)


def test_summarising_again_changes_nothing(run: Run) -> None:
    before = tables(run.path)
    resummarise(run)
    assert tables(run.path) == before


def test_how_many_images_are_called_at_once_does_not_matter(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run.path, out)
    cells = run.cells
    first = cells[cells["image"] == "d1/high.ome.tif"].iloc[3]
    last = cells[cells["image"] == "d2/low.ome.tif"].iloc[5]
    journal = Journal(out / "corrections.jsonl")
    for row, action, after in ((first, "call", "unsure"), (last, "exclude", True)):
        place = (int(row["cell"]), float(row["y_px"]), float(row["x_px"]))
        marker = "INS" if action == "call" else ""
        journal.append(Edit("ana", row["image"], action, *place, marker, None, after))
    journal.append(Edit("bo", "gone.tif", "call", 1, 5.0, 5.0, "INS", None, "positive"))
    in_one = tables(resummarise(out).path)
    in_memory = current_cells(Run.open(out))
    monkeypatch.setattr("islet_imaging.run.called.IMAGES_AT_ONCE", 1)
    again = resummarise(out)
    assert tables(again.path) == in_one
    assert again.cells["corrected_by"].value_counts().to_dict() == {"": len(cells) - 2, "ana": 2}
    assert again.provenance["corrections"]["unmatched"] == 1
    # what scripts and the window are given is the table that was written, and whole
    corrected = call_run(out, checked_rows(again), again.protocol).corrected
    pd.testing.assert_frame_equal(corrected, again.cells[list(corrected)])
    pd.testing.assert_frame_equal(in_memory, again.cells)


def test_provenance_names_inputs_and_versions(run: Run, folder: Path) -> None:
    facts = json.loads((run.path / "provenance.json").read_text())
    assert len(facts["inputs"]) == 8
    assert all(len(i["sha256"]) == 64 for i in facts["inputs"].values())
    assert facts["libraries"]["numpy"] == np.__version__
    assert facts["protocol_sha256"] == PROTOCOL.fingerprint()
    assert run.read_image("d1/low.ome.tif").shape == (200, 200)
