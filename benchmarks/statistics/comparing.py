"""False positives of comparisons without a difference, coverage and power with one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from nested import World, per_batch
from nested import draw as draw_one
from numpy.typing import NDArray
from scipy import special, stats
from worlds import Population, draw

from islet_imaging.statistics import (
    batches_for_difference,
    batches_for_fractions,
    permutation_test,
    sign_flip_test,
)
from islet_imaging.statistics.difference import arm, difference

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """Two conditions: batches of each, of which some are shared, with what correlation."""

    design: str
    reference: Population
    other: Population
    n_reference: int
    n: int
    shared: int = 0
    correlation: float = 0.0


def settings() -> list[Setting]:
    """Every cell of the null: equal means, all else as unequal as it comes."""
    found = []
    unequal = ((3, 10), (10, 3), (3, 3), (4, 6))
    for mean in (0.005, 0.1, 0.5, 0.95):
        for first, second in ((0.005, 0.15), (0.05, 0.05)):
            for sizes in unequal[: 4 if first != second else 3]:
                a, b = Population(mean, first), Population(mean, second)
                found.append(Setting("unpaired", a, b, *sizes))
    a = Population(0.5, 0.15)
    found += [Setting("unpaired", a, a, *sizes) for sizes in ((3, 3), (2, 8), (10, 10))]
    for mean in (0.02, 0.1, 0.4):
        for first, second in ((0.05, 0.05), (0.005, 0.15)):
            for correlation, n in ((0.0, 3), (0.8, 3), (0.8, 6)):
                a, b = Population(mean, first), Population(mean, second)
                found.append(Setting("paired", a, b, n, n, n, correlation))
    for mean in (0.1, 0.4):
        for sizes in ((6, 6, 2), (8, 5, 4)):
            a, b = Population(mean, 0.005), Population(mean, 0.15)
            found.append(Setting("partly paired", a, b, *sizes, correlation=0.8))
    for mean in (0.05, 0.4):
        a = Population(mean, 0.03, failed=0.2)
        found.append(Setting("unpaired, a fifth failed", a, a, 3, 6))
        found.append(Setting("paired, a fifth failed", a, a, 6, 6, 6, 0.8))
    a = Population(0.2, 0.05, empty=0.2, family="logit-normal")
    found.append(Setting("unpaired, a fifth empty, logit-normal", a, a, 6, 6))
    b = replace(a, empty=0.0, icc=0.15)
    found.append(Setting("unpaired, logit-normal", replace(a, empty=0.0), b, 5, 8))
    return found


def experiments(rng: np.random.Generator, s: Setting, runs: int) -> tuple[Array, ...]:
    """Counts of both conditions, shared batches first."""
    z = rng.normal(size=(runs, s.n_reference))
    other = rng.normal(size=(runs, s.n))
    c = s.correlation
    other[:, : s.shared] = c * z[:, : s.shared] + np.sqrt(1 - c**2) * other[:, : s.shared]
    return (
        *draw(rng, s.reference, runs, s.n_reference, ranks=z),
        *draw(rng, s.other, runs, s.n, ranks=other),
    )


def under_the_null(seed: int, runs: int) -> pd.DataFrame:
    """Share of experiments whose interval leaves out 0, beside the t tests of textbooks."""
    return pd.DataFrame(
        [null_row(np.random.default_rng([seed, i]), s, runs) for i, s in enumerate(settings())]
    )


def null_row(rng: np.random.Generator, s: Setting, runs: int) -> dict[str, object]:
    """One cell of the null."""
    k0, n0, k1, n1 = experiments(rng, s, runs)
    usable = ((n0 > 0).sum(axis=1) >= 2) & ((n1 > 0).sum(axis=1) >= 2)
    k0, n0, k1, n1 = (x[usable] for x in (k0, n0, k1, n1))
    low, high = difference(arm(k0, n0), arm(k1, n1), shared=s.shared).limits(0.025)
    found = {
        "false_positives_%": (low > 0) | (high < 0),
        "t_on_logits_%": _textbook(k0, n0, k1, n1, s, logits=True),
        "t_on_fractions_%": _textbook(k0, n0, k1, n1, s, logits=False),
    }
    return (
        _facts(s, len(k0))
        | {name: 100 * float(np.mean(hit)) for name, hit in found.items()}
        | {"width_pp": 100 * float(np.mean(high - low))}
    )


def with_an_effect(seed: int, runs: int) -> pd.DataFrame:
    """Coverage of the difference and power, where there is one."""
    cells = []
    for first, second in ((0.02, 0.08), (0.1, 0.25), (0.4, 0.55), (0.97, 0.9)):
        for icc in (0.03,):
            a, b = Population(first, icc), Population(second, icc)
            cells += [Setting("unpaired", a, b, n, m) for n, m in ((3, 3), (4, 8))]
            cells += [Setting("paired", a, b, n, n, n, 0.8) for n in (3, 5, 10)]
            cells += [Setting("partly paired", a, b, 6, 5, 4, 0.8)]
    rows = []
    for s in cells:
        rng = np.random.default_rng([seed, len(rows)])
        k0, n0, k1, n1 = experiments(rng, s, runs)
        low, high = difference(arm(k0, n0), arm(k1, n1), shared=s.shared).limits(0.025)
        true = s.other.truth - s.reference.truth
        rows.append(
            _facts(s, runs)
            | {
                "difference_pp": 100 * true,
                "coverage_%": 100 * float(np.mean((low <= true) & (true <= high))),
                "power_%": 100 * float(np.mean((low > 0) | (high < 0))),
                "power_of_t_on_fractions_%": 100
                * float(np.mean(_textbook(k0, n0, k1, n1, s, logits=False))),
                "width_pp": 100 * float(np.mean(high - low)),
            }
        )
    return pd.DataFrame(rows)


def planned(seed: int, runs: int) -> pd.DataFrame:
    """Batches for a power of 80 %, by the t test and by trying, and what they reach in truth."""
    rows = []
    for first, second in ((0.01, 0.05), (0.02, 0.08), (0.05, 0.15), (0.1, 0.25), (0.4, 0.55)):
        for paired in (False, True):
            a, b = Population(first, 0.03), Population(second, 0.03)
            spread = [p * (1 - p) * (0.03 + 0.97 * (1 + 99 * 0.08) / 1000) for p in (first, second)]
            sd = 100 * np.sqrt(np.mean(spread) * (2 * (1 - 0.8) if paired else 1))
            by_t = batches_for_difference(100 * (second - first), sd_pp=sd, paired=paired)
            n = batches_for_fractions(second, first, islets=10, paired=paired)
            reached = []
            for batches in (by_t, n):
                s = Setting(
                    "paired" if paired else "unpaired", a, b, batches, batches,
                    batches if paired else 0, 0.8 if paired else 0.0,
                )  # fmt: skip
                k0, n0, k1, n1 = experiments(np.random.default_rng([seed, len(rows)]), s, runs)
                low, _ = difference(arm(k0, n0), arm(k1, n1), shared=s.shared).limits(0.025)
                reached.append(100 * float(np.mean(low > 0)))
            rows.append(
                {
                    "from_%": 100 * first,
                    "to_%": 100 * second,
                    "paired": paired,
                    "batches_by_t": by_t,
                    "power_there_%": reached[0],
                    "batches_for_fractions": n,
                    "power_there_too_%": reached[1],
                    "runs": runs,
                }
            )
    return pd.DataFrame(rows)


def _facts(s: Setting, runs: int) -> dict[str, object]:
    return {
        "design": s.design,
        "mean_%": 100 * s.reference.mean,
        "icc_reference": s.reference.icc,
        "icc": s.other.icc,
        "n_reference": s.n_reference,
        "n": s.n,
        "shared": s.shared,
        "correlation": s.correlation,
        "runs": runs,
    }


def _textbook(k0: Array, n0: Array, k1: Array, n1: Array, s: Setting, *, logits: bool) -> Array:
    """Whether the paired t test (all shared) or Welch's finds a difference."""

    def scale(k: Array, n: Array) -> Array:
        with np.errstate(invalid="ignore"):
            x = np.log((k + 0.5) / (n - k + 0.5)) if logits else k / n
        return np.where(n > 0, x, np.nan)

    x, y = scale(k0, n0), scale(k1, n1)
    if s.shared == s.n == s.n_reference:
        d = y - x
        count = np.isfinite(d).sum(axis=1)
        se2, df = np.nanvar(d, axis=1, ddof=1) / count, count - 1.0
        gap = np.nanmean(d, axis=1)
    else:
        parts, gap = [], np.nanmean(y, axis=1) - np.nanmean(x, axis=1)
        for v in (x, y):
            count = np.isfinite(v).sum(axis=1)
            parts.append((np.nanvar(v, axis=1, ddof=1) / count, count - 1))
        se2 = parts[0][0] + parts[1][0]
        below = sum(v**2 / f for v, f in parts)
        df = np.where(below > 0, se2**2 / np.maximum(below, 1e-300), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * special.stdtr(df, -np.abs(gap) / np.sqrt(se2))
    return np.asarray(p < 0.05)


def units(seed: int, runs: int) -> pd.DataFrame:
    """The same null comparison with cells, islets and batches as n, and by permutation."""
    world = World("typical", 0.35, 0.47)
    rows = []
    for batches in (3, 4, 6):
        rng = np.random.default_rng([seed, batches])
        found = np.zeros(5)
        for _ in range(runs):
            (k0, n0, g0), (k1, n1, g1) = (
                draw_one(rng, world, 0.43, batches, cells=150, unequal=False) for _ in range(2)
            )
            cells = stats.contingency.chi2_contingency(
                [[k0.sum(), (n0 - k0).sum()], [k1.sum(), (n1 - k1).sum()]]
            ).pvalue
            islets = stats.ttest_ind(k0 / n0, k1 / n1).pvalue
            a, b = arm(*per_batch(k0, n0, g0)), arm(*per_batch(k1, n1, g1))
            low, high = difference(a, b).limits(0.025)
            found += [
                cells < 0.05,
                islets < 0.05,
                bool(low > 0 or high < 0),
                permutation_test(a.fractions, b.fractions, studentised=True)[0] < 0.05,
                sign_flip_test(b.fractions - a.fractions)[0] < 0.05,
            ]
        names = ("cells", "islets", "batches", "permutation", "sign_flip")
        rows.append(
            {"batches": batches, "runs": runs}
            | {f"{name}_%": 100 * f / runs for name, f in zip(names, found, strict=True)}
        )
    return pd.DataFrame(rows)
