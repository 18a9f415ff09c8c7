"""What a reader of a condition's fraction must know of its batches, as clauses of the note.

The idea: a batch that failed, or that holds three cells, is part of the plain mean like any other;
it is named, and the number is given with and without it, so that nobody has to trust a rule.
It fails where no clause fits: the note then says less than an experienced eye on the figure sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.statistics.intervals import Interval
from islet_imaging.statistics.outliers import outlying, small

if TYPE_CHECKING:
    import pandas as pd


def batch_notes(counted: pd.DataFrame, interval: Interval, *, level: float) -> list[str]:
    """Clauses on the batches behind an interval over batches.

    Parameters
    ----------
    counted : DataFrame
        The batches with cells: ``batch, k, n`` (positives and cells).
    interval : Interval
        Over these batches.
    level : float
        Confidence level.

    Returns
    -------
    list of str

    Examples
    --------
    >>> import pandas as pd
    >>> from islet_imaging.statistics import batch_interval
    >>> t = pd.DataFrame(
    ...     {"batch": list("abcd"), "k": [480, 520, 1, 450], "n": [1000, 1000, 3, 900]})
    >>> for clause in batch_notes(t, batch_interval(t["k"], t["n"]), level=0.95): print(clause)
    batch c holds 3 cells and weighs as much as any other: 45.8 % with it, 50.0 % without it
    if batches can fail, up to 60 % of them could without one among these 4, and the mean over all \
be as low as 17 %
    """
    k, n = counted["k"].to_numpy(float), counted["n"].to_numpy(float)
    share = k / n
    notes = [clause for clause in (interval.caution, interval.wide) if clause]
    few, far = small(n), outlying(k, n)
    far &= ~few

    def both(without: np.ndarray) -> str:
        kept = f"{100 * share[~without].mean():.1f} %" if (~without).any() else "nothing"
        it = "it" if without.sum() == 1 else "them"
        return f"{100 * share.mean():.1f} % with {it}, {kept} without {it}"

    names = counted["batch"].astype(str).to_numpy()
    for i in np.flatnonzero(few):
        one = np.arange(len(n)) == i
        notes.append(
            f"batch {names[i]} holds {n[i]:.0f} cells and weighs as much as any other: {both(one)}"
        )
    if far.any():
        what = ", ".join(f"{names[i]} ({100 * share[i]:.1f} %)" for i in np.flatnonzero(far))
        notes.append(
            f"batch {what} lies far from the others: {both(far)}; none was dropped: if the "
            "differentiation failed by a rule fixed beforehand, leave it out and say so"
        )
    elif not interval.caution:
        unseen = 1 - ((1 - level) / 2) ** (1 / len(n))
        notes.append(
            f"if batches can fail, up to {100 * unseen:.0f} % of them could without one among "
            f"these {len(n)}, and the mean over all be as low as "
            f"{100 * (1 - unseen) * interval.low:.2g} %"
        )
    return notes


def none_note(batches: pd.DataFrame, interval: Interval, kind: str) -> list[str]:
    """The clause for a fraction of which no cell, or every cell, is positive.

    Examples
    --------
    >>> import pandas as pd
    >>> t = pd.DataFrame({"n_cells": [900], "n_positive": [0], "n_unsure": [0]})
    >>> none_note(t, Interval(0.0, 0.0, 0.021, 12), "this batch only")
    ['none of 900 cells is positive: up to 2.1 % cannot be excluded (this batch only)']
    """
    cells = int(batches["n_cells"].sum())
    positive, unsure = batches["n_positive"].sum(), batches["n_unsure"].sum()
    if not cells or unsure or not np.isfinite(interval.high):
        return []
    if positive == 0:
        return [
            f"none of {cells} cells is positive: up to {100 * interval.high:.2g} % cannot be "
            f"excluded ({kind})"
        ]
    if positive == cells:
        return [
            f"all of {cells} cells are positive: down to {100 * interval.low:.3g} % cannot be "
            f"excluded ({kind})"
        ]
    return []
