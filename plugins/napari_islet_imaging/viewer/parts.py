"""Small parts that several panels share: the legend, text that breaks lines, a drop-down.

The idea: what looks the same everywhere is made in one place.
It fails if a panel makes its own.
"""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QSizePolicy, QSpinBox, QWidget

from islet_imaging.terms import plain
from napari_islet_imaging.session.colours import CATEGORIES

_STYLES = {
    "solid": (Qt.PenStyle.SolidLine, 3.0),
    "thin": (Qt.PenStyle.SolidLine, 1.5),
    "dashed": (Qt.PenStyle.DashLine, 3.0),
    "dotted": (Qt.PenStyle.DotLine, 3.0),
}


class Swatch(QWidget):
    """A nucleus outlined as in the image."""

    def __init__(self, colour: str, style: str) -> None:
        super().__init__()
        self._colour, self._style = colour, style
        self.setFixedSize(20, 18)

    def paintEvent(self, event: Any) -> None:
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


class _Chooser(QComboBox):
    """A drop-down that leaves the wheel to the panel it is in."""

    def wheelEvent(self, event: Any) -> None:
        """Scroll what is around: a choice is made on purpose, not in passing."""
        event.ignore()


class NumberBox(QSpinBox):
    """A number field that leaves the wheel to the panel it is in."""

    def wheelEvent(self, event: Any) -> None:
        """Scroll what is around."""
        event.ignore()


def chooser() -> QComboBox:
    """A drop-down that neither grows with the names in it nor listens to the wheel."""
    box = _Chooser()
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
        return str(self._label.text())

    def setText(self, text: str) -> None:
        """Show something else."""
        text = plain(text)
        if text != self._label.text():
            self._label.setText(text)
            self._fit()

    def resizeEvent(self, event: Any) -> None:
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
