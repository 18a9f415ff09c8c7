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

    from napari_islet_imaging.session.edit_history import EditHistory


@dataclass(frozen=True)
class Tally:
    """Counts of one marker over the cells that count.

    Parameters
    ----------
    n, n_positive, n_unsure : int
        Whole cells.
    status : str
        As in the tables: whether there is a fraction at all.
    fraction : float
        As in the tables; NaN where unsure cells leave it open.
    low, high : float
        The fraction with all unsure cells resolved against and for it; NaN without cells.
    """

    n: int
    n_positive: int
    n_unsure: int
    status: str
    fraction: float
    low: float
    high: float

    @property
    def n_negative(self) -> int:
        """Cells that are surely not positive."""
        return self.n - self.n_positive - self.n_unsure


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
        str(shares["status"]),
        float(shares["fraction"]),
        float(shares["fraction_low"]),
        float(shares["fraction_high"]),
    )


class Counts:
    """Counts of a run's images for the marker under review, kept until something changes.

    Parameters
    ----------
    history : EditHistory
        The cells, as scored and corrected.
    denominator : str
        Of the protocol: which cells count.
    """

    def __init__(self, history: EditHistory, denominator: str) -> None:
        self._history, self._denominator = history, denominator
        self._kept: dict[tuple[str, str, bool], Tally] = {}

    def of(self, table: pd.DataFrame, marker: str) -> Tally:
        """Counts of any table of one image."""
        return tally(table, marker, self._denominator)

    def now(self, image: str, marker: str) -> Tally:
        """With corrections."""
        return self._once(image, marker, corrected=True)

    def scored(self, image: str, marker: str) -> Tally:
        """Without any."""
        return self._once(image, marker, corrected=False)

    def forget(self, image: str | None = None) -> None:
        """An image's cells changed, or any image's."""
        for key in list(self._kept):
            if key[2] and image in (None, key[0]):
                del self._kept[key]

    def _once(self, image: str, marker: str, *, corrected: bool) -> Tally:
        key = (image, marker, corrected)
        if key not in self._kept:
            tables = self._history.tables if corrected else self._history.raw
            self._kept[key] = self.of(tables[image], marker)
        return self._kept[key]
