"""Small parts that several widgets share: legend, cell picking, tidy disconnection.

The idea: whatever a widget connects to, it notes in one list, and the list is emptied when the
widget goes; so a widget can be closed and opened as often as one likes.
It fails if a callback is connected around that list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QPointF, QRectF, Qt, QTimer
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import (
    QComboBox,
    QDockWidget,
    QGridLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_islet_imaging.colours import CATEGORIES

if TYPE_CHECKING:
    from pathlib import Path

    import napari

    from napari_islet_imaging.session import ReviewSession

#: as napari calls the panel that its menu opens, so that the menu knows of ours
REVIEW_NAME = "Review cells (Islet imaging)"
#: until the next turn; with 0 Qt may take several steps in one
TURN_MS = 1

_STYLES = {
    "solid": (Qt.PenStyle.SolidLine, 3.0),
    "thin": (Qt.PenStyle.SolidLine, 1.5),
    "dashed": (Qt.PenStyle.DashLine, 3.0),
    "dotted": (Qt.PenStyle.DotLine, 3.0),
}


class Connections:
    """What a widget is connected to, so that it can let go of all of it."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], Any]] = []

    def add(self, signal: Any, callback: Callable[..., Any]) -> None:
        """Connect, and remember how to disconnect."""
        signal.connect(callback)
        self._undo.append(lambda: signal.disconnect(callback))

    def later(self, undo: Callable[[], Any]) -> None:
        """Remember something else to be undone."""
        self._undo.append(undo)

    def clear(self, *_: Any) -> None:
        """Let go of everything."""
        for undo in self._undo:
            try:
                undo()
            except (RuntimeError, TypeError, ValueError, KeyError):
                # the other side is gone already, which is what was wanted
                continue
        self._undo.clear()


class Swatch(QWidget):
    """A nucleus outlined as in the image."""

    def __init__(self, colour: str, style: str) -> None:
        super().__init__()
        self._colour, self._style = colour, style
        self.setFixedSize(20, 18)

    def paintEvent(self, event) -> None:
        """Paint the ring."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        # the same dark ground as the image, whatever the theme
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor("#101018"))
        painter.drawRoundedRect(QRectF(0, 0, 20, 18), 3, 3)
        line, width = _STYLES[self._style]
        pen = QPen(QColor(self._colour), width * 0.8)
        pen.setStyle(line)
        if self._style == "dashed":
            pen.setDashPattern([2.0, 1.5])
        elif self._style == "dotted":
            pen.setDashPattern([0.8, 1.4])
        painter.setPen(pen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawEllipse(QPointF(10, 9), 6.0, 6.0)
        painter.end()


class Legend(QWidget):
    """What the outlines mean."""

    def __init__(self) -> None:
        super().__init__()
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for k, (name, colour, style) in enumerate(CATEGORIES.values()):
            layout.addWidget(Swatch(colour, style), k // 2, 2 * (k % 2))
            layout.addWidget(QLabel(name), k // 2, 2 * (k % 2) + 1)
        layout.setColumnStretch(1, 1)
        layout.setColumnStretch(3, 1)


def chooser() -> QComboBox:
    """A combo box that does not grow with the names in it."""
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    return box


class Text(QWidget):
    """Text that breaks lines and can be selected.

    A plain label makes all that is around it lay itself out again for every new text, which costs
    two more repaints of the window; this one does so only where it needs another height.
    """

    def __init__(self, text: str = "", *, least_height: int = 0) -> None:
        super().__init__()
        self._least = least_height
        self._label = QLabel(text, self)
        self._label.setWordWrap(True)
        self._label.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._fit()

    def text(self) -> str:
        """What is shown."""
        return self._label.text()

    def setText(self, text: str) -> None:
        """Show something else."""
        if text != self._label.text():
            self._label.setText(text)
            self._fit()

    def resizeEvent(self, event) -> None:
        """Break the lines anew."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        height = self._label.heightForWidth(self.width()) if self._label.text() else 0
        height = max(height, self._least)
        self._label.setGeometry(0, 0, self.width(), height)
        if height != self.minimumHeight() or height != self.maximumHeight():
            self.setFixedHeight(height)


def wrapped(text: str = "", *, name: str = "", least_height: int = 0) -> Text:
    """A text that breaks lines and can be selected."""
    label = Text(text, least_height=least_height)
    if name:
        label.setObjectName(name)
    return label


class Panel(QWidget):
    """A dock widget with a scrolling column, and connections that end with it."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.connections = Connections()
        # a plain object's method: it outlives the widget for as long as Qt needs it
        self.destroyed.connect(self.connections.clear)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        outer.addWidget(self._scroll)
        inside = QWidget()
        self.column = QVBoxLayout(inside)
        self.column.setContentsMargins(8, 8, 8, 8)
        self.column.setSpacing(6)
        self._scroll.setWidget(inside)
        self.setMinimumWidth(360)
        self._docked: QTimer | None = QTimer(self)  # its child: it does not outlive the widget
        self._docked.setSingleShot(True)
        self._docked.timeout.connect(self._share_tabs)

    def showEvent(self, event) -> None:
        """Join the other panels, once napari has put this one into its dock."""
        super().showEvent(event)
        if self._docked is not None:
            self._docked.start(TURN_MS)
        elif isinstance(dock := self.parentWidget(), QDockWidget):
            dock.raise_()  # closed and asked for again from the menu

    def _share_tabs(self) -> None:
        """Become a tab beside our other panels: stacked, each would be too low to work with."""
        self._docked = None
        mine = self.parentWidget()
        for other in self.viewer.window.dock_widgets.values():
            dock = other.parentWidget() if isinstance(other, Panel) else None
            if dock in (None, mine) or not (
                isinstance(dock, QDockWidget) and isinstance(mine, QDockWidget)
            ):
                continue
            window = mine.parentWidget()
            same = window.dockWidgetArea(dock) == window.dockWidgetArea(mine)
            if same and not dock.isFloating() and mine not in window.tabifiedDockWidgets(dock):
                window.tabifyDockWidget(dock, mine)
                mine.show()
                mine.raise_()
            return

    def event(self, event) -> bool:
        """Let go of everything when napari takes the widget out of its dock."""
        # closing a dock hands the widget back without a parent; nothing else tells it
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.connections.clear()
        return bool(super().event(event))

    def closeEvent(self, event) -> None:
        """Let go of the viewer and the session."""
        self.connections.clear()
        super().closeEvent(event)


def in_turns(steps: list[Callable[[], object]]) -> None:
    """Do one thing in a turn of the event loop, so that keys and clicks are heard between them."""

    def one() -> None:
        steps[0]()
        in_turns(steps[1:])

    if steps:
        QTimer.singleShot(TURN_MS, one)


def in_thread(
    work: Callable[[], Any], then: Callable[[Any], object], failed: Callable[[str], object]
) -> None:
    """Do something in a thread and hand what it gives, or its message, to the window's own."""
    from napari.qt.threading import create_worker

    def guarded() -> tuple[bool, Any]:
        # napari 0.9 trips over a worker that raises under one of the two Qt bindings
        try:
            return True, work()
        except Exception as error:
            return False, str(error)

    def done(found: tuple[bool, Any]) -> None:
        went_well, given = found
        (then if went_well else failed)(given)

    create_worker(guarded, _connect={"returned": done})


def dock_review(viewer: napari.Viewer, session: ReviewSession) -> None:
    """Open the review of a session as a tab on the right, or bring it to the front."""
    from napari_islet_imaging.review_widget import ReviewWidget

    for docked in list(viewer.window.dock_widgets.values()):
        if not isinstance(docked, ReviewWidget):
            continue
        if docked.session is None:
            docked.attach(session)
            docked.start()
        if docked.session is session:
            dock = docked.parentWidget()
            if dock is not None:
                dock.show()
                dock.raise_()
            return
        # one panel has the keys; what was decided in the other one is on the disk
        viewer.window.remove_dock_widget(docked)
    widget = ReviewWidget(viewer, session)
    in_turns(
        [
            lambda: viewer.window.add_dock_widget(
                widget, name=REVIEW_NAME, area="right", tabify=True
            ),
            widget.start,
        ]
    )


def session_of(viewer: napari.Viewer, run: Path) -> ReviewSession | None:
    """The session of a run that is shown or followed by a panel, if there is one."""
    from napari_islet_imaging.layers import tag_of

    found = [getattr(w, "session", None) for w in viewer.window.dock_widgets.values()]
    found += [tag_of(layer).get("session") for layer in viewer.layers]
    return next((s for s in found if s is not None and s.run.path.resolve() == run.resolve()), None)


def hand_on(viewer: napari.Viewer, before: ReviewSession, session: ReviewSession) -> None:
    """Panels that follow a run's session follow the one of its new scoring."""
    session.set_reviewer(before.reviewer)
    if before.marker in session.protocol.markers:
        session.set_marker(before.marker)
    if before.blinded:
        session.set_blinded(True)
    for docked in viewer.window.dock_widgets.values():
        if getattr(docked, "session", None) is before and hasattr(docked, "attach"):
            docked.attach(session)


def pick_with_clicks(
    viewer: napari.Viewer,
    connections: Connections,
    session: Callable[[], ReviewSession | None],
    picked: Callable[[int, bool], None],
) -> None:
    """Call ``picked(cell, shift)`` for clicks on the image that are not strokes of a brush."""

    def on_click(viewer: napari.Viewer, event: Any) -> Any:
        here = session()
        active = viewer.layers.selection.active
        mode = str(getattr(active, "mode", "pan_zoom"))
        if here is None or here.open is None or mode != "pan_zoom" or event.button != 1:
            return
        start = tuple(event.pos) if hasattr(event, "pos") else ()
        yield
        while event.type == "mouse_move":
            yield
        if start and sum(abs(a - b) for a, b in zip(start, event.pos, strict=True)) > 4:
            return
        size = here.open.pixel_size_um or 1.0
        y, x = (float(v) / size for v in event.position[-2:])
        picked(here.cell_at(y, x), "Shift" in event.modifiers)

    viewer.mouse_drag_callbacks.append(on_click)
    connections.later(lambda: viewer.mouse_drag_callbacks.remove(on_click))
