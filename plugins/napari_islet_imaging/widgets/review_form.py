"""What the review panel looks like: the number first, then the cell, its keys, and the rest.

The idea: all that is pressed lies above all that grows, and what changes its words keeps its place,
so that no button moves under the hand; what is read once (flags, names) lies below.
It fails on a screen lower than 700 px: there the last rows are scrolled to.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
)

from napari_islet_imaging.viewer.panel import SessionPanel
from napari_islet_imaging.viewer.parts import Legend, Message, Notes, button, chooser, wrapped
from napari_islet_imaging.viewer.strip import QueueStrip
from napari_islet_imaging.widgets.edit_tools import EditTools
from napari_islet_imaging.widgets.hand_over import HandOver

if TYPE_CHECKING:
    import napari

#: what fingers do by themselves: a key -> action
ALSO = {"Ctrl+Z": "undo", "Ctrl+Shift+Z": "redo"}
#: action -> key; none of them is a key of napari's, which has nearly every letter
KEYS = {
    "positive": "J",
    "negative": "K",
    "unsure": "U",
    "exclude": "Q",
    "undo": "W",
    "redo": "Shift+W",
    "next": "N",
    "previous": "G",
    "outlines": "H",
    "grey": "0",
    "paint": "Shift+B",
    "merge": "Shift+M",
    "split": "Shift+S",
    "delete": "Shift+D",
    "update": "Shift+U",
}
#: action -> its button's text, what it does, row and column
BUTTONS = {
    "positive": ("Positive", "Call the cell positive, and on to the next", 0, 0),
    "negative": ("Negative", "Call the cell negative, and on to the next", 0, 1),
    "unsure": ("Unsure", "Call the cell unsure, and on to the next", 0, 2),
    "exclude": ("Exclude", "Count the cell in no share, or again, and on to the next", 0, 3),
    "undo": ("Undo", "Take back your last edit", 1, 0),
    "redo": ("Redo", "Do again what you took back", 1, 1),
    "next": ("Skip", "On to the next cell, without a decision", 1, 2),
    "previous": ("Back", "Back to the cell before", 1, 3),
    "outlines": ("Lines", "Show or hide the outlines", 2, 0),
    "grey": ("Grey", "Only this marker's channel, in grey; again: all colours", 2, 1),
}


class ReviewForm(SessionPanel):
    """The parts of the review panel, in their places; what they do is said by `act`."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__(viewer)
        self._build()

    def act(self, action: str) -> None:
        """Do what a key or a button asks for."""
        raise NotImplementedError

    def _build(self) -> None:
        self.open_button = button("Open a run folder…")
        self.column.addWidget(self.open_button)
        self.column.setSpacing(4)
        self._build_choices()
        # the number leads; its place is kept, so that no button moves when its words change
        self.headline = Message(lines=5)
        self.headline.setObjectName("headline")
        self.column.addWidget(self.headline)
        self.progress = QProgressBar()
        self.progress.setTextVisible(True)
        self.progress.setMaximumHeight(18)
        self.column.addWidget(self.progress)
        self.cell_label = Message(lines=4)
        self.cell_label.setObjectName("cell")
        self.column.addWidget(self.cell_label)
        self.column.addLayout(self._buttons())
        self.strip = QueueStrip()
        self.column.addWidget(self.strip)
        self.message = Message()
        self.message.setObjectName("message")
        self.column.addWidget(self.message)
        self.tools = EditTools(self, undo=lambda: self.act("undo"), keys=KEYS)
        self.column.addWidget(self.tools)
        self.hand_over = HandOver(self, key=KEYS["update"])
        self.column.addWidget(self.hand_over)
        # what is longer, or may grow, stands below all that is pressed
        self.find_button = button(
            "Find images…",
            tip="Say in which folder the images of this run are now",
        )
        self.find_button.setVisible(False)
        self.column.addWidget(self.find_button)
        self.notes = Notes()
        self.column.addWidget(self.notes)
        self.column.addWidget(self._reading())
        self.agreement_label = wrapped(name="agreement")
        self.column.addWidget(self.agreement_label)
        self.column.addWidget(Legend())
        self.column.addStretch()

    def _build_choices(self) -> None:
        self.image_box = chooser()
        self.image_box.setToolTip("Image")
        self.image_box.setAccessibleName("Image")
        self.column.addWidget(self.image_box)
        row = QHBoxLayout()
        self.marker_box = chooser()
        self.marker_box.setAccessibleName("Marker")
        self.marker_box.setToolTip("The marker under review: outlines show its calls")
        self.second_box = chooser()
        self.second_box.setAccessibleName("Second marker")
        self.second_box.setToolTip("Fills the cells that are positive for a second marker")
        for text, box in (("Marker", self.marker_box), ("filled", self.second_box)):
            row.addWidget(QLabel(text))
            row.addWidget(box, 1)
        self.column.addLayout(row)

    def _reading(self) -> QGroupBox:
        """Who reads, what, and how much of it is shown."""
        group = QGroupBox("Reading")
        form = QFormLayout(group)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.reviewer_edit = QLineEdit()
        # the name is said: the next letters are keys again
        self.reviewer_edit.returnPressed.connect(self.setFocus)
        form.addRow("Reviewer", self.reviewer_edit)
        self.queue_box = chooser()
        self.queue_box.addItems(["unsure and flagged cells", "cells drawn by chance"])
        self.queue_box.setToolTip(
            "Labels of cells that chance drew tell how often calls are wrong: the tables then show "
            "the fraction corrected for that beside the raw one"
        )
        form.addRow("Queue", self.queue_box)
        self.blinded_box = QCheckBox("Blinded: no names, calls or numbers")
        form.addRow(self.blinded_box)
        self.reveal_button = QPushButton("Show the hidden calls of this cell")
        self.reveal_button.setCheckable(True)
        self.reveal_button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.reveal_button.setToolTip("Until the next cell; your own calls are always shown")
        form.addRow(self.reveal_button)
        return group

    def _buttons(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(3)
        self.buttons: dict[str, QPushButton] = {}
        for action, (text, tip, row, column) in BUTTONS.items():
            made = button(text, partial(self.act, action), key=KEYS[action], tip=tip)
            grid.addWidget(made, row, column)
            self.buttons[action] = made
        self.table_button = button(
            "Table", tip="Every image's and islet's share, and corrected cells"
        )
        self.report_button = button("Report", tip="Open the run's report")
        grid.addWidget(self.table_button, 2, 2)
        grid.addWidget(self.report_button, 2, 3)
        for column in range(4):
            grid.setColumnStretch(column, 1)
        return grid
