"""The blocks of an image for the nuclei network: a grid, its fields, the nuclei in them.

The idea: a grid that depends on the image's shape alone is cut once; the fields of a block are
computed with a halo around, and nuclei from the fields of a block and its neighbours.  Threads of
this process keep fields in memory, workers elsewhere leave them in files that all can read; the
numbers are the same.
It fails when a folder that workers share has no room for three rows of fields.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32, ReadPlane, Spread, View, Work, usable_cores
from islet_imaging.arrays.resample import input_range, resample_region, resampled_length
from islet_imaging.network.normalise import normalise
from islet_imaging.network.postprocess import (
    MARGIN_PX,
    Instances,
    PostprocessConfig,
    draw_labels,
    find_instances,
)
from islet_imaging.network.targets import N_FIELDS

if TYPE_CHECKING:
    from islet_imaging.network.engine import Engine

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
    if plan.zoom == 1:  # grey values stay those of the file, of which there are few
        part = part[y0 - r[0] : y1 - r[0], x0 - c[0] : x1 - c[0]]
    else:
        part = resample_region(part, (y0, y1), (x0, x1), plan.zoom, (r[0], c[0]))
    image = normalise(part, plan.limits)
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


class Here:
    """Blocks computed by threads of this process."""

    #: rows of blocks begun beyond those that the next nuclei need
    AHEAD = 1

    def __init__(
        self, read: ReadPlane, engine: Engine, plan: BlockPlan, work: Work, pool: ThreadPoolExecutor
    ) -> None:
        self._read, self._engine, self._plan, self._pool = read, engine, plan, pool
        self._work, self._workers = work, max(1, work.threads or usable_cores())
        self._fields: dict[int, Float32] = {}

    def begin(self, i: int) -> Iterator[None]:
        """Begin the fields of a row of blocks; steps to count, to be waited for."""
        plan = self._plan
        (a, b), width = plan.grid.rows[i], plan.grid.shape[1]
        out = self._fields[i] = np.zeros((N_FIELDS, (b - a) // 2, width // 2), np.float32)

        def compute(k: int, image: Float32) -> None:
            self._work.stop_if_asked("segmentation of nuclei")
            x0, x1 = plan.grid.columns[k]
            out[:, :, x0 // 2 : x1 // 2] = block_fields(self._engine, plan, i, k, image)

        # read in this thread (readers need not be thread-safe), compute in the pool
        def submit(k: int) -> Future[None]:
            return self._pool.submit(compute, k, working_block(self._read, plan, i, k))

        columns = iter(range(len(plan.grid.columns)))
        # begun before anybody waits, but no more than threads find work with
        begun = deque(submit(k) for k in islice(columns, 2 * self._workers))

        def steps() -> Iterator[None]:
            while begun:
                begun.popleft().result()
                begun.extend(submit(k) for k in islice(columns, 1))
                yield

        return steps()

    def nuclei(self, i: int) -> Iterator[Found]:
        """Nuclei of a row of blocks, whose neighbours have their fields."""
        plan = self._plan
        y0, y1 = plan.strip(i)
        parts = []
        for j in (i - 1, i, i + 1):
            if j in self._fields:
                a, b = (v // 2 for v in plan.grid.rows[j])
                parts.append(self._fields[j][:, max(0, y0 - a) : max(0, min(b, y1) - a)])

        def find(k: int) -> Found:
            self._work.stop_if_asked("segmentation of nuclei")
            reach = slice(*plan.reach(k))
            fields = np.concatenate([part[:, :, reach] for part in parts], axis=1)
            return block_nuclei(fields, plan, i, k)

        return self._pool.map(find, range(len(plan.grid.columns)))

    def forget(self, i: int) -> None:
        """The fields of a row of blocks are not needed any more."""
        self._fields.pop(i, None)


class Elsewhere:
    """Blocks computed wherever there is room."""

    #: one more than here: they have work while this process puts a row's nuclei together
    AHEAD = 2

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
