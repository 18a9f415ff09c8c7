"""Statistics of nested counts: cells in islets, islets in batches, batches in conditions.

The idea: the batch (a differentiation) is the unit of replication.  Everything here counts cells,
and nothing here takes them for independent.
"""

from __future__ import annotations

from islet_imaging.statistics.intervals import Interval, batch_interval, islet_interval
from islet_imaging.statistics.rare import (
    cells_to_detect,
    clopper_pearson,
    describe_rare,
    upper_bound,
)
from islet_imaging.statistics.summary import Summary, summarise

__all__ = [
    "Interval",
    "Summary",
    "batch_interval",
    "cells_to_detect",
    "clopper_pearson",
    "describe_rare",
    "islet_interval",
    "summarise",
    "upper_bound",
]
