"""The review panel in a real window, by mouse and keys."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")
from napari_islet_imaging.session.colours import CATEGORIES, NEUTRAL
from napari_islet_imaging.viewer.layers import camera_of
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QLabel

from islet_imaging.review.journal import Journal
from tests.gui.driving import arrive, canvas_of, settle

pytestmark = [
    pytest.mark.gui,
    # napari, vispy and Qt deprecate among themselves
    pytest.mark.filterwarnings("default"),
]


def test_a_review_by_keys_on_the_canvas(review, viewer, run, qtbot):
    canvas = canvas_of(viewer)
    canvas.setFocus()
    session = review.session
    seen = []
    for key in (Qt.Key.Key_J, Qt.Key.Key_K, Qt.Key.Key_U, Qt.Key.Key_Q, Qt.Key.Key_N):
        seen.append(session.focus)
        qtbot.keyClick(canvas, key)
        arrive(review)  # the queue goes on to the other image
        assert session.focus != seen[-1]
    qtbot.keyClick(canvas, Qt.Key.Key_W)
    arrive(review)
    assert session.focus == seen[3]  # the excluded one came back
    kept = Journal(run.corrections).edits()
    assert [(e.action, e.after) for e in kept] == [
        ("call", "positive"),
        ("call", "negative"),
        ("call", "unsure"),
        ("exclude", True),
        ("undo", None),
    ]
    assert [e.cell for e in kept[:4]] == seen[:4]
    # the ring is on the cell, and the camera on the ring
    row = session.row(session.focus)
    ring = next(x for x in viewer.layers if x.name == "cell in focus")
    np.testing.assert_allclose(ring.data[0], [row["y_px"], row["x_px"]])
    np.testing.assert_allclose(camera_of(viewer).center[-2:], [row["y_um"], row["x_um"]], atol=0.2)


def test_ctrl_z_takes_back_the_call_and_not_what_is_drawn(review, viewer, run, qtbot):
    session, canvas = review.session, canvas_of(viewer)
    canvas.setFocus()
    cell, drawn = session.focus, session.open.outlines.copy()
    qtbot.keyClick(canvas, Qt.Key.Key_J)
    assert (session.open.outlines != drawn).any()
    qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert [e.action for e in Journal(run.corrections).edits()] == ["call", "undo"]
    assert session.focus == cell
    np.testing.assert_array_equal(session.open.outlines, drawn)


def test_another_image_takes_the_place_of_the_first(review, viewer, qtbot):
    session = review.session
    layers = {layer.name: layer for layer in viewer.layers}
    layers["GCG"].visible = False
    layers["INS"].contrast_limits = (5, 77)
    review.tools.paint_button.setChecked(True)
    layers["nuclei"].paint((3, 3), 7)  # and no time for the brush to settle
    first, other = session.image_names[:2]
    review.image_box.setCurrentIndex(1)
    review.image_box.activated.emit(1)
    review.act("positive")  # while it opens, keys belong to no cell
    arrive(review)
    assert session.open.name == other
    assert [e.action for e in session.edits] == ["shape"]
    assert session.edits[0].image == first
    assert {layer.name: layer for layer in viewer.layers} == layers
    assert not layers["GCG"].visible
    assert tuple(layers["INS"].contrast_limits) == (5, 77)
    np.testing.assert_array_equal(layers["INS"].data, session.open.image.channel("INS"))
    assert layers["nuclei"].data is session.open.labels
    assert layers["calls"].data is session.open.outlines
    layers["nuclei"].undo()  # the stroke was on the other image
    np.testing.assert_array_equal(session.open.labels, session.open.committed)


def test_a_run_is_opened_while_the_window_listens(viewer, run, qtbot):
    from napari_islet_imaging.widgets.review import ReviewWidget
    from qtpy.QtCore import QTimer

    widget = ReviewWidget(viewer)
    viewer.window.add_dock_widget(widget, name="review")
    settle(0.2)
    turns = []
    timer = QTimer()
    timer.timeout.connect(lambda: turns.append(len(viewer.layers)))
    timer.start(1)
    widget.open_run(run.path)
    assert "Opening" in widget.message.text()
    assert not viewer.layers
    qtbot.waitUntil(lambda: widget.session is not None and widget.session.focus > 0, timeout=60000)
    timer.stop()
    # the event loop had a turn after each layer
    assert set(turns) >= set(range(6))
    widget.open_run(run.path / "nothing here")
    qtbot.waitUntil(lambda: "nothing here" in widget.message.text(), timeout=60000)


def test_the_same_keys_work_on_the_widget(review, run, qtbot):
    review.buttons["positive"].window().activateWindow()
    review.setFocus()
    qtbot.mouseClick(review.buttons["positive"], Qt.MouseButton.LeftButton)
    settle()
    assert [e.after for e in Journal(run.corrections).edits()] == ["positive"]
    qtbot.mouseClick(review.buttons["undo"], Qt.MouseButton.LeftButton)
    assert "Took back the call positive" in review.message.text()


def test_the_drawn_outlines_follow_the_calls(review, viewer):
    session = review.session
    focus = session.focus
    review.act("positive")
    calls = next(x for x in viewer.layers if x.name == "calls")
    np.testing.assert_array_equal(calls.data, session.open.outlines)
    mine = session.open.labels == focus
    assert set(np.unique(calls.data[mine])) == {0, 2}
    review.act("undo")
    np.testing.assert_array_equal(calls.data, session.open.outlines)
    assert 3 in np.unique(calls.data[mine])


def test_clicking_a_cell_puts_it_in_focus(review, viewer, qtbot):
    from napari_islet_imaging.session.colours import SELECTED

    session = review.session
    review.view.centre_on_focus()
    first = session.focus
    session.set_focus(0)
    settle(0.1)
    canvas = canvas_of(viewer)
    middle = QPoint(canvas.width() // 2, canvas.height() // 2)
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=middle)
    settle()
    assert session.focus == first
    # beside the image there is no cell: the one in focus stays
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(3, 3))
    settle()
    assert session.focus
    # with Shift it is chosen, to be merged or deleted with others; a second time lets it go
    for chosen in ([first], []):
        qtbot.mouseClick(
            canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier, middle
        )
        settle()
        assert review.tools.chosen == chosen
        drawn = session.open.outlines[session.open.labels == first]
        assert (SELECTED in drawn) == bool(chosen)


def test_a_disk_that_is_full_is_said_and_nothing_changes(review, monkeypatch):
    from islet_imaging.review.journal import JournalError

    def full(self, edit):
        raise JournalError("no space left")

    focus, table = review.session.focus, review.session.table.copy()
    monkeypatch.setattr(Journal, "append", full)
    review.act("positive")
    assert "no space left" in review.message.text()
    assert review.session.focus == focus
    assert review.session.table.equals(table)


def test_blinding_hides_what_the_tool_and_others_said(review, viewer, run, qtbot):
    """Everything a blinded reviewer can read anywhere, with another person's calls in the run."""
    from napari_islet_imaging.widgets.cells import CellsWidget
    from napari_islet_imaging.widgets.score import ScoreWidget

    session = review.session
    first = [c.cell for c in session.queue.cells if c.image == session.open.name][:3]
    for cell in first:
        session.call("positive", cell)
    session.set_reviewer("bo")
    panels = [review, ScoreWidget(viewer), CellsWidget(viewer, session)]
    for panel in panels[1:]:
        viewer.window.add_dock_widget(panel, name=type(panel).__name__)
    review.blinded_box.setChecked(True)
    settle(0.2)
    # bo's queue holds what ana decided
    assert set(first) <= {c.cell for c in session.queue.cells if c.image == session.open.name}
    session.set_focus(first[0])
    assert set(np.unique(session.open.outlines)) == {0, NEUTRAL}
    seen = [str(x.features.columns.tolist()) for x in viewer.layers if hasattr(x, "features")]
    for panel in panels:
        legend = {name for name, _, _ in CATEGORIES.values()}
        seen += [x.text() for x in panel.findChildren(QLabel) if x.text() not in legend]
    table = panels[2].table
    seen += [table.item(r, c).text() for r in range(table.rowCount()) for c in range(2)]
    for text in seen:
        assert "ana" not in text.split(), text
        assert not re.search(r"\d %|p =|probability|: (positive|negative|unsure)", text), text
    # bo's own call is shown, and the rest on request, until the next cell
    review.act("negative")
    session.set_focus(first[0])
    assert "you said: negative" in review.cell_label.text()
    session.set_focus(first[1])
    review.reveal_button.setChecked(True)
    assert "called by ana" in review.cell_label.text()
    assert NEUTRAL not in session.open.outlines
    review.act("next")
    arrive(review)
    assert not review.reveal_button.isChecked()
    assert NEUTRAL in session.open.outlines
    review.hand_over.compare()
    assert "ana and bo: agree on 0 of 1" in review.message.text()


def test_what_another_window_edits_is_seen_here(review, run):
    from napari_islet_imaging.session.review import ReviewSession

    session, other = review.session, ReviewSession(run, reviewer="bo")
    other.open_image(session.open.name)
    cell = session.focus
    other.call("positive", cell)
    assert session.row(cell)["INS_call"] == "unsure"
    settle(2.5)  # the journal is asked every two seconds
    assert session.row(cell)["INS_call"] == "positive"
    assert "bo" in review.agreement_label.text()
    from napari_islet_imaging.session import reshape

    gone = session.table["cell"].tolist()[20]
    reshape.delete_cells(other, [gone])
    session.catch_up()
    assert not (session.open.labels == gone).any()
    assert session.focus == cell
    other.undo()
    assert session.catch_up() == 1
    np.testing.assert_array_equal(session.open.labels, other.open.labels)
    session.call("negative", cell)
    assert other.catch_up() == 1
    assert other.tables[session.open.name].equals(session.table)


def test_blinding_hides_every_name(review, viewer, run):
    review.blinded_box.setChecked(True)
    settle(0.1)
    names = [i["image"] for i in run.provenance["images"]]
    shown = [review.image_box.itemText(k) for k in range(review.image_box.count())]
    shown += [review.headline.text(), review.cell_label.text(), review.agreement_label.text()]
    for layer in viewer.layers:
        shown += [layer.name, str(layer.metadata["islet_imaging"].get("image"))]
    assert not any(name in text for name in names for text in shown)
    assert not any(word in text for word in ("control", "treated") for text in shown)


def test_cells_drawn_by_chance_are_called_without_seeing_the_call(
    review, viewer, run, qtbot, monkeypatch
):
    from islet_imaging.run.validation_sheet import FILE, read_sheet

    widget = review
    monkeypatch.setattr(
        "napari_islet_imaging.widgets.review.QInputDialog.getInt", lambda *_: (30, True)
    )
    widget.queue_box.setCurrentIndex(1)
    widget.queue_box.activated.emit(1)
    arrive(widget)
    assert widget.message.text() == ""
    session = widget.session
    sheet = read_sheet(run.path / FILE)
    own = sheet[sheet["marker"] == session.marker]
    assert len(own) == 30 == session.facts.n_drawn(session.marker)
    assert {(c.image, c.cell) for c in session.queue.cells} == set(
        own[["image", "cell"]].itertuples(index=False, name=None)
    )
    assert set(np.unique(session.open.outlines)) == {0, NEUTRAL}
    first = session.focus
    assert "not shown" in widget.cell_label.text()
    assert "p =" not in widget.cell_label.text()
    qtbot.keyClick(canvas_of(viewer), Qt.Key.Key_K)
    arrive(widget)
    assert session.focus != first
    assert (session.edits[-1].cell, session.edits[-1].after) == (first, "negative")
    widget.queue_box.setCurrentIndex(0)
    widget.queue_box.activated.emit(0)
    arrive(widget)
    assert NEUTRAL not in session.open.outlines
    assert all(c.why != "drawn by chance" for c in session.queue.cells)


def test_two_reviewers_are_compared(review):
    review.act("positive")
    review.session.set_reviewer("bo")
    review.session.set_focus(review.session.edits[0].cell)
    review.act("negative")
    review.hand_over.compare()
    assert "ana and bo: agree on 0 of 1" in review.message.text()


def test_one_review_panel_has_the_keys(review, viewer, run, qtbot):
    from napari_islet_imaging.session.review import ReviewSession
    from napari_islet_imaging.widgets.docking import dock_review
    from napari_islet_imaging.widgets.review import ReviewWidget

    session = ReviewSession(run, reviewer="ben")
    dock_review(viewer, session)
    qtbot.waitUntil(lambda: session.focus > 0, timeout=60000)  # it has begun
    panels = [w for w in viewer.window.dock_widgets.values() if isinstance(w, ReviewWidget)]
    assert [w.session.reviewer for w in panels] == ["ben"]
    qtbot.keyClick(canvas_of(viewer), Qt.Key.Key_J)
    arrive(panels[0])
    assert [e.who for e in Journal(run.corrections).edits()] == ["ben"]
    review.connections.clear()  # the first panel goes for good: the keys stay
    qtbot.keyClick(canvas_of(viewer), Qt.Key.Key_K)
    arrive(panels[0])
    assert [e.who for e in Journal(run.corrections).edits()] == ["ben", "ben"]


def test_no_key_calls_a_cell_of_a_hidden_image(review, run):
    stains = [x for x in review.viewer.layers if "channel" in x.metadata["islet_imaging"]]
    for layer in stains:
        layer.visible = False
    review.act("positive")
    assert "hidden" in review.message.text()
    assert not Journal(run.corrections).edits()
    stains[0].visible = True
    review.act("positive")
    assert len(Journal(run.corrections).edits()) == 1


def test_outlines_lie_over_stains_that_came_later(review, viewer):
    for name in ("calls", "islets"):
        viewer.layers.move(viewer.layers.index(name), 0)
    review.session.open_image(review.session.image_names[1])
    names = [layer.name for layer in viewer.layers]
    assert names.index("calls") > names.index("islets") > max(map(names.index, ("DAPI", "INS")))


def _click(viewer, qtbot, session, cell, *, shift=False):
    """Click a nucleus where it is on the screen."""
    from napari_islet_imaging.viewer.layers import camera_of

    row = session.row(cell)
    camera_of(viewer).center = (float(row["y_um"]), float(row["x_um"]))
    settle(0.1)
    canvas = canvas_of(viewer)
    middle = QPoint(canvas.width() // 2, canvas.height() // 2)
    with_key = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, with_key, middle)
    settle()


def test_a_plain_click_lets_go_of_what_was_chosen(review, viewer, qtbot):
    session = review.session
    review.view.centre_on_focus()
    first, second, third = session.table["cell"].tolist()[10:13]
    _click(viewer, qtbot, session, first, shift=True)
    _click(viewer, qtbot, session, second, shift=True)
    assert session.chosen == [first, second]
    assert f"nuclei {first}, {second}" in review.tools.hint.text()
    _click(viewer, qtbot, session, third)
    assert session.chosen == []
    assert session.focus == third
    qtbot.mouseClick(review.tools.delete_button, Qt.MouseButton.LeftButton)
    gone = session.table.set_index("cell")["flags"].astype(str).str.contains("painted_out")
    assert [int(c) for c in gone.index[gone]] == [third]
    assert f"Deleted nucleus {third}." in review.message.text()


def test_after_a_name_and_enter_letters_are_keys(review, run, qtbot):
    review.window().activateWindow()
    qtbot.waitUntil(review.window().isActiveWindow)
    review.reviewer_edit.setFocus()
    review.reviewer_edit.selectAll()
    qtbot.keyClicks(review.reviewer_edit, "anna")
    qtbot.keyClick(review.reviewer_edit, Qt.Key.Key_Return)
    focus = QApplication.focusWidget()
    assert focus is review
    qtbot.keyClick(focus, Qt.Key.Key_J)
    settle(0.1)
    assert review.session.reviewer == "anna"
    assert [(e.who, e.after) for e in Journal(run.corrections).edits()] == [("anna", "positive")]


def test_a_trial_ends_when_another_panel_comes_to_the_front(review, viewer):
    from napari_islet_imaging.widgets.cells import CellsWidget

    here = review.session
    widget = CellsWidget(viewer, here)
    viewer.window.add_dock_widget(widget, name="understand")
    settle(0.4)
    assert not widget.visibleRegion().isEmpty()
    lines, number = here.open.outlines.copy(), review.headline.text()
    widget._released(here.thresholds()["INS"].value * 4)
    assert "Trying a threshold" in widget.headline.text()
    assert "Trying a threshold" in review.headline.text()
    assert (here.open.outlines != lines).any()
    review.parentWidget().raise_()  # its tab is clicked
    settle(0.3)
    assert widget.visibleRegion().isEmpty()
    assert here.trial is None
    assert review.headline.text() == number
    np.testing.assert_array_equal(here.open.outlines, lines)
