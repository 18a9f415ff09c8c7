"""A cut from negative controls: their high quantile, or a mixture that they hold in place.

The idea: what no stain gives is measured, by the same feature, on images without it: a high
quantile, taken after debris (far outliers, which reach the intensity of true positives) is trimmed.
Where the sample shows a separate positive population, the mixture may raise the cut, because
negatives among positive neighbours are brighter than in a control that has none.
It fails where the control does not resemble the sample (another exposure, another tissue), which
no look at the intensities alone can tell: see the quality flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from islet_imaging._types import Float64
from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.methods.logistic import FLOOR_ODDS, logistic, slope_at_crossing
from islet_imaging.positivity.methods.resampling import interval, resamples
from islet_imaging.positivity.mixture import (
    Mixture,
    fit_mixture,
    from_scale,
    robust_negative,
    to_scale,
)
from islet_imaging.positivity.threshold import CellsUsed, Cut, Populations, Threshold

#: control cells more than this many scales above the control's median are debris, not cells
DEBRIS = 6.0
#: fewer control cells than this have no quantile
MIN_CELLS = 10


@dataclass(frozen=True)
class Control:
    """Intensities of control cells, and the image that each is from.

    Parameters
    ----------
    intensities : ndarray of float64, shape (m,)
        In units of the feature; all finite.
    images : ndarray of int64, shape (m,)
        Code of the image.
    """

    intensities: Float64
    images: NDArray[np.int64]

    @classmethod
    def of(cls, values: ArrayLike | None, images: ArrayLike | None = None) -> Control:
        """Controls without the cells that have no value; all of one image if not said.

        Raises
        ------
        ProtocolError
            If there are more or fewer names of images than cells.
        """
        if values is None:
            return cls(np.empty(0), np.empty(0, dtype=np.int64))
        c = np.asarray(values, dtype=np.float64).ravel()
        codes = np.zeros(c.size, dtype=np.int64)
        if images is not None:
            names = np.asarray(images).ravel()
            if names.size != c.size:
                raise ProtocolError(f"control has {c.size} cells but control_images {names.size}")
            codes = np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64)
        keep = np.isfinite(c)
        return cls(c[keep], codes[keep])

    @property
    def n_images(self) -> int:
        """How many images the cells are from."""
        return int(np.unique(self.images).size)


@dataclass(frozen=True)
class Enough:
    """Below so many control cells or images the status is ``few_controls``."""

    cells: int = 500
    images: int = 2

    def lacking(self, control: Control) -> str:
        """In words, what is missing; "" if enough is there."""
        size, images = control.intensities.size, control.n_images
        if size >= self.cells and images >= self.images:
            return ""
        return (
            f"few controls: {size} cells of {images} images, asked for "
            f"{self.cells} of {self.images}"
        )


def trimmed_quantile(values: ArrayLike, quantile: float) -> float:
    """High quantile of negative cells after far outliers are left out.

    Parameters
    ----------
    values : array_like
        Intensities of control cells.
    quantile : float
        Between 0.5 and 1.

    Returns
    -------
    float
        Never below the normal quantile of the robust location and scale, so that a small control
        does not give a low cut.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clean = rng.normal(100, 10, 2000)
    >>> dirty = np.append(clean, np.full(40, 2000.0))
    >>> abs(trimmed_quantile(dirty, 0.995) - trimmed_quantile(clean, 0.995)) < 4
    True
    """
    from scipy.special import ndtri

    x = np.asarray(values, dtype=np.float64)
    location, scale = robust_negative(x)
    kept = x[x <= location + DEBRIS * scale]
    return float(max(np.quantile(kept, quantile), location + ndtri(quantile) * scale))


def by_control(
    x: Float64,
    control: Control,
    feature: str,
    *,
    method: Literal["control", "control_mixture"],
    quantile: float,
    enough: Enough,
    min_separation: float,
    bootstrap: int,
    seed: int,
) -> Threshold:
    """The controls' quantile, raised to the crossing of populations for ``control_mixture``."""
    c = control.intensities
    if c.size < MIN_CELLS:
        raise ProtocolError(
            f"method `{method}` needs negative controls and found {c.size} control cells; mark "
            "control images `negative_control` in samples.csv, or use `mixture`"
        )
    location, scale = robust_negative(c)
    cut = trimmed_quantile(c, quantile)
    drawn = resamples(c.size, control.images, bootstrap, seed)
    low, high = interval([trimmed_quantile(c[i], quantile) for i in drawn])
    reason = f"{quantile:g} quantile of {c.size} control cells, debris trimmed"
    slope = FLOOR_ODDS / float(to_scale(cut, location, scale))
    populations = Populations(location, scale)
    if method == "control_mixture":
        mixture = _anchored(x, c, location, scale, min_separation)
        populations = Populations(location, scale, separation=mixture.separation)
        if mixture.separable:
            crossing = float(from_scale(mixture.crossing(), location, scale))
            reason = (
                "mixture with the negative population held by "
                f"{c.size} control cells, separation {mixture.separation:.1f}"
            )
            slope = max(slope, slope_at_crossing(mixture))
            if crossing > cut:
                shift = crossing / cut if cut > 0 else 1.0
                low, high = (None if b is None else b * shift for b in (low, high))
                cut = crossing
            populations = Populations(
                location,
                scale,
                positive=float(from_scale(mixture.positive[0], location, scale)),
                positive_share=mixture.weight,
                separation=mixture.separation,
            )
        else:
            reason += f"; no separate positive population: {mixture.reason}"
    lacking = enough.lacking(control)
    return Threshold(
        method=method,
        feature=feature,
        cut=Cut(
            cut,
            low,
            high,
            status="few_controls" if lacking else "ok",
            reason=f"{reason}; {lacking}" if lacking else reason,
        ),
        model=logistic(slope, cut, location, scale),
        populations=populations,
        used=CellsUsed(int(x.size), int(c.size), control.n_images),
    )


def _anchored(
    x: Float64, c: Float64, location: float, scale: float, min_separation: float
) -> Mixture:
    y = to_scale(c, location, scale)
    y = y[y <= np.arcsinh(DEBRIS)]
    held = (float(np.median(y)), float(max(np.std(y), 0.2)))
    return fit_mixture(to_scale(x, location, scale), negative=held, min_separation=min_separation)
