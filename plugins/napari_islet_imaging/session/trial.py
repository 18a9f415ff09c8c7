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

from islet_imaging.replay import Replay
from napari_islet_imaging.session.staining import sample_tables, thresholds
from napari_islet_imaging.session.tally import Tally, tally

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.positivity import Threshold
    from islet_imaging.protocol import Protocol
    from napari_islet_imaging.session.edit_history import EditHistory


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


def try_cut(
    history: EditHistory,
    protocol: Protocol,
    images: pd.DataFrame,
    image: str,
    marker: str,
    cut: float,
) -> Trial | None:
    """Call an image with a cut for one marker; None where the run has no threshold to move.

    Parameters
    ----------
    history : EditHistory
        The run's cells and corrections.
    protocol : Protocol
        The run's, with what was fitted.
    images : DataFrame
        The run's table of images.
    image, marker : str
        What to call.
    cut : float
        On the marker's own level, the feature that calls rest on.
    """
    from islet_imaging.positivity import call_marker

    run_s = thresholds(protocol, images, image).get(marker)
    if run_s is None or not run_s.estimable:
        return None
    fitted = _at(sample_tables(history.raw, images, image), run_s, cut)
    tried = with_cut(protocol, marker, cut)
    table = call_marker(history.raw[image], marker, fitted, tried)
    held = history.effective(image=image)
    if held:
        replay = Replay(table)
        for edit in held:
            replay.apply(edit)
        table = replay.cells
    counted = tally(table, marker, tried.statistics.denominator)
    return Trial(marker, float(cut), fitted, table, counted)


def _at(tables: list[pd.DataFrame], run_s: Threshold, cut: float) -> Threshold:
    """What fitting the staining run anew with this cut gives: neighbours' light is as it was."""
    from islet_imaging.positivity import fit_threshold

    own = np.concatenate([t[run_s.feature].to_numpy(float) for t in tables])
    counted = np.concatenate([~t["excluded"].to_numpy(bool) for t in tables])
    fitted = fit_threshold(
        own[counted], method="manual", value=float(cut), feature=run_s.feature, bootstrap=0
    )
    return dataclasses.replace(
        fitted,
        measured=run_s.measured,
        spill_near=run_s.spill_near,
        spill_far=run_s.spill_far,
        spill_zero=run_s.spill_zero,
    )


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
