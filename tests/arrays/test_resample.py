"""Regions of a resampled image fit together bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.arrays.resample import input_range, resample_region, resampled_length


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.2, 3.0),
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(20, 60), st.integers(20, 60)),
)
def test_regions_equal_the_whole(zoom, seed, shape):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60000, shape).astype(np.uint16)
    size = [resampled_length(n, zoom) for n in shape]
    whole = resample_region(image, (0, size[0]), (0, size[1]), zoom)
    r = sorted(rng.integers(0, size[0] + 1, 2))
    c = sorted(rng.integers(0, size[1] + 1, 2))
    if r[0] == r[1] or c[0] == c[1]:
        return
    ry, rx = input_range(*r, zoom, shape[0]), input_range(*c, zoom, shape[1])
    part = resample_region(image[slice(*ry), slice(*rx)], tuple(r), tuple(c), zoom, (ry[0], rx[0]))
    assert np.array_equal(part, whole[slice(*r), slice(*c)])


def test_zoom_of_one_changes_nothing():
    image = np.arange(30, dtype=np.float32).reshape(5, 6)
    assert np.array_equal(resample_region(image, (0, 5), (0, 6), 1.0), image)
    # also of a part of it, and where its ends are repeated
    part = resample_region(image[1:].astype(np.uint8), (2, 5), (1, 3), 1.0, (1, 0))
    assert np.array_equal(part, image[2:5, 1:3])
    beyond = resample_region(image, (-1, 6), (0, 6), 1.0)
    assert np.array_equal(beyond, np.pad(image, ((1, 1), (0, 0)), mode="edge"))


@pytest.mark.parametrize("zoom", [0.3, 0.5, 2.0])
def test_brightness_and_place_are_kept(zoom):
    image = np.zeros((60, 60), np.float32)
    image[20:30, 36:46] = 10
    size = resampled_length(60, zoom)
    small = resample_region(image, (0, size), (0, size), zoom)
    assert small.sum() / zoom**2 == pytest.approx(1000, rel=0.02)
    y, x = (np.average(i, weights=small) for i in np.indices(small.shape))
    assert (y + 0.5) / zoom - 0.5 == pytest.approx(24.5, abs=0.1)
    assert (x + 0.5) / zoom - 0.5 == pytest.approx(40.5, abs=0.1)
