"""What the hand and the eye rely on: keys, places of buttons, the table, the small screen."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")
from napari_islet_imaging.viewer.axis import AsinhScale, shown_range
from napari_islet_imaging.viewer.layers import camera_of, tag_of
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QAbstractButton

from islet_imaging.review.journal import Journal
from tests.gui.driving import arrive, canvas_of, settle

pytestmark = [
    pytest.mark.gui,
    # napari, vispy and Qt deprecate among themselves
    pytest.mark.filterwarnings("default"),
]
SHIFT = Qt.KeyboardModifier.ShiftModifier


def places(panel):
    """Top of every button that is shown, in the panel."""
    return {
        b.text().split(" [")[0]: b.mapTo(panel, QPoint(0, b.height())).y()
        for b in panel.findChildren(QAbstractButton)
        if b.isVisible() and b.text()
    }


def small(viewer):
    """Make the window small, and wait until nothing in it moves any more."""
    window = viewer.window._qt_window
    window.resize(1366, 768)
    before = None
    for _ in range(40):
        settle(0.2)
        now = [b.mapTo(window, QPoint(0, 0)).y() for b in window.findChildren(QAbstractButton)]
        if now == before:
            return
        before = now
    raise AssertionError("the window does not come to rest")


def test_on_a_small_screen_all_that_is_pressed_is_seen_and_stays(review, viewer):
    small(viewer)
    before = places(review)
    needed = {"Positive", "Negative", "Unsure", "Exclude", "Undo", "Redo", "Skip", "Back", "Lines"}
    needed |= {"Grey", "Table", "Report", "Paint", "Merge", "Split", "Delete", "Update tables"}
    assert needed <= set(before)
    assert max(before[name] for name in needed) <= review.height()
    inside = review._scroll.widget()
    assert inside.width() <= review._scroll.viewport().width()  # nothing is cut at the right
    review.say("one line")
    review.session.facts._flags[review.session.open.name] = [("saturated", "a message " * 40)]
    review.session.set_second("GCG")
    review.say("a message of many lines " * 30)
    review.act("positive")
    review.session.try_threshold(700.0)
    settle(0.1)
    after = places(review)
    assert {k: after[k] for k in needed} == {k: before[k] for k in needed}
    # a flag is a line until it is asked for
    note = review.notes.notes[-1]
    low = note.height()
    assert low < 2 * note.fontMetrics().height()
    note.turn()
    settle(0.1)
    assert note.height() > low


def test_the_score_form_fits_a_small_screen(viewer, session):
    from napari_islet_imaging.session.layer_data import run_layers
    from napari_islet_imaging.viewer.layers import create
    from napari_islet_imaging.widgets.score import ScoreWidget

    widget = ScoreWidget(viewer)
    viewer.window.add_dock_widget(widget, name="score")
    small(viewer)
    before = places(widget)
    session.open_image(session.image_names[0])
    session.exclude(int(session.table["cell"].iloc[3]))
    for made in run_layers(session):
        viewer.add_layer(create(made))
    settle(0.2)
    widget.status.setText("many words " * 60)
    widget.progress.setVisible(True)
    widget.notes.set_notes([f"note {k} " * 20 for k in range(9)])
    settle(0.1)
    after = places(widget)
    kept = ("Score", "Find nuclei again", "Cancel")
    assert {k: after[k] for k in kept} == {k: before[k] for k in kept}
    assert after["Review the cells"] <= widget.height()
    assert "INS+" in widget.result.text()
    assert "not counted: 1 (1 by hand)" in widget.result.text()
    # the nucleus's size is what is scored with
    widget.nucleus_edit.setText("9,5")
    assert widget.current_protocol().nuclei.diameter_um == 9.5
    assert widget.again_button.isEnabled()
    widget.nucleus_edit.setText("900")
    widget.score()
    assert "from 2 to 60" in widget.status.text()
    # what was typed for one image is not meant for another
    viewer.add_image(np.zeros((50, 60), np.uint16), name="DAPI")
    widget.image_box.setCurrentIndex(1)
    assert widget.nucleus_edit.text() == ""


def test_keys_change_outlines_and_are_letters_in_a_text_field(review, viewer, run, qtbot):
    canvas, session = canvas_of(viewer), review.session
    canvas.setFocus()
    n = len(session.table)
    cell = session.focus
    qtbot.keyClick(canvas, Qt.Key.Key_D, SHIFT)
    assert not (session.open.labels == cell).any()
    qtbot.keyClick(canvas, Qt.Key.Key_W)
    assert (session.open.labels == cell).any()
    qtbot.keyClick(canvas, Qt.Key.Key_W, SHIFT)
    assert not (session.open.labels == cell).any()
    qtbot.keyClick(canvas, Qt.Key.Key_W)
    qtbot.keyClick(canvas, Qt.Key.Key_S, SHIFT)
    assert len(session.table) > n
    halves = [cell, int(session.table["cell"].max())]
    for half in halves:
        session.pick(half, add=True)
    qtbot.keyClick(canvas, Qt.Key.Key_M, SHIFT)
    assert (session.open.labels == halves[1]).sum() == 0
    qtbot.keyClick(canvas, Qt.Key.Key_B, SHIFT)
    assert review.tools.paint_button.isChecked()
    qtbot.keyClick(canvas, Qt.Key.Key_B, SHIFT)
    assert not review.tools.paint_button.isChecked()
    kept = len(Journal(run.corrections).edits())
    edit = review.reviewer_edit
    edit.setFocus()
    edit.clear()
    for key in (Qt.Key.Key_D, Qt.Key.Key_M, Qt.Key.Key_S, Qt.Key.Key_J):
        qtbot.keyClick(edit, key, SHIFT)
    qtbot.keyClick(edit, Qt.Key.Key_0)
    assert edit.text().lower() == "dmsj0"
    assert len(Journal(run.corrections).edits()) == kept


def test_one_key_shows_the_marker_alone_in_grey_and_brings_colours_back(review, viewer, qtbot):
    canvas = canvas_of(viewer)
    canvas.setFocus()
    stains = [x for x in viewer.layers if "channel" in tag_of(x)]
    stains[0].visible = False  # what the user chose comes back as it was
    before = [(x.visible, x.colormap.name) for x in stains]
    qtbot.keyClick(canvas, Qt.Key.Key_0)
    shown = [x for x in stains if x.visible]
    assert [tag_of(x)["channel"] for x in shown] == [review.session.marker]
    assert shown[0].colormap.name == "gray"
    qtbot.keyClick(canvas, Qt.Key.Key_0)
    assert [(x.visible, x.colormap.name) for x in stains] == before


def test_the_table_goes_to_images_islets_and_decided_cells(review, viewer, qtbot):
    session = review.session
    review.act("positive")
    qtbot.mouseClick(review.table_button, Qt.MouseButton.LeftButton)
    table = next(w for w in viewer.window.dock_widgets.values() if hasattr(w, "islets"))
    settle(0.3)
    assert table.images.rowCount() == 2
    other = next(n for n in session.image_names if n != session.open.name)
    rows = {table.images.item(k, 0).text(): k for k in range(2)}

    def click(one, row):
        where = one.visualItemRect(one.item(row, 0)).center()
        qtbot.mouseClick(one.viewport(), Qt.MouseButton.LeftButton, pos=where)

    click(table.images, rows[other])
    arrive(review)
    assert session.open.name == other
    settle(0.5)
    # a heading sorts by number
    table.images.sortItems(1, Qt.SortOrder.DescendingOrder)
    shown = [float(table.images.item(k, 1).text().split()[0]) for k in range(2)]
    assert shown == sorted(shown, reverse=True)
    table.tabs.setCurrentIndex(1)
    settle(0.1)
    click(table.islets, 0)
    islet = int(table.islets.item(0, 0).text())
    own = session.table[session.table["islet"] == islet]
    middle = (own[["y_um", "x_um"]].min() + own[["y_um", "x_um"]].max()) / 2
    np.testing.assert_allclose(camera_of(viewer).center[-2:], middle, atol=0.5)
    table.tabs.setCurrentIndex(2)
    settle(0.1)
    assert table.corrected.item(0, 1).text().startswith("INS positive")
    cell = int(table.corrected.item(0, 0).text())
    click(table.corrected, 0)
    arrive(review)
    assert (session.focus, session.open.name != other) == (cell, True)
    # a blinded reader is shown no share
    session.set_blinded(True)
    settle(0.6)
    assert table.images.rowCount() == table.islets.rowCount() == 0
    assert not review.report_button.isEnabled()


def test_a_small_picture_goes_to_its_cell(review, qtbot):
    review.strip.fill()
    n = review.strip.count()
    assert n > 2
    cell = review.strip.item(2).data(Qt.ItemDataRole.UserRole)
    where = review.strip.visualItemRect(review.strip.item(2)).center()
    qtbot.mouseClick(review.strip.viewport(), Qt.MouseButton.LeftButton, pos=where)
    assert review.session.focus == cell
    assert review.session.queue.current.cell == cell


def test_the_report_is_opened_or_said_to_be_missing(review, run, qtbot, monkeypatch):
    from qtpy.QtGui import QDesktopServices

    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url) or True)
    qtbot.mouseClick(review.report_button, Qt.MouseButton.LeftButton)
    assert "no report yet" in review.message.text()
    (run.path / "report.html").write_text("<p>x</p>", "utf-8")
    qtbot.mouseClick(review.report_button, Qt.MouseButton.LeftButton)
    assert opened[0].toLocalFile() == str(run.path / "report.html")


def test_two_markers_are_plotted_and_a_point_is_its_cell(viewer, session, qtbot):
    from napari_islet_imaging.widgets.cells import CellsWidget

    session.open_image(session.image_names[0])
    widget = CellsWidget(viewer, session)
    viewer.window.add_dock_widget(widget, name="cells")
    settle(0.3)
    widget.second_box.setCurrentIndex(widget.second_box.findData("GCG"))
    widget.second_box.activated.emit(widget.second_box.currentIndex())
    settle(0.2)
    assert widget.plots.currentWidget() is widget.scatter
    fitted = session.thresholds()
    assert widget.scatter.thresholds == (fitted["INS"].value, fitted["GCG"].value)
    point = int(np.nanargmax(widget.scatter._values.sum(axis=1)))
    place = widget.scatter.places()[point]
    qtbot.mouseClick(
        widget.scatter, Qt.MouseButton.LeftButton, pos=QPoint(*(round(v) for v in place))
    )
    row = session.row(session.focus)
    assert [row["INS_own"], row["GCG_own"]] == widget.scatter._values[point].tolist()
    assert "both" in widget.headline.text()
    # measurements are told in words, with the column's name at hand
    named = {widget.table.item(k, 0).text(): k for k in range(widget.table.rowCount())}
    item = widget.table.item(named["INS around the nucleus, own light"], 0)
    assert item.toolTip() == "column INS_own"
    assert "_" not in widget.feature_box.currentText()


def test_one_bright_cell_does_not_fill_the_axis():
    many = np.random.default_rng(1).lognormal(5, 0.3, 300)
    for values in (many, np.append(many, 1e7)):
        position = AsinhScale(values).forward(values)
        low, high = shown_range(position)
        seen = AsinhScale(values).forward(np.percentile(many, [5, 95]))
        assert (seen[1] - seen[0]) / (high - low) > 0.35


def test_colours_of_the_user_s_layers_stay(viewer, session):
    from napari_islet_imaging.session.layer_data import channel_layers
    from napari_islet_imaging.viewer.layers import create
    from napari_islet_imaging.viewer.stained import images_in, keep_colours

    opened = session.open_image(session.image_names[0])
    for channel, colour in zip(("DAPI", "INS", "GCG"), ("cyan", "yellow", "red"), strict=True):
        viewer.add_image(opened.image.channel(channel), name=channel, colormap=colour)
    image = next(iter(images_in(viewer).values()))
    fresh = [create(one) for one in channel_layers(opened.image)]
    keep_colours(image, fresh)
    assert [x.colormap.name for x in fresh] == ["cyan", "yellow", "red"]


def test_the_keyboard_reaches_buttons_and_shows_where_it_is(review, qtbot):
    button = review.buttons["undo"]
    assert button.focusPolicy() & Qt.FocusPolicy.TabFocus
    assert not button.focusPolicy() & Qt.FocusPolicy.ClickFocus  # keys stay with the image
    before = button.grab().toImage()
    review.window().activateWindow()
    button.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.waitUntil(button.hasFocus)
    settle(0.1)
    assert button.grab().toImage() != before
