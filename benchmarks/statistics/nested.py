"""The world the statistics are tried in: cells in islets in batches, with known truth.

A batch's mean and an islet's departure from it are drawn either normal on the logit scale or from
beta distributions; islets have log-normal sizes and batches unequal numbers of islets; cells are
binomial.  The truth is the mean fraction over the population of batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Array = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Mean fraction, SD between batches and of islets (logit units), and the family of draws."""

    name: str
    batch_sd: float
    islet_sd: float
    family: str = "logit-normal"


# at a fraction of 43 % the middle world is the one of an SD of 8 points between batches and 11
# points between islets of a batch
WORLDS = (
    World("calm", 0.15, 0.25),
    World("typical", 0.35, 0.47),
    World("wild", 0.8, 0.9),
    World("typical, beta", 0.35, 0.47, "beta"),
    World("wild, beta", 0.8, 0.9, "beta"),
)


@cache
def intercept(fraction: float, sd: float) -> float:
    """The logit intercept for which a normal effect of that SD gives the mean fraction."""
    u = np.linspace(-8, 8, 2001)
    w = np.exp(-0.5 * u**2)
    w /= w.sum()
    return float(optimize.brentq(lambda m: w @ special.expit(m + sd * u) - fraction, -20, 20))


def draw(
    rng: np.random.Generator,
    world: World,
    fraction: float,
    batches: int,
    *,
    islets: int = 10,
    cells: float = 120.0,
    batch_effect: Array | None = None,
    unequal: bool = True,
) -> tuple[Array, Array, Array]:
    """One experiment: positives, cells and batch number of every islet.

    ``batch_effect`` (logit units) is given where batches are shared between conditions.
    """
    size = np.full(batches, islets)
    if unequal:
        size = rng.integers(max(islets // 2, 2), islets + islets // 2 + 1, batches)
    group = np.repeat(np.arange(batches), size)
    if world.family == "beta":
        spread = fraction * (1 - fraction)
        # SDs on the logit scale, translated to the scale of fractions by the slope p (1 - p)
        nu = max(1 / (world.batch_sd**2 * spread) - 1, 0.2)
        p = np.clip(rng.beta(fraction * nu, (1 - fraction) * nu, batches), 1e-5, 1 - 1e-5)
        nu = max(1 / (world.islet_sd**2 * spread) - 1, 0.2)
        share = rng.beta(p[group] * nu, (1 - p[group]) * nu)
    else:
        effect = rng.normal(0, world.batch_sd, batches) if batch_effect is None else batch_effect
        total = float(np.hypot(world.batch_sd, world.islet_sd))
        logit = intercept(fraction, total) + effect[group]
        share = special.expit(logit + rng.normal(0, world.islet_sd, len(group)))
    n = np.maximum(np.round(cells * rng.lognormal(-0.18, 0.6, len(group))), 10)
    k = rng.binomial(n.astype(int), share)
    return k.astype(float), n, group


def per_batch(k: Array, n: Array, group: NDArray[np.intp]) -> tuple[Array, Array]:
    """Sums over batches."""
    return np.bincount(group, weights=k), np.bincount(group, weights=n)
