"""Two populations that show by themselves with room between them, or nothing.

The idea: without controls only a sample that is clearly two populations gives a threshold: a
mixture of two bell curves, or dark cells and a few that stand far above them; and only where it
hardly matters where between them the cut lies (:mod:`islet_imaging.positivity.gap`).
It fails, by saying so, on populations that overlap or of which one is all there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from islet_imaging._types import Float64
from islet_imaging.positivity.gap import Gap, clipped, find_gap, gap_of
from islet_imaging.positivity.methods.logistic import FLOOR_ODDS, logistic, not_estimable
from islet_imaging.positivity.methods.resampling import interval, resamples
from islet_imaging.positivity.mixture import (
    Mixture,
    fit_mixtures,
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
    count = min(bootstrap, MOST_RESAMPLES)
    drawn = [x[i] for i in resamples(x.size, np.zeros(x.size, np.int64), count, seed)]
    (found, mixture, why), *again = _parted([x, *drawn], min_separation)
    separation = mixture.separation if mixture else 0.0
    if found is None:
        return not_estimable(x, feature, "mixture", why, separation=separation)
    low, high = interval([other.cut for other, _, _ in again if other is not None])
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


def _parted(
    samples: Sequence[Float64], min_separation: float
) -> list[tuple[Gap | None, Mixture | None, str]]:
    """Of a sample and its resamples: dark and bright cells with room between, or why not."""
    # bell curves do not describe a dark end that was clipped
    cut_off = [clipped(x) for x in samples]
    free = iter(_free([x for x, c in zip(samples, cut_off, strict=True) if not c], min_separation))
    return [
        _gap_or_not(x, None if c else next(free), c) for x, c in zip(samples, cut_off, strict=True)
    ]


def _gap_or_not(
    x: Float64, fitted: _Scaled | None, cut_off: bool
) -> tuple[Gap | None, Mixture | None, str]:
    few = find_gap(x)
    if few is not None:
        return few, fitted.mixture if fitted else None, ""
    if fitted is None:
        why = "the dark end is clipped, and no cells part from it" if cut_off else "too few cells"
        return None, None, why
    mixture, zero, soft = fitted.mixture, fitted.zero, fitted.soft
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


@dataclass(frozen=True)
class _Scaled:
    """A mixture with the scale that it is on."""

    mixture: Mixture
    zero: float
    soft: float


def _free(samples: Sequence[Float64], min_separation: float) -> list[_Scaled | None]:
    """Free mixtures; the working scale is found from the lower population, in two rounds."""
    fits: list[_Scaled | None] = [None] * len(samples)
    scales: dict[int, tuple[float, float]] = {}
    for k, x in enumerate(samples):
        if x.size >= MIN_CELLS:
            zero, top = np.percentile(x, [1, 99])
            if top > zero:
                scales[k] = float(zero), float(0.05 * (top - zero))
    for _ in range(3):
        ys = [to_scale(samples[k], *scale) for k, scale in scales.items()]
        found = fit_mixtures(ys, min_separation=min_separation)
        finer = {}
        for (k, scale), y, mixture in zip(scales.items(), ys, found, strict=True):
            fits[k] = _Scaled(mixture, *scale)
            lower = samples[k][y < mixture.crossing()]
            if lower.size >= MIN_CELLS:
                finer[k] = robust_negative(lower)
        scales = finer
    return fits
