"""From a finished review to tables and other tools.

The idea: buttons for what the shell calls `summarize` and `export`, run beside the window.
It fails with the library's message, for instance when the extra for a format is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QGridLayout, QWidget

from napari_islet_imaging.viewer import words
from napari_islet_imaging.viewer.jobs import Job
from napari_islet_imaging.viewer.parts import button, chooser

if TYPE_CHECKING:
    from napari_islet_imaging.session.review import ReviewSession
    from napari_islet_imaging.viewer.panel import SessionPanel

FORMATS = {
    "GeoJSON (QuPath)": "geojson",
    "ROI zip (ImageJ)": "roi",
    "AnnData": "anndata",
    "OME-Zarr": "ome-zarr",
}


def open_report(session: ReviewSession) -> str:
    """Open a run's report in the system's browser; returns what is to be said."""
    path = session.run.path / "report.html"
    if not path.is_file():
        return "This run has no report yet: update tables and report first."
    late = "" if session.facts.current() else " It is without the corrections since: update it."
    if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(path))):
        return f"No browser was found; the report is {path}.{late}"
    return f"Opened the report.{late}"


class HandOver(QWidget):
    """The part of the review widget that takes the numbers away."""

    def __init__(self, panel: SessionPanel, *, key: str) -> None:
        super().__init__()
        self.panel = panel
        self.job: Job | None = None
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(3)
        self.update_button = button(
            "Update tables",
            self.update_tables,
            key=key,
            tip="Write tables and report again, with the corrections",
        )
        self.compare_button = button("Compare reviewers", self.compare)
        self.format_box = chooser()
        self.format_box.addItems(list(FORMATS))
        self.export_button = button("Export…", self._choose_folder)
        grid.addWidget(self.update_button, 0, 0)
        grid.addWidget(self.compare_button, 0, 1)
        grid.addWidget(self.format_box, 1, 0)
        grid.addWidget(self.export_button, 1, 1)

    def update_tables(self) -> None:
        """Write tables and report again, corrections included."""
        session = self.panel.session
        if session is not None:
            self._start("summarise", {"run": str(session.run.path)}, "Writing tables and report…")

    def compare(self) -> None:
        """Say how far the run's reviewers agree."""
        if self.panel.session is not None:
            self.panel.say(words.compared(self.panel.session))

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Export into")
        if folder:
            self.export(folder)

    def export(self, folder: str) -> None:
        """Export the run's labels and calls."""
        session = self.panel.session
        if session is not None:
            form = FORMATS[self.format_box.currentText()]
            job = {"run": str(session.run.path), "out": folder, "format": form}
            self._start("export", job, f"Exporting to {folder}…")

    def _start(self, kind: str, parameters: dict[str, str], text: str) -> None:
        if self.job is not None and self.job.running:
            self.panel.say("The last job is still running.")
            return
        self.panel.say(text)
        self.job = Job(kind, parameters, self)
        self.panel.connections.later(self.job.stop_now)
        self.job.succeeded.connect(self._done)
        self.job.failed.connect(self.panel.say)

    def _done(self, result: dict[str, Any]) -> None:
        session = self.panel.session
        if session is not None:
            session.reread()
        if "paths" in result:
            self.panel.say("Written:<br>" + "<br>".join(str(p) for p in result["paths"]))
        else:
            self.panel.say(f"Tables and report in {result['run']} follow the corrections now.")
