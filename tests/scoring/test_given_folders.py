"""Own nuclei of a folder: by folder, pattern, column and protocol; what a key knows of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from islet_imaging import Protocol, Run, read_image, score_folder, score_image
from islet_imaging.cli import app
from islet_imaging.protocol import Channel, Nuclei
from islet_imaging.scoring.ledger import scoring_ledger
from tests.scoring.test_three_ways import same_cells
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical")
)


def discs(radius: float) -> np.ndarray:
    y, x = np.mgrid[:200, :200]
    out = np.zeros((200, 200), np.uint16)
    number = 0
    for cy in range(20, 185, 26):
        for cx in range(20, 185, 26):
            number += 1
            out[np.hypot(y - cy, x - cx) < radius] = number
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images with masks in a folder beside them."""
    root = tmp_path / "images"
    for k, name in enumerate(("a", "b")):
        write(root / f"{name}.ome.tif", staining(k, 0.5))
        (root / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(root / "masks" / f"{name}_cp_masks.tif", discs(7))
    return root


def test_script_shell_sheet_and_protocol_agree(folder: Path, tmp_path: Path) -> None:
    protocol = tmp_path / "protocol.yaml"
    protocol.write_text(PROTOCOL.dump())
    runs = tmp_path / "runs"
    done = CliRunner().invoke(
        app,
        ["score", str(folder), "-o", str(runs / "shell"), "--protocol", str(protocol),
         "--nuclei", str(folder / "masks")],
    )  # fmt: skip
    assert done.exit_code in (0, 3), done.output
    shell = Run.open(runs / "shell")
    assert shell.images["image"].tolist() == ["a.ome.tif", "b.ome.tif"]
    assert shell.images["flags"].str.contains("given_nuclei").all()
    assert (shell.labels("a.ome.tif") == discs(7)).all()

    sheet = tmp_path / "samples.csv"
    sheet.write_text(
        "file,condition,batch,role,nuclei\n"
        "a.ome.tif,x,1,sample,masks/a_cp_masks.tif\n"
        "b.ome.tif,x,1,sample,masks/b_cp_masks.tif\n"
    )
    by_sheet = score_folder(folder, runs / "sheet", protocol=PROTOCOL, samples=sheet)
    repeated = score_folder(folder, runs / "again", protocol=runs / "shell" / "protocol.yaml")
    for other in (by_sheet, repeated):
        same_cells(shell.cells, other.cells.drop(columns=["condition", "batch"], errors="ignore"))
    one = folder / "a.ome.tif"
    path = folder / "masks" / "a_cp_masks.tif"
    alone = score_image(read_image(one, protocol=PROTOCOL), PROTOCOL, nuclei=path)
    single = tmp_path / "single"
    single.mkdir()
    shutil.copy(one, single)
    same_cells(
        alone.cells, score_folder(single, runs / "one", protocol=PROTOCOL, nuclei=path).cells
    )


def test_changed_masks_are_measured_again_and_others_kept(folder: Path, tmp_path: Path) -> None:
    out, masks = tmp_path / "run", folder / "masks"
    first = score_folder(folder, out, protocol=PROTOCOL, nuclei=masks)
    row = first.provenance["images"][0]["given"]["nuclei"]
    assert row["file"].endswith("masks/a_cp_masks.tif")
    assert len(row["sha256"]) == 64
    same = scoring_ledger(folder, out, protocol=PROTOCOL, nuclei=masks)
    assert same.tables_kept
    tifffile.imwrite(masks / "a_cp_masks.tif", discs(6))
    entries = {e.image: e for e in scoring_ledger(
        folder, out, protocol=PROTOCOL, nuclei=masks).entries}  # fmt: skip
    assert entries["a.ome.tif"].reason == "given nuclei changed"
    assert entries["b.ome.tif"].action == "keep"
    again = score_folder(folder, out, protocol=PROTOCOL, nuclei=masks)
    area = again.cells.groupby("image")["nucleus_area_um2"].median()
    assert area["a.ome.tif"] < area["b.ome.tif"]
    without = score_folder(folder, out, protocol=PROTOCOL, exclude=["masks/*"])
    assert not without.images["flags"].str.contains("given_nuclei").any()


def test_an_image_whose_masks_fail_fails_alone_in_one_line(folder: Path, tmp_path: Path) -> None:
    masks = folder / "masks"
    tifffile.imwrite(masks / "a_cp_masks.tif", discs(7)[:150])
    (masks / "b_cp_masks.tif").unlink()
    write(folder / "c.ome.tif", staining(3, 0.5))
    np.save(masks / "c_masks.npy", discs(7))
    images = score_folder(folder, tmp_path / "run", protocol=PROTOCOL, nuclei=masks).images
    told = images.set_index("image")["message"]
    assert "labels of 150 x 200 px for an image of 200 x 200 px" in told["a.ome.tif"]
    assert told["b.ome.tif"] == f"b.ome.tif: no file of nuclei for it in {masks}"
    assert images.set_index("image").loc["c.ome.tif", "status"] == "scored"
    assert not told.str.contains("\n").any()


def test_a_sheet_may_leave_images_to_be_segmented_and_it_is_told(
    folder: Path, tmp_path: Path
) -> None:
    sheet = tmp_path / "samples.csv"
    sheet.write_text(
        "file,condition,batch,role,nuclei\n"
        "a.ome.tif,x,1,sample,masks/a_cp_masks.tif\n"
        "b.ome.tif,x,1,sample,\n"
    )
    run = score_folder(folder, tmp_path / "run", protocol=PROTOCOL, samples=sheet)
    flags = run.images.set_index("image")["flags"]
    assert "given_nuclei" in flags["a.ome.tif"]
    assert "given_nuclei" not in flags["b.ome.tif"]
    assert "nuclei of 1 of 2 images were given" in (tmp_path / "run" / "run.log").read_text()
    sheet.write_text(sheet.read_text().replace("a_cp_masks.tif", "none.tif"))
    run = score_folder(folder, tmp_path / "run2", protocol=PROTOCOL, samples=sheet)
    told = run.images.set_index("image")["message"]["a.ome.tif"]
    assert "row 2: there is no file of nuclei 'masks/none.tif'" in told


def test_masks_beside_their_images_are_no_images(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for k, name in enumerate(("a", "b")):
        stack = staining(k, 0.5)
        for channel, plane in zip(("DAPI", "INS"), stack, strict=True):
            root.mkdir(exist_ok=True)
            tifffile.imwrite(root / f"{name}_{channel}.tif", plane)
        tifffile.imwrite(root / f"{name}_DAPI_cp_masks.tif", discs(7))
    done = CliRunner().invoke(
        app,
        ["score", str(root), "-o", str(tmp_path / "run"), "--pixel-size-um", "0.5",
         "--nuclei", str(root)],
    )  # fmt: skip
    assert done.exit_code in (0, 3), done.output
    run = Run.open(tmp_path / "run")
    assert run.images["status"].tolist() == ["scored", "scored"]
    assert run.protocol.markers == ("INS",)
    assert (run.cells.groupby("image")["cell"].count() == 49).all()


def test_whole_cells_of_a_folder(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    for name in ("a", "b"):
        tifffile.imwrite(whole / f"{name}_cells.tif", discs(12))
    run = score_folder(
        folder, tmp_path / "run", protocol=PROTOCOL, nuclei=folder / "masks", cells=whole
    )
    assert run.images["flags"].str.contains("given_cells").all()
    alone = score_image(
        read_image(folder / "a.ome.tif", protocol=PROTOCOL), PROTOCOL,
        nuclei=discs(7), cells=discs(12), thresholds=None,
    ).cells  # fmt: skip
    own = run.cells[run.cells["image"] == "a.ome.tif"].reset_index(drop=True)
    pd.testing.assert_series_equal(own["INS_ring_mean"], alone["INS_ring_mean"])


def test_a_run_without_given_labels_is_keyed_as_before(folder: Path, tmp_path: Path) -> None:
    """Where labels lie is not what measurements depend on, only what they hold."""
    moved = tmp_path / "elsewhere"
    out = tmp_path / "run"
    score_folder(folder, out, protocol=PROTOCOL, nuclei=folder / "masks")
    shutil.copytree(folder / "masks", moved)
    ledger = scoring_ledger(folder, out, protocol=PROTOCOL, nuclei=moved, exclude=["masks/*"])
    assert ledger.count("keep") == 2
