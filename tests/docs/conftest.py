"""A small scored experiment that the pages' blocks find in their folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from islet_imaging import phantom, score_folder
from islet_imaging.phantom.experiment import write_ome_tiff

SIDE, CONTROL_SIDE = (192, 192), (320, 320)


def write_stainings(folder: Path, n_batches: int = 3) -> None:
    """Two conditions, one islet each, and a control without first antibody, per batch."""
    rows = []
    for b in range(n_batches):
        batch = f"batch{b + 1}"
        made = {
            f"{batch}/control/islet01.ome.tif": ("control", "sample", 0.35),
            f"{batch}/treated/islet01.ome.tif": ("treated", "sample", 0.6),
            f"{batch}/secondary_only.ome.tif": ("", "negative_control", 0.4),
        }
        for k, (file, (condition, role, fraction)) in enumerate(made.items()):
            kind, side = ("none", SIDE) if role == "sample" else ("secondary_only", CONTROL_SIDE)
            drawn = phantom("ffpe20x", seed=10 * b + k, shape=side, n_islets=1, control=kind,
                            insulin_fraction=fraction)  # fmt: skip
            write_ome_tiff(folder / file, drawn)
            rows.append((file, condition, batch, role))
    sheet = pd.DataFrame(rows, columns=["file", "condition", "batch", "role"])
    sheet.to_csv(folder / "samples.csv", index=False)


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ``stainings/`` and its ``run/``, to be copied, not changed."""
    root = tmp_path_factory.mktemp("experiment")
    write_stainings(root / "stainings")
    sheet = root / "stainings" / "samples.csv"
    score_folder(root / "stainings", root / "run", samples=sheet, workers=1)
    return root
