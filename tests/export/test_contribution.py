"""A contribution: two people's calls with crops, and nothing that names anybody."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from islet_imaging.cli import app
from islet_imaging.errors import IsletImagingError
from islet_imaging.export.contribution import pack_truth
from islet_imaging.protocol import Channel, Nuclei, Positivity, Protocol
from islet_imaging.run.folder import Run
from islet_imaging.run.validation_sheet import FILE, draw_validation_sheet
from islet_imaging.scoring.folder import score_folder
from tests.stainings import staining, write

RATERS = ("Ana Muster", "Bodo Beispiel")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two images whose folder and files carry names that nobody may see."""
    folder = tmp_path_factory.mktemp("patient_4711")
    for k, name in enumerate(("smith_left", "smith_right")):
        write(folder / "in" / f"{name}.ome.tif", staining(k, 0.4))
    protocol = Protocol(
        (Channel("DAPI", "dna"), Channel("INS")),
        nuclei=Nuclei(method="classical"),
        positivity={"INS": Positivity(method="levels")},
    )
    return score_folder(folder / "in", folder / "run", protocol=protocol, workers=1).path


@pytest.fixture
def called(scored: Path, tmp_path: Path) -> Run:
    """The run, of which two people called the same cells, in sheets of their own."""
    folder = tmp_path / "run_of_smith"
    shutil.copytree(scored, folder)
    mine = Run.open(folder)
    sheet = pd.read_csv(draw_validation_sheet(mine, "INS", n=50), dtype={"rater": str})
    rng = np.random.default_rng(0)
    parts = [
        sheet.assign(
            rater=who, label=np.where(rng.random(len(sheet)) < 0.4, "positive", "negative")
        )
        for who in RATERS
    ]
    pd.concat(parts).to_csv(folder / FILE, index=False)
    return mine


def test_pack_holds_calls_crops_and_what_was_stated(called: Run, tmp_path: Path) -> None:
    path = pack_truth(called, tmp_path / "t.zip", licence="CC-BY-4.0", stain="anti-insulin, 1:500")
    sheet = pd.read_csv(called.path / FILE)
    with zipfile.ZipFile(path) as archive:
        cells = pd.read_csv(archive.open("cells.csv"))
        about = json.loads(archive.read("about.json"))
        assert archive.read("LICENCE.txt").decode().strip() == "CC-BY-4.0"
        assert about["stain"] == "anti-insulin, 1:500"
        assert about["marker"] == "INS"
        names = [c["name"] for c in about["channels"]]
        assert names == [c.name for c in called.protocol.channels]
        for row in cells.itertuples():
            crop = tifffile.imread(io.BytesIO(archive.read(f"crops/{row.cell:04d}.tif")))
            nucleus = tifffile.imread(io.BytesIO(archive.read(f"crops/{row.cell:04d}.nucleus.tif")))
            assert crop.shape == (len(names), *nucleus.shape)
            # the centre that the table states lies on the nucleus that was called
            assert nucleus[round(row.y_px), round(row.x_px)] == 1
            assert row.pixel_size_um == about["pixel_sizes_um"][0]
    assert len(cells) == len(sheet) / 2
    for column, who in zip(("label_1", "label_2"), RATERS, strict=True):
        own = sheet[sheet["rater"] == who]
        assert (cells[column] == "positive").sum() == (own["label"] == "positive").sum()
    assert set(cells["call"]) <= {"positive", "negative", "unsure"}


def test_nothing_in_it_names_anybody(called: Run, tmp_path: Path) -> None:
    path = pack_truth(called, tmp_path / "t.zip", licence="CC0", stain="anti-insulin")
    images = pd.read_csv(called.path / "images.csv")
    secrets = [
        *RATERS,
        "patient_4711",
        "run_of_smith",
        *images["image"],
        *(Path(i).stem for i in images["image"]),
    ]
    with zipfile.ZipFile(path) as archive:
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert not archive.comment
        for info in archive.infolist():
            content = archive.read(info)
            for secret in secrets:
                assert secret.encode() not in content
                assert secret not in info.filename


def test_a_name_in_the_stain_is_refused(called: Run, tmp_path: Path) -> None:
    with pytest.raises(IsletImagingError, match="run_of_smith"):
        pack_truth(called, tmp_path / "t.zip", licence="CC0", stain="insulin of run_of_smith")
    assert not (tmp_path / "t.zip").exists()


def test_one_person_or_few_cells_are_not_enough(called: Run, tmp_path: Path) -> None:
    sheet = pd.read_csv(called.path / FILE)
    sheet[sheet["rater"] == RATERS[0]].to_csv(called.path / FILE, index=False)
    with pytest.raises(IsletImagingError, match="0 cells of INS were called by 2 people"):
        pack_truth(called, tmp_path / "t.zip", licence="CC0", stain="x")


def test_the_command_draws_then_packs(called: Run, tmp_path: Path) -> None:
    runner, zipped = CliRunner(), tmp_path / "t.zip"
    done = runner.invoke(
        app,
        ["contribute", str(called.path), "-o", str(zipped), "--licence", "CC0", "--stain", "x"],
    )
    assert done.exit_code == 0, done.output
    assert zipped.is_file()
    (called.path / FILE).unlink()
    done = runner.invoke(app, ["contribute", str(called.path), "--draw", "20"])
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(called.path / FILE)) == 20
    assert runner.invoke(app, ["contribute", str(called.path)]).exit_code != 0
