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
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import (
    Float32,
    Labels,
    ReadPlane,
    Region,
    Spread,
    View,
    Work,
    usable_cores,
)
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
    model: str = "islet-nuclei",
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
    model : str
        The engine's network by name, for workers elsewhere.

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
        engine = shared_engine(model)
    work = work or Work()
    config = postprocess or PostprocessConfig(**engine.settings.get("postprocess", {}))
    limits = grey_limits(read, shape)
    if diameter_px is None:
        diameter_px = estimate_diameter(read, shape, engine, limits=limits)
        log.info("nucleus diameter estimated from the image: %.1f px", diameter_px)
    zoom = WORKING_DIAMETER_PX / checked_diameter_px(diameter_px)
    plan = BlockPlan(shape, zoom, limits, config, model)
    if work.spread is not None:
        yield from _Job(plan, _Spread(work.spread, plan), work).strips()
        return
    with ThreadPoolExecutor(max(1, work.threads or usable_cores())) as pool:
        here = _Here(_in_tiles(read, work.tile_px), engine, plan, work, pool)
        yield from _Job(plan, here, work).strips()


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


@dataclass(frozen=True)
class BlockPlan:
    """What the blocks of one image need beside its pixels; plain values that travel to workers."""

    shape: tuple[int, int]
    zoom: float
    limits: tuple[float, float]
    config: PostprocessConfig
    #: name of the network, for workers that make their own engine
    model: str = ""

    @cached_property
    def working(self) -> tuple[int, int]:
        """Shape at the working scale, px."""
        return resampled_length(self.shape[0], self.zoom), resampled_length(
            self.shape[1], self.zoom
        )

    @cached_property
    def grid(self) -> Grid:
        """The blocks."""
        return make_grid(self.working)

    def image_span(self, start: int, stop: int, axis: int) -> tuple[int, int]:
        """Image pixels whose centres lie in half-resolution pixels [start, stop)."""
        length = self.shape[axis]
        last = stop * 2 >= self.grid.shape[axis]
        return (
            min(length, int(np.ceil(2 * start / self.zoom - 0.5))) if start else 0,
            length if last else min(length, int(np.ceil(2 * stop / self.zoom - 0.5))),
        )

    def strip(self, i: int) -> tuple[int, int]:
        """Half-resolution rows that the nuclei of a row of blocks may lie in."""
        rows = self.grid.rows
        core = rows[i][0] // 2, rows[i][1] // 2
        above, below = rows[max(0, i - 1)][0] // 2, rows[min(len(rows) - 1, i + 1)][1] // 2
        return max(above, core[0] - MARGIN_PX), min(below, core[1] + MARGIN_PX)

    def reach(self, k: int) -> tuple[int, int]:
        """Half-resolution columns that the nuclei of a column of blocks may lie in."""
        left, right = (v // 2 for v in self.grid.columns[k])
        return max(0, left - MARGIN_PX), min(self.grid.shape[1] // 2, right + MARGIN_PX)


#: centres that lie in a block (half-resolution px), where its piece begins, px, and the piece:
#: numbered from 1 in the order of the centres
Found = tuple[NDArray[np.intp], tuple[int, int], NDArray[Any]]


def working_block(read: ReadPlane, plan: BlockPlan, i: int, k: int) -> Float32:
    """Normalised pixels of a block with its halo; beyond the image its last pixels are repeated."""
    spans = [
        (max(0, a - HALO_PX), min(n, b + HALO_PX))
        for (a, b), n in zip(
            (plan.grid.rows[i], plan.grid.columns[k]), plan.grid.shape, strict=True
        )
    ]
    (y0, y1), (x0, x1) = ((a, min(b, n)) for (a, b), n in zip(spans, plan.working, strict=True))
    r = input_range(y0, y1, plan.zoom, plan.shape[0])
    c = input_range(x0, x1, plan.zoom, plan.shape[1])
    part = np.asarray(read(slice(*r), slice(*c)))
    small = resample_region(part, (y0, y1), (x0, x1), plan.zoom, (r[0], c[0]))
    image = normalise(small, plan.limits)
    pad = ((0, spans[0][1] - y1), (0, spans[1][1] - x1))
    return np.pad(image, pad, mode="edge") if any(p[1] for p in pad) else image


def block_fields(engine: Engine, plan: BlockPlan, i: int, k: int, image: Float32) -> Float32:
    """Fields of a block at half resolution, without its halo."""
    (y0, y1), (x0, x1) = plan.grid.rows[i], plan.grid.columns[k]
    top, left = y0 - max(0, y0 - HALO_PX), x0 - max(0, x0 - HALO_PX)
    fields: Float32 = engine.run(image[None, None])[0]
    return fields[:, top // 2 : (top + y1 - y0) // 2, left // 2 : (left + x1 - x0) // 2]


def block_nuclei(fields: Float32, plan: BlockPlan, i: int, k: int) -> Found:
    """Find the nuclei whose centres lie in a block and draw them.

    Parameters
    ----------
    fields : (C, H, W) float32
        Rows `BlockPlan.strip` and columns `BlockPlan.reach`.
    """
    (y0, y1), (x0, x1) = plan.strip(i), plan.reach(k)
    core = [v // 2 for v in plan.grid.rows[i]]
    left, right = (v // 2 for v in plan.grid.columns[k])
    found = find_instances(fields, plan.config)
    y, x = found.centres[:, 0] + y0, found.centres[:, 1] + x0
    own = (y >= core[0]) & (y < core[1]) & (x >= left) & (x < right)
    new = np.zeros(len(own) + 1, np.int32)
    new[1:][own] = np.arange(1, own.sum() + 1)
    instances = Instances(new[found.labels], np.stack([y, x], 1)[own])
    rows, columns = plan.image_span(y0, y1, 0), plan.image_span(x0, x1, 1)
    piece = draw_labels(fields, instances, rows, columns, plan.zoom, plan.config, (y0, x0))
    # a row of pieces waits for its last; a block holds a few thousand nuclei
    small = piece.astype(np.uint16) if len(instances.centres) < 2**16 else piece
    return instances.centres, (rows[0], columns[0]), small


def _fields_file(scratch: Path, i: int, k: int) -> Path:
    return scratch / f"fields-{i}-{k}.npy"


def leave_fields(view: View, plan: BlockPlan, i: int, k: int) -> None:
    """Compute the fields of a block where the image is a view, and leave them in a file."""
    from islet_imaging.network.engine import shared_engine

    image = working_block(view.dna, plan, i, k)
    fields = block_fields(shared_engine(plan.model, view.device), plan, i, k, image)
    np.save(_fields_file(view.scratch, i, k), fields)


def nuclei_of_left(view: View, plan: BlockPlan, i: int, k: int) -> Found:
    """Find the nuclei of a block from the fields that `leave_fields` left of it and around it."""
    (y0, y1), (x0, x1) = plan.strip(i), plan.reach(k)
    fields = np.empty((N_FIELDS, y1 - y0, x1 - x0), np.float32)
    for j, (a, b) in enumerate(plan.grid.rows):
        for n, (c, d) in enumerate(plan.grid.columns):
            top, bottom = max(y0, a // 2), min(y1, b // 2)
            left, right = max(x0, c // 2), min(x1, d // 2)
            if top < bottom and left < right:
                part = np.load(_fields_file(view.scratch, j, n), mmap_mode="r")
                fields[:, top - y0 : bottom - y0, left - x0 : right - x0] = part[
                    :, top - a // 2 : bottom - a // 2, left - c // 2 : right - c // 2
                ]
    return block_nuclei(fields, plan, i, k)


class _Here:
    """Blocks computed by threads of this process."""

    def __init__(
        self, read: ReadPlane, engine: Engine, plan: BlockPlan, work: Work, pool: ThreadPoolExecutor
    ) -> None:
        self._read, self._engine, self._plan, self._pool = read, engine, plan, pool
        self._work, self._workers = work, max(1, work.threads or usable_cores())
        self._fields: dict[int, Float32] = {}

    def begin(self, i: int) -> Iterator[None]:
        """Compute the fields of a row of blocks; steps to count."""
        plan = self._plan
        (a, b), width = plan.grid.rows[i], plan.grid.shape[1]
        out = self._fields[i] = np.zeros((N_FIELDS, (b - a) // 2, width // 2), np.float32)

        def compute(k: int, image: Float32) -> None:
            x0, x1 = plan.grid.columns[k]
            out[:, :, x0 // 2 : x1 // 2] = block_fields(self._engine, plan, i, k, image)

        # read in this thread (readers need not be thread-safe), compute in the pool
        futures = []
        for k in range(len(plan.grid.columns)):
            self._work.stop_if_asked("segmentation of nuclei")
            image = working_block(self._read, plan, i, k)
            futures.append(self._pool.submit(compute, k, image))
            if len(futures) > 2 * self._workers:
                yield futures.pop(0).result()
        for future in futures:
            yield future.result()

    def nuclei(self, i: int) -> Iterator[Found]:
        """Nuclei of a row of blocks, whose neighbours have their fields."""
        plan = self._plan
        y0, y1 = plan.strip(i)
        parts = []
        for j in (i - 1, i, i + 1):
            if j in self._fields:
                a, b = (v // 2 for v in plan.grid.rows[j])
                parts.append(self._fields[j][:, max(0, y0 - a) : max(0, min(b, y1) - a)])
        strip = np.concatenate(parts, axis=1)

        def find(k: int) -> Found:
            self._work.stop_if_asked("segmentation of nuclei")
            return block_nuclei(strip[:, :, slice(*plan.reach(k))], plan, i, k)

        return self._pool.map(find, range(len(plan.grid.columns)))

    def forget(self, i: int) -> None:
        """The fields of a row of blocks are not needed any more."""
        self._fields.pop(i, None)


class _Spread:
    """Blocks computed wherever there is room."""

    def __init__(self, spread: Spread, plan: BlockPlan) -> None:
        self._spread, self._plan = spread, plan

    def _items(self, i: int) -> list[tuple[BlockPlan, int, int]]:
        return [(self._plan, i, k) for k in range(len(self._plan.grid.columns))]

    def begin(self, i: int) -> Iterator[None]:
        """Begin the fields of a row of blocks; steps to count, to be waited for."""
        return self._spread(leave_fields, self._items(i))

    def nuclei(self, i: int) -> Iterator[Found]:
        """Nuclei of a row of blocks, whose neighbours have their fields."""
        return self._spread(nuclei_of_left, self._items(i))

    def forget(self, i: int) -> None:
        """The fields of a row of blocks are not needed any more."""
        for k in range(len(self._plan.grid.columns)):
            _fields_file(self._spread.scratch, i, k).unlink(missing_ok=True)


class _Job:
    """One image on its way through the network."""

    def __init__(self, plan: BlockPlan, blocks: _Here | _Spread, work: Work) -> None:
        self.plan, self.blocks, self.work = plan, blocks, work
        self.done = 0
        self.total = 2 * len(plan.grid.rows) * len(plan.grid.columns)

    def strips(self) -> Iterator[tuple[tuple[slice, slice], Labels]]:
        """Compute fields row of blocks by row of blocks, find nuclei one row behind."""
        plan, rows = self.plan, self.plan.grid.rows
        begun: dict[int, Iterator[None]] = {}
        numbered = 0
        # labels of the rows that a strip's nuclei may still reach into
        canvas = np.zeros((0, plan.shape[1]), np.int32)
        top = 0
        for i in range(len(rows)):
            if i > 1:
                self.blocks.forget(i - 2)
            # the row after the next is begun already, so that nobody waits at the end of a row
            for j in range(i, min(i + 3, len(rows))):
                if j not in begun:
                    begun[j] = self.blocks.begin(j)
            for j in range(i, min(i + 2, len(rows))):
                for _ in begun[j]:
                    self._count()
            pieces = []
            for found in self.blocks.nuclei(i):
                pieces.append(found)
                self._count()
            centres = np.concatenate([c for c, _, _ in pieces])
            rank = np.zeros(len(centres) + 1, np.int32)
            order = np.lexsort((centres[:, 1], centres[:, 0]))
            rank[1:][order] = np.arange(numbered + 1, numbered + 1 + len(centres))
            bottom = max(plan.image_span(*plan.strip(i), 0)[1], top + canvas.shape[0])
            grown = np.zeros((bottom - top, plan.shape[1]), np.int32)
            grown[: canvas.shape[0]] = canvas
            canvas = grown
            first = 0
            for own, (r0, c0), piece in pieces:
                # a strip draws up to its margin; rows that went out before are settled
                skip = max(0, top - r0)
                part = piece[skip:]
                target = canvas[
                    r0 + skip - top : r0 + skip - top + part.shape[0], c0 : c0 + part.shape[1]
                ]
                use = (part > 0) & (target == 0)
                target[use] = rank[part[use].astype(np.int64) + first]
                first += len(own)
            numbered += len(centres)
            del pieces
            settled = self._settled_row(i)
            yield (slice(top, settled), slice(0, plan.shape[1])), canvas[: settled - top]
            # a copy: a view would hold the rows that went out, which are most of a slide's
            canvas = canvas[settled - top :].copy()
            top = settled
        for i in range(max(0, len(rows) - 2), len(rows)):
            self.blocks.forget(i)

    def _settled_row(self, i: int) -> int:
        """First image row that nuclei of the next row of blocks may still change."""
        rows = self.plan.grid.rows
        if i + 1 == len(rows):
            return self.plan.shape[0]
        row = int((rows[i][1] - 2 * MARGIN_PX) / self.plan.zoom)
        return min(max(row, 0), self.plan.shape[0])

    def _count(self) -> None:
        self.work.stop_if_asked("segmentation of nuclei")
        self.done += 1
        self.work.tell(self.done, self.total)
