"""How much of each cell is clipped at the camera's limit.

The idea: clipping is a property of the pixels as stored, so it is counted there, whatever is
corrected afterwards; the limit is the camera's (4095 of 12 bits in a 16-bit file), not the type's.
It fails on images whose grey levels were stretched: their clipped pixels may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import ReadChannel, Region
from islet_imaging.image import IsletImage

if TYPE_CHECKING:
    import pandas as pd


def full_scales(
    image: IsletImage, read: ReadChannel, names: Sequence[str], regions: Sequence[Region]
) -> dict[str, float]:
    """The camera's limit per channel, counts; channels of floating point are left out.

    Parameters
    ----------
    image : IsletImage
        What is known of the camera.
    read : callable
        ``read(channel, region)`` gives pixels as stored.
    names : sequence of str
        Channels.
    regions : sequence of region
        Parts that cover the image.

    Returns
    -------
    dict of str to float

    Examples
    --------
    >>> pixels = np.full((1, 4, 5), 4095, np.uint16)
    >>> image = IsletImage.from_array(pixels, ["INS"])
    >>> full_scales(image, image.channel, ["INS"], [(slice(0, 4), slice(0, 5))])
    {'INS': 4095.0}
    """
    found = {}
    for name in names:
        largest = np.asarray([read(name, region).max(initial=0) for region in regions])
        scale = image.full_scale(largest.astype(image.dtype))
        if scale is not None:
            found[name] = scale
    return found


def saturated_fractions(
    table: pd.DataFrame,
    cells: NDArray[np.int32],
    read: Callable[[str], NDArray[Any]],
    scales: dict[str, float],
) -> pd.DataFrame:
    """The cells table with ``<marker>_saturated`` counted on the pixels as stored.

    Parameters
    ----------
    table : DataFrame
        With ``cell`` and, per marker, ``<marker>_saturated``.
    cells : ndarray of int32, shape (Y, X)
        Label image of nuclei with their rings.
    read : callable
        ``read(channel)`` gives its pixels, (Y, X).
    scales : dict of str to float
        From `full_scales`.

    Returns
    -------
    DataFrame
    """
    of = table["cell"].to_numpy()
    size = np.bincount(cells.ravel())
    for name, scale in scales.items():
        column = f"{name}_saturated"
        if column not in table:
            continue
        clipped = np.bincount(cells[read(name) >= scale], minlength=size.size)
        with np.errstate(invalid="ignore"):
            table = table.assign(**{column: clipped[of] / size[of]})
    return table
