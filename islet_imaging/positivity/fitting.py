"""Fit one marker over one staining run: intensities, spill-over, and from them the cut.

The idea: neighbours' light is taken away first, so that samples and controls are judged on the same
intensity; then the method the protocol names finds the cut.
It fails where the run's intensities do: see :mod:`islet_imaging.positivity.levels`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float64
from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.coefficients import BY_LEVELS, BY_NETWORK, FLOOR
from islet_imaging.positivity.controls import Suspect, suspects
from islet_imaging.positivity.cut import fit_threshold
from islet_imaging.positivity.evenness import level_column
from islet_imaging.positivity.levels import counted, level_of, marker_of, populations, stain_levels
from islet_imaging.positivity.methods.control import Control, Enough
from islet_imaging.positivity.methods.levels import by_levels
from islet_imaging.positivity.relative import relative_levels
from islet_imaging.positivity.spillover import neighbourhood, own_level
from islet_imaging.positivity.threshold import (
    LOGIT_LIMIT,
    CellsUsed,
    Cut,
    RelativeLevels,
    SpillOver,
    Threshold,
)
from islet_imaging.protocol import FitMethod

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.protocol import Protocol

Fit = TypeVar("Fit", bound=Callable[..., Threshold])

#: fewer control cells than this are taken for none
TOO_FEW = 40
#: evidence of intensities alone beyond which a cell shows what the network makes of the stain
CLEAR = 0.95
#: clear cells of either kind that an image must have to show it
CLEAR_CELLS = 10


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
        seen = bool(dark) and all(f"{marker}_network_own" in c.columns for c in dark)
        if protocol.method(marker) == "network" and seen:
            return dataclasses.replace(nothing, method="network")
        return nothing
    cells = filled[0] if len(filled) == 1 else pd.concat(filled, ignore_index=True)
    if how.feature is None and protocol.channel(marker).compartment == "cytoplasm":
        column = level_column(cells, marker)
    method = protocol.method(marker)
    if method == "network" and f"{marker}_network_own" not in cells.columns:
        if how.method == "network":
            raise ProtocolError(
                f"the cells table does not hold what the network says of {marker!r}; add the "
                "columns of network.positivity.network_logits, or use `method: levels`"
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


def _on_one_thread(fit: Fit) -> Fit:
    """Products of small matrices on one thread: more only wait for each other, on other cores."""

    @functools.wraps(fit)
    def limited(*args: Any, **kwargs: Any) -> Any:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1, user_api="blas"):
            return fit(*args, **kwargs)

    return cast("Fit", limited)


@_on_one_thread
def fit_cells(
    cells: pd.DataFrame,
    column: str,
    *,
    control: pd.DataFrame | None = None,
    feature: str = "",
    method: FitMethod = "levels",
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
    if control is not None and method not in ("mixture", "otsu", "manual"):
        wrong = suspects(control, column)
        if wrong:
            return _blocked(name, column, method, wrong)
    note = ""
    dark = _control(control, column)
    if 0 < dark.intensities.size < TOO_FEW and method not in ("mixture", "otsu", "manual"):
        note = f"only {dark.intensities.size} control cells, too few to tell anything"
        if method in ("control", "control_mixture"):
            return dataclasses.replace(_nothing(name, column, note), method=method)
        control, dark = None, Control.of(None)
    around = neighbourhood(cells) if spillover else None
    levels = stain_levels(cells, column, control=control, spillover=spillover, around=around)
    own = levels.own(level, around) if around is not None else level
    own = own[usable]
    if method in ("control", "control_mixture", "mixture", "otsu", "manual"):
        fitted = fit_threshold(
            own,
            control=dark.intensities if dark.intensities.size else None,
            control_images=dark.images if dark.intensities.size else None,
            method=method,
            feature=name,
            value=value,
            quantile=quantile,
            min_control_cells=min_control_cells,
            min_control_images=min_control_images,
            bootstrap=bootstrap,
        )
    else:
        held = dark if levels.source == "controls" else Control.of(None)
        learned = BY_NETWORK if method == "network" else BY_LEVELS
        mixture = populations(own - levels.zero, levels.scale, levels.positive)
        run = (own, levels, held, name)
        fitted = by_levels(*run, learned=learned, bootstrap=bootstrap, mixture=mixture)
        if fitted.network.weight:
            fitted = _with_light(fitted, cells, column, control)
            plain = by_levels(*run, learned=BY_LEVELS, bootstrap=0, mixture=mixture)
            clear = _clear(cells, usable, column, plain, own, level[usable] - own)
            fitted = _with_pattern(fitted, plain, clear)
        if held.intensities.size:
            fitted = _few(fitted, held, Enough(min_control_cells, min_control_images))
    if levels.note or note:
        reason = "; ".join(n for n in (fitted.reason, levels.note, note) if n)
        fitted = dataclasses.replace(fitted, cut=dataclasses.replace(fitted.cut, reason=reason))
    per_image = method in ("levels", "network") and not levels.comparable
    relative = None
    if per_image and method == "network":
        relative = _relative(cells, column, control, name, spillover)
    if relative is not None:
        lent = f"{relative.images} images lend their levels to those that show one population"
        cut = dataclasses.replace(fitted.cut, reason=f"{fitted.reason}; {lent}")
        fitted = dataclasses.replace(fitted, cut=cut)
    return dataclasses.replace(
        fitted,
        measured=column,
        # spill-over is taken from intensities above zero, whatever the cut was made of
        spill=SpillOver(levels.near, levels.far, levels.zero),
        method=method,
        per_image=per_image,
        relative=relative,
    )


def _relative(
    cells: pd.DataFrame, column: str, control: pd.DataFrame | None, feature: str, spillover: bool
) -> RelativeLevels | None:
    """What images that show both populations lend to those that show one."""
    import pandas as pd

    both, clear = [], []
    for _, image in cells.groupby("image", sort=True):
        alone = fit_cells(
            image,
            column,
            feature=feature,
            method="network",
            spillover=spillover,
            bootstrap=0,
        )
        if not alone.estimable:
            continue
        plain = fit_cells(
            image, column, feature=feature, method="levels", spillover=spillover, bootstrap=0
        )
        keep = counted(image)
        level, own = intensities(image, plain)
        both.append((image, alone))
        clear.append(_clear(image, keep, column, plain, own[keep], (level - own)[keep]))
    return relative_levels(both, pd.concat(clear), control) if both else None


def intensities(cells: pd.DataFrame, threshold: Threshold) -> tuple[Float64, Float64]:
    """Measured and own intensity of each cell; the second without neighbours' light."""
    level = level_of(cells, threshold.measured or threshold.feature)
    spill = threshold.spill
    if max(spill.shares) <= 0 or not len(cells):
        return level, level
    own = spill.zero + own_level(level - spill.zero, neighbourhood(cells), spill.shares)
    return level, own


def _with_light(
    fitted: Threshold, cells: pd.DataFrame, column: str, control: pd.DataFrame | None
) -> Threshold:
    """The run's intensities of the light that the network says is each cell's own."""
    name = f"{marker_of(column)}_network_own"
    light = stain_levels(cells, name, control=control, spillover=False)
    bright = max(light.positive or 0.0, FLOOR * light.scale)
    network = dataclasses.replace(fitted.network, zero=light.zero, bright=bright)
    return dataclasses.replace(fitted, network=network)


def _with_pattern(fitted: Threshold, plain: Threshold, clear: pd.DataFrame) -> Threshold:
    """Where the network's logit has its zero in this run: between cells that are clear without it.

    A stain in granules, or on one side of the nucleus, gets lower logits than a smooth one.  They
    are held against each other within images, since logits also fall with the share of positives.

    ``clear`` holds ``image``, ``logit``, and ``lit`` for positive by intensity, of clear cells.
    """
    found = []
    for _, cells in clear.groupby("image", sort=False):
        low, high = clear_medians(cells["logit"].to_numpy(), cells["lit"].to_numpy(dtype=bool))
        if low is not None and high is not None:
            found.append((0.5 * (low + high), 0.5 * (high - low)))
    if not found:
        return fitted
    zero, gap = np.median(np.array(found), axis=0)
    network = dataclasses.replace(
        fitted.network, logit_zero=float(zero), logit_gap=max(float(gap), 0.0)
    )
    return dataclasses.replace(fitted, network=network, plain=plain.model)


def clear_medians(logit: Float64, lit: NDArray[np.bool_]) -> tuple[float | None, float | None]:
    """Median logit of an image's clear negatives and positives; None for too few."""
    low, high = logit[~lit], logit[lit]
    return (
        float(np.median(low)) if low.size >= CLEAR_CELLS else None,
        float(np.median(high)) if high.size >= CLEAR_CELLS else None,
    )


def _clear(
    cells: pd.DataFrame,
    which: NDArray[np.bool_],
    column: str,
    by_intensity: Threshold,
    own: Float64,
    removed: Float64,
) -> pd.DataFrame:
    """Cells that intensities alone call clearly, with what the network makes of them."""
    import pandas as pd

    evidence = by_intensity.probability(own, removed)
    logit = cells[f"{marker_of(column)}_network_odds"].to_numpy(dtype=np.float64)[which]
    image = cells["image"].to_numpy(dtype=object)[which] if "image" in cells.columns else ""
    table = pd.DataFrame(
        {
            "image": image,
            "lit": evidence > CLEAR,
            "logit": np.clip(logit, -LOGIT_LIMIT, LOGIT_LIMIT),
        }
    )
    sure: pd.DataFrame = table[(np.abs(evidence - 0.5) > CLEAR - 0.5) & np.isfinite(logit)]
    return sure


def _nothing(feature: str, column: str, reason: str) -> Threshold:
    return Threshold(
        method="levels",
        feature=feature,
        cut=Cut(None, status="not_estimable", reason=reason),
        measured=column,
    )


def _blocked(feature: str, column: str, method: FitMethod, wrong: Sequence[Suspect]) -> Threshold:
    """No threshold, because a control holds positive cells."""
    said = "; ".join(f"{100 * s.share:.0f} % of the cells of {s.image} {s.reason}" for s in wrong)
    reason = (
        f"a negative control is not negative: {said}. Take it out of the sheet, or give it the "
        "role that it has"
    )
    cut = Cut(None, status="not_estimable", reason=reason, suspects=tuple(s.image for s in wrong))
    return Threshold(method=method, feature=feature, cut=cut, measured=column)


def _control(control: pd.DataFrame | None, column: str) -> Control:
    """Intensities of control cells that count, and the image each is from."""
    if control is None or not len(control):
        return Control.of(None)
    keep = counted(control)
    images = control["image"].to_numpy(dtype=object) if "image" in control.columns else None
    return Control.of(level_of(control, column)[keep], None if images is None else images[keep])


def _few(fitted: Threshold, control: Control, enough: Enough) -> Threshold:
    cut, lacking = fitted.cut, enough.lacking(control)
    if fitted.estimable and lacking:
        cut = dataclasses.replace(cut, status="few_controls", reason=f"{cut.reason}; {lacking}")
    used = CellsUsed(fitted.used.samples, int(control.intensities.size), control.n_images)
    return dataclasses.replace(fitted, cut=cut, used=used)
