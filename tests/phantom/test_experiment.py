"""A whole experiment on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from islet_imaging.errors import IsletImagingError
from islet_imaging.phantom import write_experiment

ARGUMENTS = {
    "preset": "hcs0.65", "seed": 3, "n_conditions": 2, "n_batches": 2, "n_islets": 1,
    "shape": (96, 96), "islet_diameter_um": 60.0, "islet_diameter_sd_um": 4.0,
    "control_islets": 2, "channels": ("DAPI", "INS"),
}  # fmt: skip


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experiment")
    write_experiment(path, **ARGUMENTS)
    return path


def test_sheet_names_every_picture_and_only_pictures(folder: Path) -> None:
    sheet = pd.read_csv(folder / "samples.csv")
    assert list(sheet.columns[:4]) == ["file", "condition", "batch", "role"]
    on_disk = {
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*.tif")
        if "truth" not in p.relative_to(folder).parts
    }
    assert set(sheet["file"]) == on_disk
    per_batch = pd.crosstab(sheet["batch"], sheet["role"])
    assert (per_batch["sample"] == 2).all()
    assert (per_batch["negative_control"] == 3).all()
    # an INS-/- aggregate holds cells with other hormones
    assert (per_batch["negative_control:INS"] == 1).all()
    assert (per_batch["positive_control"] == 1).all()
    assert (per_batch["single_stain:INS"] == 1).all()
    assert set(sheet["control_kind"].dropna()) == {
        "secondary_only", "insulin_negative", "unstained", "donor_islet", "single_stain",
    }  # fmt: skip


def test_pictures_carry_names_and_size(folder: Path) -> None:
    with tifffile.TiffFile(folder / "batch1/control/islet01.ome.tif") as tiff:
        assert tiff.is_ome
        assert tiff.series[0].axes == "CYX"
        assert tiff.series[0].shape == (2, 96, 96)
        xml = tiff.ome_metadata or ""
    assert 'Name="DAPI"' in xml
    assert 'Name="INS"' in xml
    assert 'PhysicalSizeX="0.65"' in xml


def test_truth_tables_agree(folder: Path) -> None:
    truth = folder / "truth"
    cells, images = pd.read_csv(truth / "cells.csv"), pd.read_csv(truth / "images.csv")
    batches = pd.read_csv(truth / "batches.csv")
    assert len(batches) == 4
    counted = cells[(cells["islet"] > 0) & cells["visible"] & ~cells["pyknotic"]]
    samples = images[images["role"] == "sample"]
    merged = counted.merge(samples[["image", "condition", "batch"]], on="image")
    fraction = merged.groupby(["condition", "batch"])["INS_expressed"].mean()
    for row in batches.itertuples():
        assert row.section_fraction == pytest.approx(fraction[row.condition, row.batch])
    labels = tifffile.imread(truth / "labels/batch1/control/islet01.nuclei.tif")
    mine = cells[(cells["image"] == "batch1/control/islet01.ome.tif") & cells["visible"]]
    assert set(np.unique(labels)) - {0} == set(mine["cell"])


def test_negative_control_has_no_insulin_cells(folder: Path) -> None:
    images = pd.read_csv(folder / "truth/images.csv").set_index("control_kind")
    assert (images.loc["insulin_negative", "INS_section_fraction"] == 0).all()


def test_same_bytes_with_two_workers(folder: Path, tmp_path: Path) -> None:
    # single stains of one batch only, which leaves every other picture as it is
    sheet = write_experiment(tmp_path, workers=2, single_stain_batches=1, **ARGUMENTS)
    found, whole = _hashes(tmp_path), _hashes(folder)
    gone = {k for k in whole if k not in found}
    assert {Path(k).name.split(".")[0] for k in gone} == {"single_DAPI", "single_INS"}
    assert all("batch2/controls" in k for k in gone)
    tables = {"samples.csv", *(f"truth/{t}.csv" for t in ("images", "cells", "islets"))}
    assert {k for k in found if found[k] != whole[k]} == tables
    assert set(sheet.loc[sheet["control_kind"] == "single_stain", "batch"]) == {"batch1"}


def test_refuses_a_folder_in_use(folder: Path) -> None:
    with pytest.raises(IsletImagingError, match=r"samples\.csv"):
        write_experiment(folder, **ARGUMENTS)


def test_fractions_must_fit_conditions(tmp_path: Path) -> None:
    with pytest.raises(IsletImagingError, match="2 conditions"):
        write_experiment(tmp_path, **(ARGUMENTS | {"insulin_fractions": (0.3,)}))
