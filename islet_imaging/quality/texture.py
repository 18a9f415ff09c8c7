"""Numbers of structure: how sharp the DNA channel is, and which channel looks like nuclei.

The idea: sharpness is a ratio of powers at two scales, in um, so that it does not depend on stain
strength; what tells DNA from a cytoplasmic marker is that nuclei are alike and evenly spread.
It fails without a pixel size, and with pixels too large to hold the finer scale (over 1.4 um).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from islet_imaging.quality.pixels import BLOCK, Float


def nuclear_pattern(
    levels: list[Float], pixel_size_um: float, tissue: NDArray[np.bool_]
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
) -> tuple[float | None, Float | None]:
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
