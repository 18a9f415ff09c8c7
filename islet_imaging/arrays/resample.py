"""Resample an image region by region so that the regions fit together bit for bit.

The idea: linear interpolation with a triangle kernel, widened by the zoom when shrinking, is two
sparse matrices, one for rows and one for columns.  Each output pixel is then the same sum of the
same input pixels in the same order, whichever region it was computed in.  Pixel centres follow the
convention of scikit-image: input coordinate = (output + 0.5) / zoom - 0.5.

It fails, as all linear interpolation does, to keep detail near the sampling limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32


def resampled_length(length: int, zoom: float) -> int:
    """Pixels of an axis after zooming; at least 1."""
    return max(1, round(length * zoom))


def input_range(start: int, stop: int, zoom: float, length: int) -> tuple[int, int]:
    """Input pixels that output pixels [start, stop) of an axis need."""
    reach = max(1.0, 1.0 / zoom)
    low = int(np.floor((start + 0.5) / zoom - 0.5 - reach))
    high = int(np.ceil((stop - 0.5) / zoom - 0.5 + reach)) + 1
    return max(0, min(low, length - 1)), max(1, min(high, length))


def axis_matrix(start: int, stop: int, zoom: float, first: int, last: int) -> Any:
    """Weights that make output pixels [start, stop) from input pixels [first, last).

    Returns
    -------
    scipy.sparse.csr_array of float32, (stop - start, last - first)
        Rows sum to 1; input beyond the range is taken as the range's end.
    """
    from scipy import sparse

    reach = max(1.0, 1.0 / zoom)
    centre = (np.arange(start, stop) + 0.5) / zoom - 0.5
    taps = np.arange(int(np.floor(-reach)), int(np.ceil(reach)) + 2)
    where = np.floor(centre)[:, None] + taps[None]
    weight = np.clip(1 - np.abs(where - centre[:, None]) / reach, 0, None)
    weight /= weight.sum(axis=1, keepdims=True)
    columns = np.clip(where.astype(np.int64), first, last - 1) - first
    rows = np.repeat(np.arange(stop - start), taps.size)
    return sparse.csr_array(
        (weight.ravel().astype(np.float32), (rows, columns.ravel())),
        shape=(stop - start, last - first),
    )


def resample_region(
    image: NDArray[np.generic],
    rows: tuple[int, int],
    columns: tuple[int, int],
    zoom: float,
    origin: tuple[int, int] = (0, 0),
) -> Float32:
    """Compute one region of the zoomed image.

    Parameters
    ----------
    image : (Y, X)
        The part of the input given by `input_range`, or more.
    rows, columns : (int, int)
        Region of the output, start and stop.
    zoom : float
        Output px per input px.
    origin : (int, int)
        Row and column of ``image[0, 0]`` in the whole input.

    Returns
    -------
    (rows, columns) float32

    Examples
    --------
    >>> resample_region(np.eye(4, dtype=np.float32), (0, 2), (0, 2), 0.5).shape
    (2, 2)
    """
    y0, x0 = origin
    if zoom == 1 and rows[0] >= y0 and columns[0] >= x0:
        own = image[rows[0] - y0 : rows[1] - y0, columns[0] - x0 : columns[1] - x0]
        if own.shape == (rows[1] - rows[0], columns[1] - columns[0]):
            return np.array(own, dtype=np.float32, order="C")
    left = axis_matrix(*rows, zoom, y0, y0 + image.shape[0])
    right = axis_matrix(*columns, zoom, x0, x0 + image.shape[1])
    tall = left @ image.astype(np.float32, copy=False)
    # the transposed product keeps the order of the sum the same in every region
    return np.ascontiguousarray((right @ np.ascontiguousarray(tall.T)).T, dtype=np.float32)
