"""Nuclei without a trained network: blobs, a threshold for each, necks.

The idea, all at a working scale where a nucleus is 16 px across:

1. The maxima of the negative Laplacian of Gaussian are blobs; every pixel climbs to one of them.
2. Each blob has its own threshold, about half-way between its peak and its own dark pixels, so haze
   and uneven islets do no harm; blobs far dimmer than the brightest nearby, or without an edge, are
   ghosts out of focus.
3. The distance to the mask's edge, helped by the blobs, cuts what touches at its necks; every pixel
   climbs again, and pieces without a real neck between them are put together.
4. The outline is drawn at full resolution where the image crosses the threshold.

Every step looks a bounded distance far, so a tile with a margin gives what the whole image gives.
It fails where nuclei overlap without a neck (one nucleus), where they are elongated beyond 1 : 3
(pieces), and where the diameter is wrong by more than about a third.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32, Labels, ReadPlane
from islet_imaging.arrays.label_statistics import group_quantiles
from islet_imaging.arrays.resample import resample_region, resampled_length

Span = tuple[int, int]

#: diameter of a nucleus at the working scale, px
WORKING_PX = 16
#: small nuclei are enlarged at most this much
MAX_ZOOM = 3.0
#: what a pixel's label may depend on, working px: background, brightest neighbours, whole nuclei
MARGIN_PX = 16 * WORKING_PX


@dataclass(frozen=True)
class ClassicalConfig:
    """Parameters of the classical method, lengths in nucleus diameters.

    Attributes
    ----------
    blob : float
        Width of the Laplacian of Gaussian.
    cut : float
        A nucleus ends at this fraction of the way from its foot to its peak.
    foot_quantile, foot_weight : float
        A blob's foot: this quantile of its pixels above the background, times the weight, since
        in packed tissue even the darkest pixels of a blob are half nucleus.
    ghost : float
        A blob lower than this fraction of the brightest within 4 diameters is out of focus.
    sharp : float
        So is a blob whose scale-normalised Laplacian is less than this fraction of its peak.
    faint : float
        A blob dimmer than this fraction of the image's bright nuclei is none.
    noise : float
        A blob's peak is at least this many noise widths above the background.
    shape_smoothing, fine_blob, fine_weight : float
        How the distance map is smoothed, and how much blobs of which width add to it.
    neck : float
        Pieces are parted if the way between them is this much, in radii, narrower than both.
    """

    blob: float = 0.28
    cut: float = 0.45
    foot_quantile: float = 0.15
    foot_weight: float = 0.5
    ghost: float = 0.3
    sharp: float = 0.2
    faint: float = 0.1
    noise: float = 4.0
    shape_smoothing: float = 0.06
    fine_blob: float = 0.25
    fine_weight: float = 0.5
    neck: float = 0.07


@dataclass(frozen=True)
class Grey:
    """What the whole image says of its grey values, from a thin sample of it."""

    noise: float
    bright: float


def sample_grey(read: ReadPlane, shape: tuple[int, int], zoom: float, unit: float) -> Grey:
    """Noise and bright level, from windows on a fixed grid that hold at most a few megapixels."""
    from scipy import ndimage as ndi

    side = int(24 * unit / zoom)
    spots = []
    for length in shape:
        n = min(6, max(1, length // side))
        spots.append([int(s) for s in np.linspace(0, max(0, length - side), n)])
    noises, peaks = [], []
    for y in spots[0]:
        for x in spots[1]:
            rows, columns = slice(y, min(y + side, shape[0])), slice(x, min(x + side, shape[1]))
            part = read(rows, columns)
            size = tuple(resampled_length(n, zoom) for n in part.shape)
            work = resample_region(part, (0, size[0]), (0, size[1]), zoom)
            noises.append(np.abs(work - ndi.gaussian_filter(work, unit / 16)).ravel()[::7])
            smooth = ndi.gaussian_filter(work, 0.1 * unit)
            peaks.append((smooth - _background(smooth, unit, (0, 0))).ravel()[::7])
    noise = 1.4826 * float(np.median(np.concatenate(noises)))
    bright = float(np.percentile(np.concatenate(peaks), 99.5))
    return Grey(noise, bright)


def _background(smooth: Float32, unit: float, origin: Span) -> Float32:
    """Level between nuclei: low percentile of blocks of 2 diameters, the least of 3 by 3."""
    from scipy import ndimage as ndi

    block = max(8, round(2 * unit))
    first = [o // block for o in origin]
    rows, columns = (
        (np.arange(n) + o) // block - f for n, o, f in zip(smooth.shape, origin, first, strict=True)
    )
    n = (int(rows[-1]) + 1, int(columns[-1]) + 1)
    # the same pixels of the whole image, wherever the tile begins
    thin = tuple(slice(o % 2, None, 2) for o in origin)
    blocks = (rows[thin[0], None] * n[1] + columns[None, thin[1]]).ravel()
    low = group_quantiles(smooth[thin].ravel(), blocks, n[0] * n[1], [0.1])[0].reshape(n)
    # a block of one row of pixels may hold none of the sampled ones
    low = np.where(np.isnan(low), np.inf, low)
    low = ndi.minimum_filter(low, 3, mode="nearest")
    low = np.where(np.isfinite(low), low, float(smooth.min()))
    low = ndi.gaussian_filter(low, 1.0, mode="nearest", truncate=2).astype(np.float32)
    for axis in (0, 1):
        at = (np.arange(smooth.shape[axis]) + origin[axis] + 0.5) / block - 0.5
        low = between(low, at, first[axis], axis)
    return np.asarray(low)


def between(grid: Float32, at: NDArray[np.float64], first: int, axis: int) -> Float32:
    """Linear interpolation along an axis at places of the whole image's grid.

    Weights come from the places themselves, before the tile's first row is taken off, so that
    they are the same in every tile.
    """
    n = grid.shape[axis]
    low = np.floor(at).astype(np.intp)
    weight = (at - low).astype(np.float32)
    low -= first
    weight[low < 0] = 0
    weight[low > n - 2] = min(1, n - 1)
    low = np.clip(low, 0, max(n - 2, 0))
    weight = weight.reshape((-1, 1) if axis == 0 else (1, -1))
    below, above = np.take(grid, low, axis), np.take(grid, np.minimum(low + 1, n - 1), axis)
    out: Float32 = below + weight * (above - below)
    return out


def segment_part(
    x: Float32, unit: float, grey: Grey, cfg: ClassicalConfig, origin: Span
) -> tuple[Float32, Labels]:
    """Nuclei of a part of the working image.

    Returns
    -------
    field : ndarray of float32
        Positive inside nuclei, negative outside, zero on the outline.
    basin : ndarray of int32
        Which nucleus a pixel would belong to; the numbers mean nothing.
    """
    from scipy import ndimage as ndi

    nothing = np.full(x.shape, -1, np.float32), np.zeros(x.shape, np.int32)
    if not grey.bright > max(cfg.noise * grey.noise, 1e-6):
        return nothing
    smooth = ndi.gaussian_filter(x, unit / 16)
    above = smooth - _background(smooth, unit, origin)
    peak = ndi.gaussian_filter(above, 0.1 * unit)
    blobs = ndi.gaussian_laplace(above, cfg.blob * unit)
    blobs *= np.float32(-((cfg.blob * unit) ** 2))
    tops, blob = _compact(climb(blobs), x.shape)
    level = peak.ravel()[tops]
    foot = group_quantiles(above.ravel(), blob.ravel(), len(tops), [cfg.foot_quantile])[0]
    foot = np.float32(cfg.foot_weight) * np.maximum(foot, 0).astype(np.float32)
    # the brightest nearby, of things as large as a nucleus
    brightest = _brightest(
        ndi.gaussian_filter(above, 0.19 * unit), max(2, round(unit / 4)), 16, origin
    )
    least = np.float32(max(cfg.noise * grey.noise, cfg.faint * grey.bright))
    real = (level > least) & (level - foot > cfg.ghost * brightest.ravel()[tops])
    real &= blobs.ravel()[tops] > cfg.sharp * level
    cut = np.where(real, foot + np.float32(cfg.cut) * (level - foot), np.float32(np.inf))
    mask = above > cut[blob]
    mask = ndi.binary_opening(mask)
    mask = _without_holes(mask, 0.3 * unit**2)
    if not mask.any():
        return nothing
    depth = np.minimum(ndi.distance_transform_edt(mask), unit).astype(np.float32)
    shape = ndi.gaussian_filter(depth, cfg.shape_smoothing * unit) * np.float32(2 / unit)
    level = np.maximum(level, least)[blob]
    fine = ndi.gaussian_laplace(above, cfg.fine_blob * unit)
    fine *= np.float32((cfg.fine_blob * unit) ** 2) / level
    shape -= np.float32(cfg.fine_weight) * fine
    shape[~mask] = -1e3 + shape[~mask]
    basin = climb(shape).reshape(x.shape)
    basin = _join(basin, shape, mask, cfg.neck)
    mask = _largest_parts(basin, mask)
    # where the mask was mended, the field must follow it
    inside = np.float32(0.25 * cfg.cut) * level
    field = above - np.minimum(cut, np.float32(1e30))[blob]
    field = np.where(mask, np.maximum(field, inside), np.clip(field, -4 * level, -inside))
    return field.astype(np.float32, copy=False), basin


def _compact(root: Labels, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], Labels]:
    """The maxima that pixels climb to, and the number of each pixel's own."""
    reached = np.zeros(root.size, bool)
    reached[root] = True
    number = np.cumsum(reached, dtype=np.int32)
    number -= 1
    return np.flatnonzero(reached), number[root].reshape(shape)


def climb(height: Float32, doublings: int = 6) -> Labels:
    """Where each pixel arrives that always steps to the highest of its 8 neighbours.

    Parameters
    ----------
    height : ndarray of float32, shape (Y, X)
        A smooth image.
    doublings : int
        The way is at most ``2 ** doublings`` steps long.

    Returns
    -------
    ndarray of int32, shape (Y * X,)
        Flat index of the maximum that each pixel belongs to.

    Notes
    -----
    A watershed of the negative image by steepest ascent, in a few array operations, and, unlike
    flooding, independent of everything further away than the longest way.

    Examples
    --------
    >>> climb(np.float32([[0, 2, 1, 3, 0]])).tolist()
    [1, 1, 3, 3, 3]
    """
    rows, columns = height.shape
    best = height.copy()
    here = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    towards = here.copy()
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy == 0 and dx == 0:
                continue
            to = (slice(max(0, -dy), rows - max(0, dy)), slice(max(0, -dx), columns - max(0, dx)))
            frm = (slice(max(0, dy), rows + min(0, dy)), slice(max(0, dx), columns + min(0, dx)))
            higher = height[frm] > best[to]
            np.copyto(best[to], height[frm], where=higher)
            np.copyto(towards[to], here[frm], where=higher)
    way = towards.ravel()
    for _ in range(doublings):
        way = way[way]
    return way


def _brightest(image: Float32, block: int, reach: int, origin: Span) -> Float32:
    """Maximum over blocks, then over the blocks around, for every pixel."""
    from scipy import ndimage as ndi

    rows, columns = (
        (np.arange(n) + o) // block - o // block for n, o in zip(image.shape, origin, strict=True)
    )
    starts = [np.flatnonzero(np.r_[True, i[1:] != i[:-1]]) for i in (rows, columns)]
    grid = np.maximum.reduceat(np.maximum.reduceat(image, starts[0], axis=0), starts[1], axis=1)
    grid = ndi.maximum_filter(grid, 2 * reach + 1, mode="nearest")
    return np.asarray(grid[rows[:, None], columns[None, :]])


def _without_holes(mask: NDArray[np.bool_], area: float) -> NDArray[np.bool_]:
    """The mask with holes of less than ``area`` px filled."""
    from scipy import ndimage as ndi

    holes, _ = ndi.label(~mask)
    small = np.bincount(holes.ravel()) < area
    small[0] = False
    return np.asarray(mask | small[holes])


def _join(basin: Labels, shape: Float32, mask: NDArray[np.bool_], neck: float) -> Labels:
    """Put pieces together that have no neck between them.

    Each piece joins the neighbour over the highest saddle, if that saddle is hardly lower than the
    piece's own top; the lower joins the higher, so that chains end after a few steps.
    """
    one, two, saddle = [], [], []
    for a, b in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        touch = (basin[a] != basin[b]) & mask[a] & mask[b]
        one.append(basin[a][touch])
        two.append(basin[b][touch])
        saddle.append(np.minimum(shape[a][touch], shape[b][touch]))
    left, right, way = np.concatenate(one), np.concatenate(two), np.concatenate(saddle)
    if not len(left):
        return basin
    height = shape.ravel()
    rises = (height[left] < height[right]) | ((height[left] == height[right]) & (left > right))
    lower, upper = np.where(rises, left, right), np.where(rises, right, left)
    order = np.lexsort((upper, -way, lower))
    lower, upper, way = lower[order], upper[order], way[order]
    first = np.r_[True, lower[1:] != lower[:-1]]
    lower, upper, way = lower[first], upper[first], way[first]
    joins = height[lower] - way < neck
    target = np.arange(basin.size, dtype=np.int32)
    target[lower[joins]] = upper[joins]
    for _ in range(3):
        target[lower] = target[target[lower]]
    return target[basin]


def _largest_parts(basin: Labels, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with only the largest connected part of each nucleus."""
    from skimage.measure import label

    named = np.where(mask, basin + np.int32(1), 0)
    parts = label(named, connectivity=1)
    area = np.bincount(parts.ravel())
    area[0] = 0
    flat = np.flatnonzero(parts)
    owner = np.zeros(len(area), np.int64)
    owner[parts.ravel()[flat]] = named.ravel()[flat]
    order = np.lexsort((-np.arange(len(area)), area, owner))
    last = np.r_[owner[order][1:] != owner[order][:-1], True]
    keep = np.zeros(len(area), bool)
    keep[order[last]] = True
    keep[0] = False
    return np.asarray(keep[parts])
