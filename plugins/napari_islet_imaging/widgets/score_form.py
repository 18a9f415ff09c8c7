"""What the score panel looks like: the number, what the image is, how to score it, the buttons.

The idea: the number leads and has its place before it is there; what comes and goes (progress,
messages, what can be done with a result) keeps its place too, so that no button moves.
It fails on a screen lower than 700 px: there notes and legend are scrolled to.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QWidget,
)

from islet_imaging.errors import IsletImagingError
from napari_islet_imaging.viewer.panel import Panel
from napari_islet_imaging.viewer.parts import Legend, Message, Notes, button, chooser
from napari_islet_imaging.widgets.channels_form import ChannelsForm
from napari_islet_imaging.widgets.own_outlines import OwnOutlines

if TYPE_CHECKING:
    import napari

    from islet_imaging.protocol import Nuclei

#: what the field of a nucleus's size says where it is empty
NUCLEUS = "auto"
#: what the form says of a picture of red, green and blue
PICTURE = "A colour picture: split it into its channels to score it."
#: what to do with a z-stack, as the form says it
PLANES: dict[str, Literal["max", "mean", "plane"]] = {
    "brightest of all planes": "max",
    "mean of all planes": "mean",
    "the plane on the screen": "plane",
}


class ScoreForm(Panel):
    """The parts of the score panel, in their places."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__(viewer)
        self._build()

    def _build(self) -> None:
        self.column.setSpacing(4)
        self.image_box = chooser()
        self.image_box.setAccessibleName("Image")
        self.column.addWidget(self.image_box)
        # the number leads, in a place of its own: nothing moves when it comes
        self.result = Message(lines=7)
        self.result.setObjectName("result")
        self.column.addWidget(self.result)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setVerticalSpacing(4)
        row = QHBoxLayout()
        self.size_edit = QLineEdit()
        self.size_edit.setPlaceholderText("please give it")
        self.size_edit.setToolTip("Edge of a pixel in µm; it is never guessed")
        self.nucleus_edit = QLineEdit()
        self.nucleus_edit.setPlaceholderText(NUCLEUS)
        self.nucleus_edit.setToolTip(
            "Diameter of a nucleus in µm; empty: 7.5 µm unless the image shows another"
        )
        row.addWidget(self.size_edit)
        row.addWidget(QLabel("nucleus, µm"))
        row.addWidget(self.nucleus_edit)
        form.addRow("Pixel size, µm", row)
        self.planes_box = chooser()
        self.planes_box.addItems(list(PLANES))
        self.planes_label = QLabel("Planes")
        form.addRow(self.planes_label, self.planes_box)
        self.split_button = button("Split a colour picture into its channels")
        form.addRow(self.split_button)
        self.column.addLayout(form)
        self.channels = ChannelsForm()
        self.column.addWidget(self.channels)

        more = QFormLayout()
        more.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        more.setVerticalSpacing(4)
        self.protocol_button = button("from the form (choose a file…)")
        more.addRow("Protocol", self.protocol_button)
        self.own = OwnOutlines(self.viewer, lambda text: self.status.setText(text))
        more.addRow(self.own)
        self.controls_button = button("none (choose files…)")
        self.controls_button.setToolTip("Images of the same staining run without first antibody")
        more.addRow("Negative controls", self.controls_button)
        self.out_edit = QLineEdit()
        more.addRow("Results in", self.out_edit)
        self.column.addLayout(more)

        self.score_button = button("Score")
        self.again_button = button(
            "Find nuclei again",
            tip="Score again with the size of a nucleus given above; corrections find their cells",
        )
        self.cancel_button = button("Cancel")
        self.cancel_button.setEnabled(False)
        self.column.addLayout(_row(self.score_button, self.again_button, self.cancel_button))
        self.progress = QProgressBar()
        _keep_place(self.progress)
        self.column.addWidget(self.progress)
        self.status = Message()
        self.column.addWidget(self.status)
        self.review_button = button("Review the cells")
        self.table_button = button("Table", tip="Every islet's share")
        self.report_button = button("Open report")
        self.after = (self.review_button, self.table_button, self.report_button)
        for one in self.after:
            _keep_place(one)
        self.column.addLayout(_row(*self.after))
        self.notes = Notes()
        self.column.addWidget(self.notes)
        self.column.addWidget(Legend())
        self.column.addStretch()

    def typed_pixel_size(self) -> float:
        """The pixel size of the form, um.

        Raises
        ------
        IsletImagingError
            If there is none.
        """
        try:
            return float(self.size_edit.text().strip().replace(",", "."))
        except ValueError:
            raise IsletImagingError(
                "No pixel size. Type it in um (the microscope's software shows it); it is not "
                "guessed, because every length depends on it."
            ) from None

    def with_typed_diameter(self, nuclei: Nuclei) -> Nuclei:
        """How nuclei are found, with the size that the form says; none: the image tells it.

        Raises
        ------
        IsletImagingError
            If no nucleus has that size.
        """
        typed = self.nucleus_edit.text().strip().replace(",", ".")
        try:
            return dataclasses.replace(nuclei, diameter_um=float(typed) if typed else None)
        except (ValueError, IsletImagingError):
            raise IsletImagingError(
                "The size of a nucleus is its diameter in um, from 2 to 60; leave the field empty "
                "where the image is to tell it."
            ) from None


def _row(*widgets: QWidget) -> QHBoxLayout:
    """Widgets side by side, as wide as each other."""
    row = QHBoxLayout()
    row.setSpacing(3)
    for widget in widgets:
        row.addWidget(widget, 1)
    return row


def _keep_place(widget: QWidget) -> None:
    """Hide a widget so that what is below does not move when it comes."""
    policy = widget.sizePolicy()
    policy.setRetainSizeWhenHidden(True)
    widget.setSizePolicy(policy)
    widget.setVisible(False)
