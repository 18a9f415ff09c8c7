"""Segment nuclei with the trained network: any size of image, always the same labels.

The idea: the image is brought to the scale at which a nucleus has the working diameter, cut into
blocks by a grid that depends on the image's shape alone, and each block's fields are computed once
with a halo around.  Nuclei are then found in strips with a margin, and a nucleus belongs to the
strip that holds its centre.  Whatever the number of workers and the tile size asked for, the same
numbers go through the same sums, so labels are identical bit for bit.  Only one strip of
fields is in memory at a time.

It fails where the scale is wrong by more than a factor of about two: nuclei much larger than the
working diameter come in pieces, much smaller ones vanish.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32, Labels, ReadPlane, Region, Work, usable_cores
from islet_imaging.arrays.resample import input_range, resample_region, resampled_length
from islet_imaging.network.normalise import WORKING_DIAMETER_PX, grey_limits, normalise
from islet_imaging.network.postprocess import (
    MARGIN_PX,
    Instances,
    PostprocessConfig,
    draw_labels,
    find_instances,
)
from islet_imaging.network.scale import checked_diameter_px, estimate_diameter
from islet_imaging.network.targets import N_FIELDS

if TYPE_CHECKING:
    from islet_imaging.network.engine import Engine

log = logging.getLogger(__name__)


MULTIPLE = 16
BLOCK_PX = 1024
HALO_PX = 48


@dataclass(frozen=True)
class Grid:
    """Blocks of the working image; depends on its shape alone.

    Attributes
    ----------
    shape : (int, int)
        Of the working image, padded to a multiple of 16.
    rows, columns : tuple of (int, int)
        Start and stop of the blocks along each axis, multiples of 16.
    """

    shape: tuple[int, int]
    rows: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]


def make_grid(shape: tuple[int, int], block_px: int = BLOCK_PX) -> Grid:
    """Cut a working image of this shape into nearly equal blocks.

    Examples
    --------
    >>> make_grid((1000, 100)).rows
    ((0, 1008),)
    """
    padded = tuple(-(-n // MULTIPLE) * MULTIPLE for n in shape)
    axes = []
    for length in padded:
        n = -(-length // block_px)
        step = -(-length // (n * MULTIPLE)) * MULTIPLE
        axes.append(tuple((a, min(a + step, length)) for a in range(0, length, step)))
    return Grid((padded[0], padded[1]), axes[0], axes[1])


def segment_nuclei_network(
    dna: NDArray[np.generic],
    engine: Engine | None = None,
    *,
    diameter_px: float | None = None,
    postprocess: PostprocessConfig | None = None,
    work: Work | None = None,
) -> Labels:
    """Find nuclei in a DNA image with the trained network.

    Parameters
    ----------
    dna : (Y, X) any dtype
        DNA channel; any scale and offset of grey values.
    engine : Engine, optional
        The network; the shipped ``islet-nuclei`` when not given.
    diameter_px : float, optional
        Typical nucleus diameter in image px; estimated from the image when not given.
    postprocess : PostprocessConfig, optional
        Parameters of the way from fields to labels; the model's own when not given.
    work : Work, optional
        Threads, tiles, progress. `tile_px` changes how a slide is read, never labels (the blocks
        that the network sees depend on the image's shape alone).

    Returns
    -------
    (Y, X) int32
        0 is background; numbered from 1 in raster order of the centres.

    Raises
    ------
    PixelSizeError
        When the diameter is out of range.
    Cancelled
        When whoever watches wants no more.

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64]
    >>> dna = np.exp(-((y - 20) ** 2 + (x - 20) ** 2) / 40) + np.exp(
    ...     -((y - 44) ** 2 + (x - 40) ** 2) / 40)
    >>> int(segment_nuclei_network(dna, diameter_px=14).max())
    2
    """
    if dna.ndim != 2:
        raise ValueError(f"dna must be (Y, X), not of shape {dna.shape}")
    shape = (dna.shape[0], dna.shape[1])
    labels = np.zeros(shape, np.int32)
    for where, part in segment_nuclei_lazy(
        lambda rows, columns: dna[rows, columns],
        shape,
        engine,
        diameter_px=diameter_px,
        postprocess=postprocess,
        work=work,
    ):
        labels[where] = part
    return labels


def segment_nuclei_lazy(
    read: ReadPlane,
    shape: tuple[int, int],
    engine: Engine | None = None,
    *,
    diameter_px: float | None = None,
    postprocess: PostprocessConfig | None = None,
    work: Work | None = None,
) -> Iterator[tuple[Region, Labels]]:
    """Find nuclei in an image that is never in memory as a whole.

    Parameters
    ----------
    read : callable
        ``read(rows, columns)`` returns that part of the DNA channel; called from one thread.
    shape : (int, int)
        Of the whole image.
    engine, diameter_px, postprocess, work
        See `segment_nuclei_network`.

    Yields
    ------
    (rows, columns), labels
        Strips of the whole label image from top to bottom, each row once; numbers go on from
        strip to strip in raster order of the centres.
    """
    from islet_imaging.network.engine import shared_engine

    if min(shape) < 1:
        raise ValueError(f"image of shape {shape} has no pixels")
    if engine is None:
        engine = shared_engine("islet-nuclei")
    work = work or Work()
    config = postprocess or PostprocessConfig(**engine.settings.get("postprocess", {}))
    limits = grey_limits(read, shape)
    if diameter_px is None:
        diameter_px = estimate_diameter(read, shape, engine, limits=limits)
        log.info("nucleus diameter estimated from the image: %.1f px", diameter_px)
    job = _Job(
        read=_in_tiles(read, work.tile_px),
        shape=shape,
        zoom=WORKING_DIAMETER_PX / checked_diameter_px(diameter_px),
        limits=limits,
        engine=engine,
        config=config,
        work=work,
    )
    yield from job.strips()


def _in_tiles(read: ReadPlane, tile: int | None) -> ReadPlane:
    """Make a reader that never asks for more than `tile` rows or columns at once."""
    if tile is None:
        return read
    if tile < 1:
        raise ValueError(f"tile must be at least 1 px, not {tile}")

    def read_in_tiles(rows: slice, columns: slice) -> NDArray[np.generic]:
        return np.block(
            [
                [
                    read(slice(y, min(y + tile, rows.stop)), slice(x, min(x + tile, columns.stop)))
                    for x in range(columns.start, columns.stop, tile)
                ]
                for y in range(rows.start, rows.stop, tile)
            ]
        )

    return read_in_tiles


class _Job:
    """One image on its way through the network."""

    def __init__(
        self,
        *,
        read: ReadPlane,
        shape: tuple[int, int],
        zoom: float,
        limits: tuple[float, float],
        engine: Engine,
        config: PostprocessConfig,
        work: Work,
    ) -> None:
        self.read, self.shape, self.zoom, self.limits = read, shape, zoom, limits
        self.engine, self.config, self.work = engine, config, work
        self.workers = max(1, work.threads or usable_cores())
        self.working = (resampled_length(shape[0], zoom), resampled_length(shape[1], zoom))
        self.grid = make_grid(self.working)
        self.done = 0
        self.total = 2 * len(self.grid.rows) * len(self.grid.columns)

    def strips(self) -> Iterator[tuple[tuple[slice, slice], Labels]]:
        """Compute fields row of blocks by row of blocks, find nuclei one row behind."""
        rows = self.grid.rows
        fields: dict[int, Float32] = {}
        numbered = 0
        # labels of the rows that a strip's nuclei may still reach into
        canvas = np.zeros((0, self.shape[1]), np.int32)
        top = 0
        with ThreadPoolExecutor(self.workers) as pool:
            for i in range(len(rows)):
                fields.pop(i - 2, None)
                for j in range(i, min(i + 2, len(rows))):
                    if j not in fields:
                        fields[j] = self._fields_of_row(j, pool)
                strip_range, pieces, n = self._nuclei_of_row(i, fields, pool)
                bottom = max(strip_range[1], top + canvas.shape[0])
                grown = np.zeros((bottom - top, self.shape[1]), np.int32)
                grown[: canvas.shape[0]] = canvas
                canvas = grown
                for (r0, c0), piece in pieces:
                    # a strip draws up to its margin; rows that went out before are settled
                    skip = max(0, top - r0)
                    part = piece[skip:]
                    target = canvas[
                        r0 + skip - top : r0 + skip - top + part.shape[0], c0 : c0 + part.shape[1]
                    ]
                    use = (part > 0) & (target == 0)
                    target[use] = part[use] + numbered
                numbered += n
                settled = self._settled_row(i)
                yield (slice(top, settled), slice(0, self.shape[1])), canvas[: settled - top]
                # a copy: a view would hold the rows that went out, which are most of a slide's
                canvas = canvas[settled - top :].copy()
                top = settled

    def _settled_row(self, i: int) -> int:
        """First image row that nuclei of the next row of blocks may still change."""
        if i + 1 == len(self.grid.rows):
            return self.shape[0]
        row = int((self.grid.rows[i][1] - 2 * MARGIN_PX) / self.zoom)
        return min(max(row, 0), self.shape[0])

    def _fields_of_row(self, i: int, pool: ThreadPoolExecutor) -> Float32:
        y0, y1 = self.grid.rows[i]
        a, b = max(0, y0 - HALO_PX), min(self.grid.shape[0], y1 + HALO_PX)
        out = np.zeros((N_FIELDS, (y1 - y0) // 2, self.grid.shape[1] // 2), np.float32)

        def prepare(columns: tuple[int, int]) -> Float32:
            left, right = (
                max(0, columns[0] - HALO_PX),
                min(self.grid.shape[1], columns[1] + HALO_PX),
            )
            return self._working_region((a, b), (left, right))

        def compute(columns: tuple[int, int], image: Float32) -> None:
            x0, x1 = columns
            fields = self.engine.run(image[None, None])[0]
            left = max(0, x0 - HALO_PX)
            out[:, :, x0 // 2 : x1 // 2] = fields[
                :, (y0 - a) // 2 : (y1 - a) // 2, (x0 - left) // 2 : (x1 - left) // 2
            ]

        # read in this thread (readers need not be thread-safe), compute in the pool
        futures = []
        for columns in self.grid.columns:
            self._check()
            futures.append(pool.submit(compute, columns, prepare(columns)))
            if len(futures) > 2 * self.workers:
                futures.pop(0).result()
                self._count()
        for future in futures:
            future.result()
            self._count()
        return out

    def _working_region(self, rows: tuple[int, int], columns: tuple[int, int]) -> Float32:
        """Normalised part of the working image; beyond its end the last pixels are repeated."""
        y1, x1 = min(rows[1], self.working[0]), min(columns[1], self.working[1])
        r = input_range(rows[0], y1, self.zoom, self.shape[0])
        c = input_range(columns[0], x1, self.zoom, self.shape[1])
        part = np.asarray(self.read(slice(*r), slice(*c)))
        small = resample_region(part, (rows[0], y1), (columns[0], x1), self.zoom, (r[0], c[0]))
        image = normalise(small, self.limits)
        pad = ((0, rows[1] - y1), (0, columns[1] - x1))
        return np.pad(image, pad, mode="edge") if any(p[1] for p in pad) else image

    def _nuclei_of_row(
        self, i: int, fields: dict[int, Float32], pool: ThreadPoolExecutor
    ) -> tuple[tuple[int, int], Iterator[tuple[tuple[int, int], Labels]], int]:
        """Find the nuclei whose centres lie in a row of blocks and draw them, piece by piece."""
        core = (self.grid.rows[i][0] // 2, self.grid.rows[i][1] // 2)
        above = self.grid.rows[max(0, i - 1)][0] // 2
        below = self.grid.rows[min(len(self.grid.rows) - 1, i + 1)][1] // 2
        y0, y1 = max(above, core[0] - MARGIN_PX), min(below, core[1] + MARGIN_PX)
        parts = []
        for j in (i - 1, i, i + 1):
            if j in fields:
                a, b = (v // 2 for v in self.grid.rows[j])
                parts.append(fields[j][:, max(0, y0 - a) : max(0, min(b, y1) - a)])
        strip = np.concatenate(parts, axis=1)

        def find(columns: tuple[int, int]) -> tuple[Instances, int, tuple[int, int]]:
            self._check()
            left, right = columns[0] // 2, columns[1] // 2
            x0 = max(0, left - MARGIN_PX)
            x1 = min(self.grid.shape[1] // 2, right + MARGIN_PX)
            block = strip[:, :, x0:x1]
            found = find_instances(block, self.config)
            y, x = found.centres[:, 0] + y0, found.centres[:, 1] + x0
            own = (y >= core[0]) & (y < core[1]) & (x >= left) & (x < right)
            new = np.zeros(len(own) + 1, np.int32)
            new[1:][own] = np.arange(1, own.sum() + 1)
            return Instances(new[found.labels], np.stack([y, x], 1)[own]), x0, (x0, x1)

        found = list(pool.map(find, self.grid.columns))
        centres = np.concatenate([f[0].centres for f in found])
        rank = np.empty(len(centres), np.int64)
        rank[np.lexsort((centres[:, 1], centres[:, 0]))] = np.arange(1, len(centres) + 1)
        firsts = np.cumsum([0] + [len(f[0].centres) for f in found])

        def draw(k: int) -> tuple[tuple[int, int], Labels]:
            instances, x0, span = found[k]
            rows = self._image_span(y0, y1, 0)
            columns = self._image_span(span[0], span[1], 1)
            block = strip[:, :, span[0] : span[1]]
            number = np.zeros(len(instances.centres) + 1, np.int32)
            number[1:] = rank[firsts[k] : firsts[k + 1]]
            piece = draw_labels(block, instances, rows, columns, self.zoom, self.config, (y0, x0))
            return (rows[0], columns[0]), number[piece]

        def pieces() -> Iterator[tuple[tuple[int, int], Labels]]:
            for piece in pool.map(draw, range(len(found))):
                self._count()
                yield piece

        return self._image_span(y0, y1, 0), pieces(), len(centres)

    def _image_span(self, start: int, stop: int, axis: int) -> tuple[int, int]:
        """Image pixels whose centres lie in half-resolution pixels [start, stop)."""
        length = self.shape[axis]
        last = stop * 2 >= self.grid.shape[axis]
        return (
            min(length, int(np.ceil(2 * start / self.zoom - 0.5))) if start else 0,
            length if last else min(length, int(np.ceil(2 * stop / self.zoom - 0.5))),
        )

    def _check(self) -> None:
        self.work.stop_if_asked("segmentation of nuclei")

    def _count(self) -> None:
        self.done += 1
        self.work.tell(self.done, self.total)
