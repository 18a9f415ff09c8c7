"""Batch: score a folder, and review what is finished while the rest goes on.

The idea: the library's folder runner works in a process of its own; each image that is done is
listed as it comes, and once the run is written any of them opens for review.
It fails to show calls of an image before its staining run is complete: the threshold is fitted on
all images of the run, so until then only its outlines can be looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QSpinBox,
)

from islet_imaging.errors import IsletImagingError
from napari_islet_imaging.jobs import Job
from napari_islet_imaging.loading import load_session
from napari_islet_imaging.parts import Panel, dock_beside, wrapped

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session import ReviewSession

#: where a list item keeps the image's name
_NAME_ROLE = Qt.ItemDataRole.UserRole


class BatchWidget(Panel):
    """Score a folder of images."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.job: Job | None = None
        self.session: ReviewSession | None = None
        self._build()
        self.connections.later(self.stop_now)

    def _build(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.folder_edit = self._path_row(form, "Images", folder=True)
        self.folder_edit.textChanged.connect(self._folder_named)
        self.out_edit = self._path_row(form, "Results in", folder=True)
        self.samples_edit = self._path_row(form, "Sample sheet", folder=False)
        self.samples_edit.setPlaceholderText("none: one unnamed batch")
        self.protocol_edit = self._path_row(form, "Protocol", folder=False)
        self.protocol_edit.setPlaceholderText("none: drafted from the channel names")
        self.workers_box = QSpinBox()
        self.workers_box.setRange(0, 64)
        self.workers_box.setSpecialValueText("as many as cores")
        form.addRow("Workers", self.workers_box)
        self.column.addLayout(form)
        row = QHBoxLayout()
        self.score_button = QPushButton("Score the folder")
        self.score_button.clicked.connect(self.score)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setEnabled(False)
        self.cancel_button.clicked.connect(self.cancel)
        row.addWidget(self.score_button)
        row.addWidget(self.cancel_button)
        self.column.addLayout(row)
        self.progress = QProgressBar()
        self.progress.setVisible(False)
        self.column.addWidget(self.progress)
        self.status = wrapped(name="status")
        self.column.addWidget(self.status)
        self.list = QListWidget()
        self.list.itemDoubleClicked.connect(self._open_item)
        self.column.addWidget(self.list)
        row = QHBoxLayout()
        self.open_button = QPushButton("Look at this image")
        self.open_button.clicked.connect(lambda *_: self._open_item(self.list.currentItem()))
        self.review_button = QPushButton("Review the run")
        self.review_button.setEnabled(False)
        self.review_button.clicked.connect(self.review)
        row.addWidget(self.open_button)
        row.addWidget(self.review_button)
        self.column.addLayout(row)

    def _path_row(self, form: QFormLayout, text: str, *, folder: bool) -> QLineEdit:
        edit = QLineEdit()
        button = QPushButton("…")
        button.setMaximumWidth(28)
        button.setAccessibleName(f"Choose: {text}")

        def choose() -> None:
            if folder:
                path = QFileDialog.getExistingDirectory(self, text)
            else:
                path, _ = QFileDialog.getOpenFileName(self, text)
            if path:
                edit.setText(path)

        button.clicked.connect(choose)
        row = QHBoxLayout()
        row.addWidget(edit)
        row.addWidget(button)
        form.addRow(text, row)
        return edit

    def _folder_named(self, text: str) -> None:
        folder = Path(text)
        if not folder.is_dir():
            return
        if not self.out_edit.text():
            self.out_edit.setText(str(folder.with_name(folder.name + "-scored")))
        for edit, name in (
            (self.samples_edit, "samples.csv"),
            (self.protocol_edit, "protocol.yaml"),
        ):
            if not edit.text() and (folder / name).is_file():
                edit.setText(str(folder / name))

    # ------------------------------------------------------------ scoring

    def score(self, *_: object) -> None:
        """Start the run; returns at once."""
        from islet_imaging.protocol import Protocol

        if self.job is not None and self.job.running:
            return
        try:
            protocol = self.protocol_edit.text()
            parameters = {
                "folder": self.folder_edit.text(),
                "out": self.out_edit.text(),
                "samples": self.samples_edit.text() or None,
                "protocol": Protocol.load(protocol).to_dict() if protocol else None,
                "workers": self.workers_box.value() or None,
            }
            if not parameters["folder"] or not parameters["out"]:
                raise IsletImagingError("Choose a folder of images, and one for the results.")
        except IsletImagingError as error:
            self.status.setText(str(error))
            return
        self.list.clear()
        self.session = None
        self.review_button.setEnabled(False)
        self.job = Job("score_folder", parameters, self)
        self.job.progress.connect(self._progress)
        self.job.succeeded.connect(self._done)
        self.job.failed.connect(self.status.setText)
        self.job.cancelled.connect(
            lambda: self.status.setText("Stopped. What is finished is kept: score again to go on.")
        )
        self.job.ended.connect(self._ended)
        self.progress.setRange(0, 0)
        self.progress.setVisible(True)
        self.score_button.setEnabled(False)
        self.cancel_button.setEnabled(True)
        self.status.setText("Scoring…")

    def cancel(self, *_: object) -> None:
        """Stop the run; what is finished is kept."""
        if self.job is not None:
            self.status.setText("Stopping after the image at hand…")
            self.job.cancel()

    def stop_now(self) -> None:
        """End the work at once, as when the widget closes."""
        if self.job is not None:
            self.job.stop_now()

    def _progress(self, done: int, total: int, what: str) -> None:
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.status.setText(f"{done} of {total} images measured")
        item = QListWidgetItem(what)
        self.list.addItem(item)

    def _ended(self) -> None:
        self.progress.setVisible(False)
        self.score_button.setEnabled(True)
        self.cancel_button.setEnabled(False)

    def _done(self, result: dict[str, Any]) -> None:
        from islet_imaging.run import Run

        run = Run.open(result["run"])
        images = run.images
        self.list.clear()
        for row in images.itertuples():
            note = "" if row.status == "scored" else f"  ({row.status}: {row.message})"
            item = QListWidgetItem(f"{row.image}{note}")
            item.setData(_NAME_ROLE, row.image if row.status == "scored" else "")
            self.list.addItem(item)
        scored = int((images["status"] == "scored").sum())
        self.status.setText(
            f"{scored} of {len(images)} images scored. Report: {run.path}/report.html"
        )
        if scored:
            load_session(self.viewer, result["run"], self._loaded, self.status.setText, show=False)

    def _loaded(self, session: ReviewSession) -> None:
        self.session = session
        self.review_button.setEnabled(True)

    # ------------------------------------------------------------ looking

    def _open_item(self, item: QListWidgetItem | None) -> None:
        if item is None:
            return
        try:
            if self.session is not None:
                name = item.data(_NAME_ROLE)
                if name:
                    self.session.open_image(name)
            else:
                self.preview(item.text())
        except IsletImagingError as error:
            self.status.setText(str(error))

    def preview(self, image: str) -> None:
        """Show an image of the running run with its nuclei; calls come when the run is complete."""
        import tifffile

        from islet_imaging.reading import read_image
        from islet_imaging.run import label_path
        from napari_islet_imaging.layers import add_layers, channel_layers, placement

        out, folder = Path(self.out_edit.text()), Path(self.folder_edit.text())
        path = label_path(out, image, "nuclei")
        made = channel_layers(read_image(folder / image))
        size = made[0][1]["metadata"]["islet_imaging"]["pixel_size_um"]
        labels = tifffile.imread(path).astype("int32")
        options = {"name": f"nuclei of {image}", "metadata": {"islet_imaging": {"role": "preview"}}}
        add_layers(self.viewer, [*made, (labels, {**options, **placement(size)}, "labels")])

    def review(self, *_: object) -> None:
        """Open the review widget on the run."""
        from napari_islet_imaging.review_widget import ReviewWidget

        if self.session is not None:
            widget = ReviewWidget(self.viewer, self.session)
            dock_beside(self.viewer, widget, "Review cells")
            widget.start()
