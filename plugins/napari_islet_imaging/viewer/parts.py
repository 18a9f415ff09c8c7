"""Small parts that several panels share: legend, messages, notes, buttons, a drop-down.

The idea: what looks the same everywhere is made in one place.
It fails if a panel makes its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QGridLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

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
        layout.addWidget(QLabel("dot: decided by hand"), 2, 0, 1, 2)
        layout.addWidget(QLabel("filled: second marker +"), 2, 2, 1, 2)
        layout.setColumnStretch(1, 1)
        layout.setColumnStretch(3, 1)


class _Chooser(QComboBox):
    """A drop-down that leaves the wheel to the panel it is in."""

    def wheelEvent(self, event: Any) -> None:
        """Scroll what is around: a choice is made on purpose, not in passing."""
        event.ignore()


def button(
    text: str, does: Callable[[], object] | None = None, *, key: str = "", tip: str = ""
) -> QPushButton:
    """A button that the Tab key reaches and a click does not give the keys to.

    Parameters
    ----------
    text : str
        On it.
    does : callable, optional
        What it does; without it, whoever holds it says so.
    key : str
        Its key; it is told on the button and in the tooltip.
    tip : str
        What it does, in words.
    """
    short = key.replace("Shift+", "⇧").replace("Ctrl+", "^")
    made = QPushButton(f"{text} [{short}]" if key else text)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setMinimumWidth(20)
    made.setToolTip(f"{tip or text}{f' (key {key})' if key else ''}")
    if does is not None:
        made.clicked.connect(lambda *_: does())
    return made


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


class Message(QTextBrowser):
    """What was just done or went wrong, in a place of its own: nothing moves when it comes.

    A longer text scrolls inside.
    """

    def __init__(self, lines: int = 3) -> None:
        super().__init__()
        self._text = ""
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setOpenLinks(False)
        self.document().setDocumentMargin(1)
        self.setFixedHeight(lines * self.fontMetrics().lineSpacing() + 4)
        self.viewport().setAutoFillBackground(False)

    def text(self) -> str:
        """What is shown."""
        return self._text

    def setText(self, text: str) -> None:
        """Show something else."""
        text = plain(text)
        if text != self._text:
            self._text = text
            self.setHtml(text)


class Note(QLabel):
    """A note folded to one line; a click, or Space, shows all of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._whole = text
        self.open = False
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setToolTip(f"<p>{text}</p>")
        self._show()

    def _show(self) -> None:
        self.setWordWrap(self.open)
        self.setText(f"{'▾' if self.open else '▸'} {self._whole}")
        self._fit()

    def _fit(self) -> None:
        one = self.fontMetrics().lineSpacing() + 6  # and the frame
        height = max(self.heightForWidth(self.width()), one) if self.open else one
        if height != self.maximumHeight():
            self.setFixedHeight(height)

    def resizeEvent(self, event: Any) -> None:
        """Break the lines anew."""
        super().resizeEvent(event)
        self._fit()

    def turn(self) -> None:
        """Unfold, or fold again."""
        self.open = not self.open
        self._show()

    def mouseReleaseEvent(self, event: Any) -> None:
        """Unfold, or fold again."""
        self.turn()

    def keyPressEvent(self, event: Any) -> None:
        """Unfold with Space or Enter."""
        if event.key() in (Qt.Key.Key_Space, Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.turn()
        else:
            super().keyPressEvent(event)


class Notes(QWidget):
    """What is to be known beside a number, a line each."""

    def __init__(self) -> None:
        super().__init__()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)
        self.notes: list[Note] = []
        self._texts: list[str] = []

    def text(self) -> str:
        """All of it."""
        return "<br>".join(self._texts)

    def set_notes(self, texts: list[str]) -> None:
        """Show these; those that are there already stay as they are, folded or not."""
        texts = [plain(text) for text in texts]
        if texts == self._texts:
            return
        for note in self.notes:
            self._column.removeWidget(note)
            note.hide()  # it is deleted a moment later
            note.deleteLater()
        self._texts, self.notes = texts, [Note(text) for text in texts]
        for note in self.notes:
            self._column.addWidget(note)


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
