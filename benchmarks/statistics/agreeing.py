"""Coverage of the interval of kappa over islets where errors gather in islets."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from islet_imaging.statistics import cohen_kappa
from islet_imaging.statistics.raters import kappa_of

Array = NDArray[np.float64]

#: share of positive cells, share of errors, correlation of errors within an islet
WORLDS = ((0.4, 0.08, 0.15), (0.4, 0.03, 0.05), (0.1, 0.05, 0.1), (0.8, 0.15, 0.02),
          (0.3, 0.1, 0.3), (0.6, 0.02, 0.2), (0.03, 0.02, 0.1), (0.05, 0.01, 0.1),
          (0.2, 0.03, 0.05), (0.5, 0.05, 0.02), (0.9, 0.04, 0.1), (0.02, 0.03, 0.05),
          (0.5, 0.2, 0.1), (0.15, 0.02, 0.3))  # fmt: skip


def tables(rng: np.random.Generator, islets: int, share: float, error: float, icc: float) -> Array:
    """Cells that both, only the first, only the second and none calls positive, by islet."""
    size = np.maximum(np.round(80 * rng.lognormal(-0.18, 0.6, islets)), 8).astype(int)
    own = 1 / 0.08 - 1
    positive = rng.binomial(size, rng.beta(share * own, (1 - share) * own, islets))
    spread = 1 / icc - 1
    wrong = rng.beta(error * spread, (1 - error) * spread, islets)
    missed = rng.binomial(positive, wrong)
    added = rng.binomial(size - positive, wrong)
    parts = (positive - missed, added, missed, size - positive - added)
    return np.stack(parts, axis=1).astype(float)


def kappa(seed: int, runs: int) -> pd.DataFrame:
    rows = []
    for share, error, icc in WORLDS:
        rng = np.random.default_rng([seed, len(rows)])
        true = float(kappa_of(tables(rng, 200_000, share, error, icc).sum(axis=0)[None])[0])
        for islets in (5, 10, 20, 60):
            given = held = held_cells = 0
            for _ in range(runs):
                table = tables(rng, islets, share, error, icc)
                a, b, of = labels(table)
                k = cohen_kappa(a, b, of)
                plain = cohen_kappa(a, b)
                given += bool(np.isfinite(k.low))
                held += bool(k.low <= true <= k.high)
                held_cells += bool(plain.low <= true <= plain.high)
            rows.append(
                {
                    "positive_%": 100 * share,
                    "errors_%": 100 * error,
                    "icc_of_errors": icc,
                    "islets": islets,
                    "runs": runs,
                    "kappa": true,
                    "given_%": 100 * given / runs,
                    # a share of few intervals is no measurement
                    "coverage_of_given_%": 100 * held / given if given >= 100 else np.nan,
                    "coverage_over_cells_%": 100 * held_cells / runs,
                }
            )
    return pd.DataFrame(rows)


def labels(table: Array) -> tuple[Array, Array, NDArray[np.intp]]:
    """Labels of both, and islet, of every cell of a table."""
    counts = table.astype(int).ravel()
    kind = np.repeat(np.tile(np.arange(4), len(table)), counts)
    of = np.repeat(np.repeat(np.arange(len(table)), 4), counts)
    return (kind < 2).astype(float), (kind % 2 == 0).astype(float), of
