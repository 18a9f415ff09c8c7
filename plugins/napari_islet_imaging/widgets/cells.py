"""Understand: why a cell was called, and what another threshold would do to all of them.

The idea: the cell in focus with its measurements beside the histogram of the feature its call rests
on; the threshold is a line to drag, and outlines, counts and % follow: those that scoring with it
gives.  Nothing is changed by trying, and leaving the panel ends it; a threshold that is kept goes
into a protocol file, to be scored with.
It fails to show a threshold where the run could not estimate one: there is none to show.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QStackedWidget,
    QTableWidget,
    QTableWidgetItem,
)

from islet_imaging import terms
from napari_islet_imaging.session.pairs import CLASSES, MarkerPairs, marker_pairs
from napari_islet_imaging.session.trial import unsure_band, with_cut
from napari_islet_imaging.viewer import words
from napari_islet_imaging.viewer.histogram import Histogram
from napari_islet_imaging.viewer.panel import SessionPanel
from napari_islet_imaging.viewer.parts import Legend, Message, chooser, wrapped
from napari_islet_imaging.viewer.scatter import Scatter
from napari_islet_imaging.viewer.session_view import view_of

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

    from islet_imaging.positivity import Threshold
    from napari_islet_imaging.session.review import ReviewSession

#: numbers and outlines follow the dragged threshold at most this often, ms
_FOLLOW_MS = 60


class CellsWidget(SessionPanel):
    """Why each cell was called; see the module."""

    def __init__(self, napari_viewer: napari.Viewer, session: ReviewSession | None = None) -> None:
        super().__init__(napari_viewer)
        self._cut: float | None = None
        self._pairs: MarkerPairs | None = None
        self._n_shown = 0
        self._build()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_FOLLOW_MS)
        self._timer.timeout.connect(self._try)
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
        self.second_box = chooser()
        self.second_box.setToolTip("Plots the cells by two markers, and fills those of the second")
        self.second_box.activated.connect(self._choose_second)
        form.addRow("Measurement", self.feature_box)
        form.addRow("Against", self.second_box)
        self.column.addLayout(form)
        self.histogram = Histogram()
        self.histogram.threshold_moved.connect(self.move_threshold)
        self.histogram.threshold_released.connect(self._released)
        self.histogram.range_selected.connect(self.choose_range)
        self.scatter = Scatter()
        self.scatter.point_clicked.connect(self._point_chosen)
        self.plots = QStackedWidget()
        self.plots.addWidget(self.histogram)
        self.plots.addWidget(self.scatter)
        self.column.addWidget(self.plots, 3)
        self.headline = Message(lines=6)  # what comes while a threshold is tried moves nothing
        self.headline.setObjectName("what_if")
        self.column.addWidget(self.headline)
        row = QHBoxLayout()
        self.reset_button = QPushButton("Reset threshold")
        self.reset_button.clicked.connect(self.reset)
        self.save_button = QPushButton("Save as protocol…")
        self.save_button.clicked.connect(self._choose_file)
        row.addWidget(self.reset_button)
        row.addWidget(self.save_button)
        self.column.addLayout(row)
        self.cell_label = wrapped("Click a cell in the image.", name="cell", least_height=54)
        self.column.addWidget(self.cell_label)
        self.table = QTableWidget(0, 2)
        self.table.setHorizontalHeaderLabels(["measurement", "value"])
        self.table.verticalHeader().setVisible(False)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setMinimumHeight(150)
        self.column.addWidget(self.table, 2)
        self.column.addWidget(Legend())

    def attach(self, session: ReviewSession) -> None:
        """Follow this session."""
        super().attach(session)
        view_of(self.viewer, session).show()
        self.connections.add(session.image_opened, self._changed)
        self.connections.add(session.settings_changed, self._changed)
        self.connections.add(session.cells_changed, self._cells_changed)
        self.connections.add(session.focus_changed, self._focus)
        self.connections.add(session.trial_changed, self._show_numbers)
        self.connections.add(session.trial_changed, self._show_tried_cell)
        self.connections.add(session.chosen_changed, self._show_marks)
        self.connections.later(self.leave)
        self._changed()

    def covered(self) -> None:
        """Another tab is in front, or the panel closes: what was tried here ends."""
        self.leave()

    def leave(self) -> None:
        """End what was tried: all panels and the image show the calls that count."""
        self._timer.stop()
        if self.session is not None:
            self.session.end_trial()
            self.session.choose([])
        self.histogram.select_none()

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
        others = ["", *(m for m in session.protocol.markers if m != session.marker)]
        if [self.second_box.itemData(i) for i in range(self.second_box.count())] != others:
            self.second_box.clear()
            for name in others:
                self.second_box.addItem(
                    f"{name}, own light" if name else "nothing: one marker", name
                )
        self.second_box.setCurrentIndex(max(self.second_box.findData(session.second), 0))
        features = self._features()
        if [self.feature_box.itemData(i) for i in range(self.feature_box.count())] != features:
            self.feature_box.clear()
            for k, name in enumerate(features):
                self.feature_box.addItem(terms.column(name, session.protocol), name)
                self.feature_box.setItemData(k, name, Qt.ItemDataRole.ToolTipRole)
        self.show_feature()
        self._focus(session.focus)

    def _features(self) -> list[str]:
        """Numbers of the marker, the one its calls rest on first."""
        assert self.session is not None
        table, marker = self.session.table, self.session.marker
        start = f"{marker}_" if marker else ""
        own = [
            str(c) for c in table.columns if str(c).startswith(start) and table[c].dtype.kind == "f"
        ]
        first = f"{marker}_own"
        return ([first] if first in own else []) + [c for c in own if c != first]

    def _choose_marker(self, index: int) -> None:
        if self.session is not None:
            self.session.set_marker(self.marker_box.itemText(index))

    def _choose_second(self, index: int) -> None:
        if self.session is not None:
            self.session.set_second(str(self.second_box.itemData(index) or ""))

    def _point_chosen(self, point: int) -> None:
        if self.session is not None and self._pairs is not None and self.view is not None:
            self.session.set_focus(int(self._pairs.cells[point]))
            self.view.centre_on_focus()

    def _show_pairs(self) -> None:
        """Plot two markers where a second one is chosen; else the histogram stays."""
        session = self.session
        assert session is not None
        self._pairs = pairs = marker_pairs(session)
        self.plots.setCurrentWidget(self.histogram if pairs is None else self.scatter)
        if pairs is None:
            return
        palette = np.array(
            [[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in CLASSES.values()], np.uint8
        )
        names = [terms.column(c, session.protocol) for c in pairs.columns]
        self.scatter.set_points(pairs.values, palette[pairs.classes], (names[0], names[1]))
        cuts: list[float | None] = []
        for marker in (session.marker, session.second):
            fitted = session.thresholds().get(marker)
            cuts.append(fitted.value if fitted is not None and fitted.estimable else None)
        if session.trial is not None:
            cuts[0] = session.trial.cut
        self.scatter.set_thresholds(cuts[0], cuts[1])
        self._mark_pair()

    def _mark_pair(self) -> None:
        if self._pairs is not None and self.session is not None:
            at = np.flatnonzero(self._pairs.cells == self.session.focus)
            self.scatter.set_mark(int(at[0]) if len(at) else -1)

    @property
    def feature(self) -> str:
        """The column of the cells table that is shown."""
        return str(self.feature_box.currentData() or "")

    def show_feature(self) -> None:
        """Show the chosen feature of all cells of the open image, and the run's threshold."""
        session = self.session
        if session is None or session.open is None:
            return
        self._n_shown = len(session.table)
        if session.hidden:  # where a level lies tells what the tool makes of it
            self.histogram.set_values(np.empty(0))
            self._show_numbers()
            return
        column = self.feature
        called = self.feature_box.currentText()
        self.feature_box.setToolTip(f"column {column}")
        control = session.control_values(column)
        shown = self._values()[~session.table["excluded"].to_numpy(bool)]
        title = f"{called}: {len(shown):,} cells"
        if control is not None:
            title += f"; grey: {len(control):,} control cells"
        self.histogram.set_values(shown, control=control, title=title)
        self._show_numbers()

    def _values(self) -> NDArray[np.float64]:
        assert self.session is not None
        values: NDArray[np.float64] = self.session.table[self.feature].to_numpy(float)
        return values

    def _threshold(self) -> Threshold | None:
        """The threshold that is shown: that being tried, or the run's; None off its feature."""
        session = self.session
        if session is None:
            return None
        fitted = session.thresholds().get(session.marker)
        if fitted is None or not fitted.estimable:
            return None
        if self.feature not in (f"{session.marker}_own", fitted.feature):
            return None
        return fitted if session.trial is None else session.trial.threshold

    def move_threshold(self, cut: float) -> None:
        """Try a threshold: numbers and outlines follow a moment later."""
        self._cut = cut
        if not self._timer.isActive():
            self._timer.start()

    def _released(self, cut: float) -> None:
        self._cut = cut
        self._try()

    def _try(self) -> None:
        self._timer.stop()
        session = self.session
        if session is None or session.hidden or self._cut is None:
            return
        if self._threshold() is not None:
            session.try_threshold(self._cut)

    def _show_numbers(self) -> None:
        session = self.session
        if session is None or session.open is None:
            return
        self._show_pairs()
        if self._pairs is not None:
            self.say(words.pairs(session, self._pairs))
            return
        if session.hidden:
            self.histogram.set_threshold(None)
            self.histogram.set_marks(np.empty(0))
            self.say(words.headline(session))
            return
        threshold = self._threshold()
        if threshold is None:
            self.histogram.set_threshold(None)
            fitted = session.thresholds().get(session.marker)
            why = fitted.reason if fitted is not None and not fitted.estimable else ""
            self.say(
                f"No threshold for this feature. {why} Drag to select a range of cells."
                if why
                else "Calls do not rest on this feature; drag a range to see its cells."
            )
            return
        how = session.protocol.calling(session.marker)
        cut = threshold.value if session.trial is None else session.trial.cut
        band = unsure_band(threshold, self._values(), how.unsure_low, how.unsure_high)
        self.histogram.set_threshold(cut, band)
        self.say(words.threshold(session))

    def reset(self, *_: object) -> None:
        """The threshold back to where the run has it, and nothing chosen."""
        self.leave()
        self.show_feature()

    # ------------------------------------------------------------ image and histogram

    def choose_range(self, low: float, high: float) -> None:
        """Choose the cells of a range; they are outlined as chosen in the image."""
        session = self.session
        if session is None or session.open is None:
            return
        inside = np.zeros(len(session.table), bool)
        if np.isfinite(low):
            values = self._values()
            inside = (values >= low) & (values <= high)
        session.choose(int(c) for c in session.table["cell"].to_numpy()[inside])
        if np.isfinite(low):
            self.cell_label.setText(
                f"{len(session.chosen):,} cells between {low:.4g} and {high:.4g} are outlined in "
                "pink."
            )

    def _show_marks(self) -> None:
        session = self.session
        if session is None or session.open is None:
            return
        self._mark_pair()
        if session.hidden:
            return
        marked = session.chosen or [session.focus]
        if self.histogram.selection is not None:
            marked = [session.focus]  # the range itself shows what was chosen
        self.histogram.set_marks(self._values()[np.isin(session.table["cell"].to_numpy(), marked)])

    def _cells_changed(self, cells: list[int]) -> None:
        if self.session is not None:
            if len(self.session.table) == self._n_shown:
                self._show_numbers()
            else:
                self.show_feature()
            if self.session.focus in cells:
                self._focus(self.session.focus)

    def _show_tried_cell(self) -> None:
        """The cell in focus as the threshold that is tried calls it, like its outline."""
        if self.session is not None and self.session.focus and not self.session.chosen:
            self._focus(self.session.focus)

    def _focus(self, cell: int) -> None:
        session = self.session
        if session is None or session.open is None:
            return
        self.cell_label.setText(words.cell(session) if cell else "Click a cell in the image.")
        self._show_marks()
        row = session.shown_row(cell) if cell and not session.hidden else None
        shown = (
            [] if row is None else [(k, v) for k, v in row.items() if k not in ("image", "cell")]
        )
        marker = f"{session.marker}_"
        shown.sort(key=lambda item: not str(item[0]).startswith(marker))
        self.table.setRowCount(len(shown))
        for k, (name, value) in enumerate(shown):
            text = f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
            called = terms.column(str(name), session.protocol)
            if name == "flags":
                text = "; ".join(terms.flag(code) for code in terms.codes(value))
            for column, content in enumerate((called, text)):
                item = self.table.item(k, column)
                if item is None:
                    item = QTableWidgetItem()
                    self.table.setItem(k, column, item)
                item.setText(content)
                item.setToolTip(f"column {name}")

    # ------------------------------------------------------------ keeping a threshold

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save protocol", "protocol.yaml", "*.yaml")
        if path:
            self.save_protocol(Path(path))

    def save_protocol(self, path: Path) -> None:
        """Write the run's protocol with the threshold that is tried, to score with."""
        from islet_imaging.run.files import write_text

        session = self.session
        if session is not None and self._timer.isActive():
            self._try()
        if session is None or session.trial is None:
            self.say("Drag the line first: the run's own protocol is in its folder already.")
            return
        tried = session.trial
        write_text(path, with_cut(session.protocol, tried.marker, tried.cut).dump())
        self.say(words.saved(session, path))
