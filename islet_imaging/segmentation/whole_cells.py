"""Whole cells that somebody else outlined: which nucleus is whose, and the cytoplasm of each.

The idea: a nucleus belongs to the cell that holds most of it, whatever the two are numbered; what
is left of the cell without its nucleus is the cytoplasm.  A cell with several nuclei is shared out
to the nearest of them, since every nucleus is called.
It fails where cells and nuclei are of two images or were drawn apart: nuclei then lie in no cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Labels


def cells_of_nuclei(nuclei: NDArray[Any], cells: NDArray[Any]) -> dict[int, int]:
    """The whole cell that each nucleus lies in.

    Parameters
    ----------
    nuclei, cells : ndarray of int, shape (Y, X)
        Label images, each with numbers of its own.

    Returns
    -------
    dict of int to int
        Label of the cell by label of the nucleus; a nucleus of which at least half lies in no cell
        is not in it.

    Examples
    --------
    >>> nuclei = np.array([[0, 1, 1, 0, 2, 2]])
    >>> cells_of_nuclei(nuclei, np.array([[7, 7, 7, 7, 0, 0]]))
    {1: 7}
    """
    at = nuclei > 0
    key = nuclei[at].astype(np.int64) << 32 | cells[at].astype(np.int64)
    pairs, counts = np.unique(key, return_counts=True)
    sizes = np.bincount(nuclei[at])
    found: dict[int, tuple[int, int]] = {}
    inside: dict[int, int] = {}
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        nucleus, cell = pair >> 32, pair & 0xFFFFFFFF
        if cell:
            inside[nucleus] = inside.get(nucleus, 0) + count
            if count > found.get(nucleus, (0, 0))[1]:
                found[nucleus] = cell, count
    return {n: cell for n, (cell, _) in found.items() if 2 * inside[n] > sizes[n]}


def whole_cells(nuclei: NDArray[Any], cells: NDArray[Any], home: Mapping[int, int]) -> Labels:
    """Every nucleus with the cytoplasm of its cell, under the nucleus's number.

    Parameters
    ----------
    nuclei, cells : ndarray of int, shape (Y, X)
        Label images.
    home : mapping of int to int
        From `cells_of_nuclei`.

    Returns
    -------
    ndarray of int32, shape (Y, X)
        As `grow_cells` gives it: the cytoplasm is where this is not 0 and ``nuclei`` is.

    Examples
    --------
    >>> nuclei, cells = np.array([[0, 1, 0, 2, 0]]), np.array([[9, 9, 9, 9, 0]])
    >>> whole_cells(nuclei, cells, {1: 9, 2: 9}).tolist()
    [[1, 1, 1, 2, 0]]
    """
    from scipy import ndimage as ndi

    out = nuclei.astype(np.int32)
    inside: dict[int, list[int]] = {}
    for nucleus, cell in home.items():
        inside.setdefault(cell, []).append(nucleus)
    top = int(cells.max(initial=0))
    owner = np.zeros(top + 1, np.int32)
    for cell, own in inside.items():
        if cell <= top and len(own) == 1:
            owner[cell] = own[0]
    free = (nuclei == 0) & (cells > 0)
    out[free] = owner[cells[free]]
    shared = [c for c, own in inside.items() if c <= top and len(own) > 1]
    boxes = ndi.find_objects(cells) if shared else []
    for cell in shared:
        box = boxes[cell - 1]
        if box is None:
            continue
        part = nuclei[box]
        seeds = np.where(np.isin(part, inside[cell]), part, 0)
        if not seeds.any():
            continue
        nearest = ndi.distance_transform_edt(
            seeds == 0, return_distances=False, return_indices=True
        )
        mine = (cells[box] == cell) & (part == 0)
        out[box][mine] = seeds[tuple(nearest)][mine]
    return out


def reach_px(cells: NDArray[Any]) -> int:
    """Length that no cell is longer than, px."""
    from scipy import ndimage as ndi

    boxes = [b for b in ndi.find_objects(cells) if b is not None]
    sides = [max(b[0].stop - b[0].start, b[1].stop - b[1].start) for b in boxes]
    return int(np.ceil(np.sqrt(2) * max(sides, default=0)))
