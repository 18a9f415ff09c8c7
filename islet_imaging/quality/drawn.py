"""Bars and letters that were drawn into the pixels: which cells they spoil, and what to do.

The idea: `islet_imaging.correction.burned_in` finds the shapes, and takes them out of the pixels
where an image can be looked at as a whole; here the cells beside them are left out of the counts,
and the image says so.
It fails where the finding fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from islet_imaging._types import Mask
from islet_imaging.correction.burned_in import BurnedIn
from islet_imaging.quality.flag import Flag

if TYPE_CHECKING:
    import pandas as pd

#: a nucleus and its ring reach so far from its centre, um
REACH_UM = 6.0


def leave_out_near(
    drawn: BurnedIn,
    cells: pd.DataFrame,
    flags: pd.Series,
    excluded: pd.Series,
    pixel_size_um: float,
) -> tuple[pd.Series, pd.Series]:
    """Flags and exclusions with the cells that a drawn shape covers or touches.

    Parameters
    ----------
    drawn : BurnedIn
        The shapes.
    cells : DataFrame
        With ``y_px`` and ``x_px``.
    flags, excluded : Series
        From `flag_cells`.
    pixel_size_um : float
        Edge of a pixel, um.

    Returns
    -------
    flags : Series of str
    excluded : Series of bool
    """
    hit = drawn.near(cells[["y_px", "x_px"]].to_numpy(float), REACH_UM / pixel_size_um)
    return leave_out(hit, flags, excluded)


def leave_out(hit: Mask, flags: pd.Series, excluded: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Flags and exclusions with the cells that are hit, as `leave_out_near` gives them."""
    text = [f"{f};burned_in" if f and h else "burned_in" if h else f
            for f, h in zip(flags, hit, strict=True)]  # fmt: skip
    return (
        flags.__class__(text, index=flags.index, dtype=object, name=flags.name),
        excluded | np.asarray(hit, bool),
    )


def burned_in_flag(boxes: Sequence[Sequence[int]], *, filled: bool = True) -> Flag:
    """What the image says of its drawn shapes.

    Parameters
    ----------
    boxes : sequence of [top, left, bottom, right]
        The shapes, px.
    filled : bool
        Whether they were taken out of the pixels.

    Examples
    --------
    >>> flag = burned_in_flag([[70, 20, 74, 60]])
    >>> flag.code, flag.severity
    ('burned_in', 'warning')
    """
    top, left, bottom, right = max(boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
    done = (
        "Their pixels are left out, and cells that touch them do not count."
        if filled
        else "Cells that touch them do not count, but in an image of this size their pixels are "
        "not taken out, and may have set the grey scale."
    )
    return Flag(
        "burned_in",
        "warning",
        f"{len(boxes)} shape{'s' if len(boxes) > 1 else ''} at full white in "
        f"all channels, as a scale bar, letters or arrows (the largest in rows {top} to {bottom}, "
        f"columns {left} to {right}). {done} Export again without overlays.",
    )
