"""Levels of a stain in one staining run: what dark, negative and positive mean in counts.

The idea: the level of cells without stain, its spread, the level of positive cells and the spill
between neighbours belong to the run (antibody lot, exposure, day), not to the image.  They are
read once from all its images, the dark ones from controls where controls can be compared, and they
normalise all that is said of a cell, so that gain, camera offset and bit depth do not matter.
It fails where images were each scaled for display: that is noticed (`comparable`), and levels are
then read image by image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float64
from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.mixture import Mixture, fit_mixture, robust_negative
from islet_imaging.positivity.spillover import (
    Neighbourhood,
    estimate_spill,
    neighbourhood,
    own_level,
    positive_level,
)

if TYPE_CHECKING:
    import pandas as pd


#: fewer control cells than this say nothing
MIN_CONTROL = 15
#: without usable controls: backgrounds that differ between images by more than this share of the
#: positive level; with them: controls brighter than the darker sample cells by this many of their
#: spreads; either means that images were not photographed alike
UNLIKE = 0.6
BRIGHTER = 2.0
#: an image of at least so many cells is looked at by itself
MIN_CELLS = 30


@dataclass(frozen=True)
class StainLevels:
    """Levels of one marker in one staining run, in units of its feature.

    Parameters
    ----------
    column : str
        The column of the cells table that the levels are of.
    zero : float
        Level of a cell without stain.
    scale : float
        Right-hand spread of such cells.
    positive : float or None
        Median own level of positive cells above ``zero``; None where there are hardly any.
    near, far : float
        Spill-over (see :mod:`islet_imaging.positivity.spillover`).
    source : str
        "controls" or "samples": where ``zero`` and ``scale`` are from.
    comparable : bool
        Whether the images seem to be photographed alike.
    note : str
        What was noticed, in words.
    """

    column: str
    zero: float
    scale: float
    positive: float | None
    near: float
    far: float
    source: str
    comparable: bool = True
    note: str = ""

    def own(self, level: Float64, around: Neighbourhood) -> Float64:
        """Own level of each cell, in units of the feature: ``level`` less neighbours' light."""
        out: Float64 = self.zero + own_level(level - self.zero, around, (self.near, self.far))
        return out

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


def level_of(cells: pd.DataFrame, column: str) -> Float64:
    """A column of levels; a cell squeezed out of its ring is given its nucleus's level.

    Parameters
    ----------
    cells : DataFrame
        Cells table.
    column : str
        ``<marker>_<feature>``.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ProtocolError
        If the table has no such column.
    """
    if column not in cells.columns:
        raise ProtocolError(f"the cells table has no column {column!r}; check `positivity.feature`")
    x: Float64 = cells[column].to_numpy(dtype=np.float64)
    for feature in ("_ring_", "_sector_"):
        spare = f"{column.split(feature)[0]}_nucleus_mean"
        if feature in column and spare in cells.columns:
            x = np.where(np.isfinite(x), x, cells[spare].to_numpy(dtype=np.float64))
    return x


def counted(cells: pd.DataFrame) -> NDArray[np.bool_]:
    """Cells that are not excluded."""
    if "excluded" in cells.columns:
        return ~cells["excluded"].to_numpy(dtype=bool)
    return np.ones(len(cells), dtype=bool)


def stain_levels(
    cells: pd.DataFrame,
    column: str,
    *,
    control: pd.DataFrame | None = None,
    spillover: bool = True,
    around: Neighbourhood | None = None,
) -> StainLevels:
    """Read the levels of a marker from the cells of one staining run.

    Parameters
    ----------
    cells : DataFrame
        Cells of all sample images of the run.  Excluded cells give light to others and are
        otherwise left out.
    column : str
        Column of the marker's feature.
    control : DataFrame, optional
        Cells of its negative controls.
    spillover : bool
        Whether to fit spill-over; else it is zero.
    around : Neighbourhood, optional
        Of ``cells``, where it is known already.

    Returns
    -------
    StainLevels

    Raises
    ------
    ProtocolError
        If the table has no such column, or no measured cell.

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> dark = pd.DataFrame({"INS_ring_p25": rng.normal(150, 10, 300)})
    >>> both = dark.copy()
    >>> both.loc[:99, "INS_ring_p25"] += 800
    >>> at = pd.DataFrame(rng.uniform(0, 900, (300, 2)), columns=["y_um", "x_um"])
    >>> found = stain_levels(both.join(at), "INS_ring_p25", control=dark)
    >>> round(found.zero, -1), round(found.positive, -2)
    (150.0, 800.0)
    """
    level, keep = level_of(cells, column), counted(cells)
    usable = np.isfinite(level) & keep
    if not usable.any():
        raise ProtocolError(f"no cell has a value in {column!r}")
    around = neighbourhood(cells) if around is None and spillover else around
    dark = None
    if control is not None:
        values = level_of(control, column)[counted(control)]
        values = values[np.isfinite(values)]
        if values.size >= MIN_CONTROL:
            dark = robust_negative(values)
    note = ""
    if dark is not None:
        if dark[0] > _darkest(cells, level, usable) + BRIGHTER * dark[1]:
            note = "the controls are brighter than the samples' dark cells: not comparable"
        elif control is not None and _clipped(cells, column) and _clipped(control, column):
            note = "every image is clipped, controls too: scaled for display, not comparable"
        if note:
            dark = None
    if dark is not None:
        zero, scale = dark
        near, far, positive = _solve(level - zero, usable, around, scale)
    else:
        zero, scale, near, far, positive = _without_control(level, usable, around)
    apart = "" if dark is not None or note else _unlike(cells, column, positive)
    return StainLevels(
        column=column,
        zero=zero,
        scale=scale,
        positive=positive,
        near=near,
        far=far,
        source="samples" if dark is None else "controls",
        comparable=not note and not apart,
        note=note or apart,
    )


def _solve(
    above: Float64, usable: NDArray[np.bool_], around: Neighbourhood | None, scale: float
) -> tuple[float, float, float | None]:
    spill, own = (0.0, 0.0), above
    if around is not None:
        spill = estimate_spill(above, around, scale)
        own = own_level(above, around, spill)
    return (*spill, positive_level(own[usable], scale))


def _without_control(
    level: Float64, usable: NDArray[np.bool_], around: Neighbourhood | None
) -> tuple[float, float, float, float, float | None]:
    """Dark levels from the samples' lower end, then from the cells that are found dark.

    Two guesses of the spread are followed, one for runs with many dark cells and one for runs with
    few; the one that ends with the populations further apart is right.
    """
    low, up, top = np.percentile(level[usable], [3, 15, 97])
    least = 1e-3 * max(abs(low), 1e-3)
    best, distance = None, -np.inf
    for guess in {float(max(up - low, least)), float(max(0.03 * (top - low), least))}:
        found = _refined(level, usable, around, float(low), guess)
        zero, scale, near, far, positive = found
        above = level - zero
        own = above if around is None else own_level(above, around, (near, far))
        apart = populations(own[usable], scale, positive)
        cut = mix_soft(scale, positive) * float(np.sinh(apart.crossing()))
        apart_too = positive is not None and dark_peak(own[usable], scale, cut)
        score = apart.separation + (100 if apart.separable and apart_too else 0)
        if score > distance:
            best, distance = found, score
    assert best is not None
    return best


def _refined(
    level: Float64,
    usable: NDArray[np.bool_],
    around: Neighbourhood | None,
    zero: float,
    scale: float,
) -> tuple[float, float, float, float, float | None]:
    near, far, positive = _solve(level - zero, usable, around, scale)
    for _ in range(2):
        if positive is None:
            break
        above = level - zero
        own = above if around is None else own_level(above, around, (near, far))
        negative = own[usable & (own < 0.12 * positive)]
        if negative.size < 20:
            break
        shift, spread = robust_negative(negative)
        zero, scale = zero + shift, min(max(spread, 0.2 * scale), positive / 20)
        near, far, positive = _solve(level - zero, usable, around, scale)
    return zero, scale, near, far, positive


def dark_peak(own: Float64, scale: float, cut: float) -> bool:
    """Whether negative cells are a peak of their own on the plain scale of counts.

    A logarithmic scale that begins at the lower end of one population tears it in two; on the plain
    scale its density then rises from that end to the cut, where real negatives leave a valley.

    Parameters
    ----------
    own : ndarray
        Own levels above zero.
    scale : float
        Spread of negative cells.
    cut : float
        Where the populations are said to part, above zero.

    Returns
    -------
    bool

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> one = rng.lognormal(0, 0.5, 2000) - 0.4
    >>> dark_peak(one, 0.1, 0.4), dark_peak(np.append(one, rng.normal(-0.3, 0.03, 300)), 0.1, 0.0)
    (False, False)
    >>> dark_peak(np.append(one + 1, rng.normal(0, 0.1, 300)), 0.1, 0.5)
    True
    """
    if cut <= scale:
        return False
    width = 0.25 * cut
    near = float(np.count_nonzero(np.abs(own) <= scale))
    valley = float(np.count_nonzero(np.abs(own - cut) <= width))
    # counts in windows of different widths: densities, each a Poisson error towards doubt
    low = max(near - 2 * np.sqrt(near), 0.0) / scale
    return bool(low > 1.5 * (valley + 1) / width)


def populations(own: Float64, scale: float, positive: float | None) -> Mixture:
    """Two populations of own levels above zero, held by nothing: they must show by themselves.

    Parameters
    ----------
    own : ndarray
        Own levels above zero.
    scale : float
        Spread of negative cells.
    positive : float or None
        Level of positive cells.

    Returns
    -------
    Mixture
        On the scale ``asinh(own / mix_soft(scale, positive))``.
    """
    return fit_mixture(on_mix_scale(own, scale, positive))


def on_mix_scale(own: Float64, scale: float, positive: float | None) -> Float64:
    """Own levels above zero on the scale that populations are fitted on."""
    out: Float64 = np.arcsinh(own / mix_soft(scale, positive))
    return out


def mix_soft(scale: float, positive: float | None) -> float:
    """Softening of the scale that populations are fitted on."""
    return scale if positive is None else max(scale, 0.03 * positive)


def _darkest(cells: pd.DataFrame, level: Float64, usable: NDArray[np.bool_]) -> float:
    """Lower quartile of the image whose cells are darkest."""
    if "image" not in cells.columns:
        return float(np.percentile(level[usable], 25))
    names = cells["image"].to_numpy().astype(str)[usable]
    each = [level[usable][names == n] for n in np.unique(names)]
    big = [float(np.percentile(v, 25)) for v in each if v.size >= MIN_CELLS]
    return min(big) if big else float(np.percentile(level[usable], 25))


def _clipped(cells: pd.DataFrame, column: str) -> bool:
    """Whether every image has cells with clipped pixels, as stretched images have."""
    name = f"{marker_of(column)}_saturated"
    if name not in cells.columns or "image" not in cells.columns:
        return False
    return bool((cells.groupby("image")[name].max() > 0).all())


def marker_of(column: str) -> str:
    """Marker of a feature's column."""
    for feature in ("_ring_", "_sector_", "_nucleus_", "_network_"):
        column = column.split(feature)[0]
    return column


def _unlike(cells: pd.DataFrame, column: str, positive: float | None) -> str:
    """In words, if the images do not look like one camera setting; else ""."""
    name = f"{marker_of(column)}_background"
    if "image" in cells.columns and len(set(cells["image"])) > 1 and _clipped(cells, column):
        return "every image is clipped: scaled for display or overexposed"
    if positive is None or name not in cells.columns or "image" not in cells.columns:
        return ""
    each = cells.groupby("image", sort=True)[name].median().dropna()
    if len(each) > 1 and each.max() - each.min() > UNLIKE * positive:
        return "backgrounds differ between images: display-scaled or of different exposure"
    return ""
