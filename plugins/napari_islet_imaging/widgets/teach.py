"""Teach: the positivity network learns a stain from the calls made by hand in a review.

The idea: the library's fine-tuning runs in a process of its own; what comes back is a network in a
folder beside the run, and how it and the old one call cells of islets that neither was trained on.
Nothing is replaced: the person looks at the two columns and keeps the new one under a name of its
own, for protocols and the shell, or discards it.
It fails to be wiser than its teacher: it learns the calls it is given, wrong ones as well.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
)

from islet_imaging.errors import IsletImagingError
from napari_islet_imaging.viewer import words
from napari_islet_imaging.viewer.jobs import Job
from napari_islet_imaging.viewer.loading import load_session
from napari_islet_imaging.viewer.panel import SessionPanel
from napari_islet_imaging.viewer.parts import chooser, wrapped
from napari_islet_imaging.viewer.turns import while_there

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session.review import ReviewSession

#: what is compared, and how it is called in the table
MEASURES = {
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "ece": "calibration error",
    "n": "cells",
}
_COLUMNS = ("before", "after", "old_before", "old_after")


class TeachWidget(SessionPanel):
    """Fine-tune the positivity network on a run's corrections; see the module."""

    def __init__(self, napari_viewer: napari.Viewer, session: ReviewSession | None = None) -> None:
        super().__init__(napari_viewer)
        self.job: Job | None = None
        self.result: dict[str, Any] = {}
        self._build()
        self.connections.later(self.stop_now)
        self.follow(session)
        self._refresh()

    # ------------------------------------------------------------ building

    def _build(self) -> None:
        self.column.addWidget(
            wrapped(
                "Calls that were made by hand teach the network a stain. Whole islets of them are "
                "held out; on those the old and the new network are compared, and nothing is "
                "replaced unless you keep the new one."
            )
        )
        self.open_button = QPushButton("Open a run folder…")
        self.open_button.clicked.connect(self._choose_run)
        self.column.addWidget(self.open_button)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.marker_box = chooser()
        self.marker_box.currentTextChanged.connect(self._marker_chosen)
        form.addRow("Marker", self.marker_box)
        self.start_box = chooser()
        form.addRow("Start from", self.start_box)
        self.name_edit = QLineEdit()
        self.name_edit.setToolTip("Letters, digits, - and _: what a protocol calls the network")
        form.addRow("Name", self.name_edit)
        self.column.addLayout(form)
        self.count_label = wrapped(name="count")
        self.column.addWidget(self.count_label)
        row = QHBoxLayout()
        self.teach_button = self._button("Teach", self.teach, row)
        self.cancel_button = self._button("Cancel", self.cancel, row)
        self.column.addLayout(row)
        self.progress = QProgressBar()
        self.column.addWidget(self.progress)
        self.table = QTableWidget(len(MEASURES), len(_COLUMNS))
        self.table.setVerticalHeaderLabels(list(MEASURES.values()))
        self.table.setHorizontalHeaderLabels(
            ["yours,\nbefore", "yours,\nafter", "rendered,\nbefore", "rendered,\nafter"]
        )
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setMinimumHeight(175)
        self.column.addWidget(self.table)
        self.status = wrapped(name="status")
        self.column.addWidget(self.status)
        row = QHBoxLayout()
        self.keep_button = self._button("Keep", self.keep, row)
        self.discard_button = self._button("Discard", self.discard, row)
        self.column.addLayout(row)
        self.protocol_button = QPushButton("Save a protocol that uses it…")
        self.protocol_button.clicked.connect(self._choose_file)
        self.column.addWidget(self.protocol_button)
        self.column.addStretch()

    def _button(self, text: str, action: Any, row: QHBoxLayout) -> QPushButton:
        button = QPushButton(text)
        button.clicked.connect(action)
        row.addWidget(button)
        return button

    # ------------------------------------------------------------ the run

    def attach(self, session: ReviewSession) -> None:
        """Teach from this session's run."""
        super().attach(session)
        self.connections.add(session.cells_changed, self._refresh)
        self.connections.add(session.settings_changed, self._refresh)
        self.open_button.setVisible(False)
        protocol = session.protocol
        self.marker_box.clear()
        self.marker_box.addItems(
            [m for m in protocol.markers if protocol.channel(m).compartment == "cytoplasm"]
        )
        if session.marker in protocol.markers:
            self.marker_box.setCurrentText(session.marker)
        self._list_networks()
        self._refresh()

    def say(self, text: str) -> None:
        """Show a message."""
        self.status.setText(text)

    def _choose_run(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A run folder")
        if folder:
            load_session(
                self.viewer,
                folder,
                while_there(self, self.attach),
                while_there(self, self.status.setText),
            )

    def _list_networks(self) -> None:
        from islet_imaging.network.weights import model_names

        held = self.start_box.currentText()
        self.start_box.clear()
        # the one that finds nuclei calls no cell
        self.start_box.addItems([n for n in model_names() if n != "islet-nuclei"])
        self.start_box.setCurrentText(held or "islet-positivity")

    def _marker_chosen(self, marker: str) -> None:
        if self.session is not None and marker:
            run = re.sub(r"[^A-Za-z0-9_-]+", "-", self.session.run.path.name)
            self.name_edit.setText(f"{re.sub(r'[^A-Za-z0-9]+', '', marker)}-{run}")
        self._refresh()

    def _refresh(self, *_: object) -> None:
        session, marker = self.session, self.marker_box.currentText()
        running = self.job is not None and self.job.running
        kept = bool(self.result.get("kept"))
        self.progress.setVisible(running)
        self.cancel_button.setEnabled(running)
        self.teach_button.setEnabled(session is not None and bool(marker) and not running)
        self.table.setVisible(bool(self.result))
        self.keep_button.setVisible(bool(self.result) and not kept)
        self.discard_button.setVisible(bool(self.result) and not kept)
        self.protocol_button.setVisible(kept)
        if session is None:
            self.count_label.setText("Open a run that was reviewed.")
        elif not marker:
            self.count_label.setText("The network knows markers of the cytoplasm; here is none.")
        else:
            self.count_label.setText(words.taught(session, marker))

    # ------------------------------------------------------------ teaching

    def folder(self) -> Path:
        """Where the new network and its checkpoints lie until they are kept."""
        assert self.session is not None
        return self.session.run.path / ".work" / "teach" / str(self.name_edit.text())

    def teach(self, *_: object) -> None:
        """Start to fine-tune; returns at once."""
        session, name = self.session, self.name_edit.text().strip()
        if session is None or (self.job is not None and self.job.running):
            return
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            self.status.setText("Give the network a name of letters, digits, - and _.")
            return
        self.result = {}
        self.name_edit.setText(name)
        self.job = Job(
            "teach",
            {
                "run": str(session.run.path),
                "out": str(self.folder()),
                "name": name,
                "marker": self.marker_box.currentText(),
                "model": self.start_box.currentText(),
            },
            self,
        )
        self.job.progress.connect(self._progress)
        self.job.succeeded.connect(self._taught)
        self.job.failed.connect(self.status.setText)
        self.job.cancelled.connect(
            lambda: self.status.setText("Stopped. Teach again under this name to go on from there.")
        )
        self.job.ended.connect(self._refresh)
        self.progress.setRange(0, 0)
        self.status.setText("Reading the corrected cells…")
        self._refresh()

    def cancel(self, *_: object) -> None:
        """Stop; what was learned so far is kept beside the run."""
        if self.job is not None:
            self.status.setText("Stopping…")
            self.job.cancel()

    def stop_now(self) -> None:
        """End the work at once, as when the widget closes."""
        if self.job is not None:
            self.job.stop_now()

    def _progress(self, done: int, total: int, what: str) -> None:
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.status.setText(
            f"{what}: {done} of {total}" if done < total else "Comparing before and after…"
        )

    def _taught(self, result: dict[str, Any]) -> None:
        self.show_result(result)

    def show_result(self, result: dict[str, Any]) -> None:
        """Show how the new network compares with the one it came from."""
        self.result = dict(result)
        for column, side in enumerate(_COLUMNS):
            for row, measure in enumerate(MEASURES):
                value = float(result[side].get(measure, float("nan")))
                text = f"{value:,.0f}" if measure == "n" else f"{value:.3f}"
                self.table.setItem(row, column, QTableWidgetItem(text if value == value else "–"))
        self.status.setText(words.lesson(result))
        self._refresh()

    # ------------------------------------------------------------ keep or discard

    def keep(self, *_: object) -> None:
        """Copy the new network to where protocols and the shell find it by name."""
        from islet_imaging.network.weights import keep_model

        if not self.result:
            return
        name = self.name_edit.text().strip()
        try:
            kept = keep_model(Path(self.result["model"]), name)
        except (IsletImagingError, OSError) as error:
            self.status.setText(str(error))
            return
        self.result["kept"] = name
        self.status.setText(
            f"Kept in {kept}. In a protocol: method: network, model: {name}. Its card, README.md, "
            "says what it learned from and how it compared."
        )
        self._list_networks()
        self._refresh()

    def discard(self, *_: object) -> None:
        """Throw the new network away; everything is as before."""
        if not self.result:
            return
        folder = Path(self.result["model"]).parent
        shutil.rmtree(folder, ignore_errors=True)
        self.result = {}
        self.status.setText("Discarded. Everything is as it was; the corrections are kept.")
        self._refresh()

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save protocol", "protocol.yaml", "*.yaml")
        if path:
            self.save_protocol(Path(path))

    def save_protocol(self, path: Path) -> None:
        """Write the run's protocol with the kept network calling the marker, to score with."""
        import dataclasses

        from islet_imaging.run.files import write_text

        session, name = self.session, self.result.get("kept")
        if session is None or not name:
            return
        marker = str(self.result["marker"])
        protocol = session.protocol
        how = dataclasses.replace(
            protocol.calling(marker), method="network", model=name, feature=None, threshold=None
        )
        fitted = {
            batch: {m: t for m, t in markers.items() if m != marker}
            for batch, markers in protocol.fitted.items()
        }
        written = protocol.replace(positivity={**protocol.positivity, marker: how}, fitted=fitted)
        write_text(path, written.dump())
        self.status.setText(f"Saved. Score again with {path} to call {marker} with {name}.")
