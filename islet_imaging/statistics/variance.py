"""How much of the scatter sits between batches, between islets, and in counting cells.

The idea: within a batch the positives of an islet are beta-binomial (cells of one islet resemble
each other), and the batches' means are normal on the logit scale; both variances are fitted
together by maximum likelihood, the SD between batches with the penalty that undoes its downward
bias.  From them follow the two intraclass correlations, the design
effect, and how many independent cells the experiment is worth.
It fails with few batches: with three, the SD between batches is known to a factor of two or so.
Use it to plan, not to test.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from islet_imaging.errors import NotEstimableError
from islet_imaging.statistics.intervals import check_counts

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.statistics.summary import Summary

Array = NDArray[np.float64]

#: grid of the batch effect, in SDs, for what a population of batches is like
_GRID = np.linspace(-5, 5, 101)
#: nodes at which a batch's logit is integrated over, in widths of what its islets leave open
_NODES = np.linspace(-9, 9, 46)
_LARGEST_SD = 4.0
_LARGEST_RHO = 0.98
_SMALLEST_RHO = 1e-5


@dataclass(frozen=True)
class VarianceSplit:
    """Where the scatter of a fraction comes from.

    Attributes
    ----------
    fraction : float
        Mean fraction of the fitted population of batches.
    batch_sd_pp, islet_sd_pp : float
        SD between batches, and of islets within a batch (without counting noise), in percentage
        points.  ``batch_sd_pp`` is NaN with one batch.
    icc_batch : float
        Correlation of two cells of one batch but different islets; NaN with one batch.
    icc_islet : float
        Correlation of two cells of one islet; contains ``icc_batch``.
    design_effect : float
        Variance of the mean batch fraction over that of as many independent cells.
    design_effect_islet : float
        The same for the fraction of one batch: ``1 + (m - 1) * icc`` within the batch.
    effective_cells : float
        Cells over ``design_effect``.
    n_batches, n_islets, n_cells : int
        What it was fitted to.
    log_likelihood : float
        Of the fit, up to a constant of the data.
    """

    fraction: float
    batch_sd_pp: float
    islet_sd_pp: float
    icc_batch: float
    icc_islet: float
    design_effect: float
    design_effect_islet: float
    effective_cells: float
    n_batches: int
    n_islets: int
    n_cells: int
    log_likelihood: float


VARIANCE_COLUMNS = (
    "condition",
    "marker",
    *(f.name for f in dataclasses.fields(VarianceSplit)),
    "note",
)


def variance_split(positives: ArrayLike, totals: ArrayLike, batches: ArrayLike) -> VarianceSplit:
    """Split the variance of islet counts into batches, islets and counting.

    Parameters
    ----------
    positives, totals : array_like, shape (n_islets,)
        Positive (may be fractional) and counted cells of each islet.
    batches : array_like, shape (n_islets,)
        Batch of each islet.

    Returns
    -------
    VarianceSplit

    Raises
    ------
    NotEstimableError
        With fewer than two islets, or where no cell or every cell is positive.

    Notes
    -----
    The likelihood is multiplied by the SD between batches (Chung and others): for batches measured
    without error that turns the divisor B of the variance into B - 1, and the SD never comes out
    as exactly 0, which with few batches maximum likelihood does half of the time.

    References
    ----------
    Chung, Rabe-Hesketh, Dorie, Gelman & Liu, Psychometrika 78:685 (2013), the penalty;
    Williams, Biometrics 31:949 (1975), beta-binomial; Donner & Klar, Design and Analysis of
    Cluster Randomization Trials (2000), design effects.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> share = np.repeat(1 / (1 + np.exp(-rng.normal(0, 0.4, 8))), 12)
    >>> p = rng.beta(share * 12, (1 - share) * 12)
    >>> s = variance_split(rng.binomial(150, p), np.full(96, 150), np.repeat(np.arange(8), 12))
    >>> round(s.icc_islet, 2), round(s.design_effect_islet)
    (0.09, 13)
    """
    labels = np.asarray(batches)
    n_all = np.atleast_1d(np.asarray(totals, dtype=float))
    keep = np.isfinite(n_all) & (n_all > 0)
    k, n = check_counts(positives, totals)
    names, group = np.unique(labels[keep].astype(str), return_inverse=True)
    if len(n) < 2:
        raise NotEstimableError("a variance needs at least two islets")
    if k.sum() == 0 or k.sum() == n.sum():
        raise NotEstimableError(
            "no cell, or every cell, is positive: there is no variance to split"
        )
    several = len(names) > 1
    mean, sd, rho, best = _fit(k, n, group, several)

    share = special.expit(mean + sd * _GRID)
    weight = np.exp(-0.5 * _GRID**2)
    weight /= weight.sum()
    p = float(weight @ share)
    between = float(weight @ (share - p) ** 2)
    within = float(weight @ (share * (1 - share)))
    total = p * (1 - p)

    cells = np.bincount(group, weights=n)
    w = n / cells[group] / len(names)
    variance = between / len(names) + within * (rho * np.sum(w**2) + (1 - rho) * np.sum(w**2 / n))
    effect = variance / (total / n.sum())
    size = np.sum(n**2) / n.sum()
    return VarianceSplit(
        fraction=p,
        batch_sd_pp=100 * float(np.sqrt(between)) if several else np.nan,
        islet_sd_pp=100 * float(np.sqrt(rho * within)),
        icc_batch=between / total if several else np.nan,
        icc_islet=(between + rho * within) / total,
        design_effect=float(effect),
        design_effect_islet=float(1 + (size - 1) * rho),
        effective_cells=float(n.sum() / effect),
        n_batches=len(names),
        n_islets=len(n),
        n_cells=round(n.sum()),
        log_likelihood=best,
    )


def variance_table(summary: Summary) -> pd.DataFrame:
    """The variance split of every condition and marker of a summary.

    Returns
    -------
    DataFrame
        condition, marker, and the fields of `VarianceSplit`; rows without an estimate are NaN,
        with the reason in ``note``.
    """
    import pandas as pd

    rows = []
    for row in summary.conditions.itertuples():
        counts = summary.counts
        here = counts[
            (counts["condition"] == row.condition)
            & (counts["marker"] == row.marker)
            & (counts["islet_key"] != "")
        ]
        start: dict[str, object] = {"condition": row.condition, "marker": row.marker}
        try:
            split = variance_split(here["k"], here["n"], here["batch"])
        except NotEstimableError as error:
            rows.append({**start, "note": str(error)})
        else:
            rows.append({**start, **dataclasses.asdict(split), "note": ""})
    return pd.DataFrame(rows, columns=list(VARIANCE_COLUMNS))


@dataclass(frozen=True)
class _Counts:
    """Counts of islets, those of a batch together."""

    k: Array
    n: Array
    #: of each islet its batch, and where each batch begins
    batch: NDArray[np.intp]
    first: NDArray[np.intp]

    @classmethod
    def of(cls, k: Array, n: Array, group: NDArray[np.intp]) -> _Counts:
        order = np.argsort(group, kind="stable")
        first = np.flatnonzero(np.diff(group[order], prepend=-1))
        sizes = np.diff(first, append=len(order))
        return cls(k[order], n[order], np.repeat(np.arange(len(first)), sizes), first)

    def nodes(self, mean: float, sd: float, rho: float) -> tuple[Array, Array]:
        """Where each batch's logit may lie, shape (nodes, batches), and the step between.

        The likelihood of a batch of many islets is far narrower than the scatter of batches.
        """
        weight = self.n / (1 + (self.n - 1) * rho)
        total = np.add.reduceat(weight, self.first)
        share = np.add.reduceat(weight * self.k / self.n, self.first)
        share = (share + 0.5) / (total + 1)
        known, prior = total * share * (1 - share), 1 / sd**2
        middle = (special.logit(share) * known + mean * prior) / (known + prior)
        width = 1 / np.sqrt(known + prior)
        return middle + width * _NODES[:, None], width * (_NODES[1] - _NODES[0])


def _log_likelihood(mean: float, sd: float, rho: float, counts: _Counts) -> tuple[float, Array]:
    """Beta-binomial islets, batch effects integrated out; and its slopes.

    The slopes are by the mean, by the logarithm of the SD and by the logit of ``rho``.
    """
    k, n, of = counts.k, counts.n, counts.batch
    nodes, step = np.full((1, len(counts.first)), mean), np.ones(1)
    if sd > 0:
        nodes, step = counts.nodes(mean, sd, rho)
    own = np.clip(special.expit(nodes), 1e-12, 1 - 1e-12)
    p = own[:, of]
    if rho <= _SMALLEST_RHO:
        islet = k * np.log(p) + (n - k) * np.log1p(-p)
        by_logit = k - n * p
        by_rho = np.zeros_like(islet)
    else:
        size = (1 - rho) / rho
        a, b = own * size, (1 - own) * size
        islet = special.betaln(k + a[:, of], n - k + b[:, of]) - special.betaln(a, b)[:, of]
        whole = special.psi(n + size) - special.psi(size)
        by_a = special.psi(k + a[:, of]) - special.psi(a)[:, of] - whole
        by_b = special.psi(n - k + b[:, of]) - special.psi(b)[:, of] - whole
        by_logit = size * (by_a - by_b) * p * (1 - p)
        by_rho = -size * (p * by_a + (1 - p) * by_b)
    batch, rho_slope = (np.add.reduceat(x, counts.first, axis=1) for x in (islet, by_rho))
    if sd <= 0:
        return float(batch.sum()), np.array([by_logit.sum(), 0.0, rho_slope.sum()])
    away = (nodes - mean) / sd
    weighed = batch - 0.5 * away**2 + np.log(step / sd) - 0.5 * np.log(2 * np.pi)
    each = special.logsumexp(weighed, axis=0)
    share = np.exp(weighed - each)
    slopes = (share * away / sd, share * (away**2 - 1), share * rho_slope)
    return float(each.sum()), np.array([s.sum() for s in slopes])


def _fit(
    k: Array, n: Array, group: NDArray[np.intp], several: bool
) -> tuple[float, float, float, float]:
    """Penalised maximum likelihood of (mean, sd, rho), and the log-likelihood there.

    ``rho = 0`` is a model of its own: an optimiser that walks towards an edge creeps.
    """
    counts = _Counts.of(k, n, group)
    best = _fit_model(counts, several, with_rho=True)
    if best[2] < 0.001:
        found = _fit_model(counts, several, with_rho=False)
        # the smaller model wins unless the larger earns more than rounding
        if found[3] > best[3] - 1e-6:
            best = found
    return best


def _fit_model(counts: _Counts, with_sd: bool, with_rho: bool) -> tuple[float, float, float, float]:
    start = float(special.logit((counts.k.sum() + 0.5) / (counts.n.sum() + 1)))
    moved = [0, *([1] if with_sd else []), *([2] if with_rho else [])]

    def unpack(x: Array) -> tuple[float, float, float]:
        sd = float(np.exp(x[1])) if with_sd else 0.0
        rho = float(special.expit(x[-1])) if with_rho else 0.0
        return float(x[0]), sd, rho

    def cost(x: Array) -> tuple[float, Array]:
        value, slopes = _log_likelihood(*unpack(x), counts)
        if with_sd:  # the penalty
            value, slopes[1] = value + float(x[1]), slopes[1] + 1
        return -value, -slopes[moved]

    x0, bounds = [start], [(-15.0, 15.0)]
    if with_sd:
        x0.append(np.log(0.4))
        bounds.append((np.log(1e-3), np.log(_LARGEST_SD)))
    if with_rho:
        x0.append(-2.5)
        edges = special.logit([2 * _SMALLEST_RHO, _LARGEST_RHO])
        bounds.append((float(edges[0]), float(edges[1])))
    found = optimize.minimize(cost, x0, method="L-BFGS-B", jac=True, bounds=bounds)
    mean, sd, rho = unpack(found.x)
    return mean, sd, rho, _log_likelihood(mean, sd, rho, counts)[0]
