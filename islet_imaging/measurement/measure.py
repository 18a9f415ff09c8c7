"""Measurement: one row of numbers per nucleus, for all cells of an image at once.

The idea: every pixel of a nucleus or a ring is looked at once; sums are counted, exact ring
quantiles come from one sort per channel, neighbours from the borders that cells share.  Low ring
quantiles and the weakest sectors are what spill-over from a neighbour cannot fake.
It fails silently on bad labels: a merged pair of nuclei is one row with the mean of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import side_by_side
from islet_imaging.arrays.label_statistics import ratio
from islet_imaging.errors import ChannelError
from islet_imaging.measurement.background import BLOCK_UM, OutsideGrid, background_halo_px
from islet_imaging.measurement.pixel_features import pixel_features

if TYPE_CHECKING:
    import pandas as pd

#: columns of every cell, in order; a marker's columns follow
CELL_COLUMNS = (
    "islet",
    "cell",
    "y_px",
    "x_px",
    "y_um",
    "x_um",
    "nucleus_area_um2",
    "dna_mean",
    "dna_integrated",
    "dna_texture",
    "nucleus_eccentricity",
    "nucleus_solidity",
    "touches_border",
    "neighbours",
    "nearest_um",
)
MARKER_FEATURES = (
    "nucleus_mean",
    "ring_mean",
    "ring_median",
    "ring_p10",
    "ring_p25",
    "ring_p75",
    "sector_p25",
    "sector_blend",
    "background",
    "neighbour_mean",
    "neighbour_max",
    "saturated",
    "texture",
)
#: edge of a block of the local background where the pixel size is unknown, px
BLOCK_PX = 60


class NeighbourPairs(NamedTuple):
    """Pairs of cells that touch.

    Attributes
    ----------
    cell_a, cell_b : ndarray of int32, shape (P,)
        Labels, ``cell_a < cell_b``, sorted.
    shared_border_px : ndarray of int64, shape (P,)
        Number of pixel edges between the two.
    """

    cell_a: NDArray[np.int32]
    cell_b: NDArray[np.int32]
    shared_border_px: NDArray[np.int64]


def neighbour_pairs(
    cells: NDArray[Any], *, begin_in: tuple[slice, slice] | None = None
) -> NeighbourPairs:
    """Cells that touch each other, with the length of the border they share.

    Parameters
    ----------
    cells : ndarray of int, shape (Y, X)
        Label image of grown cells, 0 is background.
    begin_in : pair of slice, optional
        Count only pixel edges whose upper or left pixel lies in this region, so that regions that
        share an image count each edge once.

    Returns
    -------
    NeighbourPairs

    Examples
    --------
    >>> pairs = neighbour_pairs(np.array([[1, 1, 2], [1, 3, 2]]))
    >>> pairs.cell_a.tolist(), pairs.cell_b.tolist(), pairs.shared_border_px.tolist()
    ([1, 1, 2], [2, 3, 3], [1, 2, 1])
    """
    labels = np.asarray(cells)
    rows, columns = begin_in or (slice(0, labels.shape[0]), slice(0, labels.shape[1]))
    here = labels[rows, columns]
    right = labels[rows, columns.start + 1 : columns.stop + 1]
    below = labels[rows.start + 1 : rows.stop + 1, columns]
    keys = []
    for one, two in ((here[:, : right.shape[1]], right), (here[: below.shape[0]], below)):
        border = one != two
        a, b = one[border].astype(np.int64), two[border].astype(np.int64)
        touch = (a > 0) & (b > 0)
        a, b = a[touch], b[touch]
        keys.append((np.minimum(a, b) << 32) | np.maximum(a, b))
    key, shared = np.unique(np.concatenate(keys), return_counts=True)
    return NeighbourPairs(
        (key >> 32).astype(np.int32), (key & 0xFFFFFFFF).astype(np.int32), shared.astype(np.int64)
    )


def measure_cells(
    nuclei: NDArray[Any],
    cells: NDArray[Any],
    channels: Mapping[str, NDArray[Any]],
    *,
    dna: str,
    pixel_size_um: float | None,
    islets: NDArray[Any] | None = None,
    compartments: Mapping[str, str] | None = None,
    saturation: float | Mapping[str, float] | None = None,
    origin_px: tuple[int, int] = (0, 0),
    image_shape_px: tuple[int, int] | None = None,
    pairs: NeighbourPairs | None = None,
    threads: int = 2,
) -> pd.DataFrame:
    """Measure every nucleus and its ring in every channel.

    Parameters
    ----------
    nuclei, cells : ndarray of int, shape (Y, X)
        Label images of :func:`segment_nuclei` and :func:`grow_cells`; labels need not be
        consecutive.  The ring is where ``cells`` is set and ``nuclei`` is not.
    channels : mapping of str to ndarray, shape (Y, X)
        Pixels by channel name, finite; all but ``dna`` are measured as markers, in this order.
    dna : str
        Name of the DNA channel.
    pixel_size_um : float or None
        Edge of a pixel, um; without it the ``_um`` and ``_um2`` columns are NaN.
    islets : ndarray of int, shape (Y, X), optional
        Label image of islets; without it every ``islet`` is 0.
    compartments : mapping of str to {"cytoplasm", "nucleus"}, optional
        Where a marker is expressed; default cytoplasm.  Neighbours' levels and the texture are
        taken there.
    saturation : float or mapping of str to float, optional
        Value from which a pixel is saturated; default the largest of an integer type, and
        unknown (NaN) for floats.
    origin_px, image_shape_px : tuple of int, optional
        For a tile: where it lies, and the size of the whole image.  Rows of cells at least
        :func:`measure_halo_px` away from cut edges are those of the whole image, ``nearest_um``
        and a background taken from afar aside: see :func:`finish_cells`.
    pairs : NeighbourPairs, optional
        :func:`neighbour_pairs` of ``cells``, where they are known already.
    threads : int
        Parts of the image, and channels, measured at the same time; changes nothing but the time.

    Returns
    -------
    pandas.DataFrame
        One row per nucleus, sorted by label: `CELL_COLUMNS`, then for each marker M
        ``M_nucleus_mean``, ``M_ring_mean``, ``M_ring_median``, ``M_ring_p10``, ``M_ring_p25``,
        ``M_ring_p75``; ``M_sector_p25``, the 25th percentile of the ring's means in 8 sectors;
        ``M_sector_blend``, the mean of that and of all 8, which keeps product that lies on one
        side or in a few granules;
        ``M_background``, :mod:`islet_imaging.measurement.background`; ``M_neighbour_mean``
        (weighted by shared border) and ``M_neighbour_max``, the ring medians (nuclear means of a
        nuclear marker) of cells that touch; ``M_saturated``, the fraction of the cell's pixels;
        ``M_texture``, standard deviation over mean in the ring (in the nucleus of a nuclear
        marker).  ``dna_integrated`` is the sum over the nucleus above the local background.
        What has no pixels or no neighbour is NaN.

    Raises
    ------
    ChannelError
        If ``dna`` is not among the channels or shapes differ.

    Examples
    --------
    >>> nuclei = np.zeros((12, 12), np.int32)
    >>> nuclei[5:7, 5:7] = 4
    >>> cells = np.zeros_like(nuclei)
    >>> cells[4:8, 4:8] = 4
    >>> images = {"DAPI": nuclei * 10.0, "INS": cells * 1.0}
    >>> table = measure_cells(nuclei, cells, images, dna="DAPI", pixel_size_um=0.5)
    >>> table[["cell", "y_um", "nucleus_area_um2", "INS_ring_p25"]].iloc[0].tolist()
    [4.0, 2.75, 1.0, 4.0]
    """
    import pandas as pd

    nuclei, cells = np.asarray(nuclei), np.asarray(cells)
    _check(nuclei, cells, channels, dna, islets)
    markers = [name for name in channels if name != dna]
    where = dict(compartments or {})
    size = np.nan if pixel_size_um is None else float(pixel_size_um)
    block_px = BLOCK_PX if pixel_size_um is None else max(4, round(BLOCK_UM / pixel_size_um))

    found = pixel_features(
        nuclei,
        cells,
        channels,
        dna=dna,
        nuclear=frozenset(m for m in markers if where.get(m) == "nucleus"),
        saturation={m: _saturation(saturation, m, channels) for m in markers},
        origin_px=origin_px,
        image_shape_px=image_shape_px or (nuclei.shape[0], nuclei.shape[1]),
        threads=threads,
    )
    y, x, n = found["y_px"], found["x_px"], len(found["cell"])
    grid = OutsideGrid(cells > 0, block_px, origin_px)
    names = [dna, *markers]
    levels = side_by_side(lambda name: grid.at(channels[name], y, x), names, threads)
    background = dict(zip(names, levels, strict=True))
    found["islet"] = _islet_of(islets, y, x, origin_px)
    found["y_um"], found["x_um"] = y * size, x * size
    found["nucleus_area_um2"] = found["pixels"] * size**2
    under = background[dna]
    above = found["dna_mean"] - np.where(np.isfinite(under), under, 0.0)
    found["dna_integrated"] = above * found["pixels"]
    one, two, border = _touching(neighbour_pairs(cells) if pairs is None else pairs, found["cell"])
    found["neighbours"] = np.bincount(one, minlength=n)
    found["nearest_um"] = np.full(n, np.nan)
    columns = list(CELL_COLUMNS)
    for marker in markers:
        columns += [f"{marker}_{name}" for name in MARKER_FEATURES]
        found[f"{marker}_background"] = background[marker]
        level = "nucleus_mean" if where.get(marker) == "nucleus" else "ring_median"
        mean, highest = _neighbour_levels(found[f"{marker}_{level}"], one, two, border)
        found[f"{marker}_neighbour_mean"], found[f"{marker}_neighbour_max"] = mean, highest
    frame = pd.DataFrame({name: found[name] for name in columns})
    return frame if image_shape_px is not None else finish_cells(frame, pixel_size_um=pixel_size_um)


def measure_halo_px(pixel_size_um: float | None, *, reach_um: float = 30.0) -> int:
    """Overlap that a tile needs so that its own cells measure as in the whole image, px.

    Parameters
    ----------
    pixel_size_um : float or None
        Edge of a pixel, um.
    reach_um : float
        From a cell's centre to the far edge of a cell that touches it, at most, um.

    Returns
    -------
    int
        Distance between a cell's centre and a cut edge from which on nothing changes.

    Examples
    --------
    >>> measure_halo_px(0.5)
    221
    """
    if pixel_size_um is None:
        return background_halo_px(BLOCK_PX) + 2 * BLOCK_PX
    block_px = max(4, round(BLOCK_UM / pixel_size_um))
    return background_halo_px(block_px) + int(np.ceil(reach_um / pixel_size_um)) + 1


def finish_cells(cells: pd.DataFrame, *, pixel_size_um: float | None) -> pd.DataFrame:
    """Fill in what only the whole image knows, after tables of tiles were put together.

    Parameters
    ----------
    cells : pandas.DataFrame
        Rows of :func:`measure_cells`, of all tiles of one image.
    pixel_size_um : float or None
        Edge of a pixel, um.

    Returns
    -------
    pandas.DataFrame
        Sorted by label, with the distance to the nearest nucleus, and with the lowest local
        background of the image where none was near.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"cell": [2, 1], "y_px": [0.0, 3.0], "x_px": [0.0, 4.0],
    ...                      "INS_background": [np.nan, 8.0]})
    >>> finish_cells(rows, pixel_size_um=2.0)[["nearest_um", "INS_background"]].values.tolist()
    [[10.0, 8.0], [10.0, 8.0]]
    """
    out = cells.sort_values("cell", kind="stable", ignore_index=True)
    size = np.nan if pixel_size_um is None else float(pixel_size_um)
    out["nearest_um"] = nearest_distance(out["y_px"].to_numpy(), out["x_px"].to_numpy()) * size
    for column in out.columns:
        if column.endswith("_background") and out[column].notna().any():
            out[column] = out[column].fillna(out[column].min())
    return out


def nearest_distance(y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float64]:
    """Distance of each point to the nearest other one; NaN where there is no other.

    Examples
    --------
    >>> nearest_distance(np.array([0, 0, 9]), np.array([0, 4, 0])).tolist()
    [4.0, 4.0, 9.0]
    """
    from scipy.spatial import cKDTree

    if len(y) < 2:
        return np.full(len(y), np.nan)
    points = np.column_stack([y, x]).astype(np.float64)
    distance, _ = cKDTree(points).query(points, k=2)
    return np.asarray(distance[:, 1])


def _check(
    nuclei: NDArray[Any],
    cells: NDArray[Any],
    channels: Mapping[str, NDArray[Any]],
    dna: str,
    islets: NDArray[Any] | None,
) -> None:
    if dna not in channels:
        raise ChannelError(f"measure_cells: no DNA channel {dna!r} among {list(channels)}")
    shapes = {"nuclei": nuclei.shape, "cells": cells.shape}
    shapes |= {name: np.shape(pixels) for name, pixels in channels.items()}
    if islets is not None:
        shapes["islets"] = np.shape(islets)
    if len(set(shapes.values())) > 1 or nuclei.ndim != 2:
        raise ChannelError(f"measure_cells: images must have one shape (Y, X), not {shapes}")


def _saturation(
    stated: float | Mapping[str, float] | None, name: str, channels: Mapping[str, NDArray[Any]]
) -> float | None:
    value = stated.get(name) if isinstance(stated, Mapping) else stated
    dtype = np.asarray(channels[name]).dtype
    if value is None and np.issubdtype(dtype, np.integer):
        return float(np.iinfo(dtype).max)
    return None if value is None else float(value)


def _touching(
    pairs: NeighbourPairs, names: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rows of the table that touch, each pair from either side, and the border they share."""
    row = np.full(int(max(pairs.cell_b.max(initial=0), names.max(initial=0))) + 1, -1, np.int64)
    row[names] = np.arange(len(names))
    a, b = row[pairs.cell_a], row[pairs.cell_b]
    known = (a >= 0) & (b >= 0)
    a, b, border = a[known], b[known], pairs.shared_border_px[known].astype(np.float64)
    return np.concatenate([a, b]), np.concatenate([b, a]), np.tile(border, 2)


def _neighbour_levels(
    level: NDArray[np.float64], one: NDArray[Any], two: NDArray[Any], border: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean and maximum of the neighbours' levels; NaN without a neighbour."""
    n = len(level)
    known = np.isfinite(level[two])
    one, values, border = one[known], level[two[known]], border[known]
    weight = np.bincount(one, weights=border, minlength=n)
    mean = ratio(np.bincount(one, weights=values * border, minlength=n), weight)
    highest = np.full(n, -np.inf)
    np.maximum.at(highest, one, values)
    return mean, np.where(np.isfinite(highest), highest, np.nan)


def _islet_of(
    islets: NDArray[Any] | None, y: NDArray[Any], x: NDArray[Any], origin: tuple[int, int]
) -> NDArray[np.int64]:
    """Islet under each nucleus's centre."""
    if islets is None or len(y) == 0:
        return np.zeros(len(y), np.int64)
    labels = np.asarray(islets)
    rows = np.clip(np.rint(y).astype(np.intp) - origin[0], 0, labels.shape[0] - 1)
    columns = np.clip(np.rint(x).astype(np.intp) - origin[1], 0, labels.shape[1] - 1)
    return np.asarray(labels[rows, columns], np.int64)
