"""Scores of found nuclei against a mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.network.training.matching import match_labels, summarise_matchings


def grid(n: int, side: int = 6, gap: int = 4) -> np.ndarray:
    labels = np.zeros((n * (side + gap), n * (side + gap)), np.int32)
    k = 0
    for i in range(n):
        for j in range(n):
            k += 1
            y, x = i * (side + gap) + 2, j * (side + gap) + 2
            labels[y : y + side, x : x + side] = k
    return labels


def test_perfect_match_whatever_the_numbering():
    truth = grid(4)
    found = np.where(truth > 0, 1000 - truth, 0)
    m = match_labels(truth, found)
    assert m.f1() == m.ap(0.9) == m.panoptic_quality() == 1.0
    assert sorted(m.true + m.found) == [1000] * 16


def test_iou_is_counted_exactly():
    truth = np.zeros((20, 20), int)
    truth[0:10, 0:10] = 1
    found = np.zeros_like(truth)
    found[0:10, 3:13] = 7
    m = match_labels(truth, found)
    assert m.iou == pytest.approx([70 / 130])
    assert m.tp(0.5) == 1
    assert m.tp(0.6) == 0
    assert m.ap(0.6) == 0.0


def test_half_overlap_pairs_once():
    # one true nucleus cut into two equal halves: both halves have exactly 0.5
    truth = np.zeros((10, 20), int)
    truth[:, :20] = 1
    found = np.ones_like(truth)
    found[:, 10:] = 2
    m = match_labels(truth, found)
    assert m.tp(0.5) == 1
    assert m.n_found == 2


def test_small_true_objects_and_what_lies_on_them_do_not_count():
    truth = grid(2)
    truth[0, 0:3] = 99
    found = truth.copy()
    m = match_labels(truth, found)
    assert (m.n_true, m.n_found, m.tp()) == (4, 4, 4)


def test_empty_images():
    nothing = np.zeros((8, 8), int)
    assert match_labels(nothing, nothing).f1() == 1.0
    assert match_labels(grid(2), np.zeros_like(grid(2))).f1() == 0.0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shape"):
        match_labels(np.zeros((4, 4), int), np.zeros((4, 5), int))


def test_count_bias_and_means():
    truth = grid(3)
    found = np.where(truth > 6, 0, truth)
    scores = summarise_matchings([match_labels(truth, found), match_labels(truth, truth)])
    assert scores["count_bias"] == pytest.approx(-3 / 18)
    assert scores["ap50"] == pytest.approx((6 / 9 + 1) / 2)
    assert scores["nuclei"] == 18


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_symmetry_and_order(seed):
    rng = np.random.default_rng(seed)
    a = np.kron(rng.integers(0, 5, (6, 6)), np.ones((5, 5), int))
    b = np.kron(rng.integers(0, 5, (5, 5)), np.ones((6, 6), int))
    ab, ba = match_labels(a, b, min_area_px=0), match_labels(b, a, min_area_px=0)
    assert ab.tp() == ba.tp()
    assert ab.panoptic_quality() == pytest.approx(ba.panoptic_quality())
    assert ab.ap(0.5) >= ab.ap(0.7) >= ab.ap(0.9)
    assert len(set(ab.true)) == len(ab.true)
    assert len(set(ab.found)) == len(ab.found)
