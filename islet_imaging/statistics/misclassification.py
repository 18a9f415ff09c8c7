"""Correcting a fraction for wrong calls, and saying when that cannot be done.

The idea: counted positives are true positives found plus negatives mistaken, so with sensitivity
and specificity known from manual labels the fraction can be solved for (Rogan and Gladen); an
unsure cell, counted by its probability, fits the same equation if sensitivity is the mean count of
a truly positive cell.  The interval carries three uncertainties: sensitivity, specificity (both
clustered by islet) and the scatter between batches.
It refuses when the calls carry too little (Se + Sp - 1 < 0.5), and reports "below the detection
limit" when the positives are no more than the false ones expected.  It fails where cells of the
batch are not like the labelled ones: another stain, another thickness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.statistics.counting import read_calls
from islet_imaging.statistics.intervals import (
    Interval,
    batch_interval,
    check_counts,
    check_level,
    t_quantile,
    z_quantile,
)

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.statistics.difference import Difference

Array = NDArray[np.float64]

#: below this Se + Sp - 1 a correction multiplies noise more than it removes bias
LEAST_YOUDEN = 0.5
#: labelled cells of each kind below which it is said
ENOUGH_LABELS = 200


@dataclass(frozen=True)
class ErrorRates:
    """Sensitivity and specificity of the calls, from manually labelled cells.

    Attributes
    ----------
    sensitivity : float
        Mean count of a truly positive cell (1 positive, 0 negative, unsure by probability).
    specificity : float
        1 minus the mean count of a truly negative cell.
    n_positive, n_negative : float
        How many independent labelled cells of each kind these are worth.
    note : str
        What a reader must know, such as too few labels.
    """

    sensitivity: float
    specificity: float
    n_positive: float
    n_negative: float
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("sensitivity", "specificity"):
            if not 0 <= getattr(self, name) <= 1:
                raise IsletImagingError(f"{name} is {getattr(self, name)}: 0 to 1")
        if not (self.n_positive > 0 and self.n_negative > 0):
            raise IsletImagingError("sensitivity and specificity need labelled cells of both kinds")

    @property
    def youden(self) -> float:
        """Sensitivity + specificity - 1: how much of a true difference the calls show."""
        return self.sensitivity + self.specificity - 1


@dataclass(frozen=True)
class Corrected:
    """A fraction corrected for wrong calls.

    Attributes
    ----------
    apparent, fraction, low, high : float
        The counted fraction, the corrected one and its interval, fractions of 1.
    status : str
        ``corrected`` or ``below the detection limit``.
    sd_inflation : float
        Factor by which the correction widens what counting alone gives, ``1 / (Se + Sp - 1)``.
    note : str
        From the error rates.
    """

    apparent: float
    fraction: float
    low: float
    high: float
    status: str
    sd_inflation: float
    note: str = ""


def error_rates(
    labelled: pd.DataFrame, marker: str, *, truth: str = "label", weight: str | None = None
) -> ErrorRates:
    """Sensitivity and specificity of the calls of ``marker`` from labelled cells.

    Parameters
    ----------
    labelled : DataFrame
        Cells with the marker's call and probability, ``image``, ``islet`` and the column ``truth``
        (``positive`` or ``negative``; other cells are left out).
    marker : str
        Name of the marker.
    truth : str
        Column of manual labels.
    weight : str, optional
        Column of sampling weights (1 over the chance of having been picked), for cells picked
        stratified by probability.

    Returns
    -------
    ErrorRates
        ``n_positive`` and ``n_negative`` are effective numbers: labelled cells of one islet
        resemble each other, and unequal weights cost precision.

    Raises
    ------
    IsletImagingError
        If a column is missing or there are no labels of one kind.

    Examples
    --------
    >>> import pandas as pd
    >>> t = pd.DataFrame({"image": "a", "islet": [1, 1, 2, 2] * 60, "INS_probability": 0.5,
    ...                   "label": ["positive", "negative"] * 120,
    ...                   "INS_call": ["positive", "negative", "positive", "negative"] * 60})
    >>> r = error_rates(t, "INS")
    >>> r.sensitivity, r.specificity, r.note
    (1.0, 1.0, 'fewer than 200 labelled cells of a kind')
    """
    for column in (truth, "image", "islet", *([weight] if weight else [])):
        if column not in labelled.columns:
            raise IsletImagingError(f"the labelled cells have no column {column!r}")
    count = read_calls(labelled, marker).weight
    w = np.ones(len(labelled)) if weight is None else labelled[weight].to_numpy(dtype=float)
    if np.any(~(w > 0)):
        raise IsletImagingError(f"sampling weights in {weight!r} must be above 0")
    islet = (labelled["image"].astype(str) + "#" + labelled["islet"].astype(str)).to_numpy()
    label = labelled[truth].astype("string").fillna("").to_numpy(dtype=object)
    found = {}
    few = False
    for kind in ("positive", "negative"):
        mine = (label == kind) & np.isfinite(count)
        if not mine.any():
            raise IsletImagingError(f"no labelled cell is {kind}; both kinds are needed")
        few |= int(mine.sum()) < ENOUGH_LABELS
        found[kind] = _clustered_mean(count[mine], w[mine], islet[mine])
    return ErrorRates(
        sensitivity=found["positive"][0],
        specificity=1 - found["negative"][0],
        n_positive=found["positive"][1],
        n_negative=found["negative"][1],
        note=f"fewer than {ENOUGH_LABELS} labelled cells of a kind" if few else "",
    )


def correct_fraction(apparent: ArrayLike, sensitivity: float, specificity: float) -> Array:
    """Rogan and Gladen's corrected fraction, clipped to 0 to 1.

    Raises
    ------
    NotEstimableError
        If ``sensitivity + specificity - 1`` is below 0.5.

    References
    ----------
    Rogan & Gladen, Am J Epidemiol 107:71 (1978).

    Examples
    --------
    >>> correct_fraction([0.067, 0.5], 0.95, 0.98).round(3)
    array([0.051, 0.516])
    """
    youden = sensitivity + specificity - 1
    if youden < LEAST_YOUDEN:
        raise NotEstimableError(
            f"sensitivity {sensitivity:.2f} and specificity {specificity:.2f} carry too little: "
            f"their sum less 1 is {youden:.2f}, below {LEAST_YOUDEN}; improve the calls first"
        )
    p = np.asarray(apparent, dtype=float)
    return np.asarray(np.clip((p + specificity - 1) / youden, 0, 1))


def correct_batches(
    positives: ArrayLike,
    totals: ArrayLike,
    rates: ErrorRates,
    *,
    level: float = 0.95,
    draws: int = 20_000,
    seed: int = 0,
) -> Corrected:
    """Mean batch fraction corrected for wrong calls, with an interval over batches.

    Parameters
    ----------
    positives, totals : array_like, shape (n_batches,)
        Counted positives (may be fractional) and cells of each batch; at least two batches.
    rates : ErrorRates
        From labelled cells of the same staining.
    level : float
        Confidence level.
    draws : int
        Draws of the parametric bootstrap.
    seed : int
        Of the draws.

    Returns
    -------
    Corrected
        Below the detection limit (apparent fraction under ``1 - specificity``) the fraction is 0,
        and ``high`` is what cannot be excluded.

    Raises
    ------
    NotEstimableError
        With fewer than two batches or calls that carry too little.

    Notes
    -----
    Each draw takes the apparent mean from a t distribution with the limits of `batch_interval`, and
    sensitivity and specificity from beta distributions (Jeffreys) with the effective numbers of
    labels; the interval is made of the quantiles of the corrected fraction.

    Examples
    --------
    >>> rates = ErrorRates(0.9, 0.95, 300, 300)
    >>> c = correct_batches([400, 430, 380], [1000, 1000, 1000], rates)
    >>> c.status, round(c.fraction, 3), round(c.low, 2), round(c.high, 2)
    ('corrected', 0.416, 0.33, 0.52)
    """
    check_level(level)
    k, n = check_counts(positives, totals)
    if len(k) < 2:
        raise NotEstimableError("a corrected interval over batches needs at least two batches")
    return correct_interval(
        batch_interval(k, n, level=level), rates, level=level, draws=draws, seed=seed
    )


def correct_interval(
    apparent: Interval,
    rates: ErrorRates,
    *,
    level: float = 0.95,
    draws: int = 20_000,
    seed: int = 0,
) -> Corrected:
    """A fraction with its t interval on the logit scale, corrected for wrong calls.

    Parameters
    ----------
    apparent : Interval
        As `batch_interval` or `islet_interval` gives it; what the result is an interval over is
        what this one is over.
    rates : ErrorRates
        From labelled cells of the same staining.
    level : float
        Confidence level of ``apparent``.
    draws : int
        Draws of the parametric bootstrap.
    seed : int
        Of the draws.

    Returns
    -------
    Corrected

    Raises
    ------
    NotEstimableError
        Without an interval to correct, or with calls that carry too little.

    Examples
    --------
    >>> from islet_imaging.statistics import islet_interval
    >>> one_batch = islet_interval([40, 60, 50, 55], [100, 110, 100, 120])
    >>> c = correct_interval(one_batch, ErrorRates(0.9, 0.95, 300, 300))
    >>> round(c.apparent, 3), round(c.fraction, 3), round(c.low, 2), round(c.high, 2)
    (0.477, 0.502, 0.39, 0.62)
    """
    check_level(level)
    if not np.isfinite(apparent.low) or apparent.n < 2:
        raise NotEstimableError("there is no interval to correct")
    fraction = float(correct_fraction(apparent.fraction, rates.sensitivity, rates.specificity))
    rng = np.random.default_rng(seed)
    mean = _draw_interval(apparent, level, draws, rng)
    se = _draw_rate(rates.sensitivity, rates.n_positive, draws, rng)
    sp = _draw_rate(rates.specificity, rates.n_negative, draws, rng)
    youden = np.maximum(se + sp - 1, 0.05)
    drawn = np.clip((mean + sp - 1) / youden, 0, 1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    below = apparent.fraction < 1 - rates.specificity
    return Corrected(
        apparent=apparent.fraction,
        fraction=fraction,
        low=0.0 if below else float(min(low, fraction)),
        high=float(max(high, fraction)),
        status="below the detection limit" if below else "corrected",
        sd_inflation=1 / rates.youden,
        note=rates.note,
    )


def corrected_difference(
    found: Difference, rates: ErrorRates, *, level: float = 0.95, draws: int = 4000, seed: int = 0
) -> dict[str, float]:
    """A difference of two conditions corrected for wrong calls, percentage points.

    Wrong calls shrink a difference by ``Se + Sp - 1``, whatever the fractions are, as long as calls
    err alike in both conditions; so the difference is divided by it, and the interval holds what is
    not known of Se and Sp too.

    Parameters
    ----------
    found : Difference
        Of the counted fractions.
    rates : ErrorRates
        From labelled cells of the same staining.
    level : float
        Confidence level.
    draws : int
        Draws of the parametric bootstrap.
    seed : int
        Of the draws.

    Returns
    -------
    dict of str to float
        effect_corrected_pp, effect_corrected_low_pp, effect_corrected_high_pp; empty where the
        calls carry too little (``Se + Sp - 1`` below 0.5).
    """
    if rates.youden < LEAST_YOUDEN:
        return {}
    rng = np.random.default_rng(seed)
    # the limits at all levels are a distribution of the difference
    tails = np.geomspace(1e-4, 0.5, 40)
    sides = [found.limits(t) for t in tails]
    grid = np.concatenate([[float(s[0]) for s in sides], [float(s[1]) for s in sides][::-1]])
    below = np.concatenate([tails, 1 - tails[::-1]])
    drawn = np.interp(rng.random(draws), below, np.maximum.accumulate(grid))
    se = _draw_rate(rates.sensitivity, rates.n_positive, draws, rng)
    sp = _draw_rate(rates.specificity, rates.n_negative, draws, rng)
    corrected = np.clip(drawn / np.maximum(se + sp - 1, 0.05), -1, 1)
    low, high = np.quantile(corrected, [(1 - level) / 2, (1 + level) / 2])
    value = float(np.clip(found.value / rates.youden, -1, 1))
    return {
        "effect_corrected_pp": 100 * value,
        "effect_corrected_low_pp": 100 * min(float(low), value),
        "effect_corrected_high_pp": 100 * max(float(high), value),
    }


def lang_reiczigel(
    positives: float, total: float, rates: ErrorRates, *, level: float = 0.95
) -> Interval:
    """Corrected fraction of independent cells, with Lang and Reiczigel's interval.

    For one sample of cells that may be taken as independent (a cytospin), or with ``total`` already
    divided by the design effect.  For batches use `correct_batches`.

    References
    ----------
    Lang & Reiczigel, Prev Vet Med 113:13 (2014).

    Examples
    --------
    >>> i = lang_reiczigel(60, 200, ErrorRates(0.9, 0.95, 200, 200))
    >>> round(i.fraction, 3), round(i.low, 3), round(i.high, 3)
    (0.294, 0.215, 0.377)
    """
    check_level(level)
    k, n = check_counts([positives], [total])
    if len(n) == 0:
        raise NotEstimableError("no cell was counted")
    fraction = float(correct_fraction(k[0] / n[0], rates.sensitivity, rates.specificity))
    z = z_quantile(level)
    size = n[0] + z**2
    p = (k[0] + z**2 / 2) / size
    pos, neg = rates.n_positive + 2, rates.n_negative + 2
    se = (rates.sensitivity * rates.n_positive + 1) / pos
    sp = (rates.specificity * rates.n_negative + 1) / neg
    youden = se + sp - 1
    true = (p + sp - 1) / youden
    noise_se, noise_sp = se * (1 - se) / pos, sp * (1 - sp) / neg
    shift = 2 * z**2 * (true * noise_se - (1 - true) * noise_sp)
    spread = np.sqrt(p * (1 - p) / size + true**2 * noise_se + (1 - true) ** 2 * noise_sp) / youden
    low, high = np.clip([true + shift - z * spread, true + shift + z * spread], 0, 1)
    return Interval(fraction, float(min(low, fraction)), float(max(high, fraction)), 1)


def _clustered_mean(x: Array, w: Array, cluster: NDArray[np.object_]) -> tuple[float, float]:
    """Weighted mean of 0..1 counts, and how many independent ones it is worth."""
    mean = float(np.average(x, weights=w))
    _, group = np.unique(cluster.astype(str), return_inverse=True)
    by_weight = float(w.sum() ** 2 / np.sum(w**2))
    m = group.max() + 1
    spread = mean * (1 - mean)
    if m < 2 or spread == 0:
        # one islet cannot show how islets differ; all right or all wrong shows no spread at all
        return mean, by_weight
    residual = np.bincount(group, weights=w * (x - mean))
    variance = m / (m - 1) * np.sum(residual**2) / w.sum() ** 2
    return mean, float(np.clip(spread / max(variance, 1e-12), 1, by_weight))


def _draw_interval(i: Interval, level: float, draws: int, rng: np.random.Generator) -> Array:
    """Draws of a mean whose t interval on the logit scale is ``i``."""
    tiny = 1e-9
    low, high = special.logit(np.clip([i.low, i.high], tiny, 1 - tiny))
    t = t_quantile(level, i.n - 1)
    centre = float(special.logit(np.clip(i.fraction, tiny, 1 - tiny)))
    drawn = rng.standard_t(i.n - 1, draws)
    scale = np.where(drawn < 0, centre - low, high - centre) / t
    return np.asarray(special.expit(centre + scale * drawn))


def _draw_rate(rate: float, n: float, draws: int, rng: np.random.Generator) -> Array:
    return rng.beta(rate * n + 0.5, (1 - rate) * n + 0.5, draws)
