"""Small masks as text: where an outline lies and which pixels it holds, for journals and files.

The idea: a mask is its bounding box and the lengths of alternating runs of outside and inside, row
by row, so that a nucleus is a few dozen numbers that any language can read.
It fails, with an error, when the runs do not fill the box.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.errors import IsletImagingError


def encode_mask(mask: NDArray[np.bool_], *, origin: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """Encode a mask as its box and run lengths.

    Parameters
    ----------
    mask : ndarray of bool, (Y, X)
        May be a crop of the image.
    origin : (int, int)
        Row and column of the crop's first pixel in the image.

    Returns
    -------
    dict
        ``{"box": [y, x, height, width], "runs": [outside, inside, outside, ...]}``

    Examples
    --------
    >>> encode_mask(np.array([[0, 1, 1], [0, 0, 1]], bool), origin=(10, 20))
    {'box': [10, 21, 2, 2], 'runs': [0, 2, 1, 1]}
    """
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return {"box": [int(origin[0]), int(origin[1]), 0, 0], "runs": []}
    y0, y1, x0, x1 = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    flat = np.concatenate([[False], mask[y0:y1, x0:x1].ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], edges, [flat.size - 1]]))
    box = [int(y0 + origin[0]), int(x0 + origin[1]), int(y1 - y0), int(x1 - x0)]
    return {"box": box, "runs": [int(r) for r in runs]}


def decode_mask(encoded: Mapping[str, Any]) -> tuple[Region, NDArray[np.bool_]]:
    """Decode what `encode_mask` made.

    Returns
    -------
    region : (slice, slice)
        Where the mask lies in the image.
    mask : ndarray of bool
        The mask within that region.

    Raises
    ------
    IsletImagingError
        If the runs do not fill the box.

    Examples
    --------
    >>> region, mask = decode_mask({"box": [10, 21, 2, 2], "runs": [0, 2, 1, 1]})
    >>> region[0].start, mask.astype(int).tolist()
    (10, [[1, 1], [0, 1]])
    """
    y, x, height, width = (int(v) for v in encoded["box"])
    runs = np.asarray(encoded["runs"], dtype=np.int64)
    if runs.sum() != height * width or (runs < 0).any():
        raise IsletImagingError(
            f"a mask's runs hold {int(runs.sum())} pixels, its box {height} x {width}: damaged"
        )
    inside = np.arange(len(runs)) % 2 == 1
    mask = np.repeat(inside, runs).reshape(height, width)
    return (slice(y, y + height), slice(x, x + width)), mask
