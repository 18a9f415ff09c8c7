"""From the network's fields to nucleus labels, without a loop over nuclei.

The idea: each foreground pixel follows its offset to where it says its centre is; the votes are
counted, smoothed, and their peaks are the nuclei.  (Following the offset found there again was
measured to merge neighbours.)  A pixel belongs to the peak nearest to where it
ended.  All this happens at half resolution and is local: a result depends on fields at most
`MARGIN_PX` away, so blocks that overlap by it give the same nuclei.  The last step draws
the mask at the image's own resolution from the interpolated foreground, so edges are smooth.

It fails where two nuclei lie so exactly over each other that their centres agree, and cuts a very
long nucleus in two when its ends vote for different centres.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

from islet_imaging._types import Float32, Labels, Mask
from islet_imaging.arrays.resample import resample_region
from islet_imaging.network.targets import OFFSET_UNIT_PX

MARGIN_PX = 64
"""A nucleus depends on fields at most this far from its centre, in half-resolution px."""


@dataclass(frozen=True)
class PostprocessConfig:
    """Parameters of the way from fields to labels, in working or half-resolution px.

    Attributes
    ----------
    foreground : float
        Probability above which a pixel is nucleus.
    follow : int
        How many more times a vote follows the offset found at its new place.
    smooth_px : float
        Standard deviation that votes are smoothed with, half-resolution px.
    min_distance_px : int
        Peaks nearer than this (half-resolution px) are one nucleus.
    min_votes : float
        Smoothed votes that a peak needs.
    min_area : float
        Smallest nucleus, as a share of the area of a nucleus of the working diameter.
    min_confidence : float
        Smallest mean foreground probability of the pixels that a nucleus is drawn on.
    """

    foreground: float = 0.55
    follow: int = 0
    smooth_px: float = 1.0
    min_distance_px: int = 1
    min_votes: float = 0.6
    min_area: float = 0.06
    min_confidence: float = 0.8


@dataclass(frozen=True)
class Instances:
    """Nuclei found in a block of fields.

    Attributes
    ----------
    labels : (Y, X) int32
        At half resolution; value k + 1 is the k-th row of `centres`; 0 where no nucleus claims.
    centres : (N, 2) int
        Peaks of the votes, half-resolution px, in raster order.
    """

    labels: Labels
    centres: NDArray[np.int64]


def sigmoid(x: Float32) -> Float32:
    """Logistic function that does not overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), np.float32)


def find_instances(fields: Float32, config: PostprocessConfig | None = None) -> Instances:
    """Group the pixels of a block of fields into nuclei.

    Parameters
    ----------
    fields : (8, Y, X) float32
        The network's output (order in ``targets``), half resolution.
    config : PostprocessConfig, optional
        Parameters.

    Returns
    -------
    Instances
        Labels at half resolution and their centres.
    """
    cfg = config or PostprocessConfig()
    shape = fields.shape[1:]
    threshold = np.float32(np.log(cfg.foreground / (1 - cfg.foreground)))
    inside = np.flatnonzero(_strongest(fields) > threshold)
    empty = Instances(np.zeros(shape, np.int32), np.zeros((0, 2), np.int64))
    if not inside.size:
        return empty
    ends = _follow(fields, inside, cfg.follow)
    flat = np.rint(ends).astype(np.int64)
    flat = flat[0] * shape[1] + flat[1]
    votes = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float32)
    heat = ndi.gaussian_filter(votes, cfg.smooth_px, truncate=3.0, mode="constant")
    peaks = _peaks(heat, cfg)
    if not len(peaks):
        return empty
    # the nearest peak of every place where a vote ended, which are few
    places = np.flatnonzero(votes)
    _, nearest = cKDTree(peaks).query(np.stack(np.divmod(places, shape[1]), axis=1))
    numbers = np.zeros(votes.size, np.int32)
    numbers[places] = nearest + 1
    labels = np.zeros(shape, np.int32)
    labels.ravel()[inside] = numbers[flat]
    return _drop_weak(labels, peaks, fields, cfg)


def _where(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the few pixels that are true, quicker than `numpy.nonzero`."""
    y, x = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return y, x


def _strongest(fields: Float32) -> Float32:
    """The largest foreground logit of each 2x2 pixels."""
    one, two = np.maximum(fields[0], fields[1]), np.maximum(fields[2], fields[3])
    strongest: Float32 = np.maximum(one, two, out=one)
    return strongest


def _follow(fields: Float32, inside: NDArray[np.int64], times: int) -> Float32:
    """Where each foreground pixel's vote ends, (2, N) half-resolution px."""
    height, width = fields.shape[1:]
    unit = np.float32(OFFSET_UNIT_PX / 2)
    row, column = inside // width, inside % width
    y, x = row.astype(np.float32), column.astype(np.float32)
    for i in range(times + 1):
        # an offset beyond three units is no nucleus of a size that the network was shown
        dy, dx = (np.clip(f[row, column] * unit, -3 * unit, 3 * unit) for f in fields[4:6])
        y = np.clip(y + dy, 0, height - 1)
        x = np.clip(x + dx, 0, width - 1)
        if i < times:
            row, column = np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)
    return np.stack([y, x])


def _peaks(heat: Float32, cfg: PostprocessConfig) -> NDArray[np.int64]:
    """Local maxima of the smoothed votes in raster order; a plateau counts once."""
    reach = cfg.min_distance_px
    padded = np.pad(heat, reach)
    width = padded.shape[1]
    y, x = _where(heat >= cfg.min_votes)
    for dy, dx in itertools.product(range(-reach, reach + 1), repeat=2):
        # few pixels have the votes, fewer are left by each neighbour
        at = (y + reach) * width + x + reach
        flat = padded.ravel()
        top = flat[at] >= flat[at + dy * width + dx]
        y, x = y[top], x[top]
    tops = np.zeros(heat.shape, bool)
    tops[y, x] = True
    plateaus, n = ndi.label(tops, np.ones((3, 3)))
    if not n:
        return np.zeros((0, 2), np.int64)
    flat = plateaus.ravel()
    at = np.flatnonzero(flat)
    _, first = np.unique(flat[at], return_index=True)
    at = np.sort(at[first])
    return np.stack([at // heat.shape[1], at % heat.shape[1]], axis=1)


def _drop_weak(
    labels: Labels, peaks: NDArray[np.int64], fields: Float32, cfg: PostprocessConfig
) -> Instances:
    from islet_imaging.network.normalise import WORKING_DIAMETER_PX

    n = len(peaks) + 1
    y, x = _where(labels > 0)
    flat = labels[y, x]
    p = sigmoid(np.stack([f[y, x] for f in fields[:4]]))
    # only pixels that will be drawn: an edge through a 2x2 block says nothing about confidence
    drawn = p > cfg.foreground
    area = np.bincount(flat, weights=drawn.sum(axis=0), minlength=n)
    weight = np.bincount(flat, weights=np.where(drawn, p, 0).sum(axis=0), minlength=n)
    least = cfg.min_area * np.pi / 4 * WORKING_DIAMETER_PX**2
    keep = (area >= least) & (weight >= cfg.min_confidence * area) & (area > 0)
    keep[0] = False
    new = np.cumsum(keep).astype(np.int32)
    new[~keep] = 0
    kept = np.zeros_like(labels)
    kept[y, x] = new[flat]
    return Instances(kept, peaks[keep[1:]])


def draw_labels(
    fields: Float32,
    instances: Instances,
    rows: tuple[int, int],
    columns: tuple[int, int],
    zoom: float,
    config: PostprocessConfig | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Labels:
    """Draw nuclei at the image's own resolution.

    Parameters
    ----------
    fields : (8, Y, X) float32
        The block's fields.
    instances : Instances
        From `find_instances` of the same block.
    rows, columns : (int, int)
        Region of the image to draw, start and stop in image px.
    zoom : float
        Working px per image px.
    config : PostprocessConfig, optional
        The same as in `find_instances`.
    origin : (int, int)
        Half-resolution row and column of the block's first pixel.

    Returns
    -------
    (rows, columns) int32
        Numbered as in `instances`.
    """
    cfg = config or PostprocessConfig()
    _, height, width = fields.shape
    y0, x0 = origin
    out = np.zeros((rows[1] - rows[0], columns[1] - columns[0]), np.int32)
    if not len(instances.centres):
        return out
    full = np.empty((2 * height, 2 * width), np.float32)
    for k in range(4):
        # clipped, so that one confident pixel does not push the interpolated edge outwards
        np.clip(fields[k], -4, 4, out=full[k // 2 :: 2, k % 2 :: 2])
    logit = resample_region(full, rows, columns, 1 / zoom, (2 * y0, 2 * x0))
    threshold = np.float32(np.log(cfg.foreground / (1 - cfg.foreground)))
    y, x = _where(logit > threshold)
    fy, ly, hy = _neighbours(rows, zoom, y0, height)
    fx, lx, hx = _neighbours(columns, zoom, x0, width)
    lab = instances.labels
    corners = ((ly, lx), (ly, hx), (hy, lx), (hy, hx))
    candidates = [lab[a[y], b[x]] for a, b in corners]
    best = candidates[0].copy()
    # most pixels lie within one nucleus
    open_ = np.flatnonzero(np.logical_or.reduce([c != best for c in candidates[1:]]))
    candidates = [c[open_] for c in candidates]
    down, right = fy[y[open_]], fx[x[open_]]
    weights = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    won = np.zeros(open_.size, np.int32)
    score = np.zeros(open_.size, np.float32)
    for a in range(4):
        total = np.zeros(open_.size, np.float32)
        for b in range(4):
            total += weights[b] * (candidates[b] == candidates[a])
        better = (candidates[a] > 0) & (total > score)
        won[better] = candidates[a][better]
        score[better] = total[better]
    best[open_] = won
    out[y, x] = best
    return out


def _neighbours(
    span: tuple[int, int], zoom: float, first: int, length: int
) -> tuple[Float32, NDArray[np.int64], NDArray[np.int64]]:
    """Fraction and the two half-resolution neighbours of image pixels along one axis."""
    u = (np.arange(*span) + 0.5) * (zoom / 2) - 0.5 - first
    low = np.floor(u)
    fraction = (u - low).astype(np.float32)
    below = np.clip(low, 0, length - 1).astype(np.int64)
    above = np.clip(low + 1, 0, length - 1).astype(np.int64)
    return fraction, below, above
