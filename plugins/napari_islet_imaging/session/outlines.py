"""Outlines of cells as one small image, coloured by call, dashed where a call is unsure.

The idea: a uint8 image with one category per outline pixel costs a texture upload to show and a
few hundred pixels to change, whatever the number of cells; recolouring ten thousand labels through
a colormap costs seconds.  Dashes and dots are cut along the angle around the cell's middle, so that
a call can be read without seeing colour.
It fails to look like dashes on nuclei of a few pixels; those are smaller than any call can use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_islet_imaging.session.colours import BY_CALL, EXCLUDED, NEUTRAL

Region = tuple[slice, slice]

_DASHES = 5
_DOTS = 10


def line_width_px(pixel_size_um: float | None) -> int:
    """Width of an outline, px: about 0.6 um, at least one pixel."""
    return 1 if not pixel_size_um else max(1, round(0.6 / pixel_size_um))


def categories_of(calls: NDArray[np.object_], excluded: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Category of each cell from its call and whether it is excluded."""
    out = np.zeros(len(calls), np.uint8)
    for name, value in BY_CALL.items():
        out[calls == name] = value
    out[excluded] = EXCLUDED
    return out


class OutlineMap:
    """The outline pixels of a label image, found once and coloured as often as needed.

    Parameters
    ----------
    labels : ndarray of int32, (Y, X)
        Labels; 0 is background.
    centre : ndarray of float32, (max label + 1, 2)
        Centroid per label, px of the whole image.
    width_px : int
        Width of the lines; negative cells get half of it.
    origin : (int, int)
        Where a crop lies in the whole image.
    """

    def __init__(
        self,
        labels: NDArray[np.int32],
        centre: NDArray[np.float32],
        *,
        width_px: int = 1,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        thin_px = max(1, width_px // 2)
        edge = _edge(labels)
        thin = edge
        for ring in range(1, width_px):
            edge = _widen(edge) & (labels > 0)
            thin = edge if ring < thin_px else thin
        ys, xs = np.nonzero(edge)
        self.where = np.ravel_multi_index((ys, xs), labels.shape)
        # labels without an entry share the last one, which draws nothing
        self.label = np.minimum(labels[ys, xs], len(centre) - 1)
        angle = np.arctan2(
            ys + origin[0] - centre[self.label, 0], xs + origin[1] - centre[self.label, 1]
        ) / np.float32(2 * np.pi)
        #: whether a pixel is drawn, per category; one bit each
        self._drawn = np.full(len(ys), 1 << 2 | 1 << 5, np.uint8)
        self._drawn |= thin[ys, xs].astype(np.uint8) << 1
        self._drawn |= thin[ys, xs].astype(np.uint8) << NEUTRAL
        self._drawn |= ((angle * _DASHES) % 1 < 0.62).astype(np.uint8) << 3
        self._drawn |= ((angle * _DOTS) % 1 < 0.4).astype(np.uint8) << 4

    def paint(self, out: NDArray[np.uint8], lookup: NDArray[np.uint8]) -> None:
        """Colour the outline pixels of ``out`` by the category of each label (0: nothing)."""
        category = lookup[self.label]
        out.ravel()[self.where] = category * ((self._drawn >> category) & 1)


def draw_outlines(
    labels: NDArray[np.int32],
    lookup: NDArray[np.uint8],
    centre: NDArray[np.float32],
    *,
    width_px: int = 1,
    origin: tuple[int, int] = (0, 0),
) -> NDArray[np.uint8]:
    """Outline image of a label image or of a crop of it; see `OutlineMap`.

    Examples
    --------
    >>> labels = np.zeros((5, 5), np.int32)
    >>> labels[1:4, 1:4] = 1
    >>> lookup, centre = np.array([0, 2], np.uint8), np.full((2, 2), 2, np.float32)
    >>> draw_outlines(labels, lookup, centre)[2].tolist()
    [0, 2, 0, 2, 0]
    """
    out = np.zeros(labels.shape, np.uint8)
    OutlineMap(labels, centre, width_px=width_px, origin=origin).paint(out, lookup)
    return out


def draw_dots(
    out: NDArray[np.uint8],
    centre: NDArray[np.floating],
    value: NDArray[np.uint8],
    line_px: int,
) -> None:
    """Dots into an outline image, where cells were decided by hand.

    Parameters
    ----------
    out : ndarray of uint8, (Y, X)
        Drawn into.
    centre : ndarray of float, (N, 2)
        Middles, px of this image; those outside draw what reaches into it.
    value : ndarray of uint8, (N,)
        Category of each.
    line_px : int
        Width of an outline; a dot is three of them across.

    Examples
    --------
    >>> out = np.zeros((5, 5), np.uint8)
    >>> draw_dots(out, np.array([[2.0, 2.0]]), np.array([3], np.uint8), 1)
    >>> out[2].tolist()
    [0, 3, 3, 3, 0]
    """
    if not len(centre):
        return
    reach = 1.5 * line_px
    n = int(reach)
    dy, dx = np.mgrid[-n : n + 1, -n : n + 1]
    round_ = dy**2 + dx**2 <= reach**2
    ys = np.rint(centre[:, :1]).astype(int) + dy[round_]
    xs = np.rint(centre[:, 1:]).astype(int) + dx[round_]
    there = (ys >= 0) & (ys < out.shape[0]) & (xs >= 0) & (xs < out.shape[1])
    values = np.broadcast_to(value[:, None], ys.shape)
    out[ys[there], xs[there]] = values[there]


def _edge(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels of a label that touch something else, by their four neighbours."""
    edge = np.zeros(labels.shape, bool)
    vertical = labels[1:] != labels[:-1]
    edge[1:] |= vertical
    edge[:-1] |= vertical
    horizontal = labels[:, 1:] != labels[:, :-1]
    edge[:, 1:] |= horizontal
    edge[:, :-1] |= horizontal
    edge &= labels > 0
    return edge


def _widen(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    return wide


def grown_box(boxes: list[Region], shape: tuple[int, int], margin_px: int) -> Region:
    """One region around several, grown by a margin and kept within the image."""
    y0 = max(min(b[0].start for b in boxes) - margin_px, 0)
    y1 = min(max(b[0].stop for b in boxes) + margin_px, shape[0])
    x0 = max(min(b[1].start for b in boxes) - margin_px, 0)
    x1 = min(max(b[1].stop for b in boxes) + margin_px, shape[1])
    return slice(y0, y1), slice(x0, x1)
