"""One image, one protocol, three ways in: the same cells and the same calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from islet_imaging import Protocol, read_image, score_folder, score_image
from islet_imaging.protocol import Channel, Nuclei
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical")
)


def same_cells(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Every column that both hold, in every row, to the last digit."""
    shared = [c for c in one if c in other and c != "image"]
    assert {"cell", "INS_probability", "INS_call", "INS_own", "excluded"} <= set(shared)
    one, other = one[shared].reset_index(drop=True), other[shared].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, other, check_exact=True, check_dtype=False)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    write(folder / "islet.ome.tif", staining(1, 0.5))
    return folder / "islet.ome.tif"


def test_a_script_and_a_folder_agree(path: Path, tmp_path: Path) -> None:
    scored = score_image(read_image(path, protocol=PROTOCOL), PROTOCOL)
    run = score_folder(path.parent, tmp_path / "run", protocol=PROTOCOL)
    assert len(scored.cells) > 30
    same_cells(scored.cells, run.cells)
    assert np.array_equal(scored.nuclei, run.labels("islet.ome.tif", "nuclei"))
    assert np.array_equal(scored.islets, run.labels("islet.ome.tif", "islets"))
