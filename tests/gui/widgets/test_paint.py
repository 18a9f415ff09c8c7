"""Painting nuclei with napari's own brush."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from islet_imaging.review.journal import Journal
from tests.gui.driving import canvas_of, settle

pytestmark = [
    pytest.mark.gui,
    # napari, vispy and Qt deprecate among themselves
    pytest.mark.filterwarnings("default"),
]


def test_painting_with_napari_s_brush_is_kept_and_measured(review, viewer, run):
    session = review.session
    cell = session.focus
    area = session.row(cell)["nucleus_area_um2"]
    review.tools.paint_button.setChecked(True)
    nuclei = next(x for x in viewer.layers if x.name == "nuclei")
    assert nuclei.visible
    assert str(nuclei.mode) == "paint"
    ys, xs = np.nonzero(nuclei.data == cell)
    nuclei.paint((int(ys.max()), int(xs.mean())), cell)
    settle(0.5)
    assert session.row(cell)["nucleus_area_um2"] > area
    assert Journal(run.corrections).edits()[-1].action == "shape"
    nuclei.undo()  # napari's own undo is one more change, and kept as well
    settle(0.5)
    assert session.row(cell)["nucleus_area_um2"] == pytest.approx(area)
    review.tools.paint_button.setChecked(False)
    assert not nuclei.visible


def test_ctrl_z_while_painting_takes_back_a_nucleus_that_was_cut(review, viewer, qtbot):
    session = review.session
    cell, before = session.focus, session.open.labels.copy()
    review.tools.paint_button.setChecked(True)
    nuclei = review.view.layer("nuclei")
    ys, xs = np.nonzero(before == cell)
    nuclei.brush_size = 2
    for y in range(int(ys.min()) - 2, int(ys.max()) + 3):
        nuclei.paint((y, int(xs.mean())), 0)
    settle(0.5)
    assert session.row(cell)["nucleus_area_um2"] < (before == cell).sum() * 0.3**2 * 0.9
    assert len(np.unique(session.open.labels)) > len(np.unique(before))
    canvas = canvas_of(viewer)
    canvas.setFocus()
    qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(0.5)
    np.testing.assert_array_equal(session.open.labels, before)


def test_a_stroke_in_which_the_hand_rests_is_one_edit(review, viewer, run, qtbot):
    review.view.centre_on_focus()
    review.tools.paint_button.setChecked(True)
    review.view.layer("nuclei").brush_size = 6
    settle(0.2)
    canvas = canvas_of(viewer)
    at = QPoint(canvas.width() // 2, canvas.height() // 2)
    qtbot.mouseMove(canvas, at)
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=at)
    for _ in range(3):
        settle(0.3)
        at += QPoint(25, 0)
        place = QPointF(at)
        held = Qt.MouseButton.LeftButton
        moved = QMouseEvent(
            QEvent.Type.MouseMove,
            place,
            QPointF(canvas.mapToGlobal(at)),
            Qt.MouseButton.NoButton,
            held,
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(canvas, moved)
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=at)
    settle(0.5)
    assert [e.action for e in Journal(run.corrections).edits()] == ["shape"]


def test_paint_brings_back_a_nuclei_layer_that_was_deleted(review, viewer):
    viewer.layers.remove(review.view.layer("nuclei"))
    review.tools.paint_button.setChecked(True)
    nuclei = review.view.layer("nuclei")
    assert nuclei in viewer.layers
    assert nuclei.visible
    assert nuclei.data is review.session.open.labels
    assert str(nuclei.mode) == "paint"
