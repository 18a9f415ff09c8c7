"""Worlds that the intervals and tests are tried in, many experiments at once.

Cells are beta-binomial within islets, islets scatter within batches, batches around the mean; a
batch's mean is beta distributed, or normal on the logit scale, or fails: with a chance of a fifth
it reaches a tenth of what it should, at most 2 %.  Sizes of islets, and their number, differ.
The truth is the mean fraction over all batches that could have been made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """What batches are drawn from.

    ``icc`` is the correlation of cells of a batch, ``islet_icc`` of an islet within its batch;
    ``failed`` the share of batches that fail, ``empty`` that of batches without a counted cell.
    """

    mean: float
    icc: float
    islet_icc: float = 0.08
    family: str = "beta"
    failed: float = 0.0
    empty: float = 0.0
    islets: int = 10
    cells: float = 100.0

    @property
    def failed_mean(self) -> float:
        """Mean fraction of batches that failed."""
        return min(0.02, self.mean / 10)

    @property
    def truth(self) -> float:
        """Mean over all batches, failed ones included."""
        return (1 - self.failed) * self.mean + self.failed * self.failed_mean


@cache
def _logit_normal(mean: float, icc: float) -> tuple[float, float]:
    """Centre and SD on the logit scale for a mean and an intraclass correlation."""
    u = np.linspace(-8, 8, 1601)
    w = np.exp(-0.5 * u**2)
    w /= w.sum()

    def centre(sd: float) -> float:
        return float(optimize.brentq(lambda m: w @ special.expit(m + sd * u) - mean, -80, 80))

    def excess(sd: float) -> float:
        p = special.expit(centre(sd) + sd * u)
        return float(w @ p**2 - mean**2 - icc * mean * (1 - mean))

    sd = float(optimize.brentq(excess, 1e-3, 15))
    return centre(sd), sd


def batch_means(z: Array, population: Population) -> Array:
    """True fractions of batches whose standard normal ranks are ``z``."""
    if population.family == "beta":
        size = 1 / population.icc - 1
        a, b = population.mean * size, (1 - population.mean) * size
        return np.asarray(special.betaincinv(a, b, special.ndtr(z)))
    centre, sd = _logit_normal(population.mean, population.icc)
    return np.asarray(special.expit(centre + sd * z))


def draw(
    rng: np.random.Generator,
    population: Population,
    runs: int,
    batches: int,
    *,
    ranks: Array | None = None,
) -> tuple[Array, Array]:
    """Positives and cells of every batch of ``runs`` experiments, shape (runs, batches)."""
    k, n = draw_islets(rng, population, runs, batches, ranks=ranks)
    return k.sum(axis=-1), n.sum(axis=-1)


def draw_islets(
    rng: np.random.Generator,
    population: Population,
    runs: int,
    batches: int,
    *,
    ranks: Array | None = None,
) -> tuple[Array, Array]:
    """The same by islet, shape (runs, batches, islets); islets that are not there have 0 cells."""
    shape = (runs, batches)
    p = batch_means(rng.normal(size=shape) if ranks is None else ranks, population)
    if population.failed:
        bad = rng.random(shape) < population.failed
        p = np.where(bad, p * population.failed_mean / population.mean, p)
    low, high = max(population.islets // 3, 2), population.islets * 5 // 3
    number = rng.integers(low, high + 1, shape)
    size = np.round(population.cells * rng.lognormal(-0.18, 0.6, (*shape, high)))
    size = np.maximum(size, 10) * (np.arange(high) < number[..., None])
    if population.empty:
        size *= (rng.random(shape) >= population.empty)[..., None]
    spread = 1 / population.islet_icc - 1
    tiny = 1e-9
    share = rng.beta(
        np.maximum(p[..., None] * spread, tiny),
        np.maximum((1 - p[..., None]) * spread, tiny),
        size.shape,
    )
    return rng.binomial(size.astype(int), np.nan_to_num(share)).astype(float), size
