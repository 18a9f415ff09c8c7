"""From levels to calls: probability, call and reason for every cell.

The idea: one marker of one staining run is fitted once (`fit_marker`: levels, spill-over, cut, all
on the level that is the cell's own), and every image of the run is called with that fit
(`call_marker`), so that an image without a single positive cell is called by what its neighbours on
the slide have shown.  Probabilities hold at the share of positive cells that the image has
(:mod:`islet_imaging.positivity.share`).  A call is `unsure` between two probabilities; the reason
says in a few words what decided.
It fails, by design towards `unsure` and without a probability, where no threshold is estimable.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float64
from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.coefficients import LOGIT_ALONE
from islet_imaging.positivity.fitting import CLEAR, clear_medians, fit_cells, intensities
from islet_imaging.positivity.levels import counted, marker_of
from islet_imaging.positivity.relative import borrowed_threshold
from islet_imaging.positivity.share import at_share, share_of
from islet_imaging.positivity.threshold import LOGIT_LIMIT, NetworkTerms, Threshold

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.protocol import Protocol


#: methods whose evidence is calibrated; a cut by hand stays where the hand put it
CALIBRATED = ("network", "levels")
#: without a threshold, an intensity within this factor of the local background is called dark
DARK = 1.5
#: log odds of the pattern alone beyond which a hint names it
SURE_ODDS = 1.4
#: clear positive cells with which an image's own zero of the logit counts as much as the run's
OWN_ZERO_CELLS = 100
#: more than this share of clipped pixels is worth saying in the reason
UNSURE_SATURATED = 0.2


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
    """Read what is an image's own: its share of positive cells, perhaps its intensities.

    Parameters
    ----------
    cells : DataFrame
        All measured cells of the image; a part of it has a share and intensities of its own.
    threshold : Threshold
        The staining run's.
    spillover : bool
        Whether neighbours' light is taken away.

    Returns
    -------
    Threshold
        Of this image, to call any part of it with.  Intensities are the run's where its images
        can be compared.
    """
    if not len(cells):
        return threshold
    threshold = _comparable(cells, threshold, spillover)
    level, own = intensities(cells, threshold)
    threshold = _own_zero(cells, threshold, level, own)
    evidence = _evidence(cells, threshold, level, own)
    return dataclasses.replace(threshold, share=_share(cells, threshold, evidence))


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
    limits = (unsure_low, unsure_high)
    if "image" not in cells.columns or cells["image"].nunique() < 2:
        return _call_image(cells, marker, threshold, limits, spillover)
    import pandas as pd

    # every image has a share of positive cells of its own, and perhaps intensities
    names = cells["image"].to_numpy(str)
    where = [np.flatnonzero(names == name) for name in np.unique(names)]
    parts = [_call_image(cells.iloc[at], marker, threshold, limits, spillover) for at in where]
    return pd.concat(parts).iloc[np.argsort(np.concatenate(where))]


def _call_image(
    cells: pd.DataFrame,
    marker: str,
    threshold: Threshold,
    limits: tuple[float, float],
    spillover: bool,
) -> pd.DataFrame:
    """Call the cells of one image."""
    if len(cells):
        threshold = _comparable(cells, threshold, spillover)
    level, own = intensities(cells, threshold)
    threshold = _own_zero(cells, threshold, level, own)
    evidence = _evidence(cells, threshold, level, own)
    probability = at_share(evidence, _share(cells, threshold, evidence))

    def called(p: Float64) -> NDArray[np.str_]:
        return np.select([p <= limits[0], p >= limits[1]], ["negative", "positive"], "unsure")

    call = called(probability)
    if threshold.estimable:
        reason = _reasons(cells, marker, threshold, level, own, call)
        swayed = called(evidence) == "unsure"
        reason[swayed & (call == "negative")] = "near threshold, where few cells are positive"
        reason[swayed & (call == "positive")] = "near threshold, where most cells are positive"
    else:
        reason = _hints(cells, marker, threshold, own)
    reason[~np.isfinite(level)] = "not measured"
    return cells.assign(
        **{
            f"{marker}_own": own,
            f"{marker}_probability": probability,
            f"{marker}_call": call.astype(object),
            f"{marker}_reason": reason,
        }
    )


def _comparable(cells: pd.DataFrame, threshold: Threshold, spillover: bool) -> Threshold:
    """The threshold, or where images cannot be compared the one read from this image alone."""
    if not threshold.per_image:
        return threshold
    alone = fit_cells(
        cells,
        threshold.measured or threshold.feature,
        feature=threshold.feature,
        method="network" if threshold.method == "network" else "levels",
        spillover=spillover,
        bootstrap=0,
    )
    if not alone.estimable and threshold.relative is not None:
        own = intensities(cells, alone)[1]
        alone = borrowed_threshold(cells, alone, own, threshold.relative)
    return dataclasses.replace(alone, per_image=False)


def _own_zero(cells: pd.DataFrame, threshold: Threshold, level: Float64, own: Float64) -> Threshold:
    """Read where the network's logit has its zero in this image, the more the more it shows.

    Logits fall with the share of positive cells, above all of a stain in granules: the fewer dark
    cells there are to hold them against, the less of a pattern bright ones show.
    """
    network = threshold.network
    if not network.logit_gap or threshold.plain is None or not threshold.estimable:
        return threshold
    plain = dataclasses.replace(threshold, model=threshold.plain, network=NetworkTerms())
    evidence = plain.probability(own, level - own)
    _, logit = _network_columns(cells, threshold)
    clear = counted(cells) & (np.abs(evidence - 0.5) > CLEAR - 0.5)
    lit = evidence[clear] > CLEAR
    low, high = clear_medians(logit[clear], lit)
    zero = network.logit_zero
    if high is not None:
        mine = high - network.logit_gap if low is None else 0.5 * (low + high)
        n = np.count_nonzero(lit)
        zero += n / (n + OWN_ZERO_CELLS) * (mine - zero)
    # a part of the image is called as the whole
    network = dataclasses.replace(network, logit_zero=zero, logit_gap=0.0)
    return dataclasses.replace(threshold, network=network)


def _share(cells: pd.DataFrame, threshold: Threshold, evidence: Float64) -> float:
    """Share of positive cells that an image is called at."""
    if threshold.share is not None:
        return threshold.share
    return share_of(evidence[counted(cells)]) if threshold.method in CALIBRATED else 0.5


def _evidence(cells: pd.DataFrame, threshold: Threshold, level: Float64, own: Float64) -> Float64:
    """Probability as if half of all cells were positive; NaN where there is nothing to go by."""
    light, logit = _network_columns(cells, threshold)
    if not threshold.estimable:
        return np.full(len(cells), np.nan)
    evidence = threshold.probability(own, level - own, network=light, logit=logit)
    out: Float64 = np.where(np.isfinite(level), evidence, np.nan)
    return out


def _network_columns(cells: pd.DataFrame, threshold: Threshold) -> tuple[Float64 | None, Float64]:
    """Own light and logit that the network gave each cell; None and 0 where it had no say."""
    if threshold.method != "network" or not len(cells):
        return None, np.zeros(len(cells))
    marker = marker_of(threshold.measured or threshold.feature)
    if f"{marker}_network_own" not in cells.columns:
        raise ProtocolError(
            f"the threshold of {marker} was fitted with the network, which these cells were not "
            f"shown to; remove {marker} from `fitted`, or measure with `method: network`"
        )
    light: Float64 = cells[f"{marker}_network_own"].to_numpy(dtype=np.float64)
    odds: Float64 = cells[f"{marker}_network_odds"].to_numpy(dtype=np.float64)
    return light, np.clip(np.nan_to_num(odds), -LOGIT_LIMIT, LOGIT_LIMIT)


def _hints(
    cells: pd.DataFrame, marker: str, threshold: Threshold, own: Float64
) -> NDArray[np.object_]:
    """Reasons where no threshold is estimable: what a person may want to know of each cell."""
    name = f"{marker}_background"
    hint = np.full(len(cells), "", dtype=object)
    if threshold.method == "network":
        slope, constant = LOGIT_ALONE
        _, logit = _network_columns(cells, threshold)
        odds = slope * logit + constant
        hint = np.select(
            [odds <= -SURE_ODDS, odds < SURE_ODDS],
            ["no pattern of expression, but ", "pattern unclear, and "],
            "pattern of expression, but ",
        ).astype(object)
    elif name in cells.columns:
        background = cells[name].to_numpy(dtype=np.float64)
        hint[(background > 0) & (own <= DARK * background)] = "dark, but "
    return np.asarray(hint + "no threshold estimable", dtype=object)


def _reasons(
    cells: pd.DataFrame,
    marker: str,
    threshold: Threshold,
    level: Float64,
    own: Float64,
    call: NDArray[np.str_],
) -> NDArray[np.object_]:
    assert threshold.value is not None
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
        clipped = cells[name].to_numpy(dtype=np.float64) > UNSURE_SATURATED
        reason[clipped] = reason[clipped] + "; saturated"
    return reason
