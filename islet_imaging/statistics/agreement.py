"""Agreement of automatic with manual fractions, islet by islet.

The idea: a correlation hides a constant error, so what is shown is the bias and the limits of
agreement (Bland and Altman), with islets nested in batches, and the concordance and intraclass
correlations with intervals.  Positive bias means that the automatic fraction is higher.
It fails when both share an error (the rater saw the automatic call), and when islets hold few
labelled cells: then the limits measure counting noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.statistics.intervals import check_level, t_quantile, z_quantile

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

#: name of the mean (or consensus) of all raters
ALL_RATERS = "all raters"


@dataclass(frozen=True)
class BlandAltman:
    """Bias and limits of agreement, in the units of the data; ``first`` minus ``second``.

    Attributes
    ----------
    bias, bias_low, bias_high : float
        Mean difference and its interval.
    low, high : float
        Limits between which 95 % of differences of new islets of new batches fall.
    low_outer, high_outer : float
        Outer confidence limits of these.
    sd_batch, sd_islet : float
        SD of differences between batches and of islets within one.
    n, n_batches : int
        Islets and batches.
    """

    bias: float
    bias_low: float
    bias_high: float
    low: float
    high: float
    low_outer: float
    high_outer: float
    sd_batch: float
    sd_islet: float
    n: int
    n_batches: int


@dataclass(frozen=True)
class Coefficient:
    """A coefficient of agreement and its interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Agreement:
    """Automatic calls against people.

    Attributes
    ----------
    islets : DataFrame
        image, islet, rater, batch, n_cells, automatic, manual: fractions that were compared, islet
        0 being the cells of an image outside islets.
    fractions : DataFrame
        Per rater, and for their mean, of islets, and of cells outside islets in a row of their own
        (column ``of``): n_islets, n_batches, bias_pp with interval, limits of
        agreement with outer confidence limits, SD between batches and of islets (all percentage
        points), ccc and icc with intervals.
    cells : DataFrame
        Per rater and for the consensus, in islets and outside: n_cells, n_islets, kappa with an
        interval over islets, agreement, sensitivity, specificity of the automatic calls, note.
        Empty unless single cells were labelled.
    raters : DataFrame
        Kappa of each pair of raters, and each rater's error rates by Dawid and Skene.
    consensus : DataFrame
        image, cell, majority, probability (Dawid and Skene).  Empty with fewer than two raters.
    """

    islets: pd.DataFrame
    fractions: pd.DataFrame
    cells: pd.DataFrame
    raters: pd.DataFrame
    consensus: pd.DataFrame


def bland_altman(
    first: ArrayLike, second: ArrayLike, batches: ArrayLike | None = None, *, level: float = 0.95
) -> BlandAltman:
    """Bias and limits of agreement of two measurements of the same islets, nested in batches.

    Parameters
    ----------
    first, second : array_like, shape (n_islets,)
        The two measurements.
    batches : array_like, shape (n_islets,), optional
        Batch of each islet.  Differences of one batch resemble each other; without batches islets
        are taken as independent, and limits come out too narrow where they are not.
    level : float
        Confidence level of the intervals (the limits themselves are always 95 %).

    Returns
    -------
    BlandAltman

    Raises
    ------
    NotEstimableError
        With fewer than three islets.

    References
    ----------
    Bland & Altman, Lancet 327:307 (1986); the same, J Biopharm Stat 17:571 (2007), nested
    differences; Zou, Stat Methods Med Res 22:630 (2013), limits of the limits.

    Examples
    --------
    >>> b = bland_altman([52, 61, 45, 70], [50, 58, 44, 66])
    >>> b.bias, round(b.low, 2), round(b.high, 2)
    (2.5, -0.03, 5.03)
    """
    check_level(level)
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise IsletImagingError("both measurements must be lists of one length")
    keep = np.isfinite(a) & np.isfinite(b)
    d = (a - b)[keep]
    n = len(d)
    if n < 3:
        raise NotEstimableError(f"limits of agreement need at least 3 islets, found {n}")
    labels = np.arange(n) * 0 if batches is None else np.asarray(batches)[keep]
    _, group = np.unique(labels.astype(str), return_inverse=True)
    size = np.bincount(group)
    m = len(size)
    means = np.bincount(group, weights=d) / size
    within_df = n - m
    between = 0.0
    if m == 1 or within_df == 0:
        # one batch, or one islet per batch: a single component holds all the scatter
        within, df, se2 = float(d.var(ddof=1)), n - 1.0, float(d.var(ddof=1)) / n
        se_df = n - 1.0
    else:
        within = float(np.sum((d - means[group]) ** 2) / within_df)
        ms_between = float(np.sum(size * (means - d.mean()) ** 2) / (m - 1))
        n0 = (n - np.sum(size**2) / n) / (m - 1)
        between = max((ms_between - within) / n0, 0.0)
        if between == 0:
            within, df = float(d.var(ddof=1)), n - 1.0
            se2, se_df = within / n, n - 1.0
        else:
            # Satterthwaite, for the total variance and for that of the mean
            c = np.sum(size**2) / n**2
            df = _satterthwaite(1 / n0, 1 - 1 / n0, ms_between, within, m, within_df)
            se2 = c * between + within / n
            se_df = _satterthwaite(c / n0, 1 / n - c / n0, ms_between, within, m, within_df)
    total = between + within
    bias = float(d.mean())
    half = t_quantile(level, se_df) * np.sqrt(se2)
    z = z_quantile(0.95)
    spread = z * np.sqrt(total)
    # MOVER: the outer limit adds, in squares, what mean and SD may be off by
    largest = z * np.sqrt(total * df / (2 * special.gammaincinv(df / 2, (1 - level) / 2))) - spread
    outer = np.hypot(half, largest)
    return BlandAltman(
        bias=bias,
        bias_low=bias - float(half),
        bias_high=bias + float(half),
        low=bias - float(spread),
        high=bias + float(spread),
        low_outer=bias - float(spread + outer),
        high_outer=bias + float(spread + outer),
        sd_batch=float(np.sqrt(between)) if m > 1 and within_df else np.nan,
        sd_islet=float(np.sqrt(within)),
        n=n,
        n_batches=m if batches is not None else 0,
    )


def _satterthwaite(a: float, b: float, ms1: float, ms2: float, groups: int, df2: int) -> float:
    value = a * ms1 + b * ms2
    below = (a * ms1) ** 2 / (groups - 1) + (b * ms2) ** 2 / df2
    return float(value**2 / below) if below > 0 else float(df2)


def concordance(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> Coefficient:
    """Lin's concordance correlation coefficient, interval by Fisher's z.

    References
    ----------
    Lin, Biometrics 45:255 (1989); correction of the variance 56:324 (2000).

    Examples
    --------
    >>> c = concordance([10, 20, 30, 40, 50], [12, 21, 33, 41, 54])
    >>> round(c.value, 3)
    0.985
    """
    check_level(level)
    x, y = _pairs(first, second)
    n = len(x)
    sx, sy = x.std(), y.std()
    if sx == 0 or sy == 0:
        return Coefficient(np.nan, np.nan, np.nan, n)
    r = float(np.corrcoef(x, y)[0, 1])
    c = float(2 * r * sx * sy / (sx**2 + sy**2 + (x.mean() - y.mean()) ** 2))
    if n < 4 or abs(c) >= 1 or r == 0:
        return Coefficient(c, np.nan, np.nan, n)
    u2 = (x.mean() - y.mean()) ** 2 / (sx * sy)
    variance = (
        (1 - r**2) * c**2 / ((1 - c**2) * r**2)
        + 2 * c**3 * (1 - c) * u2 / (r * (1 - c**2) ** 2)
        - c**4 * u2**2 / (2 * r**2 * (1 - c**2) ** 2)
    ) / (n - 2)
    half = z_quantile(level) * np.sqrt(max(float(variance), 0.0))
    return Coefficient(
        c, float(np.tanh(np.arctanh(c) - half)), float(np.tanh(np.arctanh(c) + half)), n
    )


def icc_2_1(ratings: ArrayLike, *, level: float = 0.95) -> Coefficient:
    """ICC(2,1): absolute agreement of single raters drawn from a population of raters.

    Parameters
    ----------
    ratings : array_like, shape (n_islets, n_raters)
        Complete ratings; islets with a NaN are left out.
    level : float
        Confidence level.

    References
    ----------
    Shrout & Fleiss, Psychol Bull 86:420 (1979); McGraw & Wong, Psychol Methods 1:30 (1996).

    Examples
    --------
    Shrout and Fleiss's own example:

    >>> i = icc_2_1([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9],
    ...              [6, 2, 4, 7]])
    >>> round(i.value, 2), round(i.low, 2), round(i.high, 2)
    (0.29, 0.02, 0.76)
    """
    check_level(level)
    x = np.asarray(ratings, dtype=float)
    if x.ndim != 2 or x.shape[1] < 2:
        raise IsletImagingError("an ICC needs a table of islets by at least two raters")
    x = x[np.isfinite(x).all(axis=1)]
    n, k = x.shape
    if n < 3:
        raise NotEstimableError(f"an ICC needs at least 3 islets rated by all, found {n}")
    grand = x.mean()
    rows, columns = x.mean(axis=1), x.mean(axis=0)
    msr = k * np.sum((rows - grand) ** 2) / (n - 1)
    msc = n * np.sum((columns - grand) ** 2) / (k - 1)
    mse = np.sum((x - rows[:, None] - columns + grand) ** 2) / ((n - 1) * (k - 1))
    below = msr + (k - 1) * mse + k * (msc - mse) / n
    if below <= 0:
        return Coefficient(np.nan, np.nan, np.nan, n)
    icc = float((msr - mse) / below)
    if mse == 0:
        return Coefficient(icc, np.nan, np.nan, n)
    a, b = k * icc / (n * (1 - icc)), 1 + k * icc * (n - 1) / (n * (1 - icc))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    tail = (1 + level) / 2
    f_low, f_high = special.fdtri(n - 1, v, tail), special.fdtri(v, n - 1, tail)
    noise = k * msc + (k * n - k - n) * mse
    low = n * (msr - f_low * mse) / (f_low * noise + n * msr)
    high = n * (f_high * msr - mse) / (noise + n * f_high * msr)
    return Coefficient(icc, float(low), float(high), n)


def _pairs(first: ArrayLike, second: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise IsletImagingError("both measurements must be lists of one length")
    keep = np.isfinite(x) & np.isfinite(y)
    if keep.sum() < 3:
        raise NotEstimableError("agreement needs at least 3 islets measured both ways")
    return x[keep], y[keep]
