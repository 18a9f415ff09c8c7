"""Is a negative control negative?  Looked at before anything is learned from it.

The idea: a control that holds positive cells raises the cut until every sample is negative, without
a trace in the numbers.  Two things tell: its cells part into two populations, or the network sees
in more than a few of them the pattern of a cell that expresses the marker.
It fails on controls that are positive throughout and alike, where no network looks; those are
brighter than the samples' dark cells, which is noticed elsewhere
(:mod:`islet_imaging.positivity.levels`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from islet_imaging._types import Float64
from islet_imaging.positivity.coefficients import LOGIT_ALONE
from islet_imaging.positivity.levels import (
    MIN_CELLS,
    counted,
    dark_peak,
    level_of,
    marker_of,
    mix_soft,
    populations,
)
from islet_imaging.positivity.mixture import robust_negative
from islet_imaging.positivity.spillover import positive_level

if TYPE_CHECKING:
    import pandas as pd


#: a share of positive cells in a control that does no harm; of the cells of true controls of
#: phantoms at most 0.6 % look positive to the network, and fractions hold up to 10 %
HARMLESS = 0.08
#: fewer positive cells than this may be debris
LEAST = 8
#: log odds of the pattern alone beyond which a cell looks positive
LOOKS_POSITIVE = 1.4
#: the lower populations parted on have at least this share of the cells
DARK_SHARE = 0.03


@dataclass(frozen=True)
class Suspect:
    """A control image that holds positive cells."""

    image: str
    share: float
    reason: str


def suspects(control: pd.DataFrame, column: str) -> list[Suspect]:
    """Control images that hold positive cells.

    Parameters
    ----------
    control : DataFrame
        Cells of the negative controls of one staining run.
    column : str
        Column of the marker's feature.

    Returns
    -------
    list of Suspect
        In the order of names; empty where every control can be believed.

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> level = np.where(np.arange(400) < 140, 900.0, 100.0) * rng.lognormal(0, 0.2, 400)
    >>> [s.image for s in suspects(pd.DataFrame({"image": "c", "INS_ring_p25": level}),
    ...                            "INS_ring_p25")]
    ['c']
    """
    cells = control[counted(control)]
    names = cells["image"].to_numpy(str) if "image" in cells else np.full(len(cells), "control")
    found = []
    for name in np.unique(names):
        one = cells.iloc[np.flatnonzero(names == name)]
        share, how = _positive_share(one, column)
        if share > HARMLESS and share * len(one) >= LEAST:
            found.append(Suspect(str(name), share, how))
    return found


def _positive_share(cells: pd.DataFrame, column: str) -> tuple[float, str]:
    """The larger of what the network and the populations say, and in words which it was."""
    logit = f"{marker_of(column)}_network_odds"
    seen = 0.0
    if logit in cells.columns and len(cells):
        odds = LOGIT_ALONE[0] * cells[logit].to_numpy(dtype=np.float64) + LOGIT_ALONE[1]
        seen = float(np.mean(odds >= LOOKS_POSITIVE))
    parted = _upper_share(level_of(cells, column))
    if seen >= parted:
        return seen, "show the pattern of expression"
    return parted, "are a brighter population of their own"


def _upper_share(level: Float64) -> float:
    """Weight of the upper of two populations that stand apart, else 0."""
    level = level[np.isfinite(level)]
    if level.size < MIN_CELLS:
        return 0.0
    # the darker of two populations gives the scale; of one population it is the whole
    lower = level[level <= np.quantile(level, 0.5)]
    zero = float(np.median(lower))
    scale = robust_negative(lower)[1]
    positive = positive_level(level - zero, scale)
    if positive is None:
        return 0.0
    apart = populations(level - zero, scale, positive)
    cut = mix_soft(scale, positive) * float(np.sinh(apart.crossing()))
    believed = apart.separable and 1 - apart.weight > DARK_SHARE
    return apart.weight if believed and dark_peak(level - zero, scale, cut) else 0.0
