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
    sizes = [len(p) if len(p) > NEIGHBOURS else 0 for p in fields]
    if sum(n > 0 for n in sizes) < 2:
        return []
    owner = np.repeat(np.arange(len(fields), dtype=np.int32), sizes)
    prints, where = np.empty((len(owner), 2 * NEIGHBOURS)), np.empty((len(owner), 2))
    for points, size, end in zip(fields, sizes, np.cumsum(sizes), strict=True):
        if size:
            where[end - size : end] = points
            prints[end - size : end] = _fingerprints(points)
    a, b = _alike(prints, owner).T
    del prints
    votes = _of_pairs_with_enough(owner[a], owner[b], len(fields))
    if not len(votes):
        return []
    a, b = a[votes], b[votes]
    found = []
    known, tree = -1, None
    for i, j, agreed in _agreed(owner[a], owner[b], where[a] - where[b]):
        if i != known:  # pairs come in the order of the first
            known, tree = i, cKDTree(fields[i])
        shared, common = _shared(tree, fields[i], fields[j] + agreed)
        if shared >= CONFIRMED * common:
            found.append(Overlap(i, j, shared, (float(agreed[0]), float(agreed[1]))))
    return found


def _of_pairs_with_enough(
    first: NDArray[np.int32], second: NDArray[np.int32], n: int
) -> NDArray[np.intp]:
    """Which votes are for a pair of fields with enough of them, pair by pair."""
    pair = first.astype(np.int64) * n + second
    # almost all pairs of many fields have a vote or two by chance
    order = np.argsort(pair, kind="stable")
    _, count = np.unique(pair[order], return_counts=True)
    kept: NDArray[np.intp] = order[np.repeat(count >= VOTES, count)]
    return kept


def _alike(prints: Points, owner: NDArray[np.int32]) -> NDArray[np.int32]:
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


def _agreed(
    first: NDArray[np.int32], second: NDArray[np.int32], shifts: Points
) -> Iterator[tuple[int, int, Points]]:
    """Pairs of fields, and the shift that most of their votes agree on, where enough do.

    Votes stand pair by pair.
    """
    new = np.flatnonzero(np.diff(first, prepend=-1) | np.diff(second, prepend=-1))
    ends = np.append(new[1:], len(shifts))
    # all pairs at once: those of one lie on a plane of their own, out of reach of the others
    plane = np.repeat(np.arange(len(new)) * 2 * SAME_UM, ends - new)
    tree = cKDTree(np.column_stack([plane, shifts]))
    friends = tree.query_ball_point(tree.data, SAME_UM, return_length=True)
    best = [s + int(np.argmax(friends[s:e])) for s, e in zip(new, ends, strict=True)]
    agreeing = np.array(best)[friends[best] >= VOTES]
    for vote, near in zip(
        agreeing, tree.query_ball_point(tree.data[agreeing], SAME_UM), strict=True
    ):
        yield int(first[vote]), int(second[vote]), np.median(shifts[near], axis=0)


def _shared(tree: cKDTree, first: Points, second: Points) -> tuple[int, int]:
    """Nuclei that two fields in one frame share, and how many the common part could hold."""
    low = np.maximum(first.min(axis=0), second.min(axis=0)) - SAME_UM
    high = np.minimum(first.max(axis=0), second.max(axis=0)) + SAME_UM
    inside = [np.all((p >= low) & (p <= high), axis=1) for p in (first, second)]
    common = min(int(i.sum()) for i in inside)
    distance, _ = tree.query(second[inside[1]], distance_upper_bound=SAME_UM)
    return int(np.isfinite(distance).sum()), common
