"""Fields that show the same nuclei: tiles that overlap, or one field taken twice.

The idea: how a nucleus lies to its three nearest neighbours is as good as a fingerprint, whatever
the exposure, contrast or bit depth.  Nuclei of two images with one fingerprint vote for the shift
between the images, and a shift that many agree on is an overlap; the nuclei it brings together are
those that would be counted twice.
It fails for copies that were turned, mirrored or rescaled, where the common part holds fewer than
some 25 nuclei (those near its edge have other neighbours in each image), and where nuclei are found
too differently in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Points = NDArray[np.float64]

#: neighbours that make a fingerprint
NEIGHBOURS = 3
#: fingerprints this near are one, um over all their coordinates
ALIKE_UM = 1.5
#: a nucleus moved by less than this is the same nucleus, um
SAME_UM = 2.0
#: votes for one shift; chance gives two at most
VOTES = 5
#: share of the nuclei in the common part that must be found in both
CONFIRMED = 0.5
#: nuclei looked for at a time; no other reason than memory
AT_ONCE = 65_536
#: images in which one nucleus is looked for
COPIES = 6


@dataclass(frozen=True)
class Overlap:
    """Two fields that share nuclei.

    Attributes
    ----------
    first, second : int
        Which of the fields.
    shared : int
        Nuclei seen in both.
    shift_um : tuple of float
        ``(y, x)`` of the second field's origin in the first.
    """

    first: int
    second: int
    shared: int
    shift_um: tuple[float, float]


def overlaps(fields: Sequence[Points]) -> list[Overlap]:
    """Pairs of fields that show the same nuclei.

    Parameters
    ----------
    fields : sequence of ndarray, shape (N, 2)
        Centres ``(y, x)`` of the nuclei of each image, um.

    Returns
    -------
    list of Overlap
        In the order of the fields.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> tissue = rng.uniform(0, 300, (900, 2))
    >>> left = tissue[tissue[:, 1] < 180]
    >>> right = tissue[tissue[:, 1] > 140] - [0, 140]
    >>> found = overlaps([left, right, rng.uniform(0, 300, (500, 2))])
    >>> [(o.first, o.second, [round(s) for s in o.shift_um]) for o in found]
    [(0, 1, [0, 140])]
    """
    prints, owners, centres = [], [], []
    for k, points in enumerate(fields):
        if len(points) > NEIGHBOURS:
            prints.append(_fingerprints(points))
            owners.append(np.full(len(points), k))
            centres.append(points)
    if len(prints) < 2:
        return []
    owner, where = np.concatenate(owners), np.concatenate(centres)
    a, b = _alike(np.concatenate(prints), owner).T
    found = []
    for some in _of_each_pair(owner[a], owner[b], len(fields)):
        agreed = _agreed(where[a[some]] - where[b[some]])
        if agreed is None:
            continue
        i, j = int(owner[a[some[0]]]), int(owner[b[some[0]]])
        shared, common = _shared(fields[i], fields[j] + agreed)
        if shared >= CONFIRMED * common:
            found.append(Overlap(i, j, shared, (float(agreed[0]), float(agreed[1]))))
    return found


def _of_each_pair(
    first: NDArray[np.intp], second: NDArray[np.intp], n: int
) -> Iterator[NDArray[np.intp]]:
    """Which votes are for a pair of fields, pair by pair, where there are enough of them."""
    pair = first * n + second
    # almost all pairs of many fields have a vote or two by chance
    order = np.argsort(pair, kind="stable")
    _, start, count = np.unique(pair[order], return_index=True, return_counts=True)
    for k in np.flatnonzero(count >= VOTES):
        yield order[start[k] : start[k] + count[k]]


def _alike(prints: Points, owner: NDArray[np.intp]) -> NDArray[np.int32]:
    """Pairs of nuclei with one fingerprint, shape (n, 2), the first in an earlier field.

    By how near, then in the order of the nuclei.
    """
    tree = cKDTree(prints)
    found = []
    # neighbours one after the other walk the same branches, which takes a third of the time
    for start in range(0, len(prints), AT_ONCE):
        some = tree.indices[start : start + AT_ONCE]
        _, near = tree.query(prints[some], k=COPIES, distance_upper_bound=ALIKE_UM)
        k, rank = np.nonzero(near < len(prints))
        first, second = some[k], near[k, rank]
        forward = owner[first] < owner[second]
        # of many fields there are millions, most of them by chance
        found.append(np.stack([rank, first, second]).astype(np.int32)[:, forward])
    ranks, *pairs = np.concatenate(found, axis=1)
    order = np.lexsort((pairs[0], ranks))
    return np.stack([nuclei[order] for nuclei in pairs], axis=1)


def _fingerprints(points: Points) -> Points:
    """Where the nearest neighbours lie, seen from each point, the nearest first."""
    _, near = cKDTree(points).query(points, k=NEIGHBOURS + 1)
    return np.asarray((points[near[:, 1:]] - points[:, None]).reshape(len(points), -1))


def _agreed(shifts: Points) -> Points | None:
    """The shift that most votes agree on, None where too few do."""
    tree = cKDTree(shifts)
    friends = tree.query_ball_point(shifts, SAME_UM)
    best = max(friends, key=len)
    if len(best) < VOTES:
        return None
    return np.asarray(np.median(shifts[best], axis=0))


def _shared(first: Points, second: Points) -> tuple[int, int]:
    """Nuclei that two fields in one frame share, and how many the common part could hold."""
    low = np.maximum(first.min(axis=0), second.min(axis=0)) - SAME_UM
    high = np.minimum(first.max(axis=0), second.max(axis=0)) + SAME_UM
    inside = [np.all((p >= low) & (p <= high), axis=1) for p in (first, second)]
    common = min(int(i.sum()) for i in inside)
    distance, _ = cKDTree(first).query(second[inside[1]], distance_upper_bound=SAME_UM)
    return int(np.isfinite(distance).sum()), common
