"""Outlines: a call can be read without seeing colour, and a patch is drawn as the whole is."""

from __future__ import annotations

import numpy as np
import pytest
from napari_islet_imaging.session.colours import CATEGORIES, stain_colours
from napari_islet_imaging.session.outlines import categories_of, draw_outlines, line_width_px


@pytest.fixture
def discs():
    labels = np.zeros((80, 160), np.int32)
    yy, xx = np.mgrid[:80, :160]
    centre = np.zeros((5, 2), np.float32)
    for k, x in enumerate((20, 60, 100, 140), start=1):
        labels[(yy - 40) ** 2 + (xx - x) ** 2 < 15**2] = k
        centre[k] = (40, x)
    return labels, centre


def test_each_call_has_a_line_of_its_own(discs):
    labels, centre = discs
    drawn = {}
    for category in CATEGORIES:
        lookup = np.full(5, category, np.uint8)
        lookup[0] = 0
        out = draw_outlines(labels, lookup, centre, width_px=4)
        assert set(np.unique(out)) == {0, category}
        drawn[category] = (out > 0).sum()
    negative, positive, unsure, excluded = (drawn[c] for c in (1, 2, 3, 4))
    assert negative < 0.7 * positive  # thin
    assert 0.5 * positive < unsure < 0.75 * positive  # dashed
    assert 0.3 * positive < excluded < 0.5 * positive  # dotted
    assert len({style for _, _, style in CATEGORIES.values()}) == len(CATEGORIES)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_patch_is_drawn_as_in_the_whole(discs, width):
    labels, centre = discs
    lookup = np.array([0, 1, 2, 3, 4], np.uint8)
    whole = draw_outlines(labels, lookup, centre, width_px=width)
    region = (slice(15, 70), slice(35, 130))
    patch = draw_outlines(labels[region], lookup, centre, width_px=width, origin=(15, 35))
    inner = slice(width, -width)
    np.testing.assert_array_equal(patch[inner, inner], whole[region][inner, inner])


def test_lines_stay_within_their_nucleus_and_touching_ones_are_told_apart():
    labels = np.ones((20, 20), np.int32)
    labels[:, 10:] = 2
    lookup = np.array([0, 1, 2], np.uint8)
    out = draw_outlines(labels, lookup, np.zeros((3, 2), np.float32))
    assert (out[:, 9] == 1).all()
    assert (out[:, 10] == 2).all()
    assert not out[:, :9].any()


def test_a_label_without_a_row_draws_nothing():
    labels = np.zeros((9, 9), np.int32)
    labels[2:7, 2:7] = 40
    assert not draw_outlines(labels, np.zeros(2, np.uint8), np.zeros((2, 2), np.float32)).any()


def test_excluded_hides_the_call():
    found = categories_of(
        np.array(["positive", "unsure", "negative"], object), np.array([0, 0, 1], bool)
    )
    assert found.tolist() == [2, 3, 4]


def test_line_width_follows_the_pixel_size():
    assert [line_width_px(s) for s in (None, 0.65, 0.3, 0.1)] == [1, 1, 2, 6]


def test_stains_have_the_field_s_colours_and_no_two_are_alike():
    assert stain_colours(["DAPI", "INS", "GCG", "SST"]) == ["blue", "green", "magenta", "cyan"]
    found = stain_colours(["Hoechst", "C-peptide", "INS", "foo", "bar"])
    assert found[:2] == ["blue", "green"]
    assert len(set(found)) == 5
