"""The classical method on an image of any size: tiles with a margin, put together in strips.

The idea: every step of `islet_imaging.segmentation.classical` looks a bounded distance far, so a
tile with that margin gives the nuclei whose centres it holds, whoever computes it; numbers follow
the centres in raster order once a strip of tiles is there.
It fails where nuclei are much larger than the diameter says: they reach beyond the margin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32, Float64, Labels, ReadPlane, View, Work
from islet_imaging.arrays.resample import input_range, resample_region, resampled_length
from islet_imaging.segmentation.classical import (
    MARGIN_PX,
    MAX_ZOOM,
    WORKING_PX,
    ClassicalConfig,
    Grey,
    Span,
    between,
    sample_grey,
    segment_part,
)

#: edge of a tile, working px: about half a gigabyte with its margins
TILE_PX = 1536


def segment_strips(
    read: ReadPlane,
    shape: tuple[int, int],
    diameter_px: float,
    *,
    min_area_px: float,
    max_area_px: float,
    config: ClassicalConfig | None = None,
    work: Work | None = None,
) -> Iterator[tuple[tuple[slice, slice], Labels]]:
    """Find nuclei strip by strip, each strip in tiles.

    Parameters
    ----------
    read : callable
        ``read(rows, columns)`` gives that part of the DNA channel.
    shape : tuple of int
        Of the whole image.
    diameter_px : float
        Typical nucleus diameter, px.
    min_area_px, max_area_px : float
        Nuclei outside this are left out, px^2.
    config : ClassicalConfig, optional
        Parameters.
    work : Work, optional
        Tiles, progress in strips, and whether to stop.

    Yields
    ------
    (rows, columns), labels
        Strips of the whole label image from top to bottom, each row once; numbered in raster
        order of the centres.

    Raises
    ------
    Cancelled
        When whoever watches wants no more.
    """
    work = work or Work()
    tile_px = work.tile_px
    zoom = min(WORKING_PX / diameter_px, MAX_ZOOM)
    working = (resampled_length(shape[0], zoom), resampled_length(shape[1], zoom))
    unit = zoom * diameter_px
    step = max(8, round((tile_px * zoom) if tile_px else TILE_PX))
    # what fits twice is not worth two margins
    rows, columns = (
        [0, n] if n <= 2 * step and not tile_px else [*range(0, n, step), n] for n in working
    )
    everything = slice(0, shape[1])
    plan = _Plan(
        shape,
        working,
        zoom,
        unit,
        int(np.ceil(MARGIN_PX * unit / WORKING_PX)),
        sample_grey(read, shape, zoom, unit),
        config or ClassicalConfig(),
        (min_area_px, max_area_px),
    )
    strips = list(pairwise(rows))
    begun: dict[int, Iterator[_Tile]] = {}

    def begin(k: int) -> Iterator[_Tile]:
        spans = [(strips[k], span) for span in pairwise(columns)]
        if work.spread is not None:
            return work.spread(_tile_of_view, [(plan, *span) for span in spans])
        return (_tile(read, plan, *span) for span in spans)

    numbered = 0
    emitted = 0
    pending = np.zeros((0, shape[1]), np.int32)
    for k, (start, stop) in enumerate(strips):
        core, (low, high), _ = plan.spans(start, stop, 0)
        labels = np.zeros((high - low, shape[1]), np.int32)
        centres: list[Float64] = []
        # the next strips are begun already, so that nobody waits at the end of one
        for ahead in range(k, min(k + 3, len(strips))):
            if ahead not in begun:
                begun[ahead] = begin(ahead)
        for (begins, ends), (drawn, found) in zip(pairwise(columns), begun.pop(k), strict=True):
            work.stop_if_asked("segmentation of nuclei")
            _, (left, right), _ = plan.spans(begins, ends, 1)
            # numbers of this tile follow those of the tiles before it
            first = sum(len(c) for c in centres)
            np.add(drawn, first, out=labels[:, left:right], where=drawn > 0, dtype=np.int32)
            centres.append(found)
        y, x = np.concatenate(centres).T
        number = np.zeros(len(y) + 1, np.int32)
        number[1 + np.lexsort((x, y))] = numbered + 1 + np.arange(len(y), dtype=np.int32)
        labels = number[labels]
        numbered += len(y)
        # what this strip adds lies between low and high; rows above the next strip's low are done
        grown = np.zeros((high - emitted, shape[1]), np.int32)
        grown[: len(pending)] = pending
        part = grown[low - emitted :] if low >= emitted else grown
        source = labels if low >= emitted else labels[emitted - low :]
        np.copyto(part, source, where=source > 0)
        done = shape[0] if stop == working[0] else max(emitted, core[1] - (high - core[1]))
        yield (slice(emitted, done), everything), grown[: done - emitted]
        pending, emitted = grown[done - emitted :], done
        work.tell(k + 1, len(strips))


@dataclass(frozen=True)
class _Plan:
    """What the tiles of one image need beside its pixels; plain values that travel to workers."""

    shape: Span
    #: shape at the working scale, px
    working: Span
    zoom: float
    #: diameter of a nucleus, working px
    unit: float
    #: working px around a tile
    margin: int
    grey: Grey
    cfg: ClassicalConfig
    #: smallest and largest nucleus, px^2
    areas: tuple[float, float]

    def spans(self, start: int, stop: int, axis: int) -> tuple[Span, Span, Span]:
        """Of working px [start, stop): what a tile owns and draws, px, and needs, working px."""
        return _spans(start, stop, self.margin, self.zoom, axis, self.shape, self.working)


#: labels of what a tile draws, numbered from 1, and the centres of its nuclei, px of the image
_Tile = tuple[NDArray[np.unsignedinteger], Float64]


def _tile(read: ReadPlane, plan: _Plan, rows: Span, columns: Span) -> _Tile:
    """Nuclei whose centres lie in these working px."""
    core, drawn_rows, (top, bottom) = plan.spans(*rows, 0)
    own, drawn_columns, (near, far) = plan.spans(*columns, 1)
    first, last = input_range(top, bottom, plan.zoom, plan.shape[0])
    one, two = input_range(near, far, plan.zoom, plan.shape[1])
    pixels = read(slice(first, last), slice(one, two))
    x = resample_region(pixels, (top, bottom), (near, far), plan.zoom, (first, one))
    field, basin = segment_part(x, plan.unit, plan.grey, plan.cfg, (top, near))
    origin = (drawn_rows[0], drawn_columns[0])
    drawn = _draw(field, basin, drawn_rows, drawn_columns, plan.zoom, (top, near), plan.working)
    found = _owned(drawn, origin, core, own, *plan.areas)
    # half as much to send home
    return drawn.astype(np.uint16 if len(found) < 2**16 else np.uint32), found


def _tile_of_view(view: View, plan: _Plan, rows: Span, columns: Span) -> _Tile:
    """The same where the image is a view."""
    return _tile(view.dna, plan, rows, columns)


def _spans(
    start: int, stop: int, margin: int, zoom: float, axis: int, shape: Span, work: Span
) -> tuple[Span, Span, Span]:
    """Of working px [start, stop) of an axis: what it owns and draws, px, and needs, working px."""
    reach = int(np.ceil(margin / 4 / zoom))
    length = shape[axis]
    # pixels of the image whose centres lie in [start, stop) of the working image
    own = min(length, max(0, round(start / zoom))), min(length, max(0, round(stop / zoom)))
    if stop == work[axis]:
        own = own[0], length
    drawn = max(0, own[0] - reach), min(length, own[1] + reach)
    return own, drawn, (max(0, start - margin), min(work[axis], stop + margin))


def _draw(
    field: Float32, basin: Labels, rows: Span, columns: Span, zoom: float, origin: Span, work: Span
) -> Labels:
    """Labels at full resolution, of a region of the image, from those at the working scale."""
    for axis, (start, stop) in enumerate((rows, columns)):
        at = np.clip((np.arange(start, stop) + 0.5) * zoom - 0.5, 0, work[axis] - 1)
        nearest = np.rint(at).astype(np.intp) - origin[axis]
        field = between(field, at, origin[axis], axis)
        basin = np.take(basin, np.clip(nearest, 0, basin.shape[axis] - 1), axis)
    return np.where(field > 0, basin + np.int32(1), np.int32(0))


def _owned(
    labels: Labels, origin: Span, rows: Span, columns: Span, min_area: float, max_area: float
) -> Float64:
    """Keep nuclei of the right size with their centre in the tile; number them from 1, in place.

    Returns
    -------
    ndarray of float64, shape (N, 2)
        Their centres, px of the whole image.
    """
    flat = np.flatnonzero(labels)
    if not flat.size:
        return np.zeros((0, 2))
    present = np.zeros(int(labels.max()) + 1, bool)
    raw = labels.ravel()[flat]
    present[raw] = True
    compact = np.cumsum(present, dtype=np.int32) - 1
    name = compact[raw]
    n = int(present.sum())
    area = np.bincount(name, minlength=n)
    # whole numbers, so that the sums are exact and do not depend on the tile
    y, x = (
        (np.bincount(name, weights=at, minlength=n) + area * float(o)) / area
        for at, o in zip(np.divmod(flat, labels.shape[1]), origin, strict=True)
    )
    keep = (area >= min_area) & (area <= max_area)
    keep &= (y >= rows[0]) & (y < rows[1]) & (x >= columns[0]) & (x < columns[1])
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    labels.ravel()[flat] = number[name]
    return np.column_stack([y[keep], x[keep]])
