"""Fit one marker over one staining run: levels, spill-over, and from them the cut.

The idea: neighbours' light is taken away first, so that samples and controls are judged on the same
level; then the method the protocol names finds the cut.  The default, `levels`, puts it where a
logistic of the own level against the run's positive cells and against the noise of its negative
cells is one half: at a share of the positive level in a bright stain, and several spreads above the
negatives in a faint one.  Without controls the populations must be separable, or there is no cut.
It fails where the levels do: see :mod:`islet_imaging.positivity.levels`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.cut import (
    FLOOR_ODDS,
    fit_threshold,
    resamples,
    slope_at_crossing,
    trimmed_quantile,
)
from islet_imaging.positivity.evenness import level_column
from islet_imaging.positivity.levels import (
    StainLevels,
    counted,
    dark_peak,
    level_of,
    marker_of,
    mix_soft,
    populations,
    stain_levels,
)
from islet_imaging.positivity.mixture import robust_negative
from islet_imaging.positivity.spillover import neighbourhood, positive_level
from islet_imaging.positivity.threshold import Status, Threshold
from islet_imaging.positivity.weights import (
    BY_LEVELS,
    BY_NETWORK,
    FLOOR,
    Learned,
)
from islet_imaging.protocol import CallMethod

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.protocol import Protocol

Floats = NDArray[np.float64]

#: where no cell is clearly positive, the cut is at least this many spreads above the negatives
LEAST_SPREADS = 5.0
#: without controls, more positives than this leave too few dark cells to learn from
FEW_DARK = 0.85


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
    filled = [s for s in samples if len(s)]
    dark = [c for c in controls if len(c)]
    feature = f"{marker}_own"
    column = protocol.feature(marker)
    if not filled:
        nothing = _nothing(feature, column, "no cells were found in the samples")
        asked = bool(dark) and all(f"{marker}_network_own" in c.columns for c in dark)
        if protocol.method(marker) == "network" and asked:
            return dataclasses.replace(nothing, method="network")
        return nothing
    cells = pd.concat(filled, ignore_index=True)
    if how.feature is None and protocol.channel(marker).compartment == "cytoplasm":
        column = level_column(cells, marker)
    method = protocol.method(marker)
    if method == "network" and f"{marker}_network_own" not in cells.columns:
        if how.method == "network":
            raise ProtocolError(
                f"the cells table does not hold what the network says of {marker!r}; add the "
                "columns of network.positivity.ask_network, or use `method: levels`"
            )
        # a table that was measured without the network is called without it
        method = "levels"
    return fit_cells(
        cells,
        column,
        control=pd.concat(dark, ignore_index=True) if dark else None,
        feature=feature,
        method=method,
        value=how.threshold,
        quantile=how.quantile,
        min_control_cells=how.min_control_cells,
        min_control_images=how.min_control_images,
        spillover=how.spillover,
    )


def fit_cells(
    cells: pd.DataFrame,
    column: str,
    *,
    control: pd.DataFrame | None = None,
    feature: str = "",
    method: CallMethod = "levels",
    value: float | None = None,
    quantile: float = 0.995,
    min_control_cells: int = 500,
    min_control_images: int = 2,
    spillover: bool = True,
    bootstrap: int = 50,
) -> Threshold:
    """Fit levels, spill-over and cut on the cells of one staining run.

    Parameters
    ----------
    cells : DataFrame
        Cells of all its samples.
    column : str
        Column of the marker's feature.
    control : DataFrame, optional
        Cells of its negative controls.
    feature : str
        Name of the derived column that the cut acts on; ``column`` if empty.
    method : str
        "levels"; "network", which adds what the positivity network says of each cell; or a method
        of :func:`fit_threshold`, which then works on own levels.
    value, quantile, min_control_cells, min_control_images
        As in :func:`fit_threshold`.
    spillover : bool
        Whether neighbours' light is taken away.
    bootstrap : int
        Number of resamples for the interval; 0 for none.

    Returns
    -------
    Threshold

    Raises
    ------
    ProtocolError
        If a control method is asked for and there are no controls, or the column is missing.
    """
    level, keep = level_of(cells, column), counted(cells)
    usable = np.isfinite(level) & keep
    name = feature or column
    if not usable.any():
        return _nothing(name, column, "no cell could be measured")
    around = neighbourhood(cells) if spillover else None
    levels = stain_levels(cells, column, control=control, spillover=spillover, around=around)
    own = levels.own(level, around) if around is not None else level
    own = own[usable]
    dark, images = _control_levels(control, column)
    if method in ("levels", "network"):
        held = dark if levels.source == "controls" else np.empty(0)
        learned = BY_NETWORK if method == "network" else BY_LEVELS
        fitted = _by_levels(own, levels, held, images, name, bootstrap, learned)
        if fitted.network_weight:
            fitted = _with_light(fitted, cells, column, control)
        if held.size:
            fitted = _few(fitted, images, min_control_cells, min_control_images)
    else:
        fitted = fit_threshold(
            own,
            control=dark if dark.size else None,
            control_images=images if dark.size else None,
            method=method,
            feature=name,
            value=value,
            quantile=quantile,
            min_control_cells=min_control_cells,
            min_control_images=min_control_images,
            bootstrap=bootstrap,
        )
    return dataclasses.replace(
        fitted,
        measured=column,
        # spill-over is taken from levels above zero, whatever the cut was made of
        spill_near=levels.near,
        spill_far=levels.far,
        spill_zero=levels.zero,
        method=method,
        per_image=method in ("levels", "network") and not levels.comparable,
        reason=f"{fitted.reason}; {levels.note}" if levels.note else fitted.reason,
    )


def _with_light(
    fitted: Threshold, cells: pd.DataFrame, column: str, control: pd.DataFrame | None
) -> Threshold:
    """The run's levels of the light that the network says is each cell's own."""
    name = f"{marker_of(column)}_network_own"
    light = stain_levels(cells, name, control=control, spillover=False)
    bright = max(light.positive or 0.0, FLOOR * light.scale)
    return dataclasses.replace(fitted, network_zero=light.zero, network_bright=bright)


def _nothing(feature: str, column: str, reason: str) -> Threshold:
    return Threshold(
        method="levels",
        feature=feature,
        value=None,
        low=None,
        high=None,
        status="not_estimable",
        reason=reason,
        measured=column,
    )


def _control_levels(
    control: pd.DataFrame | None, column: str
) -> tuple[Floats, NDArray[np.object_]]:
    """Levels of control cells that count, and the image each is from."""
    if control is None or not len(control):
        return np.empty(0), np.empty(0, dtype=object)
    level = level_of(control, column)
    keep = counted(control) & np.isfinite(level)
    images = np.full(len(control), "control", dtype=object)
    if "image" in control.columns:
        images = control["image"].to_numpy(dtype=object)
    return level[keep], images[keep]


def _few(
    fitted: Threshold, images: NDArray[np.object_], min_cells: int, min_images: int
) -> Threshold:
    n_images = len(set(images.tolist()))
    status: Status = fitted.status
    reason = fitted.reason
    if fitted.estimable and (images.size < min_cells or n_images < min_images):
        status = "few_controls"
        reason += (
            f"; few controls: {images.size} cells of {n_images} images, "
            f"asked for {min_cells} of {min_images}"
        )
    return dataclasses.replace(
        fitted,
        status=status,
        reason=reason,
        n_control_cells=int(images.size),
        n_control_images=n_images,
    )


def _by_levels(
    own: Floats,
    levels: StainLevels,
    dark: Floats,
    images: NDArray[np.object_],
    feature: str,
    bootstrap: int,
    learned: Learned,
) -> Threshold:
    """The default method; ``own`` in units of the feature, ``dark`` empty without controls."""
    fitted, separate = _model(
        own, levels.zero, levels.scale, levels.positive, dark, learned, feature
    )
    above = (fitted.value or 0.0) - levels.zero
    alone = not dark.size
    if alone and not (separate and dark_peak(own - levels.zero, levels.scale, above)):
        why = fitted.reason or "no peak of dark cells"
        return dataclasses.replace(
            fitted, value=None, status="not_estimable", reason=f"no separable population: {why}"
        )
    if levels.positive is not None:
        height = fitted.positive_location or levels.zero + fitted.bright
        share = 100 * ((fitted.value or 0.0) - levels.zero) / (height - levels.zero)
        reason = (
            f"negatives at {levels.zero:.4g} (spread {levels.scale:.3g}, from {levels.source}), "
            f"positives {fitted.bright:.4g} above them, cut at {share:.0f} % of that"
        )
        if not dark.size and (fitted.positive_fraction or 0.0) > FEW_DARK:
            reason += "; hardly any dark cell and no controls, so negatives are uncertain"
        if not separate:
            reason += f"; populations not separate ({fitted.reason}), so by controls only"
    else:
        spreads = ((fitted.value or 0.0) - levels.zero) / levels.scale
        reason = (
            f"no clearly positive cells; cut {spreads:.1f} spreads above the {dark.size} "
            "control cells"
        )
    cuts = _resampled_cuts(own, levels, dark, images, bootstrap, learned)
    low, high = np.percentile(cuts, [2.5, 97.5]) if cuts else (None, None)
    return dataclasses.replace(
        fitted,
        reason=reason,
        low=None if low is None else float(low),
        high=None if high is None else float(high),
    )


def _model(
    own: Floats,
    zero: float,
    scale: float,
    positive: float | None,
    dark: Floats,
    learned: Learned,
    feature: str = "",
) -> tuple[Threshold, bool]:
    """Levels, populations, and the cut where the probability of an unlit cell is one half.

    The second value says whether the sample's own populations gave the evidence; else the controls
    did, by a steep logistic at their high quantile.
    """
    bright = max(positive or 0.0, FLOOR * scale)
    soft = mix_soft(scale, positive)
    mixture = populations(own - zero, scale, positive)
    separate = mixture.separable and positive is not None
    if separate:
        mix_cut, mix_slope = mixture.crossing(), slope_at_crossing(mixture)
    else:
        above = LEAST_SPREADS * scale
        if dark.size:
            above = max(above, trimmed_quantile(dark, 0.995) - zero)
        soft, mix_cut = scale, float(np.arcsinh(above / scale))
        mix_slope = FLOOR_ODDS / mix_cut
    made = Threshold(
        method="levels",
        feature=feature,
        value=None,
        low=None,
        high=None,
        status="ok",
        reason=mixture.reason,
        n_cells=int(own.size),
        zero=zero,
        soft=scale,
        bright=bright,
        # without clearly positive cells nothing tells how bright one would be: controls alone
        weights=learned[0] if positive is not None else (0.0, mix_slope, 0.0, -FLOOR_ODDS),
        network_weight=learned[1] if positive is not None else 0.0,
        picture_weight=learned[2] if positive is not None else 0.0,
        mix_soft=soft,
        mix_slope=mix_slope,
        mix_cut=mix_cut,
        negative_location=zero,
        negative_scale=scale,
        positive_location=zero + bright if positive is not None else None,
        positive_fraction=mixture.weight if separate else None,
        separation=mixture.separation,
    )
    low, high = 0.0, 100 * bright
    for _ in range(50):
        middle = 0.5 * (low + high)
        over = float(made.log_odds(np.array([middle]))[0]) > 0
        low, high = (low, middle) if over else (middle, high)
    return dataclasses.replace(made, value=zero + 0.5 * (low + high)), separate


def _resampled_cuts(
    own: Floats,
    levels: StainLevels,
    dark: Floats,
    images: NDArray[np.object_],
    bootstrap: int,
    learned: Learned,
) -> list[float]:
    """Cuts of resampled sample cells and control images (or cells, of fewer than 4 images)."""
    if bootstrap < 10:
        return []
    again = resamples(own.size, np.zeros(own.size, np.int64), bootstrap, 0)
    darker: list[NDArray[np.int64]] = []
    if dark.size:
        codes = np.unique(images.astype(str), return_inverse=True)[1].astype(np.int64)
        darker = resamples(dark.size, codes, bootstrap, 1)
    cuts = []
    for k, mine in enumerate(again):
        theirs = dark[darker[k]] if darker else dark
        zero, scale = robust_negative(theirs) if darker else (levels.zero, levels.scale)
        positive = positive_level(own[mine] - zero, scale)
        cut = _model(own[mine], zero, scale, positive, theirs, learned)[0].value
        cuts.append(zero if cut is None else cut)
    return cuts
