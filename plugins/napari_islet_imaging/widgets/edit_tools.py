"""Painting, merging, splitting and deleting nuclei with napari's own tools.

The idea: the nuclei layer is the session's label image; while editing it is shown and may be
painted, and a moment after each stroke the difference goes into the journal and is measured.
It fails to keep a stroke that has not ended: there is nothing to keep yet.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from islet_imaging.errors import IsletImagingError
from napari_islet_imaging.session import reshape
from napari_islet_imaging.viewer.parts import button

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_islet_imaging.session.review import ReviewSession
    from napari_islet_imaging.viewer.panel import SessionPanel

ALSO_UNDO = "Control-Z"
_HINT = "Shift-click chooses nuclei; else the one in focus is taken."
_PAINT = "Paint [⇧B]"
#: after the last change of the label image, ms
_SETTLE_MS = 120


class EditTools(QWidget):
    """The part of the review widget that changes outlines."""

    def __init__(
        self, panel: SessionPanel, *, undo: Callable[[], None], keys: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.panel = panel
        self._undo = undo
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        row = QHBoxLayout()
        row.setSpacing(3)
        key = keys["paint"]
        self.paint_button = QPushButton(_PAINT)
        self.paint_button.setCheckable(True)
        self.paint_button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.paint_button.setMinimumWidth(20)
        self.paint_button.setToolTip(
            "Shows the nuclei layer with napari's brush, fill and eraser. M takes a new label; "
            f"erase a line through a nucleus to split it. Again: done (key {key})"
        )
        self.paint_button.toggled.connect(self._paint)
        self.merge_button = button(
            "Merge", self.merge, key=keys["merge"], tip="One nucleus of the chosen ones"
        )
        self.split_button = button(
            "Split", self.split, key=keys["split"], tip="Two nuclei of each chosen one"
        )
        self.delete_button = button(
            "Delete", self.delete, key=keys["delete"], tip="Paint the chosen nuclei out"
        )
        for one in (self.paint_button, self.merge_button, self.split_button, self.delete_button):
            row.addWidget(one, 1)
        layout.addLayout(row)
        self.hint = QLabel(_HINT)
        self.hint.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        layout.addWidget(self.hint)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SETTLE_MS)
        self._timer.timeout.connect(self._settled)
        self._watched: Any = None

    def attach(self, session: ReviewSession) -> None:
        """Follow a session."""
        self.panel.connections.add(session.image_opened, self._new_image)
        self.panel.connections.add(session.chosen_changed, self._say_chosen)

    @property
    def chosen(self) -> list[int]:
        """Nuclei that are chosen together; none without a session."""
        return self.panel.session.chosen if self.panel.session is not None else []

    def _new_image(self, *_: object) -> None:
        self._say_chosen()
        self.finish()

    # ------------------------------------------------------------ painting

    def _paint(self, on: bool) -> None:
        view, session = self.panel.view, self.panel.session
        nuclei = view.restore("nuclei") if view is not None else None
        if view is None or nuclei is None or session is None:
            return
        if on:
            try:
                reshape.check_ready(session)
            except IsletImagingError as error:  # before a stroke is lost
                self.panel.say(str(error))
                self.paint_button.setChecked(False)
                return
            nuclei.visible = True
            nuclei.refresh()
            if self._watched is not nuclei:
                self._watched = nuclei
                for signal in (
                    nuclei.events.paint,
                    nuclei.events.labels_update,
                    nuclei.events.set_data,
                ):
                    self.panel.connections.add(signal, self._settle)
                # napari's own undo knows of the stroke, not of the new label of what it cut off
                nuclei.bind_key(ALSO_UNDO, lambda _: self._undo(), overwrite=True)
                self.panel.connections.later(
                    lambda: nuclei.bind_key(ALSO_UNDO, None, overwrite=True)
                )
            nuclei.selected_label = session.focus or reshape.free_label(session)
            nuclei.mode = "paint"
            self.panel.viewer.layers.selection.active = nuclei
        else:
            self.commit()
            nuclei.mode = "pan_zoom"
            nuclei.visible = False
            calls = view.layer("calls") if view is not None else None
            if calls is not None:
                self.panel.viewer.layers.selection.active = calls
        self.paint_button.setText("Done [⇧B]" if on else _PAINT)

    def _settle(self, *_: object) -> None:
        self._timer.start()

    def _settled(self) -> None:
        if QApplication.mouseButtons() == Qt.MouseButton.NoButton:
            self.commit()
        else:
            self._timer.start()  # the hand rests within a stroke

    def finish(self) -> None:
        """Keep what was painted, and put the brush away."""
        if self.paint_button.isChecked():
            self.paint_button.setChecked(False)

    def commit(self) -> None:
        """Keep what was painted."""
        session = self.panel.session
        if session is None:
            return
        self._timer.stop()
        self._do(lambda: reshape.commit_painting(session))

    # ------------------------------------------------------------ whole nuclei

    def choose_none(self) -> None:
        """Let go of all that was chosen."""
        if self.panel.session is not None:
            self.panel.session.choose([])

    def _say_chosen(self) -> None:
        self.hint.setText(f"chosen: {_nuclei(self.chosen)}" if self.chosen else _HINT)

    def _cells(self) -> list[int]:
        session = self.panel.session
        if session is None:
            return []
        return list(self.chosen) or ([session.focus] if session.focus else [])

    def merge(self) -> None:
        """One nucleus of the chosen ones."""
        session, cells = self.panel.session, self._cells()
        if session is None or len(cells) < 2:
            self.panel.say("Shift-click the pieces of the nucleus first, then merge.")
            return
        self._do(lambda: reshape.merge_cells(session, cells))

    def split(self) -> None:
        """Two nuclei of each chosen one."""
        session = self.panel.session
        if session is None:
            return
        for cell in self._cells():
            self._do(partial(reshape.split_cell, session, cell))

    def delete(self) -> None:
        """Paint the chosen nuclei out."""
        session, cells = self.panel.session, self._cells()
        if session is not None:
            self._do(
                lambda: reshape.delete_cells(session, cells),
                f"Deleted {_nuclei(cells)}. W takes it back.",
            )

    def _do(self, action: Callable[[], list[int]], done: str = "") -> None:
        session = self.panel.session
        if session is None or session.open is None:
            return
        try:
            changed = action()
        except IsletImagingError as error:
            # it could not be kept, so it must not be seen either
            session.open.labels[...] = session.open.committed
            if self.panel.view is not None:
                self.panel.view.outlines.redraw()
            self.panel.say(str(error))
            return
        if not changed:
            return
        self.choose_none()
        there = [c for c in changed if session.row(c) is not None]
        self.panel.say(
            done or f"Outlines of {_nuclei(changed)} changed; {len(there)} measured again."
        )
        view = self.panel.view
        nuclei = view.layer("nuclei") if view is not None else None
        if nuclei is not None and nuclei.visible:
            nuclei.refresh()


def _nuclei(cells: list[int]) -> str:
    """Nuclei by their numbers, as many as can be read."""
    if len(cells) > 6:
        return f"{len(cells)} nuclei"
    return ("nucleus " if len(cells) == 1 else "nuclei ") + ", ".join(str(c) for c in cells)
