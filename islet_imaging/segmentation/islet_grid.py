"""Islets of an image that comes in bands: nuclei counted on a coarse grid, outlines drawn from it.

The idea: which nuclei belong together is decided on a grid of about 2 um, which is small even for
a slide; the full image is needed twice, to fill the grid and to draw, and both go band by band
with the same result for every height of the bands.
It fails where bands are left out or come out of order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Labels, Mask, side_by_side

#: edge of a pixel of the grid on which islets are drawn, um
GRID_UM = 2.0
#: edge of the parts in which distances are worked out, grid px
PART = 2048
#: rows that are drawn at a time
STRIP = 128


class IsletGrid:
    """The coarse grid of one image.

    Parameters
    ----------
    shape : tuple of int
        Of the image, px.
    pixel_size_um, max_gap_um, min_cells, rim_um
        As in :func:`islet_imaging.segmentation.islets.segment_islets`.

    Examples
    --------
    >>> nuclei = np.zeros((60, 60), np.int32)
    >>> for i, (y, x) in enumerate([(10, 10), (10, 20), (18, 15), (50, 50)]):
    ...     nuclei[y - 3 : y + 3, x - 3 : x + 3] = i + 1
    >>> grid = IsletGrid((60, 60), pixel_size_um=1.0, max_gap_um=12.0, min_cells=3, rim_um=2.0)
    >>> for top in (0, 40):
    ...     grid.add(top, nuclei[top : top + 40])
    >>> grid.close()
    >>> grid.draw(0, nuclei[:40]).max().item(), grid.n_cells.tolist()
    (1, [0, 3])
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        pixel_size_um: float,
        max_gap_um: float,
        min_cells: int,
        rim_um: float,
    ) -> None:
        self.shape, self.min_cells = shape, min_cells
        self.block = max(1, round(GRID_UM / pixel_size_um))
        grid_um = self.block * pixel_size_um
        # room for an outline that leaves the image, so that its border bends no outline
        self.pad = int(np.ceil((max_gap_um + rim_um) / grid_um)) + 2
        self.radius = 0.5 * max_gap_um / grid_um
        self.rim = rim_um / grid_um
        self.grid = tuple(-(-n // self.block) + 2 * self.pad for n in shape)
        self._covered = np.zeros(self.grid, np.min_scalar_type(self.block**2))
        #: place on the grid of each nucleus's first pixel, by label; -1 where there is none
        self._home = np.full(1, -1, np.int64)
        self._drawn = 0

    def add(self, top: int, labels: NDArray[Any]) -> None:
        """Count the nuclei of the rows from ``top`` on; bands go from top to bottom."""
        flat = np.flatnonzero(labels)
        if not flat.size:
            return
        y, x = np.divmod(flat, self.shape[1])
        gy, gx = (y + top) // self.block + self.pad, x // self.block + self.pad
        first = int(gy[0])
        n = int(gy[-1]) + 1 - first
        counts = np.bincount((gy - first) * self.grid[1] + gx, minlength=n * self.grid[1])
        self._covered[first : first + n] += counts.reshape(n, -1).astype(self._covered.dtype)
        names = labels.ravel()[flat]
        largest = int(names.max())
        if largest >= len(self._home):
            more = np.full(largest + 1 - len(self._home), -1, np.int64)
            self._home = np.concatenate([self._home, more])
        new = np.flatnonzero(self._home[names] < 0)[::-1]
        # of several values for one place the last is kept: that of the first pixel
        self._home[names[new]] = gy[new] * self.grid[1] + gx[new]

    def close(self) -> None:
        """Group the nuclei, once all bands are in."""
        from scipy import ndimage as ndi

        seen = self._covered >= 0.5 * self.block**2
        del self._covered
        at = self._home[self._home >= 0]
        # the smallest nucleus is not lost
        seen.ravel()[at] = True
        reach = self.radius + 0.5
        grown = _by_distance(~seen, reach + 1, bool, lambda d: d <= reach)
        del seen
        # holes are what the outside, which runs all around, cannot reach
        background, _ = ndi.label(~grown)
        grown = background != background[0, 0]
        del background
        self.groups, n_groups = ndi.label(grown, structure=np.ones((3, 3)), output=np.int32)
        # every nucleus follows its first pixel, so that none is split
        n_cells = np.bincount(self.groups.ravel()[at], minlength=n_groups + 1)
        keep = n_cells >= self.min_cells
        keep[0] = False
        number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
        self._islet_of = np.zeros(len(self._home), np.int32)
        self._islet_of[self._home >= 0] = number[self.groups.ravel()[at]]
        self.groups = number[self.groups]
        # how deep inside matters only near the outline
        edge = reach - self.rim
        cap = max(edge, 0.0) + 4
        self.depth = _by_distance(grown, cap, np.float32, lambda d: np.minimum(d, cap) - edge)
        self._order = np.zeros(int(keep.sum()) + 1, np.int32)

    def draw(self, top: int, labels: NDArray[Any], *, threads: int = 1) -> Labels:
        """Islets of the rows from ``top`` on; bands go from top to bottom, each once."""
        height, width = labels.shape
        columns = np.arange(width) // self.block + self.pad
        out: Labels = np.empty(labels.shape, self.groups.dtype)

        def strip(start: int) -> None:
            part, nuclei = out[start : start + STRIP], labels[start : start + STRIP]
            rows = np.arange(top + start, top + start + len(part)) // self.block + self.pad
            part[...] = self.groups[rows[:, None], columns[None, :]]
            part[self._depth_at(top + start, len(part)) <= 0] = 0
            inside = nuclei > 0
            part[inside] = self._islet_of[nuclei[inside]]

        # strips that stay in the processor's cache
        side_by_side(strip, range(0, height, STRIP), threads)
        return self._in_raster_order(out)

    @property
    def n_cells(self) -> NDArray[np.int64]:
        """Nuclei of each islet by its number, of the islets drawn."""
        islets = self._order[self._islet_of[self._home >= 0]]
        return np.bincount(islets, minlength=self._drawn + 1) * (np.arange(self._drawn + 1) > 0)

    def _depth_at(self, top: int, height: int) -> NDArray[np.float32]:
        """Depth at every pixel, linearly between the blocks' centres."""
        grid = self.depth
        for axis, (start, n) in enumerate(((top, height), (0, self.shape[1]))):
            at = (np.arange(start, start + n) + 0.5) / self.block - 0.5 + self.pad
            low = np.floor(at).astype(np.intp)
            weight = (at - low).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
            below, above = np.take(grid, low, axis), np.take(grid, low + 1, axis)
            grid = below + weight * (above - below)
        return np.asarray(grid)

    def _in_raster_order(self, band: Labels) -> Labels:
        """Number islets by their first pixel, on from the bands before."""
        for start in range(0, len(band), STRIP):
            part = band[start : start + STRIP]
            unseen = self._order == 0
            unseen[0] = False
            flat = np.flatnonzero(unseen[part])
            if flat.size:
                new, first = np.unique(part.ravel()[flat], return_index=True)
                self._order[new[np.argsort(first)]] = self._drawn + np.arange(1, len(new) + 1)
                self._drawn += len(new)
        return self._order[band]


def _by_distance(
    mask: Mask, reach: float, dtype: Any, rule: Callable[[NDArray[np.float64]], NDArray[Any]]
) -> NDArray[Any]:
    """A rule on the distance to the nearest False, exact up to ``reach``, worked out in parts."""
    from scipy import ndimage as ndi

    out = np.empty(mask.shape, dtype)
    margin = int(np.ceil(reach)) + 1
    for y in range(0, mask.shape[0], PART):
        for x in range(0, mask.shape[1], PART):
            top, left = max(0, y - margin), max(0, x - margin)
            part = mask[top : y + PART + margin, left : x + PART + margin]
            core = out[y : y + PART, x : x + PART]
            if part.all():
                distance = np.full(core.shape, 2.0 * margin)
            else:
                distance = ndi.distance_transform_edt(part)
                distance = distance[y - top :, x - left :][: core.shape[0], : core.shape[1]]
            core[...] = rule(distance)
    return out
