"""Cellpose's ``_seg.npy``: its masks, read without running the pickle that the file is.

The idea: the file is a dictionary of arrays in a pickle; `plain_pickle` follows its instructions
without calling anything, and the array under ``masks`` is taken.
It fails, and says to save the masks as TIFF or PNG, for files that hold more than such arrays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import IsletImagingError
from islet_imaging.reading.annotations.plain_pickle import as_array, object_of_array, read_plain

#: a larger file is not read into memory
MAX_BYTES = 2 * 2**30


def read_seg_npy(path: Path) -> NDArray[Any]:
    """The masks of a ``_seg.npy``.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray of int, shape (Y, X)

    Raises
    ------
    IsletImagingError
        If there are none, or the file holds what cannot be read without running it.
    """
    export = "in Cellpose save the masks as PNG or TIFF (File > Save masks) and give that file"
    if path.stat().st_size > MAX_BYTES:
        raise IsletImagingError(f"{path}: more than {MAX_BYTES // 2**30} GiB; {export}")
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                np.lib.format.read_array_header_1_0(stream)
            else:
                np.lib.format.read_array_header_2_0(stream)
            found = object_of_array(read_plain(stream))
        if not isinstance(found, dict) or "masks" not in found:
            raise ValueError("no masks in it")
        return as_array(found["masks"])
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise IsletImagingError(
            f"{path}: its masks cannot be read without running the file, which is never done "
            f"({error}); {export}"
        ) from error
