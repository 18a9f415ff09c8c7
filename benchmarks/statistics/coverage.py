"""Coverage of nominal 95 % intervals, ours beside the usual ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from nested import WORLDS, World, draw, per_batch
from numpy.typing import NDArray
from scipy import special

from islet_imaging.statistics import batch_interval, islet_interval

Array = NDArray[np.float64]
FRACTIONS = (0.02, 0.05, 0.2, 0.43, 0.8)


def bootstrap(k: Array, n: Array, rng: np.random.Generator) -> tuple[float, float]:
    """Percentile bootstrap of the ratio over units (islets, or batches)."""
    pick = rng.integers(0, len(k), (400, len(k)))
    low, high = np.quantile(k[pick].sum(axis=1) / n[pick].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def linearised(k: Array, n: Array) -> tuple[float, float]:
    """Linearised ratio on the logit scale, t on I - 1."""
    m, p = len(k), (k.sum() + 0.5) / (n.sum() + 1)
    se = np.sqrt(m / (m - 1) * np.sum((k - k.sum() / n.sum() * n) ** 2)) / n.sum() / (p * (1 - p))
    half = special.stdtrit(m - 1, 0.975) * se
    low, high = special.expit([special.logit(p) - half, special.logit(p) + half])
    return float(low), float(high)


def bootstraps(seed: int, runs: int) -> pd.DataFrame:
    """The usual bootstraps in the typical world at 43 %."""
    world = next(w for w in WORLDS if w.name == "typical")
    rows = []
    for batches in (3, 4, 6, 10):
        rng = np.random.default_rng([seed, batches])
        hits = np.zeros(3)
        for _ in range(runs):
            k, n, group = draw(rng, world, 0.43, batches, cells=150, unequal=False)
            kb, nb = per_batch(k, n, group)
            i = batch_interval(kb, nb)
            limits = ((i.low, i.high), bootstrap(kb, nb, rng), bootstrap(k, n, rng))
            hits += [low <= 0.43 <= high for low, high in limits]
        rows.append(
            {
                "batches": batches,
                "batch_interval_%": 100 * hits[0] / runs,
                "bootstrap_over_batches_%": 100 * hits[1] / runs,
                "bootstrap_over_islets_%": 100 * hits[2] / runs,
            }
        )
    return pd.DataFrame(rows)


def within_one_batch(seed: int, runs: int) -> pd.DataFrame:
    rows = []
    for world in WORLDS:
        alone = World(world.name, 0.0, world.islet_sd, world.family)
        for fraction in FRACTIONS:
            for islets in (5, 10, 20, 40):
                rng = np.random.default_rng([seed, islets, int(1000 * fraction), len(rows)])
                hits = np.zeros(3)
                for _ in range(runs):
                    k, n, _ = _one_batch(rng, alone, fraction, islets)
                    i = islet_interval(k, n)
                    limits = ((i.low, i.high), linearised(k, n), bootstrap(k, n, rng))
                    hits += [low <= fraction <= high for low, high in limits]
                rows.append(
                    {
                        "world": world.name,
                        "fraction_%": 100 * fraction,
                        "islets": islets,
                        "runs": runs,
                        "islet_interval_%": 100 * hits[0] / runs,
                        "linearised_t_%": 100 * hits[1] / runs,
                        "bootstrap_%": 100 * hits[2] / runs,
                    }
                )
    return pd.DataFrame(rows)


def _one_batch(
    rng: np.random.Generator, world: World, fraction: float, islets: int
) -> tuple[Array, Array, Array]:
    if world.family == "beta":
        # the batch itself sits exactly at the fraction
        nu = max(1 / (world.islet_sd**2 * fraction * (1 - fraction)) - 1, 0.2)
        share = rng.beta(fraction * nu, (1 - fraction) * nu, islets)
        n = np.maximum(np.round(120 * rng.lognormal(-0.18, 0.6, islets)), 10)
        return rng.binomial(n.astype(int), share).astype(float), n, n * 0
    return draw(rng, world, fraction, 1, islets=islets, unequal=False)
