"""Numbers read from the pixels of one channel: blocks, tissue, noise, clipping, compression.

The idea: everything works on stored pixels, sampled or binned so that it costs milliseconds, and
says what a histogram or a mean would hide (where the ceiling is, which grey levels are never used).
It fails on pixels that were resampled: noise, combs and blocks are then smeared.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from islet_imaging._types import Float32
from islet_imaging.measurement.saturation import PILE_STEP, piles_up

#: largest values of cameras and detectors: 8, 10, 12, 14 and 16 bit
CEILINGS = (255, 1023, 4095, 16383, 65535)
#: edge of the blocks that tissue, background and structure are judged on, px
BLOCK = 8


def halve(plane: NDArray[Any]) -> Float32:
    """Means of 2 x 2 pixels; an odd last row or column is left out.

    Examples
    --------
    >>> halve(np.array([[0, 2, 9], [4, 6, 9]])).tolist()
    [[3.0]]
    """
    rows, cols = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    # pairs of rows are added as rows, so that memory is read in order
    pair = np.add(plane[0:rows:2, :cols], plane[1:rows:2, :cols], dtype=np.float32)
    out = pair[:, 0::2] + pair[:, 1::2]
    out *= np.float32(0.25)
    return np.asarray(out, dtype=np.float32)


def pyramid(plane: NDArray[Any]) -> list[Float32]:
    """Means of 2 x 2, 4 x 4 and 8 x 8 pixels."""
    two = halve(plane)
    four = halve(two)
    return [two, four, halve(four)]


def tissue_mask(dna_blocks: Float32) -> NDArray[np.bool_]:
    """Blocks with tissue: where the binned DNA channel is above Otsu's cut of its log.

    The result is grown by a block, so that cytoplasm and gaps count as tissue.
    """
    from skimage.filters import threshold_otsu

    if dna_blocks.size == 0 or float(np.ptp(dna_blocks)) <= 0:
        return np.ones(dna_blocks.shape, dtype=bool)
    low = float(np.percentile(dna_blocks, 1))
    spread = max(float(np.percentile(dna_blocks, 99)) - low, 1e-6)
    level = np.log(np.maximum(dna_blocks - low, 0) + 0.02 * spread)
    mask = level > threshold_otsu(level)
    grown: NDArray[np.bool_] = ndimage.binary_dilation(mask, iterations=1)
    return grown


def pixel_noise(plane: NDArray[Any]) -> float:
    """Standard deviation of pixel noise in dark parts, from second differences along rows.

    Every fourth row is used; the lower quartile over short stretches keeps structure out.
    """
    rows = np.asarray(plane[::4], dtype=np.float32)
    if rows.shape[1] < 19:
        return 0.0
    second = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])
    width = second.shape[1] // 16 * 16
    local = second[:, :width].reshape(second.shape[0], -1, 16).mean(axis=2)
    # mean |second difference| of white noise is sqrt(6) * sqrt(2 / pi) times its sd
    return float(np.percentile(local, 25) / (np.sqrt(6.0) * np.sqrt(2 / np.pi)))


def dark_level(plane: NDArray[Any]) -> float:
    """The level at which pixel noise would vanish: photon transfer, read from the x axis.

    Noise of light grows with its level, so the variance of blocks over their mean is a line; it
    meets zero at the camera's offset, less what read noise adds.  The 20th percentile within bands
    of level keeps structure out.

    Returns
    -------
    float
        NaN for images too small, too flat, or without noise that grows with the level.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> light = np.repeat(np.linspace(20, 400, 512), 512).reshape(512, 512)
    >>> picture = (100 + 2.0 * rng.poisson(light)).astype(np.uint16)
    >>> 90 < dark_level(picture) < 110
    True
    """
    rows, cols = plane.shape[0] // BLOCK * BLOCK, plane.shape[1] // BLOCK * BLOCK
    if min(rows, cols) < 16 * BLOCK:
        return float("nan")
    # every other row of blocks: enough of them, at half the price; whole rows, which are quick
    view = plane[:rows, :cols].reshape(rows // BLOCK, BLOCK, cols)[::2]
    lines = view.astype(np.float32)
    blocks = (len(lines), cols // BLOCK, BLOCK)
    level = lines.sum(axis=1).reshape(blocks).mean(axis=2).ravel() / BLOCK
    second = np.zeros(lines.shape, np.float32)
    np.add(lines[..., :-2], lines[..., 2:], out=second[..., :-2])
    lines *= 2
    second[..., :-2] -= lines[..., 1:-1]
    second *= second
    # the last two of a block reach into the next
    variance = second.sum(axis=1).reshape(blocks)[..., :-2].mean(axis=2).ravel() / (6 * BLOCK)
    edges = np.unique(np.percentile(level, np.linspace(0, 90, 13)))
    x, y = [], []
    for low, high in itertools.pairwise(edges):
        band = (level >= low) & (level < high)
        if np.count_nonzero(band) >= 20:
            x.append(float(level[band].mean()))
            y.append(float(np.percentile(variance[band], 20)))
    if len(x) < 4 or min(y) <= 0:
        return float("nan")
    # a variance is known to a share of itself: dim bands weigh most
    slope, offset = np.polyfit(x, y, 1, w=1 / np.array(y))
    return float(-offset / slope) if slope > 0 else float("nan")


def saturation(plane: NDArray[Any], tissue: NDArray[np.bool_], *, bits: int | None = None) -> float:
    """Share of tissue pixels at the ceiling; 0 where the largest value is no ceiling.

    The ceiling is that of the stated bit depth, or a detector's (255, 1023, 4095, 16383,
    65535).  Elsewhere a pile of pixels at the largest value counts as one
    (:func:`~islet_imaging.measurement.saturation.piles_up`).

    Parameters
    ----------
    plane : ndarray, shape (Y, X)
        Pixels as stored.
    tissue : ndarray of bool
        Tissue on the grid of :func:`block_means`.
    bits : int, optional
        Significant bits that the file states.
    """
    # a half-precision maximum cannot be compared with 65535
    top = float(plane.max())
    if not np.isfinite(top) or top <= plane.min():
        return 0.0
    at_top = plane == plane.max()
    count = int(np.count_nonzero(at_top))
    stated = bits is not None and top >= 2**bits - 1
    if not stated and top not in CEILINGS:
        step = PILE_STEP * (top - float(plane.min()))
        below = int(np.count_nonzero((plane >= top - step) & ~at_top))
        # without a known ceiling only a pile-up tells clipping from one bright pixel
        if not piles_up(count, below):
            return 0.0
    if count <= 2:
        return 0.0
    y, x = np.divmod(np.flatnonzero(at_top), plane.shape[1])
    y, x = y // BLOCK, x // BLOCK
    inside = (y < tissue.shape[0]) & (x < tissue.shape[1])
    hits = int(np.count_nonzero(tissue[y[inside], x[inside]]))
    return hits / max(1, int(np.count_nonzero(tissue)) * BLOCK * BLOCK)


def comb(plane: NDArray[Any]) -> float:
    """Share of grey levels that are empty among levels with well-filled neighbours (integers).

    Contrast stretching of stored integers leaves a regular comb of empty levels; a level whose
    neighbours hold 20 pixels each is never empty by chance.
    """
    if plane.dtype.kind not in "ui" or plane.dtype.itemsize > 2 or plane.size == 0:
        return 0.0
    levels = np.asarray(plane[::2, ::2]).ravel().astype(np.int32)
    # signed pixels may lie below 0
    counts = np.bincount(levels - levels.min()).astype(float)
    filled = np.flatnonzero(counts)
    counts = counts[filled[0] : filled[-1] + 1]
    around = ndimage.uniform_filter1d(counts, 17, mode="constant")
    # the ends hold clipped pixels and the first level above black
    dense = around >= 20
    dense[:2] = dense[-2:] = False
    if np.count_nonzero(dense) < 12:
        return 0.0
    return float(np.mean(counts[dense] == 0))


def blockiness(plane: NDArray[Any]) -> float:
    """Mean absolute step across borders of 8 x 8 pixels over the mean step elsewhere (JPEG)."""
    if plane.shape[0] < 64 or plane.shape[1] < 64:
        return 1.0
    ratios = []
    for view in (plane[::4], plane.T[::4]):
        rows = np.asarray(view, dtype=np.float32)
        steps = np.abs(np.diff(rows, axis=1)).mean(axis=0)
        width = steps.size // 8 * 8
        by_phase = steps[:width].reshape(-1, 8).mean(axis=0)
        rest = float(by_phase[:7].mean())
        ratios.append(float(by_phase[7]) / rest if rest > 0 else 1.0)
    return min(ratios)


def line_steps(plane: NDArray[Any]) -> list[Float32]:
    """How one-sided the step across each straight line is, between columns and between rows.

    For each line, the 4 pixels before and the 4 after are compared in some 256 rows; the mean
    sign of the difference, times the root of the number of rows, is a z without structure.
    """
    out = []
    for view in (plane, plane.T):
        if min(view.shape) < 128:
            return []
        rows = np.ascontiguousarray(view[:: max(1, view.shape[0] // 256)], dtype=np.float32)
        total = np.cumsum(rows, axis=1, dtype=np.float32)
        four = total[:, 4:] - total[:, :-4]
        before, after = four[:, :-4], four[:, 4:]
        up = (after > before).mean(axis=0, dtype=np.float32)
        down = (after < before).mean(axis=0, dtype=np.float32)
        z = (up - down) * np.float32(np.sqrt(rows.shape[0]))
        # tissue makes steps too, but gradual ones
        out.append(np.asarray(z - ndimage.median_filter(z, 31, mode="nearest"), dtype=np.float32))
    return out


def seam(steps: list[list[Float32]]) -> float:
    """The sharpest straight step from edge to edge in all channels together, as a robust z.

    Parameters
    ----------
    steps : list of list of ndarray
        :func:`line_steps` of each channel.
    """
    best = 0.0
    usable = [s for s in steps if s]
    for axis in (0, 1) if usable else ():
        together = np.abs(np.sum([s[axis] for s in usable], axis=0)) / np.sqrt(len(usable))
        spread = max(1.0, 1.4826 * float(np.median(together)))
        best = max(best, float(together.max()) / spread)
    return best
