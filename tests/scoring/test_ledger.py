"""The ledger says what scoring then does, and why; and writes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from islet_imaging import Channel, Protocol, score_folder, scoring_ledger
from islet_imaging.protocol import Nuclei, Reading
from islet_imaging.scoring.ledger import Ledger
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical")
)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ledger")
    for k, name in enumerate(("a", "b", "c")):
        write(root / "images" / f"{name}.ome.tif", staining(k, 0.5, (100, 100)))
    (root / "images" / "bad.tif").write_bytes(b"no image")
    score_folder(root / "images", root / "run", protocol=PROTOCOL, workers=1)
    return root


@pytest.fixture
def place(scored: Path, tmp_path: Path) -> Path:
    shutil.copytree(scored, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    return tmp_path


def ledger(place: Path, protocol: Protocol = PROTOCOL, **more: object) -> Ledger:
    return scoring_ledger(place / "images", place / "run", protocol=protocol, **more)


def said(found: Ledger) -> dict[str, tuple[str, str]]:
    return {e.image.removesuffix(".ome.tif"): (e.action, e.reason) for e in found.entries}


def test_nothing_is_written(place: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(place.rglob("*"))}

    before = state()
    ledger(place)
    scoring_ledger(place / "images", place / "elsewhere", protocol=PROTOCOL)
    assert state() == before


def test_what_is_done_is_kept_and_what_failed_is_tried_again(place: Path) -> None:
    found = said(ledger(place))
    assert found["a"] == ("keep", "up to date")
    assert found["bad.tif"][0] == "measure"
    assert found["bad.tif"][1].startswith("failed the last time: ")


def test_every_reason_by_its_name(place: Path) -> None:
    images = place / "images"
    write(images / "a.ome.tif", staining(9, 0.5, (100, 100)))
    (images / "b.ome.tif").unlink()
    write(images / "new.ome.tif", staining(8, 0.5, (100, 100)))
    shutil.copy(images / "new.ome.tif", images / "new_thumb.ome.tif")
    next((place / "run" / "labels").glob("c.*")).unlink()
    found = said(ledger(place))
    assert found["a"] == ("measure", "input changed")
    assert found["b"][0] == "drop"
    assert found["c"] == ("measure", "its measurements are gone or damaged")
    assert found["new"] == ("measure", "new")
    assert found["new_thumb"] == ("leave out", "a thumbnail")


def test_protocol_sheet_and_version_are_told_apart(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PROTOCOL.replace(nuclei=Nuclei(method="classical", min_area_um2=20.0))
    assert said(ledger(place, other))["a"] == ("measure", "protocol changed: nuclei")
    monkeypatch.setattr("islet_imaging.scoring.fingerprints.__version__", "9.9")
    assert said(ledger(place))["a"][1].startswith("version changed: islet-imaging ")
    monkeypatch.undo()
    sheet = place / "samples.csv"
    sheet.write_text(
        "file,condition,batch,role\na.ome.tif,x,1,negative_control\nb.ome.tif,x,1,sample\n"
        "gone.tif,x,1,sample\n"
    )
    found = said(ledger(place, samples=sheet))
    assert found["a"] == ("measure", "its row of the sample sheet changed")
    assert found["b"][0] == "keep"
    assert found["gone.tif"][0] == "refuse"
    assert found["c"] == ("leave out", "not in samples.csv")


def test_patterns_change_which_images_there_are_and_measure_none_anew(place: Path) -> None:
    found = ledger(place, exclude=["bad*", "b.*"])
    assert (found.count("keep"), found.count("measure"), found.count("leave out")) == (2, 0, 2)
    run = score_folder(place / "images", place / "run", protocol=PROTOCOL, exclude=["b*"])
    assert list(run.images["image"]) == ["a.ome.tif", "c.ome.tif"]
    assert run.protocol.reading == Reading(exclude=("b*",))
    again = ledger(place, exclude=["b*"])
    assert again.tables_kept
    assert (
        str(again) == "0 to measure, 2 up to date, 2 left out; tables and report stay as they are"
    )


def test_scoring_does_what_the_ledger_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place / "images" / "a.ome.tif", staining(9, 0.5, (100, 100)))
    announced = {e.image for e in ledger(place).entries if e.action == "measure"}
    from islet_imaging.scoring import executors

    measured = []
    real = executors.measure_task

    def noted(task: object, cancelled: object = None) -> object:
        measured.append(task.image)  # type: ignore[attr-defined]
        return real(task, cancelled)  # type: ignore[arg-type]

    monkeypatch.setattr(executors, "measure_task", noted)
    score_folder(place / "images", place / "run", protocol=PROTOCOL, workers=1)
    assert set(measured) == announced == {"a.ome.tif", "bad.tif"}
