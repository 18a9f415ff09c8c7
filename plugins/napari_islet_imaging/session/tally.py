"""Live counts of calls, by the rules of the tables.

The idea: positive cells count as 1, unsure ones by their probability, excluded ones not at all; the
same sums as in the run's tables, cheap enough to be taken after every key press.
It fails to give an interval: that needs the batches, and is the tables' business.
"""

from __future__ import annotations

import dataclasses
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
    #: unsure cells that have a probability, and the sum of these
    n_weighed: int
    probability_sum: float

    @property
    def low(self) -> float:
        """The fraction if every unsure cell were negative."""
        return self.n_positive / self.n if self.n else float("nan")

    @property
    def high(self) -> float:
        """The fraction if every unsure cell were positive."""
        return (self.n_positive + self.n_unsure) / self.n if self.n else float("nan")

    @property
    def fraction(self) -> float:
        """Unsure cells count by their probability; NaN where they leave the fraction open."""
        from islet_imaging.statistics.counting import closed

        known = self.n_positive + self.n_negative + self.n_weighed
        if not known or not closed(self.low, self.high):
            return float("nan")
        return (self.n_positive + self.probability_sum) / known

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            *(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self))
        )


def tally(table: pd.DataFrame, marker: str) -> Tally:
    """Count one marker's calls of one table."""
    counted = ~table["excluded"].to_numpy(bool)
    calls = table[f"{marker}_call"].to_numpy()[counted]
    unsure = calls == "unsure"
    probability = table[f"{marker}_probability"].to_numpy(float)[counted][unsure]
    weighed = probability[np.isfinite(probability)]
    return Tally(
        int(counted.sum()),
        int((calls == "positive").sum()),
        int((calls == "negative").sum()),
        int(unsure.sum()),
        int(weighed.size),
        float(weighed.sum()),
    )
