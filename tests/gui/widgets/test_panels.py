"""What every panel does: open from the menu, close, share a place."""

from __future__ import annotations

import gc
import importlib

import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")
from tests.gui.driving import settle

pytestmark = [
    pytest.mark.gui,
    # napari, vispy and Qt deprecate among themselves
    pytest.mark.filterwarnings("default"),
]


WIDGETS = [
    ("review", "ReviewWidget"),
    ("cells", "CellsWidget"),
    ("score", "ScoreWidget"),
    ("batch", "BatchWidget"),
    ("teach", "TeachWidget"),
]


@pytest.mark.parametrize(("module", "name"), WIDGETS)
def test_widgets_can_be_closed_and_opened_again(viewer, run, session, module, name):

    kind = getattr(importlib.import_module(f"napari_islet_imaging.widgets.{module}"), name)
    session.open_image(session.image_names[0])
    from napari_islet_imaging.viewer.session_view import view_of

    view_of(viewer, session).show()
    before = list(viewer.mouse_drag_callbacks)
    for _ in range(3):
        widget = kind(viewer)
        dock = viewer.window.add_dock_widget(widget, name=name)
        settle(0.05)
        viewer.window.remove_dock_widget(dock)
        dock.close()
        del widget, dock
        settle(0.05)
        gc.collect()
        # what used to be connected is not called any more
        session.step()
        session.call("positive")
        viewer.layers.selection.active = viewer.layers[0]
    assert len(session.edits) == 3
    assert viewer.mouse_drag_callbacks == before


def test_widgets_open_from_napari_s_menus(viewer):
    opened = []
    for display in (
        "Score an image",
        "Understand the calls",
        "Review cells",
        "Score a folder",
        "Teach the network",
    ):
        _, widget = viewer.window.add_plugin_dock_widget("islet-imaging", display)
        opened.append(widget)
    settle(0.3)
    assert len({type(w) for w in opened}) == 5
    assert all(w.isVisible() for w in opened)


def test_panels_share_tabs(viewer):
    from napari_islet_imaging.widgets.cells import CellsWidget
    from napari_islet_imaging.widgets.score import ScoreWidget

    for name, kind in (("score", ScoreWidget), ("cells", CellsWidget)):
        viewer.window.add_dock_widget(kind(viewer), name=name)
        settle(0.2)
    docks = [w.parentWidget() for w in viewer.window.dock_widgets.values()]
    assert docks[0].parentWidget().tabifiedDockWidgets(docks[0]) == [docks[1]]
    assert not docks[1].widget().visibleRegion().isEmpty()


def test_the_wheel_over_a_drop_down_scrolls_and_chooses_nothing(viewer, session):
    """Every drop-down and number field of every panel, as one that slipped through is enough."""
    from napari_islet_imaging.viewer.session_view import view_of
    from qtpy.QtCore import QPoint, QPointF, Qt
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication, QComboBox, QSpinBox

    session.open_image(session.image_names[0])
    view_of(viewer, session).show()
    tried = 0
    for module, name in WIDGETS:
        kind = getattr(importlib.import_module(f"napari_islet_imaging.widgets.{module}"), name)
        widget = kind(viewer)
        viewer.window.add_dock_widget(widget, name=name)
        settle(0.05)
        for box in (*widget.findChildren(QComboBox), *widget.findChildren(QSpinBox)):
            state = box.currentIndex() if isinstance(box, QComboBox) else box.value()
            box.setFocus()
            for angle in (-120, 120):
                event = QWheelEvent(
                    QPointF(5, 5),
                    QPointF(box.mapToGlobal(QPoint(5, 5))),
                    QPoint(0, 0),
                    QPoint(0, angle),
                    Qt.MouseButton.NoButton,
                    Qt.KeyboardModifier.NoModifier,
                    Qt.ScrollPhase.NoScrollPhase,
                    False,
                )
                QApplication.sendEvent(box, event)
                now = box.currentIndex() if isinstance(box, QComboBox) else box.value()
                assert now == state, (name, box.objectName())
            tried += 1
    assert tried > 12


def test_nothing_is_told_to_a_panel_that_is_gone(viewer):
    from napari_islet_imaging.viewer.turns import while_there
    from qtpy.QtCore import QCoreApplication, QEvent
    from qtpy.QtWidgets import QWidget

    told = []
    widget = QWidget()
    tell = while_there(widget, told.append)
    tell("there")
    widget.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    tell("gone")
    assert told == ["there"]
