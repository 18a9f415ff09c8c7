"""Bring a DNA channel to the scale of grey values that the nuclei network expects.

The idea: two percentiles of the whole image fix black and white; a compressive curve (asinh) lifts
dim nuclei beside bright ones, which are the ones that get lost.  The percentiles come from one
fixed subsample of the whole image, so they do not depend on tiles, strips or workers.

It fails on an image that is empty: noise is stretched to full contrast (the network has seen such
crops and should return nothing), and where debris outshines nuclei in most of the image's blocks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from islet_imaging._types import Float32, Mask, ReadPlane, Spread, View

WORKING_DIAMETER_PX = 16.0
"""Median nucleus diameter that the network is trained around, in px."""

LOW_PERCENTILE = 0.5
HIGH_PERCENTILE = 99.5
COMMON_PERCENTILE = 80
COMPRESSION = 4.0
#: linear values beyond these say nothing more
CURVE_RANGE = (-1.0, 30.0)
_CURVE_STEPS = 1024
#: values that stay in a processor's cache
_AT_ONCE = 32768
MAX_SAMPLES = 1_000_000
#: edge of the blocks that glare is told by, sampled pixels
GLARE_BLOCK = 16
#: how many times what most blocks with structure reach white must be to be glare; less where it is
#: the ceiling of the camera, which a fibre reaches and nuclei seldom do
GLARE, GLARE_AT_CEILING = 30.0, 10.0


def grey_limits(
    read: ReadPlane, shape: tuple[int, int], spread: Spread | None = None
) -> tuple[float, float]:
    """Find black and white of an image from a fixed subsample of it.

    Parameters
    ----------
    read : callable
        ``read(rows, columns)`` returns that part of the image, (Y, X).
    shape : (int, int)
        Of the whole image.
    spread : callable, optional
        Reads parts of the DNA channel of a large image elsewhere, with the same result.

    Returns
    -------
    low, high : float
        Percentiles 0.5 and 99.5 of at most about a million pixels on a regular grid.  ``high`` is
        above ``low`` even for a constant image.
    """
    stripes, step = sampled_stripes(shape, MAX_SAMPLES)
    if spread is None:
        parts = [_sampled(read, rows, shape[1], step) for rows in stripes]
    else:
        parts = list(spread(_sampled_dna, [(rows, shape[1], step) for rows in stripes]))
    whole = np.concatenate(parts)
    sample = whole[np.isfinite(whole)]
    if not sample.size:
        return 0.0, 1.0
    low, common, high = np.percentile(sample, [LOW_PERCENTILE, COMMON_PERCENTILE, HIGH_PERCENTILE])
    high = _without_glare(whole, float(low), float(common), float(high), float(sample.max()))
    if high - low < 1e-6 * max(abs(float(high)), 1.0):
        # nearly everything is one value: nuclei, if any, are above the high percentile
        high = max(float(sample.max()), float(low) + 1.0)
    return float(low), float(high)


def sampled_stripes(shape: tuple[int, int], most: int) -> tuple[list[slice], int]:
    """Stripes of at most 64 sampled rows, so that a slide is never read whole, and the step.

    Examples
    --------
    >>> sampled_stripes((300, 200), 15_000)
    ([slice(0, 128, None), slice(128, 256, None), slice(256, 300, None)], 2)
    """
    step = max(1, int(np.ceil(np.sqrt(shape[0] * shape[1] / most))))
    high = 64 * step
    return [slice(y, min(y + high, shape[0])) for y in range(0, shape[0], high)], step


def _sampled(read: ReadPlane, rows: slice, width: int, step: int) -> Float32:
    part = np.asarray(read(rows, slice(0, width)))[::step, ::step]
    return np.ascontiguousarray(part, np.float32)


def _sampled_dna(view: View, rows: slice, width: int, step: int) -> Float32:
    """A stripe of the DNA channel where the image is a view."""
    return _sampled(view.dna, rows, width, step)


def _without_glare(whole: Float32, low: float, common: float, high: float, top: float) -> float:
    """White of the image's own structure, where a fibre or other glare outshines all of it.

    Blocks are judged each for itself: most that hold structure hold none of the glare.  White is
    lowered only where it is many times what the brighter blocks reach, and these are well above
    the noise.
    """
    rows, columns = (n // GLARE_BLOCK * GLARE_BLOCK for n in whole.shape)
    at_ceiling = high >= 0.98 * top
    ratio = GLARE_AT_CEILING if at_ceiling else GLARE
    # the brighter blocks reach what a fifth of all pixels do, so most images are told at once
    if min(rows, columns) < 4 * GLARE_BLOCK or high - low < ratio * (common - low):
        return high
    cut = whole[:rows, :columns].reshape(
        rows // GLARE_BLOCK, GLARE_BLOCK, columns // GLARE_BLOCK, GLARE_BLOCK
    )
    blocks = np.moveaxis(cut, 2, 1).reshape(-1, GLARE_BLOCK * GLARE_BLOCK)
    blocks = np.nan_to_num(blocks, nan=low, posinf=top, neginf=low)
    reach = np.percentile(blocks, 95, axis=1)
    usual = float(np.percentile(reach, 85))
    if high - low < ratio * (usual - low):
        return high
    steps = np.abs(np.diff(blocks.reshape(-1, GLARE_BLOCK, GLARE_BLOCK), axis=2)).mean(axis=(1, 2))
    noise = float(np.percentile(steps, 10))
    if usual - low < 6 * max(noise, 1e-6):
        return high
    if not _like_glare(whole > low + 0.3 * (high - low)):
        return high
    calm = blocks[reach <= low + 4 * (usual - low)]
    return float(np.percentile(calm, HIGH_PERCENTILE))


def _like_glare(bright: Mask) -> bool:
    """Whether bright pixels are one thing, or long things, rather than so many nuclei."""
    labels, n = ndimage.label(bright)
    if n == 0:
        return False
    area = np.bincount(labels.ravel())[1:].astype(float)
    if area.max() >= 0.6 * area.sum():
        return True
    y, x = np.nonzero(labels)
    own = labels[y, x] - 1
    centre = [np.bincount(own, v, n) / area for v in (y, x)]
    dy, dx = y - centre[0][own], x - centre[1][own]
    yy, xx, yx = (np.bincount(own, v, n) / area for v in (dy * dy, dx * dx, dy * dx))
    half, root = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + yx**2)
    # a pixel has a variance of a twelfth of its own
    long = (half + root + 1 / 12) >= 16 * (half - root + 1 / 12)
    return bool(area[long].sum() >= 0.5 * area.sum())


def normalise(image: NDArray[np.generic], limits: tuple[float, float]) -> Float32:
    """Map grey values to about 0 to 1.

    Parameters
    ----------
    image : (Y, X) any dtype
        Part or whole of a DNA channel.
    limits : (float, float)
        From `grey_limits` of the whole image.

    Returns
    -------
    (Y, X) float32
        0 at the low limit, 1 at the high one, at most about 1.7; not-finite pixels become 0.

    Examples
    --------
    >>> normalise(np.array([[10, 110]]), (10.0, 110.0))
    array([[0., 1.]], dtype=float32)
    """
    low, high = limits
    dtype = image.dtype
    if dtype.kind == "u" and dtype.itemsize <= 2 and image.size > 1 << 8 * dtype.itemsize:
        # fewer grey values than pixels: each is mapped once
        entry: NDArray[Any] = image
        return np.take(normalise(np.arange(1 << 8 * dtype.itemsize, dtype=dtype), limits), entry)
    x = image.astype(np.float32)
    x -= np.float32(low)
    x /= np.float32(high - low)
    np.nan_to_num(x, copy=False, nan=0.0, posinf=10.0, neginf=0.0)
    return compress(np.clip(x, -0.1, 10.0, out=x))


def compress(x: Float32) -> Float32:
    """Apply the compressive curve to linear values scaled to 0..1."""
    return steady_curve(x, COMPRESSION)


def steady_curve(x: NDArray[np.floating], compression: float) -> Float32:
    """``asinh(c x) / asinh(c)``, the same to the last bit on every processor.

    Libraries compute the inverse hyperbolic sine in other ways on other processors, and a last bit
    may turn a rounding of the integer networks.  Here it is read off a table between whose entries
    lines are drawn, with sums and products alone.

    Parameters
    ----------
    x : float array
        Clipped to `CURVE_RANGE`.
    compression : float
        c.

    Returns
    -------
    float32 array
        Of the same shape, within 2e-5.

    Examples
    --------
    >>> steady_curve(np.array([0.0, 1.0]), 4.0)
    array([0., 1.], dtype=float32)
    """
    values, steps = _curve_table(compression)
    low, high = CURVE_RANGE
    x = np.asarray(x, np.float32)
    curve = np.empty(x.shape, np.float32)
    flat, given = curve.reshape(-1), x.reshape(-1)
    for first in range(0, x.size, _AT_ONCE):
        at = flat[first : first + _AT_ONCE]
        np.clip(given[first : first + _AT_ONCE], np.float32(low), np.float32(high), out=at)
        at -= np.float32(low)
        at *= np.float32(_CURVE_STEPS)
        below = np.floor(at)
        at -= below
        entry = below.astype(np.intp)
        at *= np.take(steps, entry, mode="clip")
        at += np.take(values, entry, mode="clip")
    return curve


@lru_cache(maxsize=8)
def _curve_table(compression: float) -> tuple[Float32, Float32]:
    """Values of the curve on a grid, and their differences."""
    low, high = CURVE_RANGE
    x = np.arange(int((high - low) * _CURVE_STEPS) + 2) / _CURVE_STEPS + low
    # rounded to where the last bits of any library's asinh are gone
    y = np.rint(np.arcsinh(compression * x) / np.arcsinh(compression) * 2**20) / 2**20
    return y.astype(np.float32), np.diff(y, append=y[-1]).astype(np.float32)
