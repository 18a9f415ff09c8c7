"""Segmentation of nuclei: one call for the trained network and for the classical method.

The idea: a DNA image and its scale in, labels out, numbered in raster order of the centres, the
same for every tile size.  The scale is the nucleus diameter in pixels: what the caller knows, held
against the image (`islet_imaging.network.scale`).  What is left out as too small or too large goes
by that diameter, with either method, unless areas are stated.
It fails where the scale is wrong, and where nuclei lie on top of one another in projection; then
counts are too low, which no two-dimensional method can mend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Labels, ReadPlane, Region, Work
from islet_imaging.arrays.label_file import band_rows
from islet_imaging.network.normalise import WORKING_DIAMETER_PX
from islet_imaging.network.scale import FoundScale, Scale, find_scale
from islet_imaging.protocol import Nuclei
from islet_imaging.segmentation.classical_tiles import segment_strips

Method = Literal["network", "classical"]


@dataclass(frozen=True)
class NucleiMethod:
    """How nuclei are found.

    Parameters
    ----------
    method : {"network", "classical"}
        The trained network, or :mod:`islet_imaging.segmentation.classical`.
    model : str, optional
        Name or folder of the network; the shipped ``islet-nuclei`` when not given.
    min_area_um2, max_area_um2 : float, optional
        Nuclei outside are left out, um2; see `segment_nuclei`.
    """

    method: Method = "network"
    model: str | None = None
    min_area_um2: float | None = None
    max_area_um2: float | None = None


def segment_nuclei(
    dna: NDArray[Any],
    *,
    pixel_size_um: float | None = None,
    nucleus_diameter_um: float | None = None,
    method: Method = "network",
    min_area_um2: float | None = None,
    max_area_um2: float | None = None,
    tile: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    model: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Labels:
    """Find nuclei in a DNA image.

    Parameters
    ----------
    dna : ndarray, shape (Y, X)
        DNA channel, any real dtype, finite.
    pixel_size_um : float, optional
        Edge of a pixel, um.
    nucleus_diameter_um : float, optional
        Typical nucleus diameter, um.  If only the pixel size is given it is 7.5, unless the image
        shows that its nuclei are others; with neither it is estimated from the image.
    method : {"network", "classical"}
        The trained network, or :mod:`islet_imaging.segmentation.classical`, which needs no weights
        but where the scale is to be looked for.
    min_area_um2, max_area_um2 : float, optional
        Nuclei outside are left out; without them, or without a pixel size, 8 and 400 um2 for
        nuclei of 7.5 um and in proportion else.
    tile : int, optional
        Edge of the parts worked on at a time, px; changes memory, never labels.
    threads : int, optional
        Of the network; the number of usable cores when not given.
    device : {"auto", "cpu", "cuda", "mps"}
        Where the network runs; "auto" takes a graphics card where torch sees one.
    model : str, optional
        Name or folder of the network; the shipped ``islet-nuclei`` when not given.
    progress : callable, optional
        Called with (done, total).
    cancelled : callable, optional
        Asked now and then; when true, :class:`~islet_imaging.errors.Cancelled` is raised.

    Returns
    -------
    ndarray of int32, shape (Y, X)
        0 is background, nuclei are numbered from 1 in raster order of their centres.  An image
        without contrast has none.

    Raises
    ------
    PixelSizeError
        If a diameter in um is given without a pixel size, or a size is out of range.
    Cancelled
        When ``cancelled`` returned true.

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64]
    >>> dna = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 60) for a, b in ((20, 20), (44, 40)))
    >>> segment_nuclei(dna, pixel_size_um=0.5, method="classical").max().item()
    2
    """
    image = np.asarray(dna)
    if image.ndim != 2:
        raise ValueError(f"segment_nuclei: dna must be (Y, X), not of shape {image.shape}")
    out = np.zeros(image.shape, np.int32)
    if image.size == 0:
        return out
    for where, part in segment_nuclei_tiled(
        lambda rows, columns: image[rows, columns],
        (image.shape[0], image.shape[1]),
        Scale(pixel_size_um, nucleus_diameter_um),
        NucleiMethod(method, model, min_area_um2, max_area_um2),
        Work(threads=threads, device=device, tile_px=tile, progress=progress, cancelled=cancelled),
    ):
        out[where] = part
    return out


def segment_nuclei_tiled(
    read: ReadPlane,
    shape: tuple[int, int],
    scale: Scale | FoundScale,
    how: NucleiMethod,
    work: Work | None = None,
) -> Iterator[tuple[Region, Labels]]:
    """Find nuclei in an image that is never in memory as a whole.

    Parameters
    ----------
    read : callable
        ``read(rows, columns)`` gives that part of the DNA channel.
    shape : tuple of int
        Of the whole image, not empty.
    scale : Scale or FoundScale
        What is known of it, or what was found before; see `nuclei_scale`.
    how : NucleiMethod
        The method, its network, and the areas allowed.
    work : Work, optional
        Threads, device, tiles, progress.

    Yields
    ------
    (rows, columns), labels
        Strips of the label image from top to bottom, each row once; put together they are what
        :func:`segment_nuclei` returns for the whole image.

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64]
    >>> dna = np.exp(-((y - 20) ** 2 + (x - 20) ** 2) / 60)
    >>> strips = segment_nuclei_tiled(lambda rows, columns: dna[rows, columns], dna.shape,
    ...                               Scale(0.5), NucleiMethod("classical"), Work(tile_px=16))
    >>> sum(len(labels) for _, labels in strips)
    64
    """
    work = work or Work()
    if how.method not in get_args(Method):
        raise ValueError(f"method is {how.method!r}: 'network' or 'classical'")
    if not _has_contrast(read, shape):
        for rows in band_rows(shape):
            nothing = np.zeros((rows.stop - rows.start, shape[1]), np.int32)
            yield (rows, slice(0, shape[1])), nothing
        return
    found = scale if isinstance(scale, FoundScale) else nuclei_scale(read, shape, scale, how, work)
    low, high = _areas_px(found, how)
    if how.method == "network":
        from islet_imaging.network.engine import shared_engine
        from islet_imaging.network.nuclei import segment_nuclei_lazy

        strips = segment_nuclei_lazy(
            read,
            shape,
            shared_engine(how.model or "islet-nuclei", work.device),
            model=how.model or "islet-nuclei",
            diameter_px=found.diameter_px,
            limits=found.limits,
            work=work,
        )
        yield from _of_right_size(strips, low, high)
        return
    yield from segment_strips(
        read, shape, found.diameter_px, min_area_px=low, max_area_px=high, work=work
    )


def nuclei_scale(
    read: ReadPlane,
    shape: tuple[int, int],
    known: Scale,
    how: NucleiMethod,
    work: Work | None = None,
) -> FoundScale:
    """Settle the scale that nuclei of an image are searched with.

    Parameters
    ----------
    read, shape, how, work
        As in :func:`segment_nuclei_tiled`.
    known : Scale
        What was stated.

    Returns
    -------
    FoundScale
        What was stated is not looked at where an image has no contrast or, with
        ``method="classical"``, where a diameter is stated.

    Examples
    --------
    >>> flat = np.zeros((32, 32))
    >>> nuclei_scale(lambda rows, columns: flat[rows, columns], flat.shape, Scale(0.5),
    ...              NucleiMethod()).source
    'usual'
    """
    stated = known.nucleus_diameter_um is not None
    if (how.method == "classical" and stated) or not _has_contrast(read, shape):
        return FoundScale(
            known.diameter_px or WORKING_DIAMETER_PX,
            None,
            0,
            "stated" if stated else "usual",
            known.pixel_size_um,
        )
    from islet_imaging.network.engine import shared_engine

    model = how.model if how.method == "network" and how.model else "islet-nuclei"
    work = work or Work()
    engine = shared_engine(model, work.device)
    return find_scale(read, shape, engine, known, model=model, spread=work.spread)


def _areas_px(found: FoundScale, how: NucleiMethod) -> tuple[float, float]:
    """Smallest and largest nucleus, px; stated areas need a pixel size."""
    size = found.pixel_size_um
    if size is None:
        # in units of the usual nucleus
        size = found.working_pixel_um
        low, high = Nuclei().areas_um2(found.nucleus_um)
    else:
        low, high = Nuclei(min_area_um2=how.min_area_um2, max_area_um2=how.max_area_um2).areas_um2(
            found.nucleus_um
        )
    return low / size**2, high / size**2


def _has_contrast(read: ReadPlane, shape: tuple[int, int]) -> bool:
    """Whether any pixel differs from the first."""
    first = read(slice(0, 1), slice(0, 1))[0, 0]
    everything = slice(0, shape[1])
    return any((read(rows, everything) != first).any() for rows in band_rows(shape))


def _of_right_size(
    strips: Iterator[tuple[Region, Labels]], low: float, high: float
) -> Iterator[tuple[Region, Labels]]:
    """Leave out nuclei of fewer or more px than these and number the others anew."""
    # a nucleus reaches into the strips above and below its own: its area is known two strips on
    area = np.zeros(1, np.int64)
    number = np.zeros(1, np.int32)
    waiting: list[tuple[Region, Labels]] = []
    known = 0

    def renumbered(complete: int) -> None:
        nonlocal number, known
        size = area[known + 1 : complete + 1]
        keep = (size > 0) & (size >= low) & (size <= high)
        last = int(number.max())
        new = np.where(keep, last + np.cumsum(keep), 0).astype(np.int32)
        number, known = np.concatenate([number, new]), complete

    for where, labels in strips:
        found = np.bincount(labels[labels > 0], minlength=1)
        if len(found) > len(area):
            area = np.pad(area, (0, len(found) - len(area)))
        area[: len(found)] += found
        waiting.append((where, labels))
        if len(waiting) > 2:
            renumbered(max(known, int(waiting[0][1].max())))
            where, labels = waiting.pop(0)
            yield where, np.take(number, labels)
    renumbered(len(area) - 1)
    for where, labels in waiting:
        yield where, np.take(number, labels)
