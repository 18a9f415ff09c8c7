"""Scale bars, letters and arrows that were burned into the pixels: found, left out, named.

The idea: software that exports pictures draws its bar into every channel, at full white and with
straight edges; tissue that is clipped in all channels at once is never straight.  Such shapes are
taken out of every channel, filled with what lies around them, so that neither the grey scale nor a
threshold sees them; nuclei beside them do not count.  Where white stands alone, no other pixel of
any channel coming half as far, shapes of every form are drawn: arrows, frames, circles.  In an
image of one channel only shapes that are filled to their corners with its very largest value are
taken for drawn.  An image of more pixels than `islet_imaging.image.WHOLE_PX` is looked at tile by
tile while it is measured (`islet_imaging.scoring.tiles`): nothing is filled then, but cells beside
such shapes do not count.
It fails on shapes in one channel of several, on slanted arrows where tissue is nearly as bright as
they are, and on smoothed bars of one channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from islet_imaging._types import Float64, Mask, ReadChannel, Region
from islet_imaging.image import WHOLE_PX, IsletImage

#: a bar: at least so long, so many times longer than wide, and so full
BAR_PX, BAR_RATIO, BAR_FULL = 16, 3.0, 0.9
#: letters: at least so many of one height on one line
LETTERS, LETTER_PX = 3, 6
#: pixels of a drawn shape lie within this share of the channel's range of its largest value
NEAR_TOP = 0.02
#: in one channel, where tissue may be clipped too: at least so long and wide, and so full
ALONE_PX, ALONE_WIDE_PX, ALONE_FULL = 24, 3, 0.99
#: white stands alone where nothing else, but for this share of its pixels, comes so far
ALONE_LEVEL, ALONE_REST = 0.5, 0.05
#: nuclei of a nuclear stain that are all clipped stand alone too: so many compact things, no longer
#: than so many times their width, so full, that hold so much of what is bright
NUCLEI, NUCLEI_RATIO, NUCLEI_FULL, NUCLEI_SHARE = 4, 2.0, 0.65, 0.2
#: shapes that cover more than this share of an image are no overlay
MOST = 0.1
#: edges that were smoothed when the shape was drawn, and the ring that gives the filling, px
EDGE_PX, RING_PX = 2, 6


@dataclass(frozen=True)
class BurnedIn:
    """What was burned into an image.

    Attributes
    ----------
    mask : ndarray of bool, shape (Y, X)
        Pixels that are left out.
    boxes : list of [top, left, bottom, right]
        The shapes, px.
    """

    mask: Mask
    boxes: list[list[int]]

    def near(self, yx: Float64, margin_px: float) -> Mask:
        """Which of the points (N, 2), rows and columns, lie within a margin of a shape."""
        if not len(yx):
            return np.zeros(0, bool)
        away = ndimage.distance_transform_edt(~self.mask)
        rows, columns = (
            np.clip(np.rint(yx[:, k]).astype(int), 0, n - 1) for k, n in enumerate(self.mask.shape)
        )
        found: Mask = away[rows, columns] <= margin_px
        return found


def find_burned_in(
    read: ReadChannel, names: Sequence[str], shape: tuple[int, int], regions: Sequence[Region]
) -> BurnedIn | None:
    """Find straight shapes at the largest value of all channels; any shape where it stands alone.

    Parameters
    ----------
    read : callable
        ``read(channel, region)`` gives pixels as stored.
    names : sequence of str
        Channels, those that are dark at most places first.
    shape : tuple of int
        Of the image, px.
    regions : sequence of region
        Parts that share the image out among them.

    Returns
    -------
    BurnedIn or None

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> planes = dict(zip("ab", rng.integers(10, 90, (2, 80, 80)).astype(np.uint8)))
    >>> for plane in planes.values():
    ...     plane[70:74, 20:60] = 255
    >>> whole = (slice(0, 80), slice(0, 80))
    >>> find_burned_in(lambda name, region: planes[name][region], "ab", (80, 80), [whole]).boxes
    [[70, 20, 74, 60]]
    """
    if not names:
        return None
    alone = len(names) == 1
    near_top = 0.0 if alone else NEAR_TOP
    white, bright, lit = np.ones(shape, bool), np.ones(shape, bool), np.zeros(shape, bool)
    for name in names:
        ends = [(float(p.min()), float(p.max())) for r in regions if (p := read(name, r)).size]
        low, top = min(e[0] for e in ends), max(e[1] for e in ends)
        if not top > low:
            return None
        for region in regions:
            pixels = read(name, region)
            white[region] &= pixels >= top - near_top * (top - low)
            far = pixels >= low + ALONE_LEVEL * (top - low)
            bright[region] &= far
            lit[region] |= far
        if not 3 * LETTER_PX <= np.count_nonzero(white) <= MOST * white.size:
            return None
    if not alone and (drawn := _standing_alone(bright, lit)) is not None:
        return drawn
    labels, n = ndimage.label(white, np.ones((3, 3), bool))
    slices = ndimage.find_objects(labels)
    area = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    box = np.array([[s[0].start, s[1].start, s[0].stop, s[1].stop] for s in slices])
    height, width = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    long, short = np.maximum(height, width), np.minimum(height, width)
    bar = (long >= BAR_PX) & (long >= BAR_RATIO * short) & (area >= BAR_FULL * height * width)
    if alone:
        bar &= (long >= ALONE_PX) & (short >= ALONE_WIDE_PX)
        bar &= area >= ALONE_FULL * height * width
    # clipped nuclei of one channel may stand in a row like letters
    chosen = bar if alone else bar | _letters(box, area)
    if not chosen.any():
        return None
    # the rest of a label or of a frame is beside it
    reach = int(long[chosen].max())
    kept = np.flatnonzero(chosen)
    for i in np.flatnonzero(~chosen & (area >= LETTER_PX)):
        gap = np.maximum(box[kept, :2] - box[i, 2:], box[i, :2] - box[kept, 2:]).max(axis=1)
        chosen[i] = bool((gap <= reach).any()) and short[i] <= reach / 2
    mask = ndimage.binary_dilation(np.isin(labels, 1 + np.flatnonzero(chosen)), iterations=EDGE_PX)
    return BurnedIn(mask, box[chosen].tolist())


def _standing_alone(bright: Mask, lit: Mask) -> BurnedIn | None:
    """Shapes of every form, where what is bright in one channel is bright in all, as ink is.

    Parameters
    ----------
    bright, lit : ndarray of bool, shape (Y, X)
        Pixels that are bright in all channels, and in any.
    """
    if np.count_nonzero(bright) > MOST * bright.size:
        return None
    grown = ndimage.binary_dilation(bright, iterations=EDGE_PX)
    if np.count_nonzero(lit & ~grown) > ALONE_REST * np.count_nonzero(bright):
        return None
    labels, n = ndimage.label(grown, np.ones((3, 3), bool))
    # hot pixels of a camera are at one place in all channels too
    large = np.bincount(labels[bright], minlength=n + 1) >= LETTER_PX
    large[0] = False
    mask: Mask = large[labels]
    parts, _ = ndimage.label(bright & mask, np.ones((3, 3), bool))
    slices = ndimage.find_objects(parts)
    box = np.array([[s[0].start, s[1].start, s[0].stop, s[1].stop] for s in slices])
    if len(box) < LETTERS and not (len(box) and (box[:, 2:] - box[:, :2]).max() >= BAR_PX):
        return None
    area = np.bincount(parts.ravel(), minlength=len(box) + 1)[1:]
    short, long = np.sort(box[:, 2:] - box[:, :2], axis=1).T
    compact = (area >= NUCLEI_FULL * short * long) & (long <= NUCLEI_RATIO * short)
    compact &= area >= LETTER_PX
    if compact.sum() >= NUCLEI and area[compact].sum() > NUCLEI_SHARE * area.sum():
        return None
    return BurnedIn(mask, box.tolist())


def _letters(box: NDArray[np.int64], area: NDArray[np.int64]) -> Mask:
    """Shapes that stand in a row like letters: one height, one base line, not far apart."""
    height, width = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    like = (height >= LETTER_PX) & (width <= 1.5 * height) & (area >= 0.25 * height * width)
    found = np.zeros(len(box), bool)
    for i in np.flatnonzero(like):
        same = like & (np.abs(box[:, 2] - box[i, 2]) <= 1) & (np.abs(height - height[i]) <= 1)
        same &= np.abs(box[:, 1] - box[i, 1]) <= 12 * height[i]
        if np.count_nonzero(same) >= LETTERS:
            found |= same
    return found


@dataclass(frozen=True)
class _Filled:
    """The reader of an image whose burned-in pixels are filled."""

    image: IsletImage
    mask: Mask
    #: shape by shape: where it is, and the level around it by channel
    fills: list[tuple[Region, dict[str, float]]] = field(default_factory=list)

    def __call__(self, index: int, region: Region | None) -> NDArray[Any]:
        name = self.image.channel_names[index]
        pixels = self.image.channel(name, region)
        rows, columns = region or (slice(0, self.mask.shape[0]), slice(0, self.mask.shape[1]))
        y0, x0 = rows.indices(self.mask.shape[0])[0], columns.indices(self.mask.shape[1])[0]
        hidden = self.mask[y0 : y0 + pixels.shape[0], x0 : x0 + pixels.shape[1]]
        if not hidden.any():
            return pixels
        pixels = np.array(pixels)
        for (ys, xs), level in self.fills:
            top, left = max(ys.start - y0, 0), max(xs.start - x0, 0)
            part = (slice(top, max(top, ys.stop - y0)), slice(left, max(left, xs.stop - x0)))
            if name in level:
                pixels[part][hidden[part]] = np.asarray(level[name]).astype(pixels.dtype)
        return pixels


def looked_at_whole(shape: tuple[int, int]) -> bool:
    """Whether an image is small enough for its shapes to be found, and filled, beforehand."""
    return shape[0] * shape[1] <= WHOLE_PX


def without_burned_in(
    image: IsletImage, names: Sequence[str], regions: Sequence[Region], read: ReadChannel
) -> tuple[IsletImage, BurnedIn | None]:
    """An image without its burned-in shapes, and what they were.

    Parameters
    ----------
    image : IsletImage
        Of any size; a large one is given back as it is.
    names : sequence of str
        The channels in use; a shape must be in all of them.
    regions : sequence of region
        Parts that share the image out among them.
    read : callable
        ``read(channel, region)`` gives the image's pixels, for one that holds them already.

    Returns
    -------
    IsletImage, BurnedIn or None
        The very image given where nothing is found.
    """
    if not looked_at_whole(image.shape):
        return image, None
    found = find_burned_in(read, names, image.shape, regions)
    if found is None:
        return image, None
    labels, _ = ndimage.label(found.mask)
    fills: list[tuple[Region, dict[str, float]]] = []
    for where in ndimage.find_objects(labels):
        rows, columns = (
            slice(max(0, s.start - RING_PX), min(n, s.stop + RING_PX))
            for s, n in zip(where, image.shape, strict=True)
        )
        around = ~found.mask[rows, columns]
        level = {}
        for name in names:
            pixels = read(name, (rows, columns))
            level[name] = float(np.median(pixels[around]) if around.any() else pixels.min())
        fills.append(((where[0], where[1]), level))
    return replace(image, reader=_Filled(image, found.mask, fills)), found
