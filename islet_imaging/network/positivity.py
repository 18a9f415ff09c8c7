"""Ask the positivity network about the cells of an image, of any size.

The idea: the image is brought to a fixed pixel (0.47 um), cut into blocks by a grid that depends on
its shape alone, and each block goes through the network once per marker with a halo around.  Fields
are not kept: each block adds its pixels to the sums of the nuclei they lie on, in the order of the
blocks, so that a slide needs no more memory than a few blocks and numbers are the same, bit for
bit, for any number of threads.

It fails where nuclei were not found: what has no label gets no answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import (
    Float32,
    Float64,
    ReadPlane,
    Region,
    Spread,
    View,
    Work,
    usable_cores,
)
from islet_imaging.arrays.resample import input_range, resample_region, resampled_length
from islet_imaging.errors import ModelError, PixelSizeError
from islet_imaging.network.blocks import HALO_PX, Grid, make_grid
from islet_imaging.network.normalise import MAX_SAMPLES, grey_limits, sampled_stripes
from islet_imaging.network.stain import (
    N_FIELDS,
    WORKING_PIXEL_UM,
    marker_limits,
    network_input,
    uncurve,
)

if TYPE_CHECKING:
    from islet_imaging.network.engine import Engine

log = logging.getLogger(__name__)


BLOCK_PX = 768


class CellLogits(NamedTuple):
    """What the network says of each label of an image, for one marker.

    Attributes
    ----------
    own, low, high : (N,) float64
        The cell's own light in grey values above the image's darkest nuclei: middle guess, and the
        quantiles 0.1 and 0.9 of what it may be.
    odds : (N,) float64
        Log odds that the cell expresses the marker, judged from this picture alone.
    """

    own: Float64
    low: Float64
    high: Float64
    odds: Float64


def network_logits(
    dna: NDArray[np.generic],
    markers: Mapping[str, NDArray[np.generic]],
    nuclei: NDArray[np.integer],
    *,
    pixel_size_um: float,
    engine: Engine | None = None,
    work: Work | None = None,
) -> dict[str, CellLogits]:
    """Ask the positivity network about every nucleus of an image.

    Parameters
    ----------
    dna : (Y, X) any dtype
        DNA channel.
    markers : mapping of str to (Y, X) any dtype
        Cytoplasmic markers by name.
    nuclei : (Y, X) int
        Label image; 0 is background.
    pixel_size_um : float
        Edge of a pixel, um.
    engine : Engine, optional
        The network; the shipped ``islet-positivity`` when not given.
    work : Work, optional
        Threads, and whether to stop.

    Returns
    -------
    dict of str to CellLogits
        Row k of each array is label k + 1; NaN for a label that does not occur.

    Raises
    ------
    PixelSizeError
        When the pixel size is not positive.
    Cancelled
        When `cancelled` returned true.

    Examples
    --------
    >>> from islet_imaging import phantom
    >>> made = phantom("easy_confocal", seed=1, shape=(128, 128))
    >>> image, nuclei = made.image, made.truth.nuclei
    >>> logits = network_logits(image.channel("DAPI"), {"INS": image.channel("INS")}, nuclei,
    ...                    pixel_size_um=image.pixel_size_um)
    >>> len(logits["INS"].own) == int(nuclei.max())
    True
    """
    return begin_network_logits(
        lambda y, x: dna[y, x],
        {name: _reader(plane) for name, plane in markers.items()},
        lambda y, x: nuclei[y, x],
        (nuclei.shape[0], nuclei.shape[1]),
        int(nuclei.max(initial=0)),
        pixel_size_um=pixel_size_um,
        engine=engine,
        work=work,
    )()


def network_columns(
    cells: NDArray[np.integer], logits: Mapping[str, CellLogits]
) -> dict[str, Float64]:
    """Columns of the cells table for the network's logits.

    Parameters
    ----------
    cells : (M,) int
        Labels of the table's rows.
    logits : mapping of str to CellLogits
        By marker.

    Returns
    -------
    dict of str to (M,) float64
        ``<marker>_network_own``, ``_network_low``, ``_network_high``, ``_network_odds``.
    """
    rows = np.asarray(cells, np.intp) - 1
    columns = {}
    for marker, answers in logits.items():
        for name in CellLogits._fields:
            values = getattr(answers, name)
            # a label that is in no picture, as of a nucleus painted out, has no answer
            column = np.full(len(rows), np.nan)
            there = (rows >= 0) & (rows < len(values))
            column[there] = values[rows[there]]
            columns[f"{marker}_network_{name}"] = column
    return columns


def _reader(plane: NDArray[np.generic]) -> ReadPlane:
    return lambda y, x: plane[y, x]


def begin_network_logits(
    dna: ReadPlane,
    markers: Mapping[str, ReadPlane],
    nuclei: ReadPlane,
    shape: tuple[int, int],
    n_labels: int,
    *,
    pixel_size_um: float,
    engine: Engine | None = None,
    model: str = "islet-positivity",
    limits: tuple[float, float] | None = None,
    region: Region | None = None,
    work: Work | None = None,
) -> Callable[[], dict[str, CellLogits]]:
    """Ask the positivity network about an image that is never in memory as a whole.

    Where work is spread it begins at once, and something else may be done meanwhile.

    Parameters
    ----------
    dna, nuclei : callable
        ``read(rows, columns)`` returns that part; called from one thread.
    markers : mapping of str to callable
        The same for each marker.
    shape : (int, int)
        Of the whole image.
    n_labels : int
        Largest label that is asked about.
    pixel_size_um, engine, work
        See `network_logits`.
    model : str
        The engine's network by name, for workers elsewhere.
    limits : (float, float), optional
        Black and white of the DNA channel, where somebody knows them from `grey_limits` already.
    region : pair of slice, optional
        Only the blocks that these rows and columns touch are asked about: nuclei that lie inside
        get the answers they get in the whole image, others what was seen of them.

    Returns
    -------
    callable
        Waits for the answers, `CellLogits` by marker; where nothing is spread the network is run
        then.
    """
    from islet_imaging.network.engine import shared_engine

    if not pixel_size_um > 0:
        raise PixelSizeError(f"pixel_size_um must be positive, not {pixel_size_um}")
    if engine is None:
        engine = shared_engine(model)
    work = work or Work()
    workers = max(1, work.threads or usable_cores())
    shape_of = engine.settings.get("architecture")
    if shape_of is not None and (shape_of["in_channels"], shape_of["out_channels"]) != (
        3,
        N_FIELDS,
    ):
        raise ModelError(f"{engine.name}: this is no positivity network; check `positivity: model`")
    plan = LogitsPlan(
        shape,
        pixel_size_um / WORKING_PIXEL_UM,
        limits or grey_limits(dna, shape, work.spread),
        _marker_limits(markers, nuclei, shape, work.spread),
        model,
    )
    sums = {name: np.zeros((n_labels + 1, N_FIELDS)) for name in markers}
    counts = np.zeros(n_labels + 1)
    blocks = [
        (i, k)
        for i, rows in enumerate(plan.grid.rows)
        for k, columns in enumerate(plan.grid.columns)
        if _touches(region, rows, columns, plan.zoom)
    ]

    def take(found: Sums) -> None:
        names, count, totals = found
        # blocks that a region only touches hold labels that nobody asked for
        asked = names <= n_labels
        counts[names[asked]] += count[asked]
        for name, total in totals.items():
            sums[name][names[asked]] += total[asked]

    def here() -> Iterator[Sums]:
        with ThreadPoolExecutor(workers) as pool:
            waiting: list[Future[Sums]] = []
            for i, k in blocks:
                # read in this thread (readers need not be thread-safe), compute in the pool
                inputs = _block_inputs(dna, markers, nuclei, plan, i, k)
                waiting.append(pool.submit(_block_sums, engine, plan, i, k, *inputs))
                if len(waiting) > 2 * workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()

    spread = work.spread
    begun = here() if spread is None else spread(sums_of_block, [(plan, *b) for b in blocks])

    def answers() -> dict[str, CellLogits]:
        for found in begun:
            work.stop_if_asked("the positivity network")
            take(found)
        return {name: _answers(sums[name], counts, plan.limits[name]) for name in markers}

    return answers


@dataclass(frozen=True)
class LogitsPlan:
    """What the blocks of one image need beside its pixels; plain values that travel to workers."""

    shape: tuple[int, int]
    zoom: float
    dna_limits: tuple[float, float]
    #: by marker
    limits: dict[str, tuple[float, float]]
    #: name of the network, for workers that make their own engine
    model: str

    @cached_property
    def working(self) -> tuple[int, int]:
        """Shape at the working scale, px."""
        rows, columns = (resampled_length(n, self.zoom) for n in self.shape)
        return rows, columns

    @cached_property
    def grid(self) -> Grid:
        """The blocks."""
        return make_grid(self.working, BLOCK_PX)


#: labels of a block, their pixels, and by marker the sum of each field over them
Sums = tuple[NDArray[Any], Float64, dict[str, Float64]]


def _block_inputs(
    dna: ReadPlane,
    markers: Mapping[str, ReadPlane],
    nuclei: ReadPlane,
    plan: LogitsPlan,
    i: int,
    k: int,
) -> tuple[dict[str, Float32], NDArray[Any]]:
    """What the network sees of a block, by marker, and the labels at its output's pixels."""
    grid, working, zoom, shape = plan.grid, plan.working, plan.zoom, plan.shape
    block = grid.rows[i], grid.columns[k]
    spans = [
        (max(0, a - HALO_PX), min(n, b + HALO_PX))
        for (a, b), n in zip(block, grid.shape, strict=True)
    ]
    inside = [(a, min(b, n)) for (a, b), n in zip(spans, working, strict=True)]
    pad = [(0, b - d) for (_, b), (_, d) in zip(spans, inside, strict=True)]
    r, c = (input_range(*s, zoom, n) for s, n in zip(inside, shape, strict=True))
    where = slice(*r), slice(*c)

    def plane(read: ReadPlane, low: float, high: float) -> Float32:
        part = np.asarray(read(*where))
        small = resample_region(part, inside[0], inside[1], zoom, (r[0], c[0]))
        return np.pad((small - np.float32(low)) / np.float32(high - low), pad, mode="edge")

    grey = plane(dna, *plan.dna_limits)
    images = {
        name: network_input(grey, plane(read, *plan.limits[name]))[None]
        for name, read in markers.items()
    }
    # the label at the middle of each half-resolution pixel of the block's own part
    middle = [
        np.minimum(((np.arange(a, min(b, w), 2) + 1) / zoom).astype(int), n - 1)
        for (a, b), w, n in zip(block, working, shape, strict=True)
    ]
    own = (
        slice(int(middle[0][0]), int(middle[0][-1]) + 1),
        slice(int(middle[1][0]), int(middle[1][-1]) + 1),
    )
    part = np.asarray(nuclei(*own))
    return images, part[np.ix_(middle[0] - middle[0][0], middle[1] - middle[1][0])]


def _block_sums(
    engine: Engine,
    plan: LogitsPlan,
    i: int,
    k: int,
    images: dict[str, Float32],
    labels: NDArray[Any],
) -> Sums:
    """Run the network on a block and sum its fields over each label."""
    y, x = (a - max(0, a - HALO_PX) for a in (plan.grid.rows[i][0], plan.grid.columns[k][0]))
    at = np.flatnonzero(labels)
    names, back = np.unique(labels.ravel()[at], return_inverse=True)
    count = np.bincount(back, minlength=len(names)).astype(np.float64)
    found = {}
    for name, image in images.items():
        fields = engine.run(image)[0]
        part = fields[:, y // 2 :, x // 2 :][:, : labels.shape[0], : labels.shape[1]]
        values = part.reshape(N_FIELDS, -1)[:, at].astype(np.float64)
        sums_here = [np.bincount(back, v, len(names)) for v in values]
        found[name] = np.stack(sums_here, axis=1, dtype=np.float64)
    return names, count, found


def sums_of_block(view: View, plan: LogitsPlan, i: int, k: int) -> Sums:
    """The sums of one block where the image is a view."""
    from islet_imaging.network.engine import shared_engine

    markers = {name: partial(view.corrected, name) for name in plan.limits}
    inputs = _block_inputs(view.dna, markers, view.labels, plan, i, k)
    return _block_sums(shared_engine(plan.model, view.device), plan, i, k, *inputs)


def _touches(
    region: Region | None,
    rows: tuple[int, int],
    columns: tuple[int, int],
    zoom: float,
) -> bool:
    """Whether a block of the working image shows a part of a region of the image."""
    return region is None or all(
        a < where.stop * zoom + 2 and b > where.start * zoom - 2
        for (a, b), where in zip((rows, columns), region, strict=True)
    )


def _marker_limits(
    markers: Mapping[str, ReadPlane],
    nuclei: ReadPlane,
    shape: tuple[int, int],
    spread: Spread | None = None,
) -> dict[str, tuple[float, float]]:
    """Limits of each marker from a fixed subsample of the pixels on nuclei."""
    stripes, step = sampled_stripes(shape, 4 * MAX_SAMPLES)
    names = tuple(markers)
    if spread is None:
        parts = (_on_nuclei(markers, nuclei, rows, shape[1], step) for rows in stripes)
    else:
        items = [(names, rows, shape[1], step) for rows in stripes]
        parts = (found for found in spread(_on_nuclei_of, items))
    found: dict[str, list[NDArray[np.generic]]] = {name: [] for name in markers}
    for part in parts:
        for name, values in part.items():
            found[name].append(values)
    return {
        name: marker_limits(np.concatenate(v).astype(np.float32) if v else np.zeros(0))
        for name, v in found.items()
    }


def _on_nuclei(
    markers: Mapping[str, ReadPlane], nuclei: ReadPlane, rows: slice, width: int, step: int
) -> dict[str, NDArray[np.generic]]:
    """Sampled pixels of a stripe that lie on nuclei, by marker; none where there is no nucleus."""
    where = rows, slice(0, width)
    labels: NDArray[Any] = np.asarray(nuclei(*where))
    on = labels[::step, ::step] > 0
    if not on.any():
        return {}
    return {name: np.asarray(read(*where))[::step, ::step][on] for name, read in markers.items()}


def _on_nuclei_of(
    view: View, names: tuple[str, ...], rows: slice, width: int, step: int
) -> dict[str, NDArray[np.generic]]:
    """The same where the image is a view."""
    markers = {name: partial(view.corrected, name) for name in names}
    return _on_nuclei(markers, view.labels, rows, width, step)


def _answers(sums: Float64, counts: Float64, limits: tuple[float, float]) -> CellLogits:
    mean = np.full((len(counts) - 1, N_FIELDS), np.nan)
    np.divide(sums[1:], counts[1:, None], out=mean, where=counts[1:, None] > 0)
    # three separate guesses may cross where they nearly agree
    light = (limits[1] - limits[0]) * uncurve(np.sort(mean[:, :3], axis=1))
    return CellLogits(own=light[:, 1], low=light[:, 0], high=light[:, 2], odds=mean[:, 3])
