"""Understand: why a cell was called, and what the threshold does to all of them.

The idea: the cell in focus with its measurements beside the histogram of the feature its call rests
on; the threshold is a line to drag, and outlines, counts and % follow while it moves.  Nothing is
changed by looking: a threshold that is kept goes into a protocol file, to be scored with.
It fails to show a threshold where the run could not estimate one: there is none to show.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
)

from napari_islet_imaging.session.colours import SELECTED
from napari_islet_imaging.session.outlines import categories_of
from napari_islet_imaging.session.staining import control_values, thresholds
from napari_islet_imaging.session.what_if import ThresholdView
from napari_islet_imaging.viewer import words
from napari_islet_imaging.viewer.histogram import Histogram
from napari_islet_imaging.viewer.panel import SessionPanel
from napari_islet_imaging.viewer.parts import Legend, chooser, wrapped
from napari_islet_imaging.viewer.picking import pick_with_clicks
from napari_islet_imaging.viewer.session_view import view_of

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session.review import ReviewSession

#: the outlines follow the dragged threshold at most this often, ms
_OUTLINES_EVERY_MS = 60


class CellsWidget(SessionPanel):
    """Why each cell was called; see the module."""

    def __init__(self, napari_viewer: napari.Viewer, session: ReviewSession | None = None) -> None:
        super().__init__(napari_viewer)
        self.seen: ThresholdView | None = None
        #: labels chosen by range or by clicks
        self.chosen: set[int] = set()
        self._cut: float | None = None
        self._build()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_OUTLINES_EVERY_MS)
        self._timer.timeout.connect(self._draw_outlines)
        pick_with_clicks(self.viewer, self.connections, lambda: self.session, self._picked)
        if not self.follow(session):
            self.say("Open a run folder, or score an image first.")

    # ------------------------------------------------------------ building

    def _build(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.marker_box = chooser()
        self.marker_box.activated.connect(self._choose_marker)
        self.feature_box = chooser()
        self.feature_box.activated.connect(lambda *_: self.show_feature())
        form.addRow("Marker", self.marker_box)
        form.addRow("Feature", self.feature_box)
        self.column.addLayout(form)
        self.histogram = Histogram()
        self.histogram.threshold_moved.connect(self.move_threshold)
        self.histogram.threshold_released.connect(self.move_threshold)
        self.histogram.range_selected.connect(self.choose_range)
        self.column.addWidget(self.histogram, 3)
        self.headline = wrapped(name="what_if", least_height=54)
        self.column.addWidget(self.headline)
        row = QHBoxLayout()
        self.reset_button = QPushButton("Reset threshold")
        self.reset_button.clicked.connect(self.reset)
        self.save_button = QPushButton("Save as protocol…")
        self.save_button.clicked.connect(self._choose_file)
        row.addWidget(self.reset_button)
        row.addWidget(self.save_button)
        self.column.addLayout(row)
        self.column.addWidget(Legend())
        self.cell_label = wrapped("Click a cell in the image.", name="cell")
        self.column.addWidget(self.cell_label)
        self.table = QTableWidget(0, 2)
        self.table.setHorizontalHeaderLabels(["measurement", "value"])
        self.table.verticalHeader().setVisible(False)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setMinimumHeight(180)
        self.column.addWidget(self.table, 2)

    def attach(self, session: ReviewSession) -> None:
        """Follow this session."""
        super().attach(session)
        view = view_of(self.viewer, session)
        view.show()
        self.connections.add(session.image_opened, self._changed)
        self.connections.add(session.settings_changed, self._changed)
        self.connections.add(session.cells_changed, self._cells_changed)
        self.connections.add(session.focus_changed, self._focus)
        self.connections.later(lambda: view.outlines.redraw())
        self._changed()

    def say(self, text: str) -> None:
        """Show a message in the place of the numbers."""
        self.headline.setText(text)

    # ------------------------------------------------------------ the histogram

    def _changed(self, *_: object) -> None:
        session = self.session
        if session is None or session.open is None:
            return
        if self.marker_box.count() != len(session.protocol.markers):
            self.marker_box.clear()
            self.marker_box.addItems(list(session.protocol.markers))
        self.marker_box.setCurrentText(session.marker)
        features = self._features()
        if [self.feature_box.itemText(i) for i in range(self.feature_box.count())] != features:
            self.feature_box.clear()
            self.feature_box.addItems(features)
        self.show_feature()
        self._focus(session.focus)

    def _features(self) -> list[str]:
        """Numbers of the marker, the one its calls rest on first."""
        assert self.session is not None
        table, marker = self.session.table, self.session.marker
        own = [
            str(c)
            for c in table.columns
            if str(c).startswith(f"{marker}_") and table[c].dtype.kind == "f"
        ]
        first = f"{marker}_own"
        return ([first] if first in own else []) + [c for c in own if c != first]

    def _choose_marker(self, index: int) -> None:
        if self.session is not None:
            self.session.set_marker(self.marker_box.itemText(index))

    def show_feature(self) -> None:
        """Show the chosen feature of all cells of the open image's staining run."""
        session = self.session
        if session is None or session.open is None:
            return
        column = self.feature_box.currentText()
        marker = session.marker
        how = session.protocol.calling(marker)
        threshold = thresholds(session).get(marker)
        self.seen = ThresholdView(
            session.table,
            marker,
            threshold,
            column,
            unsure_low=how.unsure_low,
            unsure_high=how.unsure_high,
        )
        control = control_values(session, column)
        shown = self.seen.values[self.seen.counted]
        title = f"{column}, {len(shown):,} cells"
        if control is not None:
            title += f"; grey: {len(control):,} control cells"
        self.histogram.set_values(shown, control=control, title=title)
        self.chosen.clear()
        self._cut = self.seen.value
        self._show_cut(moved=False)

    def move_threshold(self, cut: float) -> None:
        """Show what would be, were the threshold there."""
        self._cut = cut
        self._show_cut(moved=True)
        if not self._timer.isActive():
            self._timer.start()

    def _show_cut(self, *, moved: bool) -> None:
        session, seen = self.session, self.seen
        if session is None or seen is None or session.open is None:
            return
        if self._cut is None:
            self.histogram.set_threshold(None)
            fitted = thresholds(session).get(session.marker)
            why = fitted.reason if fitted is not None and not fitted.estimable else ""
            self.headline.setText(
                f"No threshold for this feature. {why} Drag to select a range of cells."
                if why
                else "Calls do not rest on this feature; drag a range to see its cells."
            )
            return
        found = seen.at(self._cut)
        self.histogram.set_threshold(self._cut, seen.band(self._cut))
        counts = found.counts
        text = (
            f"<b>{session.marker}+ {words.share(counts)}</b> at threshold "
            f"{self._cut:.4g}: {counts.n_positive:,} positive, {counts.n_unsure:,} unsure of "
            f"{counts.n:,}"
        )
        if moved:
            held = session.tally(session.open.name)
            text += f"<br>as scored, with corrections: {words.share(held)}"
        self.headline.setText(text)

    def _draw_outlines(self) -> None:
        session, seen = self.session, self.seen
        if session is None or self.view is None or seen is None or session.open is None:
            return
        calls = session.table[f"{session.marker}_call"].to_numpy()
        if self._cut is not None and self._cut != seen.value:
            calls = seen.at(self._cut).calls
        elif not self.chosen:
            self.view.outlines.redraw()
            return
        categories = categories_of(calls, ~seen.counted)
        if self.chosen:
            categories[np.isin(session.table["cell"].to_numpy(), list(self.chosen))] = SELECTED
        self.view.outlines.redraw(categories=categories)

    def reset(self, *_: object) -> None:
        """The threshold back to where the run has it, and nothing chosen."""
        self.show_feature()
        self._draw_outlines()

    # ------------------------------------------------------------ image and histogram

    def choose_range(self, low: float, high: float) -> None:
        """Show the cells of a range in the image."""
        session, seen = self.session, self.seen
        if session is None or seen is None:
            return
        self.chosen.clear()
        if np.isfinite(low):
            inside = (seen.values >= low) & (seen.values <= high)
            self.chosen.update(int(c) for c in session.table["cell"].to_numpy()[inside])
            self.cell_label.setText(
                f"{len(self.chosen):,} cells between {low:.4g} and {high:.4g} are outlined in pink."
            )
        if not self._timer.isActive():
            self._timer.start()

    def _picked(self, cell: int, shift: bool) -> None:
        session = self.session
        if session is None:
            return
        if shift and cell:
            self.chosen.symmetric_difference_update({cell})
            self._mark(sorted(self.chosen))
            self._draw_outlines()
        elif cell:
            session.set_focus(cell)

    def _mark(self, cells: list[int]) -> None:
        session, seen = self.session, self.seen
        if session is None or seen is None:
            return
        self.histogram.set_marks(seen.values[np.isin(session.table["cell"].to_numpy(), cells)])

    def _cells_changed(self, cells: list[int]) -> None:
        session = self.session
        if session is not None and self.seen is not None:
            if len(session.table) != len(self.seen.values):
                self.show_feature()
            elif session.focus in cells:
                self._focus(session.focus)

    def _focus(self, cell: int) -> None:
        session = self.session
        if session is None or session.open is None:
            return
        self.cell_label.setText(words.cell(session) if cell else "Click a cell in the image.")
        self._mark([cell] if cell else [])
        row = session.row(cell) if cell else None
        shown = (
            [] if row is None else [(k, v) for k, v in row.items() if k not in ("image", "cell")]
        )
        marker = f"{session.marker}_"
        shown.sort(key=lambda item: not str(item[0]).startswith(marker))
        self.table.setRowCount(len(shown))
        for k, (name, value) in enumerate(shown):
            text = f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
            for column, content in enumerate((str(name), text)):
                item = self.table.item(k, column)
                if item is None:
                    self.table.setItem(k, column, QTableWidgetItem(content))
                else:
                    item.setText(content)

    # ------------------------------------------------------------ keeping a threshold

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save protocol", "protocol.yaml", "*.yaml")
        if path:
            self.save_protocol(Path(path))

    def save_protocol(self, path: Path) -> None:
        """Write the run's protocol with this threshold as a manual one, to score with."""
        import dataclasses

        from islet_imaging.run.folder import write_text

        session, seen = self.session, self.seen
        if session is None or seen is None or seen.threshold is None or self._cut is None:
            self.headline.setText(
                "Only a threshold on the feature that calls rest on can be saved."
            )
            return
        marker = session.marker
        how = dataclasses.replace(
            session.protocol.calling(marker), method="manual", threshold=float(self._cut)
        )
        fitted = {
            batch: {m: t for m, t in markers.items() if m != marker}
            for batch, markers in session.protocol.fitted.items()
        }
        protocol = session.protocol.replace(
            positivity={**session.protocol.positivity, marker: how}, fitted=fitted
        )
        write_text(path, protocol.dump())
        alone = ""
        if session.protocol.method(marker) == "network":
            alone = " It calls by the level alone, without the network, so numbers will differ."
        self.headline.setText(f"Saved. Score again with {path} to use this threshold.{alone}")
