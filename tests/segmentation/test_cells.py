"""Growing cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.errors import PixelSizeError
from islet_imaging.segmentation.cells import grow_cells, nearest_label


def random_labels(seed: int, shape: tuple[int, int], n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for name in rng.permutation(np.arange(1, n + 1)):
        y, x = (int(rng.integers(0, length)) for length in shape)
        labels[y : y + int(rng.integers(1, 5)), x : x + int(rng.integers(1, 5))] = name
    return labels


def slow_nearest(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.nonzero(labels)
    names = labels[y, x]
    owner, distance2 = np.zeros_like(labels), np.zeros(labels.shape, np.int64)
    for i, j in np.ndindex(*labels.shape):
        away = (y - i) ** 2 + (x - j) ** 2
        distance2[i, j] = away.min()
        owner[i, j] = names[away == away.min()].min()
    return owner, distance2


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(1, 6),
    st.sampled_from([1, 2**20, 2**28]),
)
def test_nearest_label_is_the_slow_one(
    seed: int, height: int, width: int, reach: int, times: int
) -> None:
    # large labels do not fit beside a distance
    labels = random_labels(seed, (height, width), 4) * np.int32(times)
    owner, distance2 = nearest_label(labels, reach)
    slow_owner, slow_distance2 = slow_nearest(labels)
    near = slow_distance2 <= reach**2
    assert np.array_equal(owner[near], slow_owner[near])
    assert np.array_equal(distance2[near], slow_distance2[near])
    assert (distance2[~near] > reach**2).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(10, 40))
def test_a_tile_with_margin_grows_the_same_cells(seed: int, cut: int) -> None:
    labels = random_labels(seed, (60, 50), 30)
    whole = grow_cells(labels, ring_um=2.0, gap_um=0.4, pixel_size_um=0.4)
    tile = grow_cells(labels[cut - 6 :], ring_um=2.0, gap_um=0.4, pixel_size_um=0.4)
    assert np.array_equal(tile[6:], whole[cut:])


def test_ring_is_limited_by_distance_and_neighbour() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[18:22, 18:22], labels[18:22, 26:30] = 1, 2
    cells = grow_cells(labels, ring_um=3.0, pixel_size_um=0.5)
    assert (cells[19, 22:24] == 1).all()
    assert (cells[19, 24:26] == 2).all()
    assert cells[19, 12] == 1
    assert cells[19, 11] == 0
    assert (cells[labels > 0] == labels[labels > 0]).all()


def test_gap_leaves_out_the_pixels_next_to_the_nucleus() -> None:
    labels = np.zeros((21, 21), np.int32)
    labels[10, 10] = 3
    cells = grow_cells(labels, ring_um=4.0, gap_um=2.0, pixel_size_um=1.0)
    assert cells[10, 10:16].tolist() == [3, 0, 3, 3, 3, 0]


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (7, 9)])
def test_nothing_grows_from_nothing(shape: tuple[int, int]) -> None:
    cells = grow_cells(np.zeros(shape, np.int32), ring_um=3.0, pixel_size_um=0.5)
    assert cells.shape == shape
    assert cells.dtype == np.int32
    assert not cells.any()


def test_needs_a_pixel_size_and_an_order() -> None:
    with pytest.raises(PixelSizeError):
        grow_cells(np.zeros((3, 3), int), ring_um=3.0, pixel_size_um=None)
    with pytest.raises(ValueError, match="gap_um"):
        grow_cells(np.zeros((3, 3), int), ring_um=1.0, gap_um=2.0, pixel_size_um=1.0)
