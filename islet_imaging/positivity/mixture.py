"""Two populations on a log-like scale, or the finding that there are not two.

The idea: levels of a stain are log-normal far above background and noise-like near it, so all fits
are made on ``y = asinh((x - zero) / soft)``: linear near ``zero``, logarithmic above, and the same
after any change of gain or camera offset because ``zero`` and ``soft`` come from the data.  Two
normal components are fitted there by expectation-maximisation on a fine histogram, and they are
believed only if BIC prefers them, they are at least two standard deviations apart and the density
dips between them.
It fails on populations that overlap in level (dim positives): those show up as "not separable",
not as a threshold in the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from islet_imaging._types import Float64

BINS = 256
#: the dip between two believed populations is at most this share of the smaller peak
DIP = 0.8
#: and the smaller population holds at least this share of the cells, and this many cells
MIN_WEIGHT = 0.003
MIN_CELLS = 8


def to_scale(values: ArrayLike, zero: float, soft: float) -> Float64:
    """Levels on the working scale, ``asinh((x - zero) / soft)``.

    Parameters
    ----------
    values : array_like
        Levels, in units of the feature.
    zero, soft : float
        Origin of the scale, and the level above it where it turns from linear to logarithmic.

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> to_scale([10.0], zero=10.0, soft=2.0)
    array([0.])
    """
    out: Float64 = np.arcsinh((np.asarray(values, dtype=np.float64) - zero) / soft)
    return out


def from_scale(y: ArrayLike, zero: float, soft: float) -> Float64:
    """Undo :func:`to_scale`.

    Parameters
    ----------
    y : array_like
        Positions on the working scale.
    zero, soft : float
        As given to :func:`to_scale`.

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> float(from_scale(0.0, zero=10.0, soft=2.0))
    10.0
    """
    out: Float64 = zero + soft * np.sinh(np.asarray(y, dtype=np.float64))
    return out


def robust_negative(values: ArrayLike) -> tuple[float, float]:
    """Location and scale of negative cells, deaf to debris.

    The location is the median.  The scale is that of the right flank, because the threshold lies
    on that side: (80th percentile - median) / 0.8416, the standard deviation if normal.  Up to a
    few per cent of debris at any level changes neither.

    Parameters
    ----------
    values : array_like
        Levels of negative cells.

    Returns
    -------
    location, scale : float
        In units of the feature; the scale is positive.

    Examples
    --------
    >>> location, scale = robust_negative([1.0, 2.0, 3.0, 4.0, 500.0])
    >>> location
    3.0
    """
    x = np.asarray(values, dtype=np.float64)
    q20, q50, q80 = np.percentile(x, [20, 50, 80])
    scale = (q80 - q50) / 0.8416
    # constant flanks happen in 8-bit data: never let quantisation make the scale zero
    floor = max((q80 - q20) / 4, 1e-6 * max(abs(q50), 1e-6))
    return float(q50), float(max(scale, floor))


@dataclass(frozen=True)
class Mixture:
    """Two normal components on the working scale; the upper one is the positive population."""

    weight: float
    negative: tuple[float, float]
    positive: tuple[float, float]
    separation: float
    separable: bool
    reason: str

    def log_ratio(self, y: ArrayLike) -> Float64:
        """Log of positive over negative density at ``y``, without the weights."""
        (m0, s0), (m1, s1) = self.negative, self.positive
        v = np.asarray(y, dtype=np.float64)
        out: Float64 = 0.5 * ((v - m0) / s0) ** 2 - 0.5 * ((v - m1) / s1) ** 2 + np.log(s0 / s1)
        return out

    def crossing(self) -> float:
        """Where both densities are equal, between the two means."""
        grid = np.linspace(self.negative[0], self.positive[0], 2001)
        ratio = self.log_ratio(grid)
        above = np.flatnonzero(ratio > 0)
        return float(grid[above[0]]) if above.size else float(grid[-1])


def _normal(grid: Float64, mean: float, sd: float) -> Float64:
    z = (grid - mean) / sd
    out: Float64 = np.exp(-0.5 * z * z) / (sd * np.sqrt(2 * np.pi))
    return out


def fit_mixture(
    y: ArrayLike,
    *,
    negative: tuple[float, float] | None = None,
    max_shift: float = 2.0,
    min_separation: float = 2.0,
) -> Mixture:
    """Fit two populations on the working scale and say whether to believe them.

    Parameters
    ----------
    y : array_like, shape (n,)
        Levels on the working scale.
    negative : (mean, sd), optional
        The negative population, from controls: its spread is held, its mean may move by at most
        ``max_shift`` of its standard deviations.
    max_shift : float
        See ``negative``.
    min_separation : float
        Least distance of the means in pooled standard deviations (d').

    Returns
    -------
    Mixture

    Notes
    -----
    Expectation-maximisation on a histogram of 256 bins, from several starts; the best likelihood
    wins.  BIC compares it with one population: the control's (shifted), or a free normal.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> both = np.concatenate([rng.normal(0, 1, 500), rng.normal(6, 1, 300)])
    >>> fit_mixture(both).separable
    True
    >>> fit_mixture(rng.normal(0, 1, 500)).separable
    False
    """
    v = np.asarray(y, dtype=np.float64)
    v = v[np.isfinite(v)]
    n = v.size
    nothing = Mixture(0.0, (0.0, 1.0), (0.0, 1.0), 0.0, False, "too few cells")
    if n < 2 * MIN_CELLS:
        return nothing
    lo, hi = np.percentile(v, [0.05, 99.95])
    if not hi > lo:
        return Mixture(0.0, (lo, 1.0), (lo, 1.0), 0.0, False, "all levels are equal")
    counts, edges = np.histogram(np.clip(v, lo, hi), bins=BINS, range=(lo, hi))
    grid = 0.5 * (edges[1:] + edges[:-1])
    count = counts.astype(np.float64)
    best, best_like = nothing, -np.inf
    for share in (0.03, 0.2, 0.5, 0.8, 0.97):
        fitted, like = _em(grid, count, share, negative, max_shift)
        if like > best_like:
            best, best_like = fitted, like
    single = _single(grid, count, negative, max_shift)
    free = (3 if negative else 5, 1 if negative else 2)
    gain = 2 * (best_like - single) - (free[0] - free[1]) * np.log(n)
    return _judge(best, n, gain, min_separation)


def _single(
    grid: Float64, count: Float64, negative: tuple[float, float] | None, max_shift: float
) -> float:
    """Log-likelihood of one population."""
    total = count.sum()
    mean = float(count @ grid / total)
    if negative:
        mean = float(np.clip(mean, *_reach(negative, max_shift)))
        sd = negative[1]
    else:
        sd = float(np.sqrt(count @ (grid - mean) ** 2 / total)) + 1e-9
    return float(count @ np.log(_normal(grid, mean, sd) + 1e-300))


def _reach(negative: tuple[float, float], max_shift: float) -> tuple[float, float]:
    mean, sd = negative
    return mean - 0.5 * max_shift * sd, mean + max_shift * sd


def _em(
    grid: Float64,
    count: Float64,
    share: float,
    negative: tuple[float, float] | None,
    max_shift: float,
) -> tuple[Mixture, float]:
    """One run of expectation-maximisation, started with ``share`` positives."""
    total = count.sum()
    cut = np.searchsorted(np.cumsum(count), (1 - share) * total)
    cut = int(np.clip(cut, 1, grid.size - 2))

    def moments(weight: Float64) -> tuple[float, float]:
        w = max(float(weight.sum()), 1e-9)
        mean = float(weight @ grid / w)
        # rounding can leave the variance of an emptied population just below 0
        return mean, float(np.sqrt(max(float(weight @ (grid - mean) ** 2) / w, 0.0)))

    least = 2 * (grid[1] - grid[0])
    low, high = count.copy(), count.copy()
    low[cut:], high[:cut] = 0, 0
    m0, s0 = negative if negative else moments(low)
    m1, s1 = moments(high)
    s0, s1, weight = max(s0, least), max(s1, least), share
    like = -np.inf
    for _ in range(150):
        f0 = (1 - weight) * _normal(grid, m0, s0)
        f1 = weight * _normal(grid, m1, s1)
        both = f0 + f1 + 1e-300
        new = float(count @ np.log(both))
        part = count * f1 / both
        weight = float(np.clip(part.sum() / total, 1e-6, 1 - 1e-6))
        m1, s1 = moments(part)
        rest = count - part
        if negative:
            m0 = float(np.clip(moments(rest)[0], *_reach(negative, max_shift)))
            # a positive population is not narrower than negatives are
            s1 = max(s1, negative[1])
        else:
            m0, s0 = moments(rest)
        s0, s1 = max(s0, least), max(s1, least)
        if abs(new - like) < 1e-6 * abs(new):
            break
        like = new
    if m1 < m0 and not negative:
        m0, s0, m1, s1, weight = m1, s1, m0, s0, 1 - weight
    apart = (m1 - m0) / np.sqrt(0.5 * (s0**2 + s1**2))
    return Mixture(weight, (m0, s0), (m1, s1), float(apart), False, ""), new


def _judge(fit: Mixture, n: int, gain: float, min_separation: float) -> Mixture:
    """Believe the two populations, or say why not."""
    (m0, s0), (m1, s1) = fit.negative, fit.positive
    reason = ""
    small = min(fit.weight, 1 - fit.weight)
    if gain <= 0:
        reason = "one population fits as well (BIC)"
    elif fit.separation < min_separation:
        reason = f"populations overlap (separation {fit.separation:.1f} below {min_separation:g})"
    elif small < MIN_WEIGHT or small * n < MIN_CELLS:
        reason = "the smaller population is too small to be told from outliers"
    else:
        line = np.linspace(m0, m1, 400)
        density = (1 - fit.weight) * _normal(line, m0, s0) + fit.weight * _normal(line, m1, s1)
        lowest = int(np.argmin(density))
        peak = min(float(density[: lowest + 1].max()), float(density[lowest:].max()))
        if density[lowest] > DIP * peak:
            reason = "no dip between the populations"
    return Mixture(fit.weight, fit.negative, fit.positive, fit.separation, not reason, reason)
