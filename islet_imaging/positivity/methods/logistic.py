"""A logistic of the intensity alone, for cuts that come with little else.

The idea: a cut without a model of its two populations still needs probabilities; they turn around
it, the steeper the more is known.
It fails to be calibrated: nothing but the cut stands behind it.
"""

from __future__ import annotations

import math

import numpy as np

from islet_imaging._types import Float64
from islet_imaging.positivity.mixture import Mixture, robust_negative, to_scale
from islet_imaging.positivity.threshold import (
    CellsUsed,
    Cut,
    IntensityModel,
    Populations,
    Threshold,
)

#: log odds that a cell at the negative population's centre has when only controls are known
FLOOR_ODDS = math.log(300.0)


def logistic(slope: float, cut: float, zero: float, soft: float) -> IntensityModel:
    """A logistic of the intensity alone, one half at the cut."""
    return IntensityModel(
        zero=zero,
        soft=soft,
        weights=(0.0, slope, 0.0, -slope * float(to_scale(cut, zero, soft))),
    )


def slope_at_crossing(mixture: Mixture) -> float:
    """Log odds per unit at the crossing of two populations."""
    at = mixture.crossing()
    step = 0.05 * max(mixture.positive[0] - mixture.negative[0], 1e-6)
    low, high = mixture.log_ratio([at - step, at + step])
    return max(float(high - low) / (2 * step), 0.1)


def at_cut(x: Float64, cut: float, feature: str, method: str, reason: str) -> Threshold:
    """A cut that comes without populations: probabilities turn within a tenth of its height."""
    below = x[x < cut]
    location, scale = robust_negative(below) if below.size >= 20 else (0.0, max(abs(cut), 1e-6))
    at = float(to_scale(cut, location, scale))
    return Threshold(
        method=method,
        feature=feature,
        cut=Cut(cut, reason=reason),
        model=logistic(FLOOR_ODDS / max(at, 0.1), cut, location, scale),
        populations=Populations(location, scale),
        used=CellsUsed(int(x.size)),
    )


def not_estimable(
    x: Float64, feature: str, method: str, reason: str, *, separation: float = 0.0
) -> Threshold:
    """The finding that there is no cut, with what was seen of the cells."""
    location, scale = robust_negative(x) if x.size else (0.0, 1.0)
    return Threshold(
        method=method,
        feature=feature,
        cut=Cut(None, status="not_estimable", reason=reason),
        model=IntensityModel(zero=location, soft=scale),
        populations=Populations(location, scale, separation=separation),
        used=CellsUsed(int(np.size(x))),
    )
