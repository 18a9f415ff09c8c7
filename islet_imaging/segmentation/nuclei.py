"""Segmentation of nuclei: one call for the trained network and for the classical method.

The idea: a DNA image and its scale in, labels out, numbered in raster order of the centres, the
same for every tile size.  The scale is the nucleus diameter in pixels, from what the caller knows
or, with nothing known, from the image.
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
from islet_imaging.network.scale import Scale
from islet_imaging.segmentation.classical import climb, segment_strips

Method = Literal["network", "classical"]

#: areas allowed where no pixel size says how many um2, in areas of the typical nucleus
MIN_RELATIVE_AREA = 0.15
MAX_RELATIVE_AREA = 9.0


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
        Edge of a pixel, um.  Without it the nucleus diameter is estimated from the image.
    nucleus_diameter_um : float, optional
        Typical nucleus diameter, um; 7.5 if only the pixel size is given.
    method : {"network", "classical"}
        The trained network, or :mod:`islet_imaging.segmentation.classical`, which needs no weights.
    min_area_um2, max_area_um2 : float, optional
        Nuclei outside are left out; without them, or without a pixel size, 0.15 to 9 times the
        area of the typical nucleus.
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
    scale: Scale,
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
    scale : Scale
        What is known of it.
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
    if how.method == "network":
        from islet_imaging.network.engine import shared_engine
        from islet_imaging.network.nuclei import segment_nuclei_lazy

        strips = segment_nuclei_lazy(
            read,
            shape,
            shared_engine(how.model or "islet-nuclei", work.device),
            diameter_px=scale.diameter_px,
            work=work,
        )
        yield from _of_right_size(strips, scale.pixel_size_um, how)
        return
    diameter = scale.diameter_px
    if diameter is None:
        diameter = estimate_nucleus_diameter_px(read(*_central(shape)))
    typical = np.pi / 4 * diameter**2
    area = None if scale.pixel_size_um is None else scale.pixel_size_um**2
    low = MIN_RELATIVE_AREA * typical
    high = MAX_RELATIVE_AREA * typical
    if area is not None:
        low = low if how.min_area_um2 is None else how.min_area_um2 / area
        high = high if how.max_area_um2 is None else how.max_area_um2 / area
    yield from segment_strips(read, shape, diameter, min_area_px=low, max_area_px=high, work=work)


def _has_contrast(read: ReadPlane, shape: tuple[int, int]) -> bool:
    """Whether any pixel differs from the first."""
    first = read(slice(0, 1), slice(0, 1))[0, 0]
    everything = slice(0, shape[1])
    return any((read(rows, everything) != first).any() for rows in band_rows(shape))


def estimate_nucleus_diameter_px(dna: NDArray[Any]) -> float:
    """Estimate the typical nucleus diameter from the image alone.

    Parameters
    ----------
    dna : ndarray, shape (Y, X)
        DNA channel.

    Returns
    -------
    float
        Diameter, px; 16 where nothing is found.

    Notes
    -----
    The scale at which the scale-normalised Laplacian of Gaussian answers most strongly in the
    brightest blobs (Lindeberg, IJCV 30:79, 1998); a disc's diameter is 2.83 times that scale.

    Examples
    --------
    >>> y, x = np.mgrid[:128, :128]
    >>> disc = (np.hypot((y % 43) - 21, (x % 43) - 21) < 12) * 100.0
    >>> 20 < estimate_nucleus_diameter_px(disc) < 28
    True
    """
    from scipy import ndimage as ndi

    image = np.asarray(dna, np.float32)
    if image.size == 0 or image.min() == image.max():
        return 16.0
    scales = [s for s in 1.4 * 2 ** (np.arange(0, 13) / 2) if 4 * s < min(image.shape)] or [1.4]
    answers = []
    for scale in scales:
        step = max(1, int(scale / 2))
        small = _shrunk(image, step)
        blobs = -ndi.gaussian_laplace(small, scale / step) * (scale / step) ** 2
        peaks = climb(blobs, 5)
        strength = blobs.ravel()[np.unique(peaks)]
        strength = strength[strength > 0]
        # as many blobs as would fill a twentieth of the image
        n = max(1, int(0.05 * small.size / (np.pi * 2 * (scale / step) ** 2)))
        answers.append(float(np.sort(strength)[-n:].mean()) if len(strength) else 0.0)
    best = int(np.argmax(answers))
    place = float(best)
    if 0 < best < len(scales) - 1:
        a, b, c = answers[best - 1 : best + 2]
        place += 0.5 * (a - c) / (a - 2 * b + c) if a - 2 * b + c < 0 else 0.0
    return float(2.83 * 1.4 * 2 ** (place / 2))


def _shrunk(image: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Means of blocks of ``step`` px."""
    rows, columns = (n - n % step for n in image.shape)
    blocks = image[:rows, :columns].reshape(rows // step, step, columns // step, step)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def _central(shape: tuple[int, int], side: int = 2048) -> tuple[slice, slice]:
    rows, columns = (
        slice(max(0, (n - side) // 2), min(n, max(0, (n - side) // 2) + side)) for n in shape
    )
    return rows, columns


def _of_right_size(
    strips: Iterator[tuple[Region, Labels]], pixel_size_um: float | None, how: NucleiMethod
) -> Iterator[tuple[Region, Labels]]:
    """Leave out nuclei of the wrong size and number the others anew."""
    if pixel_size_um is None or (how.min_area_um2 is None and how.max_area_um2 is None):
        yield from strips
        return
    low, high = how.min_area_um2 or 0.0, how.max_area_um2 or np.inf
    # a nucleus reaches into the strips above and below its own: its area is known two strips on
    area = np.zeros(1, np.int64)
    number = np.zeros(1, np.int32)
    waiting: list[tuple[Region, Labels]] = []
    known = 0

    def renumbered(complete: int) -> None:
        nonlocal number, known
        size = area[known + 1 : complete + 1] * pixel_size_um**2
        keep = (size > 0) & (size >= low) & (size <= high)
        last = int(number.max())
        new = np.where(keep, last + np.cumsum(keep), 0).astype(np.int32)
        number, known = np.concatenate([number, new]), complete

    for where, labels in strips:
        found = np.bincount(labels.ravel())
        if len(found) > len(area):
            area = np.pad(area, (0, len(found) - len(area)))
        area[: len(found)] += found
        waiting.append((where, labels))
        if len(waiting) > 2:
            renumbered(max(known, int(waiting[0][1].max())))
            where, labels = waiting.pop(0)
            yield where, number[labels]
    renumbered(len(area) - 1)
    for where, labels in waiting:
        yield where, number[labels]
