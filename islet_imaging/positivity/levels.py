"""Levels of a stain in one staining run: what dark, negative and positive mean in counts.

The idea: background, negative cells and, where there are any, positive cells have each a level that
belongs to the run (antibody lot, exposure, day), not to the image.  They are read once from all its
images, controls first, and used to normalise features for the classifier and the network, so that
neither gain, camera offset nor bit depth matters.
It fails where no cell of the run is positive: the positive level is then None, and whoever needs it
must do without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.mixture import robust_negative
from islet_imaging.positivity.threshold import fit_threshold

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StainLevels:
    """Levels of one marker in one staining run, in units of its feature.

    Parameters
    ----------
    marker : str
        Channel name.
    feature : str
        The column the cell levels are of.
    background : float
        Median local background.
    negative : float
        Median of negative cells.
    negative_scale : float
        Right-hand spread of negative cells.
    positive : float or None
        Centre of the positive population; None where none is separable.
    source : str
        "controls" or "samples": where the negative level is from.
    """

    marker: str
    feature: str
    background: float
    negative: float
    negative_scale: float
    positive: float | None
    source: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StainLevels:
        """Build from :meth:`to_dict`'s values."""
        try:
            return cls(**data)
        except TypeError as error:
            raise ProtocolError(f"stain levels: {error}") from None


def stain_levels(
    cells: pd.DataFrame,
    marker: str,
    *,
    control: pd.DataFrame | None = None,
    feature: str = "ring_p25",
) -> StainLevels:
    """Read the levels of a marker from the cells of one staining run.

    Parameters
    ----------
    cells : DataFrame
        Cells of all sample images of the run; excluded cells are left out.
    marker : str
        Channel name.
    control : DataFrame, optional
        Cells of its negative controls.
    feature : str
        Feature without the marker's name.

    Returns
    -------
    StainLevels

    Raises
    ------
    ProtocolError
        If the table has no such feature.
    """
    column = f"{marker}_{feature}"
    x = usable(cells, column)
    c = usable(control, column) if control is not None and len(control) else None
    has_control = c is not None and c.size >= 10
    # controls are held while the sample may move: the mixture says whether positives are separate
    fitted = fit_threshold(
        x,
        control=c if has_control else None,
        method="auto",
        feature=column,
        bootstrap=0,
    )
    negative, scale = fitted.negative_location, fitted.negative_scale
    if has_control and c is not None:
        negative, scale = robust_negative(c)
    name = f"{marker}_background"
    source = control if has_control and control is not None else cells
    background = negative
    if name in source.columns:
        values = source[name].to_numpy(dtype=np.float64)
        values = values[np.isfinite(values)]
        background = float(np.median(values)) if values.size else negative
    return StainLevels(
        marker=marker,
        feature=feature,
        background=background,
        negative=negative,
        negative_scale=scale,
        positive=fitted.positive_location,
        source="controls" if has_control else "samples",
    )


def usable(cells: pd.DataFrame, column: str) -> Floats:
    """Finite values of a column over cells that are not excluded.

    Parameters
    ----------
    cells : DataFrame
        Cells table.
    column : str
        Its column.

    Returns
    -------
    ndarray of float64
    """
    if column not in cells.columns:
        raise ProtocolError(f"the cells table has no column {column!r}; check `positivity.feature`")
    x = cells[column].to_numpy(dtype=np.float64)
    keep = np.isfinite(x)
    if "excluded" in cells.columns:
        keep &= ~cells["excluded"].to_numpy(dtype=bool)
    kept: Floats = x[keep]
    return kept
