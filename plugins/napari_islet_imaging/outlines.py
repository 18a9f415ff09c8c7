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

from napari_islet_imaging.colours import BY_CALL, EXCLUDED

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


def draw_outlines(
    labels: NDArray[np.int32],
    lookup: NDArray[np.uint8],
    centre: NDArray[np.float32],
    *,
    width_px: int = 1,
    origin: tuple[int, int] = (0, 0),
) -> NDArray[np.uint8]:
    """Outline image of a label image or of a crop of it.

    Parameters
    ----------
    labels : ndarray of int32, (Y, X)
        Labels; 0 is background.
    lookup : ndarray of uint8, (max label + 1,)
        Category per label; 0 draws nothing.
    centre : ndarray of float32, (max label + 1, 2)
        Centroid per label, px of the whole image.
    width_px : int
        Width of the lines; negative cells get half of it.
    origin : (int, int)
        Where the crop lies in the whole image.

    Returns
    -------
    ndarray of uint8, (Y, X)
    """
    out = np.zeros(labels.shape, np.uint8)
    edge = _edge(labels)
    for ring in range(width_px):
        ys, xs = np.nonzero(edge)
        label = labels[ys, xs]
        category = lookup[label]
        shown = category > 0
        if ring >= max(1, width_px // 2):
            shown &= category != 1  # negative: thin
        angle = np.arctan2(ys + origin[0] - centre[label, 0], xs + origin[1] - centre[label, 1]) / (
            2 * np.pi
        )
        dashed, dotted = category == 3, category == EXCLUDED
        shown &= ~(dashed & ((angle * _DASHES) % 1 > 0.62))
        shown &= ~(dotted & ((angle * _DOTS) % 1 > 0.4))
        out[ys[shown], xs[shown]] = category[shown]
        if ring + 1 < width_px:
            edge = _widen(edge) & (labels > 0)
    return out


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
