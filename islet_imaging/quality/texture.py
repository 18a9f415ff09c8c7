"""Numbers of structure: how sharp the DNA channel is, and which channel looks like nuclei.

The idea: sharpness is a ratio of powers at two scales, in um, so that it does not depend on stain
strength; what tells DNA from a cytoplasmic marker is that nuclei are alike and evenly spread.
It fails without a pixel size, and with pixels too large to hold the finer scale (over 1.4 um).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from islet_imaging._types import Float32
from islet_imaging.quality.pixels import BLOCK


def nuclear_pattern(
    levels: list[Float32], pixel_size_um: float, tissue: NDArray[np.bool_]
) -> tuple[float, float]:
    """How much a channel looks like nuclei, on a copy with pixels of about 1 um.

    Parameters
    ----------
    levels : list of ndarray
        The channel as stored and its binned copies (:func:`pyramid`).
    pixel_size_um : float
        Edge of a stored pixel, um.
    tissue : ndarray of bool
        Tissue on blocks of 8 pixels.

    Returns
    -------
    band : float
        Relative variation at the scale of nuclei (1.5 to 6 um).
    slow : float
        Relative variation of the level beyond that scale.  NaN where there is too little tissue.
    """
    nothing = (float("nan"), float("nan"))
    k = int(np.argmin([abs(np.log(pixel_size_um * 2**i)) for i in range(len(levels))]))
    small, factor = levels[k], 2**k
    scale = 1.0 / (pixel_size_um * factor)
    if min(small.shape) < 24 * scale or not tissue.any():
        return nothing
    rows = np.minimum(np.arange(small.shape[0]) * factor // BLOCK, tissue.shape[0] - 1)
    cols = np.minimum(np.arange(small.shape[1]) * factor // BLOCK, tissue.shape[1] - 1)
    mask = tissue[np.ix_(rows, cols)]
    if np.count_nonzero(mask) < 200:
        return nothing
    small = np.asarray(small, dtype=np.float32) - np.float32(np.percentile(small[::4, ::4], 1))
    fine = ndimage.gaussian_filter(small, 1.5 * scale, truncate=3)
    slow = ndimage.gaussian_filter(small, 6.0 * scale, truncate=2.5)
    local = slow[mask]
    mean = float(local.mean())
    if mean <= 0:
        return nothing
    band = (fine - slow)[mask] / np.maximum(local, 0.1 * mean)
    return float(band.std()), float(local.std()) / mean


def sharpness(
    dna: NDArray[Any], pixel_size_um: float, tissue: NDArray[np.bool_]
) -> tuple[float | None, Float32 | None]:
    """Power of the DNA channel at 1.8 to 3.2 um over that at 5 to 12 um, per tile and median.

    The floor of white noise, read in the corner of the spectrum, is removed first.  A Gaussian
    blur of sigma s um divides the ratio by about exp(7.4 s^2), so a drop against the batch is a
    blur in um.

    Returns
    -------
    tuple
        Median over tiles with tissue (None where there are none), and the tiles.
    """
    tile = int(2 ** np.ceil(np.log2(24.0 / pixel_size_um)))
    tile = int(np.clip(tile, 64, 512))
    rows, cols = dna.shape[0] // tile, dna.shape[1] // tile
    if rows == 0 or cols == 0 or pixel_size_um > 1.4:
        return None, None
    step = tile // BLOCK
    cut = tissue[: rows * step, : cols * step]
    share = cut.reshape(rows, step, cols, step).mean(axis=(1, 3))
    out = np.full((rows, cols), np.nan, dtype=np.float32)
    order = np.argsort(-share, axis=None, kind="stable")[:64]
    where = [divmod(int(i), cols) for i in order if share.flat[i] > 0.4]
    if not where:
        return None, out
    window = np.hanning(tile).astype(np.float32)
    stack = np.stack(
        [dna[r * tile : (r + 1) * tile, c * tile : (c + 1) * tile] for r, c in where]
    ).astype(np.float32)
    stack -= stack.mean(axis=(1, 2), keepdims=True)
    stack *= window[:, None] * window
    power = np.abs(fft.rfft2(stack, axes=(1, 2))) ** 2
    fy, fx = np.fft.fftfreq(tile), np.fft.rfftfreq(tile)
    per_px = np.hypot(fy[:, None], fx)
    per_um = per_px / pixel_size_um
    noise = power[:, per_px > 0.55].mean(axis=1)
    fine = power[:, (per_um > 1 / 3.2) & (per_um < 1 / 1.8) & (per_px < 0.5)].mean(axis=1) - noise
    coarse = power[:, (per_um > 1 / 12) & (per_um < 1 / 5)].mean(axis=1) - noise
    for (r, c), f, b in zip(where, fine, coarse, strict=True):
        out[r, c] = max(float(f), 1e-9 * float(abs(b))) / b if b > 0 else np.nan
    good = out[np.isfinite(out)]
    return (float(np.median(good)) if good.size else None), out


def glowing_specks(levels: Mapping[str, list[Float32]], pixel_size_um: float) -> float | None:
    """Small bright spots per mm2 that lie at the same place in all of some channels.

    A spot stands far above the spread of the channel's own fine structure, in dim surroundings, on
    a copy with pixels of about 0.6 um.

    Parameters
    ----------
    levels : mapping of str to list of ndarray
        Marker channels of different dyes, each as stored and binned.
    pixel_size_um : float
        Edge of a stored pixel, um.

    Returns
    -------
    float or None
        None with fewer than two channels, a tiny image, or pixels too coarse to show specks.
    """
    if len(levels) < 2 or pixel_size_um > 1.0:
        return None
    some = next(iter(levels.values()))
    if min(some[0].shape) < 64:
        return None
    k = int(np.argmin([abs(np.log(pixel_size_um * 2**i / 0.6)) for i in range(len(some))]))
    pixel = pixel_size_um * 2**k
    together: NDArray[np.bool_] | None = None
    for channel in levels.values():
        plane = np.asarray(channel[k], dtype=np.float32)
        around = ndimage.uniform_filter(plane, 2 * round(5.0 / pixel) + 1)
        fine = plane - around
        sample = fine[::3, ::3]
        spread = 1.4826 * float(np.median(np.abs(sample - np.median(sample))))
        low, high = np.percentile(plane[::3, ::3], [1, 99])
        reach = float(high - low)
        # granules lie in bright cells, lipofuscin anywhere: only dim surroundings are judged
        spot = (fine > max(6 * spread, 0.15 * reach)) & (around < low + 0.25 * reach)
        together = spot if together is None else together & spot
    assert together is not None
    return float(ndimage.label(together)[1] / (together.size * (pixel / 1000) ** 2))


def shared_floor(source: Float32, target: Float32, tissue: NDArray[np.bool_]) -> float:
    """How much of a source channel seems to be in the lowest values of a target channel.

    Among tissue blocks bright in the source, the 10th percentile of the target is compared with
    that among dim ones: light that bleeds lifts all of them, other cells lift only some.

    Returns
    -------
    float
        Slope, target counts per source count; NaN where the source shows no contrast.
    """
    a, b = source[tissue], target[tissue]
    if a.size < 200:
        return float("nan")
    dim, bright = np.percentile(a, [30, 92])
    low, high = a <= dim, a >= bright
    rise = float(a[high].mean() - a[low].mean())
    noise = float(np.percentile(a, 30) - np.percentile(a, 5))
    if rise <= max(4 * noise, 1e-6):
        return float("nan")
    return float(np.percentile(b[high], 10) - np.percentile(b[low], 10)) / rise
