"""Otsu's cut, for comparison.

The idea: the split of the histogram with the least spread within its halves.
It fails by design on one population, which it splits all the same.
"""

from __future__ import annotations

import numpy as np

from islet_imaging._types import Float64
from islet_imaging.positivity.methods.logistic import at_cut, not_estimable
from islet_imaging.positivity.threshold import Threshold

#: fewer cells than this are not split
MIN_CELLS = 20


def by_otsu(x: Float64, feature: str) -> Threshold:
    """Otsu's cut of the sample's cells."""
    if x.size < MIN_CELLS or not np.ptp(x) > 0:
        return not_estimable(x, feature, "otsu", "too few cells")
    from skimage.filters import threshold_otsu

    cut = float(threshold_otsu(x))
    return at_cut(x, cut, feature, "otsu", "Otsu; always splits, whatever is there")
