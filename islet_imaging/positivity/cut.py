"""Where positive begins on one feature, with its uncertainty, or the honest answer that it cannot
be said.

The idea: a threshold belongs to one named feature and one staining run; this is the one door to the
methods that need nothing but intensities.  It comes first from negative controls, measured by the
same feature; without controls only a mixture that is clearly two populations gives a threshold;
nothing is ever split by force, but for Otsu, which is there to compare with.
It fails where the methods do: see :mod:`islet_imaging.positivity.methods`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.methods.control import Control, Enough, by_control
from islet_imaging.positivity.methods.manual import by_hand
from islet_imaging.positivity.methods.mixture import by_mixture
from islet_imaging.positivity.methods.otsu import by_otsu
from islet_imaging.positivity.threshold import Threshold
from islet_imaging.protocol import CutMethod


def fit_threshold(
    values: ArrayLike,
    *,
    control: ArrayLike | None = None,
    control_images: ArrayLike | None = None,
    method: CutMethod = "control",
    feature: str = "",
    value: float | None = None,
    quantile: float = 0.995,
    min_control_cells: int = 500,
    min_control_images: int = 2,
    min_separation: float = 2.0,
    bootstrap: int = 200,
    seed: int = 0,
) -> Threshold:
    """Find where positive begins on one feature of one staining run.

    Parameters
    ----------
    values : array_like, shape (n,)
        Intensities of the sample's cells, in any unit; debris and excluded cells left out; NaN
        ignored.
    control : array_like, shape (m,), optional
        Intensities of the same feature in negative-control images.
    control_images : array_like, shape (m,), optional
        Which image each control cell is from; all from one if not given.
    method : {"control", "control_mixture", "mixture", "otsu", "manual"}
        ``control``: quantile of the trimmed control.  ``control_mixture``: the sample's mixture
        with the negative population held by the control; never below the control's quantile;
        the control's quantile where no positive population is separable.  ``mixture``: free
        mixture, or "not estimable".  ``otsu`` and ``manual`` are for comparison.
    feature : str
        The feature's column, for the record.
    value : float, optional
        The cut for ``manual``.
    quantile : float
        The control's quantile.
    min_control_cells, min_control_images : int
        Below these the status is ``few_controls``.
    min_separation : float
        Least d' of two populations.
    bootstrap : int
        Number of resamples for the interval; 0 for none.
    seed : int
        Of the resampling.

    Returns
    -------
    Threshold

    Raises
    ------
    ProtocolError
        If a control method is asked for without control cells, ``manual`` without a value, or a
        method that needs more than intensities.

    Notes
    -----
    After Karlsson and others' practice of fluorescence-minus-one gates, with a robust quantile:
    real control images have a 99th percentile at three times the median, from debris.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> negative = 100 * rng.lognormal(0, 0.2, 1500)
    >>> sample = np.concatenate([negative[:700], 900 * rng.lognormal(0, 0.5, 300)])
    >>> t = fit_threshold(sample, control=negative[700:], feature="INS_ring_p25")
    >>> 100 < t.value < 300, t.status
    (True, 'few_controls')
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    x = x[np.isfinite(x)]
    dark = Control.of(control, control_images)
    if method == "manual":
        return by_hand(x, value, feature)
    if method == "otsu":
        return by_otsu(x, feature)
    if method == "mixture":
        return by_mixture(x, feature, min_separation=min_separation, bootstrap=bootstrap, seed=seed)
    if method in ("control", "control_mixture"):
        return by_control(
            x,
            dark,
            feature,
            method=method,
            quantile=quantile,
            enough=Enough(min_control_cells, min_control_images),
            min_separation=min_separation,
            bootstrap=bootstrap,
            seed=seed,
        )
    raise ProtocolError(f"fit_threshold has no method {method!r}")
