"""Labelled cells of a run: drawn, filled, called in review, and in every table afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from islet_imaging.cli import app
from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Channel, Nuclei, Protocol
from islet_imaging.review.journal import Edit, Journal
from islet_imaging.run.folder import Run
from islet_imaging.run.validation_sheet import draw_validation_sheet
from islet_imaging.scoring.folder import score_folder
from islet_imaging.scoring.results import resummarise
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical")
)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stainings")
    for b in (1, 2):
        write(root / f"d{b}.ome.tif", staining(b, 0.5))
        write(root / f"c{b}.ome.tif", staining(100 + b, 0.0))
    pd.DataFrame(
        {
            "file": ["d1.ome.tif", "d2.ome.tif", "c1.ome.tif", "c2.ome.tif"],
            "condition": ["day 30", "day 30", "", ""],
            "batch": ["1", "2", "1", "2"],
            "role": ["sample", "sample", "negative_control", "negative_control"],
        }
    ).to_csv(root / "samples.csv", index=False)
    out = root / "run"
    score_folder(root, out, protocol=PROTOCOL, samples=root / "samples.csv", workers=1)
    return out


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> Run:
    shutil.copytree(scored, tmp_path / "run")
    return Run.open(tmp_path / "run")


def fill(run: Run, wrong: int = 5) -> pd.DataFrame:
    """Label every drawn cell as it was called, but every so-manieth the other way."""
    sheet = pd.read_csv(run.path / "validation.csv", keep_default_na=False)
    calls = run.cells.set_index(["image", "cell"])["INS_call"]
    keys = list(zip(sheet["image"], sheet["cell"], strict=True))
    said = (calls.loc[keys] == "positive").to_numpy()
    said = said ^ (np.arange(len(sheet)) % wrong == 0)
    sheet["label"] = np.where(said, "positive", "negative")
    sheet.to_csv(run.path / "validation.csv", index=False)
    return sheet


def test_labels_reach_the_tables_the_report_and_the_shell(run: Run) -> None:
    before = (run.path / "report.html").read_text()
    assert "not corrected for wrong calls" in before
    assert run.corrected is None
    result = CliRunner().invoke(app, ["summarize", str(run.path), "--draw", "80"])
    assert result.exit_code == 0
    sheet = pd.read_csv(run.path / "validation.csv", keep_default_na=False)
    assert list(sheet.columns) == ["image", "cell", "y_px", "x_px", "marker", "label", "rater"]
    # what a labeller gets to see tells nothing of the call, and controls are not asked about
    assert set(sheet["label"]) == {""}
    assert set(sheet["image"]) == {"d1.ome.tif", "d2.ome.tif"}
    fill(run, wrong=10)
    result = CliRunner().invoke(app, ["summarize", str(run.path)])
    assert result.exit_code == 0
    assert "corrected for wrong calls: " in result.output
    table = Run.open(run.path).corrected
    assert table is not None
    assert table["status"].tolist() == ["corrected"]
    assert table["n_labelled_positive"].iloc[0] + table["n_labelled_negative"].iloc[0] == len(sheet)
    assert "corrected for wrong calls" in Run.open(run.path).summary["note"].iloc[0]
    report = (run.path / "report.html").read_text()
    assert f"{100 * table['fraction'].iloc[0]:.1f} %" in report
    assert "Rogan and Gladen, 1978" in report
    # without labels everything is as before
    (run.path / "validation.csv").unlink()
    assert resummarise(run.path).corrected is None
    assert (run.path / "report.html").read_text() == before


def test_labels_are_not_lost_by_drawing_again(run: Run) -> None:
    draw_validation_sheet(run, n=20)
    assert len(pd.read_csv(draw_validation_sheet(run, n=30))) == 30
    fill(run)
    with pytest.raises(IsletImagingError, match="holds labels of INS already"):
        draw_validation_sheet(run)
    with pytest.raises(IsletImagingError, match="no marker 'GCG'"):
        draw_validation_sheet(run, "GCG")


def test_a_review_labels_drawn_cells_and_no_others(run: Run) -> None:
    draw_validation_sheet(run, n=40)
    sheet = pd.read_csv(run.path / "validation.csv", keep_default_na=False)
    journal = Journal(run.corrections)
    cells = run.cells.set_index(["image", "cell"])

    def call(image: str, cell: int, after: str) -> None:
        at = cells.loc[(image, cell)]
        journal.append(
            Edit("ana", image, "call", cell, at["y_px"], at["x_px"], "INS", at["INS_call"], after)
        )

    for row in sheet.itertuples():
        call(row.image, row.cell, cells.loc[(row.image, row.cell), "INS_call"].replace(
            "unsure", "positive"))  # fmt: skip
    drawn = set(zip(sheet["image"], sheet["cell"], strict=True))
    others = [k for k in cells.index if k not in drawn and k[0].startswith("d")][:10]
    for image, cell in others:
        call(image, cell, "positive")
    table = resummarise(run).corrected
    assert table is not None
    assert table["n_labelled_positive"].iloc[0] + table["n_labelled_negative"].iloc[0] == 40
    # error rates are those of the program's calls, not of calls that people had put right
    raw = table["raw_fraction"].iloc[0]
    assert raw != pytest.approx(Run.open(run.path).summary["fraction"].iloc[0], abs=1e-6)


def test_a_sheet_from_elsewhere(run: Run, tmp_path: Path) -> None:
    draw_validation_sheet(run, n=60)
    sheet = fill(run)
    given = tmp_path / "labels.csv"
    sheet[["image", "cell", "label"]].assign(rater="bo").to_csv(given, index=False)
    (run.path / "validation.csv").unlink()
    result = CliRunner().invoke(app, ["summarize", str(run.path), "--labels", str(given)])
    assert result.exit_code == 0
    assert Run.open(run.path).corrected is not None
    sheet[["image", "cell", "label"]].assign(rater="cy").to_csv(given, index=False)
    assert CliRunner().invoke(
        app, ["summarize", str(run.path), "--labels", str(given)]
    ).exit_code == 0  # fmt: skip
    kept = pd.read_csv(run.path / "validation.csv")
    assert kept["rater"].value_counts().to_dict() == {"bo": 60, "cy": 60}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "yes"}, "line 2: the label is 'yes'"),
        ({"cell": "x"}, "line 2: cell is 'x'"),
        ({"marker": "GCG"}, "no marker 'GCG'"),
    ],
)
def test_wrong_sheets_are_named(
    run: Run, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    given = tmp_path / "labels.csv"
    row = {"image": "d1.ome.tif", "cell": "1", "label": "positive", **change}
    pd.DataFrame([row]).to_csv(given, index=False)
    result = CliRunner().invoke(app, ["summarize", str(run.path), "--labels", str(given)])
    assert isinstance(result.exception, IsletImagingError)
    assert said in str(result.exception)
