"""Table: the share of every image and islet beside the image, and the cells that people decided.

The idea: each row is counted as the run's tables are; columns sort, and a click goes to the image,
the islet or the cell.  Rows of images are counted a few in a turn of the event loop, so that a run
of thousands holds nothing up.
It fails to show islets of an image that is not open: they come when it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem, QTabWidget

from islet_imaging import terms
from napari_islet_imaging.session.corrected import corrected_cells
from napari_islet_imaging.session.shares import ShareRow, image_row, islet_rows
from napari_islet_imaging.viewer import words
from napari_islet_imaging.viewer.layers import camera_of
from napari_islet_imaging.viewer.panel import SessionPanel
from napari_islet_imaging.viewer.parts import wrapped

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session.review import ReviewSession

#: as napari calls the panel that its menu opens
SHARES_NAME = "Shares and corrected cells (Islet imaging)"
#: rows counted in one turn of the event loop
_IN_A_TURN = 20
#: the table follows the last edit this long after, ms
_AFTER_MS = 400
_PLACE = Qt.ItemDataRole.UserRole


class _Number(QTableWidgetItem):
    """A cell of the table that sorts by a number, whatever it shows."""

    def __init__(self, text: str, value: float, tip: str = "") -> None:
        super().__init__(text)
        self.value = value if np.isfinite(value) else -1.0
        self.setToolTip(tip)
        self.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def __lt__(self, other: QTableWidgetItem) -> bool:
        return isinstance(other, _Number) and self.value < other.value


class SharesWidget(SessionPanel):
    """Shares of images and islets, and corrected cells; see the module."""

    def __init__(self, napari_viewer: napari.Viewer, session: ReviewSession | None = None) -> None:
        super().__init__(napari_viewer)
        self.tabs = QTabWidget()
        self.images = self._table()
        self.islets = self._table()
        self.corrected = self._table(["cell", "decided", "by", "image"])
        for name, table in (
            ("Images", self.images),
            ("Islets of this image", self.islets),
            ("Decided by hand", self.corrected),
        ):
            self.tabs.addTab(table, name)
        self.column.addWidget(self.tabs, 1)
        self.message = wrapped(name="message")
        self.column.addWidget(self.message)
        self.images.cellClicked.connect(lambda row, _: self._go(self.images, row))
        self.islets.cellClicked.connect(lambda row, _: self._go(self.islets, row))
        self.corrected.cellClicked.connect(lambda row, _: self._go(self.corrected, row))
        self._waiting: list[str] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.fill)
        self._turn = QTimer(self)
        self._turn.setInterval(0)
        self._turn.timeout.connect(self._more)
        if not self.follow(session):
            self.say("Open a run folder, or score an image first.")

    def _table(self, headings: list[str] | None = None) -> QTableWidget:
        table = QTableWidget(0, len(headings or ()))
        if headings:
            table.setHorizontalHeaderLabels(headings)
        table.verticalHeader().setVisible(False)
        table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        table.horizontalHeader().setStretchLastSection(True)
        table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        table.setSortingEnabled(True)
        return table

    def attach(self, session: ReviewSession) -> None:
        """Follow this session."""
        super().attach(session)
        for signal in (
            session.image_opened,
            session.cells_changed,
            session.settings_changed,
            session.display_changed,
        ):
            self.connections.add(signal, self._later)
        self.fill()

    def say(self, text: str) -> None:
        """Show a message."""
        self.message.setText(text)

    # ------------------------------------------------------------ filling

    def _later(self, *_: object) -> None:
        self._timer.start(_AFTER_MS)

    def fill(self) -> None:
        """Count all rows anew, those of images in turns of the event loop."""
        session = self.session
        if session is None:
            return
        self._timer.stop()
        self._turn.stop()
        headings = self._headings(session)
        for table, first in ((self.images, "image"), (self.islets, "islet")):
            table.setSortingEnabled(False)
            table.setRowCount(0)
            table.setColumnCount(len(headings) + 1)
            table.setHorizontalHeaderLabels([first, *headings])
        self._fill_corrected(session)
        self._waiting = []
        if session.hidden:
            self.say(words.headline(session))
            return
        self.say("")
        for row in islet_rows(session):
            self._add(self.islets, row)
        self.islets.setSortingEnabled(True)
        self._waiting = list(session.image_names)
        self._more()
        self._turn.start()

    def _headings(self, session: ReviewSession) -> list[str]:
        found = [f"{m}+" for m in session.protocol.markers]
        if session.second:
            found.append(f"{session.marker}+ {session.second}+")
        return [*found, "cells", "unsure", "not counted"]

    def _more(self) -> None:
        session = self.session
        if session is None or session.hidden or not self._waiting:
            self._turn.stop()
            self.images.setSortingEnabled(True)
            return
        now, self._waiting = self._waiting[:_IN_A_TURN], self._waiting[_IN_A_TURN:]
        for name in now:
            self._add(self.images, image_row(session, name))

    def _add(self, table: QTableWidget, row: ShareRow) -> None:
        session = self.session
        assert session is not None
        k = table.rowCount()
        table.insertRow(k)
        if row.islet:
            items: list[QTableWidgetItem] = [_Number(str(row.islet), row.islet)]
        else:
            items = [QTableWidgetItem(session.shown_name(row.image))]
        for marker, tally in row.tallies.items():
            tip = f"{tally.n_positive:,} positive, {tally.n_unsure:,} unsure of {tally.n:,}"
            value = tally.fraction if np.isfinite(tally.fraction) else tally.low
            items.append(_Number(words.share(tally), value, f"{tip}; column {marker}_fraction"))
        if row.both is not None:
            more = f" (+{row.both.n_perhaps:,}?)" if row.both.n_perhaps else ""
            tip = "cells that are positive for both; in brackets those that may be"
            items.append(_Number(f"{row.both.n:,}{more}", row.both.n, tip))
        shown = row.tallies.get(session.marker)
        items.append(_Number("" if shown is None else f"{shown.n:,}", shown.n if shown else 0))
        unsure = shown.n_unsure if shown else 0
        items.append(_Number(f"{unsure:,}", unsure))
        out = sum(row.out.values())
        items.append(_Number(f"{out:,}", out, terms.told(row.out)))
        items[0].setData(_PLACE, (row.image, row.islet, 0))
        for column, item in enumerate(items):
            table.setItem(k, column, item)

    def _fill_corrected(self, session: ReviewSession) -> None:
        found = corrected_cells(session)
        self.tabs.setTabText(2, f"Decided by hand ({len(found):,})")
        self.corrected.setSortingEnabled(False)
        self.corrected.setRowCount(len(found))
        for k, one in enumerate(found):
            first = _Number(str(one.cell), one.cell)
            first.setData(_PLACE, (one.image, 0, one.cell))
            for column, item in enumerate(
                (
                    first,
                    QTableWidgetItem(one.what),
                    QTableWidgetItem(one.who),
                    QTableWidgetItem(session.shown_name(one.image)),
                )
            ):
                self.corrected.setItem(k, column, item)
        # as decided, the last first, until a heading is clicked
        self.corrected.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.corrected.setSortingEnabled(True)

    # ------------------------------------------------------------ going there

    def _go(self, table: QTableWidget, row: int) -> None:
        item = table.item(row, 0)
        if item is not None:
            image, islet, cell = item.data(_PLACE)
            self.with_image(image, lambda: self._arrive(islet, cell), self.say)

    def _arrive(self, islet: int, cell: int) -> None:
        session, view = self.session, self.view
        if session is None or view is None or session.open is None:
            return
        if cell:
            session.set_focus(cell)
            view.centre_on_focus()
            if not session.focus:
                self.say(f"Cell {cell} is not there any more: it was painted out or merged.")
        elif islet:
            self._show_islet(islet)

    def _show_islet(self, islet: int) -> None:
        """Move the view so that the islet fills half of it."""
        session: Any = self.session
        cells = session.table[session.table["islet"] == islet]
        if not len(cells):
            return
        size = session.open.pixel_size_um or 1.0
        camera = camera_of(self.viewer)
        places = cells[["y_px", "x_px"]].to_numpy(float) * size
        low, high = places.min(axis=0), places.max(axis=0)
        camera.center = tuple((low + high) / 2)
        wide = max(float((high - low).max()), 20 * size)
        camera.zoom = 0.5 * min(self.viewer.window.geometry()[2:]) / wide


def dock_shares(viewer: napari.Viewer, session: ReviewSession) -> SharesWidget:
    """Open the table of a session, or bring it to the front."""
    for docked in viewer.window.dock_widgets.values():
        if isinstance(docked, SharesWidget):
            if docked.session is not session:
                docked.attach(session)
            dock = docked.parentWidget()
            if dock is not None:
                dock.show()
                dock.raise_()
            return docked
    widget = SharesWidget(viewer, session)
    viewer.window.add_dock_widget(widget, name=SHARES_NAME, area="right", tabify=True)
    return widget
