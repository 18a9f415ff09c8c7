"""Outlines drawn as a review goes on."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("psygnal")
from napari_islet_imaging.session.drawing import CallOutlines


def test_outlines_after_edits_are_those_of_a_fresh_drawing(session):
    outlines = CallOutlines(session)
    session.open_image(session.image_names[0])
    for call in ("positive", "negative", "unsure"):
        session.step()
        session.call(call)
    session.exclude(int(session.table["cell"].iloc[20]))
    drawn = session.open.outlines.copy()
    session.open.outlines[...] = 0
    session.open.forget_outlines()
    outlines.redraw()
    np.testing.assert_array_equal(drawn, session.open.outlines)
    assert set(np.unique(drawn)) >= {0, 1, 2, 3, 4}
