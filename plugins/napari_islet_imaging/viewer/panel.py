"""The dock widget that all panels are: a scrolling column that shares its place with the others.

The idea: a panel is a tab beside our other panels, as wide as its contents need, and lets go of all
that it is connected to when napari takes it away.
It fails to notice a dock that is closed without being handed back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QScrollArea, QVBoxLayout, QWidget

from napari_islet_imaging.session.garbage import leave_modules_out
from napari_islet_imaging.viewer.connections import Connections
from napari_islet_imaging.viewer.layers import find_session, layers_of, tag_of
from napari_islet_imaging.viewer.session_view import SessionView, view_of
from napari_islet_imaging.viewer.turns import TURN_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari

    from napari_islet_imaging.session.review import ReviewSession


#: where the keyboard is must be seen on dark and light themes alike; the frame is there without it
#: too, seen through, so that nothing moves when it comes; four buttons stand in a row
_STYLE = "\n".join(
    [
        "QPushButton { padding: 3px 2px; }",
        "QTextBrowser { background: transparent; }",
        "QPushButton, QComboBox, QLineEdit, QLabel { border: 2px solid transparent; }",
        *(
            f"{kind}:focus {{ border: 2px solid #ffb000; }}"
            for kind in (
                *("QPushButton", "QComboBox", "QLineEdit", "QLabel"),
                *("QTableWidget", "QListWidget"),
            )
        ),
    ]
)


class _Column(QWidget):
    """What scrolls: nothing in it is squeezed, and so moved, when something below grows."""

    def minimumSizeHint(self) -> QSize:
        """As high as its parts want to be."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())


class Panel(QWidget):
    """A dock widget with a scrolling column, and connections that end with it."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        leave_modules_out()
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
        inside = _Column()
        self.column = QVBoxLayout(inside)
        self.column.setContentsMargins(8, 8, 8, 8)
        self.column.setSpacing(6)
        self._scroll.setWidget(inside)
        self.setMinimumWidth(360)
        self.setStyleSheet(_STYLE)
        self._docked: QTimer | None = QTimer(self)  # its child: it does not outlive the widget
        self._docked.setSingleShot(True)
        self._docked.timeout.connect(self._share_tabs)

    def showEvent(self, event: Any) -> None:
        """Join the other panels, once napari has put this one into its dock."""
        super().showEvent(event)
        # as wide as the contents need in the fonts there are: nothing is cut at the right
        inside = self._scroll.widget().minimumSizeHint().width()
        bar = self._scroll.verticalScrollBar().sizeHint().width()
        self.setMinimumWidth(max(self.minimumWidth(), inside + bar + 4))  # and the frame
        if self._docked is not None:
            self._docked.start(TURN_MS)
        elif isinstance(dock := self.parentWidget(), QDockWidget):
            dock.raise_()  # closed and asked for again from the menu

    def _share_tabs(self) -> None:
        """Become a tab beside our other panels: stacked, each would be too low to work with."""
        self._docked = None
        mine = self.parentWidget()
        if isinstance(mine, QDockWidget):
            # ends with the dock: it is gone by the time that others are disconnected
            mine.visibilityChanged.connect(self._visibility_changed)
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

    def _visibility_changed(self, visible: bool) -> None:
        if not visible:
            self.covered()

    def covered(self) -> None:
        """Another tab is in front now, or the dock was closed."""

    def event(self, event: Any) -> bool:
        """Let go of everything when napari takes the widget out of its dock."""
        # closing a dock hands the widget back without a parent; nothing else tells it
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.connections.clear()
        return bool(super().event(event))

    def closeEvent(self, event: Any) -> None:
        """Let go of the viewer and the session."""
        self.connections.clear()
        super().closeEvent(event)


class SessionPanel(Panel):
    """A panel that follows a review: the one it is given, or the first that is in the viewer."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__(viewer)
        self.session: ReviewSession | None = None
        self.view: SessionView | None = None

    def follow(self, session: ReviewSession | None = None) -> bool:
        """Attach a session, or else wait for one; False where there is none yet."""
        found = session or find_session(self.viewer)
        if found is not None:
            self.attach(found)
        self.connections.add(self.viewer.layers.events.inserted, self._look_for_session)
        return found is not None

    def attach(self, session: ReviewSession) -> None:
        """Follow this session."""
        self.session = session
        self.view = view_of(self.viewer, session)

    def say(self, text: str) -> None:
        """Show a message."""
        raise NotImplementedError

    def with_image(
        self, name: str, then: Callable[[], object], failed: Callable[[str], object]
    ) -> None:
        """Do something with an image open: now if it is, else when it has been opened.

        Parameters
        ----------
        name : str
            The image.
        then : callable
            What is done then.
        failed : callable
            Told why the image cannot be opened.
        """
        session, view = self.session, self.view
        if session is None or view is None or view.opening:
            return
        if session.open is not None and session.open.name == name:
            then()
            return
        self.leave_image()
        self.say(f"Opening {session.shown_name(name)}…")

        def opened() -> None:
            self.say("")
            then()

        view.open(name, opened, failed)

    def leave_image(self) -> None:
        """Another image is about to take the place of the open one."""

    def _look_for_session(self, event: Any) -> None:
        """Follow a run that is opened into the viewer, also beside one that is shown already."""
        fresh: ReviewSession | None = tag_of(event.value).get("session")
        if fresh is None or fresh is self.session:
            return
        for layer in layers_of(self.viewer, self.session):
            layer.visible = False  # two runs would shine through each other
        self.attach(fresh)
