"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# shared machines are slow by fits: time is no sign of a wrong result
settings.register_profile(
    "islet-imaging",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("islet-imaging")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images, which is never part of the repository."""
    default = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("ISLET_IMAGING_DATA", default)).resolve()
    if not (folder / "nuclei").is_dir():
        pytest.skip(f"no real images: set ISLET_IMAGING_DATA (looked in {folder})")
    return folder
