"""The dictionary of columns and what is written: every column of one is in the other."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from islet_imaging import Run, resummarise
from islet_imaging.phantom import write_experiment
from islet_imaging.reading.annotations import Outline
from islet_imaging.review.journal import Edit, Journal
from islet_imaging.review.regions import region_edit
from islet_imaging.run.validation_sheet import draw_validation_sheet

PAGE = Path(__file__).parents[2] / "docs" / "columns.md"
#: phantoms and runs of these tests have these
MARKERS = ("INS", "GCG")


def described() -> dict[str, set[str]]:
    """Table -> its columns on the page, with ``<marker>`` and ``<type>`` for what varies."""
    tables: dict[str, set[str]] = {}
    for part in re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        names = re.findall(r"`([^`]+)`", heading)
        cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
        for name in names:
            tables[name] = {column for cell in cells for column in re.findall(r"`([^`]+)`", cell)}
    return tables


def written(path: Path) -> set[str]:
    """Columns of a table on disk; a marker's name becomes ``<marker>``."""
    if path.suffix == ".parquet":
        names = list(pd.read_parquet(path).columns)
    else:
        with path.open(encoding="utf-8", newline="") as stream:
            names = next(csv.reader(stream))
    return {re.sub(rf"^({'|'.join(MARKERS)})_", "<marker>_", name) for name in names}


@pytest.fixture(scope="module")
def folder(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all that a run can have: a correction, and labels of cells that chance picked."""
    root = tmp_path_factory.mktemp("columns")
    for name in ("stainings", "run"):
        shutil.copytree(experiment / name, root / name)
    run = Run.open(root / "run")
    cells = run.cells
    cell = cells[cells["image"].isin(run.images.loc[run.images["role"] == "sample", "image"])].iloc[
        0
    ]
    call = cell["INS_call"]
    edit = Edit("ana", cell["image"], "call", int(cell["cell"]), cell["y_px"], cell["x_px"], "INS",
                call, "negative" if call == "positive" else "positive")  # fmt: skip
    Journal(run.corrections).append(edit)
    ring = np.array([[0.0, 0.0], [0.0, 150.0], [191.0, 150.0], [191.0, 0.0]])
    Journal(run.corrections).append(
        region_edit("ana", cell["image"], [Outline((ring,), "A", "islet")])
    )
    resummarise(run)
    sheet = draw_validation_sheet(run, "INS", n=40)
    table = pd.read_csv(sheet, dtype=str, keep_default_na=False)
    table["label"] = ["positive", "negative"] * (len(table) // 2) + ["negative"] * (len(table) % 2)
    table.to_csv(sheet, index=False)
    resummarise(run)
    write_experiment(root / "phantom", n_conditions=1, n_batches=1, n_islets=1, controls=False,
                     shape=(128, 128))  # fmt: skip
    return root


def test_every_written_column_is_described_and_every_described_one_is_written(folder: Path) -> None:
    run = {p.name: p for p in (folder / "run").iterdir() if p.suffix in (".csv", ".parquet")}
    truth = {f"truth/{p.name}": p for p in (folder / "phantom" / "truth").glob("*.csv")}
    found = {name: written(path) for name, path in (run | truth).items()}
    found["samples.csv"] = written(folder / "phantom" / "samples.csv")
    page = described()
    assert set(page) == set(found)
    for name, columns in found.items():
        assert columns - page[name] == set(), f"{name}: written, not described"
        assert page[name] - columns == set(), f"{name}: described, not written"
