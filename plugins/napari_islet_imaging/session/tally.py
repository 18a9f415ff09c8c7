"""Live counts of calls, by the rules of the tables.

The idea: positive cells count as 1, unsure ones by their probability, excluded ones not at all; the
same sums as in the run's tables, cheap enough to be taken after every key press.
It fails to give an interval: that needs the batches, and is the tables' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tally:
    """Counts of one marker: cells that count, calls, and the fraction as the tables give it."""

    n: int
    n_positive: int
    n_negative: int
    n_unsure: int
    probability_sum: float

    @property
    def fraction(self) -> float:
        """Unsure cells count by their probability."""
        expected = self.n_positive + self.probability_sum
        return expected / self.n if self.n else float("nan")

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.n + other.n,
            self.n_positive + other.n_positive,
            self.n_negative + other.n_negative,
            self.n_unsure + other.n_unsure,
            self.probability_sum + other.probability_sum,
        )


def tally(table: pd.DataFrame, marker: str) -> Tally:
    """Count one marker's calls of one table."""
    counted = ~table["excluded"].to_numpy(bool)
    calls = table[f"{marker}_call"].to_numpy()[counted]
    unsure = calls == "unsure"
    probability = np.nan_to_num(table[f"{marker}_probability"].to_numpy(float)[counted], nan=0.5)
    return Tally(
        int(counted.sum()),
        int((calls == "positive").sum()),
        int((calls == "negative").sum()),
        int(unsure.sum()),
        float(probability[unsure].sum()),
    )
