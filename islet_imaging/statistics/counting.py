"""From calls of cells to counts: which cells enter a fraction, and with what weight.

The idea: every fraction of the project is a sum over a sum, taken at one place.  A positive cell
weighs 1, a negative one 0, an unsure one its probability; the lower and upper fraction resolve
every unsure cell against and for the fraction.  Where these two lie further apart than `OPEN_WIDTH`
the fraction is open and no single number is given.  Excluded cells weigh nothing.  A denominator
that is itself a marker (INS+ of CHGA+) is weighted the same way.
It fails where probabilities are not calibrated: then unsure cells pull the fraction, and only the
lower and upper fraction are safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from islet_imaging.errors import IsletImagingError
from islet_imaging.terms import OUTSIDE

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

#: unsure cells may leave a fraction open by so much; beyond, it is not estimable
OPEN_WIDTH = 0.20
#: what a status says of a fraction
ESTIMATED = "estimated"
NOT_ESTIMABLE = "not_estimable"
NO_CELLS = "no_cells"

#: columns of a counts table that are sums over cells
SUMS = (
    "n_cells",
    "n_positive",
    "n_unsure",
    "n_unknown",
    "k",
    "n",
    "k_low",
    "n_low",
    "k_high",
    "n_high",
)


@dataclass(frozen=True)
class Calls:
    """Calls of one marker for each cell: which are possible, and how likely positive.

    ``may_be_positive`` and ``may_be_negative`` are both true for an unsure cell and both false
    for a cell without a call; ``weight`` is NaN where there is no probability to count by.
    """

    weight: Array
    may_be_positive: NDArray[np.bool_]
    may_be_negative: NDArray[np.bool_]


def read_calls(cells: pd.DataFrame, marker: str) -> Calls:
    """Calls of ``marker``, checked.

    Raises
    ------
    IsletImagingError
        If a column is missing or a call is none of positive, negative, unsure.
    """
    for column in (f"{marker}_call", f"{marker}_probability"):
        if column not in cells.columns:
            raise IsletImagingError(
                f"the cells table has no column {column!r}: call {marker} first (call_cells), "
                "or leave it out of `markers`"
            )
    call = cells[f"{marker}_call"].astype("string").fillna("").to_numpy(dtype=object)
    probability = cells[f"{marker}_probability"].to_numpy(dtype=float, na_value=np.nan)
    positive, negative, unsure = call == "positive", call == "negative", call == "unsure"
    strange = ~(positive | negative | unsure | (call == ""))
    if strange.any():
        raise IsletImagingError(
            f"{marker}_call holds {call[strange][0]!r}; it must be positive, negative or unsure"
        )
    outside = unsure & ((probability < 0) | (probability > 1))
    if outside.any():
        raise IsletImagingError(
            f"{marker}_probability holds {probability[outside][0]:g}; it must lie in 0 to 1"
        )
    weight = np.where(positive, 1.0, np.where(negative, 0.0, probability))
    weight[~(positive | negative | unsure)] = np.nan
    return Calls(weight, positive | unsure, negative | unsure)


def countable(cells: pd.DataFrame) -> NDArray[np.bool_]:
    """Cells that may count: not excluded, and not outside where islets were drawn.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"excluded": [False, True, False], "region": ["A", "A", "outside"]})
    >>> countable(cells).tolist()
    [True, False, False]
    """
    live: NDArray[np.bool_] = ~cells["excluded"].to_numpy(dtype=bool)
    if "region" in cells.columns:  # cells outside of drawn islets count apart
        live = live & (cells["region"] != OUTSIDE).to_numpy(dtype=bool)
    return live


def weigh(cells: pd.DataFrame, marker: str, denominator: str) -> pd.DataFrame:
    """What each cell adds to the counts of ``marker``.

    Parameters
    ----------
    cells : DataFrame
        Cells table with ``excluded``, ``islet`` and the marker's call and probability; cells whose
        ``region`` is "outside" count in no denominator.
    marker : str
        Name of the marker.
    denominator : str
        ``"all"`` live cells, ``"islets"`` for cells inside islets, or the name of a marker, for
        its positive cells.

    Returns
    -------
    DataFrame
        Columns ``SUMS``, index of ``cells``.  ``k / n`` is the fraction, ``k_low / n_low`` and
        ``k_high / n_high`` its bounds; ``n_cells`` counts whole cells that are or may be in the
        denominator, ``n_unknown`` those unsure ones that have no probability.
    """
    import pandas as pd

    own = read_calls(cells, marker)
    base = countable(cells)
    if denominator == "islets":
        base = base & (cells["islet"].to_numpy() > 0)
    if denominator in ("all", "islets"):
        of = Calls(np.ones(len(cells)), np.ones(len(cells), bool), np.zeros(len(cells), bool))
    else:
        of = read_calls(cells, denominator)
    called = base & (own.may_be_positive | own.may_be_negative) & of.may_be_positive
    sure_positive = called & ~own.may_be_negative & ~of.may_be_negative
    sure_negative = called & ~own.may_be_positive & ~of.may_be_negative
    known = called & np.isfinite(own.weight) & np.isfinite(of.weight)
    n = np.where(known, of.weight, 0.0)
    # A pair of bounds: each unsure cell is resolved the way that moves the fraction furthest.  For
    # a marker as denominator that also decides whether the cell is in the denominator at all.
    could_be_negative = called & own.may_be_negative
    could_be_positive = called & own.may_be_positive
    table = {
        "n_cells": called,
        "n_positive": sure_positive,
        "n_unsure": called & ~sure_positive & ~sure_negative,
        "n_unknown": called & ~known,
        "k": np.where(known, n * np.nan_to_num(own.weight), 0.0),
        "n": n,
        "k_low": sure_positive,
        "n_low": sure_positive | could_be_negative,
        "k_high": could_be_positive,
        "n_high": could_be_positive | sure_negative,
    }
    return pd.DataFrame({c: np.asarray(table[c], dtype=float) for c in SUMS}, index=cells.index)


def fractions(sums: pd.DataFrame) -> pd.DataFrame:
    """Fraction, its bounds and its status from summed counts.

    Parameters
    ----------
    sums : DataFrame
        With columns ``SUMS``.

    Returns
    -------
    DataFrame
        ``status`` ("estimated", "not_estimable", "no_cells"), ``fraction``, which is NaN unless it
        is estimated, ``fraction_low`` and ``fraction_high``; index of ``sums``.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"islet": 1, "excluded": False, "INS_probability": [0.9, 0.1, 0.5],
    ...                       "INS_call": ["positive", "negative", "unsure"]})
    >>> one = weigh(cells, "INS", "all").sum().to_frame().T
    >>> fractions(one)[["status", "fraction_low", "fraction_high"]].round(2).to_numpy().tolist()
    [['not_estimable', 0.33, 0.67]]
    """
    import pandas as pd

    fraction = sums["k"] / sums["n"].where(sums["n"] > 0)
    low = sums["k_low"] / sums["n_low"].where(sums["n_low"] > 0)
    high = sums["k_high"] / sums["n_high"].where(sums["n_high"] > 0)
    # a bound is without cells only if no resolution leaves the denominator any to differ in
    low, high = low.fillna(fraction), high.fillna(fraction)
    known = closed(low, high) & fraction.notna().to_numpy()
    status = np.where(known, ESTIMATED, NOT_ESTIMABLE).astype(object)
    status[~(sums["n_cells"] > 0).to_numpy()] = NO_CELLS
    return pd.DataFrame(
        {
            "status": status,
            "fraction": fraction.where(status == ESTIMATED),
            "fraction_low": low,
            "fraction_high": high,
        },
        index=sums.index,
    )


def closed(low: ArrayLike, high: ArrayLike) -> NDArray[np.bool_]:
    """Whether bounds are near enough for a single number.

    Examples
    --------
    >>> closed([0.1, 0.1], [0.2, 0.6])
    array([ True, False])
    """
    width = np.asarray(high, dtype=float) - np.asarray(low, dtype=float)
    # rounding of sums must not decide
    out: NDArray[np.bool_] = np.asarray(width <= OPEN_WIDTH + 1e-9)
    return out


def enough(known: int, counted: int) -> bool:
    """Whether parts with a fraction can stand for all that have cells: more than half of them."""
    return known > 0 and 2 * known > counted
