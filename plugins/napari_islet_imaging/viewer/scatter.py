"""Two markers against each other, a point per cell, with their thresholds.

The idea: both axes are those of the histogram (asinh, over where nearly all cells lie); points are
put into one picture with numpy, so that 100,000 cells are painted as quickly as a hundred.  A click
chooses the nearest cell.
It fails to show how many cells lie under one point: dense places are full, not darker.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_islet_imaging.session.colours import SELECTED_COLOUR
from napari_islet_imaging.viewer.axis import AsinhScale, nice_ticks, shown_range

_MARGINS = (46, 10, 10, 40)  # left, top, right, bottom, px
_NEAR_PX = 12


class Scatter(QWidget):
    """Cells by two measurements."""

    #: number of the point that was clicked
    point_clicked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMinimumSize(220, 190)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Cells by two markers, with both thresholds")
        self.names = ("", "")
        self._values = np.zeros((0, 2))
        self._colours = np.zeros((0, 3), np.uint8)
        self._scales = (AsinhScale(np.zeros(0)), AsinhScale(np.zeros(0)))
        self._ranges = ((0.0, 1.0), (0.0, 1.0))
        self.thresholds: tuple[float | None, float | None] = (None, None)
        self._mark = -1
        self._picture: QImage | None = None

    def sizeHint(self) -> QSize:
        """Preferred size."""
        return QSize(320, 240)

    def set_points(
        self, values: NDArray[np.float64], colours: NDArray[np.uint8], names: tuple[str, str]
    ) -> None:
        """Show these cells.

        Parameters
        ----------
        values : ndarray of float64, (N, 2)
            Measurements along x and y; a cell without one of them is not drawn.
        colours : ndarray of uint8, (N, 3)
            Of each cell.
        names : (str, str)
            What is measured.
        """
        self._values, self._colours, self.names = np.asarray(values, float), colours, names
        scales, ranges = [], []
        for k in range(2):
            finite = self._values[np.isfinite(self._values[:, k]), k]
            scale = AsinhScale(finite)
            scales.append(scale)
            ranges.append(shown_range(scale.forward(finite)))
        self._scales, self._ranges = (scales[0], scales[1]), (ranges[0], ranges[1])
        self._picture = None
        self.update()

    def set_colours(self, colours: NDArray[np.uint8]) -> None:
        """The same cells in other colours."""
        self._colours, self._picture = colours, None
        self.update()

    def set_thresholds(self, x: float | None, y: float | None) -> None:
        """Put the thresholds."""
        self.thresholds = (x, y)
        self.update()

    def set_mark(self, point: int) -> None:
        """Mark one cell; -1 for none."""
        self._mark = point
        self.update()

    # ------------------------------------------------------------ geometry

    def _plot(self) -> QRectF:
        left, top, right, bottom = _MARGINS
        return QRectF(left, top, self.width() - left - right, self.height() - top - bottom)

    def places(self) -> NDArray[np.float64]:
        """Where each cell lies in the widget, px; (N, 2) of x and y."""
        plot, out = self._plot(), np.full(self._values.shape, np.nan)
        for k in range(2):
            low, high = self._ranges[k]
            share = (self._scales[k].forward(self._values[:, k]) - low) / (high - low)
            share = np.clip(share, 0.0, 1.0)
            out[:, k] = (
                plot.left() + share * plot.width()
                if k == 0
                else plot.bottom() - share * plot.height()
            )
        return out

    def _line(self, k: int, value: float) -> float:
        low, high = self._ranges[k]
        share = min(max((float(self._scales[k].forward(value)) - low) / (high - low), 0.0), 1.0)
        plot = self._plot()
        if k == 0:
            return float(plot.left() + share * plot.width())
        return float(plot.bottom() - share * plot.height())

    def mousePressEvent(self, event: Any) -> None:
        """Choose the nearest cell."""
        if not len(self._values):
            return
        here = np.array([event.position().x(), event.position().y()])
        away = np.linalg.norm(self.places() - here, axis=1)
        away[~np.isfinite(away)] = np.inf
        nearest = int(np.argmin(away))
        if away[nearest] <= _NEAR_PX:
            self.point_clicked.emit(nearest)

    def resizeEvent(self, event: Any) -> None:
        """Draw the points anew."""
        super().resizeEvent(event)
        self._picture = None

    # ------------------------------------------------------------ painting

    def _points(self) -> QImage:
        """All points in one picture, those of rarer colours last."""
        width, height = max(self.width(), 1), max(self.height(), 1)
        rgba = np.zeros((height, width, 4), np.uint8)
        places = self.places()
        there = np.isfinite(places).all(axis=1)
        at, colours = np.rint(places[there]).astype(int), self._colours[there]
        _, kind, counts = np.unique(colours, axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(-counts[kind.ravel()], kind="stable")
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                ys = np.clip(at[order, 1] + dy, 0, height - 1)
                xs = np.clip(at[order, 0] + dx, 0, width - 1)
                rgba[ys, xs, :3] = colours[order]
                rgba[ys, xs, 3] = 255
        picture = QImage(rgba.data, width, height, 4 * width, QImage.Format.Format_RGBA8888)
        return picture.copy()  # it must not hang on the array

    def paintEvent(self, event: Any) -> None:
        """Paint points, thresholds and axes."""
        painter = QPainter(self)
        plot, text = self._plot(), self.palette().windowText().color()
        painter.fillRect(self.rect(), self.palette().base())
        if self._picture is None:
            self._picture = self._points()
        painter.drawImage(0, 0, self._picture)
        painter.setPen(QPen(text, 1.6, Qt.PenStyle.DashLine))
        x, y = self.thresholds
        if x is not None:
            at = self._line(0, x)
            painter.drawLine(QPointF(at, plot.top()), QPointF(at, plot.bottom()))
        if y is not None:
            at = self._line(1, y)
            painter.drawLine(QPointF(plot.left(), at), QPointF(plot.right(), at))
        if 0 <= self._mark < len(self._values):
            place = self.places()[self._mark]
            if np.isfinite(place).all():
                painter.setPen(QPen(QColor(SELECTED_COLOUR), 2.2))
                painter.drawEllipse(QPointF(*place), 6.0, 6.0)
        self._paint_axes(painter, plot, text)
        painter.end()

    def _paint_axes(self, painter: QPainter, plot: QRectF, text: QColor) -> None:
        painter.setPen(QPen(text, 1))
        painter.drawLine(plot.bottomLeft(), plot.bottomRight())
        painter.drawLine(plot.bottomLeft(), plot.topLeft())
        metrics = painter.fontMetrics()
        for k in range(2):
            ends = [float(self._scales[k].back(v)) for v in self._ranges[k]]
            last = None
            for value in nice_ticks(*ends):
                at, label = self._line(k, value), f"{value:g}"
                room = metrics.horizontalAdvance(label) + 8 if k == 0 else metrics.height() + 2
                if last is not None and abs(at - last) < room:
                    continue
                last = at
                if k == 0:
                    painter.drawLine(QPointF(at, plot.bottom()), QPointF(at, plot.bottom() + 4))
                    half = metrics.horizontalAdvance(label) / 2
                    painter.drawText(
                        QPointF(at - half, plot.bottom() + 6 + metrics.ascent()), label
                    )
                else:
                    painter.drawLine(QPointF(plot.left() - 4, at), QPointF(plot.left(), at))
                    where = QPointF(
                        plot.left() - 7 - metrics.horizontalAdvance(label),
                        at + metrics.ascent() / 2 - 2,
                    )
                    painter.drawText(where, label)
        name = metrics.elidedText(self.names[0], Qt.TextElideMode.ElideRight, int(plot.width()))
        painter.drawText(QPointF(plot.left(), self.height() - 4), name)
        painter.save()
        painter.translate(metrics.ascent() + 1, plot.bottom())
        painter.rotate(-90)
        name = metrics.elidedText(self.names[1], Qt.TextElideMode.ElideRight, int(plot.height()))
        painter.drawText(QPointF(0, 0), name)
        painter.restore()
