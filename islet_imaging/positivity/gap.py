"""Is there room for a threshold between dark and bright cells?

The idea: a threshold has standing where it hardly matters where it lies.  In a stain that parts its
cells there is hardly one around the cut, at half and at twice its height, or between a sixth and a
half of the height of bright cells; where many lie there, any cut is a choice and not a finding.
This asks nothing of the shape of the two populations, so that it holds for a tight
negative peak with a few bright cells, for heavy tails, and for images whose dark end was clipped to
exact zeros, none of which two bell curves describe.
It fails where dim cells are truly positive: then there is no gap, and no threshold is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from islet_imaging._types import Float64
from islet_imaging.positivity.mixture import robust_negative
from islet_imaging.positivity.spillover import positive_level

#: the gap in shares of the bright cells' height, and where in it a cut lies
GAP = (0.15, 0.5)
CUT = 0.25
#: the gap in shares of the height of a cut that is known
AROUND = (0.5, 2.0)
#: the share of cells above the cut may change by so much over the gap, of all cells or of those
#: above it, whichever is more
CHANGE, RELATIVE_CHANGE = 0.025, 0.15
#: bright cells are at least this many spreads of dark ones above them
APART = 15.0
#: fewer bright cells, or fewer cells in all, tell nothing
MIN_BRIGHT, MIN_CELLS = 8, 40
#: fewer bright cells than this share may be debris on cells that are all alike
MIN_SHARE = 0.01
#: more cells than this share with exactly the lowest value were clipped to it
CLIPPED = 0.02


@dataclass(frozen=True)
class Gap:
    """Dark and bright cells with room between them, in units of the feature.

    Parameters
    ----------
    zero, scale : float
        Of dark cells.
    bright : float
        Height of bright cells above ``zero``.
    cut : float
        Where positive begins.
    share : float
        Of cells above the cut.
    change : float
        By how much that share changes as the cut moves over the gap.
    """

    zero: float
    scale: float
    bright: float
    cut: float
    share: float
    change: float

    @property
    def open(self) -> bool:
        """Whether it hardly matters where in the gap the cut lies."""
        return self.change <= max(CHANGE, RELATIVE_CHANGE * self.share)


def gap_of(
    values: Float64, zero: float, scale: float, bright: float, cut: float | None = None
) -> Gap:
    """What lies between dark and bright cells of known intensity.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Intensities, all finite.
    zero, scale : float
        Of dark cells.
    bright : float
        Height of bright cells above ``zero``.
    cut : float, optional
        Where positive begins; a quarter of the height of bright cells if not given.

    Returns
    -------
    Gap

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> dark, few = rng.normal(10, 1, 950), rng.normal(100, 10, 50)
    >>> gap_of(np.append(dark, few), 10, 1, 90).open
    True
    >>> gap_of(rng.uniform(10, 110, 1000), 10, 1, 90).open
    False
    """
    if cut is None:
        heights = (GAP[0] * bright, GAP[1] * bright, CUT * bright)
    else:
        height = cut - zero
        heights = (AROUND[0] * height, AROUND[1] * height, height)
    low, high, share = (float(np.mean(values - zero > h)) for h in heights)
    return Gap(zero, scale, bright, zero + heights[2], share, low - high)


def clipped(values: Float64) -> bool:
    """Whether the dark end was clipped to one value, as after unmixing.

    Examples
    --------
    >>> clipped(np.array([0.0, 0.0, 0.1, 3.0])), clipped(np.arange(100.0))
    (True, False)
    """
    return bool(values.size and np.mean(values == values.min()) > CLIPPED)


def find_gap(values: Float64) -> Gap | None:
    """Dark cells from the lower half, bright cells from what stands far above them.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Intensities, all finite.

    Returns
    -------
    Gap or None
        None where cells do not part, or where more than half of them are bright.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clipped = np.append(np.maximum(rng.normal(0, 0.1, 950), 0), rng.normal(8, 2, 50))
    >>> round(find_gap(clipped).share, 2)
    0.05
    >>> find_gap(rng.lognormal(0, 1, 1000)) is None
    True
    """
    if values.size < MIN_CELLS or not np.ptp(values) > 0:
        return None
    least = float(values.min())
    cut_off = clipped(values)
    rest = values[values > least] if cut_off else values
    if rest.size < MIN_CELLS:
        return None
    lower = rest[rest <= np.quantile(rest, 0.5)]
    zero = least if cut_off else float(np.median(lower))
    scale = robust_negative(lower)[1]
    bright = positive_level(values - zero, scale)
    if bright is None or bright < APART * scale:
        return None
    found = gap_of(values, zero, scale, bright)
    few = found.share * values.size < MIN_BRIGHT or found.share < MIN_SHARE
    return found if found.open and not few else None
