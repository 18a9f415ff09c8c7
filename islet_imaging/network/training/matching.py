"""How well found nuclei match human masks.

The idea: all scores come from one table of overlaps between true and found labels, counted in one
pass over the pixels.  A pair matches at a threshold when its intersection over union reaches it;
from 0.5 on a pixel-disjoint label image allows one partner only, so no assignment has to be
solved.  Average precision is TP / (TP + FP + FN) of one image, as in the 2018 Data Science Bowl;
sets are summarised by means over images.

It fails to say anything about nuclei that the mask leaves out: a found nucleus without a true one
is an error even where the annotator looked away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from islet_imaging.network.training.nuclei_data import MIN_OBJECT_AREA_PX

THRESHOLDS: tuple[float, ...] = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)


@dataclass(frozen=True)
class Matching:
    """Best pairs of true and found nuclei of one image.

    Attributes
    ----------
    n_true, n_found : int
        Nuclei in the mask and in the result.
    true, found : (M,) int
        Labels of the pairs with an intersection over union of at least 0.5.
    iou : (M,) float
        Their intersection over union.
    """

    n_true: int
    n_found: int
    true: NDArray[np.int64]
    found: NDArray[np.int64]
    iou: NDArray[np.float64]

    def tp(self, threshold: float = 0.5) -> int:
        """Pairs that match at this threshold (at least 0.5)."""
        return int((self.iou >= threshold).sum())

    def f1(self, threshold: float = 0.5) -> float:
        """2 TP / (true + found); 1 when both are empty."""
        n = self.n_true + self.n_found
        return 2 * self.tp(threshold) / n if n else 1.0

    def ap(self, threshold: float = 0.5) -> float:
        """TP / (TP + FP + FN); 1 when both are empty."""
        n = self.n_true + self.n_found - self.tp(threshold)
        return self.tp(threshold) / n if n else 1.0

    def panoptic_quality(self) -> float:
        """Sum of the pairs' intersection over union / (TP + FP/2 + FN/2)."""
        n = self.n_true + self.n_found
        return float(2 * self.iou.sum() / n) if n else 1.0


def match_labels(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    *,
    min_area_px: int = MIN_OBJECT_AREA_PX,
) -> Matching:
    """Pair true and found nuclei by intersection over union.

    Parameters
    ----------
    truth, predicted : (Y, X) int
        Label images, 0 is background.
    min_area_px : int
        True nuclei below this area are left out, and so are found ones that lie on them.

    Returns
    -------
    Matching
        Pairs with an intersection over union of at least 0.5, each label at most once.

    Raises
    ------
    ValueError
        When the shapes differ.

    Notes
    -----
    Average precision as in Caicedo et al., Nat Methods 16:1247 (2019).

    Examples
    --------
    >>> truth = np.zeros((8, 16), int); truth[2:7, 2:7] = 1; truth[2:7, 9:14] = 2
    >>> found = np.zeros_like(truth); found[2:7, 2:7] = 5
    >>> m = match_labels(truth, found)
    >>> m.tp(), round(m.f1(), 3), m.ap()
    (1, 0.667, 0.5)
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape")
    t_ids, t = np.unique(truth, return_inverse=True)
    p_ids, p = np.unique(predicted, return_inverse=True)
    t_area = np.bincount(t.ravel(), minlength=len(t_ids)).astype(float)
    p_area = np.bincount(p.ravel(), minlength=len(p_ids)).astype(float)
    pairs, overlap = np.unique(
        t.ravel().astype(np.int64) * len(p_ids) + p.ravel(), return_counts=True
    )
    i, j = pairs // len(p_ids), pairs % len(p_ids)
    small_true = (t_area < min_area_px) & (t_ids != 0)
    on_small = np.bincount(j, weights=overlap * small_true[i], minlength=len(p_ids))
    drop_found = on_small > 0.5 * p_area
    keep_true = (t_ids != 0) & ~small_true
    keep_found = (p_ids != 0) & ~drop_found
    use = keep_true[i] & keep_found[j]
    i, j, overlap = i[use], j[use], overlap[use].astype(float)
    iou = overlap / (t_area[i] + p_area[j] - overlap)
    good = np.flatnonzero(iou >= 0.5)
    # an exact 0.5 can pair twice: the better pair goes first, then each label counts once
    good = good[np.lexsort((j[good], i[good], -iou[good]))]
    _, first = np.unique(i[good], return_index=True)
    good = good[np.sort(first)]
    _, first = np.unique(j[good], return_index=True)
    good = good[np.sort(first)]
    return Matching(
        int(keep_true.sum()),
        int(keep_found.sum()),
        t_ids[i[good]].astype(np.int64),
        p_ids[j[good]].astype(np.int64),
        iou[good],
    )


def score_images(
    pairs: Iterable[tuple[NDArray[np.integer], NDArray[np.integer]]],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, float]:
    """Score found label images of a whole set.

    Parameters
    ----------
    pairs : iterable of (truth, predicted)
        Label images.
    thresholds : sequence of float
        Intersections over union for the mean average precision.

    Returns
    -------
    dict
        See `summarise_matchings`.
    """
    return summarise_matchings([match_labels(t, p) for t, p in pairs], thresholds=thresholds)


def summarise_matchings(
    matchings: Sequence[Matching], *, thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """Mean scores over images, and the pooled ones that no single image dominates.

    Returns
    -------
    dict
        ``f1``, ``ap50``, ``ap70``, ``ap90``, ``ap_mean`` (over `thresholds`), ``pq``: means over
        images; ``f1_pooled``: over all nuclei; ``count_bias``: (found - true) / true over all
        nuclei; ``images``, ``nuclei``.
    """
    if not matchings:
        raise ValueError("nothing to score: no images")

    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    true = sum(m.n_true for m in matchings)
    found = sum(m.n_found for m in matchings)
    tp = sum(m.tp() for m in matchings)
    return {
        "f1": mean(m.f1() for m in matchings),
        "ap50": mean(m.ap(0.5) for m in matchings),
        "ap70": mean(m.ap(0.7) for m in matchings),
        "ap90": mean(m.ap(0.9) for m in matchings),
        "ap_mean": mean(m.ap(t) for m in matchings for t in thresholds),
        "pq": mean(m.panoptic_quality() for m in matchings),
        "f1_pooled": 2 * tp / (true + found) if true + found else 1.0,
        "count_bias": (found - true) / true if true else float("nan"),
        "images": float(len(matchings)),
        "nuclei": float(true),
    }
