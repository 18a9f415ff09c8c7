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

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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

Floats = NDArray[np.float64]
Weights = tuple[float, float, float, float]
Method = Literal[
    "auto", "network", "levels", "control", "control_mixture", "mixture", "otsu", "manual"
]
Status = Literal["ok", "few_controls", "not_estimable"]

#: control cells more than this many scales above the control's median are debris, not cells
DEBRIS = 6.0
#: the network's log odds beyond this say nothing more
PICTURE_LIMIT = 6.0
#: levels beyond this many cells are thinned before bootstrapping
BOOTSTRAP_CELLS = 4000
#: log odds that a cell at the negative population's centre has when only controls are known
FLOOR_ODDS = math.log(300.0)


@dataclass(frozen=True)
class Threshold:
    """A cut on one feature for one staining run, and how sure a level is.

    Parameters
    ----------
    method : str
        How the value was found ("levels", "control", "control_mixture", "mixture", "otsu",
        "manual").
    feature : str
        The column of the cells table it acts on.
    value : float or None
        The cut, in units of the feature: where the probability of a cell without lit neighbours
        is one half; None where it is not estimable.
    low, high : float or None
        95 % bootstrap interval of the cut.
    status : {"ok", "few_controls", "not_estimable"}
        ``few_controls``: a value is there, from fewer control cells or images than asked for.
    reason : str
        In words, what the status rests on.
    n_cells, n_control_cells, n_control_images : int
        What was used.
    zero, soft, bright : float
        Level of negative cells, their spread, and the level of positive cells above ``zero``: what
        probabilities are made of.
    weights : tuple of float
        Log odds = w0 * log(own / bright + 0.05 + 0.1 * spill / bright) + w1 * asinh(own / soft)
        + w2 * asinh(mix / 2) + w3, with own the level above ``zero``, spill the light of
        neighbours that was taken away, and mix the evidence of the run's two populations.
    mix_soft, mix_slope, mix_cut : float
        mix = mix_slope * (asinh(own / mix_soft) - mix_cut).
    negative_location, negative_scale : float
        Centre and right-hand spread of negative cells, in units of the feature.
    positive_location : float or None
        Centre of the positive population, in units of the feature; None if none is separable.
    positive_fraction : float or None
        Weight of the positive population where a mixture was fitted.
    separation : float
        Distance of the populations (d'), 0 if no mixture was fitted.
    measured : str
        The measured column that ``feature`` is derived from by spill-over correction; "" if none.
    spill_near, spill_far, spill_zero : float
        Spill-over of the run and the level above which light spills, as that correction uses them.
    per_image : bool
        Whether images are not comparable, so that levels are read again from each.
    picture_weight : float
        Weight of what the positivity network says of a cell from its picture alone, in log odds;
        0 where it was not asked.

    Examples
    --------
    >>> t = fit_threshold([1.0, 9.0], feature="INS_ring_p25", method="manual", value=5.0)
    >>> t.probability([1.0, 9.0]) > 0.5
    array([False,  True])
    >>> Threshold.from_dict(t.to_dict()) == t
    True
    """

    method: str
    feature: str
    value: float | None
    low: float | None
    high: float | None
    status: Status
    reason: str
    n_cells: int = 0
    n_control_cells: int = 0
    n_control_images: int = 0
    zero: float = 0.0
    soft: float = 1.0
    bright: float = 1.0
    weights: Weights = (0.0, 1.0, 0.0, 0.0)
    mix_soft: float = 1.0
    mix_slope: float = 0.0
    mix_cut: float = 0.0
    negative_location: float = 0.0
    negative_scale: float = 1.0
    positive_location: float | None = None
    positive_fraction: float | None = None
    separation: float = 0.0
    measured: str = ""
    spill_near: float = 0.0
    spill_far: float = 0.0
    spill_zero: float = 0.0
    per_image: bool = False
    picture_weight: float = 0.0

    @property
    def estimable(self) -> bool:
        """Whether there is a cut at all."""
        return self.value is not None

    def probability(
        self, values: ArrayLike, removed: ArrayLike = 0.0, picture: ArrayLike = 0.0
    ) -> Floats:
        """Probability of being positive.

        Parameters
        ----------
        values : array_like
            Own levels, in units of the feature.
        removed : array_like
            Light of neighbours that was taken away to get them.
        picture : array_like
            Log odds that the network gives each cell from its picture alone.

        Returns
        -------
        ndarray of float64
            0.5 for all where there is no cut; NaN for NaN.

        Examples
        --------
        >>> t = fit_threshold([1.0, 9.0], method="manual", value=5.0)
        >>> float(t.probability(5.0))
        0.5
        """
        x = np.asarray(values, dtype=np.float64)
        if self.value is None:
            return np.where(np.isfinite(x), 0.5, np.nan)
        taken = np.maximum(np.asarray(removed, dtype=np.float64), 0)
        odds = self.log_odds(x - self.zero, taken)
        if self.picture_weight:
            seen = np.clip(np.asarray(picture, dtype=np.float64), -PICTURE_LIMIT, PICTURE_LIMIT)
            odds = odds + self.picture_weight * seen
        out: Floats = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
        return out

    def log_odds(self, own: Floats, removed: ArrayLike = 0.0) -> Floats:
        """Log odds of being positive, for levels above ``zero``; see ``weights``."""
        w = self.weights
        odds = w[1] * np.arcsinh(own / self.soft) + w[3]
        if w[0]:
            share = np.maximum(own, 0) / self.bright
            odds = odds + w[0] * np.log(share + 0.05 + 0.1 * np.asarray(removed) / self.bright)
        if w[2]:
            mix = self.mix_slope * (np.arcsinh(own / self.mix_soft) - self.mix_cut)
            odds = odds + w[2] * np.arcsinh(mix / 2)
        out: Floats = np.asarray(odds, dtype=np.float64)
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a run stores them in its protocol."""
        return {**dataclasses.asdict(self), "weights": list(self.weights)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Threshold:
        """Build from :meth:`to_dict`'s values; unknown or missing keys are errors."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = set(data) - known
        if unknown:
            raise ProtocolError(f"fitted threshold: unknown key {sorted(unknown)[0]!r}")
        given = dict(data)
        if "weights" in given:
            w = [float(v) for v in given["weights"]]
            if len(w) != 4:
                raise ProtocolError(f"fitted threshold: 4 weights expected, found {len(w)}")
            given["weights"] = (w[0], w[1], w[2], w[3])
        try:
            return cls(**given)
        except TypeError as error:
            raise ProtocolError(f"fitted threshold: {error}") from None


def fit_threshold(
    values: ArrayLike,
    *,
    control: ArrayLike | None = None,
    control_images: ArrayLike | None = None,
    method: Method = "control",
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
