"""A strip of small pictures: the cell in focus and those that the queue has next.

The idea: pictures are made a moment after the queue moved, never between a key and the next cell,
and only for the image that is open; a click goes to the cell.
It fails to show cells of other images: the strip is shorter at the end of an image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSize, Qt, QTimer, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QListView, QListWidget, QListWidgetItem

from napari_islet_imaging.session.layer_data import contrast
from napari_islet_imaging.session.thumbnails import thumbnail, upcoming

if TYPE_CHECKING:
    from napari_islet_imaging.session.review import ReviewSession

#: pictures in the strip, and their edge, px
_N, _EDGE = 6, 50
#: pictures follow the queue this long after, ms
_AFTER_MS = 250


class QueueStrip(QListWidget):
    """Cells that come next, as pictures."""

    #: a cell of the open image
    cell_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Cells that the queue has next")
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(False)
        self.setMovement(QListView.Movement.Static)
        self.setIconSize(QSize(_EDGE, _EDGE))
        self.setGridSize(QSize(_EDGE + 5, _EDGE + 4))
        self.setFixedHeight(_EDGE + 10)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.itemClicked.connect(self._clicked)
        self._session: ReviewSession | None = None
        self._levels: dict[str, tuple[float, float]] = {}
        self._of = ""
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_AFTER_MS)
        self._timer.timeout.connect(self.fill)

    def show_queue(self, session: ReviewSession) -> None:
        """Show what a review's queue has next, a moment later."""
        self._session = session
        self._timer.start()

    def fill(self) -> None:
        """Make the pictures now."""
        self._timer.stop()
        session = self._session
        if session is None or session.open is None:
            self.clear()
            return
        if self._of != session.open.name:
            image = session.open.image
            self._of = session.open.name
            self._levels = {c: contrast(image.channel(c)) for c in image.channel_names}
        cells = upcoming(session, _N)
        while self.count() > len(cells):
            self.takeItem(self.count() - 1)
        for k, cell in enumerate(cells):
            item = self.item(k) or QListWidgetItem(self)
            item.setData(Qt.ItemDataRole.UserRole, cell)
            item.setToolTip(f"cell {cell}")
            picture = thumbnail(session, cell, self._levels)
            item.setIcon(QIcon() if picture is None else QIcon(_pixmap(picture)))

    def _clicked(self, item: QListWidgetItem) -> None:
        self.cell_chosen.emit(int(item.data(Qt.ItemDataRole.UserRole)))


def _pixmap(rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> QPixmap:
    rgb = np.ascontiguousarray(rgb)
    height, width = rgb.shape[:2]
    image = QImage(rgb.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
    return QPixmap.fromImage(image).scaled(
        _EDGE, _EDGE, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    )
