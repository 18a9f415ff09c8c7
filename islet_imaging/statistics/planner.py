"""How many batches and islets: plan before the differentiation, not after.

The idea: the SE of a batch falls with islets, the SE of the mean only with batches; so 15 to 20
islets of 100 cells or more, then more batches.  Numbers come from the t and noncentral t
distributions in percentage points.  For fractions below 10 % or above 90 %, where few batches say
less than that, the very test of `compare_conditions` is tried on simulated experiments.
It fails when the scatter between batches is a guess: take it from earlier runs
(``variance_table``), and look at the row above.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from islet_imaging.errors import IsletImagingError, NotEstimableError

if TYPE_CHECKING:
    import pandas as pd

#: beyond this many batches a plan is no plan
MOST_BATCHES = 1000
#: and where each number has to be simulated
MOST_SIMULATED = 128


def batch_se_pp(
    n_islets: int, *, fraction: float = 0.5, islet_sd_pp: float = 11.0, cells_per_islet: int = 150
) -> float:
    """Standard error of one batch's fraction, percentage points.

    Parameters
    ----------
    n_islets : int
        Islets measured in the batch.
    fraction : float
        Expected fraction, for the noise of counting cells.
    islet_sd_pp : float
        SD of islets within a batch without counting noise, percentage points.
    cells_per_islet : int
        Cells counted per islet.

    Examples
    --------
    >>> [round(batch_se_pp(i, fraction=0.43), 1) for i in (5, 10, 20, 40)]
    [5.2, 3.7, 2.6, 1.9]
    """
    _check(n_islets >= 1 and cells_per_islet >= 1, "islets and cells per islet must be at least 1")
    _check(0 <= fraction <= 1, f"fraction is {fraction}: 0 to 1")
    _check(islet_sd_pp >= 0, "islet_sd_pp must not be negative")
    counting = 100**2 * fraction * (1 - fraction) / cells_per_islet
    return math.sqrt((islet_sd_pp**2 + counting) / n_islets)


def half_width_pp(n_batches: int, *, sd_pp: float, level: float = 0.95) -> float:
    """Expected half width of the interval over batches, percentage points.

    ``sd_pp`` is the SD of batch fractions as they will be measured.

    Examples
    --------
    >>> [round(2 * half_width_pp(b, sd_pp=8.8)) for b in (3, 4, 6, 10)]
    [39, 26, 18, 12]
    """
    _check(n_batches >= 2, "an interval over batches needs at least 2 of them")
    _check(sd_pp >= 0, "sd_pp must not be negative")
    df = n_batches - 1
    # mean of a sample SD is below the SD
    unbias = math.sqrt(2 / df) * math.exp(math.lgamma(n_batches / 2) - math.lgamma(df / 2))
    return float(special.stdtrit(df, (1 + level) / 2) * sd_pp * unbias / math.sqrt(n_batches))


def batches_for_width(width_pp: float, *, sd_pp: float, level: float = 0.95) -> int:
    """Batches for an interval of at most ``width_pp`` from end to end, on average.

    Examples
    --------
    >>> batches_for_width(20, sd_pp=9)
    6
    """
    _check(width_pp > 0, "width_pp must be above 0")
    for n in range(2, MOST_BATCHES + 1):
        if 2 * half_width_pp(n, sd_pp=sd_pp, level=level) <= width_pp:
            return n
    raise NotEstimableError(f"an interval of {width_pp} pp would take over {MOST_BATCHES} batches")


def power(
    n_batches: int, difference_pp: float, *, sd_pp: float, paired: bool, alpha: float = 0.05
) -> float:
    """Power of the two-sided t test over batches.

    Parameters
    ----------
    n_batches : int
        Pairs, or batches per condition if unpaired.
    difference_pp : float
        True difference, percentage points.
    sd_pp : float
        Paired: SD of the differences.  Unpaired: SD of batches within a condition.
    paired : bool
        Whether both conditions are made from the same batches.
    alpha : float
        Level of the test.

    Examples
    --------
    >>> round(power(14, 10, sd_pp=9, paired=False), 2)
    0.81
    """
    from scipy import stats  # slow to load, and little else needs it

    _check(n_batches >= 2, "a test over batches needs at least 2 of them")
    _check(sd_pp > 0, "sd_pp must be above 0")
    df = n_batches - 1 if paired else 2 * n_batches - 2
    shift = abs(difference_pp) / sd_pp * math.sqrt(n_batches if paired else n_batches / 2)
    cut = special.stdtrit(df, 1 - alpha / 2)
    # the noncentral t of scipy returns nan where the tail underflows; there the power is 1 or 0
    upper, lower = stats.nct.sf(cut, df, shift), stats.nct.cdf(-cut, df, shift)
    return float(np.nan_to_num(upper, nan=1.0) + np.nan_to_num(lower, nan=0.0))


def batches_for_difference(
    difference_pp: float,
    *,
    sd_pp: float,
    paired: bool,
    power_wanted: float = 0.8,
    alpha: float = 0.05,
) -> int:
    """Batches (pairs, or per condition) to find a difference with the power wanted.

    Examples
    --------
    >>> [batches_for_difference(d, sd_pp=9, paired=False) for d in (5, 10, 15, 20)]
    [52, 14, 7, 5]
    """
    _check(difference_pp != 0, "difference_pp must not be 0")
    _check(0 < power_wanted < 1, f"power is {power_wanted}: between 0 and 1")
    for n in range(2, MOST_BATCHES + 1):
        if power(n, difference_pp, sd_pp=sd_pp, paired=paired, alpha=alpha) >= power_wanted:
            return n
    raise NotEstimableError(
        f"a difference of {difference_pp} pp would take over {MOST_BATCHES} batches"
    )


def power_for_fractions(
    n_batches: int,
    fraction: float,
    reference: float,
    *,
    icc: float = 0.03,
    islets: int = 15,
    cells_per_islet: int = 100,
    islet_icc: float = 0.08,
    paired: bool = False,
    correlation: float = 0.8,
    alpha: float = 0.05,
    runs: int = 500,
    seed: int = 0,
) -> float:
    """Power of `compare_conditions`, tried on simulated experiments; for rare fractions too.

    Parameters
    ----------
    n_batches : int
        Pairs, or batches per condition if unpaired.
    fraction, reference : float
        True mean fractions of both conditions.
    icc : float
        Correlation of two cells of one batch (``icc_batch`` of ``variance_table``); 0.03 is an SD
        of 9 points at 50 %.
    islets, cells_per_islet : int
        Islets measured in a batch, and cells counted in each.
    islet_icc : float
        The same correlation for cells of one islet within its batch.
    paired : bool
        Whether both conditions are made from the same batches.
    correlation : float
        Of the fractions of a pair, if paired.
    alpha : float
        Level of the test.
    runs : int
        Simulated experiments.
    seed : int
        Of the simulation.

    Returns
    -------
    float
        Share of the experiments in which the difference is found, and on its right side.

    Raises
    ------
    IsletImagingError
        If a number is none of its kind.

    Examples
    --------
    From 2 to 8 % is a difference of four times, and yet:

    >>> [round(power_for_fractions(n, 0.08, 0.02, runs=200), 1) for n in (3, 10, 20)]
    [0.0, 0.4, 0.9]
    """
    from islet_imaging.statistics.difference import arm, difference

    _check(n_batches >= 2, "a test over batches needs at least 2 of them")
    for p in (fraction, reference):
        _check(0 < p < 1, f"fraction is {p}: between 0 and 1")
    for name, value in (("icc", icc), ("islet_icc", islet_icc)):
        _check(0 < value < 1, f"{name} is {value}: between 0 and 1")
    _check(-1 <= correlation <= 1, f"correlation is {correlation}: -1 to 1")
    _check(min(islets, cells_per_islet, runs) >= 1, "islets, cells and runs must be at least 1")
    rng = np.random.default_rng(seed)
    rank = rng.normal(size=(2, runs, n_batches))
    if paired:
        rank[1] = correlation * rank[0] + math.sqrt(1 - correlation**2) * rank[1]
    size, own = 1 / icc - 1, 1 / islet_icc - 1
    counted = np.full((runs, n_batches), float(islets * cells_per_islet))
    arms = []
    for p, z in zip((reference, fraction), rank, strict=True):
        share = special.betaincinv(p * size, (1 - p) * size, special.ndtr(z))[..., None]
        # a beta distribution takes no 0
        a, b = (np.maximum(x * own, 1e-9) for x in (share, 1 - share))
        each = rng.binomial(cells_per_islet, rng.beta(a, b, (*z.shape, islets)))
        arms.append(arm(each.sum(axis=-1).astype(float), counted))
    found = difference(arms[0], arms[1], shared=n_batches if paired else 0)
    low, high = found.limits(alpha / 2)
    return float(np.mean(low > 0 if fraction > reference else high < 0))


def batches_for_fractions(
    fraction: float,
    reference: float,
    *,
    icc: float = 0.03,
    islets: int = 15,
    cells_per_islet: int = 100,
    islet_icc: float = 0.08,
    paired: bool = False,
    correlation: float = 0.8,
    power_wanted: float = 0.8,
    alpha: float = 0.05,
    runs: int = 500,
    seed: int = 0,
) -> int:
    """Batches (pairs, or per condition) to find one rare fraction different from another.

    Parameters
    ----------
    fraction, reference, icc, islets, cells_per_islet, islet_icc, paired, correlation
        As in `power_for_fractions`.
    power_wanted : float
        Power of the test.
    alpha, runs, seed
        As in `power_for_fractions`.

    Returns
    -------
    int
        The least number whose power, as simulated, is what is wanted.

    Raises
    ------
    NotEstimableError
        If it would take more than `MOST_SIMULATED` batches.

    Examples
    --------
    >>> batches_for_fractions(0.25, 0.05, runs=200)
    5
    """
    _check(fraction != reference, "the fractions must differ")
    _check(0 < power_wanted < 1, f"power is {power_wanted}: between 0 and 1")

    def enough(n: int) -> bool:
        got = power_for_fractions(
            n, fraction, reference, icc=icc, islets=islets, cells_per_islet=cells_per_islet,
            islet_icc=islet_icc, paired=paired, correlation=correlation, alpha=alpha, runs=runs,
            seed=seed,
        )  # fmt: skip
        return got >= power_wanted

    top = 4
    while not enough(top):
        top *= 2
        if top > MOST_SIMULATED:
            raise NotEstimableError(
                f"{100 * reference:g} against {100 * fraction:g} % would take over "
                f"{MOST_SIMULATED} batches of each"
            )
    low = 1 if top == 4 else top // 2
    while top - low > 1:
        middle = (low + top) // 2
        low, top = (low, middle) if enough(middle) else (middle, top)
    return top


def plan(
    *,
    fraction: float = 0.5,
    batch_sd_pp: float = 8.0,
    islet_sd_pp: float = 11.0,
    cells_per_islet: int = 150,
    islets: tuple[int, ...] = (5, 10, 15, 20, 40),
    difference_pp: float = 10.0,
    width_pp: float = 20.0,
    paired_sd_ratio: float = 0.75,
    power_wanted: float = 0.8,
    level: float = 0.95,
) -> pd.DataFrame:
    """A table to plan an experiment by: what more islets buy, and how many batches it takes.

    Parameters
    ----------
    fraction : float
        Expected fraction of positive cells.
    batch_sd_pp, islet_sd_pp : float
        True SD between batches, and of islets within a batch, percentage points.
    cells_per_islet : int
        Cells counted per islet.
    islets : tuple of int
        Islets per batch to consider; a row each.
    difference_pp, width_pp : float
        Difference to find, and width of the interval to reach, percentage points.
    paired_sd_ratio : float
        SD of paired differences over SD of batches.
    power_wanted, level : float
        Power of the test, confidence level (its complement is the test's level).

    Returns
    -------
    DataFrame
        islets, cells (per batch), batch_se_pp (counting and islets only), batch_total_sd_pp (with
        the SD between batches), batches_for_width, pairs_for_difference,
        batches_per_condition_for_difference.

    Examples
    --------
    >>> p = plan(islets=(5, 20))
    >>> p["pairs_for_difference"].tolist(), p["batches_for_width"].tolist()
    ([7, 6], [6, 5])
    """
    import pandas as pd

    _check(batch_sd_pp >= 0 and paired_sd_ratio > 0, "SDs must not be negative")
    rows = []
    for n in islets:
        se = batch_se_pp(
            n, fraction=fraction, islet_sd_pp=islet_sd_pp, cells_per_islet=cells_per_islet
        )
        sd = math.hypot(batch_sd_pp, se)
        test = {"power_wanted": power_wanted, "alpha": 1 - level}
        rows.append(
            {
                "islets": n,
                "cells": n * cells_per_islet,
                "batch_se_pp": se,
                "batch_total_sd_pp": sd,
                "batches_for_width": batches_for_width(width_pp, sd_pp=sd, level=level),
                "pairs_for_difference": batches_for_difference(
                    difference_pp, sd_pp=sd * paired_sd_ratio, paired=True, **test
                ),
                "batches_per_condition_for_difference": batches_for_difference(
                    difference_pp, sd_pp=sd, paired=False, **test
                ),
            }
        )
    return pd.DataFrame(rows)


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise IsletImagingError(message)
