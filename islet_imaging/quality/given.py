"""What there is to say of nuclei and cells that were given instead of found.

The idea: given labels are believed, so nothing is dropped for its size; but every table says that
they were given, and sizes that no nucleus has are named, since specks in a mask would each count as
a cell.  Where whole cells are given a nucleus in none of them has no cytoplasm to be called by, and
is left out with the reason ``no_cell``.
It fails to judge whether the labels lie on the nuclei.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging.quality.flag import Flag

if TYPE_CHECKING:
    import pandas as pd

#: share of given nuclei of sizes that no nucleus has, above which it is said
ODD_SHARE = 0.05
#: share of nuclei in no cell above which it is said
NO_CELL_SHARE = 0.05


def without_cell(
    cells: pd.DataFrame, flags: pd.Series, excluded: pd.Series, home: Mapping[int, int]
) -> tuple[pd.Series, pd.Series]:
    """Flags and exclusions with the nuclei that lie in no whole cell.

    Parameters
    ----------
    cells : DataFrame
        With ``cell``.
    flags, excluded : Series
        From `flag_cells`.
    home : mapping of int to int
        Cell of each nucleus that lies in one.

    Returns
    -------
    flags : Series of str
    excluded : Series of bool
    """
    lost = ~cells["cell"].isin(list(home)).to_numpy(bool)
    text = [f"{f};no_cell" if f and no else "no_cell" if no else f
            for f, no in zip(flags, lost, strict=True)]  # fmt: skip
    return (
        flags.__class__(text, index=flags.index, dtype=object, name=flags.name),
        excluded | lost,
    )


def given_flags(
    cells: pd.DataFrame, scale: Mapping[str, Any], *, whole_cells: int | None, nuclei: bool
) -> list[Flag]:
    """What the image says of its given labels.

    Parameters
    ----------
    cells : DataFrame
        Measured cells with ``nucleus_area_um2`` and ``flags``.
    scale : mapping
        ``min_area_um2`` and ``max_area_um2``.
    whole_cells : int or None
        Number of whole cells, where those were given.
    nuclei : bool
        Whether nuclei were given.

    Returns
    -------
    list of Flag

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"nucleus_area_um2": [2.0, 40.0], "flags": ""})
    >>> limits = {"min_area_um2": 8.0, "max_area_um2": 400.0}
    >>> [f.code for f in given_flags(cells, limits, whole_cells=None, nuclei=True)]
    ['given_nuclei', 'odd_nuclei']
    """
    found: list[Flag] = []
    n = len(cells)
    if nuclei:
        found.append(Flag("given_nuclei", "info", f"{n} nuclei were given, not found here."))
        areas = cells["nucleus_area_um2"].to_numpy(float)
        low, high = float(scale["min_area_um2"]), float(scale["max_area_um2"])
        odd = int(np.count_nonzero((areas < low) | (areas > high)))
        if odd > ODD_SHARE * n:
            found.append(
                Flag(
                    "odd_nuclei",
                    "warning",
                    f"{odd} of {n} given nuclei are smaller than {low:.3g} or larger than "
                    f"{high:.3g} um2, which no nucleus is; each counts as a cell. Look at the "
                    "masks, and at the pixel size.",
                )
            )
    if whole_cells is not None:
        lost = int(cells["flags"].astype(str).str.contains("no_cell", regex=False).sum())
        found.append(
            Flag("given_cells", "info", f"The outlines of {whole_cells} whole cells were given.")
        )
        if lost > NO_CELL_SHARE * n:
            found.append(
                Flag(
                    "nuclei_without_cell",
                    "warning",
                    f"{lost} of {n} nuclei lie in none of the given cells and are not counted. "
                    "Look whether nuclei and cells are of the same image.",
                )
            )
    return found
