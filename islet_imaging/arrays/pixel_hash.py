"""A short hash of one channel's pixels: which pixels they are, whatever file they come from.

The idea: corrections, and the search for an image that was scored twice, speak of pixels and not of
files, which are renamed, converted and copied.
It fails to see that pixels are the same where their type or one grey level is another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pixel_hash(bands: Iterable[NDArray[Any]], shape: tuple[int, int]) -> str:
    """Hash the pixels of a channel that comes in bands of whole rows, from top to bottom.

    Parameters
    ----------
    bands : iterable of ndarray, shape (n, X)
        All rows; how they are cut changes nothing.
    shape : (int, int)
        Of the whole channel, px.

    Returns
    -------
    str
        16 hex digits.

    Examples
    --------
    >>> a = np.arange(12.0).reshape(3, 4)
    >>> pixel_hash([a], a.shape) == pixel_hash([a[:2], a[2:]], a.shape)
    True
    >>> pixel_hash([a], a.shape) == pixel_hash([a.astype(np.float32)], a.shape)
    False
    """
    total = hashlib.blake2b(f"{shape}".encode(), digest_size=8)
    for k, rows in enumerate(bands):
        band = np.ascontiguousarray(rows)
        total.update(band.dtype.str.encode() if k == 0 else b"")
        total.update(band.data)
    return total.hexdigest()
