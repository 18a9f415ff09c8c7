"""The share of positive cells re-estimated from calibrated probabilities, without labels.

The idea: probabilities that hold at the share of positive cells they were calibrated at are moved
to the share that is there, which is estimated with them (Saerens), batch by batch.
It fails, and overshoots, where the probabilities are not calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from islet_imaging.errors import IsletImagingError, NotEstimableError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PriorShift:
    """Fraction of a batch estimated from probabilities that were calibrated on another mix.

    Attributes
    ----------
    fraction : float
        Estimated fraction of positive cells.
    probabilities : ndarray of float64, shape (n_cells,)
        Probabilities as they are under that fraction.
    iterations : int
        Steps until it stood still.
    """

    fraction: float
    probabilities: Array
    iterations: int


def prior_shift(
    probabilities: ArrayLike, training_fraction: float, *, steps: int = 1000
) -> PriorShift:
    """Re-estimate the fraction of one batch by the EM algorithm of Saerens and others.

    Parameters
    ----------
    probabilities : array_like, shape (n_cells,)
        Calibrated probabilities of the cells of one batch; NaN are left out of the estimate.
    training_fraction : float
        Fraction of positive cells in the data the probabilities were calibrated on.
    steps : int
        Iterations at most.

    Returns
    -------
    PriorShift

    References
    ----------
    Saerens, Latinne & Decaestecker, Neural Comput 14:21 (2002); Alexandari, Kundaje & Shrikumar,
    ICML (2020), on the calibration it rests on.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.special import expit
    >>> rng = np.random.default_rng(0)
    >>> positive = rng.random(20_000) < 0.05
    >>> score = rng.normal(np.where(positive, 2.9, 0.0), 1)  # AUC 0.98
    >>> p = expit(2.9 * score - 2.9**2 / 2 + np.log(0.4 / 0.6))  # calibrated at 40 % positive
    >>> print(f"{p.mean():.3f} {prior_shift(p, 0.4).fraction:.3f}")
    0.127 0.050
    """
    if not 0 < training_fraction < 1:
        raise IsletImagingError(f"training_fraction is {training_fraction}: between 0 and 1")
    p = np.asarray(probabilities, dtype=float)
    known = p[np.isfinite(p)]
    if len(known) == 0:
        raise NotEstimableError("no cell of this batch has a probability")
    if known.min() < 0 or known.max() > 1:
        raise IsletImagingError("probabilities must lie in 0 to 1")
    evidence = special.logit(np.clip(known, 1e-9, 1 - 1e-9)) - special.logit(training_fraction)
    share, done = training_fraction, 0
    for step in range(1, steps + 1):
        done = step
        before = share
        share = float(special.expit(evidence + special.logit(before)).mean())
        share = min(max(share, 1e-9), 1 - 1e-9)
        if abs(share - before) < 1e-9:
            break
    all_evidence = special.logit(np.clip(p, 1e-9, 1 - 1e-9)) - special.logit(training_fraction)
    return PriorShift(share, np.asarray(special.expit(all_evidence + special.logit(share))), done)
