"""How much of each cell is clipped at the camera's limit.

The idea: clipping is a property of the pixels as stored, so it is counted there, whatever is
corrected afterwards; the limit is where pixels pile up (36,863 where a file added 32,768 to 12
bits), else the camera's (4095 of 12 bits in a 16-bit file), never the type's.
It fails on images that were resampled after they were clipped: their pile is smeared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import ReadChannel, Region, side_by_side
from islet_imaging.image import IsletImage

if TYPE_CHECKING:
    import pandas as pd


#: fewest pixels at one value that make a pile, and how many times those just below it
PILE_PX, PILE_RATIO = 20, 3.0
#: "just below": this share of the range of the channel
PILE_STEP = 0.02


def piles_up(at_top: int, below: int) -> bool:
    """Whether so many pixels at the largest value are clipped ones.

    Parameters
    ----------
    at_top : int
        Pixels at the largest value.
    below : int
        Pixels within `PILE_STEP` of the channel's range below it.

    Examples
    --------
    >>> piles_up(500, 40), piles_up(3, 0), piles_up(500, 9000)
    (True, False, False)
    """
    return at_top >= PILE_PX and at_top >= PILE_RATIO * below


def full_scales(
    image: IsletImage, read: ReadChannel, names: Sequence[str], regions: Sequence[Region]
) -> dict[str, float]:
    """The largest value that could be written per channel, counts.

    Where pixels pile up at the largest value, that is the limit, whatever the type; elsewhere it is
    the camera's, and a channel of floating point has none.

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
        top, scale = _top(image, read, name, regions)
        if scale is None and top is not None:
            scale = image.full_scale(np.asarray([top], image.dtype))
        if scale is not None:
            found[name] = scale
    return found


def _top(
    image: IsletImage, read: ReadChannel, name: str, regions: Sequence[Region]
) -> tuple[float | None, float | None]:
    """The largest value of a channel, and again if pixels pile up there."""
    dtype = np.dtype(image.dtype)
    if dtype.kind == "u" and dtype.itemsize <= 2 and len(regions) > 1:
        # one look at each region, which for a slide is a read; several looks at one are quicker
        counts = np.zeros(2 ** (8 * dtype.itemsize), np.int64)
        for region in regions:
            counts += np.bincount(read(name, region).ravel(), minlength=counts.size)
        filled = np.flatnonzero(counts)
        if not filled.size:
            return None, None
        low, top = float(filled[0]), float(filled[-1])
        at_top = int(counts[filled[-1]])
        near = int(np.ceil(top - PILE_STEP * (top - low)))
        below = int(counts[near:].sum()) - at_top
        return top, top if top > low and piles_up(at_top, below) else None
    ends = [(p.min(), p.max()) for region in regions if (p := read(name, region)).size]
    if not ends:
        return None, None
    low, top = float(min(e[0] for e in ends)), float(max(e[1] for e in ends))
    close = top - PILE_STEP * (top - low)
    if dtype.kind in "iu":
        close = float(np.ceil(close))
    # in the pixels' own type, which is quicker, where it holds every such number
    own: Callable[[float], Any] = dtype.type if dtype.itemsize <= 4 else float
    at_top = below = 0
    for region in regions:
        pixels = read(name, region)
        at = int(np.count_nonzero(pixels == own(top)))
        at_top += at
        below += int(np.count_nonzero(pixels >= own(close))) - at
    return top, top if top > low and piles_up(at_top, below) else None


def saturated_fractions(
    table: pd.DataFrame,
    cells: NDArray[np.int32],
    read: Callable[[str], NDArray[Any]],
    scales: dict[str, float],
    *,
    threads: int = 1,
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
    threads : int
        Channels counted at the same time.

    Returns
    -------
    DataFrame
    """
    of = table["cell"].to_numpy()
    names = [name for name in scales if f"{name}_saturated" in table]

    def counted(name: str) -> NDArray[Any]:
        pixels = cells[cells > 0] if not name else cells[read(name) >= scales[name]]
        return np.bincount(pixels, minlength=int(of.max(initial=0)) + 1)

    size, *clipped = side_by_side(counted, ["", *names], threads)
    with np.errstate(invalid="ignore"):
        found = {f"{n}_saturated": c[of] / size[of] for n, c in zip(names, clipped, strict=True)}
    return table.assign(**found)
