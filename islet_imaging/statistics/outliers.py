"""Batches that lie far from the others, or hardly count: noticed, never dropped.

The idea: a differentiation that failed pulls the mean of a few batches by tens of points, and no
interval over one kind of batches holds it.  Each batch is compared with the median of all others,
in units of a spread that starts from what batches usually differ by and learns from these.  What is
found is said with both numbers, with the batch and without it; whether it failed, only the
laboratory knows.
It fails with two batches (which one is odd?), where half of the batches failed, and, in part, where
a failed batch of a fraction below 25 % hides among others that scatter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]

#: usual SD between batches on the arcsine scale (9 points at 50 %), and for how many degrees of
#: freedom it counts beside what the batches themselves show
_USUAL_SD, _USUAL_DF = 0.09, 4.0
#: chance of naming a batch where none is odd
_ALPHA = 0.02
#: cells below which a batch is small, in absolute number and as a share of the median batch
SMALL_CELLS, SMALL_SHARE = 50, 0.1
#: a batch with less than this share of what half of the batches hold looks like one that failed,
#: where that is this fraction or more
FAILED_SHARE, FAILED_OF = 0.1, 0.25
#: with fewer, nobody can say which one is odd
LEAST_BATCHES = 3


def outlying(positives: ArrayLike, totals: ArrayLike) -> NDArray[np.bool_]:
    """Which batches lie far from the others.

    Parameters
    ----------
    positives, totals : array_like, shape (..., n_batches)
        Positive (may be fractional) and counted cells of each batch; those without cells are none.

    Returns
    -------
    ndarray of bool, shape (..., n_batches)
        All false with fewer than three batches.

    Notes
    -----
    On the arcsine scale, where beta-distributed batches scatter alike at all fractions.  The spread
    is the scaled median deviation of the other batches, moderated towards the usual one, so that
    two failed batches of ten do not hide each other.  Where several failed, they do: so a batch is
    named too that holds less than a tenth of what the median batch holds, if that is 25 % or more.

    References
    ----------
    Smyth, Stat Appl Genet Mol Biol 3:3 (2004), moderated variance; Rousseeuw & Croux, J Am Stat
    Assoc 88:1273 (1993), median deviation.

    Examples
    --------
    >>> outlying([480, 520, 30, 450], [1000, 1000, 1000, 1000]).tolist()
    [False, False, True, False]
    """
    k, n = np.asarray(positives, dtype=float), np.asarray(totals, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.arcsin(np.sqrt(np.clip((k + 0.375) / (n + 0.75), 0, 1)))
        # what counting a small batch adds
        counting2 = 1 / (4 * n)
    x = np.where(n > 0, x, np.nan)
    b = np.sum(n > 0, axis=-1)
    df = _USUAL_DF + b - 2
    # half of the chance per side, shared by all batches
    cut = -special.stdtrit(df, _ALPHA / (2 * np.maximum(b, 1)))
    far = np.zeros(x.shape, dtype=bool)
    for i in range(x.shape[-1]):
        others = np.delete(x, i, axis=-1)
        known = np.isfinite(x[..., i]) & (b >= LEAST_BATCHES)
        others = np.where(known[..., None], others, 0.0)
        middle = np.nanmedian(others, axis=-1)
        own = 1.4826 * np.nanmedian(np.abs(others - middle[..., None]), axis=-1)
        spread2 = (_USUAL_DF * _USUAL_SD**2 + (b - 2) * own**2) / df
        spread2 = spread2 * (1 + 1 / np.maximum(b - 1, 1)) + np.where(known, counting2[..., i], 0)
        far[..., i] = known & (np.abs(x[..., i] - middle) > cut * np.sqrt(spread2))
    return far | _failed(k, n, b)


def _failed(k: Array, n: Array, batches: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which batches hold next to nothing of what the others do, however much these scatter."""
    share = np.divide(k, n, out=np.full(np.broadcast(k, n).shape, np.nan), where=n > 0)
    found = np.zeros(share.shape, dtype=bool)
    for p in (share, 1 - share):
        middle = np.nanmedian(np.where((batches > 0)[..., None], p, 0.0), axis=-1)[..., None]
        found |= (p < FAILED_SHARE * middle) & (middle >= FAILED_OF)
    return found & (n >= SMALL_CELLS) & (batches >= LEAST_BATCHES)[..., None]


def small(totals: ArrayLike) -> NDArray[np.bool_]:
    """Which batches hold so few cells that their fraction is mostly counting noise.

    Examples
    --------
    >>> small([1000, 3, 800]).tolist()
    [False, True, False]
    """
    n = np.asarray(totals, dtype=float)
    if len(n) < 2:
        return np.zeros(len(n), dtype=bool)
    return np.asarray((n < SMALL_CELLS) & (n < SMALL_SHARE * np.median(n)))
