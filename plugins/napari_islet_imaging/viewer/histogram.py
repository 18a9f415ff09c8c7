"""A histogram of one feature with a threshold to drag.

The idea: counts are taken once with numpy and painted with Qt's own painter; moving the threshold
repaints a few hundred rectangles and touches no cell, so it is quick whatever the number of cells.
The axis is asinh, nearly linear around the negative cells and logarithmic above, and bars are the
square root of the counts, so that a small positive population is seen beside a large negative one.
The axis reaches over nearly all cells and no further, so that one very bright cell does not push
the others together; what lies beyond is gathered in the last bar, which says how many.
It fails to show how far beyond they lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFont, QPainter, QPainterPath, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_islet_imaging.session.colours import CATEGORIES, SELECTED_COLOUR
from napari_islet_imaging.viewer.axis import AsinhScale, nice_ticks, shown_range

_BINS = 120
_MARGINS = (40, 22, 10, 26)  # left, top, right, bottom, px
_GRAB_PX = 9


class Histogram(QWidget):
    """Counts of a feature, controls behind, a threshold to drag, a range to select.

    Dragging near the line moves the threshold; dragging elsewhere selects a range; a click away
    from the line clears the selection.
    """

    #: the threshold while it is dragged
    threshold_moved = Signal(float)
    #: the threshold when it is let go
    threshold_released = Signal(float)
    #: low and high of the selected range; both NaN when cleared
    range_selected = Signal(float, float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMinimumSize(220, 170)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMouseTracking(True)
        self.setAccessibleName("Histogram of the chosen feature with its threshold")
        self.scale = AsinhScale(np.zeros(0))
        self._edges = np.linspace(0.0, 1.0, _BINS + 1)
        self._counts = np.zeros(_BINS)
        self._beyond = 0
        self._control: NDArray[np.float64] | None = None
        self.threshold: float | None = None
        self._band: tuple[float, float] | None = None
        self._marks: NDArray[np.float64] = np.zeros(0)
        self.selection: tuple[float, float] | None = None
        self._drag: str | None = None
        self._press = 0.0
        self.title = ""

    def sizeHint(self) -> QSize:
        """Preferred size."""
        return QSize(320, 220)

    # ------------------------------------------------------------ what is shown

    def set_values(
        self,
        values: NDArray[np.float64],
        *,
        control: NDArray[np.float64] | None = None,
        title: str = "",
    ) -> None:
        """Show these values, and those of control cells behind them at the same area."""
        values = np.asarray(values, float)
        values = values[np.isfinite(values)]
        both = values if control is None else np.concatenate([values, control])
        self.scale = AsinhScale(both)
        position = self.scale.forward(both)
        low, high = shown_range(position)
        #: cells that lie beyond the axis, gathered in its last bar
        self._beyond = int((self.scale.forward(values) > high).sum())
        self._edges = np.linspace(low, high, _BINS + 1)
        self._counts = self._count(values)
        self._control = None
        if control is not None and len(control):
            self._control = self._count(control) * (len(values) / len(control))
        self.title = title
        self.selection = None
        self.update()

    def _count(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        position = np.clip(self.scale.forward(values), self._edges[0], self._edges[-1])
        return np.histogram(position, self._edges)[0].astype(float)

    def set_threshold(self, value: float | None, band: tuple[float, float] | None = None) -> None:
        """Put the threshold, and the range in which calls are unsure."""
        self.threshold, self._band = value, band
        self.update()

    def select_none(self) -> None:
        """Let go of the selected range."""
        self.selection = None
        self.update()

    def set_marks(self, values: NDArray[np.float64]) -> None:
        """Mark the values of the cells chosen in the image."""
        self._marks = np.asarray(values, float)
        self.update()

    # ------------------------------------------------------------ geometry

    def _plot(self) -> QRectF:
        left, top, right, bottom = _MARGINS
        return QRectF(left, top, self.width() - left - right, self.height() - top - bottom)

    def x_of(self, value: float) -> float:
        """Horizontal place of a value, px."""
        plot = self._plot()
        span = self._edges[-1] - self._edges[0]
        share = (float(self.scale.forward(value)) - self._edges[0]) / span
        return float(plot.left() + min(max(share, 0.0), 1.0) * plot.width())

    def value_at(self, x: float) -> float:
        """Value at a horizontal place, px."""
        plot = self._plot()
        share = min(max((x - plot.left()) / plot.width(), 0.0), 1.0)
        span = self._edges[-1] - self._edges[0]
        return float(self.scale.back(self._edges[0] + share * span))

    # ------------------------------------------------------------ mouse

    def _near_line(self, x: float) -> bool:
        return self.threshold is not None and abs(x - self.x_of(self.threshold)) <= _GRAB_PX

    def mousePressEvent(self, event: Any) -> None:
        """Begin to drag the threshold or a range."""
        x = event.position().x()
        self._press = x
        self._drag = "threshold" if self._near_line(x) else "range"

    def mouseMoveEvent(self, event: Any) -> None:
        """Move the threshold or the end of the range."""
        x = event.position().x()
        if self._drag == "threshold":
            self.threshold = self.value_at(x)
            self.update()
            self.threshold_moved.emit(self.threshold)
        elif self._drag == "range" and abs(x - self._press) > 3:
            ends = self.value_at(self._press), self.value_at(x)
            self.selection = min(ends), max(ends)
            self.update()
            self.range_selected.emit(*self.selection)
        else:
            near = self._near_line(x)
            self.setCursor(Qt.CursorShape.SplitHCursor if near else Qt.CursorShape.CrossCursor)

    def mouseReleaseEvent(self, event: Any) -> None:
        """Let go."""
        x = event.position().x()
        if self._drag == "threshold" and self.threshold is not None:
            self.threshold_released.emit(self.threshold)
        elif self._drag == "range" and abs(x - self._press) <= 3:
            self.selection = None
            self.update()
            self.range_selected.emit(float("nan"), float("nan"))
        self._drag = None

    # ------------------------------------------------------------ painting

    def paintEvent(self, event: Any) -> None:
        """Paint bars, controls, threshold, selection and axis."""
        painter = QPainter(self)
        plot = self._plot()
        text = self.palette().windowText().color()
        painter.fillRect(self.rect(), self.palette().base())
        top = float(np.sqrt(max(self._counts.max(initial=1.0), 1.0)))
        if self.selection is not None:
            x0, x1 = (self.x_of(v) for v in self.selection)
            colour = QColor(SELECTED_COLOUR)
            colour.setAlpha(70)
            painter.fillRect(QRectF(x0, plot.top(), x1 - x0, plot.height()), colour)
        self._paint_bars(painter, plot, top)
        if self._control is not None:
            self._paint_control(painter, plot, top, text)
        if self.threshold is not None:
            self._paint_threshold(painter, plot, text)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(SELECTED_COLOUR))
        for value in self._marks[:200]:
            x = self.x_of(float(value))
            mark = QPainterPath(QPointF(x, plot.bottom() - 9))
            mark.lineTo(x - 5, plot.bottom())
            mark.lineTo(x + 5, plot.bottom())
            painter.drawPath(mark)
        self._paint_axis(painter, plot, text)
        painter.end()

    def _paint_bars(self, painter: QPainter, plot: QRectF, top: float) -> None:
        below, above = QColor(CATEGORIES[1][1]), QColor(CATEGORIES[2][1])
        width = plot.width() / _BINS
        cut = None if self.threshold is None else self.x_of(self.threshold)
        for k, count in enumerate(self._counts):
            if not count:
                continue
            height = np.sqrt(count) / top * plot.height()
            x = plot.left() + k * width
            rect = QRectF(x, plot.bottom() - height, width + 0.3, height)
            positive = cut is not None and x + width / 2 > cut
            painter.fillRect(rect, above if positive else below)

    def _paint_control(self, painter: QPainter, plot: QRectF, top: float, text: QColor) -> None:
        assert self._control is not None
        width = plot.width() / _BINS
        path = QPainterPath(plot.bottomLeft())
        for k, count in enumerate(self._control):
            y = plot.bottom() - min(np.sqrt(count) / top, 1.0) * plot.height()
            path.lineTo(plot.left() + k * width, y)
            path.lineTo(plot.left() + (k + 1) * width, y)
        path.lineTo(plot.bottomRight())
        fill = QColor(text)
        fill.setAlpha(60)
        painter.setPen(QPen(text, 1.2))
        painter.setBrush(fill)
        painter.drawPath(path)
        painter.setBrush(Qt.BrushStyle.NoBrush)

    def _paint_threshold(self, painter: QPainter, plot: QRectF, text: QColor) -> None:
        assert self.threshold is not None
        x = self.x_of(self.threshold)
        if self._band is not None:
            x0, x1 = (self.x_of(v) for v in self._band)
            painter.save()
            painter.setPen(QPen(text, 1, Qt.PenStyle.DashLine))
            for edge in (x0, x1):
                painter.drawLine(QPointF(edge, plot.top()), QPointF(edge, plot.bottom()))
            shade = QColor(text)
            shade.setAlpha(28)
            painter.fillRect(QRectF(x0, plot.top(), x1 - x0, plot.height()), shade)
            painter.restore()
        painter.setPen(QPen(text, 2.2))
        painter.drawLine(QPointF(x, plot.top() - 4), QPointF(x, plot.bottom()))
        painter.setBrush(text)
        painter.drawEllipse(QPointF(x, plot.top() - 4), 4.0, 4.0)
        painter.setBrush(Qt.BrushStyle.NoBrush)

    def _paint_axis(self, painter: QPainter, plot: QRectF, text: QColor) -> None:
        painter.setPen(QPen(text, 1))
        painter.drawLine(plot.bottomLeft(), plot.bottomRight())
        font = QFont(self.font())
        font.setPointSizeF(max(self.font().pointSizeF() - 1.5, 7.0))
        painter.setFont(font)
        metrics = painter.fontMetrics()
        last = -1e9
        for value in nice_ticks(self.value_at(plot.left()), self.value_at(plot.right())):
            x = self.x_of(value)
            label = f"{value:g}"
            half = metrics.horizontalAdvance(label) / 2
            if x - half < last + 8 or x + half > self.width():
                continue
            painter.drawLine(QPointF(x, plot.bottom()), QPointF(x, plot.bottom() + 4))
            painter.drawText(QPointF(x - half, plot.bottom() + 6 + metrics.ascent()), label)
            last = x + half
        if self._beyond:
            note = f"{self._beyond:,} beyond ▸"
            wide = metrics.horizontalAdvance(note)
            painter.drawText(QPointF(plot.right() - wide, plot.top() + metrics.ascent()), note)
        self._paint_counts(painter, plot)
        room = int(self.width() - 10)
        title = metrics.elidedText(self.title, Qt.TextElideMode.ElideRight, room)
        painter.drawText(QPointF(6, 14), title)

    def _paint_counts(self, painter: QPainter, plot: QRectF) -> None:
        """How many cells a bar holds, along the left."""
        painter.drawLine(plot.bottomLeft(), plot.topLeft())
        most = max(float(self._counts.max(initial=1.0)), 1.0)
        metrics = painter.fontMetrics()
        last = plot.bottom() + metrics.height()
        for value in nice_ticks(0.0, most):
            y = plot.bottom() - np.sqrt(value / most) * plot.height()
            if value < 0 or value != int(value) or last - y < metrics.height():
                continue
            label = f"{int(value):,}"
            painter.drawLine(QPointF(plot.left() - 4, y), QPointF(plot.left(), y))
            x = plot.left() - 7 - metrics.horizontalAdvance(label)
            painter.drawText(QPointF(x, y + metrics.ascent() / 2 - 1), label)
            last = y
