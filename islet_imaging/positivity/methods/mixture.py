"""Two populations that show by themselves with room between them, or nothing.

The idea: without controls only a sample that is clearly two populations gives a threshold: a
mixture of two bell curves, or dark cells and a few that stand far above them; and only where it
hardly matters where between them the cut lies (:mod:`islet_imaging.positivity.gap`).
It fails, by saying so, on populations that overlap or of which one is all there is.
"""

from __future__ import annotations

import numpy as np

from islet_imaging._types import Float64
from islet_imaging.positivity.gap import Gap, clipped, find_gap, gap_of
from islet_imaging.positivity.methods.logistic import FLOOR_ODDS, logistic, not_estimable
from islet_imaging.positivity.methods.resampling import interval, resamples
from islet_imaging.positivity.mixture import (
    Mixture,
    fit_mixture,
    from_scale,
    robust_negative,
    to_scale,
)
from islet_imaging.positivity.threshold import CellsUsed, Cut, Populations, Threshold

#: fewer cells than this are not two populations
MIN_CELLS = 20
#: resamples of a mixture are dear
MOST_RESAMPLES = 60


def by_mixture(
    x: Float64, feature: str, *, min_separation: float, bootstrap: int, seed: int
) -> Threshold:
    """A cut between the sample's own dark and bright cells."""
    found, mixture, why = _parted(x, min_separation)
    separation = mixture.separation if mixture else 0.0
    if found is None:
        return not_estimable(x, feature, "mixture", why, separation=separation)
    cuts = []
    count = min(bootstrap, MOST_RESAMPLES)
    for i in resamples(x.size, np.zeros(x.size, np.int64), count, seed):
        again = _parted(x[i], min_separation)[0]
        if again is not None:
            cuts.append(again.cut)
    low, high = interval(cuts)
    at = float(to_scale(found.cut, found.zero, found.scale))
    return Threshold(
        method="mixture",
        feature=feature,
        cut=Cut(found.cut, low, high, reason=_reason(found)),
        model=logistic(FLOOR_ODDS / max(at, 0.1), found.cut, found.zero, found.scale),
        populations=Populations(
            negative=found.zero,
            spread=found.scale,
            positive=found.zero + found.bright,
            positive_share=found.share,
            separation=separation,
        ),
        used=CellsUsed(int(x.size)),
    )


def _reason(found: Gap) -> str:
    return (
        f"dark cells at {found.zero:.4g} (spread {found.scale:.3g}), bright ones "
        f"{found.bright:.4g} above them; the cut anywhere between them changes the share by "
        f"{100 * found.change:.1f} points"
    )


def _parted(x: Float64, min_separation: float) -> tuple[Gap | None, Mixture | None, str]:
    """Dark and bright cells with room between them, the mixture, and why not."""
    few = find_gap(x)
    # bell curves do not describe a dark end that was clipped
    fitted = None if clipped(x) else _free(x, min_separation)
    if few is not None:
        return few, fitted[0] if fitted else None, ""
    if fitted is None:
        return (
            None,
            None,
            "the dark end is clipped, and no cells part from it" if clipped(x) else "too few cells",
        )
    mixture, zero, soft = fitted
    if not mixture.separable:
        return None, mixture, f"no separable population: {mixture.reason}"
    dark = float(from_scale(mixture.negative[0], zero, soft))
    bright = float(from_scale(mixture.positive[0], zero, soft)) - dark
    found = gap_of(x, dark, soft, bright, float(from_scale(mixture.crossing(), zero, soft)))
    if found.open:
        return found, mixture, ""
    why = (
        f"no gap: where between dark and bright cells the cut lies changes the share by "
        f"{100 * found.change:.0f} points"
    )
    return None, mixture, why


def _free(x: Float64, min_separation: float) -> tuple[Mixture, float, float] | None:
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
