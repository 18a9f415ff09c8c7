"""From levels to calls: probability, call and reason for every cell.

The idea: one marker of one staining run is fitted once (`fit_marker`: levels, spill-over, cut, all
on the level that is the cell's own), and every image of the run is called with that fit
(`call_marker`), so that an image without a single positive cell is called by what its neighbours on
the slide have shown.  A call is `unsure` between two probabilities; the reason says in a few words
what decided.
It fails, by design towards `unsure`, where no threshold is estimable.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.fitting import fit_cells
from islet_imaging.positivity.levels import level_of
from islet_imaging.positivity.spillover import neighbourhood, own_level
from islet_imaging.positivity.threshold import LOGIT_LIMIT, Threshold
from islet_imaging.positivity.weights import LOGIT_ALONE
from islet_imaging.protocol import FitMethod

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.protocol import Protocol

Floats = NDArray[np.float64]

#: without a threshold, an intensity within this factor of the local background is called dark
DARK = 1.5
#: and its probability
DARK_PROBABILITY = 0.1
#: more than this share of clipped pixels is worth saying in the reason
SATURATED = 0.2


def call_marker(
    cells: pd.DataFrame,
    marker: str,
    threshold: Threshold,
    protocol: Protocol,
) -> pd.DataFrame:
    """Call one marker of one image by its staining run's fit and the protocol's limits.

    Parameters
    ----------
    cells : DataFrame
        Measured cells.
    marker : str
        Channel name.
    threshold : Threshold
        From :func:`fit_marker`, or stored by an earlier run.
    protocol : Protocol
        For ``unsure_low`` and ``unsure_high``.

    Returns
    -------
    DataFrame
        As from :func:`call_cells`.
    """
    how = protocol.calling(marker)
    return call_cells(
        cells,
        marker,
        threshold,
        unsure_low=how.unsure_low,
        unsure_high=how.unsure_high,
        spillover=how.spillover,
    )


def image_threshold(
    cells: pd.DataFrame, threshold: Threshold, *, spillover: bool = True
) -> Threshold:
    """Read an image of a run whose images cannot be compared by its own intensities.

    Parameters
    ----------
    cells : DataFrame
        All measured cells of the image; levels of a part of it are levels of that part.
    threshold : Threshold
        The staining run's.
    spillover : bool
        Whether neighbours' light is taken away.

    Returns
    -------
    Threshold
        Of this image; the one given where the run's holds for all of its images.
    """
    if not threshold.per_image or not len(cells):
        return threshold
    alone = fit_cells(
        cells,
        threshold.measured or threshold.feature,
        feature=threshold.feature,
        method=_alike(threshold),
        spillover=spillover,
        bootstrap=0,
    )
    return dataclasses.replace(alone, per_image=False)


def call_cells(
    cells: pd.DataFrame,
    marker: str,
    threshold: Threshold,
    *,
    unsure_low: float = 0.2,
    unsure_high: float = 0.8,
    spillover: bool = True,
) -> pd.DataFrame:
    """Call one marker for every cell of a table.

    Parameters
    ----------
    cells : DataFrame
        Measured cells of one or more images of one staining run.
    marker : str
        Channel name.
    threshold : Threshold
        Of that run and marker.  If it names a ``measured`` column the spill-over of neighbours is
        taken from that column first; else its ``feature`` is used as it stands.
    unsure_low, unsure_high : float
        Probabilities strictly between them are `unsure`.
    spillover : bool
        Whether neighbours' light is taken away where levels are read again from each image.

    Returns
    -------
    DataFrame
        A copy with ``<marker>_own``, ``<marker>_probability``, ``<marker>_call`` ("positive",
        "negative", "unsure") and ``<marker>_reason``.

    Raises
    ------
    ProtocolError
        If the table lacks the column.

    Examples
    --------
    >>> import pandas as pd
    >>> from islet_imaging.positivity import fit_threshold
    >>> cells = pd.DataFrame({"INS_ring_p25": [10.0, 12.0, 500.0]})
    >>> cut = fit_threshold([], feature="INS_ring_p25", method="manual", value=100.0)
    >>> list(call_cells(cells, "INS", cut)["INS_call"])
    ['negative', 'negative', 'positive']
    """
    column = threshold.measured or threshold.feature
    if column not in cells.columns:
        raise ProtocolError(
            f"the cells table has no column {column!r}, which the threshold of {marker} acts on"
        )
    if threshold.per_image and len(cells):
        # images of this run cannot be compared: each is read by its own intensities
        import pandas as pd

        names = np.zeros(len(cells)) if "image" not in cells else cells["image"].to_numpy(str)
        parts, where = [], []
        for name in np.unique(names):
            at = np.flatnonzero(names == name)
            one = cells.iloc[at]
            parts.append(
                call_cells(
                    one,
                    marker,
                    image_threshold(one, threshold, spillover=spillover),
                    unsure_low=unsure_low,
                    unsure_high=unsure_high,
                    spillover=spillover,
                )
            )
            where.append(at)
        return pd.concat(parts).iloc[np.argsort(np.concatenate(where))]
    level = level_of(cells, column)
    own, spill = level, threshold.spill
    if max(spill.shares) > 0 and len(cells):
        own = spill.zero + own_level(level - spill.zero, neighbourhood(cells), spill.shares)
    light, logit = _network_columns(cells, marker, threshold)
    if threshold.estimable:
        probability = threshold.probability(own, level - own, network=light, logit=logit)
    elif threshold.method == "network":
        slope, constant = LOGIT_ALONE
        probability = 1 / (1 + np.exp(-(slope * logit + constant)))
    else:
        probability = _without_cut(cells, marker, own)
    lost = ~np.isfinite(level)
    probability = np.where(lost, 0.5, probability)
    call = np.select(
        [probability <= unsure_low, probability >= unsure_high], ["negative", "positive"], "unsure"
    )
    reason = _reasons(cells, marker, threshold, level, own, call)
    reason[lost] = "not measured"
    call = np.where(lost, "unsure", call)
    return cells.assign(
        **{
            f"{marker}_own": own,
            f"{marker}_probability": probability,
            f"{marker}_call": call.astype(object),
            f"{marker}_reason": reason,
        }
    )


def _alike(threshold: Threshold) -> FitMethod:
    """Method that reads an image's own levels as the run's threshold would have."""
    return "network" if threshold.method == "network" else "levels"


def _network_columns(
    cells: pd.DataFrame, marker: str, threshold: Threshold
) -> tuple[Floats | None, Floats]:
    """Own light and logit that the network gave each cell; None and 0 where it had no say."""
    if threshold.method != "network" or not len(cells):
        return None, np.zeros(len(cells))
    if f"{marker}_network_own" not in cells.columns:
        raise ProtocolError(
            f"the threshold of {marker} was fitted with the network, which these cells were not "
            f"shown to; remove {marker} from `fitted`, or measure with `method: network`"
        )
    light: Floats = cells[f"{marker}_network_own"].to_numpy(dtype=np.float64)
    odds: Floats = cells[f"{marker}_network_odds"].to_numpy(dtype=np.float64)
    return light, np.clip(np.nan_to_num(odds), -LOGIT_LIMIT, LOGIT_LIMIT)


def _without_cut(cells: pd.DataFrame, marker: str, own: Floats) -> Floats:
    """Probability where no threshold is estimable: dark cells are probably negative, else 0.5."""
    probability = np.full(len(cells), 0.5)
    name = f"{marker}_background"
    if name in cells.columns:
        background = cells[name].to_numpy(dtype=np.float64)
        dark = (background > 0) & (own <= DARK * background)
        probability[dark] = DARK_PROBABILITY
    return probability


def _reasons(
    cells: pd.DataFrame,
    marker: str,
    threshold: Threshold,
    level: Floats,
    own: Floats,
    call: NDArray[np.str_],
) -> NDArray[np.object_]:
    if threshold.value is None and threshold.method == "network":
        words = np.select(
            [call == "negative", call == "unsure"],
            ["no pattern of expression", "pattern unclear"],
            "pattern of expression",
        )
        return np.char.add(words, ", no threshold estimable").astype(object)
    if threshold.value is None:
        reason = np.where(
            call == "negative", "dark, but no threshold estimable", "no threshold estimable"
        ).astype(object)
        return reason
    lit = (level > threshold.value) & (own <= threshold.value)
    # the network may see more than an intensity: then its call and the cut disagree
    below, above = own <= threshold.value, own > threshold.value
    seen = threshold.network.logit_weight > 0
    reason = np.select(
        [
            (call == "negative") & lit,
            (call == "negative") & above & seen,
            (call == "positive") & below & seen,
            call == "negative",
            (call == "unsure") & lit,
            call == "unsure",
        ],
        [
            "neighbours' light",
            "no pattern of expression",
            "pattern of expression",
            "below threshold",
            "perhaps neighbours' light",
            "near threshold",
        ],
        "above threshold",
    ).astype(object)
    name = f"{marker}_saturated"
    if name in cells.columns:
        clipped = cells[name].to_numpy(dtype=np.float64) > SATURATED
        reason[clipped] = reason[clipped] + "; saturated"
    return reason
