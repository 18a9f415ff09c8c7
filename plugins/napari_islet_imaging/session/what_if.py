"""Calls at another threshold, without scoring again.

The idea: a threshold is where the odds of being positive are even; moving it adds the same amount
to the log odds of every cell, so at the fitted value the calls are those of the run, and elsewhere
they follow by one subtraction, whatever made the probabilities.
It fails to foresee what a refit of spill-over would do: that is left as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_islet_imaging.session.tally import Tally, tally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from islet_imaging.positivity import Threshold


@dataclass(frozen=True)
class WhatIf:
    """Calls of one table at one threshold.

    Parameters
    ----------
    calls : ndarray of object
        Per row of the table.
    counts : Tally
        Of the cells that are not excluded.
    """

    calls: NDArray[np.object_]
    counts: Tally


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
        self.threshold = threshold if own and threshold and threshold.estimable else None
        self._low, self._high = unsure_low, unsure_high
        probability = table[f"{marker}_probability"].to_numpy(float)
        if self.threshold is not None:
            # what people said of a cell does not move with the threshold; what its level says does
            reason = table[f"{marker}_reason"].astype(str)
            people = reason.str.startswith("called by ").to_numpy()
            probability = np.where(people, self.threshold.probability(self.values), probability)
        self._odds = _log_odds(probability)

    @property
    def value(self) -> float | None:
        """Where the fitted threshold lies on this column."""
        return None if self.threshold is None else self.threshold.value

    def probability(self, cut: float) -> NDArray[np.float64]:
        """Probability of each cell of being positive, were the threshold at ``cut``."""
        if self.threshold is None:
            return np.where(np.isfinite(self.values), self.values > cut, np.nan)
        return 1 / (1 + np.exp(-(self._odds - self._shift(cut))))

    def _shift(self, cut: float) -> float:
        assert self.threshold is not None
        return float(_log_odds(self.threshold.probability(np.array([cut])))[0])

    def at(self, cut: float) -> WhatIf:
        """Calls of every cell, were the threshold at ``cut``."""
        probability = self.probability(cut)
        calls = np.full(len(probability), "unsure", object)
        calls[probability <= self._low] = "negative"
        calls[probability >= self._high] = "positive"
        seen = pd.DataFrame(
            {"excluded": ~self.counted, "_call": calls, "_probability": probability}
        )
        return WhatIf(calls, tally(seen, ""))

    def band(self, cut: float) -> tuple[float, float] | None:
        """The values between which calls are unsure, were the threshold at ``cut``."""
        if self.threshold is None:
            return None
        finite = self.values[np.isfinite(self.values)]
        if not finite.size:
            return None
        grid = np.linspace(float(finite.min()), float(finite.max()), 4000)
        odds = _log_odds(self.threshold.probability(grid)) - self._shift(cut)
        probability = 1 / (1 + np.exp(-odds))
        inside = grid[(probability > self._low) & (probability < self._high)]
        return (float(inside[0]), float(inside[-1])) if inside.size else None


def _log_odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    safe = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.log(safe / (1 - safe))
