"""Four ways in which laboratories call positive cells today, on the same cells.

The idea: each gives a threshold for one staining run (the area fraction: one per image) and calls
by it; no spill-over correction, no `unsure`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("otsu_ring_mean", "control_p99_ring_mean", "mean_plus_2sd", "otsu_area")


def thresholds(samples: pd.DataFrame, controls: pd.DataFrame, marker: str) -> dict[str, float]:
    """Cuts on ``<marker>_ring_mean`` (``<marker>_ring2_mean`` for the 2 um ring) of one run."""
    from skimage.filters import threshold_otsu

    mean = samples[f"{marker}_ring_mean"].dropna().to_numpy()
    dark = controls[f"{marker}_ring_mean"].dropna().to_numpy()
    dark2 = controls[f"{marker}_ring2_mean"].dropna().to_numpy()
    return {
        "otsu_ring_mean": float(threshold_otsu(mean)),
        "control_p99_ring_mean": float(np.percentile(dark, 99)),
        "mean_plus_2sd": float(dark2.mean() + 2 * dark2.std()),
    }


def calls(cells: pd.DataFrame, cuts: dict[str, float], marker: str, name: str) -> NDArray[np.bool_]:
    """Calls of one baseline."""
    column = f"{marker}_ring2_mean" if name == "mean_plus_2sd" else f"{marker}_ring_mean"
    level = cells[column].fillna(cells[f"{marker}_nucleus_mean"]).to_numpy()
    return np.asarray(level > cuts[name])


def area_fraction(image: NDArray[Any], tissue: NDArray[np.bool_]) -> float:
    """Otsu on one image's marker: positive share of the tissue's area."""
    from skimage.filters import threshold_otsu

    if not tissue.any() or image.min() == image.max():
        return float("nan")
    return float((image[tissue] > threshold_otsu(image)).mean())
