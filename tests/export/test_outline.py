from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from islet_imaging.export.outline import label_polygons, mask_polygon


def _area(polygon):
    x, y = polygon.T
    return abs(0.5 * (np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def _fill(polygon, shape):
    """Pixels whose centres lie within, by the even-odd rule."""
    from matplotlib.path import Path as MplPath

    ys, xs = np.mgrid[: shape[0], : shape[1]]
    centres = np.column_stack([xs.ravel() + 0.5, ys.ravel() + 0.5])
    return MplPath(polygon).contains_points(centres).reshape(shape)


def test_polygon_encloses_exactly_the_pixels():
    mask = np.zeros((12, 15), bool)
    mask[2:8, 3:9] = True
    mask[8:10, 5:7] = True
    polygon = mask_polygon(mask)
    assert _area(polygon) == mask.sum()
    assert (_fill(polygon, mask.shape) == mask).all()


@settings(max_examples=60, deadline=None)
@given(arrays(bool, (7, 8), elements=st.booleans()))
def test_any_mask_gives_its_largest_outer_boundary(mask):
    if not mask.any():
        return
    from scipy.ndimage import binary_fill_holes, label

    polygon = mask_polygon(mask)
    pieces, n = label(mask)
    filled = [binary_fill_holes(pieces == k).sum() for k in range(1, n + 1)]
    assert _area(polygon) == max(filled)


def test_labels_lie_where_they_are():
    labels = np.zeros((40, 50), np.int32)
    labels[10:14, 20:26] = 3
    labels[30, 45] = 9
    found = label_polygons(labels)
    assert sorted(found) == [3, 9]
    assert found[3].min(axis=0).tolist() == [20, 10]
    assert found[3].max(axis=0).tolist() == [26, 14]
    assert _area(found[9]) == pytest.approx(1)
