"""Measurement: one row of numbers per nucleus, for all cells of an image at once.

The idea: every pixel of a nucleus or a ring is looked at once; sums are counted, exact ring
quantiles come from one sort per channel, neighbours from the borders that cells share.  Low ring
quantiles and the weakest sectors are what spill-over from a neighbour cannot fake.
It fails silently on bad labels: a merged pair of nuclei is one row with the mean of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from islet_imaging.background import BLOCK_UM, OutsideGrid, background_halo_px
from islet_imaging.errors import ChannelError
from islet_imaging.segmented import (
    group_quantiles,
    group_sums,
    hull_areas,
    low_of_each,
    octants,
    ratio,
)

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


def neighbour_pairs(cells: NDArray[Any]) -> NeighbourPairs:
    """Cells that touch each other, with the length of the border they share.

    Parameters
    ----------
    cells : ndarray of int, shape (Y, X)
        Label image of grown cells, 0 is background.

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
    keys = []
    for one, two in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        touch = (one != two) & (one > 0) & (two > 0)
        a, b = one[touch].astype(np.int64), two[touch].astype(np.int64)
        keys.append((np.minimum(a, b) << 32) | np.maximum(a, b))
    key, border = np.unique(np.concatenate(keys), return_counts=True)
    return NeighbourPairs(
        (key >> 32).astype(np.int32), (key & 0xFFFFFFFF).astype(np.int32), border.astype(np.int64)
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

    Returns
    -------
    pandas.DataFrame
        One row per nucleus, sorted by label: `CELL_COLUMNS`, then for each marker M
        ``M_nucleus_mean``, ``M_ring_mean``, ``M_ring_median``, ``M_ring_p10``, ``M_ring_p25``,
        ``M_ring_p75``; ``M_sector_p25``, the 25th percentile of the ring's means in 8 sectors;
        ``M_background``, :mod:`islet_imaging.background`; ``M_neighbour_mean`` (weighted by
        shared border) and ``M_neighbour_max``, the ring medians (nuclear means of a nuclear
        marker) of cells that touch; ``M_saturated``, the fraction of the cell's pixels;
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

    pixels = _Pixels.of(nuclei, cells, origin_px)
    n = len(pixels.names)
    table: dict[str, Any] = {}
    shape = nuclei.shape if image_shape_px is None else image_shape_px
    geometry = _geometry(pixels, size, shape)
    grid = OutsideGrid(cells > 0, block_px, origin_px)
    y, x = geometry["y_px"], geometry["x_px"]

    table["islet"] = _islet_of(islets, y, x, origin_px)
    table["cell"] = pixels.names.astype(np.int64)
    table |= geometry
    table |= _dna(pixels, channels[dna], grid.at(channels[dna], y, x))
    pairs = neighbour_pairs(cells)
    a, b = pixels.lookup[pairs.cell_a], pixels.lookup[pairs.cell_b]
    known = (a >= 0) & (b >= 0)
    # each pair twice, once from either side
    one, two = np.concatenate([a[known], b[known]]), np.concatenate([b[known], a[known]])
    border = np.tile(pairs.shared_border_px[known], 2).astype(np.float64)
    table["neighbours"] = np.bincount(one, minlength=n)
    table["nearest_um"] = nearest_distance(y, x) * size
    ordered = {name: table[name] for name in CELL_COLUMNS}
    for marker in markers:
        nuclear = where.get(marker, "cytoplasm") == "nucleus"
        found = _marker(
            pixels, channels[marker], nuclear, _saturation(saturation, marker, channels)
        )
        found["background"] = grid.at(channels[marker], y, x)
        level = found["nucleus_mean" if nuclear else "ring_median"]
        found |= _neighbour_levels(level, one, two, border)
        ordered |= {f"{marker}_{name}": found[name] for name in MARKER_FEATURES}
    frame = pd.DataFrame(ordered)
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


@dataclass(frozen=True)
class _Pixels:
    """The pixels of nuclei and rings, each with its row in the table."""

    names: NDArray[np.int32]
    #: label -> row, -1 for labels without a nucleus
    lookup: NDArray[np.int32]
    shape: tuple[int, int]
    origin: tuple[int, int]
    nucleus_at: NDArray[np.intp]
    nucleus: NDArray[np.int32]
    ring_at: NDArray[np.intp]
    ring: NDArray[np.int32]
    #: row * 8 + sector of every ring pixel
    sector: NDArray[np.int32]
    nucleus_count: NDArray[np.int64]
    ring_count: NDArray[np.int64]
    sector_count: NDArray[np.int64]
    #: sums of y and x over the nucleus, in px of the whole image
    sum_y: NDArray[np.float64]
    sum_x: NDArray[np.float64]

    @classmethod
    def of(cls, nuclei: NDArray[Any], cells: NDArray[Any], origin: tuple[int, int]) -> _Pixels:
        nucleus_at = np.flatnonzero(nuclei)
        labels = nuclei.ravel()[nucleus_at]
        top = max(int(labels.max(initial=0)), int(cells.max(initial=0)))
        present = np.zeros(top + 1, bool)
        present[labels] = True
        names = np.flatnonzero(present).astype(np.int32)
        lookup = np.full(top + 1, -1, np.int32)
        lookup[names] = np.arange(len(names), dtype=np.int32)
        nucleus = lookup[labels]
        ring_at = np.flatnonzero((cells > 0) & (nuclei == 0))
        ring = lookup[cells.ravel()[ring_at]]
        if (ring < 0).any():
            ring_at, ring = ring_at[ring >= 0], ring[ring >= 0]
        n, width = len(names), nuclei.shape[1]
        count = np.bincount(nucleus, minlength=n)
        y, x = np.divmod(nucleus_at.astype(np.int32, copy=False), np.int32(max(width, 1)))
        sum_y = group_sums(y, nucleus, n) + count * float(origin[0])
        sum_x = group_sums(x, nucleus, n) + count * float(origin[1])
        y, x = np.divmod(ring_at.astype(np.int32, copy=False), np.int32(max(width, 1)))
        # px of the whole image before the centre is taken off, so that tiles agree to the last bit
        dy = (y + origin[0]) - ratio(sum_y, count)[ring]
        dx = (x + origin[1]) - ratio(sum_x, count)[ring]
        sector = ring * np.int32(8) + octants(dy, dx)
        return cls(
            names=names,
            lookup=lookup,
            shape=(nuclei.shape[0], width),
            origin=origin,
            nucleus_at=nucleus_at,
            nucleus=nucleus,
            ring_at=ring_at,
            ring=ring,
            sector=sector,
            nucleus_count=count,
            ring_count=np.bincount(ring, minlength=n),
            sector_count=np.bincount(sector, minlength=8 * n),
            sum_y=sum_y,
            sum_x=sum_x,
        )


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


def _geometry(p: _Pixels, size: float, shape: tuple[int, int]) -> dict[str, Any]:
    """Position and shape of nuclei."""
    n, count = len(p.names), p.nucleus_count
    centre_y, centre_x = ratio(p.sum_y, count), ratio(p.sum_x, count)
    y, x = np.divmod(p.nucleus_at.astype(np.int32, copy=False), np.int32(max(p.shape[1], 1)))
    y, x = y + np.int32(p.origin[0]), x + np.int32(p.origin[1])
    edge = (y == 0) | (x == 0) | (y == shape[0] - 1) | (x == shape[1] - 1)
    border = np.bincount(p.nucleus[edge], minlength=n) > 0
    # integers around a whole pixel near the centre: sums are exact, whatever the tile
    y -= np.floor(centre_y).astype(np.int32)[p.nucleus]
    x -= np.floor(centre_x).astype(np.int32)[p.nucleus]
    my, mx = (ratio(group_sums(v, p.nucleus, n), count) for v in (y, x))
    # a pixel is a square: 1/12 of second moment of its own
    yy = ratio(group_sums(y * y, p.nucleus, n), count) - my**2 + 1 / 12
    xx = ratio(group_sums(x * x, p.nucleus, n), count) - mx**2 + 1 / 12
    xy = ratio(group_sums(y * x, p.nucleus, n), count) - my * mx
    spread = np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    long, short = (yy + xx) / 2 + spread, (yy + xx) / 2 - spread
    eccentricity = np.sqrt(np.clip(1 - ratio(short, long), 0, 1))
    # pixels whose left or right neighbour is of another nucleus are enough for the hull
    jump = np.ones(len(p.nucleus), bool)
    same = (p.nucleus[1:] == p.nucleus[:-1]) & (np.diff(p.nucleus_at) == 1)
    jump[1:-1] = ~(same[1:] & same[:-1])
    hull = hull_areas(y[jump], x[jump], p.nucleus[jump], n)
    return {
        "y_px": centre_y,
        "x_px": centre_x,
        "y_um": centre_y * size,
        "x_um": centre_x * size,
        "nucleus_area_um2": count * size**2,
        "nucleus_eccentricity": eccentricity,
        "nucleus_solidity": np.minimum(1.0, ratio(count, hull)),
        "touches_border": border,
    }


def _dna(p: _Pixels, image: NDArray[Any], background: NDArray[Any]) -> dict[str, Any]:
    n = len(p.names)
    mean, texture = _mean_and_texture(image.ravel()[p.nucleus_at], p.nucleus, p.nucleus_count, n)
    above = mean - np.where(np.isfinite(background), background, 0.0)
    return {"dna_mean": mean, "dna_integrated": above * p.nucleus_count, "dna_texture": texture}


def _mean_and_texture(
    values: NDArray[Any], groups: NDArray[Any], count: NDArray[Any], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation over mean of each group."""
    values = values.astype(np.float64)
    mean = ratio(group_sums(values, groups, n), count)
    values -= mean[groups]
    values *= values
    deviation = np.sqrt(ratio(group_sums(values, groups, n), count))
    return mean, ratio(deviation, mean)


def _marker(
    p: _Pixels, image: NDArray[Any], nuclear: bool, saturation: float | None
) -> dict[str, Any]:
    """What one channel shows in nuclei and rings."""
    n = len(p.names)
    flat = image.ravel()
    ring = flat[p.ring_at].astype(np.float32, copy=False)
    nucleus = flat[p.nucleus_at].astype(np.float32, copy=False)
    found: dict[str, Any] = {}
    if nuclear:
        found["nucleus_mean"], found["texture"] = _mean_and_texture(
            nucleus, p.nucleus, p.nucleus_count, n
        )
    else:
        found["nucleus_mean"] = ratio(group_sums(nucleus, p.nucleus, n), p.nucleus_count)
        _, found["texture"] = _mean_and_texture(ring, p.ring, p.ring_count, n)
    sectors = group_sums(ring, p.sector, 8 * n)
    found["ring_mean"] = ratio(sectors.reshape(n, 8).sum(1), p.ring_count)
    found["sector_p25"] = low_of_each(ratio(sectors, p.sector_count).reshape(n, 8), 0.25)
    quantiles = group_quantiles(ring, p.ring, n, [0.10, 0.25, 0.50, 0.75])
    names = ("ring_p10", "ring_p25", "ring_median", "ring_p75")
    found |= dict(zip(names, quantiles, strict=True))
    if saturation is None:
        found["saturated"] = np.full(n, np.nan)
    else:
        full = np.bincount(p.ring[ring >= saturation], minlength=n)
        full += np.bincount(p.nucleus[nucleus >= saturation], minlength=n)
        found["saturated"] = ratio(full, p.ring_count + p.nucleus_count)
    return found


def _saturation(
    stated: float | Mapping[str, float] | None, name: str, channels: Mapping[str, NDArray[Any]]
) -> float | None:
    value = stated.get(name) if isinstance(stated, Mapping) else stated
    dtype = np.asarray(channels[name]).dtype
    if value is None and np.issubdtype(dtype, np.integer):
        return float(np.iinfo(dtype).max)
    return None if value is None else float(value)


def _neighbour_levels(
    level: NDArray[np.float64], one: NDArray[Any], two: NDArray[Any], border: NDArray[Any]
) -> dict[str, Any]:
    """Weighted mean and maximum of the neighbours' levels; NaN without a neighbour."""
    n = len(level)
    known = np.isfinite(level[two])
    one, values, border = one[known], level[two[known]], border[known]
    weight = group_sums(border, one, n)
    highest = np.full(n, -np.inf)
    np.maximum.at(highest, one, values)
    return {
        "neighbour_mean": ratio(group_sums(values * border, one, n), weight),
        "neighbour_max": np.where(np.isfinite(highest), highest, np.nan),
    }


def _islet_of(
    islets: NDArray[Any] | None, y: NDArray[Any], x: NDArray[Any], origin: tuple[int, int]
) -> NDArray[np.int64]:
    """Islet under each nucleus's centre."""
    if islets is None or len(y) == 0:
        return np.zeros(len(y), np.int64)
    labels = np.asarray(islets)
    rows = np.clip(np.rint(y).astype(np.intp) - origin[0], 0, labels.shape[0] - 1)
    columns = np.clip(np.rint(x).astype(np.intp) - origin[1], 0, labels.shape[1] - 1)
    return labels[rows, columns].astype(np.int64)
