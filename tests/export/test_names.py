"""Exports are named apart, and never outside of their folder."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest

from islet_imaging.errors import IsletImagingError
from islet_imaging.export import export
from islet_imaging.export.image import export_names
from islet_imaging.run.folder import Run
from islet_imaging.run.validation_sheet import draw_validation_sheet


def test_images_that_differ_in_their_ending_are_named_apart() -> None:
    names = ["a.ome.tif", "a.tif", "A.TIF", "d/a.tif", "b.png", ".ome.tif", "a.tif.tif"]
    found = export_names(names)
    assert list(found) == sorted(names)
    assert len({v.casefold() for v in found.values()}) == len(names)
    assert found["b.png"] == "b"
    assert found["d/a.tif"] == "d/a"


@pytest.mark.parametrize("name", ["../../outside.tif", "/outside.tif"])
def test_a_foreign_run_cannot_write_outside(run: Run, tmp_path: Path, name: str) -> None:
    foreign = tmp_path / "foreign"
    shutil.copytree(run.path, foreign)
    path = foreign / "provenance.json"
    facts = json.loads(path.read_text())
    facts["images"][0]["image"] = name
    path.write_text(json.dumps(facts))
    with pytest.raises(IsletImagingError, match="no name of an image"):
        export(foreign, tmp_path / "out" / "deep", format="geojson")
    assert not list(tmp_path.glob("outside*"))


@pytest.mark.parametrize("format", ["geojson", "roi"])
def test_an_export_onto_a_full_disk_is_a_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    def full(*args: object, **more: object) -> tuple[int, str]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("islet_imaging.run.files.tempfile.mkstemp", full)
    with pytest.raises(IsletImagingError, match="No space left"):
        export(run, tmp_path / "out", format=format)
    with pytest.raises(IsletImagingError, match="No space left"):
        draw_validation_sheet(run, n=5)
