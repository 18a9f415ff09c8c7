"""A small run to export, with corrections in its journal."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from islet_imaging.run.folder import Run


def _synthetic_run():
    path = Path(__file__).parents[2] / "benchmarks" / "napari" / "synthetic_run.py"
    spec = importlib.util.spec_from_file_location("synthetic_run", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthetic_run"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Run:
    from islet_imaging.review.journal import Edit, Journal

    folder = tmp_path_factory.mktemp("export")
    made = Run.open(
        _synthetic_run().make_run(folder, images=2, shape=(300, 260), n_cells=40, pixel_size_um=0.3)
    )
    cells = made.cells
    row = cells[(cells["INS_call"] == "negative") & ~cells["excluded"]].iloc[0]
    Journal(made.corrections).append(
        Edit(
            "ana",
            row["image"],
            "call",
            int(row["cell"]),
            float(row["y_px"]),
            float(row["x_px"]),
            "INS",
            "negative",
            "positive",
        )
    )
    return made


@pytest.fixture(scope="session")
def corrected(run: Run) -> tuple[str, int]:
    """Image and cell of the edit."""
    from islet_imaging.review.journal import Journal

    edit = Journal(run.corrections).edits()[0]
    return edit.image, edit.cell
