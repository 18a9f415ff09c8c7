"""Light that a cell's ring owes to its neighbours.

The idea: in a section thicker than a cell, or behind soft optics, the ring round a negative nucleus
next to a positive cell is not dark, and no secondary-only control shows it because a control has no
positive neighbours.  Each cell's level is taken as ``level = own + spill * sum_j K(d_ij) * own_j``
with a kernel K of the distance between nuclei; ``own`` is solved for by fixed-point iteration on a
sparse graph, never below the zero level.  ``spill`` is one number per staining run and marker, read
from the lower envelope of level against exposure: the darkest cells among bright neighbours.
It fails where every cell of every image is positive (no dark cells to read the spill from; it is
then held to a small, bounded value) and for light from cells whose nucleus is outside the section.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]

#: width of the kernel and its reach, um
KERNEL_UM = 6.0
REACH_UM = 18.0
#: what the median nearest neighbour is taken for where a table has no micrometres
SPACING_UM = 8.5
MAX_SPILL = 0.25
#: the darkest share of exposed cells that spill is read from
ENVELOPE = 0.1


def positions_um(cells: pd.DataFrame) -> Floats:
    """Centroids in um, shape (n, 2); without a pixel size scaled so that spacing is typical.

    Parameters
    ----------
    cells : DataFrame
        With ``y_um, x_um`` or, where those are NaN, ``y_px, x_px``.

    Returns
    -------
    ndarray of float64, shape (n, 2)
    """
    from scipy.spatial import cKDTree

    where = cells[["y_um", "x_um"]].to_numpy(dtype=np.float64)
    if where.size == 0 or np.isfinite(where).all():
        return where
    where = cells[["y_px", "x_px"]].to_numpy(dtype=np.float64)
    if len(where) < 2:
        return where
    spacing = float(np.median(cKDTree(where).query(where, k=2)[0][:, 1]))
    out: Floats = where * (SPACING_UM / max(spacing, 1e-9))
    return out


def neighbour_graph(cells: pd.DataFrame) -> csr_matrix:
    """Kernel of the distance between nuclei of the same image.

    Parameters
    ----------
    cells : DataFrame
        Cells of one or several images.

    Returns
    -------
    scipy.sparse.csr_matrix, shape (n, n)
        ``exp(-(d / 6 um)^2 / 2)`` up to 18 um, zero diagonal.
    """
    from scipy.sparse import coo_matrix, csr_matrix
    from scipy.spatial import cKDTree

    n = len(cells)
    if "image" in cells.columns:
        _, codes = np.unique(cells["image"].to_numpy().astype(str), return_inverse=True)
    else:
        codes = np.zeros(n, dtype=np.int64)
    rows: list[NDArray[np.int64]] = []
    cols: list[NDArray[np.int64]] = []
    data: list[Floats] = []
    order = np.argsort(codes, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        if members.size < 2:
            continue
        where = positions_um(cells.iloc[members])
        pairs = cKDTree(where).query_pairs(REACH_UM, output_type="ndarray")
        d = np.linalg.norm(where[pairs[:, 0]] - where[pairs[:, 1]], axis=1)
        w = np.exp(-0.5 * (d / KERNEL_UM) ** 2)
        a, b = members[pairs[:, 0]], members[pairs[:, 1]]
        rows += [a, b]
        cols += [b, a]
        data += [w, w]
    if not rows:
        return csr_matrix((n, n))
    graph = coo_matrix(
        (np.concatenate(data), (np.concatenate(rows), np.concatenate(cols))), shape=(n, n)
    )
    return graph.tocsr()


def own_level(level: Floats, graph: csr_matrix, *, zero: float, spill: float) -> Floats:
    """Level of each cell without its neighbours' light.

    Parameters
    ----------
    level : ndarray, shape (n,)
        Measured levels; NaN stays NaN and gives no light.
    graph : sparse matrix, shape (n, n)
        From :func:`neighbour_graph`.
    zero : float
        Level of a cell without stain; only light above it spills.
    spill : float
        Share of a neighbour's light at kernel 1.

    Returns
    -------
    ndarray of float64, shape (n,)
        In units of ``level``; a cell without exposure keeps its level exactly.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> pair = csr_matrix([[0.0, 1.0], [1.0, 0.0]])
    >>> own_level(np.array([110.0, 20.0]), pair, zero=10.0, spill=0.1).round(1)
    array([110.,  10.])
    """
    above = np.where(np.isfinite(level), level - zero, 0.0)
    own = np.maximum(above, 0)
    for _ in range(30):
        # damped: the plain iteration swings between two states in dense clusters
        new = 0.5 * own + 0.5 * np.maximum(above - spill * (graph @ own), 0)
        change = float(np.abs(new - own).max(initial=0.0))
        own = new
        if change < 1e-4 * max(float(own.max(initial=0.0)), 1e-9):
            break
    return np.asarray(level - spill * (graph @ own), dtype=np.float64)


def estimate_spill(level: Floats, graph: csr_matrix, *, zero: float, noise: float) -> float:
    """Spill of one staining run, from its darkest cells among bright neighbours.

    Parameters
    ----------
    level : ndarray, shape (n,)
        Measured levels of all cells, excluded ones too: they give light.
    graph : sparse matrix, shape (n, n)
        From :func:`neighbour_graph`.
    zero, noise : float
        Level and spread of cells without stain.

    Returns
    -------
    float
        Between 0 and 0.25; 0 where no cell is exposed.
    """
    finite = np.isfinite(level)
    spill = 0.0
    for _ in range(4):
        own = np.maximum(own_level(level, graph, zero=zero, spill=spill) - zero, 0)
        exposure = graph @ np.where(finite, own, 0.0)
        # exposed: the neighbours' light could matter at a spill of a few per cent
        exposed = finite & (exposure > 20 * noise)
        if exposed.sum() < 30:
            return 0.0
        ratio = (level[exposed] - zero) / exposure[exposed]
        new = float(np.clip(np.quantile(ratio, ENVELOPE), 0, MAX_SPILL))
        if abs(new - spill) < 1e-3:
            break
        spill = new
    return spill
