"""How sure a mean over batches is: beta-binomial batches, integrated over how much they differ.

The idea: the positives of a batch are beta-binomial, ``k ~ BetaBinomial(n, mean, icc)``.  With few
batches the intraclass correlation is hardly known, so it is not estimated and then believed: the
distribution of the mean is averaged over all values it may have, weighted by how well each explains
the counts.  For fractions far from 0 and 1 that comes close to a t interval; for rare cells it
keeps what a t interval forgets, that the batch that would have raised the mean may not have been
among those that were made.  A batch of three cells says little and weighs little, of itself.
It fails where batches come in two kinds (a fifth of them failed): no distribution with one hump
holds these, and `islet_imaging.statistics.outliers` looks for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

#: intraclass correlations that are averaged over: evenly spaced on a log scale, which for fractions
#: near 50 % comes close to Student's t; beyond the last, batches come in two kinds.  With the power
#: below, these values are the prior: chosen by simulation, not to be refined
_ICC_RANGE = (5e-4, 0.5)
#: how many of them; many batches tell them apart more finely than few
_ICC_POINTS, _ICC_POINTS_MANY, _MANY = 11, 25, 12
#: power by which larger correlations weigh more; chosen by simulation (benchmarks/statistics)
_ICC_POWER = 0.3
#: Jeffreys' power of the mean: what makes both tails of rare fractions hold
_MEAN_POWER = 0.5
#: range of the mean, logits, and points of the grids, each of which spans where the last found the
#: mean to lie
_RANGE = 13.0
_POINTS = (25, 25, 61)
#: log density below the best at which the next grid ends
_TAIL = 14.0
#: distance of the limits, logits, from which on and at which fully the limit next to 0 goes out,
#: and the part of its tail that is left then
_LOWERED, _FURTHER = (2.5, 4.0), 0.04


@dataclass(frozen=True)
class MeanDistribution:
    """What counts say of the mean batch fraction of one or many experiments.

    Attributes
    ----------
    logits : ndarray of float64, shape (..., n_points)
        Grid of the mean, logits.
    below : ndarray of float64, shape (..., n_points)
        Probability that the mean lies below each point.
    """

    logits: Array
    below: Array

    def quantile(self, probability: float | Array) -> Array:
        """The mean below which ``probability`` lies, one per experiment."""
        flat_x = self.logits.reshape(-1, self.logits.shape[-1])
        flat_c = self.below.reshape(-1, self.below.shape[-1])
        wanted = np.broadcast_to(np.asarray(probability, dtype=float), self.logits.shape[:-1])
        # one sorted search for all experiments: each gets its own unit of the number line
        at = np.arange(len(flat_x))
        found = np.searchsorted((flat_c + 2 * at[:, None]).ravel(), wanted.ravel() + 2 * at)
        i = np.clip(found - at * flat_c.shape[1], 1, flat_c.shape[1] - 1)
        c0, c1 = flat_c[at, i - 1], flat_c[at, i]
        x0, x1 = flat_x[at, i - 1], flat_x[at, i]
        share = np.clip((wanted.ravel() - c0) / np.maximum(c1 - c0, 1e-300), 0, 1)
        return np.asarray(special.expit(x0 + share * (x1 - x0)).reshape(wanted.shape))


@dataclass(frozen=True)
class MeanLimits:
    """An interval of the mean batch fraction, of one or many experiments.

    Attributes
    ----------
    mean, low, high : ndarray of float64, shape (...)
        Plain mean of the batch fractions, and limits that always hold it.
    width : ndarray of float64, shape (...)
        Distance of the model's own limits, logits.
    lowered : ndarray of float64, shape (...)
        How far, 0 to 1, the limit next to 0 or 1 was moved towards it (see `mean_limits`).
    """

    mean: Array
    low: Array
    high: Array
    width: Array
    lowered: Array


def mean_limits(positives: Array, totals: Array, *, level: float = 0.95) -> MeanLimits:
    """Limits of the mean batch fraction.

    Parameters
    ----------
    positives, totals : ndarray of float64, shape (..., n_batches)
        Positive (may be fractional) and counted cells; batches without cells say nothing.
    level : float
        Confidence level.

    Returns
    -------
    MeanLimits

    Notes
    -----
    Quantiles of `mean_distribution`.  For rare fractions in few batches the lower one is too high:
    such an interval is narrow enough to be used only where chance has made the fraction larger than
    it is.  So the further the limits lie apart, the further the limit next to 0 (for fractions
    above one half, next to 1) goes out, to `_FURTHER` of its tail, and an interval that is wide
    never gets narrower by it.  Chosen by simulation (``benchmarks/statistics``, table ``holding``).

    Examples
    --------
    >>> m = mean_limits(np.array([3.0, 9, 1]), np.array([1000.0, 1000, 1000]))
    >>> m.lowered.round(2), (100 * m.low).round(2), (100 * m.high).round(1)
    (np.float64(1.0), np.float64(0.08), np.float64(14.5))
    """
    k, n = np.asarray(positives, dtype=float), np.asarray(totals, dtype=float)
    found = mean_distribution(k, n)
    tail = (1 - level) / 2
    p = np.divide(k, n, out=np.full(np.broadcast(k, n).shape, np.nan), where=n > 0)
    mean = np.nanmean(p, axis=-1)
    none, every = k.sum(axis=-1) == 0, (k == n).all(axis=-1)
    low, high = found.quantile(tail), found.quantile(1 - tail)
    width = np.asarray(special.logit(high) - special.logit(low))
    start, end = _LOWERED
    lowered = np.where(none | every, 0.0, np.clip((width - start) / (end - start), 0, 1))
    further = tail * _FURTHER**lowered
    low = np.where(mean < 0.5, found.quantile(further), low)
    high = np.where(mean > 0.5, found.quantile(1 - further), high)
    # a batch of few cells pulls the plain mean more than the model: the mean always belongs inside
    return MeanLimits(
        mean=np.asarray(mean),
        low=np.where(none, 0.0, np.minimum(low, mean)),
        high=np.where(every, 1.0, np.maximum(high, mean)),
        width=width,
        lowered=lowered,
    )


def mean_distribution(positives: Array, totals: Array) -> MeanDistribution:
    """Distribution of the mean batch fraction given counts.

    Parameters
    ----------
    positives, totals : ndarray of float64, shape (..., n_batches)
        Positive (may be fractional) and counted cells; batches without cells say nothing.

    Returns
    -------
    MeanDistribution

    References
    ----------
    Griffiths, Biometrics 29:637 (1973), beta-binomial; Gelman, Bayesian Anal 1:515 (2006), on the
    prior of a variance between few groups.

    Examples
    --------
    >>> d = mean_distribution(np.array([420.0, 500, 610]), np.array([1000.0, 1000, 1000]))
    >>> d.quantile(0.5).round(2)
    np.float64(0.51)
    """
    k, n = np.broadcast_arrays(np.asarray(positives, float), np.asarray(totals, float))
    shape = k.shape[:-1]
    k, n = k.reshape(-1, k.shape[-1]), n.reshape(-1, n.shape[-1])
    at = np.arange(len(k))
    grid = np.linspace(-_RANGE, _RANGE, _POINTS[0])[None, :]
    log = _log_posterior(grid, k, n)
    for points in _POINTS[1:]:
        near = log > log.max(axis=1, keepdims=True) - _TAIL
        first = np.maximum(near.argmax(axis=1) - 1, 0)
        last = np.minimum(near.shape[1] - near[:, ::-1].argmax(axis=1), near.shape[1] - 1)
        grid = np.broadcast_to(grid, near.shape)
        grid = np.linspace(grid[at, first], grid[at, last], points, axis=1)
        log = _log_posterior(grid, k, n)
    density = np.exp(log - log.max(axis=1, keepdims=True))
    steps = (density[:, 1:] + density[:, :-1]) / 2
    below = np.concatenate([np.zeros((len(k), 1)), np.cumsum(steps, axis=1)], axis=1)
    below /= below[:, -1:]
    return MeanDistribution(grid.reshape(*shape, -1), below.reshape(*shape, -1))


def _log_posterior(logits: Array, k: Array, n: Array) -> Array:
    """Log density of the mean on the logit scale, up to a constant, shape (experiments, points)."""
    p = np.clip(special.expit(logits), 1e-12, 1 - 1e-12)
    parts = []
    points = _ICC_POINTS if k.shape[1] <= _MANY else _ICC_POINTS_MANY
    for i, icc in enumerate(np.geomspace(*_ICC_RANGE, points)):
        size = 1 / icc - 1
        a, b = p * size, (1 - p) * size
        # the rule of the trapezium: half a weight at the ends
        weight = np.log(0.5) if i in (0, points - 1) else 0.0
        log = weight + _ICC_POWER * np.log(icc) - k.shape[1] * special.betaln(a, b)
        for j in range(k.shape[1]):
            kj, nj = k[:, j, None], n[:, j, None]
            log = log + special.gammaln(kj + a) + special.gammaln(nj - kj + b)
            log = log - special.gammaln(nj + size)
        parts.append(log)
    prior = _MEAN_POWER * (np.log(p) + np.log1p(-p))
    return np.asarray(special.logsumexp(np.stack(parts), axis=0) + prior)
