"""What an interval may be called: over batches, over the islets of one, or none at all.

The idea: whoever lays an interval over the islets of one batch gets its name from here too, so that
no table shows one without saying what it is over.
It fails where islets were picked by eye: no name tells that.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.statistics.intervals import Interval, islet_interval

if TYPE_CHECKING:
    import pandas as pd

#: what ``interval`` can say
OVER_BATCHES = "over batches"
ONE_BATCH = "this batch only"
DESCRIPTIVE = "these islets only (batches unknown)"
NONE = "none"

#: islets (or images, where there are none) of one batch that an interval takes
LEAST_ISLETS = 3


def within(units: pd.DataFrame, kind: str, level: float) -> tuple[str, Interval]:
    """Interval over the islets of one batch, and what it may be called.

    Cells outside islets are one unit per image; they are no islets, so that one islet and what lies
    around it are not two.
    """
    interval = islet_interval(units["k"], units["n"], level=level)
    units = units[units["n"] > 0]
    islets = int((units["islet_key"] != "").sum())
    if (islets or len(units)) < LEAST_ISLETS:
        return NONE, dataclasses.replace(interval, low=np.nan, high=np.nan)
    return kind, interval
