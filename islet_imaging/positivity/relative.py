"""Images that show one population, in a run whose images cannot be compared.

The idea: a stretch for display adds and multiplies; where a level lies between an image's own
background and its positive cells stays.  The images of a run that show both populations tell where
negative cells lie on that way.  In an image that shows one population the network, which sees
patterns and not grey values, says which one it is; that population and the background then place
the other.  It is done only where at least two images show both, where the network agrees with
intensities on their clear cells, and where it finds nothing in the controls.
It fails where images were bent by curves of their own, and where what counts as background differs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from islet_imaging._types import Float64
from islet_imaging.positivity.coefficients import BY_NETWORK
from islet_imaging.positivity.levels import counted, marker_of
from islet_imaging.positivity.methods.levels import level_model
from islet_imaging.positivity.mixture import robust_negative
from islet_imaging.positivity.threshold import Cut, RelativeLevels, Threshold

if TYPE_CHECKING:
    import pandas as pd

#: images with both populations that a run must have
LEAST_IMAGES = 2
#: clear cells of either kind, in all images together, that the network must have been held against
LEAST_CLEAR = 30
#: share of them, of either kind, that it must call as intensities do
AGREES = 0.95
#: share of control cells that it may call positive
FALSE_ALARMS = 0.02
#: network's logit between clear negatives and positives below which a stain has so little of a
#: pattern that an image of positive cells alone looks to it like one of negative cells
LEAST_PATTERN = -1.0
#: an image with at most, or at least, these shares of cells with a pattern of expression is taken
#: to show negative, or positive, cells; between them it may be either (where all are positive,
#: nothing is there to compare them with, and the network sees a pattern in a half to two thirds)
DARK, LIT = 0.15, 0.4
#: an image that shows one population must have at least as many cells of it
FEW_CELLS = 20
#: cells with a pattern of expression from which a mostly dark image tells how bright they are
FEW_BRIGHT = 5


def relative_levels(
    images: Sequence[tuple[pd.DataFrame, Threshold]],
    clear: pd.DataFrame,
    control: pd.DataFrame | None,
) -> RelativeLevels | None:
    """Learn where negative cells lie between background and positive cells.

    Parameters
    ----------
    images : sequence of (DataFrame, Threshold)
        Cells of each image that shows both populations, with the threshold of this image alone.
    clear : DataFrame
        ``logit`` and ``lit`` of cells that intensities alone call clearly, in these images.
    control : DataFrame, optional
        Cells of the negative controls.

    Returns
    -------
    RelativeLevels or None
        None where too little was seen, or the network is not to be relied on in this run.
    """
    found = []
    for cells, alone in images:
        marker = marker_of(alone.measured)
        background = _background(cells, marker)
        seen = alone.populations
        if background is None or seen.positive is None or seen.positive <= background:
            continue
        way = seen.positive - background
        light = alone.network
        found.append(
            (
                (seen.negative - background) / way,
                seen.spread / way,
                light.zero / light.bright,
                light.logit_zero,
            )
        )
    if len(found) < LEAST_IMAGES:
        return None
    negative, spread, dim, logit_zero = np.median(np.array(found), axis=0)
    if not 0 < negative < 1:
        return None  # background lies above negative cells: it is none
    if logit_zero < LEAST_PATTERN:
        return None
    lit = clear["lit"].to_numpy(dtype=bool)
    above = clear["logit"].to_numpy(dtype=np.float64) > logit_zero
    if min(lit.sum(), (~lit).sum()) < LEAST_CLEAR:
        return None
    if min(above[lit].mean(), (~above[~lit]).mean()) < AGREES:
        return None
    if control is not None and len(control):
        logit = _logit(control, marker_of(images[0][1].measured))[counted(control)]
        if np.mean(logit > 0) > FALSE_ALARMS:
            return None
    return RelativeLevels(float(negative), float(spread), float(dim), float(logit_zero), len(found))


def borrowed_threshold(
    cells: pd.DataFrame,
    alone: Threshold,
    own: Float64,
    relative: RelativeLevels,
) -> Threshold:
    """The threshold of an image that shows one population.

    Parameters
    ----------
    cells : DataFrame
        Cells of the image.
    alone : Threshold
        What was found in this image alone: no cut.
    own : ndarray of float64, shape (n,)
        Own intensities by ``alone``, in units of the feature.
    relative : RelativeLevels
        Of the run.

    Returns
    -------
    Threshold
        ``alone`` itself where the image shows too little.
    """
    marker = marker_of(alone.measured)
    background = _background(cells, marker)
    logit = _logit(cells, marker)
    usable = counted(cells) & np.isfinite(own) & np.isfinite(logit)
    expressed = usable & (logit > 0)
    light = cells[f"{marker}_network_own"].to_numpy(dtype=np.float64)
    if background is None or not usable.any():
        return alone
    share = expressed.sum() / usable.sum()
    if DARK < share < LIT:
        return alone
    if share >= LIT:
        if expressed.sum() < FEW_CELLS:
            return alone
        bright = float(np.median(own[expressed]))
        zero = background + relative.negative * (bright - background)
        glow = float(np.nanmedian(light[expressed]))
        dim = relative.light * glow
    else:
        dark = usable & ~expressed
        if dark.sum() < FEW_CELLS:
            return alone
        zero, _ = robust_negative(own[dark])
        bright = background + (zero - background) / relative.negative
        dim, _ = robust_negative(light[dark])
        glow = dim / max(relative.light, 0.01)
        if expressed.sum() >= FEW_BRIGHT:
            # where bright cells are clipped they are darker than the way to them says
            bright = min(bright, float(np.median(own[expressed])))
    spread = relative.spread * (bright - background)
    if not (spread > 0 and bright > zero > background and glow > 0):
        return alone
    made = level_model(own[usable], zero, spread, bright - zero, BY_NETWORK)
    network = dataclasses.replace(
        made.network, zero=dim, bright=glow, logit_zero=relative.logit_zero
    )
    reason = (
        f"shows one population; negatives at {zero:.4g}, positives {bright - zero:.4g} above them, "
        f"from its background and {relative.images} images of the run that show both"
    )
    return dataclasses.replace(
        alone,
        cut=Cut(made.cut, reason=reason),
        model=made.model,
        populations=made.populations,
        network=network,
    )


def _background(cells: pd.DataFrame, marker: str) -> float | None:
    """Median background of an image's cells; None where it was not measured."""
    name = f"{marker}_background"
    if name not in cells.columns:
        return None
    found = cells[name].to_numpy(dtype=np.float64)
    return float(np.nanmedian(found)) if np.isfinite(found).any() else None


def _logit(cells: pd.DataFrame, marker: str) -> Float64:
    out: Float64 = cells[f"{marker}_network_odds"].to_numpy(dtype=np.float64)
    return out
