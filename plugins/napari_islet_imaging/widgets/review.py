"""Review: go through the cells that matter most, one key each, nothing lost.

The idea: the widget shows the queue, hands keys and buttons to the session, and shows what the
session says; the session writes every edit to the journal before anything changes on the screen.
It fails to take a key while a text field has the focus: there, letters are letters.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QFileDialog,
    QInputDialog,
    QShortcut,
)

from islet_imaging.errors import IsletImagingError
from napari_islet_imaging.viewer import words
from napari_islet_imaging.viewer.loading import load_session
from napari_islet_imaging.viewer.turns import while_there
from napari_islet_imaging.widgets.hand_over import open_report
from napari_islet_imaging.widgets.review_form import ALSO, KEYS, ReviewForm
from napari_islet_imaging.widgets.shares import dock_shares

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session.review import ReviewSession


class ReviewWidget(ReviewForm):
    """The review queue of a run.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The window; napari gives it by this name.
    session : ReviewSession, optional
        The session; by default the one whose layers are in the viewer.
    """

    def __init__(self, napari_viewer: napari.Viewer, session: ReviewSession | None = None) -> None:
        super().__init__(napari_viewer)
        self._connect()
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self._bind_keys()
        self.follow(session)
        self.refresh()

    # ------------------------------------------------------------ building

    def _connect(self) -> None:
        self.image_box.activated.connect(self._choose_image)
        self.marker_box.activated.connect(self._choose_marker)
        self.second_box.activated.connect(self._choose_second)
        self.queue_box.activated.connect(self._choose_queue)
        self.reviewer_edit.editingFinished.connect(self._name_reviewer)
        self.blinded_box.toggled.connect(self._blind)
        self.reveal_button.toggled.connect(self._reveal)
        self.strip.cell_chosen.connect(self._look_at)
        self.open_button.clicked.connect(self._choose_run)
        self.find_button.clicked.connect(self._choose_images)
        self.table_button.clicked.connect(self._open_table)
        self.report_button.clicked.connect(self._open_report)

    def _caller(self, action: str) -> Callable[..., None]:
        return lambda *_: self.act(action)

    def _bind_keys(self) -> None:
        """The same keys on the image and on this widget."""
        pairs = [*KEYS.items(), *((action, key) for key, action in ALSO.items())]
        for action, key in pairs:
            shortcut = QShortcut(QKeySequence(key), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(self._caller(action))
            on_image = key.replace("Ctrl", "Control").replace("+", "-")
            on_key = self._viewer_caller(action)
            self.viewer.bind_key(on_image, on_key, overwrite=True)
            self.connections.later(self._unbinder(on_image, on_key))

    def _viewer_caller(self, action: str) -> Callable[[object], None]:
        return lambda _viewer: self.act(action)

    def _unbinder(self, key: str, bound: Callable[[object], None]) -> Callable[[], object]:
        viewer = self.viewer

        def unbind() -> None:
            if any(one is bound for one in viewer.keymap.values()):  # else another panel has it
                viewer.bind_key(key, None, overwrite=True)

        return unbind

    # ------------------------------------------------------------ the session

    def attach(self, session: ReviewSession) -> None:
        """Review this session."""
        super().attach(session)
        for signal in (
            session.image_opened,
            session.cells_changed,
            session.settings_changed,
            session.trial_changed,
        ):
            self.connections.add(signal, self._refresh_later)
        self.connections.add(session.focus_changed, self._show_cell)
        self.tools.attach(session)
        self.open_button.setVisible(False)
        self.refresh()

    def _open_table(self) -> None:
        if self.session is not None:
            dock_shares(self.viewer, self.session)

    def _open_report(self) -> None:
        if self.session is not None:
            self.say(open_report(self.session))

    def _look_at(self, cell: int) -> None:
        """Look at a cell of the queue that was chosen among the small pictures."""
        session = self.session
        if session is None or session.open is None or self._opening():
            return
        session.queue.go_to(session.open.name, cell)
        session.reveal(False)
        session.set_focus(cell)
        self._centre()

    def start(self, image: str | None = None) -> None:
        """Show an image, or the first cell of the queue."""
        session, view = self.session, self.view
        if session is None or view is None:
            return
        if image is None and view.opening:  # the queue begins when that image is there
            QTimer.singleShot(100, self.start)
            return
        try:
            if image is not None:
                session.open_image(image)
            elif session.open is None and session.image_names:
                session.open_image(session.image_names[0])
        except IsletImagingError as error:
            self._not_opened(str(error))
            return
        view.show()
        if image is None and not session.focus:
            self.act("next")
        self.refresh()

    def _choose_run(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A run folder")
        if folder:
            self.open_run(Path(folder))

    def open_run(self, folder: Path) -> None:
        """Open a run folder and start at the first cell of its queue; returns at once."""

        def opened(session: ReviewSession) -> None:
            self.attach(session)
            self.say("")
            self.start()

        self.say(f"Opening {folder}…")
        load_session(
            self.viewer,
            folder,
            while_there(self, opened),
            while_there(self, self._not_opened),
        )

    def _not_opened(self, message: str) -> None:
        self.say(message)
        # the images of a run that is known may have been moved
        self.find_button.setVisible(self.session is not None)

    def _choose_images(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Where the images are now")
        if folder:
            self.find_images(Path(folder))

    def find_images(self, folder: Path) -> None:
        """Look for the run's images in a folder, and go on with the review."""
        session = self.session
        if session is not None:
            session.image_folders.append(folder)
            self.find_button.setVisible(False)
            self.say("")
            self.start()

    # ------------------------------------------------------------ actions

    def act(self, action: str) -> None:
        """Do what a key or a button asks for."""
        session = self.session
        if session is None or self._opening():
            return
        self.say("")
        if (
            action not in ("outlines", "grey", "update")
            and self.view is not None
            and self.view.image_hidden()
        ):
            self.say("The image of this run is hidden: show its layers, then go on.")
            return
        try:
            if action in ("positive", "negative", "unsure"):
                if not session.marker:
                    self.say("No marker was scored in this run: there is nothing to call.")
                elif session.call(action) is None:
                    self.say("No cell in focus: press N for the next one, or click a cell.")
                else:
                    self._next()
            elif action == "exclude":
                edit = session.exclude()
                if edit is not None and edit.after:
                    self._next()
            elif action == "undo":
                self.tools.commit()  # a stroke of a moment ago is an edit as well
                last = session.last_edit()
                if last is None:
                    self.say(words.of_undo(None))
                else:
                    self._with_image(last.image, self._undo)
            elif action == "redo":
                self.tools.commit()
                found = session.history.last_undo(session.reviewer)
                if found is None:
                    self.say(words.of_redo(None))
                else:
                    self._with_image(found[1].image, self._redo)
            elif action == "next":
                self._next()
            elif action == "previous":
                self._step(-1)
            elif action == "outlines":
                calls = self.view.layer("calls") if self.view else None
                if calls is not None:
                    calls.visible = not calls.visible
            elif action == "grey" and self.view is not None:
                self.view.turn_grey()
            elif action == "paint":
                self.tools.paint_button.toggle()
            elif action in ("merge", "split", "delete"):
                {"merge": self.tools.merge, "split": self.tools.split, "delete": self.tools.delete}[
                    action
                ]()
            elif action == "update":
                self.hand_over.update_tables()
        except IsletImagingError as error:
            self.say(str(error))

    def _next(self) -> None:
        if not self._step(1):
            self.say(words.of_end(self.session))

    def _step(self, by: int) -> bool:
        """Go along the queue; False at its ends."""
        assert self.session is not None
        entry = self.session.ahead(by)
        if entry is None:
            return False
        self._with_image(entry.image, lambda: self._arrive(by))
        return True

    def _arrive(self, by: int) -> None:
        if self.session is not None:
            self.session.step(by)
            self._centre()

    def _undo(self) -> None:
        if self.session is not None:
            try:
                self.say(words.of_undo(self.session.undo()))
            except IsletImagingError as error:
                self.say(str(error))
            self._centre()

    def _redo(self) -> None:
        if self.session is not None:
            try:
                self.say(words.of_redo(self.session.redo()))
            except IsletImagingError as error:
                self.say(str(error))
            self._centre()

    def _opening(self) -> bool:
        return self.view is not None and bool(self.view.opening)

    def _with_image(self, name: str, then: Callable[[], object]) -> None:
        self.with_image(name, then, self._not_opened)

    def leave_image(self) -> None:
        """What was painted belongs to the image before."""
        self.tools.finish()

    def _centre(self) -> None:
        if self.view is not None:
            self.view.centre_on_focus()

    def _choose_image(self, index: int) -> None:
        if self.session is not None:
            self._with_image(self.session.image_names[index], self.refresh)

    def _choose_marker(self, index: int) -> None:
        if self.session is not None:
            self.session.set_marker(self.marker_box.itemText(index))

    def _choose_second(self, index: int) -> None:
        if self.session is not None:
            self.session.set_second(str(self.second_box.itemData(index) or ""))

    def _choose_queue(self, index: int) -> None:
        session = self.session
        if session is None:
            return
        try:
            if index == 1 and not session.facts.n_drawn(session.marker):
                text = (
                    f"How many cells should chance pick, for you to call them for {session.marker}?"
                )
                n, agreed = QInputDialog.getInt(self, "Cells drawn by chance", text, 500, 20, 5000)
                if not agreed:
                    self.queue_box.setCurrentIndex(0)
                    return
                session.facts.draw(session.marker, n)
            session.set_by_chance(index == 1)
        except (IsletImagingError, OSError) as error:
            self.queue_box.setCurrentIndex(0)
            self.say(str(error))
            return
        self.act("next")

    def _name_reviewer(self) -> None:
        if self.session is not None and self.reviewer_edit.text() != self.session.reviewer:
            self.session.set_reviewer(self.reviewer_edit.text())

    def _blind(self, blinded: bool) -> None:
        if self.session is not None and blinded != self.session.blinded:
            self.session.set_blinded(blinded)

    def _reveal(self, revealed: bool) -> None:
        if self.session is not None:
            self.session.reveal(revealed)

    # ------------------------------------------------------------ showing

    def say(self, text: str) -> None:
        """Show a message to the reviewer."""
        self.message.setText(text)

    def _refresh_later(self, *_: object) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Show the state of the session."""
        session = self.session
        boxes = (self.image_box, self.marker_box, self.second_box, self.blinded_box, self.queue_box)
        for widget in (*boxes, *self.buttons.values(), self.table_button, self.report_button):
            widget.setEnabled(session is not None)
        if session is None:
            self.headline.setText("Open a run folder, or score an image first.")
            return
        names = [session.shown_name(n) for n in session.image_names]
        if [self.image_box.itemText(i) for i in range(self.image_box.count())] != names:
            self.image_box.clear()
            self.image_box.addItems(names)
        if session.open is not None:
            self.image_box.setCurrentText(session.shown_name(session.open.name))
        if self.marker_box.count() != len(session.protocol.markers):
            self.marker_box.clear()
            self.marker_box.addItems(list(session.protocol.markers))
        self.marker_box.setCurrentText(session.marker)
        others = ["", *(m for m in session.protocol.markers if m != session.marker)]
        if [self.second_box.itemData(i) for i in range(self.second_box.count())] != others:
            self.second_box.clear()
            for name in others:
                self.second_box.addItem(name or "none", name)
        self.second_box.setCurrentIndex(max(self.second_box.findData(session.second), 0))
        # a blinded reader is not to read what the report says
        self.report_button.setEnabled(not session.blinded)
        if not self.reviewer_edit.hasFocus():
            self.reviewer_edit.setText(session.reviewer)
        self.blinded_box.setChecked(session.blinded)
        self.reveal_button.setVisible(session.blinded or session.by_chance)
        self.reveal_button.setChecked(session.revealed)
        self.queue_box.setCurrentIndex(int(session.by_chance))
        self.headline.setText(words.headline(session))
        self.notes.set_notes(words.notes(session))
        self.agreement_label.setText(words.agreement(session))
        self._show_cell()

    def _show_cell(self, *_: object) -> None:
        session = self.session
        if session is None:
            return
        total = len(session.queue.cells)
        at = session.queue.position + 1
        self.progress.setUpdatesEnabled(False)  # else it paints the whole window at once
        self.progress.setMaximum(max(total, 1))
        self.progress.setValue(at)
        self.progress.setFormat(f"{at} of {total}" if total else "queue is empty")
        self.progress.setUpdatesEnabled(True)
        self.cell_label.setText(words.cell(session))
        self.strip.show_queue(session)
