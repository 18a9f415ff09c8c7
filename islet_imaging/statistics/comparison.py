"""Comparing conditions with batches, and only batches, as n.

The idea: each batch gives one fraction per condition; the test is a t test on their logits, paired
where both conditions were made from the same batches, Welch's where they were not.  An exact
permutation test with the smallest p it can reach stands beside it, p values are Holm-corrected,
and the effect is given in percentage points.  Cells or islets as n are refused: with them 77 % or
33 % of true null hypotheses come out significant (``benchmarks/statistics``).
It fails with two batches (no power), and when batches differ in more than the condition.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.statistics.counting import enough
from islet_imaging.statistics.design import UNKNOWN_BATCH, text
from islet_imaging.statistics.intervals import (
    batch_logits,
    check_counts,
    check_level,
    floored,
    t_quantile,
)
from islet_imaging.statistics.summary import Summary

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Design = Literal["auto", "paired", "unpaired"]

_COLUMNS = (
    "marker",
    "condition",
    "reference",
    "design",
    "n_batches",
    "n_reference",
    "fraction",
    "fraction_reference",
    "effect_pp",
    "effect_low_pp",
    "effect_high_pp",
    "odds_ratio",
    "odds_ratio_low",
    "odds_ratio_high",
    "p",
    "p_holm",
    "p_permutation",
    "p_permutation_floor",
    "note",
)
#: permutations up to this number are all tried, beyond it this many are drawn
_MOST_PERMUTATIONS = 100_000


def compare_conditions(
    batches: Summary | pd.DataFrame,
    *,
    reference: str | None = None,
    design: Design = "auto",
    markers: Sequence[str] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compare the fractions of conditions, with the batch as unit of replication.

    Parameters
    ----------
    batches : Summary or DataFrame
        A summary, or its batches table (``batches.csv``): condition, batch, marker, n_cells,
        fraction.  Batches with cells and without a fraction are not estimable: they are left out,
        and where half of a condition's batches or more are, its comparisons are refused.
    reference : str, optional
        Condition the others are compared with.  Without it all pairs are compared, the earlier
        condition of the table being the reference.
    design : {"auto", "paired", "unpaired"}
        ``auto`` pairs where at least two batches were made under both conditions.
    markers : sequence of str, optional
        Markers to compare; all by default.  The fewer, the milder Holm's correction.
    level : float
        Confidence level.

    Returns
    -------
    DataFrame
        One row per marker and pair of conditions.  ``effect_pp`` is the difference of the mean
        batch fractions in percentage points with its t interval; ``p`` is the t test on logits,
        with which the interval of the odds ratio agrees; ``p_holm`` is corrected over all rows;
        ``p_permutation_floor`` is the smallest p the exact test can give with these numbers of
        batches.

    Raises
    ------
    IsletImagingError
        If the table has cells or islets as rows, a batch twice, or no such condition.
    NotEstimableError
        If batches are not stated.

    References
    ----------
    Lord et al., J Cell Biol 219:e202001064 (2020), the unit of replication; Holm, Scand J Stat
    6:65 (1979); Welch, Biometrika 34:28 (1947).

    Examples
    --------
    >>> import pandas as pd
    >>> t = pd.DataFrame({"condition": ["control"] * 4 + ["drug"] * 4, "batch": list("abcd") * 2,
    ...                   "marker": "INS", "n_cells": 1000,
    ...                   "fraction": [0.30, 0.41, 0.35, 0.52, 0.38, 0.50, 0.46, 0.60]})
    >>> c = compare_conditions(t).iloc[0]
    >>> print(c["design"], f"{c['effect_pp']:.1f}", f"{c['p']:.3f}", c["p_permutation_floor"])
    paired 9.0 0.001 0.125
    """
    import pandas as pd

    check_level(level)
    table = _check(batches.batches if isinstance(batches, Summary) else batches)
    wanted = list(dict.fromkeys(table["marker"])) if markers is None else list(markers)
    conditions = list(dict.fromkeys(table["condition"]))
    for name, known in [(m, set(table["marker"])) for m in wanted] + (
        [(reference, set(conditions))] if reference is not None else []
    ):
        if name not in known:
            raise IsletImagingError(f"{name!r} is not in the table; there are {sorted(known)}")
    if reference is None:
        pairs = list(itertools.combinations(conditions, 2))
    else:
        pairs = [(reference, c) for c in conditions if c != reference]
    rows = [
        _compare(
            table[(table["marker"] == marker) & (table["condition"] == first)],
            table[(table["marker"] == marker) & (table["condition"] == second)],
            design,
            level,
        )
        | {"marker": marker, "condition": second, "reference": first}
        for marker in wanted
        for first, second in pairs
    ]
    out = pd.DataFrame(rows, columns=list(_COLUMNS))
    out["p_holm"] = holm(out["p"])
    return out


@dataclass(frozen=True)
class Comparison:
    """A t comparison of two conditions over batches.

    Attributes
    ----------
    effect_pp, effect_low_pp, effect_high_pp : float
        Difference of the mean batch fractions, percentage points, with its interval.
    odds_ratio, odds_ratio_low, odds_ratio_high : float
        From the mean logits; its interval holds 1 exactly when ``p`` is above ``1 - level``.
    p : float
        Two-sided, on logits.
    """

    effect_pp: float
    effect_low_pp: float
    effect_high_pp: float
    odds_ratio: float
    odds_ratio_low: float
    odds_ratio_high: float
    p: float


def t_comparison(
    reference_positives: ArrayLike,
    reference_totals: ArrayLike,
    positives: ArrayLike,
    totals: ArrayLike,
    *,
    paired: bool,
    level: float = 0.95,
) -> Comparison:
    """Compare the batches of two conditions by t tests on logits and on percentage points.

    Parameters
    ----------
    reference_positives, reference_totals, positives, totals : array_like, shape (n_batches,)
        Positive (may be fractional) and counted cells of each batch; at least two batches per
        condition, every one with cells, in the same order of batches if ``paired``.
    paired : bool
        Paired t test, else Welch's.
    level : float
        Confidence level.

    Returns
    -------
    Comparison

    Examples
    --------
    >>> c = t_comparison([300, 410, 350], [1000] * 3, [380, 500, 460], [1000] * 3, paired=True)
    >>> round(c.effect_pp, 1), round(c.p, 3)
    (9.3, 0.007)
    """
    check_level(level)
    k0, n0 = check_counts(reference_positives, reference_totals)
    k1, n1 = check_counts(positives, totals)
    a, b = len(k0), len(k1)
    if min(a, b) < 2 or (paired and a != b):
        raise NotEstimableError("a comparison needs two batches with cells in each condition")
    x, y = batch_logits(k0, n0), batch_logits(k1, n1)
    centre, se, df = _one_sample(y - x) if paired else _welch(x, y)
    noise = [np.mean(1 / (k + 0.5) + 1 / (n - k + 0.5)) / len(k) for k, n in ((k0, n0), (k1, n1))]
    se = floored(se, float(np.sqrt(sum(noise))), df)
    half = t_quantile(level, df) * se
    p = 2 * special.stdtr(df, -abs(centre) / se)
    d = k1 / n1 - k0 / n0 if paired else None
    mean, se_points, df_points = _one_sample(d) if d is not None else _welch(k0 / n0, k1 / n1)
    half_points = t_quantile(level, df_points) * se_points
    return Comparison(
        effect_pp=100 * mean,
        effect_low_pp=100 * (mean - half_points),
        effect_high_pp=100 * (mean + half_points),
        odds_ratio=math.exp(centre),
        odds_ratio_low=math.exp(centre - half),
        odds_ratio_high=math.exp(centre + half),
        p=float(p),
    )


def holm(p: ArrayLike) -> Array:
    """Holm's step-down correction; NaN stays NaN and is not counted.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p, dtype=float)
    out = np.full(values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return out


def sign_flip_test(differences: ArrayLike) -> tuple[float, float]:
    """Exact two-sided sign-flip test of paired differences, and the smallest p it can give.

    Examples
    --------
    >>> sign_flip_test([0.3, 0.5, 0.2])
    (0.25, 0.25)
    """
    d = np.asarray(differences, dtype=float)
    n = len(d)
    if n == 0:
        return np.nan, np.nan
    if 2**n <= _MOST_PERMUTATIONS:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        drawn = np.random.default_rng(0).choice([-1.0, 1.0], (_MOST_PERMUTATIONS, n))
        signs = np.vstack([np.ones(n), drawn])
    return _share_as_extreme(signs @ d), 2.0 ** (1 - n)


def permutation_test(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """Exact two-sided permutation test of two means, and the smallest p it can give.

    Examples
    --------
    >>> permutation_test([1, 2, 3], [4, 5, 6])
    (0.1, 0.1)
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(a) == 0 or len(b) == 0:
        return np.nan, np.nan
    both = np.concatenate([a, b])
    ways = math.comb(len(both), len(a))
    if ways <= _MOST_PERMUTATIONS:
        chosen = np.array(list(itertools.combinations(range(len(both)), len(a))))
    else:
        rng = np.random.default_rng(0)
        drawn = rng.permuted(np.tile(np.arange(len(both)), (_MOST_PERMUTATIONS, 1)), axis=1)
        chosen = np.vstack([np.arange(len(a)), drawn[:, : len(a)]])
    sums = both[chosen].sum(axis=1)
    difference = sums / len(a) - (both.sum() - sums) / len(b)
    # with equal arms each split has a mirror image that is as extreme
    return _share_as_extreme(difference), (2 if len(a) == len(b) else 1) / ways


def _share_as_extreme(statistic: Array) -> float:
    """Two-sided p: the first entry is the observed one; ties count, rounding apart."""
    size = np.abs(statistic)
    return float(np.mean(size >= size[0] * (1 - 1e-9) - 1e-15))


def _check(table: pd.DataFrame) -> pd.DataFrame:
    for level in ("cell", "islet", "image"):
        if level in table.columns:
            raise IsletImagingError(
                f"this table has one row per {level}; a {level} is not a replicate. Compare "
                "batches: pass the summary, or its batches table"
            )
    needed = ("condition", "batch", "marker", "n_cells", "fraction")
    missing = [c for c in needed if c not in table.columns]
    if missing:
        raise IsletImagingError(f"the batches table has no column {missing[0]!r}")
    table = table[list(needed)].copy()
    for column in ("condition", "batch", "marker"):
        table[column] = text(table[column])
    if table.duplicated(["condition", "batch", "marker"]).any():
        raise IsletImagingError(
            "a batch occurs twice for one condition and marker; rows must be batches, not parts"
        )
    if table["batch"].isin(["", UNKNOWN_BATCH]).any():
        raise NotEstimableError(
            "batches are not stated, so conditions cannot be compared: fill in the column `batch` "
            "of the sample sheet (one name per differentiation)"
        )
    table = table[table["n_cells"] > 0]
    return table.assign(n_positive=table["n_cells"] * table["fraction"])


def _compare(
    reference: pd.DataFrame, other: pd.DataFrame, design: Design, level: float
) -> dict[str, object]:
    notes = []
    open_ones = [int(t["fraction"].isna().sum()) for t in (reference, other)]
    for table, n in zip((reference, other), open_ones, strict=True):
        if len(table) and not enough(len(table) - n, len(table)):
            return {"note": f"refused: not estimable in {n} of {len(table)} batches"}
    if any(open_ones):
        notes.append(f"{sum(open_ones)} batch(es) that are not estimable are left out")
        reference, other = (t[t["fraction"].notna()] for t in (reference, other))
    shared = sorted(set(reference["batch"]) & set(other["batch"]))
    paired = design == "paired" or (design == "auto" and len(shared) >= 2)
    if paired:
        dropped = len(set(reference["batch"]) ^ set(other["batch"]))
        if dropped:
            notes.append(f"{dropped} batch(es) under one condition only are left out of the pairs")
        reference = reference.set_index("batch").loc[shared]
        other = other.set_index("batch").loc[shared]
    elif shared:
        notes.append(f"{len(shared)} batch(es) are shared: an unpaired test wastes that")
    a, b = len(reference), len(other)
    row: dict[str, object] = {
        "design": "paired" if paired else "unpaired",
        "n_batches": b,
        "n_reference": a,
        "fraction": other["fraction"].mean(),
        "fraction_reference": reference["fraction"].mean(),
        "effect_pp": 100 * (other["fraction"].mean() - reference["fraction"].mean()),
    }
    if min(a, b) < 2:
        notes.append("fewer than two batches: no test is possible")
        return row | {"note": "; ".join(notes)}
    counts = [
        t[c].to_numpy(dtype=float) for t in (reference, other) for c in ("n_positive", "n_cells")
    ]
    row |= dataclasses.asdict(t_comparison(*counts, paired=paired, level=level))
    x, y = batch_logits(*counts[:2]), batch_logits(*counts[2:])
    permuted = sign_flip_test(y - x) if paired else permutation_test(x, y)
    if permuted[1] > 1 - level:
        notes.append(f"{min(a, b)} batches: the exact test cannot go below p = {permuted[1]:.2g}")
    return row | {
        "p_permutation": permuted[0],
        "p_permutation_floor": permuted[1],
        "note": "; ".join(notes),
    }


def _one_sample(d: Array) -> tuple[float, float, float]:
    return float(d.mean()), float(d.std(ddof=1) / np.sqrt(len(d))), len(d) - 1.0


def _welch(x: Array, y: Array) -> tuple[float, float, float]:
    a, b = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    se = float(np.sqrt(a + b))
    below = a**2 / (len(x) - 1) + b**2 / (len(y) - 1)
    df = (a + b) ** 2 / below if below > 0 else len(x) + len(y) - 2.0
    return float(y.mean() - x.mean()), se, float(df)
