"""A trend of the fraction over a dose or over days, with batches as n.

The idea: where batches were followed over several values, each gives a slope of its own and the
slopes are what is replicated; where each batch has one value, a line is laid through the batches,
and its standard error does not assume that they scatter alike everywhere (HC3).  Slopes are in
percentage points per unit, the same quantity that a difference is in.
It fails where the fraction rises and levels off: a slope is the mean rise, not the shape.  Near 0
or 100 % few batches are skewed, and the t distribution is then an approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import special

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.statistics.comparison import COMPARISON_COLUMNS, batches_of, markers_of
from islet_imaging.statistics.exact import holm
from islet_imaging.statistics.intervals import check_level, floored, t_quantile
from islet_imaging.statistics.summary import Summary

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

#: batches of one value each that a line takes beyond its two numbers
_LEAST_BEYOND = 2


def trend(
    batches: Summary | pd.DataFrame,
    over: str,
    *,
    unit: str = "batch",
    markers: Sequence[str] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Slope of the fraction over a column of numbers, with an interval over batches.

    Parameters
    ----------
    batches : Summary or DataFrame
        A summary, or its batches table with the columns ``over`` and ``unit``.
    over : str
        Column of the sample sheet with numbers (``dose``, ``day``), one for all images of a batch
        under a condition.
    unit : str
        What is replicated, as in `compare_conditions`.
    markers : sequence of str, optional
        Markers; all by default.
    level : float
        Confidence level.

    Returns
    -------
    DataFrame
        The columns of `compare_conditions`, one row per marker: ``condition`` is ``per <over>``,
        ``effect_pp`` the slope in percentage points per unit of ``over``, ``n_units`` the slopes
        or batches it rests on.

    Raises
    ------
    IsletImagingError
        If the column is missing or holds no numbers.
    NotEstimableError
        If batches are not stated.

    References
    ----------
    Long & Ervin, Am Stat 54:217 (2000), HC3 in small samples.

    Examples
    --------
    >>> import pandas as pd
    >>> t = pd.DataFrame({"condition": ["d20", "d25", "d30"] * 3, "batch": list("aaabbbccc"),
    ...     "marker": "INS", "n_cells": 1000, "day": [20, 25, 30] * 3,
    ...     "fraction": [0.2, 0.31, 0.4, 0.1, 0.19, 0.32, 0.25, 0.33, 0.47]})
    >>> row = trend(t, "day").iloc[0]
    >>> print(row["design"], f"{row['effect_pp']:.2f}", row["p"] < 0.05)
    trend within batch 2.13 True
    """
    import pandas as pd

    check_level(level)
    table = batches_of(batches, (unit, over))
    value = pd.to_numeric(table[over].str.replace(",", "."), errors="coerce")
    if value.isna().any():
        bad = table.loc[value.isna(), over].iloc[0]
        raise IsletImagingError(f"{over} is {bad!r}; a trend needs a number")
    table = table.assign(at=value.astype(float))
    rows = []
    for marker in markers_of(table, markers):
        own = table[table["marker"] == marker]
        row: dict[str, object] = {"marker": marker, "condition": f"per {over}", "unit": unit}
        try:
            row |= _slope(own, unit, level)
        except NotEstimableError as error:
            row["note"] = str(error)
        rows.append(row)
    out = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    numbers = [c for c in COMPARISON_COLUMNS if c.startswith(("effect", "p", "fraction", "margin"))]
    out[numbers] = out[numbers].astype(float)
    out["p_holm"] = holm(out["p"])
    return out


def _slope(table: pd.DataFrame, unit: str, level: float) -> dict[str, object]:
    if table["at"].nunique() < 2:
        raise NotEstimableError("all batches have the same value: no trend can be estimated")
    groups = [g for _, g in table.groupby(unit, sort=True)]
    followed = [g for g in groups if np.ptp(g["at"]) > 0]
    notes = []
    if followed:
        if len(followed) < 2:
            raise NotEstimableError(
                f"one {unit} was seen at several values: slopes of two at least, better four, are "
                "needed"
            )
        if len(followed) < len(groups):
            notes.append(f"{len(groups) - len(followed)} seen at one value only are left out")
        slopes = np.array([_own_slope(g) for g in followed])
        value, n = float(slopes[:, 0].mean()), len(slopes)
        df = n - 1.0
        se = floored(float(slopes[:, 0].std(ddof=1) / np.sqrt(n)), _rms(slopes[:, 1], n), df)
        design = f"trend within {unit}"
    else:
        value, se, df = _line(table)
        n, design = len(table), f"trend across {unit}"
    half = t_quantile(level, df) * se
    if n < 4:
        notes.append(f"{n} of {unit}: the interval is wide and rests on the t distribution")
    return {
        "design": design,
        "n_units": n,
        "effect_pp": 100 * value,
        "effect_low_pp": 100 * (value - half),
        "effect_high_pp": 100 * (value + half),
        "p": float(2 * special.stdtr(df, -abs(value) / se)),
        "note": "; ".join(notes),
    }


def _rms(noise: Array, n: int) -> float:
    return float(np.sqrt(np.mean(noise**2) / n))


def _counting(table: pd.DataFrame) -> Array:
    """Variance of each fraction from counting cells alone."""
    n = table["n_cells"].to_numpy(float)
    q = (table["n_positive"].to_numpy(float) + 0.5) / (n + 1)
    return np.asarray(q * (1 - q) / n)


def _own_slope(table: pd.DataFrame) -> tuple[float, float]:
    """Least-squares slope of one unit, and the standard error that counting cells gives it."""
    x = table["at"].to_numpy(float)
    w = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    noise = np.sqrt(np.sum(w**2 * _counting(table)))
    return float(w @ table["fraction"].to_numpy(float)), float(noise)


def _line(table: pd.DataFrame) -> tuple[float, float, float]:
    """Slope through batches of one value each, HC3 standard error, degrees of freedom."""
    n = len(table)
    if n < 2 + _LEAST_BEYOND:
        raise NotEstimableError(
            f"{n} batches, each at one value: a line with an interval takes {2 + _LEAST_BEYOND} at "
            "least, better two or more at each value"
        )
    x, y = table["at"].to_numpy(float), table["fraction"].to_numpy(float)
    d = x - x.mean()
    w = d / np.sum(d**2)
    slope = float(w @ y)
    rest = y - y.mean() - slope * d
    leverage = 1 / n + d**2 / np.sum(d**2)
    alone = leverage > 1 - 1e-9
    if alone.any():
        raise NotEstimableError("one batch alone holds the trend: make more at the far value")
    se = float(np.sqrt(np.sum((w * rest / (1 - leverage)) ** 2)))
    df = n - 2.0
    return slope, floored(se, float(np.sqrt(np.sum(w**2 * _counting(table)))), df), df
