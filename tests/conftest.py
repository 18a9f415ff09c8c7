"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images, which is never part of the repository."""
    default = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("ISLET_IMAGING_DATA", default)).resolve()
    if not (folder / "nuclei").is_dir():
        pytest.skip(f"no real images: set ISLET_IMAGING_DATA (looked in {folder})")
    return folder
