"""Calls at another threshold, without scoring again.

The idea: a threshold's probabilities are a curve on one column of the table; moving the threshold
moves the curve, and the calls of all cells follow by a comparison.  The numbers are those of
`islet_imaging.positivity`, whose `Threshold` is used with another value.
It fails to foresee what a refit of spill-over would do: that is left as it was.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.positivity import Threshold


@dataclass(frozen=True)
class WhatIf:
    """Calls of one table at one threshold.

    Parameters
    ----------
    calls : ndarray of object
        Per row of the table.
    fraction : float
        Unsure cells count by their probability; excluded ones not at all.
    n_positive, n_unsure, n : int
        Counts without excluded cells.
    """

    calls: NDArray[np.object_]
    fraction: float
    n_positive: int
    n_unsure: int
    n: int


class ThresholdView:
    """The cells of one image or run seen through a threshold that can be moved.

    Parameters
    ----------
    table : DataFrame
        Cells; excluded ones are not counted.
    marker : str
        The marker.
    threshold : Threshold
        As fitted.
    column : str
        The feature shown; where it is the threshold's own feature, probabilities are the
        threshold's, else a cell is positive above the line.
    unsure_low, unsure_high : float
        Of the protocol.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        marker: str,
        threshold: Threshold | None,
        column: str,
        *,
        unsure_low: float,
        unsure_high: float,
    ) -> None:
        self.values = table[column].to_numpy(float)
        self.counted = ~table["excluded"].to_numpy(bool)
        self.column = column
        own = threshold is not None and column in (f"{marker}_own", threshold.feature)
        self.threshold = threshold if own else None
        self._low, self._high = unsure_low, unsure_high

    @property
    def value(self) -> float | None:
        """Where the fitted threshold lies on this column."""
        return None if self.threshold is None else self.threshold.value

    def probability(self, cut: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of being positive of some values, were the threshold at ``cut``."""
        if self.threshold is None:
            return (values > cut).astype(float)
        return np.asarray(dataclasses.replace(self.threshold, value=cut).probability(values))

    def at(self, cut: float) -> WhatIf:
        """Calls of every cell, were the threshold at ``cut``."""
        probability = np.nan_to_num(self.probability(cut, self.values), nan=0.5)
        calls = np.full(len(probability), "unsure", object)
        calls[probability <= self._low] = "negative"
        calls[probability >= self._high] = "positive"
        positive = (probability >= self._high) & self.counted
        unsure = (probability > self._low) & (probability < self._high) & self.counted
        n = int(self.counted.sum())
        expected = positive.sum() + probability[unsure].sum()
        return WhatIf(
            calls,
            float(expected / n) if n else float("nan"),
            int(positive.sum()),
            int(unsure.sum()),
            n,
        )

    def band(self, cut: float) -> tuple[float, float] | None:
        """The values between which calls are unsure, were the threshold at ``cut``."""
        if self.threshold is None:
            return None
        finite = self.values[np.isfinite(self.values)]
        if not finite.size:
            return None
        grid = np.linspace(*np.percentile(finite, [0.0, 100.0]), 4000)
        probability = self.probability(cut, grid)
        inside = grid[(probability > self._low) & (probability < self._high)]
        return (float(inside[0]), float(inside[-1])) if inside.size else None
