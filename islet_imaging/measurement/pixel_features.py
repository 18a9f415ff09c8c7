"""Numbers of cells that come from their own pixels alone: shape, levels, ring quantiles.

The idea: an image is gone through in bands of rows small enough for the processor's cache; a cell
belongs to the band where it begins and is measured whole, so bands change nothing but the time.
It fails, in time only, for cells that reach over many bands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import side_by_side
from islet_imaging.arrays.label_statistics import (
    Groups,
    group_quantiles,
    hull_areas,
    low_of_each,
    octants,
    ratio,
)

#: pixels of a band
BAND_PIXELS = 400_000


def pixel_features(
    nuclei: NDArray[Any],
    cells: NDArray[Any],
    channels: Mapping[str, NDArray[Any]],
    *,
    dna: str,
    nuclear: frozenset[str],
    saturation: Mapping[str, float | None],
    origin_px: tuple[int, int],
    image_shape_px: tuple[int, int],
    threads: int = 2,
) -> dict[str, NDArray[Any]]:
    """Measure every nucleus and its ring.

    Parameters
    ----------
    nuclei, cells : ndarray of int, shape (Y, X)
        Label images.
    channels : mapping of str to ndarray, shape (Y, X)
        Pixels by name.
    dna : str
        Name of the DNA channel; all others are markers.
    nuclear : frozenset of str
        Markers whose texture is taken in the nucleus.
    saturation : mapping of str to float or None
        Value from which a marker's pixel is saturated.
    origin_px, image_shape_px : tuple of int
        Where the arrays lie in the whole image, and its size.
    threads : int
        Bands measured at the same time; changes nothing but the time.

    Returns
    -------
    dict of str to ndarray, shape (n,)
        Columns, sorted by label: ``cell, y_px, x_px, pixels, dna_mean, dna_texture,
        nucleus_eccentricity, nucleus_solidity, touches_border`` and ``<marker>_<feature>``.
    """
    bands, begins = _bands(nuclei, cells, threads)

    def measure(k: int) -> dict[str, NDArray[Any]]:
        rows = bands[k]
        # every label as itself if it begins in this band, else 0
        here = np.where(begins == k, np.arange(len(begins), dtype=np.int32), np.int32(0))
        own = [np.take(here, part[rows]) for part in (nuclei, cells)]
        pixels = Pixels.of(own[0], own[1], (origin_px[0] + rows.start, origin_px[1]))
        out: dict[str, NDArray[Any]] = {"cell": pixels.names.astype(np.int64)}
        out |= _geometry(pixels, image_shape_px) | _dna(pixels, channels[dna][rows])
        for name, image in channels.items():
            if name != dna:
                found = _marker(pixels, image[rows], name in nuclear, saturation[name])
                out |= {f"{name}_{feature}": values for feature, values in found.items()}
        return out

    parts = side_by_side(measure, range(len(bands)), threads)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(joined["cell"])
    return {name: values[order] for name, values in joined.items()}


def _bands(
    nuclei: NDArray[Any], cells: NDArray[Any], threads: int
) -> tuple[list[slice], NDArray[np.int32]]:
    """Bands of rows, as far down as the cells that begin in them reach; band of each label."""
    from scipy.ndimage import find_objects

    height, width = nuclei.shape
    step = max(16, BAND_PIXELS // max(width, 1))
    starts = range(0, max(height, 1), step)
    boxes = side_by_side(find_objects, (n for n in (nuclei, cells) if n.size), threads)
    names = max((len(b) for b in boxes), default=0) + 1
    first, last = np.full(names, -1, np.int32), np.full(names, -1, np.int32)
    for label, both in enumerate(zip_longest(*boxes), start=1):
        if there := [box[0] for box in both if box is not None]:
            first[label] = min(rows.start for rows in there) // step
            last[label] = (max(rows.stop for rows in there) - 1) // step
    reach = [int(last[first == k].max(initial=k)) + 1 for k in range(len(starts))]
    bands = [
        slice(start, min(height, end * step)) for start, end in zip(starts, reach, strict=True)
    ]
    return bands, first


@dataclass(frozen=True)
class Pixels:
    """The pixels of nuclei and rings, sorted by the row of the table they belong to."""

    names: NDArray[np.int32]
    #: label -> row, -1 for labels without a nucleus
    lookup: NDArray[np.int32]
    nucleus: Groups
    ring: Groups
    #: y and x of nuclear pixels, px of the whole image
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    centre_y: NDArray[np.float64]
    centre_x: NDArray[np.float64]
    #: row * 8 + sector of every ring pixel, and how many there are of each
    sector: NDArray[np.intp]
    sector_counts: NDArray[np.int64]

    @classmethod
    def of(cls, nuclei: NDArray[Any], cells: NDArray[Any], origin: tuple[int, int]) -> Pixels:
        """Sort the pixels of label images that lie at ``origin`` in the whole image."""
        at = np.flatnonzero(nuclei)
        labels = nuclei.ravel()[at]
        top = max(int(labels.max(initial=0)), int(cells.max(initial=0)))
        present = np.zeros(top + 1, bool)
        present[labels] = True
        names = np.flatnonzero(present).astype(np.int32)
        n, width = len(names), max(nuclei.shape[1], 1)
        lookup = np.full(top + 1, -1, np.int32)
        lookup[names] = np.arange(n, dtype=np.int32)
        nucleus = Groups(at, lookup[labels], n)
        # whole numbers of the whole image: sums are exact, and tiles agree to the last bit
        y, x = np.divmod(nucleus.at, width)
        y += origin[0]
        x += origin[1]
        centre_y, centre_x = nucleus.means(y.astype(float)), nucleus.means(x.astype(float))
        at = np.flatnonzero((cells > 0) & (nuclei == 0))
        row = lookup[cells.ravel()[at]]
        if n == 0 or row.min(initial=0) < 0:
            at, row = at[row >= 0], row[row >= 0]
        ring = Groups(at, row, n)
        ring_y, ring_x = np.divmod(ring.at, width)
        sector = ring.group * 8
        sector += octants(
            (ring_y + origin[0]) - ring.spread(centre_y),
            (ring_x + origin[1]) - ring.spread(centre_x),
        )
        return cls(
            names=names,
            lookup=lookup,
            nucleus=nucleus,
            ring=ring,
            y=y,
            x=x,
            centre_y=centre_y,
            centre_x=centre_x,
            sector=sector,
            sector_counts=np.bincount(sector, minlength=8 * n),
        )


def _geometry(p: Pixels, shape: tuple[int, int]) -> dict[str, Any]:
    """Position and shape of nuclei."""
    n, nucleus = len(p.names), p.nucleus
    edge = (p.y == 0) | (p.x == 0) | (p.y == shape[0] - 1) | (p.x == shape[1] - 1)
    border = np.bincount(nucleus.group[edge], minlength=n) > 0
    # around a whole pixel near the centre, for exact sums of small numbers
    y = (p.y - nucleus.spread(np.floor(p.centre_y).astype(np.int64))).astype(np.float64)
    x = (p.x - nucleus.spread(np.floor(p.centre_x).astype(np.int64))).astype(np.float64)
    my, mx = nucleus.means(y), nucleus.means(x)
    # a pixel is a square: 1/12 of second moment of its own
    yy = nucleus.means(y * y) - my**2 + 1 / 12
    xx = nucleus.means(x * x) - mx**2 + 1 / 12
    xy = nucleus.means(y * x) - my * mx
    spread = np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    long, short = (yy + xx) / 2 + spread, (yy + xx) / 2 - spread
    # the ends of rows are enough for the hull
    end = np.ones(len(nucleus.at), bool)
    inside = np.diff(nucleus.at) == 1
    end[1:-1] = ~(inside[1:] & inside[:-1])
    end[1:] |= nucleus.group[1:] != nucleus.group[:-1]
    end[:-1] |= nucleus.group[1:] != nucleus.group[:-1]
    hull = hull_areas(y[end], x[end], nucleus.group[end], n)
    return {
        "y_px": p.centre_y,
        "x_px": p.centre_x,
        "pixels": nucleus.counts,
        "nucleus_eccentricity": np.sqrt(np.clip(1 - ratio(short, long), 0, 1)),
        "nucleus_solidity": np.minimum(1.0, ratio(nucleus.counts, hull)),
        "touches_border": border,
    }


def _dna(p: Pixels, image: NDArray[Any]) -> dict[str, Any]:
    mean, texture = p.nucleus.mean_and_texture(image.ravel()[p.nucleus.at].astype(np.float64))
    return {"dna_mean": mean, "dna_texture": texture}


def _marker(
    p: Pixels, image: NDArray[Any], nuclear: bool, saturation: float | None
) -> dict[str, Any]:
    """What one channel shows in nuclei and rings."""
    n = len(p.names)
    flat = image.ravel()
    ring, nucleus = flat[p.ring.at].astype(np.float64), flat[p.nucleus.at].astype(np.float64)
    found: dict[str, Any] = {}
    if nuclear:
        found["nucleus_mean"], found["texture"] = p.nucleus.mean_and_texture(nucleus)
        found["ring_mean"] = p.ring.means(ring)
    else:
        found["nucleus_mean"] = p.nucleus.means(nucleus)
        found["ring_mean"], found["texture"] = p.ring.mean_and_texture(ring)
    sectors = ratio(np.bincount(p.sector, weights=ring, minlength=8 * n), p.sector_counts)
    sectors = sectors.reshape(n, 8)
    found["sector_p25"] = low_of_each(sectors, 0.25)
    known = np.isfinite(sectors)
    mean = ratio(np.where(known, sectors, 0.0).sum(axis=1), known.sum(axis=1))
    found["sector_blend"] = 0.5 * (found["sector_p25"] + mean)
    quantiles = group_quantiles(ring.astype(np.float32), p.ring.group, n, [0.10, 0.25, 0.50, 0.75])
    names = ("ring_p10", "ring_p25", "ring_median", "ring_p75")
    found |= dict(zip(names, quantiles, strict=True))
    if saturation is None:
        found["saturated"] = np.full(n, np.nan)
    else:
        full = np.bincount(p.ring.group[ring >= saturation], minlength=n)
        full += np.bincount(p.nucleus.group[nucleus >= saturation], minlength=n)
        found["saturated"] = ratio(full, p.ring.counts + p.nucleus.counts)
    return found
