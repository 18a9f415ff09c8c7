"""Where positive begins, with its uncertainty, or the honest answer that it cannot be said.

The idea: a threshold belongs to one named feature and one staining run.  It comes first from
negative controls, measured by the same feature: a high quantile, taken after debris (far outliers,
which reach the level of true positives) is trimmed.  Where the sample shows a separate positive
population, the control-anchored mixture may raise the cut, because negatives among positive
neighbours are brighter than in a control that has none.  Without controls only a mixture that is
clearly two populations gives a threshold; nothing is ever split by force.
It fails where the control does not resemble the sample (another exposure, another tissue), which
no look at the levels alone can tell: see the quality flags.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from islet_imaging.errors import ProtocolError
from islet_imaging.positivity.mixture import (
    Mixture,
    fit_mixture,
    from_scale,
    robust_negative,
    to_scale,
)
from islet_imaging.positivity.threshold import Floats, Status, Threshold
from islet_imaging.positivity.weights import Weights
from islet_imaging.protocol import CallMethod

#: control cells more than this many scales above the control's median are debris, not cells
DEBRIS = 6.0
#: levels beyond this many cells are thinned before bootstrapping
BOOTSTRAP_CELLS = 4000
#: log odds that a cell at the negative population's centre has when only controls are known
FLOOR_ODDS = math.log(300.0)


def fit_threshold(
    values: ArrayLike,
    *,
    control: ArrayLike | None = None,
    control_images: ArrayLike | None = None,
    method: CallMethod = "control",
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
        Levels of the sample's cells, in any unit; debris and excluded cells left out; NaN ignored.
    control : array_like, shape (m,), optional
        Levels of the same feature in negative-control images.
    control_images : array_like, shape (m,), optional
        Which image each control cell is from; all from one if not given.
    method : {"auto", "control", "control_mixture", "mixture", "otsu", "manual"}
        ``control``: quantile of the trimmed control.  ``control_mixture``: the sample's mixture
        with the negative population held by the control; never below the control's quantile;
        the control's quantile where no positive population is separable.  ``mixture``: free
        mixture, or "not estimable".  ``otsu`` and ``manual`` are for comparison.  ``auto``:
        control_mixture with a control, else mixture.
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
        If a control method is asked for without control cells, or ``manual`` without a value.

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
    x = _finite(values)
    if method == "manual":
        if value is None or not math.isfinite(value):
            raise ProtocolError("method `manual` needs the cut: positivity.threshold")
        return _manual(x, float(value), feature)
    if method == "otsu":
        return _otsu(x, feature)
    c, images = _control(control, control_images)
    if method == "auto":
        method = "control_mixture" if c.size else "mixture"
    if method == "mixture":
        return _by_mixture(x, feature, min_separation, bootstrap, seed)
    if method not in ("control", "control_mixture"):
        raise ProtocolError(f"positivity.method {method!r} gives no threshold")
    if c.size < 10:
        raise ProtocolError(
            f"method `{method}` needs negative controls and found {c.size} control cells; mark "
            "control images `negative_control` in samples.csv, or use `mixture`"
        )
    return _by_control(
        x,
        c,
        images,
        method,
        feature,
        quantile,
        (min_control_cells, min_control_images),
        min_separation,
        bootstrap,
        seed,
    )


def _finite(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64).ravel()
    return x[np.isfinite(x)]


def _control(
    control: ArrayLike | None, control_images: ArrayLike | None
) -> tuple[Floats, NDArray[np.int64]]:
    if control is None:
        return np.empty(0), np.empty(0, dtype=np.int64)
    c = np.asarray(control, dtype=np.float64).ravel()
    if control_images is None:
        codes = np.zeros(c.size, dtype=np.int64)
    else:
        names = np.asarray(control_images).ravel()
        if names.size != c.size:
            raise ProtocolError(f"control has {c.size} cells but control_images {names.size}")
        codes = np.unique(names, return_inverse=True)[1].astype(np.int64)
    keep = np.isfinite(c)
    return c[keep], codes[keep]


def trimmed_quantile(values: ArrayLike, quantile: float) -> float:
    """High quantile of negative cells after far outliers are left out.

    Parameters
    ----------
    values : array_like
        Levels of control cells.
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


def resamples(n: int, images: NDArray[np.int64], count: int, seed: int) -> list[NDArray[np.int64]]:
    """Indices of bootstrap samples: of images where there are at least 4, else of cells."""
    rng = np.random.default_rng(seed)
    groups = np.unique(images)
    out: list[NDArray[np.int64]] = []
    if groups.size >= 4:
        members = [np.flatnonzero(images == g) for g in groups]
        for _ in range(count):
            drawn = rng.integers(0, groups.size, groups.size)
            out.append(np.concatenate([members[i] for i in drawn]))
    else:
        size = min(n, BOOTSTRAP_CELLS)
        out = [rng.integers(0, n, size) for _ in range(count)]
    return out


def _interval(cuts: list[float]) -> tuple[float | None, float | None]:
    if len(cuts) < 10:
        return None, None
    low, high = np.percentile(cuts, [2.5, 97.5])
    return float(low), float(high)


def _by_control(
    x: Floats,
    c: Floats,
    images: NDArray[np.int64],
    method: str,
    feature: str,
    quantile: float,
    least: tuple[int, int],
    min_separation: float,
    bootstrap: int,
    seed: int,
) -> Threshold:
    location, scale = robust_negative(c)
    cut = trimmed_quantile(c, quantile)
    cuts = [trimmed_quantile(c[i], quantile) for i in resamples(c.size, images, bootstrap, seed)]
    low, high = _interval(cuts)
    reason = f"{quantile:g} quantile of {c.size} control cells, debris trimmed"
    slope = FLOOR_ODDS / float(to_scale(cut, location, scale))
    mixture = None
    if method == "control_mixture":
        mixture = _anchored(x, c, location, scale, min_separation)
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
        else:
            reason += f"; no separate positive population: {mixture.reason}"
    status: Status = "ok"
    n_images = int(np.unique(images).size)
    if c.size < least[0] or n_images < least[1]:
        status = "few_controls"
        reason += (
            f"; few controls: {c.size} cells of {n_images} images, "
            f"asked for {least[0]} of {least[1]}"
        )
    found = mixture is not None and mixture.separable
    return Threshold(
        method=method,
        feature=feature,
        value=cut,
        low=low,
        high=high,
        status=status,
        reason=reason,
        n_cells=int(x.size),
        n_control_cells=int(c.size),
        n_control_images=n_images,
        zero=location,
        soft=scale,
        weights=_weights(slope, cut, location, scale),
        negative_location=location,
        negative_scale=scale,
        positive_location=(
            float(from_scale(mixture.positive[0], location, scale)) if found and mixture else None
        ),
        positive_fraction=mixture.weight if found and mixture else None,
        separation=mixture.separation if mixture else 0.0,
    )


def _anchored(
    x: Floats, c: Floats, location: float, scale: float, min_separation: float
) -> Mixture:
    y = to_scale(c, location, scale)
    y = y[y <= np.arcsinh(DEBRIS)]
    held = (float(np.median(y)), float(max(np.std(y), 0.2)))
    return fit_mixture(to_scale(x, location, scale), negative=held, min_separation=min_separation)


def _weights(slope: float, cut: float, zero: float, soft: float) -> Weights:
    """Weights of a logistic of the level alone, one half at the cut."""
    return (0.0, slope, 0.0, -slope * float(to_scale(cut, zero, soft)))


def slope_at_crossing(mixture: Mixture) -> float:
    """Log odds per unit at the crossing."""
    at = mixture.crossing()
    step = 0.05 * max(mixture.positive[0] - mixture.negative[0], 1e-6)
    low, high = mixture.log_ratio([at - step, at + step])
    return max(float(high - low) / (2 * step), 0.1)


def _by_mixture(
    x: Floats, feature: str, min_separation: float, bootstrap: int, seed: int
) -> Threshold:
    fitted = _free(x, min_separation)
    if fitted is None:
        location, scale = robust_negative(x) if x.size else (0.0, 1.0)
        return _not_estimable(x, feature, "mixture", "too few cells", location, scale)
    mixture, zero, soft = fitted
    if not mixture.separable:
        location, scale = robust_negative(x)
        reason = f"no separable population: {mixture.reason}"
        return _not_estimable(x, feature, "mixture", reason, location, scale, mixture.separation)
    cut = float(from_scale(mixture.crossing(), zero, soft))
    cuts = []
    for i in resamples(x.size, np.zeros(x.size, np.int64), min(bootstrap, 60), seed):
        # the working scale is kept: only the populations are fitted again
        again = fit_mixture(to_scale(x[i], zero, soft), min_separation=0)
        cuts.append(float(from_scale(again.crossing(), zero, soft)))
    low, high = _interval(cuts)
    return Threshold(
        method="mixture",
        feature=feature,
        value=cut,
        low=low,
        high=high,
        status="ok",
        reason=f"two populations, separation {mixture.separation:.1f}",
        n_cells=int(x.size),
        zero=zero,
        soft=soft,
        weights=_weights(slope_at_crossing(mixture), cut, zero, soft),
        negative_location=float(from_scale(mixture.negative[0], zero, soft)),
        negative_scale=soft,
        positive_location=float(from_scale(mixture.positive[0], zero, soft)),
        positive_fraction=mixture.weight,
        separation=mixture.separation,
    )


def _free(x: Floats, min_separation: float) -> tuple[Mixture, float, float] | None:
    """Free mixture; the working scale is found from the lower population, in two rounds."""
    if x.size < 20:
        return None
    zero, top = np.percentile(x, [1, 99])
    soft = 0.05 * (top - zero)
    if soft <= 0:
        return None
    mixture = fit_mixture(to_scale(x, zero, soft), min_separation=min_separation)
    for _ in range(2):
        upper = mixture.crossing()
        lower = x[to_scale(x, zero, soft) < upper]
        if lower.size < 20:
            break
        zero, soft = robust_negative(lower)
        mixture = fit_mixture(to_scale(x, zero, soft), min_separation=min_separation)
    return mixture, float(zero), float(soft)


def _not_estimable(
    x: Floats,
    feature: str,
    method: str,
    reason: str,
    location: float,
    scale: float,
    separation: float = 0.0,
) -> Threshold:
    return Threshold(
        method=method,
        feature=feature,
        value=None,
        low=None,
        high=None,
        status="not_estimable",
        reason=reason,
        n_cells=int(x.size),
        zero=location,
        soft=scale,
        negative_location=location,
        negative_scale=scale,
        separation=separation,
    )


def _flat(x: Floats, cut: float, feature: str, method: str, reason: str) -> Threshold:
    """A cut that comes without populations: probabilities turn within a tenth of its height."""
    below = x[x < cut]
    location, scale = robust_negative(below) if below.size >= 20 else (0.0, max(abs(cut), 1e-6))
    at = float(to_scale(cut, location, scale))
    return Threshold(
        method=method,
        feature=feature,
        value=cut,
        low=None,
        high=None,
        status="ok",
        reason=reason,
        n_cells=int(x.size),
        zero=location,
        soft=scale,
        weights=_weights(FLOOR_ODDS / max(at, 0.1), cut, location, scale),
        negative_location=location,
        negative_scale=scale,
    )


def _manual(x: Floats, cut: float, feature: str) -> Threshold:
    return _flat(x, cut, feature, "manual", "set by hand")


def _otsu(x: Floats, feature: str) -> Threshold:
    if x.size < 20 or not np.ptp(x) > 0:
        return _not_estimable(x, feature, "otsu", "too few cells", 0.0, 1.0)
    from skimage.filters import threshold_otsu

    cut = float(threshold_otsu(x))
    return _flat(x, cut, feature, "otsu", "Otsu; always splits, whatever is there")
