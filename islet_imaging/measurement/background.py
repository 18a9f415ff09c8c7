"""Local background: what a channel shows near a cell where there is no cell.

The idea: in blocks of the image the low percentile of the pixels outside all cells, averaged over
the blocks around with weights that fall with distance, and read off between the blocks' centres.
Blocks lie on a grid fixed to the whole image, so a tile gives what the whole image gives.
It fails inside a large islet without a gap: there is no outside nearby, the answer is NaN and the
caller has to take a value from elsewhere; and where fluorescence is smeared over tens of um, which
is then part of the background.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.arrays.label_statistics import Groups, group_quantiles

#: edge of a block, um, and how many blocks around one are looked at
BLOCK_UM = 20.0
REACH = 2
QUANTILE = 0.1
#: fewer pixels than this tell nothing
MIN_PIXELS = 12


def background_halo_px(block_px: int) -> int:
    """How far, px, the background of a place depends on pixels."""
    return (REACH + 2) * block_px


class OutsideGrid:
    """Pixels outside cells, sorted into blocks once and used for every channel.

    Parameters
    ----------
    occupied : ndarray of bool, shape (Y, X)
        Pixels that belong to cells.
    block_px : int
        Edge of a block, px.
    origin_px : tuple of int
        Where the array lies in the whole image.

    Examples
    --------
    >>> occupied = np.zeros((100, 100), bool)
    >>> occupied[40:60, 40:60] = True
    >>> image = np.where(occupied, 900, 7).astype(np.float32)
    >>> grid = OutsideGrid(occupied, 20)
    >>> grid.at(image, np.array([50.0]), np.array([50.0])).tolist()
    [7.0]
    """

    def __init__(
        self, occupied: NDArray[Any], block_px: int, origin_px: tuple[int, int] = (0, 0)
    ) -> None:
        self.block_px = max(4, int(block_px))
        #: a quarter of the pixels is enough
        self.step = tuple(slice((-o) % 2, None, 2) for o in origin_px)
        first = [o // self.block_px for o in origin_px]
        last = [
            (o + n - 1) // self.block_px for o, n in zip(origin_px, occupied.shape, strict=True)
        ]
        self.first = first
        self.shape = tuple(b - a + 1 for a, b in zip(first, last, strict=True))
        rows, columns = (
            (np.arange(s.start, n, 2) + o) // self.block_px - f
            for s, n, o, f in zip(self.step, occupied.shape, origin_px, first, strict=True)
        )
        outside = np.flatnonzero(~occupied[self.step])
        y, x = np.divmod(outside, max(len(columns), 1))
        #: pixels outside cells, among every second row and column, by block
        self.outside = Groups(
            outside, rows[y] * self.shape[1] + columns[x], max(0, int(np.prod(self.shape)))
        )

    def at(self, image: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float64]:
        """Background of ``image`` at places given in px of the whole image; NaN where unknown."""
        from scipy import ndimage as ndi

        if min(self.shape) < 1 or len(y) == 0:
            return np.full(len(y), np.nan)
        pixels, blocks = self.outside, self.outside.counts.size
        values = image[self.step].ravel()[pixels.at].astype(np.float32, copy=False)
        low = group_quantiles(values, pixels.group, blocks, [QUANTILE])[0]
        enough = pixels.counts >= MIN_PIXELS
        level = np.where(enough, low, 0.0).reshape(self.shape)
        weight = np.where(enough, pixels.counts, 0.0).reshape(self.shape)
        kernel = np.exp(-0.5 * (np.arange(-REACH, REACH + 1) / (0.5 * REACH)) ** 2)
        total, share = level * weight, weight
        for axis in (0, 1):
            total = ndi.correlate1d(total, kernel, axis=axis, mode="constant")
            share = ndi.correlate1d(share, kernel, axis=axis, mode="constant")
        # between the centres of blocks
        at_y = np.asarray(y) / self.block_px - 0.5 - self.first[0]
        at_x = np.asarray(x) / self.block_px - 0.5 - self.first[1]
        y0, x0 = np.floor(at_y).astype(np.intp), np.floor(at_x).astype(np.intp)
        wy, wx = at_y - y0, at_x - x0
        top, bottom = np.zeros(len(y0)), np.zeros(len(y0))
        for oy, fy in ((0, 1 - wy), (1, wy)):
            for ox, fx in ((0, 1 - wx), (1, wx)):
                yy, xx = y0 + oy, x0 + ox
                known = (yy >= 0) & (yy < self.shape[0]) & (xx >= 0) & (xx < self.shape[1])
                yy, xx = np.clip(yy, 0, self.shape[0] - 1), np.clip(xx, 0, self.shape[1] - 1)
                part = np.where(known, fy * fx, 0.0)
                top += part * total[yy, xx]
                bottom += part * share[yy, xx]
        out = np.full(len(y0), np.nan)
        np.divide(top, bottom, out=out, where=bottom > 0)
        return out
