"""Outlines in pixels, and the pixels inside them.

The idea: an outline is one or more closed rings; a pixel belongs to it if its centre lies inside an
odd number of them (the even-odd rule, so a ring in a ring is a hole).  Rows are crossed half-open,
so that outlines which share an edge share no pixel and leave none out.
It fails for rings that are not finite, which their readers refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from islet_imaging._types import Float64, Labels, Mask, Region
from islet_imaging.errors import IsletImagingError

#: of an outline's pixels, the share that others may cover before the two are one object drawn twice
COVERED = 0.5


@dataclass(frozen=True)
class Outline:
    """A closed outline with what its file says of it.

    Parameters
    ----------
    rings : tuple of ndarray of float64, each shape (n, 2)
        Corners as (y, x), px, with the centre of the upper left pixel at 0, 0; not closed.
    name : str
        What the object is called.
    kind : str
        Its class (QuPath's classification), else empty.
    """

    rings: tuple[Float64, ...]
    name: str = ""
    kind: str = ""

    def box(self, shape: tuple[int, int]) -> Region:
        """Rows and columns of an image of that shape that the outline can reach."""
        points = np.concatenate(self.rings)
        low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, shape)
        high = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, 0, shape)
        return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def inside(rings: Sequence[Float64], region: Region) -> Mask:
    """Pixels of a region whose centres lie inside rings, by the even-odd rule.

    Parameters
    ----------
    rings : sequence of ndarray, each shape (n, 2)
        Corners (y, x), px; pixel centres are whole numbers.
    region : tuple of slice
        Rows and columns.

    Returns
    -------
    ndarray of bool, shape (Y, X)

    Examples
    --------
    >>> square = np.array([[0.5, 0.5], [0.5, 2.5], [2.5, 2.5], [2.5, 0.5]])
    >>> inside([square], (slice(0, 4), slice(0, 4))).sum().item()
    4
    """
    top, left = region[0].start, region[1].start
    height, width = region[0].stop - top, region[1].stop - left
    turns = np.zeros((height, width + 1), np.int32)
    for ring in rings:
        one = np.asarray(ring, np.float64) - (top, left)
        two = np.roll(one, -1, axis=0)
        # rows r with low <= r < high are crossed, whichever way the edge runs
        low = np.ceil(np.minimum(one[:, 0], two[:, 0])).clip(0, height).astype(np.int64)
        high = np.ceil(np.maximum(one[:, 0], two[:, 0])).clip(0, height).astype(np.int64)
        count = high - low
        edge = np.repeat(np.arange(len(one)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + low[edge]
        slope = (two[edge, 1] - one[edge, 1]) / (two[edge, 0] - one[edge, 0])
        x = one[edge, 1] + (row - one[edge, 0]) * slope
        np.add.at(turns, (row, np.ceil(x).clip(0, width).astype(np.int64)), 1)
    filled: Mask = np.cumsum(turns[:, :width], axis=1) % 2 == 1
    return filled


def draw_labels(outlines: Sequence[Outline], shape: tuple[int, int], source: str) -> Labels:
    """One label image of many outlines, numbered from 1 in their order.

    Parameters
    ----------
    outlines : sequence of Outline
        Nuclei or cells.
    shape : tuple of int
        Of the image, px.
    source : str
        For messages: the file.

    Returns
    -------
    ndarray of int32, shape (Y, X)
        Where outlines overlap the later one lies on top.

    Raises
    ------
    IsletImagingError
        If an outline lies outside the image, or two objects lie on one another.

    Examples
    --------
    >>> square = np.array([[-0.5, -0.5], [-0.5, 1.5], [1.5, 1.5], [1.5, -0.5]])
    >>> draw_labels([Outline((square,)), Outline((square + 2,))], (4, 4), "a").tolist()[3]
    [0, 0, 2, 2]
    """
    out = np.zeros(shape, np.int32)
    areas = np.zeros(len(outlines) + 1, np.int64)
    lost: dict[int, list[int]] = {}
    for number, outline in enumerate(outlines, start=1):
        box = outline.box(shape)
        mask = inside(outline.rings, box)
        areas[number] = mask.sum()
        if not areas[number]:
            high = np.concatenate(outline.rings).max(axis=0)
            raise IsletImagingError(
                f"{source}: object {number} has no pixel within the image of {shape[0]} x "
                f"{shape[1]} px (it reaches to row {high[0]:.0f}, column {high[1]:.0f}); was it "
                "drawn on another image, or in um?"
            )
        part = out[box]
        for under in np.unique(part[mask & (part > 0)]):
            lost.setdefault(int(under), []).append(number)
        part[mask] = number
    left = np.bincount(out.ravel(), minlength=len(areas))
    for number, others in lost.items():
        if left[number] < COVERED * areas[number]:
            raise IsletImagingError(
                f"{source}: objects {number} and {others[-1]} lie on one another (one object drawn "
                "twice?); keep one of them"
            )
    return out
