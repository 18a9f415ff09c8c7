"""Exact tests over batches, and what the smallest experiments can show at all.

The idea: if a condition did nothing at all, its label could be swapped without changing anything
but the label; counting the swaps that look as extreme gives a p value that needs no distribution,
and the number of swaps says how small p can ever get.  Three pairs cannot go below 0.25.
It fails to be exact where conditions differ in spread but not in mean; a studentised statistic
mends that with many batches and helps with few.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: permutations up to this number are all tried, beyond it this many are drawn
_MOST_PERMUTATIONS = 100_000


def holm(p: ArrayLike) -> Array:
    """Holm's step-down correction; NaN stays NaN and is not counted.

    References
    ----------
    Holm, Scand J Stat 6:65 (1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p, dtype=float)
    out = np.full(values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return out


def sign_flip_test(differences: ArrayLike) -> tuple[float, float]:
    """Exact two-sided sign-flip test of paired differences, and the smallest p it can give.

    Examples
    --------
    >>> sign_flip_test([0.3, 0.5, 0.2])
    (0.25, 0.25)
    """
    d = np.asarray(differences, dtype=float)
    n = len(d)
    if n == 0:
        return np.nan, np.nan
    if 2**n <= _MOST_PERMUTATIONS:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        drawn = np.random.default_rng(0).choice([-1.0, 1.0], (_MOST_PERMUTATIONS, n))
        signs = np.vstack([np.ones(n), drawn])
    return _share_as_extreme(signs @ d), 2.0 ** (1 - n)


def permutation_test(
    first: ArrayLike, second: ArrayLike, *, studentised: bool = False
) -> tuple[float, float]:
    """Exact two-sided permutation test of two means, and the smallest p it can give.

    Parameters
    ----------
    first, second : array_like, shape (n,)
        Values of the batches.
    studentised : bool
        Divide the difference by Welch's standard error.

    References
    ----------
    Janssen, Stat Probab Lett 36:9 (1997), studentised permutation under unequal variances.

    Examples
    --------
    >>> permutation_test([1, 2, 3], [4, 5, 6])
    (0.1, 0.1)
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(a) == 0 or len(b) == 0:
        return np.nan, np.nan
    both = np.concatenate([a, b])
    ways = math.comb(len(both), len(a))
    if ways <= _MOST_PERMUTATIONS:
        chosen = np.array(list(itertools.combinations(range(len(both)), len(a))))
    else:
        rng = np.random.default_rng(0)
        drawn = rng.permuted(np.tile(np.arange(len(both)), (_MOST_PERMUTATIONS, 1)), axis=1)
        chosen = np.vstack([np.arange(len(a)), drawn[:, : len(a)]])
    sums = both[chosen].sum(axis=1)
    statistic = sums / len(a) - (both.sum() - sums) / len(b)
    if studentised and min(len(a), len(b)) > 1:
        squares = (both[chosen] ** 2).sum(axis=1)
        parts = [
            np.maximum(q - s**2 / n, 0) / (n - 1) / n
            for q, s, n in (
                (squares, sums, len(a)),
                ((both**2).sum() - squares, both.sum() - sums, len(b)),
            )
        ]
        statistic = statistic / np.sqrt(np.maximum(parts[0] + parts[1], 1e-18))
    # with equal arms each split has a mirror image that is as extreme
    return _share_as_extreme(statistic), (2 if len(a) == len(b) else 1) / ways


def _share_as_extreme(statistic: Array) -> float:
    """Two-sided p: the first entry is the observed one; ties count, rounding apart."""
    size = np.abs(statistic)
    return float(np.mean(size >= size[0] * (1 - 1e-9) - 1e-15))
