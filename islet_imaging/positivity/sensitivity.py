"""How much the answer depends on where the threshold sits.

The idea: a fraction that changes by more than 5 percentage points when the threshold moves by 10 %
is fragile, whatever its interval over batches says; the curve from -20 % to +20 % belongs beside
every threshold.  The threshold is moved in height above the negative cells, not above the camera's
zero, so that the answer does not depend on the camera's offset.
It fails to warn of thresholds that are wrong by more than it looks at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from islet_imaging.positivity.threshold import Threshold

#: percentage points per 10 % of the threshold
FRAGILE_PP = 5.0


@dataclass(frozen=True)
class Sensitivity:
    """Fraction positive against the threshold.

    Parameters
    ----------
    factor : tuple of float
        Height of the cut above the negative cells, 1 as fitted.
    cut : tuple of float
        The cuts, in units of the feature.
    fraction : tuple of float
        Share of cells above each.
    slope_pp : float
        Largest change over a step of 10 %, in percentage points.
    fragile : bool
        Whether that is more than 5.
    """

    factor: tuple[float, ...]
    cut: tuple[float, ...]
    fraction: tuple[float, ...]
    slope_pp: float
    fragile: bool


def threshold_sensitivity(values: ArrayLike, threshold: Threshold) -> Sensitivity | None:
    """Fraction positive for cuts from -20 % to +20 %.

    Parameters
    ----------
    values : array_like, shape (n,)
        The column ``threshold.feature`` of the cells that count.
    threshold : Threshold
        Their run's threshold.

    Returns
    -------
    Sensitivity or None
        None where there is no cut or there are no cells.

    Examples
    --------
    >>> from islet_imaging.positivity import fit_threshold
    >>> cut = fit_threshold([], method="manual", value=10.0)
    >>> threshold_sensitivity([1.0, 2.0, 100.0], cut).fragile
    False
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    if threshold.value is None or x.size == 0:
        return None
    base = min(threshold.populations.negative, threshold.value)
    factor = np.round(np.arange(0.8, 1.2001, 0.05), 2)
    cut = base + factor * (threshold.value - base)
    fraction = 1 - np.searchsorted(np.sort(x), cut, side="right") / x.size
    # two steps of 0.05 are 10 %
    slope = float(100 * np.max(np.abs(fraction[2:] - fraction[:-2])))
    return Sensitivity(
        factor=tuple(factor.tolist()),
        cut=tuple(cut.tolist()),
        fraction=tuple(fraction.tolist()),
        slope_pp=slope,
        fragile=slope > FRAGILE_PP,
    )
