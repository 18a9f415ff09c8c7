"""Composition of a condition: phenotypes and number of hormones, shares that add up to 1.

The idea: a cell has exactly one phenotype, so shares are taken within a batch, then averaged over
batches like any fraction, and add up to 1 at every level.  Cells whose phenotype hangs on an
unsure call are a class of their own instead of being forced.  It fails with spill-over: false
bihormonal cells appear wherever two hormones are neighbours, so look at the gallery first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.statistics.counting import closed, read_calls
from islet_imaging.statistics.design import UNKNOWN_BATCH
from islet_imaging.statistics.intervals import batch_interval
from islet_imaging.statistics.within_batch import (
    DESCRIPTIVE,
    NONE,
    ONE_BATCH,
    OVER_BATCHES,
    within,
)

if TYPE_CHECKING:
    import pandas as pd

COMPOSITION_COLUMNS = (
    "condition",
    "kind",
    "class",
    "n_batches",
    "n_cells",
    "fraction",
    "ci_low",
    "ci_high",
    "interval",
    "note",
)
_NUMBER = ("none", "monohormonal", "bihormonal", "polyhormonal")
#: classes of cells that could be anything
_OPEN = ("unsure", "not called")


def hormone_number(cells: pd.DataFrame) -> pd.Series:
    """``none``, ``monohormonal``, ``bihormonal``, ``polyhormonal`` or ``unsure`` for each cell.

    Insulin and C-peptide count as one hormone, present if either is.  A cell is unsure if any
    call that could change its class is.  With fewer than two hormones stained there is nothing to
    say, and the result is empty text.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"INS_call": ["positive", "positive"], "INS_probability": 0.9,
    ...                       "GCG_call": ["negative", "unsure"], "GCG_probability": 0.3})
    >>> hormone_number(cells).tolist()
    ['monohormonal', 'unsure']
    """
    import pandas as pd

    # here, so that planning and comparing need nothing of the imaging steps
    from islet_imaging.positivity.phenotype import hormone_of

    markers = [c.removesuffix("_call") for c in cells.columns if str(c).endswith("_call")]
    groups: dict[str, list[str]] = {}
    for marker in markers:
        hormone = hormone_of(marker)
        if hormone is not None:
            one = "insulin" if hormone == "c-peptide" else hormone
            groups.setdefault(one, []).append(marker)
    if len(groups) < 2:
        return pd.Series("", index=cells.index, dtype=object)
    least = np.zeros(len(cells), int)
    most = np.zeros(len(cells), int)
    called = np.ones(len(cells), bool)
    for members in groups.values():
        sure = np.zeros(len(cells), bool)
        possible = np.zeros(len(cells), bool)
        for marker in members:
            calls = read_calls(cells, marker)
            sure |= calls.may_be_positive & ~calls.may_be_negative
            possible |= calls.may_be_positive
            called &= calls.may_be_positive | calls.may_be_negative
        least += sure
        most += possible
    names = np.array(_NUMBER, dtype=object)[np.minimum(least, 3)]
    names[np.minimum(least, 3) != np.minimum(most, 3)] = "unsure"
    names[~called] = "not called"
    return pd.Series(names, index=cells.index, dtype=object)


def composition(
    classes: Mapping[str, pd.DataFrame],
    where: pd.DataFrame,
    *,
    conditions: Sequence[str],
    level: float = 0.95,
) -> pd.DataFrame:
    """Shares of phenotypes, and of cells with none, one, two or more hormones, per condition.

    Parameters
    ----------
    classes : mapping of str to DataFrame
        `islet_imaging.statistics.tally.Tally.classes`.  Under a marker as denominator they are of
        all cells, because phenotypes already tell its positive cells apart.
    where : DataFrame
        Of `islet_imaging.statistics.design.lay_over`; images of role ``sample`` count.
    conditions : sequence of str
        Conditions in the order of the table.
    level : float
        Confidence level.

    Returns
    -------
    DataFrame
        condition, kind (``phenotype`` or ``hormones``), class, n_batches, n_cells, fraction,
        ci_low, ci_high, interval (what it is over, as in ``summary.csv``), note.  Fractions of one
        condition and kind add up to 1.  Where more than 20 % of the cells are unsure or not called,
        only these two classes have a share.
    """
    import pandas as pd

    rows = []
    sample = (where["role"] == "sample").to_numpy()
    for condition in conditions:
        here = sample & (where["condition"] == condition).to_numpy()
        for kind, counts in classes.items():
            own = here & (counts.sum(axis=1) > 0).to_numpy()
            rows.extend(_classes(condition, kind, where[own], counts[own], level))
    return pd.DataFrame(rows, columns=list(COMPOSITION_COLUMNS))


def _classes(
    condition: str, kind: str, where: pd.DataFrame, by_place: pd.DataFrame, level: float
) -> list[dict[str, object]]:
    import pandas as pd

    batches = set(where["batch"])
    unknown = UNKNOWN_BATCH in batches
    one = unknown or len(batches) == 1
    by = where["unit"] if one else where["batch"]
    counts = by_place.loc[:, by_place.any()].groupby(by).sum()
    totals = counts.sum(axis=1)
    present = [str(c) for c in counts.columns]
    first = where.groupby(by)["islet_key"].first().reindex(counts.index)
    names = [n for n in (*_NUMBER, *_OPEN) if n in present]
    n_open = sum(int(counts[n].sum()) for n in _OPEN if n in present)
    known = bool(closed(0.0, n_open / max(int(totals.sum()), 1)))
    if kind == "phenotype":
        names = sorted(present, key=lambda c: (-counts[c].sum(), c))
    rows = []
    for name in names:
        if one:
            units = pd.DataFrame({"k": counts[name], "n": totals, "islet_key": first})
            over, interval = within(units, DESCRIPTIVE if unknown else ONE_BATCH, level)
        else:
            over, interval = OVER_BATCHES, batch_interval(counts[name], totals, level=level)
        said = known or name in _OPEN
        rows.append(
            {
                "condition": condition,
                "kind": kind,
                "class": name,
                "n_batches": 1 if unknown else len(batches),
                "n_cells": int(counts[name].sum()),
                "fraction": interval.fraction if said else np.nan,
                "ci_low": interval.low if said else np.nan,
                "ci_high": interval.high if said else np.nan,
                "interval": over if said else NONE,
                "note": interval.caution or interval.wide
                if said
                else "not estimable: too many cells are unsure",
            }
        )
    return rows
