"""The default: a logistic against the run's positive cells and against the noise of its negatives.

The idea: the cut lies where a logistic of the own intensity is one half: at a share of the positive
intensity in a bright stain, and several spreads above the negatives in a faint one.  Without
controls the populations must be separable, or there is no cut.
It fails where the run's intensities do: see :mod:`islet_imaging.positivity.levels`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from islet_imaging._types import Float64
from islet_imaging.positivity.coefficients import BY_LEVELS, FLOOR, Learned
from islet_imaging.positivity.gap import Gap, clipped, find_gap, gap_of
from islet_imaging.positivity.levels import (
    StainLevels,
    dark_peak,
    mix_soft,
    on_mix_scale,
    populations,
)
from islet_imaging.positivity.methods.control import Control, trimmed_quantile
from islet_imaging.positivity.methods.logistic import FLOOR_ODDS, slope_at_crossing
from islet_imaging.positivity.methods.resampling import interval, resamples
from islet_imaging.positivity.mixture import Mixture, fit_mixtures, robust_negative
from islet_imaging.positivity.spillover import positive_level
from islet_imaging.positivity.threshold import (
    CellsUsed,
    Cut,
    IntensityModel,
    NetworkTerms,
    Populations,
    Threshold,
    log_odds,
)

#: where no cell is clearly positive, the cut is at least this many spreads above the negatives
LEAST_SPREADS = 5.0
#: without controls, more positives than this leave too few dark cells to learn from
FEW_DARK = 0.85


@dataclass(frozen=True)
class LevelFit:
    """A model with its cut, both always there; whether to believe them is said elsewhere."""

    cut: float
    model: IntensityModel
    network: NetworkTerms
    populations: Populations
    #: whether the sample's own populations gave the evidence, else the controls did
    separate: bool
    reason: str


def by_levels(
    own: Float64,
    levels: StainLevels,
    control: Control,
    feature: str,
    *,
    learned: Learned,
    bootstrap: int,
    mixture: Mixture,
) -> Threshold:
    """Fit the default method.

    Parameters
    ----------
    own : ndarray
        Own intensities of the sample's cells, in units of the feature.
    levels : StainLevels
        Of the run.
    control : Control
        Control cells; empty where there are none that can be compared.
    feature : str
        The column the cut acts on.
    learned : Learned
        Coefficients of the logistic, with or without the network's.
    bootstrap : int
        Number of resamples for the interval.
    mixture : Mixture
        The two populations of ``own``.
    """
    run = (own, levels.zero, levels.scale, levels.positive, control.intensities)
    fit = _fit(*run, learned, mixture=mixture)

    def made(cut: Cut) -> Threshold:
        return Threshold(
            method="levels",
            feature=feature,
            cut=cut,
            model=fit.model,
            populations=fit.populations,
            network=fit.network,
            used=CellsUsed(int(own.size)),
        )

    # whether intensities part does not hang on what the network adds to them
    plain = fit if learned == BY_LEVELS else _fit(*run, BY_LEVELS, mixture=mixture)
    if not control.intensities.size and not _parted(own, plain, levels):
        found = find_gap(own)
        if found is None:
            why = fit.reason or "no peak of dark cells, or no gap above them"
            reason = f"no separable population: {why}"
            return made(Cut(None, status="not_estimable", reason=reason))
        levels = dataclasses.replace(
            levels, zero=found.zero, scale=found.scale, positive=found.bright
        )
        fit = _fit(own, found.zero, found.scale, found.bright, np.empty(0), learned, gap=found)
    low, high = _cut_interval(own, levels, control, bootstrap, learned)
    return made(Cut(fit.cut, low, high, reason=_reason(fit, levels, control)))


def level_model(
    own: Float64, zero: float, scale: float, positive: float, learned: Learned
) -> LevelFit:
    """The model at levels that are known from elsewhere.

    Parameters
    ----------
    own : ndarray
        Own intensities of the cells, in units of the feature.
    zero, scale, positive : float
        Intensity of negative cells, their spread, and the intensity of positive cells above
        ``zero``.
    learned : Learned
        Coefficients of the logistic.
    """
    return _fit(own, zero, scale, positive, np.empty(0), learned)


def _parted(own: Float64, fit: LevelFit, levels: StainLevels) -> bool:
    """Whether the sample's own cells part, so that no control is needed."""
    if not (fit.separate and dark_peak(own - levels.zero, levels.scale, fit.cut - levels.zero)):
        return False
    # of a dark end that was clipped no spread can be told, so there must be room above it
    return (
        not clipped(own) or gap_of(own, levels.zero, levels.scale, fit.model.bright, fit.cut).open
    )


def _reason(fit: LevelFit, levels: StainLevels, control: Control) -> str:
    above = fit.cut - levels.zero
    if levels.positive is None:
        return (
            f"no clearly positive cells; cut {above / levels.scale:.1f} spreads above the "
            f"{control.intensities.size} control cells"
        )
    reason = (
        f"negatives at {levels.zero:.4g} (spread {levels.scale:.3g}, from {levels.source}), "
        f"positives {fit.model.bright:.4g} above them, cut at "
        f"{100 * above / fit.model.bright:.0f} % of that"
    )
    share = fit.populations.positive_share
    if not control.intensities.size and share is not None and share > FEW_DARK:
        reason += "; hardly any dark cell and no controls, so negatives are uncertain"
    if not fit.separate:
        reason += f"; populations not separate ({fit.reason}), so by controls only"
    return reason


def _fit(
    own: Float64,
    zero: float,
    scale: float,
    positive: float | None,
    dark: Float64,
    learned: Learned,
    gap: Gap | None = None,
    mixture: Mixture | None = None,
) -> LevelFit:
    """Populations, model, and the cut where the probability of an unlit cell is one half.

    ``mixture`` is of ``own``, where it is fitted already.

    Where the sample's populations are not separate a steep logistic stands for them, at the gap
    between dark and bright cells if one was found, else at the controls' high quantile.
    """
    bright = max(positive or 0.0, FLOOR * scale)
    soft = mix_soft(scale, positive)
    if mixture is None:
        mixture = populations(own - zero, scale, positive)
    separate = mixture.separable and positive is not None
    if gap is not None:
        separate, mix_cut = True, float(np.arcsinh((gap.cut - zero) / soft))
        mix_slope = FLOOR_ODDS / mix_cut
    elif separate:
        mix_cut, mix_slope = mixture.crossing(), slope_at_crossing(mixture)
    else:
        above = LEAST_SPREADS * scale
        if dark.size:
            above = max(above, trimmed_quantile(dark, 0.995) - zero)
        soft, mix_cut = scale, float(np.arcsinh(above / scale))
        mix_slope = FLOOR_ODDS / mix_cut
    # without clearly positive cells nothing tells how bright one would be: controls alone
    weights, left_over, light, logit = ((0.0, mix_slope, 0.0, -FLOOR_ODDS), 0.0, 0.0, 0.0)
    if positive is not None:
        weights, left_over, light, logit = learned
    model = IntensityModel(
        zero=zero,
        soft=scale,
        bright=bright,
        weights=weights,
        mix_soft=soft,
        mix_slope=mix_slope,
        mix_cut=mix_cut,
        left_over=left_over,
    )
    network = NetworkTerms(weight=light, logit_weight=logit)
    seen = Populations(
        negative=zero,
        spread=scale,
        positive=zero + bright if positive is not None else None,
        positive_share=gap.share if gap else mixture.weight if separate else None,
        separation=mixture.separation,
    )
    cut = zero + _even(model, network, 100 * bright)
    return LevelFit(cut, model, network, seen, separate, mixture.reason)


def _even(model: IntensityModel, network: NetworkTerms, most: float) -> float:
    """Intensity above zero where an unlit cell is as likely positive as not, by bisection.

    Thirty-one points, five halvings, are looked at together.
    """
    low, high = 0.0, most
    for _ in range(10):
        points = np.array([low, high])
        for _ in range(5):
            finer = np.empty(2 * points.size - 1)
            finer[::2], finer[1::2] = points, 0.5 * (points[:-1] + points[1:])
            points = finer
        over = log_odds(model, network, points) > 0
        first, last = 0, points.size - 1
        while last - first > 1:
            middle = (first + last) // 2
            first, last = (first, middle) if over[middle] else (middle, last)
        low, high = float(points[first]), float(points[last])
    return 0.5 * (low + high)


def _cut_interval(
    own: Float64, levels: StainLevels, control: Control, bootstrap: int, learned: Learned
) -> tuple[float | None, float | None]:
    """Of resampled sample cells and control images (or cells, of fewer than 4 images)."""
    if bootstrap < 10:
        return None, None
    dark = control.intensities
    again = resamples(own.size, np.zeros(own.size, np.int64), bootstrap, 0)
    darker = resamples(dark.size, control.images, bootstrap, 1) if dark.size else []
    theirs = [dark[i] for i in darker] if darker else [dark] * len(again)
    held = [robust_negative(t) for t in theirs] if darker else [(levels.zero, levels.scale)]
    mine = [own[i] for i in again]
    known = [
        (zero, scale, positive_level(x - zero, scale))
        for x, (zero, scale) in zip(mine, cycle(held), strict=False)
    ]
    whole = on_mix_scale(own - levels.zero, levels.scale, levels.positive)
    drawn = [
        on_mix_scale(x - zero, scale, positive)
        for x, (zero, scale, positive) in zip(mine, known, strict=True)
    ]
    mixtures = fit_mixtures([whole, *drawn])[1:]
    each = zip(mine, known, theirs, mixtures, strict=True)
    return interval([_fit(x, *k, t, learned, mixture=m).cut for x, k, t, m in each])
