"""From levels to calls: probability, call and reason for every cell.

The idea: one marker of one staining run is fitted once (`fit_marker`: spill-over, then threshold,
all on the level that is the cell's own), and every image of the run is called with that fit
(`call_marker`), so that an image without a single positive cell is called by what its neighbours on
the slide have shown.  A call is `unsure` between two probabilities; the reason says in a few words
what decided.
It fails, by design towards `unsure`, where no threshold is estimable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.levels import usable
from islet_imaging.positivity.mixture import robust_negative
from islet_imaging.positivity.spillover import estimate_spill, neighbour_graph, own_level
from islet_imaging.positivity.threshold import Method, Threshold, fit_threshold

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.protocol import Protocol

Floats = NDArray[np.float64]

#: without a threshold, a level within this factor of the local background is called dark
DARK = 1.5
#: and its probability
DARK_PROBABILITY = 0.1
#: more than this share of clipped pixels is worth saying in the reason
SATURATED = 0.2


def fit_marker(
    samples: Sequence[pd.DataFrame],
    controls: Sequence[pd.DataFrame],
    marker: str,
    protocol: Protocol,
) -> Threshold:
    """Fit one marker over one staining run.

    Parameters
    ----------
    samples : sequence of DataFrame
        Cells tables of the run's sample images.
    controls : sequence of DataFrame
        Cells tables of its negative controls; may be empty.
    marker : str
        Channel name.
    protocol : Protocol
        Names the feature, the method and its limits.

    Returns
    -------
    Threshold
        Of the column ``<marker>_own``; perhaps "not estimable".

    Raises
    ------
    ProtocolError
        If a control method is asked for and there are no controls, or the feature is missing.
    """
    import pandas as pd

    how = protocol.calling(marker)
    column = protocol.feature(marker)
    cells = pd.concat(samples, ignore_index=True) if samples else pd.DataFrame()
    control = pd.concat(controls, ignore_index=True) if controls else None
    if cells.empty:
        raise ProtocolError(f"{marker}: the staining run has no cells to fit on")
    control_levels = usable(control, column) if control is not None and len(control) else None
    if control_levels is not None and control_levels.size < 10:
        control_levels = None
    images = None
    if control is not None and control_levels is not None and "image" in control.columns:
        images = _kept(control, column)["image"].to_numpy().astype(str)
    spill, zero = 0.0, 0.0
    if how.spillover:
        zero, noise = _dark(cells, column, control_levels)
        graph = neighbour_graph(cells)
        level = cells[column].to_numpy(dtype=np.float64)
        spill = estimate_spill(level, graph, zero=zero, noise=noise)
        cells = cells.assign(**{f"{marker}_own": own_level(level, graph, zero=zero, spill=spill)})
    else:
        cells = cells.assign(**{f"{marker}_own": cells[column]})
    own = usable(cells, f"{marker}_own")
    method: Method = "auto" if how.method == "network" else how.method
    fitted = fit_threshold(
        own,
        control=control_levels,
        control_images=images,
        method=method,
        feature=f"{marker}_own",
        value=how.threshold,
        quantile=how.quantile,
        min_control_cells=how.min_control_cells,
        min_control_images=how.min_control_images,
    )
    return dataclasses.replace(fitted, measured=column, spill=spill, spill_zero=zero)


def _kept(cells: pd.DataFrame, column: str) -> pd.DataFrame:
    keep = np.isfinite(cells[column].to_numpy(dtype=np.float64))
    if "excluded" in cells.columns:
        keep &= ~cells["excluded"].to_numpy(dtype=bool)
    kept: pd.DataFrame = cells.loc[keep]
    return kept


def _dark(cells: pd.DataFrame, column: str, control: Floats | None) -> tuple[float, float]:
    """Level and spread of cells without stain: of the controls, else the samples' lower end."""
    if control is not None:
        return robust_negative(control)
    x = usable(cells, column)
    if x.size == 0:
        return 0.0, 1.0
    low, up = np.percentile(x, [2, 10])
    return float(low), float(max(up - low, 1e-6 * max(abs(low), 1e-6)))


def call_marker(
    cells: pd.DataFrame,
    pairs: pd.DataFrame,
    marker: str,
    threshold: Threshold,
    protocol: Protocol,
) -> pd.DataFrame:
    """Call one marker of one image by its staining run's fit and the protocol's limits.

    Parameters
    ----------
    cells : DataFrame
        Measured cells.
    pairs : DataFrame
        Touching cells of the image; distances between nuclei serve instead for now.
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
        cells, marker, threshold, unsure_low=how.unsure_low, unsure_high=how.unsure_high
    )


def call_cells(
    cells: pd.DataFrame,
    marker: str,
    threshold: Threshold,
    *,
    unsure_low: float = 0.2,
    unsure_high: float = 0.8,
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
    level = cells[column].to_numpy(dtype=np.float64)
    own = level
    if threshold.spill > 0:
        own = own_level(
            level, neighbour_graph(cells), zero=threshold.spill_zero, spill=threshold.spill
        )
    if threshold.estimable:
        probability = threshold.probability(own)
    else:
        probability = _without_cut(cells, marker, own)
    sure_negative = probability <= unsure_low
    sure_positive = probability >= unsure_high
    call = np.select([sure_negative, sure_positive], ["negative", "positive"], "unsure")
    reason = _reasons(cells, marker, threshold, level, own, call)
    lost = ~np.isfinite(level)
    return cells.assign(
        **{
            f"{marker}_own": own,
            f"{marker}_probability": np.where(lost, 0.5, probability),
            f"{marker}_call": np.where(lost, "unsure", call).astype(object),
            f"{marker}_reason": np.where(lost, "not measured", reason).astype(object),
        }
    )


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
    if threshold.value is None:
        reason = np.where(
            call == "negative", "dark, but no threshold estimable", "no threshold estimable"
        ).astype(object)
        return reason
    cut = threshold.value
    lit = (level > cut) & (own <= cut)
    reason = np.select(
        [
            (call == "negative") & lit,
            call == "negative",
            (call == "unsure") & lit,
            call == "unsure",
        ],
        ["neighbours' light", "below threshold", "perhaps neighbours' light", "near threshold"],
        "above threshold",
    ).astype(object)
    name = f"{marker}_saturated"
    if name in cells.columns:
        clipped = cells[name].to_numpy(dtype=np.float64) > SATURATED
        reason[clipped] = reason[clipped] + "; saturated"
    return reason
