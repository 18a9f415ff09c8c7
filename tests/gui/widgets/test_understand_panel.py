"""The panel that says why a cell was called."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")
from qtpy.QtCore import QPoint, Qt

from tests.gui.driving import settle

pytestmark = [
    pytest.mark.gui,
    # napari, vispy and Qt deprecate among themselves
    pytest.mark.filterwarnings("default"),
]


def test_dragging_the_threshold_moves_the_numbers_and_the_outlines(viewer, session, qtbot):
    from napari_islet_imaging.widgets.cells import CellsWidget

    session.open_image(session.image_names[0])
    widget = CellsWidget(viewer, session)
    viewer.window.add_dock_widget(widget, name="cells")
    settle(1)  # the window is laid out, whatever else the machine does
    canvas = widget.histogram
    before = widget.headline.text()
    y = canvas.height() // 2
    start = QPoint(round(canvas.x_of(canvas.threshold)), y)
    end = QPoint(round(canvas.x_of(canvas.threshold * 3)), y)
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(canvas, pos=end)
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=end)
    qtbot.waitUntil(lambda: canvas.threshold > 900)
    qtbot.waitUntil(lambda: widget.headline.text() != before)
    settle(0.3)
    positive = (session.open.outlines == 2).sum()
    widget.reset()
    qtbot.waitUntil(lambda: (session.open.outlines == 2).sum() > positive)
    assert widget.headline.text().split("<br>")[0] == before.split("<br>")[0]
    # nothing was edited by looking
    assert not session.edits


def test_a_range_shows_its_cells_and_a_cell_its_place(viewer, session, qtbot):
    from napari_islet_imaging.widgets.cells import CellsWidget

    session.open_image(session.image_names[0])
    widget = CellsWidget(viewer, session)
    viewer.window.add_dock_widget(widget, name="cells")
    widget.choose_range(2000, 1e9)
    settle(0.3)
    high = set(session.table["cell"][session.table["INS_own"] >= 2000])
    assert set(session.chosen) == high
    pink = session.open.labels[session.open.outlines == 5]
    assert set(np.unique(pink)) == high
    session.pick(min(high))  # a plain click lets go of the others
    assert not session.chosen
    widget.histogram.select_none()
    session.set_focus(min(high))
    assert widget.histogram._marks.tolist() == [session.row(min(high))["INS_own"]]
    assert f"cell {min(high)}" in widget.cell_label.text()


def test_a_threshold_is_kept_in_a_protocol(viewer, session, tmp_path):
    from napari_islet_imaging.widgets.cells import CellsWidget

    from islet_imaging.protocol import Protocol

    session.open_image(session.image_names[0])
    widget = CellsWidget(viewer, session)
    viewer.window.add_dock_widget(widget, name="cells")
    widget.move_threshold(777.0)
    widget.save_protocol(tmp_path / "protocol.yaml")
    saved = Protocol.load(tmp_path / "protocol.yaml")
    assert saved.calling("INS").method == "manual"
    assert saved.calling("INS").threshold == 777.0
    assert all("INS" not in markers for markers in saved.fitted.values())


def test_the_cell_in_focus_is_told_as_the_tried_threshold_calls_it(viewer, session):
    from napari_islet_imaging.widgets.cells import CellsWidget

    session.open_image(session.image_names[0])
    widget = CellsWidget(viewer, session)
    viewer.window.add_dock_widget(widget, name="cells")
    light = session.table[~session.table["excluded"]].sort_values("INS_own")["cell"]
    cell = int(light.iloc[-1])
    session.set_focus(cell)
    own = widget.cell_label.text()
    assert own.startswith(f"<b>cell {cell}: positive</b>")
    session.try_threshold(float(session.row(cell)["INS_own"]) * 50)
    assert widget.cell_label.text().startswith(f"<i>trying: </i><b>cell {cell}: negative</b>")
    names = [widget.table.item(k, 0).toolTip() for k in range(widget.table.rowCount())]
    assert widget.table.item(names.index("column INS_call"), 1).text() == "negative"
    session.end_trial()
    assert widget.cell_label.text() == own
