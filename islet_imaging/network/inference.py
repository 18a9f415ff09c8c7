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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import Cancelled, PixelSizeError

from .data import WORKING_DIAMETER_PX
from .normalise import grey_limits, normalise
from .postprocess import (
    MARGIN_PX,
    Instances,
    PostprocessConfig,
    draw_labels,
    find_instances,
)
from .resample import input_range, resample_region, resampled_length
from .scale import estimate_diameter, estimate_nucleus_diameter_px
from .targets import N_FIELDS

if TYPE_CHECKING:
    from .engine import Engine

__all__ = [
    "estimate_nucleus_diameter_px",
    "nucleus_diameter_px",
    "segment_nuclei_lazy",
    "segment_nuclei_network",
]

log = logging.getLogger(__name__)

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
Reader = Callable[[slice, slice], NDArray[np.generic]]

NUCLEUS_DIAMETER_UM = 7.5
"""Median nucleus diameter in human islets, taken where only a pixel size is known."""

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


def nucleus_diameter_px(
    *,
    pixel_size_um: float | None = None,
    nucleus_diameter_um: float | None = None,
) -> float | None:
    """Turn what is known of the scale into a nucleus diameter in image px.

    Returns
    -------
    float or None
        None when neither is given: the scale has to be estimated from the image.

    Raises
    ------
    PixelSizeError
        When a diameter in micrometres is given without a pixel size, or a size is not positive.
    """
    for name, value in (
        ("pixel_size_um", pixel_size_um),
        ("nucleus_diameter_um", nucleus_diameter_um),
    ):
        if value is not None and not value > 0:
            raise PixelSizeError(f"{name} must be positive, not {value}")
    if pixel_size_um is None:
        if nucleus_diameter_um is None:
            return None
        raise PixelSizeError(
            "nucleus_diameter_um is given without pixel_size_um; give both, or neither to have "
            "the scale estimated from the image"
        )
    return (nucleus_diameter_um or NUCLEUS_DIAMETER_UM) / pixel_size_um


def segment_nuclei_network(
    dna: NDArray[np.generic],
    *,
    diameter_px: float | None = None,
    pixel_size_um: float | None = None,
    nucleus_diameter_um: float | None = None,
    tile: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    model: str | None = None,
    engine: Engine | None = None,
    postprocess: PostprocessConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> IntArray:
    """Find nuclei in a DNA image with the trained network.

    Parameters
    ----------
    dna : (Y, X) any dtype
        DNA channel; any scale and offset of grey values.
    diameter_px : float, optional
        Typical nucleus diameter in image px; overrides the next two.
    pixel_size_um, nucleus_diameter_um : float, optional
        Scale in micrometres; nuclei are taken as 7.5 um across when only the pixel size is
        given.  With nothing given the scale is estimated from the image.
    tile : int, optional
        Most rows and columns of image px that are read at once; changes how a slide is read,
        never labels (the blocks that the network sees depend on the image's shape alone).
    threads : int, optional
        Blocks computed at the same time; the number of usable cores when not given.
    device : {"auto", "cpu", "cuda", "mps"}
        Where the network runs; see ``engine.make_engine``.
    model : str, optional
        Name or folder of the network; the shipped ``islet-nuclei`` when not given.
    engine : Engine, optional
        A network that is already loaded; overrides `model` and `device`.
    postprocess : PostprocessConfig, optional
        Parameters of the way from fields to labels; the model's own when not given.
    progress : callable, optional
        Called with (done, total) blocks.
    cancelled : callable, optional
        Asked before every block; when true, `Cancelled` is raised.

    Returns
    -------
    (Y, X) int32
        0 is background; numbered from 1 in raster order of the centres.

    Raises
    ------
    PixelSizeError
        When a diameter in micrometres is given without a pixel size.
    Cancelled
        When `cancelled` returned true.

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
        diameter_px=diameter_px,
        pixel_size_um=pixel_size_um,
        nucleus_diameter_um=nucleus_diameter_um,
        tile=tile,
        threads=threads,
        device=device,
        model=model,
        engine=engine,
        postprocess=postprocess,
        progress=progress,
        cancelled=cancelled,
    ):
        labels[where] = part
    return labels


def segment_nuclei_lazy(
    read: Reader,
    shape: tuple[int, int],
    *,
    diameter_px: float | None = None,
    pixel_size_um: float | None = None,
    nucleus_diameter_um: float | None = None,
    tile: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    model: str | None = None,
    engine: Engine | None = None,
    postprocess: PostprocessConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[tuple[tuple[slice, slice], IntArray]]:
    """Find nuclei in an image that is never in memory as a whole.

    Parameters
    ----------
    read : callable
        ``read(rows, columns)`` returns that part of the DNA channel; called from one thread.
    shape : (int, int)
        Of the whole image.
    diameter_px, pixel_size_um, ... :
        See `segment_nuclei_network`.

    Yields
    ------
    (rows, columns), labels
        Strips of the whole label image from top to bottom, each row once; numbers go on from
        strip to strip in raster order of the centres.
    """
    from .engine import shared_engine, usable_cores

    if min(shape) < 1:
        raise ValueError(f"image of shape {shape} has no pixels")
    if engine is None:
        engine = shared_engine(model or "islet-nuclei", device)
    workers = threads or usable_cores()
    config = postprocess or PostprocessConfig(**engine.settings.get("postprocess", {}))
    limits = grey_limits(read, shape)
    if diameter_px is None:
        diameter_px = nucleus_diameter_px(
            pixel_size_um=pixel_size_um, nucleus_diameter_um=nucleus_diameter_um
        )
    if diameter_px is None:
        diameter_px = estimate_diameter(read, shape, engine, limits=limits)
        log.info("nucleus diameter estimated from the image: %.1f px", diameter_px)
    if not 1.5 <= diameter_px <= 2000:
        raise PixelSizeError(
            f"a nucleus diameter of {diameter_px:.3g} px is out of range (1.5 to 2000 px); "
            "check the pixel size"
        )
    job = _Job(
        _in_tiles(read, tile), shape, WORKING_DIAMETER_PX / diameter_px, limits, engine,
        config, workers, progress, cancelled,
    )  # fmt: skip
    yield from job.strips()


def _in_tiles(read: Reader, tile: int | None) -> Reader:
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
        read: Reader,
        shape: tuple[int, int],
        zoom: float,
        limits: tuple[float, float],
        engine: Engine,
        config: PostprocessConfig,
        workers: int,
        progress: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.read, self.shape, self.zoom, self.limits = read, shape, zoom, limits
        self.engine, self.config, self.workers = engine, config, max(1, workers)
        self.progress, self.cancelled = progress, cancelled
        self.working = (resampled_length(shape[0], zoom), resampled_length(shape[1], zoom))
        self.grid = make_grid(self.working)
        self.done = 0
        self.total = 2 * len(self.grid.rows) * len(self.grid.columns)

    def strips(self) -> Iterator[tuple[tuple[slice, slice], IntArray]]:
        """Compute fields row of blocks by row of blocks, find nuclei one row behind."""
        rows = self.grid.rows
        fields: dict[int, FloatArray] = {}
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

    def _fields_of_row(self, i: int, pool: ThreadPoolExecutor) -> FloatArray:
        y0, y1 = self.grid.rows[i]
        a, b = max(0, y0 - HALO_PX), min(self.grid.shape[0], y1 + HALO_PX)
        out = np.zeros((N_FIELDS, (y1 - y0) // 2, self.grid.shape[1] // 2), np.float32)

        def prepare(columns: tuple[int, int]) -> FloatArray:
            left, right = (
                max(0, columns[0] - HALO_PX),
                min(self.grid.shape[1], columns[1] + HALO_PX),
            )
            return self._working_region((a, b), (left, right))

        def compute(columns: tuple[int, int], image: FloatArray) -> None:
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

    def _working_region(self, rows: tuple[int, int], columns: tuple[int, int]) -> FloatArray:
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
        self, i: int, fields: dict[int, FloatArray], pool: ThreadPoolExecutor
    ) -> tuple[tuple[int, int], Iterator[tuple[tuple[int, int], IntArray]], int]:
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

        def draw(k: int) -> tuple[tuple[int, int], IntArray]:
            instances, x0, span = found[k]
            rows = self._image_span(y0, y1, 0)
            columns = self._image_span(span[0], span[1], 1)
            block = strip[:, :, span[0] : span[1]]
            number = np.zeros(len(instances.centres) + 1, np.int32)
            number[1:] = rank[firsts[k] : firsts[k + 1]]
            piece = draw_labels(block, instances, rows, columns, self.zoom, self.config, (y0, x0))
            return (rows[0], columns[0]), number[piece]

        def pieces() -> Iterator[tuple[tuple[int, int], IntArray]]:
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
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("nuclei segmentation was stopped")

    def _count(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)
