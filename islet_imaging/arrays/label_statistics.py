"""Statistics of many small groups of pixels at once.

The idea: a pixel belongs to a group (a nucleus, a ring, a block of the image) given by a number
from 0; sums are counted in one pass, and for exact quantiles groups of about one size are the rows
of a table whose rows are sorted.  No loop over groups, no approximation.
It fails for values that are not finite, which must be dealt with before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float64


def ratio(numerator: NDArray[Any] | float, denominator: NDArray[Any]) -> Float64:
    """Quotient that is NaN, without a warning, where the denominator is not positive.

    Examples
    --------
    >>> ratio(np.array([1.0, 1.0]), np.array([2, 0])).tolist()
    [0.5, nan]
    """
    out = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0)
    return out


def _by_group(groups: NDArray[Any], n_groups: int) -> NDArray[np.intp]:
    """The order of groups, and within a group that of the pixels."""
    # numbers of 16 bits are sorted by counting, several times as fast
    return np.argsort(groups.astype(np.uint16) if n_groups <= 2**16 else groups, kind="stable")


class Groups:
    """Pixels sorted by group, and within a group row by row.

    Parameters
    ----------
    at : ndarray of int, shape (N,)
        Flat places of the pixels in the image, ascending.
    group : ndarray of int, shape (N,)
        Group of each, 0 to ``n_groups - 1``.
    n_groups : int
        Number of groups.

    Attributes
    ----------
    at, group : ndarray, shape (N,)
        The same, sorted by group.
    counts : ndarray of int, shape (n_groups,)
        Pixels of each group.

    Examples
    --------
    >>> groups = Groups(np.array([3, 4, 9]), np.array([1, 0, 1]), 3)
    >>> groups.at.tolist(), groups.sums(np.array([10.0, 1.0, 2.0])).tolist()
    ([4, 3, 9], [10.0, 3.0, 0.0])
    """

    def __init__(self, at: NDArray[Any], group: NDArray[Any], n_groups: int) -> None:
        self.at = np.take(at, _by_group(group, n_groups))
        self.counts = np.bincount(group, minlength=n_groups)
        self.group = np.repeat(np.arange(n_groups, dtype=np.intp), self.counts)
        self._full = np.flatnonzero(self.counts)
        self._start = (np.cumsum(self.counts) - self.counts)[self._full]

    def sums(self, values: NDArray[np.float64]) -> Float64:
        """Sum of each group, of one float64 value per sorted pixel.

        The order of additions depends on the group alone, so that tiles agree to the last bit.
        """
        out = np.zeros(len(self.counts))
        if len(self._full):
            out[self._full] = np.add.reduceat(values, self._start)
        return out

    def means(self, values: NDArray[np.float64]) -> Float64:
        """Mean of each group; NaN for a group without pixels."""
        return ratio(self.sums(values), self.counts)

    def spread(self, per_group: NDArray[Any]) -> NDArray[Any]:
        """A value of each group at every one of its pixels."""
        return np.repeat(per_group, self.counts)

    def mean_and_texture(self, values: NDArray[np.float64]) -> tuple[Float64, Float64]:
        """Mean, and standard deviation over mean, of each group."""
        mean = self.means(values)
        away = values - self.spread(mean)
        away *= away
        return mean, ratio(np.sqrt(self.means(away)), mean)


def group_quantiles(
    values: NDArray[np.float32], groups: NDArray[Any], n_groups: int, quantiles: Sequence[float]
) -> Float64:
    """Exact quantiles of each group, with linear interpolation as ``numpy.quantile`` does.

    Parameters
    ----------
    values : ndarray of float32, shape (N,)
        Finite values.
    groups : ndarray of int, shape (N,)
        Group of each value, 0 to ``n_groups - 1``.
    n_groups : int
        Number of groups.
    quantiles : sequence of float
        Each from 0 to 1.

    Returns
    -------
    ndarray of float64, shape (len(quantiles), n_groups)
        NaN for a group without values.

    Examples
    --------
    >>> group_quantiles(np.float32([1, 5, 3]), np.array([0, 2, 0]), 3, [0.5]).tolist()
    [[2.0, nan, 5.0]]
    """
    counts = np.bincount(groups, minlength=n_groups)
    out = np.full((len(quantiles), n_groups), np.nan)
    values = np.asarray(values, np.float32)
    if (groups[1:] < groups[:-1]).any():
        values = values[_by_group(groups, n_groups)]
    start = np.cumsum(counts) - counts
    # rows are filled up with infinity: at most to twice what there is
    size = np.frexp(counts)[1]
    for one in np.unique(size[counts > 0]):
        own = np.flatnonzero(size == one)
        n, most = counts[own], int(counts[own].max())
        column = np.arange(most)
        table = np.take(values, start[own, None] + column, mode="clip")
        table[column >= n[:, None]] = np.inf
        table.sort(axis=1)
        for row, q in enumerate(quantiles):
            out[row, own] = _of_sorted(table, n, q)
    return out


def _of_sorted(rows: NDArray[Any], counts: NDArray[Any], quantile: float) -> Float64:
    """Quantile of the first ``counts`` values of each sorted row, as ``numpy.quantile`` does."""
    last = np.maximum(counts - 1, 0)
    place = quantile * last
    low = np.floor(place).astype(np.intp)
    each = np.arange(len(rows))
    below, above = (rows[each, k].astype(np.float64) for k in (low, np.minimum(low + 1, last)))
    return np.asarray(below + (above - below) * (place - low))


def low_of_each(values: Float64, quantile: float) -> Float64:
    """Quantile of each row of a small table, of the values that are not NaN.

    Examples
    --------
    >>> low_of_each(np.array([[3.0, 1.0, np.nan], [np.nan] * 3]), 0.25).tolist()
    [1.5, nan]
    """
    ordered = np.sort(values, axis=1)
    return _of_sorted(ordered, np.isfinite(ordered).sum(axis=1), quantile)


def octants(dy: NDArray[Any], dx: NDArray[Any]) -> NDArray[np.uint8]:
    """Which of 8 equal sectors a direction lies in; the numbers have no order.

    Examples
    --------
    >>> len(set(octants(np.array([1, 2, 2, 1, -1, -2, -2, -1]),
    ...                 np.array([2, 1, -1, -2, -2, -1, 1, 2])).tolist()))
    8
    """
    code = (dy >= 0).astype(np.uint8)
    code += np.uint8(2) * (dx >= 0)
    code += np.uint8(4) * (np.abs(dy) > np.abs(dx))
    return code


def hull_areas(
    y: NDArray[Any], x: NDArray[Any], groups: NDArray[Any], n_groups: int, n_directions: int = 24
) -> Float64:
    """Area of the convex hull of each group of pixels, px^2.

    Parameters
    ----------
    y, x : ndarray of int, shape (N,)
        Pixels; those at the ends of rows are enough.  Best relative to the group's centre.
    groups : ndarray of int, shape (N,)
        Group of each pixel.
    n_groups : int
        Number of groups.
    n_directions : int
        The hull is taken as the polygon of that many tangents, spread evenly, and reduced by what
        such a polygon is larger than a circle (0.6 % for 24).

    Returns
    -------
    ndarray of float64, shape (n_groups,)
        0 for a group without pixels.

    Examples
    --------
    >>> yy, xx = np.nonzero(np.hypot(*np.mgrid[-20:21, -20:21]) <= 20)
    >>> area = hull_areas(yy - 20, xx - 20, np.zeros(len(yy), int), 1)[0]
    >>> bool(abs(area / len(yy) - 1) < 0.04)
    True
    """
    area = np.zeros(n_groups)
    if len(groups) == 0:
        return area
    order = np.argsort(groups, kind="stable")
    y, x, groups = y[order].astype(np.float32), x[order].astype(np.float32), groups[order]
    start = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    angle = 2 * np.pi / n_directions
    support = np.empty((n_directions, len(start)))
    for k in range(n_directions):
        c, s = np.cos(k * angle), np.sin(k * angle)
        # a pixel counts with the middles of its four edges, as in scikit-image
        corner = 0.5 * max(abs(c), abs(s))
        reach = x * np.float32(c) + y * np.float32(s)
        support[k] = np.maximum.reduceat(reach, start) + corner
    side = np.roll(support, 1, 0) + np.roll(support, -1, 0) - 2 * np.cos(angle) * support
    polygon = 0.5 * (support * side).sum(0) / np.sin(angle)
    area[groups[start]] = polygon * np.pi / (n_directions * np.tan(np.pi / n_directions))
    return area
