"""Rare events: what "none seen" can and cannot exclude.

The idea: 0 of 3000 cells does not mean 0 %; it only bounds the share below 0.1 %.  So rare cells
(residual OCT4, Ki67) are reported per batch with an exact interval, and "none" always comes with
its upper bound.  It fails where positives cluster in islets: the exact interval treats cells as
independent, so for anything but rare, scattered cells use the intervals over batches.
"""

from __future__ import annotations

import math

from scipy import special

from islet_imaging.errors import IsletImagingError


def clopper_pearson(positives: float, total: float, *, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval of ``positives`` of ``total`` cells.

    Parameters
    ----------
    positives, total : float
        Counts; fractional counts (unsure cells) are interpolated by the beta quantiles.
    level : float
        Confidence level.

    Returns
    -------
    tuple of float
        Lower and upper limit, as fractions; (0, 1) with no cell.

    References
    ----------
    Clopper & Pearson, Biometrika 26:404 (1934).

    Examples
    --------
    >>> [round(x, 4) for x in clopper_pearson(0, 3000)]
    [0.0, 0.0012]
    """
    if total < 0 or positives < 0 or positives > total:
        raise IsletImagingError(f"{positives} positive of {total} cells is impossible")
    if total == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = (
        0.0 if positives == 0 else float(special.betaincinv(positives, total - positives + 1, tail))
    )
    high = (
        1.0
        if positives == total
        else float(special.betaincinv(positives + 1, total - positives, 1 - tail))
    )
    return low, high


def upper_bound(total: float, *, level: float = 0.95) -> float:
    """One-sided upper bound of a share of which no cell was seen in ``total``.

    Exact form of the rule of three: about ``3 / total`` at 95 %.

    References
    ----------
    Hanley & Lippman-Hand, JAMA 249:1743 (1983).

    Examples
    --------
    >>> round(100 * upper_bound(3000), 3)
    0.1
    """
    if total <= 0:
        return 1.0
    return float(1 - (1 - level) ** (1 / total))


def cells_to_detect(share: float, *, probability: float = 0.95) -> int:
    """Cells to count to see at least one cell of a kind that makes up ``share``.

    Examples
    --------
    >>> cells_to_detect(0.001)
    2995
    """
    if not 0 < share < 1 or not 0 < probability < 1:
        raise IsletImagingError("share and probability must lie between 0 and 1")
    return math.ceil(math.log(1 - probability) / math.log1p(-share))


def describe_rare(positives: int, total: int, *, level: float = 0.95) -> str:
    """A sentence for a rare marker that never says "0 %".

    Examples
    --------
    >>> describe_rare(0, 3000)
    'none of 3000 cells: at most 0.1 % (95 % upper bound)'
    >>> describe_rare(2, 3000)
    '2 of 3000 cells: 0.067 % (95 % interval 0.0081 to 0.24 %)'
    """
    percent = f"{100 * level:g} %"
    if total <= 0:
        return "no cell counted"
    if positives == 0:
        return (
            f"none of {total} cells: at most {100 * upper_bound(total, level=level):.2g} % "
            f"({percent} upper bound)"
        )
    low, high = (100 * x for x in clopper_pearson(positives, total, level=level))
    share = 100 * positives / total
    interval = f"({percent} interval {low:.2g} to {high:.2g} %)"
    return f"{positives} of {total} cells: {share:.2g} % {interval}"
