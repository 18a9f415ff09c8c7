"""The share of positive cells in an image, and what it says of the cells in doubt.

The idea: evidence weighs a cell's own light; what it is worth depends on how many cells are
positive.  A cell in the middle is nearly always positive where most cells are and nearly always
negative where few are.  Counted by the evidence alone such cells pull every fraction towards one
half.  The share is read from the cells that the evidence leaves no doubt of, once: iterating
until nothing changes (expectation-maximisation) runs away where the evidence is too sure of itself,
and so the odds of the share are taken to a power below 1, chosen by measurement
(``benchmarks/positivity/shares.py``).
It fails where the cells without doubt are called wrong: their share is then the wrong one.
"""

from __future__ import annotations

import numpy as np

from islet_imaging._types import Float64

#: evidence beyond which a cell is counted for the share
SURE = (0.2, 0.8)
#: added to the positive and to the negative cells: no share is 0 or 1 for certain
PSEUDO = 0.5
#: power of the share's odds
STRENGTH = 0.6


def share_of(evidence: Float64) -> float:
    """Share of positive cells among those without doubt.

    Parameters
    ----------
    evidence : ndarray of float64, shape (n,)
        Probability of each cell as if half of all cells were positive; NaN is left out.

    Returns
    -------
    float
        Between 0 and 1, never either; one half where no cell is without doubt.

    Examples
    --------
    >>> share_of(np.array([0.01, 0.02, 0.5, 0.99, np.nan]))
    0.375
    """
    positive = np.count_nonzero(evidence >= SURE[1]) + PSEUDO
    negative = np.count_nonzero(evidence <= SURE[0]) + PSEUDO
    return float(positive / (positive + negative))


def at_share(evidence: Float64, share: float) -> Float64:
    """Probability of each cell of an image in which that share is positive.

    Parameters
    ----------
    evidence : ndarray of float64, shape (n,)
        Probability of each cell as if half of all cells were positive.
    share : float
        From :func:`share_of`.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN for NaN; the evidence itself at a share of one half.

    Examples
    --------
    >>> at_share(np.array([0.5]), 0.9).round(2), at_share(np.array([0.3]), 0.5).round(2)
    (array([0.79]), array([0.3]))
    """
    odds = np.log(share / (1 - share)) * STRENGTH
    safe = np.clip(evidence, 1e-12, 1 - 1e-12)
    out: Float64 = 1 / (1 + np.exp(-(np.log(safe / (1 - safe)) + odds)))
    return out
