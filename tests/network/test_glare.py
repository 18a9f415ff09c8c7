"""A fibre at the ceiling does not set white; bright nuclei on haze do."""

from __future__ import annotations

import numpy as np
import pytest

from islet_imaging.network.normalise import grey_limits
from tests.stainings import staining


def limits(plane: np.ndarray) -> tuple[float, float]:
    return grey_limits(lambda rows, columns: plane[rows, columns], plane.shape)


def fibre(plane: np.ndarray, top: int) -> np.ndarray:
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]]
    light = 1.4 * top * np.exp(-((y - 0.3 * x - 40) ** 2) / 8.0)
    return np.clip(plane + light, 0, top).astype(np.uint16)


@pytest.mark.parametrize("top", [65535, 30000])
def test_a_fibre_does_not_dim_the_nuclei(top: int) -> None:
    plane = staining(1, 0.5, (400, 400))[0]
    low, high = limits(plane)
    assert high < 2000
    with_low, with_high = limits(fibre(plane, top))
    assert with_low == pytest.approx(low, abs=5)
    assert with_high < 2.5 * high
    assert np.percentile(fibre(plane, top), 99.5) > 10 * high


def test_few_bright_nuclei_on_haze_set_white() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:400, :400]
    plane = 12 + 3 * np.sin(x / 40) + rng.normal(0, 0.3, (400, 400))
    for cy, cx in rng.integers(20, 380, (14, 2)):
        plane[np.hypot(y - cy, x - cx) < 9] = rng.uniform(110, 220)
    plane = np.rint(plane).astype(np.uint8)
    assert limits(plane)[1] == np.percentile(plane, 99.5)
