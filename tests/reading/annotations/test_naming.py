"""Which file belongs to which image."""

from __future__ import annotations

from pathlib import Path

import pytest

from islet_imaging.errors import IsletImagingError
from islet_imaging.reading.annotations.naming import find_for_images
from islet_imaging.reading.listing import ImageFiles


def images(folder: Path, *names: str) -> list[ImageFiles]:
    return [ImageFiles(n, (folder / n,)) for n in names]


@pytest.mark.parametrize(
    "name",
    [
        "a.tif", "a.ome.tif", "a_masks.tif", "a_cp_masks.png", "a_seg.npy", "a.geojson",
        "a.rois.zip", "a_RoiSet.zip", "A_Labels.TIF", "a-nuclei.tiff", "a.nuclei.tif",
        "a_StarDist_label.tif",
    ],
)  # fmt: skip
def test_names_that_tools_give(tmp_path: Path, name: str) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / name).touch()
    (masks / "a2_masks.tif").touch()
    (masks / "a_cells.tif").touch()
    (masks / "a_notes.txt").touch()
    found = find_for_images(masks, images(tmp_path, "a.ome.tif"), "nuclei")
    assert found.problems == {}
    assert found.files["a.ome.tif"].name == name


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    for name in ("a_nuclei.tif", "a_cells.tif", "a_islets.geojson"):
        (tmp_path / name).touch()
    one = images(tmp_path, "a.tif")
    named = {w: find_for_images(tmp_path, one, w).files["a.tif"].name
             for w in ("nuclei", "cells", "regions")}  # fmt: skip
    assert named == {
        "nuclei": "a_nuclei.tif", "cells": "a_cells.tif", "regions": "a_islets.geojson"
    }  # fmt: skip


def test_the_image_itself_is_not_its_mask(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    found = find_for_images(tmp_path, images(tmp_path, "a.tif"), "nuclei")
    assert found.files == {}
    assert found.problems["a.tif"] == f"no file of nuclei for it in {tmp_path}"


def test_sub_folders_like_the_images(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    for day in ("d1", "d2"):
        (masks / day).mkdir(parents=True)
        (masks / day / "a.tif").touch()
    found = find_for_images(masks, images(tmp_path, "d1/a.tif", "d2/a.tif"), "nuclei")
    assert {n: p.parent.name for n, p in found.files.items()} == {
        "d1/a.tif": "d1",
        "d2/a.tif": "d2",
    }


def test_what_is_ambiguous_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a_masks.tif").touch()
    found = find_for_images(tmp_path, images(tmp_path, "d1/a.tif", "d2/a.tif"), "nuclei")
    assert found.files == {}
    assert "a_masks.tif could be the nuclei of several images" in found.problems["d1/a.tif"]
    (tmp_path / "a_seg.npy").touch()
    found = find_for_images(tmp_path, images(tmp_path, "a.tif"), "nuclei")
    assert "several files could be its nuclei: a_masks.tif, a_seg.npy" in found.problems["a.tif"]


def test_a_name_that_says_what_it_holds_goes_before_one_that_does_not(tmp_path: Path) -> None:
    for name in ("a_masks.tif", "a_cells.tif", "b_cp_masks.tif", "b_seg.npy", "b_nuclei.tif"):
        (tmp_path / name).touch()
    nuclei, cells = (
        find_for_images(tmp_path, images(tmp_path, "a.tif", "b.tif"), what)
        for what in ("nuclei", "cells")
    )
    assert nuclei.files["a.tif"].name == "a_masks.tif"
    assert cells.files["a.tif"].name == "a_cells.tif"
    assert nuclei.files["b.tif"].name == "b_nuclei.tif"
    assert "several files could be its cells" in cells.problems["b.tif"]


@pytest.mark.parametrize("pattern", ["{image}_seg.npy", "*_seg.npy"])
def test_a_pattern_settles_it(tmp_path: Path, pattern: str) -> None:
    for name in ("a_masks.tif", "a_seg.npy", "b_masks.tif"):
        (tmp_path / name).touch()
    found = find_for_images(tmp_path / pattern, images(tmp_path, "a.tif", "b.tif"), "nuclei")
    assert found.files["a.tif"].name == "a_seg.npy"
    assert list(found.problems) == ["b.tif"]


def test_masks_of_the_dna_channel_and_of_scenes(tmp_path: Path) -> None:
    for name in ("a_d0_cp_masks.png", "plate_Series 1_masks.tif"):
        (tmp_path / name).touch()
    channels = ImageFiles("a", tuple(tmp_path / f"a_{c}.tif" for c in ("d0", "d1")))
    scene = ImageFiles("plate.lif/Series 1", (tmp_path / "plate.lif" / "Series 1",))
    found = find_for_images(tmp_path, [channels, scene], "nuclei")
    assert found.problems == {}
    assert found.files["a"].name == "a_d0_cp_masks.png"


def test_one_file_is_for_one_image(tmp_path: Path) -> None:
    mask = tmp_path / "whatever.tif"
    mask.touch()
    assert find_for_images(mask, images(tmp_path, "a.tif"), "nuclei").files == {"a.tif": mask}
    with pytest.raises(IsletImagingError, match="one file of nuclei for 2 images"):
        find_for_images(mask, images(tmp_path, "a.tif", "b.tif"), "nuclei")
    with pytest.raises(IsletImagingError, match="no such folder or file of nuclei"):
        find_for_images(tmp_path / "none", images(tmp_path, "a.tif"), "nuclei")
