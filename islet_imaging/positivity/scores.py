"""Numbers for calls against truth.

The idea: plain functions on arrays, one definition each, shared by benchmarks, training and
fine-tuning.  They fail (NaN) where a class is missing, rather than pretend.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def auc(truth: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve by ranks."""
    from scipy.stats import rankdata

    t, s = np.asarray(truth, bool), np.asarray(score, float)
    n1, n0 = int(t.sum()), int((~t).sum())
    if not n1 or not n0:
        return float("nan")
    return float((rankdata(s)[t].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def balanced_accuracy(truth: ArrayLike, call: ArrayLike) -> float:
    """Mean of sensitivity and specificity."""
    t, c = np.asarray(truth, bool), np.asarray(call, bool)
    if not t.any() or t.all():
        return float("nan")
    return float(0.5 * (c[t].mean() + (~c)[~t].mean()))


def kappa(truth: ArrayLike, call: ArrayLike) -> float:
    """Cohen's kappa."""
    t, c = np.asarray(truth, bool), np.asarray(call, bool)
    chance = t.mean() * c.mean() + (1 - t.mean()) * (1 - c.mean())
    return float(((t == c).mean() - chance) / (1 - chance)) if chance < 1 else float("nan")


def ece(truth: ArrayLike, probability: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error over bins of equal mass."""
    t, p = np.asarray(truth, float), np.asarray(probability, float)
    order = np.argsort(p, kind="stable")
    parts = np.array_split(order, bins)
    return float(sum(len(i) * abs(t[i].mean() - p[i].mean()) for i in parts if len(i)) / len(t))


def brier(truth: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared error of the probability."""
    return float(np.mean((np.asarray(truth, float) - np.asarray(probability, float)) ** 2))
