"""Several people, one cell: agreement of labels, and the label they agree on.

The idea: kappa says how far two raters agree beyond chance; a consensus is the majority, or, with
raters of different skill, the label that Dawid and Skene's model finds most likely given how often
each rater errs.  Errors gather in islets (a badly stained one, a crowded one), so the interval of
kappa is over islets.
It fails with two raters (no majority), and kappa depends on how common positives
are, so compare kappas only between sets of similar composition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.statistics.intervals import check_level, t_quantile, z_quantile

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

#: what an interval of kappa over islets takes: islets, cells of the rarer label, islets in which
#: the two differ (simulation: benchmarks/statistics)
KAPPA_ISLETS, KAPPA_CELLS, KAPPA_DIFFERING = 10, 50, 6
#: degrees of freedom for each islet that carries the variance; more of them cover too little where
#: few islets do, fewer too much (the same simulation)
KAPPA_FREEDOM = 3.0


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa of two raters and its interval.

    Attributes
    ----------
    kappa, low, high : float
        The coefficient and its interval; NaN limits where there is none, see ``note``.
    agreement : float
        Share of cells that both labelled alike.
    n, n_islets : int
        Cells labelled by both, and the islets they lie in (0 where islets are not known).
    note : str
        What the interval is over, or why there is none.
    """

    kappa: float
    low: float
    high: float
    agreement: float
    n: int
    n_islets: int = 0
    note: str = ""


@dataclass(frozen=True)
class Consensus:
    """Dawid and Skene's fit.

    Attributes
    ----------
    probability : ndarray of float64, shape (n_cells,)
        Probability that each cell is positive, given all raters.
    sensitivity, specificity : ndarray of float64, shape (n_raters,)
        Of each rater against the consensus.
    fraction : float
        Fraction of positive cells.
    """

    probability: Array
    sensitivity: Array
    specificity: Array
    fraction: float


def cohen_kappa(
    first: ArrayLike,
    second: ArrayLike,
    islets: ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> Kappa:
    """Cohen's kappa of two raters' yes/no labels.

    Parameters
    ----------
    first, second : array_like, shape (n_cells,)
        Labels, 1 or True for positive; NaN where a rater gave none (such cells are left out).
    islets : array_like, shape (n_cells,), optional
        Islet of each cell.  Without it cells are taken as independent, and the interval is too
        narrow where errors gather in islets (it then holds about half of the time).
    level : float
        Confidence level.

    Returns
    -------
    Kappa

    Notes
    -----
    Over islets: jackknife of ``arctanh(kappa)``, leaving out one islet at a time, times t with the
    lesser of Kish's effective number of islets less 1 and 3 times that number of islets which
    carry the variance.  Below ten islets, or fifty cells of the rarer label, or six islets with a
    disagreement, no such interval holds, and none is given.

    References
    ----------
    Fleiss, Cohen & Everitt, Psychol Bull 72:323 (1969), independent cells; Fleiss & Davies, Appl
    Stat 31:318 (1982), the jackknife of kappa.

    Examples
    --------
    >>> k = cohen_kappa([1] * 45 + [0] * 55, [1] * 40 + [0] * 60)
    >>> round(k.kappa, 3), round(k.agreement, 3)
    (0.898, 0.95)
    """
    check_level(level)
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise IsletImagingError("two raters must label the same cells: lists of one length")
    keep = np.isfinite(a) & np.isfinite(b)
    of = None if islets is None else np.asarray(islets)[keep]
    a, b = a[keep] > 0.5, b[keep] > 0.5
    n = len(a)
    if n == 0:
        raise NotEstimableError("no cell was labelled by both raters")
    table = np.array([[np.mean(a & b), np.mean(a & ~b)], [np.mean(~a & b), np.mean(~a & ~b)]])
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    seen, chance = float(np.trace(table)), float(rows @ columns)
    if chance == 1:
        return Kappa(np.nan, np.nan, np.nan, seen, n)
    kappa = (seen - chance) / (1 - chance)
    if of is not None:
        low, high, number, note = _kappa_over_islets(a, b, of, level)
        return Kappa(float(kappa), low, high, seen, n, number, note)
    agree = sum(table[i, i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in (0, 1))
    differ = (1 - kappa) ** 2 * sum(
        table[i, 1 - i] * (columns[i] + rows[1 - i]) ** 2 for i in (0, 1)
    )
    variance = (agree + differ - (kappa - chance * (1 - kappa)) ** 2) / (n * (1 - chance) ** 2)
    half = z_quantile(level) * np.sqrt(max(variance, 0.0))
    low, high = max(kappa - half, -1.0), min(kappa + half, 1.0)
    return Kappa(float(kappa), float(low), float(high), seen, n, 0, "cells taken as independent")


def _kappa_over_islets(
    a: NDArray[np.bool_], b: NDArray[np.bool_], islets: NDArray[np.generic], level: float
) -> tuple[float, float, int, str]:
    """Limits of kappa over islets, their number, and what to know of them."""
    _, group = np.unique(islets, return_inverse=True)
    m = int(group.max()) + 1
    table = np.zeros((m, 4))
    np.add.at(table, (group, 2 * (~a).astype(int) + (~b).astype(int)), 1)
    whole, size = table.sum(axis=0), table.sum(axis=1)
    rarer = min(whole[0] + whole[2], whole[1] + whole[3])
    differing = int(np.sum(table[:, 1] + table[:, 2] > 0))
    wanted = [
        (m, KAPPA_ISLETS, "islets"),
        (rarer, KAPPA_CELLS, "cells of the rarer label"),
        (differing, KAPPA_DIFFERING, "islets with a disagreement"),
    ]
    short = [f"{have:.0f} {what} of {need}" for have, need, what in wanted if have < need]
    if short:
        return np.nan, np.nan, m, f"no interval: {', '.join(short)} that it takes"
    left = np.arctanh(np.clip(kappa_of(whole - table), -0.9999, 0.9999))
    u2 = (left - left.mean()) ** 2
    se = np.sqrt((m - 1) / m * u2.sum())
    carried = u2.sum() ** 2 / max(float(np.sum(u2**2)), 1e-300)
    df = max(min(size.sum() ** 2 / np.sum(size**2) - 1, KAPPA_FREEDOM * carried), 1.0)
    centre = float(np.arctanh(np.clip(kappa_of(whole[None])[0], -0.9999, 0.9999)))
    half = t_quantile(level, float(df)) * float(se)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half)), m, "over islets"


def kappa_of(table: Array) -> Array:
    """Kappa of tables (both, first only, second only, none), shape (n, 4)."""
    p = table / table.sum(axis=1, keepdims=True)
    seen, first, second = p[:, 0] + p[:, 3], p[:, 0] + p[:, 1], p[:, 0] + p[:, 2]
    chance = first * second + (1 - first) * (1 - second)
    return np.asarray((seen - chance) / np.maximum(1 - chance, 1e-12))


def majority(labels: ArrayLike) -> Array:
    """Majority of raters for each cell; NaN where they are split or nobody labelled.

    Parameters
    ----------
    labels : array_like, shape (n_cells, n_raters)
        1 positive, 0 negative, NaN no label.

    Examples
    --------
    >>> majority([[1, 1, 0], [0, 0, 1], [1, 0, float("nan")]])
    array([ 1.,  0., nan])
    """
    x = _labels(labels)
    yes = np.nansum(x > 0.5, axis=1)
    no = np.sum(np.isfinite(x), axis=1) - yes
    return np.where(yes > no, 1.0, np.where(no > yes, 0.0, np.nan))


def dawid_skene(labels: ArrayLike, *, steps: int = 500) -> Consensus:
    """Consensus of raters of different, unknown skill.

    Parameters
    ----------
    labels : array_like, shape (n_cells, n_raters)
        1 positive, 0 negative, NaN no label; at least two raters (three or more to be of use).
    steps : int
        Iterations at most.

    Returns
    -------
    Consensus

    Notes
    -----
    EM from the mean label.  Half a cell of each kind is added to every count, so that a rater who
    never erred is not taken for infallible.

    References
    ----------
    Dawid & Skene, J R Stat Soc C 28:20 (1979).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.random(2000) < 0.4
    >>> error = np.array([0.05, 0.05, 0.3])
    >>> labels = truth[:, None] ^ (rng.random((2000, 3)) < error)
    >>> c = dawid_skene(labels)
    >>> c.sensitivity.round(1).tolist(), round(float(np.mean((c.probability > 0.5) == truth)), 2)
    ([1.0, 0.9, 0.7], 0.97)
    """
    x = _labels(labels)
    if x.shape[1] < 2:
        raise NotEstimableError("a consensus needs at least two raters")
    given = np.isfinite(x)
    if not given.any():
        raise NotEstimableError("no cell was labelled")
    yes = np.where(given, x > 0.5, 0.0)
    no = np.where(given, 1 - yes, 0.0)
    counted = given.any(axis=1)
    p = np.where(counted, yes.sum(axis=1) / np.maximum(given.sum(axis=1), 1), np.nan)
    for _ in range(steps):
        q = np.where(counted, p, 0.0)[:, None]
        r = np.where(counted, 1 - p, 0.0)[:, None]
        se = ((q * yes).sum(axis=0) + 0.5) / ((q * given).sum(axis=0) + 1)
        sp = ((r * no).sum(axis=0) + 0.5) / ((r * given).sum(axis=0) + 1)
        share = (q.sum() + 0.5) / (counted.sum() + 1)
        evidence = yes @ np.log(se / (1 - sp)) + no @ np.log((1 - se) / sp)
        new = np.where(counted, special.expit(evidence + special.logit(share)), np.nan)
        moved = np.nanmax(np.abs(new - p))
        p = new
        if moved < 1e-8:
            break
    return Consensus(p, se, sp, float(share))


def label_matrix(
    labels: pd.DataFrame, *, keys: tuple[str, str] = ("image", "cell")
) -> pd.DataFrame:
    """Labels in long form as a table of cells by raters, 1 positive, 0 negative, NaN none.

    Parameters
    ----------
    labels : DataFrame
        One row per cell and rater: ``image``, ``cell``, ``rater`` and ``label`` (``positive`` or
        ``negative``; anything else, such as ``skip``, is no label).
    keys : tuple of str
        Columns that name a cell.

    Raises
    ------
    IsletImagingError
        If columns are missing or a rater labelled a cell twice.
    """
    needed = [*keys, "rater", "label"]
    missing = [c for c in needed if c not in labels.columns]
    if missing:
        raise IsletImagingError(f"the labels have no column {missing[0]!r}")
    if labels.duplicated([*keys, "rater"]).any():
        raise IsletImagingError("a rater labelled the same cell twice; keep one label of each")
    value = labels["label"].map({"positive": 1.0, "negative": 0.0}).astype(float)
    table = labels[[*keys, "rater"]].assign(value=value)
    return table.pivot_table(index=list(keys), columns="rater", values="value", dropna=False)


def _labels(labels: ArrayLike) -> Array:
    x = np.asarray(labels, dtype=float)
    if x.ndim != 2:
        raise IsletImagingError(f"labels must be cells by raters, found shape {x.shape}")
    return x
