"""The difference of two mean fractions: one quantity for effect, interval and test.

The idea: each condition has its own distribution of the mean over its batches (`batch_model`),
skewed where fractions are rare and wide where batches are few.  The limits of the difference are
put together from the limits of both, as wide on each side as that side demands (MOVER), with the
correlation of batches that were made under both conditions; the p value is the level at which the
interval meets 0.  So they cannot disagree, and neither variances nor numbers of batches need be
equal.  Where batches are shared, the limits are at least those of the t test of paired, or partly
paired, data, because few pairs often look more alike than they are.
It fails, on the safe side, for rare fractions: intervals are then wider than batches look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from islet_imaging._types import Mask
from islet_imaging.statistics.batch_model import MeanDistribution, mean_distribution

Array = NDArray[np.float64]

#: shared batches below which no correlation is taken from them
LEAST_SHARED = 3
#: tail probabilities that are told apart
_LEAST_TAIL = 1e-6


@dataclass(frozen=True)
class Arm:
    """The batches of one condition, of one or many experiments.

    Attributes
    ----------
    fractions : ndarray of float64, shape (..., n_batches)
        Fraction of each batch; NaN without cells.
    mean : ndarray of float64, shape (...)
        Plain mean of them.
    distribution : MeanDistribution
        What the counts say of the mean of all batches that could have been made.
    counting : ndarray of float64, shape (...)
        Variance of the mean that counting independent cells alone would give.
    none, every : ndarray of bool, shape (...)
        Whether no cell, or every cell, is positive.
    """

    fractions: Array
    mean: Array
    distribution: MeanDistribution
    counting: Array
    none: NDArray[np.bool_]
    every: NDArray[np.bool_]

    def limits(self, tail: float | Array) -> tuple[Array, Array]:
        """Lower and upper limit of the mean, with ``tail`` left out on each side."""
        low = np.minimum(self.distribution.quantile(tail), self.mean)
        high = np.maximum(self.distribution.quantile(1 - np.asarray(tail)), self.mean)
        return np.where(self.none, 0.0, low), np.where(self.every, 1.0, high)


def arm(positives: Array, totals: Array) -> Arm:
    """An `Arm` from counts, shape (..., n_batches)."""
    k, n = np.asarray(positives, dtype=float), np.asarray(totals, dtype=float)
    p = np.divide(k, n, out=np.full(k.shape, np.nan), where=n > 0)
    q = (k + 0.5) / (n + 1)
    noise = np.divide(q * (1 - q), n, out=np.zeros(k.shape), where=n > 0).sum(axis=-1)
    return Arm(
        fractions=p,
        mean=np.asarray(np.nanmean(p, axis=-1)),
        distribution=mean_distribution(k, n),
        counting=np.asarray(noise / (n > 0).sum(axis=-1) ** 2),
        none=np.asarray(k.sum(axis=-1) == 0),
        every=np.asarray((k == n).all(axis=-1)),
    )


@dataclass(frozen=True)
class Difference:
    """A weighted mean over blocks of ``second`` minus ``first``.

    Attributes
    ----------
    first, second : tuple of Arm
        One pair per block; one block where there are none.
    correlation : ndarray of float64
        Of the errors of the two means of a block.
    se, df : ndarray of float64
        Standard error and degrees of freedom of the t test that the limits are at least as wide as;
        0 and 1 where no batch is shared.
    """

    first: tuple[Arm, ...]
    second: tuple[Arm, ...]
    correlation: Array
    se: Array
    df: Array

    @property
    def value(self) -> Array:
        """The difference of the plain means, fractions of 1."""
        return np.asarray(
            np.mean([b.mean - a.mean for a, b in zip(self.first, self.second, strict=True)], axis=0)
        )

    def limits(self, tail: float | Array) -> tuple[Array, Array]:
        """Lower and upper limit, with ``tail`` left out on each side."""
        below2: Array | float = 0.0
        above2: Array | float = 0.0
        for a, b in zip(self.first, self.second, strict=True):
            a_low, a_high = a.limits(tail)
            b_low, b_high = b.limits(tail)
            below2 = below2 + self._squared(a_high - a.mean, b.mean - b_low)
            above2 = above2 + self._squared(a.mean - a_low, b_high - b.mean)
        value, blocks = self.value, len(self.first)
        least = -special.stdtrit(self.df, tail) * self.se
        below = np.maximum(np.sqrt(below2) / blocks, least)
        return value - below, value + np.maximum(np.sqrt(above2) / blocks, least)

    def _squared(self, x: Array, y: Array) -> Array:
        return np.asarray(np.maximum(x**2 + y**2 - 2 * self.correlation * x * y, 0.0))

    def tail(self, at: float, *, above: Mask | bool) -> Array:
        """Tail probability at which a limit meets ``at``: the upper one where ``above``."""
        low = np.full(self.value.shape, np.log(_LEAST_TAIL))
        high = np.full(self.value.shape, np.log(0.5))
        for _ in range(40):
            middle = (low + high) / 2
            lower, upper = self.limits(np.exp(middle))
            # the interval at this tail holds the value: it takes a larger tail to exclude it
            holds = np.where(above, upper >= at, lower <= at)
            low, high = np.where(holds, middle, low), np.where(holds, high, middle)
        return np.asarray(np.exp((low + high) / 2))

    def p(self, at: float = 0.0) -> Array:
        """Two-sided p value of the hypothesis that the difference is ``at``."""
        return np.asarray(np.minimum(2 * self.tail(at, above=self.value < at), 1.0))

    def p_equivalence(self, margin: float) -> Array:
        """P value of the hypothesis that the difference is beyond ``margin`` to either side.

        Two one-sided tests (Schuirmann, J Pharmacokinet Biopharm 15:657, 1987).
        """
        inside = np.abs(self.value) < margin
        larger = np.maximum(self.tail(-margin, above=False), self.tail(margin, above=True))
        return np.asarray(np.where(inside, larger, 1.0))


def difference(first: Arm, second: Arm, *, shared: int = 0) -> Difference:
    """Difference of two conditions of which the first ``shared`` batches are the same ones.

    Parameters
    ----------
    first, second : Arm
        The reference and the other condition.
    shared : int
        Number of batches made under both, which come first and in the same order.

    Returns
    -------
    Difference

    Notes
    -----
    ``var(d) = var(a) + var(b) - 2 cov``, and of the covariance only shared batches have a part:
    ``r m / sqrt(n_a n_b)`` with the correlation ``r`` of the fractions of the ``m`` shared batches.
    With fewer than `LEAST_SHARED` of them ``r`` is not known and left out.  The standard error of
    the t test is not taken below the 10 % point of what counting cells alone would scatter to, so
    that pairs that agree by luck do not give an interval of no width.

    References
    ----------
    Zou & Donner, Stat Med 27:1693 (2008), MOVER; Zou, Psychol Methods 12:399 (2007), correlated
    arms; Derrick, Russ, Toher & White, J Mod Appl Stat Methods 16:137 (2017), partly paired data.

    Examples
    --------
    >>> a = arm(np.array([300.0, 410, 350, 520]), np.full(4, 1000.0))
    >>> b = arm(np.array([380.0, 520, 460, 600]), np.full(4, 1000.0))
    >>> d = difference(a, b, shared=4)
    >>> low, high = d.limits(0.025)
    >>> print(f"{d.value:.3f} {low:.3f} {high:.3f} {d.p():.3f}")
    0.095 0.064 0.123 0.002
    """
    zero = np.zeros(np.shape(first.mean))
    if shared < LEAST_SHARED:
        return Difference((first,), (second,), zero, zero, zero + 1)
    x, y = first.fractions[..., :shared], second.fractions[..., :shared]
    both = np.isfinite(x) & np.isfinite(y)
    m = both.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = x - np.mean(x, axis=-1, where=both, keepdims=True)
        y = y - np.mean(y, axis=-1, where=both, keepdims=True)
        xy, xx, yy = (np.sum(u * v, axis=-1, where=both) for u, v in ((x, y), (x, x), (y, y)))
        r = xy / np.sqrt(xx * yy)
    usable = (m >= LEAST_SHARED) & np.isfinite(r)
    r = np.where(usable, np.clip(r, -1, 1), 0.0)
    n = [np.isfinite(a.fractions).sum(axis=-1) for a in (first, second)]
    var = [
        np.nanvar(a.fractions, axis=-1, ddof=1) / k for a, k in zip((first, second), n, strict=True)
    ]
    cov = r * np.sqrt(var[0] * var[1]) * m / np.sqrt(n[0] * n[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        welch = (var[0] + var[1]) ** 2 / (var[0] ** 2 / (n[0] - 1) + var[1] ** 2 / (n[1] - 1))
    welch = np.where(np.isfinite(welch), welch, n[0] + n[1] - 2)
    # paired where all are shared, Welch's where none is
    alone = n[0] + n[1] - 2 * m
    df = m - 1 + (welch - m + 1) * alone / (alone + 2 * m)
    counting2 = (first.counting + second.counting) * special.chdtri(df, 0.9) / df
    se = np.sqrt(np.maximum(var[0] + var[1] - 2 * cov, counting2))
    return Difference(
        first=(first,),
        second=(second,),
        correlation=np.asarray(r * m / np.sqrt(n[0] * n[1])),
        se=np.asarray(np.where(usable, se, 0.0)),
        df=np.asarray(np.where(usable, df, 1.0)),
    )
