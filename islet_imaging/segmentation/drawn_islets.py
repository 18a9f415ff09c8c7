"""Islets and regions to leave out that somebody drew, as labels and as places of nuclei.

The idea: a nucleus lies in the region that holds its centre; where islets are drawn, they are the
islets, numbered in the order in which they were drawn, and every other nucleus is outside.  What is
left out is cut from the islets.  Any part of an image can be drawn alone, so a slide is drawn band
by band.
It fails to say which of two islets that overlap is meant: the later one lies on top.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Labels, Region
from islet_imaging.reading.annotations.outlines import Outline, inside
from islet_imaging.reading.annotations.regions import ISLET, LEFT_OUT
from islet_imaging.terms import OUTSIDE


class DrawnRegions:
    """The regions of one image.

    Parameters
    ----------
    outlines : sequence of Outline
        With kind "islet" or "left_out" and a name.
    shape : tuple of int
        Of the image, px.

    Examples
    --------
    >>> square = np.array([[-0.5, -0.5], [-0.5, 5.5], [5.5, 5.5], [5.5, -0.5]])
    >>> drawn = DrawnRegions([Outline((square,), "A", "islet"),
    ...                       Outline((square / 2,), "fold", "left_out")], (8, 8))
    >>> drawn.at(np.array([1.0, 5.0, 7.0]), np.array([1.0, 5.0, 7.0]))
    (array([0, 1, 0]), ['fold', 'A', 'outside'], array([ True, False, False]))
    """

    def __init__(self, outlines: Sequence[Outline], shape: tuple[int, int]) -> None:
        self.shape = shape
        self.islets = [o for o in outlines if o.kind == ISLET]
        self.left_out = [o for o in outlines if o.kind == LEFT_OUT]
        self._boxes = {id(o): o.box(shape) for o in outlines}

    def _drawn(self, outlines: Sequence[Outline], region: Region) -> Labels:
        """Numbers from 1 of the outlines in a region of the image."""
        out = np.zeros([s.stop - s.start for s in region], np.int32)
        for number, outline in enumerate(outlines, start=1):
            box = [
                slice(max(b.start, r.start), min(b.stop, r.stop))
                for b, r in zip(self._boxes[id(outline)], region, strict=True)
            ]
            if all(b.stop > b.start for b in box):
                mask = inside(outline.rings, (box[0], box[1]))
                part = out[tuple(slice(b.start - r.start, b.stop - r.start)
                                 for b, r in zip(box, region, strict=True))]  # fmt: skip
                part[mask] = number
        return out

    def left_out_in(self, region: Region) -> NDArray[np.bool_]:
        """Pixels of a region of the image that are left out."""
        return np.asarray(self._drawn(self.left_out, region) > 0)

    def islets_in(self, region: Region) -> Labels:
        """Drawn islets in a region of the image, 0 outside and where something is left out."""
        out = self._drawn(self.islets, region)
        out[self.left_out_in(region)] = 0
        return out

    def at(
        self, y_px: NDArray[np.float64], x_px: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], list[str], NDArray[np.bool_]]:
        """Where nuclei lie, by their centres.

        Returns
        -------
        islet : ndarray of int, shape (n,)
            Number of the drawn islet, 0 for none.
        region : list of str
            Name of what is left out or of the islet, "outside" where islets were drawn and the
            nucleus is in none, else "".
        left_out : ndarray of bool, shape (n,)
        """
        rows = np.clip(np.rint(y_px), 0, self.shape[0] - 1).astype(np.intp)
        columns = np.clip(np.rint(x_px), 0, self.shape[1] - 1).astype(np.intp)
        islet = self._of_points(self.islets, rows, columns)
        out = self._of_points(self.left_out, rows, columns)
        islet[out > 0] = 0
        names = [o.name for o in self.islets]
        gone = [o.name for o in self.left_out]
        other = OUTSIDE if self.islets else ""
        region = [
            gone[o - 1] if o else names[i - 1] if i else other
            for i, o in zip(islet.tolist(), out.tolist(), strict=True)
        ]
        return islet, region, out > 0

    def _of_points(
        self, outlines: Sequence[Outline], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> NDArray[np.int64]:
        found = np.zeros(len(rows), np.int64)
        for number, outline in enumerate(outlines, start=1):
            box = self._boxes[id(outline)]
            near = np.flatnonzero(
                (rows >= box[0].start) & (rows < box[0].stop)
                & (columns >= box[1].start) & (columns < box[1].stop)
            )  # fmt: skip
            if len(near):
                mask = inside(outline.rings, box)
                hit = mask[rows[near] - box[0].start, columns[near] - box[1].start]
                found[near[hit]] = number
        return found
