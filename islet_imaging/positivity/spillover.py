"""Light that a cell owes to its neighbours, near and far.

The idea: in a section thicker than a cell, or behind soft optics, the ring round a negative nucleus
among positive cells is not dark, and no secondary-only control shows it, because a control has no
positive neighbours.  Each level is taken as

    level_i = own_i + sum_j (near * exp(-(d_ij / 7 um)^2) + far * exp(-d_ij / 15 um)) * own_j

with d the distance between nuclei: the first term for cells that touch or overlap, the second for
haze and secreted marker.  `own` is solved for on a sparse graph, never feeding negative light back.
`near` and `far` are two numbers of a staining run and marker, fitted without knowing which cells
are positive: clearly bright cells give light, the others show what arrives.
It fails where every cell is positive (nobody shows what arrives; the numbers are bounded), and for
light from cells whose nucleus is outside the section.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float64

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix


NEAR_UM = 7.0
FAR_UM = 15.0
REACH_UM = 36.0
#: what the median nearest neighbour is taken for where a table has no micrometres
SPACING_UM = 8.5
#: bounds of the two shares
MOST = (0.3, 0.08)
#: cells above this many scales of the negatives may be positive
BRIGHT = 8.0
#: a cell below this share of the positive level does not count among the positives
SHARE = 0.15


@dataclass(frozen=True)
class Neighbourhood:
    """Kernels of distance between all cells of a table, image by image."""

    near: csr_matrix
    far: csr_matrix

    def light(self, own: Float64, spill: tuple[float, float]) -> Float64:
        """Light that arrives at each cell, shape (n,)."""
        total: Float64 = np.zeros(own.size)
        if spill[0] > 0:
            total = total + spill[0] * (self.near @ own)
        if spill[1] > 0:
            total = total + spill[1] * (self.far @ own)
        return total


def positions_um(cells: pd.DataFrame) -> Float64:
    """Centroids in um; without a pixel size scaled so that their spacing is typical.

    Parameters
    ----------
    cells : DataFrame
        Of one image, with ``y_um, x_um`` or, where those are NaN, ``y_px, x_px``.

    Returns
    -------
    ndarray of float64, shape (n, 2)
    """
    from scipy.spatial import cKDTree

    where = cells[["y_um", "x_um"]].to_numpy(dtype=np.float64)
    if np.isfinite(where).all():
        return where
    where = cells[["y_px", "x_px"]].to_numpy(dtype=np.float64)
    if len(where) < 2:
        return where
    spacing = float(np.median(cKDTree(where).query(where, k=2)[0][:, 1]))
    out: Float64 = where * (SPACING_UM / max(spacing, 1e-9))
    return out


def neighbourhood(cells: pd.DataFrame) -> Neighbourhood:
    """Kernels of the distance between nuclei, up to 36 um, zero between images.

    Parameters
    ----------
    cells : DataFrame
        Cells of one or several images (column ``image``).

    Returns
    -------
    Neighbourhood
    """
    import pandas as pd

    n = len(cells)
    codes = np.zeros(n, dtype=np.int64)
    if "image" in cells.columns and n:
        codes = pd.factorize(cells["image"].to_numpy())[0]
    order = np.argsort(codes, kind="stable")
    # a staining run may hold a million cells, each with dozens of neighbours: image by image
    parts: tuple[list[csr_matrix], list[csr_matrix]] = ([], [])
    for members in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        for graphs, graph in zip(parts, _graphs(positions_um(cells.iloc[members])), strict=True):
            graphs.append(graph)
    near, far = (_block_diagonal(graphs) for graphs in parts)
    if (order[1:] < order[:-1]).any():
        back = np.argsort(order)
        near, far = (graph[back][:, back] for graph in (near, far))
        near.sort_indices()
        far.sort_indices()
    return Neighbourhood(near, far)


def _graphs(where: Float64) -> tuple[csr_matrix, csr_matrix]:
    """Both kernels between the cells of one image."""
    from scipy.sparse import csr_matrix
    from scipy.spatial import cKDTree

    n = len(where)
    pairs = np.empty((0, 2), np.intp)
    if n > 1:
        pairs = cKDTree(where).query_pairs(REACH_UM, output_type="ndarray")
    gap = where[pairs[:, 0]] - where[pairs[:, 1]]
    d = np.hypot(gap[:, 0], gap[:, 1])

    def graph(weight: Float64, keep: NDArray[np.bool_]) -> csr_matrix:
        half = csr_matrix((weight[keep], (pairs[keep, 0], pairs[keep, 1])), shape=(n, n))
        return (half + half.T).tocsr()

    near = graph(np.exp(-((d / NEAR_UM) ** 2)), d < 2.5 * NEAR_UM)
    return near, graph(np.exp(-d / FAR_UM), np.ones(d.size, dtype=bool))


def _block_diagonal(graphs: list[csr_matrix]) -> csr_matrix:
    """The graphs of all images as one, with nothing between them; the list is emptied.

    `scipy.sparse.block_diag` goes by way of coordinates, at twice the memory.
    """
    from scipy.sparse import csr_matrix

    size = np.array([g.shape[0] for g in graphs])
    filled = np.array([g.nnz for g in graphs])
    kind = np.int32 if max(size.sum(), filled.sum()) < 2**31 else np.int64
    column, place = np.cumsum(size) - size, np.cumsum(filled) - filled
    ends = [g.indptr[1:].astype(kind) + kind(p) for g, p in zip(graphs, place, strict=True)]
    indices = [g.indices + kind(c) for g, c in zip(graphs, column, strict=True)]
    data = [g.data for g in graphs]
    # each kind of number is there twice for a moment, not all of them
    graphs.clear()
    joined = []
    for some in (data, indices, [np.zeros(1, kind), *ends]):
        joined.append(np.concatenate(some))
        some.clear()
    return csr_matrix(tuple(joined), shape=(size.sum(), size.sum()))


def own_level(above: Float64, around: Neighbourhood, spill: tuple[float, float]) -> Float64:
    """Level of each cell without its neighbours' light.

    Parameters
    ----------
    above : ndarray, shape (n,)
        Levels above that of a cell without stain; NaN stays NaN and gives no light.
    around : Neighbourhood
        Of the same cells.
    spill : (near, far)
        Shares of a neighbour's light.

    Returns
    -------
    ndarray of float64, shape (n,)
        May be negative, by noise or because too much was taken away.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> pair = csr_matrix([[0.0, 1.0], [1.0, 0.0]])
    >>> own_level(np.array([100.0, 10.0]), Neighbourhood(pair, 0 * pair), (0.1, 0.0)).round(1)
    array([100.,   0.])
    """
    if spill[0] <= 0 and spill[1] <= 0:
        return above.copy()
    finite = np.where(np.isfinite(above), above, 0.0)
    own: Float64 = np.maximum(finite, 0)
    tolerance = 1e-3 * max(float(own.max(initial=0.0)), 1e-12)
    for _ in range(20):
        # damped: the plain iteration swings between two states in dense clusters
        new = 0.5 * own + 0.5 * np.maximum(finite - around.light(own, spill), 0)
        change = float(np.abs(new - own).max(initial=0.0))
        own = new
        if change < tolerance:
            break
    result: Float64 = above - around.light(own, spill)
    return result


def positive_level(own: Float64, scale: float) -> float | None:
    """Level of the clearly positive cells, or None if there are hardly any.

    The median weighted by light: half of the bright cells' light comes from cells above it.  A tail
    of many slightly lit negatives moves a plain median, and hardly this one.

    Parameters
    ----------
    own : ndarray, shape (n,)
        Own levels above zero.
    scale : float
        Spread of negative cells.

    Returns
    -------
    float or None
        None with fewer than 8 cells or 0.3 % above 8 scales.

    Examples
    --------
    >>> positive_level(np.array([0.1] * 90 + [50.0] * 10), 1.0)
    50.0
    """
    own = own[np.isfinite(own)]
    bright = own > BRIGHT * scale
    level = None
    for _ in range(4):
        if bright.sum() < max(8, 0.003 * own.size):
            return None
        lit = np.sort(own[bright])
        light = np.cumsum(lit)
        level = float(lit[np.searchsorted(light, 0.5 * light[-1])])
        bright = own > max(5 * scale, SHARE * level)
    return level


def estimate_spill(above: Float64, around: Neighbourhood, scale: float) -> tuple[float, float]:
    """The two shares of one staining run and marker.

    Parameters
    ----------
    above : ndarray, shape (n,)
        Levels above that of a cell without stain, of all cells, excluded ones too: they give light.
    around : Neighbourhood
        Of the same cells.
    scale : float
        Spread of cells without stain.

    Returns
    -------
    near, far : float
        At most 0.3 and 0.08; zero where no cell is bright.

    Notes
    -----
    Alternates between solving for own levels and a non-negative, outlier-deaf regression of the
    dark cells' levels on the light around them.
    """
    from scipy.optimize import nnls

    spill = (0.0, 0.0)
    finite = np.isfinite(above)
    level = np.where(finite, above, 0.0)
    for step in range(6):
        own = own_level(level, around, spill)
        bright = positive_level(own[finite], scale)
        if bright is None:
            return (0.0, 0.0)
        # at first lit negatives may be brighter than dim positives; later the cut comes down
        dark = own < max((0.35 if step < 3 else 0.2) * bright, 4 * scale)
        seen = dark & finite
        if seen.sum() < 20:
            return spill
        source = np.where(dark, 0.0, np.maximum(own, 0))
        columns = np.column_stack(
            [around.near @ source, around.far @ source, np.full(source.size, scale)]
        )[seen]
        target = level[seen]
        weight = np.ones(target.size)
        fitted = np.zeros(3)
        for _ in range(4):
            fitted, _ = nnls(columns * weight[:, None], np.maximum(target, 0) * weight)
            rest = target - columns @ fitted
            width = 1.5 * float(np.median(np.abs(rest))) + scale
            # dim positives stand above the line and must not lift it
            weight = np.where(rest > 0, np.sqrt(1 / np.maximum(1, np.abs(rest) / width)), 1.0)
        spill = (
            0.3 * spill[0] + 0.7 * min(float(fitted[0]), MOST[0]),
            0.3 * spill[1] + 0.7 * min(float(fitted[1]), MOST[1]),
        )
    return spill
