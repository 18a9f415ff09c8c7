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

from islet_imaging.positivity.levels import StainLevels, counted, level_of, stain_levels
from islet_imaging.positivity.mixture import Mixture, fit_mixture, robust_negative, to_scale
from islet_imaging.positivity.spillover import neighbourhood, positive_level
from islet_imaging.positivity.threshold import (
    Method,
    Status,
    Threshold,
    fit_threshold,
    log_odds,
    resamples,
)
from islet_imaging.positivity.weights import FLOOR, WEIGHTS

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.protocol import Protocol

Floats = NDArray[np.float64]


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
        return _nothing(feature, column, "no cells were found in the samples")
    # the network calls with these levels too, so they are fitted for it as well
    method: Method = "levels"
    if how.method != "auto" and how.method != "network":
        method = how.method
    return fit_cells(
        pd.concat(filled, ignore_index=True),
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
    method: Method = "levels",
    value: float | None = None,
    quantile: float = 0.995,
    min_control_cells: int = 500,
    min_control_images: int = 2,
    spillover: bool = True,
    bootstrap: int = 200,
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
        "levels", or a method of :func:`fit_threshold`, which then works on own levels.
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
    if method == "levels":
        held = dark if levels.source == "controls" else np.empty(0)
        fitted = _by_levels(own, levels, held, images, name, bootstrap)
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
        per_image=method == "levels" and not levels.comparable,
        reason=f"{fitted.reason}; {levels.note}" if levels.note else fitted.reason,
    )


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


def cut_above_zero(soft: float, bright: float) -> float:
    """Own level at which a cell without lit neighbours has probability one half.

    Parameters
    ----------
    soft, bright : float
        Spread of negative cells, level of positive cells above them.

    Returns
    -------
    float
        Above the level of negative cells.

    Examples
    --------
    >>> 0 < cut_above_zero(1.0, 100.0) < 50
    True
    """
    low, high = 0.0, 100 * max(soft, bright)
    for _ in range(60):
        middle = 0.5 * (low + high)
        odds = log_odds(np.array([middle]), 0.0, soft, bright, WEIGHTS)[0]
        low, high = (low, middle) if odds > 0 else (middle, high)
    return 0.5 * (low + high)


def _by_levels(
    own: Floats,
    levels: StainLevels,
    dark: Floats,
    images: NDArray[np.object_],
    feature: str,
    bootstrap: int,
) -> Threshold:
    populations = _populations(own, levels)
    if not dark.size and (levels.positive is None or not populations.separable):
        why = populations.reason or "no clearly positive cells"
        return dataclasses.replace(
            _nothing(feature, levels.column, f"no separable population: {why}"),
            n_cells=int(own.size),
            zero=levels.zero,
            soft=levels.scale,
            negative_location=levels.zero,
            negative_scale=levels.scale,
            separation=populations.separation,
        )
    bright = max(levels.positive or 0.0, FLOOR * levels.scale)
    found = levels.positive is not None
    cut = levels.zero + cut_above_zero(levels.scale, bright)
    low, high = _interval(own, levels, dark, images, bootstrap)
    if found:
        share = 100 * (cut - levels.zero) / bright
        reason = (
            f"negatives at {levels.zero:.4g} (spread {levels.scale:.3g}, from {levels.source}), "
            f"positives {bright:.4g} above; the cut is at {share:.0f} % of that"
        )
    else:
        reason = (
            f"no clearly positive cells; the cut is {(cut - levels.zero) / levels.scale:.1f} "
            f"spreads above the negatives (from {levels.source})"
        )
    return Threshold(
        method="levels",
        feature=feature,
        value=cut,
        low=low,
        high=high,
        status="ok",
        reason=reason,
        n_cells=int(own.size),
        zero=levels.zero,
        soft=levels.scale,
        bright=bright,
        weights=WEIGHTS,
        negative_location=levels.zero,
        negative_scale=levels.scale,
        positive_location=levels.zero + bright if found else None,
        positive_fraction=populations.weight if populations.separable else None,
        separation=populations.separation,
    )


def _populations(own: Floats, levels: StainLevels) -> Mixture:
    """Two populations of own levels, held by nothing: they must show by themselves."""
    soft = levels.scale if levels.positive is None else max(levels.scale, 0.03 * levels.positive)
    return fit_mixture(to_scale(own, levels.zero, soft))


def _interval(
    own: Floats,
    levels: StainLevels,
    dark: Floats,
    images: NDArray[np.object_],
    bootstrap: int,
) -> tuple[float | None, float | None]:
    """Interval of the cut over resampled sample cells and control images or cells."""
    if bootstrap < 10:
        return None, None
    codes = np.unique(images.astype(str), return_inverse=True)[1] if dark.size else None
    again = resamples(own.size, np.zeros(own.size, np.int64), bootstrap, 0)
    darker = resamples(dark.size, codes, bootstrap, 1) if codes is not None else [None] * bootstrap
    cuts = []
    for mine, theirs in zip(again, darker, strict=True):
        zero, scale = levels.zero, levels.scale
        if theirs is not None:
            zero, scale = robust_negative(dark[theirs])
        positive = positive_level(own[mine] - zero, scale) or 0.0
        cuts.append(zero + cut_above_zero(scale, max(positive, FLOOR * scale)))
    low, high = np.percentile(cuts, [2.5, 97.5])
    return float(low), float(high)
