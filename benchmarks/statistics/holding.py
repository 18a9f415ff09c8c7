"""Where the interval over batches holds, and where it says that it cannot be trusted.

Of each cell: how many intervals print a caution, how many of the others hold the truth, and what
is said where that is not 92 to 98 %.  An interval is printed or cautioned by what its own counts
show; a share of experiments below 5 % is too few to speak of, and its wrong ones stand beside.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from worlds import Population, draw

from islet_imaging.statistics.batch_model import mean_limits
from islet_imaging.statistics.intervals import WIDE_LOGITS
from islet_imaging.statistics.outliers import outlying

MEANS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.95, 0.99)
ICCS = (0.005, 0.05, 0.15)
BATCHES = (2, 3, 4, 5, 10)
#: least share of experiments, percent, of which anything is said
LEAST = 5.0

#: worlds beside the grid: other shapes, sizes and mishaps
OTHERS: dict[str, list[Population]] = {
    "logit-normal": [
        Population(m, i, family="logit-normal") for m in (0.01, 0.05, 0.2) for i in (0.02, 0.15)
    ],
    "few islets, tight": [Population(0.1, 0.03, 0.2, islets=3, cells=40)],
    "many large islets": [Population(0.3, 0.03, 0.02, islets=25, cells=300)],
    "a fifth of the batches empty": [Population(0.1, 0.05, empty=0.2)],
    "a fifth of the batches failed": [
        Population(m, i, failed=0.2) for m in (0.05, 0.3, 0.6, 0.9) for i in (0.01, 0.05)
    ],
}


def cells() -> list[tuple[str, Population, int]]:
    """World, population and number of batches of every cell."""
    found = [("beta", Population(m, i), b) for m in MEANS for i in ICCS for b in BATCHES]
    return found + [
        (name, p, b)
        for name, populations in OTHERS.items()
        for p in populations
        for b in BATCHES[1:]
    ]


def intervals(seed: int, runs: int) -> pd.DataFrame:
    """Coverage where no caution is printed; how often one is; all-zero experiments apart."""
    return pd.DataFrame(
        [cell(np.random.default_rng([seed, i]), *c, runs) for i, c in enumerate(cells())]
    )


def cell(
    rng: np.random.Generator, world: str, population: Population, batches: int, runs: int
) -> dict[str, object]:
    k, n = draw(rng, population, runs, batches)
    seen = (n > 0).sum(axis=1)
    k, n, seen = k[seen >= 2], n[seen >= 2], seen[seen >= 2]
    found = mean_limits(k, n)
    low, high = found.low, found.high
    bound = (k.sum(axis=1) == 0) | (k == n).all(axis=1)
    caution = ~bound & (outlying(k, n).any(axis=1) | (seen == 2) | (found.width > WIDE_LOGITS))
    plain = ~bound & ~caution
    wide = plain & ((found.lowered > 0) | (seen == 3))
    # where batches can fail, the note goes on to what the mean over all may be
    low_of_all = 0.025 ** (1 / seen) * low if population.failed else low
    hit = (low_of_all <= population.truth) & (population.truth <= high)

    def share(of: np.ndarray, where: np.ndarray) -> float:
        return 100 * float(of[where].mean()) if 100 * where.mean() >= LEAST else np.nan

    row: dict[str, object] = {
        "world": world,
        "mean_%": 100 * population.truth,
        "icc": population.icc,
        "batches": batches,
        "runs": len(k),
        "no_caution_%": 100 * plain.mean(),
        "coverage_%": share(hit, plain),
        "wide_by_design_%": share(wide, plain),
        "wrong_without_caution_%": 100 * (plain & ~hit).mean(),
        "coverage_with_cautioned_%": share(hit, ~bound),
        "of_batches_like_these_%": share(
            (low <= population.mean) & (population.mean <= high), plain
        )
        if population.failed
        else np.nan,
        "none_or_all_%": 100 * bound.mean(),
        "bound_holds_%": share(hit, bound),
        "width_pp": 100 * float((high - low)[plain].mean()) if plain.any() else np.nan,
    }
    return row | {"verdict": verdict(row, failed=bool(population.failed))}


def verdict(row: dict[str, object], *, failed: bool) -> str:
    """What a cell shows: it holds, or says what it does instead."""
    coverage, wide = float(row["coverage_%"]), float(row["wide_by_design_%"])
    if coverage != coverage:
        return "cautioned"
    if coverage < 92:
        return "MISSED"
    if coverage <= 98:
        return "holds"
    return "wide, and says so" if failed or wide >= 50 else "WIDE"
