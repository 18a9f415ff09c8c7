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
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import (
    Labels,
    ReadPlane,
    Region,
    Work,
    usable_cores,
)
from islet_imaging.network.blocks import BlockPlan, Elsewhere, Here
from islet_imaging.network.normalise import WORKING_DIAMETER_PX, grey_limits
from islet_imaging.network.postprocess import (
    MARGIN_PX,
    PostprocessConfig,
)
from islet_imaging.network.scale import checked_diameter_px, estimate_diameter
from islet_imaging.network.windows import Windows

if TYPE_CHECKING:
    from islet_imaging.network.engine import Engine

log = logging.getLogger(__name__)

AS_IT_IS = 1.1
"""An image that would be enlarged by at most this is not."""


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
    limits: tuple[float, float] | None = None,
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
    limits : (float, float), optional
        Black and white of the image, where somebody knows them from `grey_limits` already.

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
    limits = limits or grey_limits(read, shape, work.spread)
    if diameter_px is None:
        windows = Windows(read, shape, engine, limits, model, work.spread)
        diameter_px = estimate_diameter(windows)
        log.info("nucleus diameter estimated from the image: %.1f px", diameter_px)
    zoom = working_zoom(checked_diameter_px(diameter_px))
    plan = BlockPlan(shape, zoom, limits, config, model)
    if work.spread is not None:
        yield from _Job(plan, Elsewhere(work.spread, plan), work).strips()
        return
    with ThreadPoolExecutor(max(1, work.threads or usable_cores())) as pool:
        here = Here(_in_tiles(read, work.tile_px), engine, plan, work, pool)
        yield from _Job(plan, here, work).strips()


def working_zoom(diameter_px: float) -> float:
    """How much an image is resampled before the network sees it.

    Enlarging by a few percent shows the network nothing new and costs pixels: up to `AS_IT_IS` an
    image stays as it is.

    Parameters
    ----------
    diameter_px : float
        Typical nucleus diameter, image px.

    Returns
    -------
    float
        Working px per image px.

    Examples
    --------
    >>> working_zoom(8.0), working_zoom(15.0), working_zoom(32.0)
    (2.0, 1.0, 0.5)
    """
    zoom = WORKING_DIAMETER_PX / diameter_px
    return 1.0 if 1 < zoom <= AS_IT_IS else zoom


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

    def __init__(self, plan: BlockPlan, blocks: Here | Elsewhere, work: Work) -> None:
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
            # rows after the next are begun already, so that nobody waits at the end of a row
            for j in range(i, min(i + 2 + self.blocks.AHEAD, len(rows))):
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
                # first come, first drawn; a piece's 0 draws nothing
                numbers = np.append(np.int32(0), rank[first + 1 : first + 1 + len(own)])
                np.copyto(target, np.take(numbers, part), where=target == 0)
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
