"""A threshold that is being tried: the calls, and the number, that scoring with it would give.

The idea: a cut set by hand is fitted and called by the library's own functions on the run's own
cells, with the corrections laid over, so that what is shown while a line is dragged is what a run
with the saved protocol says, to the last digit.  Nothing is changed by trying.
It fails where a run was measured by another version: then scoring again measures anew.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_islet_imaging.session.tally import Tally, tally

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.positivity import Threshold
    from islet_imaging.protocol import Protocol
    from napari_islet_imaging.session.edit_history import EditHistory
    from napari_islet_imaging.session.staining import Stainings


@dataclass(frozen=True, eq=False)
class Trial:
    """The open image at another threshold for one marker.

    Parameters
    ----------
    marker : str
        The marker.
    cut : float
        Where the threshold was put.
    threshold : Threshold
        As scoring would fit it.
    table : DataFrame
        The image's cells called by it, corrections included.
    tally : Tally
        Their counts.
    """

    marker: str
    cut: float
    threshold: Threshold
    table: pd.DataFrame
    tally: Tally


def with_cut(protocol: Protocol, marker: str, cut: float) -> Protocol:
    """The protocol with a cut set by hand for one marker, to be fitted anew."""
    how = dataclasses.replace(protocol.calling(marker), method="manual", threshold=float(cut))
    fitted = {
        batch: {m: t for m, t in markers.items() if m != marker}
        for batch, markers in protocol.fitted.items()
    }
    return protocol.replace(positivity={**protocol.positivity, marker: how}, fitted=fitted)


class Cuts:
    """The cuts that can be tried on one image for one marker.

    Parameters
    ----------
    history : EditHistory
        The run's cells and corrections.
    protocol : Protocol
        The run's, with what was fitted.
    stainings : Stainings
        What was stained together.
    image, marker : str
        What to call.
    """

    def __init__(
        self,
        history: EditHistory,
        protocol: Protocol,
        stainings: Stainings,
        image: str,
        marker: str,
    ) -> None:
        self._history, self._protocol = history, protocol
        self.image, self.marker = image, marker
        #: the run's own threshold; None where there is none to move
        self.threshold = stainings.thresholds(image).get(marker)
        if self.threshold is not None and not self.threshold.estimable:
            self.threshold = None
        self._own = np.empty(0)
        if self.threshold is not None:
            self._own = self._own_intensities(
                [history.raw[name] for name in stainings.samples(image) if name in history.raw]
            )

    def _own_intensities(self, tables: list[pd.DataFrame]) -> NDArray[np.float64]:
        """Of all cells that a threshold is fitted to, with the run's spill-over taken away.

        They are taken all at once, as in fitting: where images cannot be compared, calls read each
        by its own intensities, but a cut set by hand holds for all of them alike.
        """
        import pandas as pd

        from islet_imaging.positivity.levels import counted, level_of
        from islet_imaging.positivity.spillover import neighbourhood, own_level

        assert self.threshold is not None
        cells, spill = pd.concat(tables, ignore_index=True), self.threshold.spill
        level = level_of(cells, self.threshold.measured or self.threshold.feature)
        own = level
        if max(spill.shares) > 0:
            around = neighbourhood(cells)
            own = spill.zero + own_level(level - spill.zero, around, spill.shares)
        return own[np.isfinite(level) & counted(cells)]

    def at(self, cut: float) -> Trial | None:
        """The image called with a cut on the marker's own intensity; None without a threshold."""
        from islet_imaging.positivity import call_marker, fit_threshold

        if self.threshold is None:
            return None
        fitted = fit_threshold(
            self._own,
            method="manual",
            value=float(cut),
            feature=self.threshold.feature,
            bootstrap=0,
        )
        # as in fitting the staining run anew: neighbours' light is what it was
        fitted = dataclasses.replace(
            fitted, measured=self.threshold.measured, spill=self.threshold.spill
        )
        protocol = with_cut(self._protocol, self.marker, cut)
        table = call_marker(self._history.raw[self.image], self.marker, fitted, protocol)
        table = self._history.lay_over(self.image, table)
        counted = tally(table, self.marker, protocol.statistics.denominator)
        return Trial(self.marker, float(cut), fitted, table, counted)


def unsure_band(
    threshold: Threshold, values: NDArray[np.float64], low: float, high: float
) -> tuple[float, float] | None:
    """The values between which a threshold leaves calls unsure.

    Parameters
    ----------
    threshold : Threshold
        An estimable one.
    values : ndarray of float64
        Those that there are.
    low, high : float
        Probabilities between which a call is unsure.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    grid = np.linspace(float(finite.min()), float(finite.max()), 4000)
    probability = threshold.probability(grid)
    inside = grid[(probability > low) & (probability < high)]
    return (float(inside[0]), float(inside[-1])) if inside.size else None
