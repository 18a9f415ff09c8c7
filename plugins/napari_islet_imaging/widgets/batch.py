"""Batch: score a folder, and look at what is finished while the rest goes on.

The idea: the library's folder runner works in a process of its own; each image that is done is
listed as it comes and can be looked at with provisional calls, and once the run is written any of
them opens for review.  A folder that is still being filled can be watched: each round is written
and listed like a run that is done.
It fails to keep corrections of an image before its staining run is complete: the threshold is
fitted on all images of the run, so until then its calls move.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
)

from islet_imaging.errors import IsletImagingError
from napari_islet_imaging.viewer import words
from napari_islet_imaging.viewer.jobs import Job
from napari_islet_imaging.viewer.layers import layers_of, tag_of
from napari_islet_imaging.viewer.loading import load_session
from napari_islet_imaging.viewer.panel import Panel
from napari_islet_imaging.viewer.parts import Legend, NumberBox, chooser, wrapped
from napari_islet_imaging.viewer.protocols import protocol_of_file
from napari_islet_imaging.viewer.provisional import ROLE, draw, read_provisional
from napari_islet_imaging.viewer.session_view import view_of
from napari_islet_imaging.viewer.turns import in_thread, in_turns, while_there
from napari_islet_imaging.widgets.docking import dock_review, session_of, switch_session

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session.review import ReviewSession
    from napari_islet_imaging.viewer.provisional import Provisional

#: where a list item keeps the image's name
_NAME_ROLE = Qt.ItemDataRole.UserRole


class BatchWidget(Panel):
    """Score a folder of images."""

    #: a file of a watched folder is whole when nothing of it has changed for so long, s; None for
    #: the usual
    settle_s: float | None = None

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.job: Job | None = None
        self.session: ReviewSession | None = None
        self._parameters: dict[str, Any] = {}
        self._measured: list[str] = []
        self._said = ""
        self._shown: Provisional | None = None
        self._looking = False
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
        self.include_edit = QLineEdit()
        self.include_edit.setPlaceholderText("all; or patterns such as batch1*, *_10x*")
        form.addRow("Only files", self.include_edit)
        self.exclude_edit = QLineEdit()
        self.exclude_edit.setPlaceholderText("none; or patterns such as *overview*")
        form.addRow("Leave out", self.exclude_edit)
        self.given_edits = {
            what: self._path_row(form, name, folder=True)
            for what, name in (
                ("nuclei", "Own nuclei"),
                ("cells", "Whole cells"),
                ("regions", "Regions"),
            )
        }
        for what, text in (
            ("nuclei", "none: they are found"),
            ("cells", "none: a ring around each nucleus"),
            ("regions", "none: islets are found"),
        ):
            edit = self.given_edits[what]
            edit.setPlaceholderText(text)
            edit.setToolTip(
                "A folder of such files, called like their images, or a pattern as in "
                f"masks/{{image}}_masks.tif; a column '{what}' of the sample sheet goes before it"
            )
        self.workers_box = NumberBox()
        self.workers_box.setRange(0, 64)
        self.workers_box.setSpecialValueText("as many as cores")
        form.addRow("Workers", self.workers_box)
        self.watch_box = QCheckBox("go on with what arrives, until stopped")
        self.watch_box.setToolTip(
            "For a folder that is still being filled: a file is scored once it has not changed for "
            "some seconds, and tables and report are written anew"
        )
        form.addRow("Watch", self.watch_box)
        self.column.addLayout(form)
        row = QHBoxLayout()
        self.ledger_button = QPushButton("What would be done?")
        self.ledger_button.setToolTip("Every image with what scoring would do and why; no more")
        self.ledger_button.clicked.connect(self.tell_ledger)
        row.addWidget(self.ledger_button)
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
        self.legend = Legend()
        self.legend.setVisible(False)
        self.marker_box = chooser()
        self.marker_box.setVisible(False)
        self.marker_box.activated.connect(self._show_marker)
        self.column.addWidget(self.marker_box)
        self.column.addWidget(self.legend)
        self.looked = wrapped(name="looked")
        self.column.addWidget(self.looked)
        self.open_button = QPushButton("Look at this image")
        self.open_button.clicked.connect(lambda *_: self._open_item(self.list.currentItem()))
        self.review_button = QPushButton("Review the run")
        self.review_button.setEnabled(False)
        self.review_button.clicked.connect(self.review)
        row = QHBoxLayout()
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
                edit.setModified(True)

        button.clicked.connect(choose)
        row = QHBoxLayout()
        row.addWidget(edit)
        row.addWidget(button)
        form.addRow(text, row)
        return edit

    def _folder_named(self, text: str) -> None:
        folder = Path(text).expanduser()
        if not text.strip() or not folder.is_dir():
            return
        if not self.out_edit.isModified():  # a path that is being typed is many folders in turn
            name = f"{folder.resolve().name or 'images'}-scored"
            self.out_edit.setText(str(folder.parent / name))
        for edit, name in (
            (self.samples_edit, "samples.csv"),
            (self.protocol_edit, "protocol.yaml"),
        ):
            if not edit.text() and (folder / name).is_file():
                edit.setText(str(folder / name))

    # ------------------------------------------------------------ scoring

    def _asked(self) -> dict[str, Any] | None:
        """What the form says, for a job; None, with the reason shown, where it cannot be used."""
        if self.job is not None and self.job.running:
            return None
        protocol = self.protocol_edit.text()
        try:
            asked = {
                "folder": self.folder_edit.text(),
                "out": self.out_edit.text(),
                "samples": self.samples_edit.text() or None,
                "protocol": protocol_of_file(Path(protocol)).to_dict() if protocol else None,
                "include": patterns_of(self.include_edit.text()),
                "exclude": patterns_of(self.exclude_edit.text()),
                "workers": self.workers_box.value() or None,
                "given": {
                    what: edit.text().strip()
                    for what, edit in self.given_edits.items()
                    if edit.text().strip()
                },
            }
            if not asked["folder"] or not asked["out"]:
                raise IsletImagingError("Choose a folder of images, and one for the results.")
        except IsletImagingError as error:
            self.status.setText(str(error))
            return None
        return asked

    def _begin(self, kind: str, parameters: dict[str, Any], done: Any) -> None:
        """Start a job of the form; returns at once."""
        self.list.clear()
        self._measured.clear()
        self._forget_provisional()
        self.session = None
        self.review_button.setEnabled(False)
        self.job = Job(kind, parameters, self)
        self.job.progress.connect(self._progress)
        self.job.news.connect(self._news)
        self.job.succeeded.connect(done)
        self.job.failed.connect(self.status.setText)
        self.job.cancelled.connect(
            lambda: self.status.setText("Stopped. What is finished is kept: score again to go on.")
        )
        self.job.ended.connect(self._ended)
        self.progress.setRange(0, 0)
        self.progress.setVisible(True)
        self.score_button.setEnabled(False)
        self.ledger_button.setEnabled(False)
        self.cancel_button.setEnabled(True)

    def score(self, *_: object) -> None:
        """Start the run; returns at once."""
        if (parameters := self._asked()) is None:
            return
        if self.watch_box.isChecked():
            self._begin("watch", {**parameters, "settle_s": self.settle_s}, self._watched)
            self.cancel_button.setText("Stop watching")
            self.status.setText("Watching…")
        else:
            self._begin("score_folder", parameters, self._done)
            self.status.setText("Scoring…")
        self._parameters = parameters

    def tell_ledger(self, *_: object) -> None:
        """List what scoring would do with every image, and why; returns at once."""
        if (parameters := self._asked()) is None:
            return
        self._begin("ledger", parameters, self._show_ledger)
        self._parameters = {}  # nothing is measured that could be looked at
        self.status.setText("Looking…")

    def _show_ledger(self, result: dict[str, Any]) -> None:
        for line in result["entries"]:
            self.list.addItem(QListWidgetItem(line))
        self.status.setText(f"{result['sum']}. Nothing was written.")

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
        self.progress.setVisible(True)
        self.status.setText(f"{done} of {total} images measured")
        # the first message only says how many there are; once a run is there it is what is listed
        if what and self._parameters:
            self._measured.append(what)
            item = QListWidgetItem(what)
            item.setData(_NAME_ROLE, what)
            self.list.addItem(item)

    def _ended(self) -> None:
        self.progress.setVisible(False)
        self.score_button.setEnabled(True)
        self.ledger_button.setEnabled(True)
        self.cancel_button.setEnabled(False)
        self.cancel_button.setText("Cancel")

    def _news(self, news: dict[str, Any]) -> None:
        """Show how far a watched folder is: its run, or why there is none yet."""
        self.progress.setVisible(False)
        if "why" in news:
            self.status.setText(f"Nothing to score yet: {news['why']} Watching for more.")
            return
        self._done(news)
        n = news["waiting"]
        still = f" {n} file{'s' if n > 1 else ''} still being written." if n else ""
        self.status.setText(f"{self._said}.{still} Watching for more.")

    def _watched(self, result: dict[str, Any]) -> None:
        """Show the last round, which is there already where anybody saw it."""
        if self._parameters:
            self._done(result)
        self.status.setText(f"{self._said}. Watching has ended.")

    def _done(self, result: dict[str, Any]) -> None:
        from islet_imaging.run.folder import Run

        self._parameters = {}  # nothing is provisional any more
        run = Run.open(result["run"])
        images = run.images
        self.list.clear()
        for row in images.itertuples():
            note = "" if row.status == "scored" else f"  ({row.status}: {row.message})"
            item = QListWidgetItem(f"{row.image}{note}")
            item.setData(_NAME_ROLE, row.image if row.status == "scored" else "")
            self.list.addItem(item)
        scored = int((images["status"] == "scored").sum())
        self._said = f"{scored} of {len(images)} images scored. Report: {run.path}/report.html"
        self.status.setText(self._said)
        if scored:
            before = session_of(self.viewer, run.path)
            load_session(
                self.viewer,
                result["run"],
                while_there(self, lambda session: self._loaded(session, before)),
                while_there(self, self.status.setText),
                show=False,
                instead=layers_of(self.viewer, before),
            )

    def _loaded(self, session: ReviewSession, before: ReviewSession | None) -> None:
        self.session = session
        self.connections.add(session.settings_changed, self._show_names)
        if before is not None:  # the same run, scored again while it was looked at
            switch_session(self.viewer, before, session)
            name = before.open.name if before.open is not None else ""
            if self._shown is None and name in session.tables:
                view_of(self.viewer, session).open(name, lambda: None, self.looked.setText)
        self.review_button.setEnabled(True)
        if self._shown is not None:  # the same image, with the calls that count
            self._final(self._shown)

    def _show_names(self) -> None:
        """Images by the names that a reviewer may know."""
        session = self.session
        if session is None:
            return
        for k in range(self.list.count()):
            item = self.list.item(k)
            name = str(item.data(_NAME_ROLE) or "")
            if name in session.tables:
                item.setText(session.shown_name(name))
            else:
                item.setHidden(session.blinded)  # what was not scored is not to be reviewed
        self.list.sortItems()  # else their order tells what their names do not
        if session.blinded:
            self.looked.setText("")

    # ------------------------------------------------------------ looking

    def _open_item(self, item: QListWidgetItem | None) -> None:
        name = "" if item is None else str(item.data(_NAME_ROLE) or "")
        if not name:
            return
        if self.session is None:
            self.look(name)
        else:
            view_of(self.viewer, self.session).open(name, lambda: None, self.looked.setText)

    def look(self, image: str) -> None:
        """Show an image of the running run with provisional calls; returns at once."""
        parameters = self._parameters
        if not parameters or self._looking:
            return
        self._looking = True
        self.looked.setText(f"Calling {image} by what is measured so far…")

        def failed(message: str) -> None:
            self._looking = False
            self.looked.setText(message)

        measured = tuple(self._measured)
        in_thread(
            lambda: read_provisional(parameters, image, measured),
            while_there(self, self._show_provisional),
            while_there(self, failed),
        )

    def _show_provisional(self, found: tuple[Provisional, list[Any]]) -> None:
        self._looking = False
        if self.session is not None:
            return  # the run was completed meanwhile
        self._forget_provisional()
        self._shown, layers = found
        self.marker_box.addItems(list(self._shown.thresholds))
        self.marker_box.setVisible(len(self._shown.thresholds) > 1)
        self.legend.setVisible(True)
        self.looked.setText(words.provisional(self._shown))
        for other in self.viewer.layers:  # two images would shine through each other
            other.visible = False
        in_turns(
            [
                *(lambda layer=layer: self.viewer.add_layer(layer) for layer in layers),
                self.viewer.reset_view,
            ]
        )

    def _show_marker(self, index: int) -> None:
        if self._shown is not None:
            draw(self._shown, self.marker_box.itemText(index))
            for layer in self._provisional_layers():
                if layer.data is self._shown.opened.outlines:
                    layer.refresh()

    def _provisional_layers(self) -> list[Any]:
        return [x for x in self.viewer.layers if tag_of(x).get("role") == ROLE]

    def _forget_provisional(self) -> None:
        self._shown = None
        self.marker_box.clear()
        self.marker_box.setVisible(False)
        self.legend.setVisible(False)
        self.looked.setText("")
        for layer in self._provisional_layers():
            self.viewer.layers.remove(layer)

    def _final(self, before: Provisional) -> None:
        """Put the image as it is in the run in the place of the provisional one."""
        session = self.session
        name = before.opened.name
        if session is None or name not in session.tables:
            return
        self._forget_provisional()
        view_of(self.viewer, session).open(
            name, lambda: self._say_final(before, session), self.looked.setText
        )

    def _say_final(self, before: Provisional, session: ReviewSession) -> None:
        self.legend.setVisible(True)
        self.looked.setText(words.final(before, session))

    def review(self, *_: object) -> None:
        """Open the review widget on what was scored."""
        if self.session is not None:
            dock_review(self.viewer, self.session)


def patterns_of(text: str) -> list[str] | None:
    """Patterns as they are typed, with commas between; None where nothing is.

    Examples
    --------
    >>> patterns_of(" batch1*, *_10x* "), patterns_of(" ")
    (['batch1*', '*_10x*'], None)
    """
    return [p.strip() for p in text.split(",") if p.strip()] or None
