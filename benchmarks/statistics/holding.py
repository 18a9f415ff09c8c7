"""Where the interval over batches holds, and where it says that it cannot be trusted."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special
from worlds import Population, draw

from islet_imaging.statistics.batch_model import mean_distribution
from islet_imaging.statistics.intervals import WIDE_LOGITS
from islet_imaging.statistics.outliers import outlying

MEANS = (0.005, 0.02, 0.1, 0.5, 0.99)
ICCS = (0.005, 0.15)
BATCHES = (2, 3, 5, 10)

#: worlds beside the grid: other shapes, sizes and mishaps
OTHERS: dict[str, list[Population]] = {
    "logit-normal": [
        Population(m, i, family="logit-normal") for m in (0.01, 0.2) for i in (0.02, 0.15)
    ],
    "few islets, tight": [Population(0.1, 0.03, 0.2, islets=3, cells=40)],
    "many large islets": [Population(0.3, 0.03, 0.02, islets=25, cells=300)],
    "a fifth of the batches empty": [Population(0.1, 0.05, empty=0.2)],
    "a fifth of the batches failed": [Population(m, 0.03, failed=0.2) for m in (0.05, 0.3, 0.6)],
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
    """Coverage where the interval is trusted; how often it is not; all-zero experiments apart."""
    return pd.DataFrame(
        [cell(np.random.default_rng([seed, i]), *c, runs) for i, c in enumerate(cells())]
    )


def cell(
    rng: np.random.Generator, world: str, population: Population, batches: int, runs: int
) -> dict[str, object]:
    k, n = draw(rng, population, runs, batches)
    kept = (n > 0).sum(axis=1) >= 2
    k, n = k[kept], n[kept]
    found = mean_distribution(k, n)
    with np.errstate(invalid="ignore"):
        plain = np.nanmean(np.where(n > 0, k / n, np.nan), axis=1)
    none, every = k.sum(axis=1) == 0, (k == n).all(axis=1)
    low = np.where(none, 0.0, np.minimum(found.quantile(0.025), plain))
    high = np.where(every, 1.0, np.maximum(found.quantile(0.975), plain))
    doubt = (
        outlying(k, n).any(axis=1)
        | ((n > 0).sum(axis=1) == 2)
        | (special.logit(high) - special.logit(low) > WIDE_LOGITS)
    )
    truth = population.truth
    hit = (low <= truth) & (truth <= high)
    # what an interval without a failed batch claims, and what it adds on failures unseen
    like_these = (low <= population.mean) & (population.mean <= high)
    unseen = 1 - 0.025 ** (1 / (n > 0).sum(axis=1))
    whole = ((1 - unseen) * low <= truth) & (truth <= high)
    bound = none | every
    trusted = ~doubt & ~bound

    def share(of: np.ndarray, where: np.ndarray) -> float:
        # a share of few runs is no measurement
        return 100 * float(of[where].mean()) if where.sum() >= 100 else np.nan

    return {
        "world": world,
        "mean_%": 100 * truth,
        "icc": population.icc,
        "batches": batches,
        "runs": len(k),
        "trusted_%": 100 * trusted.mean(),
        "coverage_trusted_%": share(hit, trusted),
        "coverage_all_%": 100 * hit.mean(),
        "like_these_%": share(like_these, trusted) if population.failed else np.nan,
        "with_unseen_failures_%": share(whole, trusted) if population.failed else np.nan,
        "none_or_all_%": 100 * bound.mean(),
        "bound_holds_%": share(hit, bound),
        "width_pp": 100 * float((high - low)[trusted].mean()) if trusted.any() else np.nan,
    }
