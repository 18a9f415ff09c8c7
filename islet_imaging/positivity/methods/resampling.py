"""Bootstrap of cuts: of images where there are several, else of cells.

The idea: cells of one image share its light, so images are what is drawn again.
It fails to see differences between images where there are fewer than four.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: intensities beyond this many cells are thinned before bootstrapping
BOOTSTRAP_CELLS = 4000


def resamples(n: int, images: NDArray[np.int64], count: int, seed: int) -> list[NDArray[np.int64]]:
    """Indices of bootstrap samples: of images where there are at least 4, else of cells."""
    rng = np.random.default_rng(seed)
    groups = np.unique(images)
    out: list[NDArray[np.int64]] = []
    if groups.size >= 4:
        members = [np.flatnonzero(images == g) for g in groups]
        for _ in range(count):
            drawn = rng.integers(0, groups.size, groups.size)
            out.append(np.concatenate([members[i] for i in drawn]))
    else:
        size = min(n, BOOTSTRAP_CELLS)
        out = [rng.integers(0, n, size) for _ in range(count)]
    return out


def interval(cuts: list[float]) -> tuple[float | None, float | None]:
    """95 % interval of resampled cuts; None of fewer than 10."""
    if len(cuts) < 10:
        return None, None
    low, high = np.percentile(cuts, [2.5, 97.5])
    return float(low), float(high)
