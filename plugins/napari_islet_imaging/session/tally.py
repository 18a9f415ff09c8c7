"""Live counts of calls, by the rules of the tables.

The idea: the same weights and sums as in the run's tables (`islet_imaging.statistics`), the
protocol's denominator included, cheap enough to be taken after every key press.
It fails to give an interval: that needs the batches, and is the tables' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tally:
    """Counts of one marker over the cells that count.

    Parameters
    ----------
    n, n_positive, n_unsure : int
        Whole cells.
    expected, weight : float
        Their ratio is the fraction: unsure cells count by their probability.
    low, high : float
        The fraction with all unsure cells resolved against and for it; NaN without cells.
    """

    n: int
    n_positive: int
    n_unsure: int
    expected: float
    weight: float
    low: float
    high: float

    @property
    def n_negative(self) -> int:
        """Cells that are surely not positive."""
        return self.n - self.n_positive - self.n_unsure

    @property
    def fraction(self) -> float:
        """As in the tables; NaN without cells."""
        return self.expected / self.weight if self.weight > 0 else float("nan")


def tally(table: pd.DataFrame, marker: str, denominator: str) -> Tally:
    """Count one marker's calls of one table.

    Parameters
    ----------
    table : DataFrame
        Called cells of one image.
    marker : str
        The marker.
    denominator : str
        Of the protocol: which cells count.
    """
    from islet_imaging.statistics.counting import fractions, weigh

    sums = weigh(table, marker, denominator).sum()
    shares = fractions(sums.to_frame().T).iloc[0]
    return Tally(
        int(sums["n_cells"]),
        int(sums["n_positive"]),
        int(sums["n_unsure"]),
        float(sums["k"]),
        float(sums["n"]),
        float(shares["fraction_low"]),
        float(shares["fraction_high"]),
    )
