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

from collections.abc import Sequence
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
#: shares of positives that a fit from scratch is started with
STARTS = (0.03, 0.2, 0.5, 0.8, 0.97)


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


def _normal(grid: Float64, mean: float | Float64, sd: float | Float64) -> Float64:
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
    return fit_mixtures([y], negative=negative, max_shift=max_shift, min_separation=min_separation)[
        0
    ]


def fit_mixtures(
    samples: Sequence[ArrayLike],
    *,
    negative: tuple[float, float] | None = None,
    max_shift: float = 2.0,
    min_separation: float = 2.0,
) -> list[Mixture]:
    """Fit a sample and its resamples, all at once.

    Parameters
    ----------
    samples : sequence of array_like, each of shape (n,)
        Levels on the working scale: the sample, then what was drawn from it; sizes may differ.
    negative, max_shift, min_separation
        As in :func:`fit_mixture`.

    Returns
    -------
    list of Mixture
        One per sample.

    Notes
    -----
    Only the first is fitted from scratch.  The others are started from every solution that it leads
    to: what takes some eighty steps from scratch then takes a few, and a resample that prefers
    another of the solutions still gets it.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> both = np.concatenate([rng.normal(0, 1, 500), rng.normal(6, 1, 300)])
    >>> drawn = [rng.choice(both, both.size) for _ in range(3)]
    >>> [round(m.crossing()) for m in fit_mixtures([both, *drawn])]
    [3, 3, 3, 3]
    """
    seen = [_histogram(s) for s in samples]
    fits: list[Mixture] = []
    fitted = [h for h in seen if isinstance(h, _Histogram)]
    starts = None
    for some in (fitted[:1], fitted[1:]):
        if not some:
            break
        begin = _cold(some[0], negative) if starts is None else np.tile(starts, len(some))
        each = begin.shape[1] // len(some)
        grid, count = (np.repeat([getattr(h, v) for h in some], each, 0) for v in ("grid", "count"))
        ends, likes = _em(grid, count, begin, negative, max_shift)
        for k, h in enumerate(some):
            best = k * each + int(np.argmax(likes[k * each : (k + 1) * each]))
            single = _single(h.grid, h.count, negative, max_shift)
            free = (3 if negative else 5, 1 if negative else 2)
            gain = 2 * (float(likes[best]) - single) - (free[0] - free[1]) * np.log(h.n)
            fits.append(_judge(_mixture(ends[:, best], negative), h.n, gain, min_separation))
        starts = ends
    there = iter(fits)
    return [h if isinstance(h, Mixture) else next(there) for h in seen]


@dataclass(frozen=True)
class _Histogram:
    """A sample on the working scale in 256 bins."""

    grid: Float64
    count: Float64
    n: int


def _histogram(y: ArrayLike) -> _Histogram | Mixture:
    """The sample in bins, or a mixture that says why there can be none."""
    v = np.asarray(y, dtype=np.float64)
    v = v[np.isfinite(v)]
    if v.size < 2 * MIN_CELLS:
        return Mixture(0.0, (0.0, 1.0), (0.0, 1.0), 0.0, False, "too few cells")
    lo, hi = np.percentile(v, [0.05, 99.95])
    if not hi > lo:
        return Mixture(0.0, (lo, 1.0), (lo, 1.0), 0.0, False, "all levels are equal")
    counts, edges = np.histogram(np.clip(v, lo, hi), bins=BINS, range=(lo, hi))
    return _Histogram(0.5 * (edges[1:] + edges[:-1]), counts.astype(np.float64), v.size)


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


def _moments(weight: Float64, grid: Float64) -> tuple[Float64, Float64]:
    """Mean and standard deviation of each row."""
    w = np.maximum(weight.sum(axis=1), 1e-9)
    mean = np.einsum("rb,rb->r", weight, grid) / w
    off = grid - mean[:, None]
    off *= off
    # rounding can leave the variance of an emptied population just below 0
    return mean, np.sqrt(np.maximum(np.einsum("rb,rb->r", weight, off) / w, 0.0))


def _cold(seen: _Histogram, negative: tuple[float, float] | None) -> Float64:
    """Starts from scratch, shape (5, starts): weight, means and deviations of both."""
    grid, count = seen.grid[None], seen.count[None]
    total = seen.count.sum()
    cut = np.searchsorted(np.cumsum(seen.count), (1 - np.array(STARTS)) * total)
    below = np.arange(seen.grid.size) < np.clip(cut, 1, seen.grid.size - 2)[:, None]
    least = 2 * (seen.grid[1] - seen.grid[0])
    m0, s0 = _moments(np.where(below, count, 0.0), grid)
    if negative:
        m0, s0 = (np.full(len(STARTS), v) for v in negative)
    m1, s1 = _moments(np.where(below, 0.0, count), grid)
    return np.stack([np.array(STARTS), m0, np.maximum(s0, least), m1, np.maximum(s1, least)])


def _em(
    grid: Float64,
    count: Float64,
    start: Float64,
    negative: tuple[float, float] | None,
    max_shift: float,
) -> tuple[Float64, Float64]:
    """Expectation-maximisation of every row from its start; where it ends, and how likely."""
    ends, likes = start.copy(), np.full(start.shape[1], -np.inf)
    going = np.arange(start.shape[1])
    weight, m0, s0, m1, s1 = start
    total, least = count.sum(axis=1), 2 * (grid[:, 1] - grid[:, 0])
    for _ in range(150):
        f0 = _normal(grid, m0[:, None], s0[:, None]) * (1 - weight)[:, None]
        f1 = _normal(grid, m1[:, None], s1[:, None]) * weight[:, None]
        f0 += f1
        f0 += 1e-300
        new = np.einsum("rb,rb->r", count, np.log(f0))
        f1 *= count
        f1 /= f0
        part, rest = f1, count - f1
        weight = np.clip(part.sum(axis=1) / total, 1e-6, 1 - 1e-6)
        m1, s1 = _moments(part, grid)
        if negative:
            m0 = np.clip(_moments(rest, grid)[0], *_reach(negative, max_shift))
            # a positive population is not narrower than negatives are
            s1 = np.maximum(s1, negative[1])
        else:
            m0, s0 = _moments(rest, grid)
        s0, s1 = np.maximum(s0, least), np.maximum(s1, least)
        more = ~(np.abs(new - likes[going]) < 1e-6 * np.abs(new))
        for row, value in zip(ends, (weight, m0, s0, m1, s1), strict=True):
            row[going] = value
        likes[going] = new
        if not more.any():
            break
        if not more.all():
            going, grid, count, total, least = (v[more] for v in (going, grid, count, total, least))
            weight, m0, s0, m1, s1 = (v[more] for v in (weight, m0, s0, m1, s1))
    return ends, likes


def _mixture(end: Float64, negative: tuple[float, float] | None) -> Mixture:
    """Where one row ended, the lower population first."""
    weight, m0, s0, m1, s1 = (float(v) for v in end)
    if m1 < m0 and not negative:
        m0, s0, m1, s1, weight = m1, s1, m0, s0, 1 - weight
    apart = (m1 - m0) / np.sqrt(0.5 * (s0**2 + s1**2))
    return Mixture(weight, (m0, s0), (m1, s1), float(apart), False, "")


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
