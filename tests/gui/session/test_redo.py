"""What was taken back can be done again, also in another window and after a change of outlines."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("psygnal", reason="the plugin needs napari: pip install '.[all]'")
from napari_islet_imaging.session import reshape
from napari_islet_imaging.session.review import ReviewSession

from islet_imaging.review.journal import Journal, effective


@pytest.fixture
def opened(session):
    session.open_image(session.image_names[0])
    return session


def test_calls_are_done_again_in_their_order(opened):
    cells = [int(c) for c in opened.table["cell"][:3]]
    for cell in cells:
        opened.set_focus(cell)
        opened.call("positive")
    before = opened.table.copy()
    for cell in reversed(cells):
        assert opened.undo().cell == cell
    for cell in cells:
        assert opened.redo().cell == cell
    assert opened.redo() is None
    assert opened.table.equals(before)
    kept = Journal(opened.run.corrections).edits()
    assert len(kept) == 9  # nothing is ever rewritten
    assert [e.cell for e in effective(kept)] == cells


def test_nothing_is_done_again_after_a_further_edit(opened):
    first, second = (int(c) for c in opened.table["cell"][:2])
    opened.set_focus(first)
    opened.call("positive")
    opened.undo()
    opened.set_focus(second)
    opened.exclude()
    assert opened.redo() is None
    assert not opened.row(first)["INS_reason"].startswith("called by")


def test_another_window_can_do_it_again_and_another_person_cannot(opened):
    opened.set_focus(int(opened.table["cell"].iloc[0]))
    opened.exclude()
    opened.undo()
    assert ReviewSession(opened.run, reviewer="bo").redo() is None
    later = ReviewSession(opened.run, reviewer="ana")
    assert later.redo().after is True
    assert later.row(later.focus)["excluded"]


def test_a_deleted_nucleus_goes_again(opened):
    cell = int(opened.table["cell"].iloc[4])
    whole = opened.open.labels.copy()
    reshape.delete_cells(opened, [cell])
    gone, table = opened.open.labels.copy(), opened.table.copy()
    opened.undo()
    np.testing.assert_array_equal(opened.open.labels, whole)
    opened.redo()
    np.testing.assert_array_equal(opened.open.labels, gone)
    np.testing.assert_array_equal(opened.open.committed, gone)
    assert opened.table["flags"].tolist() == table["flags"].tolist()
    # and a fresh window reads the same
    later = ReviewSession(opened.run, reviewer="ana")
    np.testing.assert_array_equal(later.open_image(opened.open.name).labels, gone)
