"""False positives of comparisons under the null, power, and coverage of the effect."""

from __future__ import annotations

import numpy as np
import pandas as pd
from nested import World, draw, per_batch
from scipy import stats

from islet_imaging.statistics import permutation_test, sign_flip_test
from islet_imaging.statistics.comparison import t_comparison
from islet_imaging.statistics.intervals import batch_logits

#: SD shared by the two conditions of a batch, SD of a condition within a batch, SD of islets
SETTINGS = {"calm": (0.12, 0.08, 0.25), "typical": (0.30, 0.20, 0.47), "wild": (0.70, 0.40, 0.9)}


def under_the_null(seed: int, runs: int) -> pd.DataFrame:
    return _table(seed, runs, effect=False)


def with_an_effect(seed: int, runs: int) -> pd.DataFrame:
    return _table(seed, runs, effect=True)


def _table(seed: int, runs: int, *, effect: bool) -> pd.DataFrame:
    rows = []
    for name, (shared, own, islet) in SETTINGS.items():
        world = World(name, float(np.hypot(shared, own)), islet)
        for fraction in (0.05, 0.2, 0.43, 0.8):
            other = fraction
            if effect:
                other = fraction + min(0.15, fraction * 0.6, (1 - fraction) / 2)
            for batches in (3, 4, 6, 10):
                rng = np.random.default_rng([seed, batches, int(1000 * fraction), len(rows)])
                found = np.zeros((2, 2))
                for _ in range(runs):
                    for j, paired in enumerate((True, False)):
                        s = rng.normal(0, shared, (2, batches))
                        s[1] = s[0] if paired else s[1]
                        s = s + rng.normal(0, own, (2, batches))
                        a = per_batch(*draw(rng, world, fraction, batches, batch_effect=s[0]))
                        b = per_batch(*draw(rng, world, other, batches, batch_effect=s[1]))
                        c = t_comparison(*a, *b, paired=paired)
                        true = 100 * (other - fraction)
                        found[j] += (c.p < 0.05, c.effect_low_pp <= true <= c.effect_high_pp)
                share = 100 * found / runs
                word = "power" if effect else "false_positives"
                rows.append(
                    {
                        "setting": name,
                        "fraction_%": 100 * fraction,
                        "difference_pp": 100 * (other - fraction),
                        "batches": batches,
                        "runs": runs,
                        f"paired_{word}_%": share[0, 0],
                        f"unpaired_{word}_%": share[1, 0],
                        "paired_effect_coverage_%": share[0, 1],
                        "unpaired_effect_coverage_%": share[1, 1],
                    }
                )
    return pd.DataFrame(rows)


def units(seed: int, runs: int) -> pd.DataFrame:
    """The same null comparison with cells, islets and batches as n, and by permutation."""
    world = World("typical", 0.35, 0.47)
    rows = []
    for batches in (3, 4, 6):
        rng = np.random.default_rng([seed, batches])
        found = np.zeros(5)
        for _ in range(runs):
            (k0, n0, g0), (k1, n1, g1) = (
                draw(rng, world, 0.43, batches, cells=150, unequal=False) for _ in range(2)
            )
            cells = stats.contingency.chi2_contingency(
                [[k0.sum(), (n0 - k0).sum()], [k1.sum(), (n1 - k1).sum()]]
            ).pvalue
            islets = stats.ttest_ind(k0 / n0, k1 / n1).pvalue
            a, b = per_batch(k0, n0, g0), per_batch(k1, n1, g1)
            x, y = batch_logits(*a), batch_logits(*b)
            found += [
                cells < 0.05,
                islets < 0.05,
                t_comparison(*a, *b, paired=False).p < 0.05,
                permutation_test(x, y)[0] < 0.05,
                sign_flip_test(y - x)[0] < 0.05,
            ]
        names = ("cells", "islets", "batches", "permutation", "sign_flip")
        rows.append(
            {"batches": batches, "runs": runs}
            | {f"{name}_%": 100 * f / runs for name, f in zip(names, found, strict=True)}
        )
    return pd.DataFrame(rows)
