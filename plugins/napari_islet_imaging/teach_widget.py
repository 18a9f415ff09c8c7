"""Teach: fine-tune the positivity network on corrections, see what it gained, keep it or not.

The idea: the library's fine-tuning runs in a process of its own on the corrected cells of a run; it
measures the old and the new network on islets that were held out, and only "keep" puts the new one,
with its card, where the shell finds it.
It fails, and says what is missing, without torch (the ``train`` extra) or with too few corrections.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLineEdit, QProgressBar, QPushButton

from islet_imaging.corrections import effective
from napari_islet_imaging.jobs import Job
from napari_islet_imaging.layers import find_session
from napari_islet_imaging.parts import Panel, chooser, wrapped

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session import ReviewSession

#: fewer corrected cells than this teach nothing that could be measured
_ENOUGH = 40


class TeachWidget(Panel):
    """Fine-tune on a run's corrections."""

    def __init__(self, napari_viewer: napari.Viewer, session: ReviewSession | None = None) -> None:
        super().__init__(napari_viewer)
        viewer = self.viewer
        self.session: ReviewSession | None = None
        self.job: Job | None = None
        self._made: Path | None = None
        self._folder: Path | None = None
        self._build()
        self.connections.later(self.stop_now)
        found = session or find_session(viewer)
        if found is not None:
            self.attach(found)
        else:
            self.status.setText("Open a run folder and correct some cells first.")
            self.connections.add(viewer.layers.events.inserted, self._look_for_session)

    def _build(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.marker_box = chooser()
        self.marker_box.currentTextChanged.connect(lambda *_: self.count())
        self.name_edit = QLineEdit()
        form.addRow("Marker", self.marker_box)
        form.addRow("Name of the new model", self.name_edit)
        self.column.addLayout(form)
        self.status = wrapped(name="status")
        self.column.addWidget(self.status)
        row = QHBoxLayout()
        self.teach_button = QPushButton("Teach")
        self.teach_button.clicked.connect(self.teach)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setEnabled(False)
        self.cancel_button.clicked.connect(self.cancel)
        row.addWidget(self.teach_button)
        row.addWidget(self.cancel_button)
        self.column.addLayout(row)
        self.progress = QProgressBar()
        self.progress.setVisible(False)
        self.column.addWidget(self.progress)
        self.result = wrapped(name="result")
        self.column.addWidget(self.result)
        row = QHBoxLayout()
        self.keep_button = QPushButton("Keep")
        self.keep_button.clicked.connect(self.keep)
        self.discard_button = QPushButton("Discard")
        self.discard_button.clicked.connect(self.discard)
        for button in (self.keep_button, self.discard_button):
            button.setEnabled(False)
            row.addWidget(button)
        self.column.addLayout(row)
        self.column.addStretch()

    def attach(self, session: ReviewSession) -> None:
        """Teach from this session's corrections."""
        self.session = session
        self.marker_box.addItems(list(session.protocol.markers))
        self.marker_box.setCurrentText(session.marker)
        self.name_edit.setText(f"islet-positivity-{session.run.path.resolve().name}")
        self.connections.add(session.cells_changed, self.count)
        self.count()

    def _look_for_session(self, *_: object) -> None:
        if self.session is None:
            found = find_session(self.viewer)
            if found is not None:
                self.attach(found)

    def count(self, *_: object) -> None:
        """Say how many corrections there are, and what is still missing."""
        if self.session is None:
            self.teach_button.setEnabled(False)
            return
        marker = self.marker_box.currentText()
        called = {
            (e.image, e.cell)
            for e in effective(self.session.edits)
            if e.action == "call" and e.marker == marker and e.after != "unsure"
        }
        missing = []
        if len(called) < _ENOUGH:
            missing.append(f"at least {_ENOUGH} are needed to hold some out")
        if importlib.util.find_spec("torch") is None:
            missing.append("training needs torch: pip install 'islet-imaging[train]'")
        text = f"{len(called)} cells called by people for {marker}"
        self.status.setText("; ".join([text, *missing]) + ".")
        self.teach_button.setEnabled(not missing and not self._running())

    def _running(self) -> bool:
        return self.job is not None and self.job.running

    def teach(self, *_: object) -> None:
        """Start to fine-tune; returns at once."""
        if self.session is None or self._running():
            return
        self._folder = Path(tempfile.mkdtemp(prefix="islet-imaging-teach-"))
        parameters = {
            "run": str(self.session.run.path),
            "marker": self.marker_box.currentText(),
            "name": self.name_edit.text().strip(),
            "out": str(self._folder),
        }
        self.result.setText("")
        self.job = Job("finetune", parameters, self)
        self.job.progress.connect(self._progress)
        self.job.succeeded.connect(self._done)
        self.job.failed.connect(self.result.setText)
        self.job.cancelled.connect(lambda: self.result.setText("Stopped. Nothing was changed."))
        self.job.ended.connect(self._ended)
        self.progress.setRange(0, 0)
        self.progress.setVisible(True)
        self.teach_button.setEnabled(False)
        self.cancel_button.setEnabled(True)

    def cancel(self, *_: object) -> None:
        """Stop teaching."""
        if self.job is not None:
            self.job.cancel()

    def stop_now(self) -> None:
        """End the work at once, as when the widget closes, and leave nothing behind."""
        if self.job is not None:
            self.job.stop_now()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _progress(self, done: int, total: int, what: str) -> None:
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.status.setText(what)

    def _ended(self) -> None:
        self.progress.setVisible(False)
        self.cancel_button.setEnabled(False)
        self.count()

    def _done(self, result: dict[str, Any]) -> None:
        self._made = Path(result["model"])
        rows = "".join(
            f"<tr><td>{name}&nbsp;&nbsp;</td><td>{_number(before)}&nbsp;&nbsp;</td>"
            f"<td><b>{_number(result['after'].get(name))}</b></td></tr>"
            for name, before in result["before"].items()
        )
        self.result.setText(
            f"<table><tr><td></td><td>before&nbsp;&nbsp;</td><td>after</td></tr>{rows}</table>"
            f"{result.get('note', '')}"
        )
        self.keep_button.setEnabled(True)
        self.discard_button.setEnabled(True)

    def keep(self, *_: object) -> None:
        """Put the new model into the run, where the protocol can name it."""
        if self.session is None or self._made is None:
            return
        target = self.session.run.path / "models" / self._made.name
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            self.result.setText(f"{target} exists already: choose another name and teach again.")
            return
        shutil.move(str(self._made), target)
        self._forget()
        self.result.setText(
            f"Kept in {target}. Use it from the shell or napari with "
            f"<tt>positivity: {{{self.marker_box.currentText()}: {{method: network, "
            f"model: {target}}}}}</tt> in protocol.yaml."
        )

    def discard(self, *_: object) -> None:
        """Throw the new model away."""
        self._forget()
        self.result.setText("Discarded. The model in use is unchanged.")

    def _forget(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._made = self._folder = None
        self.keep_button.setEnabled(False)
        self.discard_button.setEnabled(False)


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else str(value)
