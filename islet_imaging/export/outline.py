"""Outlines of labels as polygons in pixel coordinates.

The idea: the boundary of a pixel region is followed along pixel edges, so that the polygon encloses
exactly the label's pixels and its area is their number; points on straight runs are left out.
It fails to describe holes and separate pieces: the largest outer boundary is taken, as in QuPath's
and ImageJ's polygons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def label_polygons(labels: NDArray[Any]) -> dict[int, NDArray[np.float64]]:
    """Polygon of each label.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        Label image, 0 is background.

    Returns
    -------
    dict of int to ndarray, shape (n, 2)
        Corners as (x, y), px, with 0 at the image's upper left *corner*; not closed (the first
        point is not repeated).

    Examples
    --------
    >>> labels = np.zeros((4, 4), np.int32)
    >>> labels[1:3, 1:3] = 7
    >>> sorted(map(tuple, label_polygons(labels)[7].tolist()))
    [(1.0, 1.0), (1.0, 3.0), (3.0, 1.0), (3.0, 3.0)]
    """
    from scipy.ndimage import find_objects

    found: dict[int, NDArray[np.float64]] = {}
    for index, region in enumerate(find_objects(labels)):
        if region is None:
            continue
        mask = labels[region] == index + 1
        polygon = mask_polygon(mask)
        polygon += (region[1].start, region[0].start)
        found[index + 1] = polygon
    return found


def mask_polygon(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Largest outer boundary of a mask along pixel edges, (x, y) corners, counted clockwise.

    Parameters
    ----------
    mask : ndarray of bool, shape (Y, X)
        Must hold at least one pixel.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    # directed edges with the mask on their right: start corner -> end corner
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (y_off, x_off), (start, end) in (
        ((-1, 0), ((0, 0), (0, 1))),  # above is outside: go right
        ((0, 1), ((0, 1), (1, 1))),  # right is outside: go down
        ((1, 0), ((1, 1), (1, 0))),  # below is outside: go left
        ((0, -1), ((1, 0), (0, 0))),  # left is outside: go up
    ):
        height, width = mask.shape
        beyond = padded[1 + y_off : 1 + y_off + height, 1 + x_off : 1 + x_off + width]
        for y, x in np.argwhere(inside & ~beyond):
            here = (int(y) + start[0], int(x) + start[1])
            steps.setdefault(here, []).append((int(y) + end[0], int(x) + end[1]))
    loops: list[list[tuple[int, int]]] = []
    while steps:
        first = next(iter(steps))
        loop = [first]
        before: tuple[int, int] | None = None
        while loop:
            here = loop[-1]
            options = steps[here]
            follow = options[0]
            if len(options) == 2 and before is not None:
                # at a corner where pixels touch, keep to the same pixel: turn right
                follow = max(options, key=lambda end: _right_turn(before, here, end))  # type: ignore[arg-type]
            options.remove(follow)
            if not options:
                del steps[here]
            if follow in loop:
                # a corner met again closes a loop, so that no polygon touches itself
                start_at = loop.index(follow)
                loops.append(loop[start_at:])
                del loop[start_at + (1 if start_at else 0) :]
                if not start_at:
                    break
                before = loop[-2] if len(loop) > 1 else None
                continue
            before = here
            loop.append(follow)
    corners = max((np.array(_straightened(loop), float) for loop in loops), key=_area)
    return np.ascontiguousarray(corners[:, ::-1])


def _right_turn(before: tuple[int, int], here: tuple[int, int], end: tuple[int, int]) -> int:
    dy, dx = here[0] - before[0], here[1] - before[1]
    return dx * (end[0] - here[0]) - dy * (end[1] - here[1])


def _straightened(loop: list[tuple[int, int]]) -> list[tuple[int, int]]:
    kept = []
    for before, here, after in zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True):
        if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1]):
            kept.append(here)
    return kept


def _area(corners: NDArray[np.float64]) -> float:
    y, x = corners[:, 0], corners[:, 1]
    return float(0.5 * (np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
