"""The crossing of two populations that show by themselves, or nothing.

The idea: without controls only a sample that is clearly two populations gives a threshold.
It fails, by saying so, on populations that overlap or of which one is all there is.
"""

from __future__ import annotations

import numpy as np

from islet_imaging.positivity.methods.logistic import (
    logistic,
    not_estimable,
    slope_at_crossing,
)
from islet_imaging.positivity.methods.resampling import interval, resamples
from islet_imaging.positivity.mixture import (
    Mixture,
    fit_mixture,
    from_scale,
    robust_negative,
    to_scale,
)
from islet_imaging.positivity.threshold import CellsUsed, Cut, Floats, Populations, Threshold

#: fewer cells than this are not two populations
MIN_CELLS = 20
#: resamples of a mixture are dear
MOST_RESAMPLES = 60


def by_mixture(
    x: Floats, feature: str, *, min_separation: float, bootstrap: int, seed: int
) -> Threshold:
    """The crossing of two free populations of the sample's cells."""
    fitted = _free(x, min_separation)
    if fitted is None:
        return not_estimable(x, feature, "mixture", "too few cells")
    mixture, zero, soft = fitted
    if not mixture.separable:
        reason = f"no separable population: {mixture.reason}"
        return not_estimable(x, feature, "mixture", reason, separation=mixture.separation)
    cut = float(from_scale(mixture.crossing(), zero, soft))
    cuts = []
    count = min(bootstrap, MOST_RESAMPLES)
    for i in resamples(x.size, np.zeros(x.size, np.int64), count, seed):
        # the working scale is kept: only the populations are fitted again
        again = fit_mixture(to_scale(x[i], zero, soft), min_separation=0)
        cuts.append(float(from_scale(again.crossing(), zero, soft)))
    low, high = interval(cuts)
    return Threshold(
        method="mixture",
        feature=feature,
        cut=Cut(cut, low, high, reason=f"two populations, separation {mixture.separation:.1f}"),
        model=logistic(slope_at_crossing(mixture), cut, zero, soft),
        populations=Populations(
            negative=float(from_scale(mixture.negative[0], zero, soft)),
            spread=soft,
            positive=float(from_scale(mixture.positive[0], zero, soft)),
            positive_share=mixture.weight,
            separation=mixture.separation,
        ),
        used=CellsUsed(int(x.size)),
    )


def _free(x: Floats, min_separation: float) -> tuple[Mixture, float, float] | None:
    """Free mixture; the working scale is found from the lower population, in two rounds."""
    if x.size < MIN_CELLS:
        return None
    zero, top = np.percentile(x, [1, 99])
    soft = 0.05 * (top - zero)
    if soft <= 0:
        return None
    mixture = fit_mixture(to_scale(x, zero, soft), min_separation=min_separation)
    for _ in range(2):
        upper = mixture.crossing()
        lower = x[to_scale(x, zero, soft) < upper]
        if lower.size < MIN_CELLS:
            break
        zero, soft = robust_negative(lower)
        mixture = fit_mixture(to_scale(x, zero, soft), min_separation=min_separation)
    return mixture, float(zero), float(soft)
