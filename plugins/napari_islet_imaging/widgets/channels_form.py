"""The form that says what each channel is.

The idea: a row per channel with its role, its name in the tables and where it is expressed, filled
in from what the library knows of stains; the form becomes a `Protocol`, or is filled from one.
It fails to know a stain it has never heard of: where such a marker lies is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Channel
from napari_islet_imaging.viewer.parts import chooser

if TYPE_CHECKING:
    from islet_imaging.protocol import Protocol
    from napari_islet_imaging.viewer.stained import StainedImage

ROLES = ("dna", "marker", "autofluorescence", "ignore")
#: where a marker is expressed; the first is no answer yet
WHERE = ("choose…", "cytoplasm", "nucleus", "membrane")
_FILE, _ROLE, _NAME, _WHERE = range(4)
#: height of a row, and at most that of the headings
_ROW_PX = 30


class ChannelsForm(QTableWidget):
    """One row per channel of the chosen image."""

    def __init__(self) -> None:
        super().__init__(0, 4)
        self.setHorizontalHeaderLabels(["channel", "is", "called", "lies in"])
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setDefaultSectionSize(_ROW_PX)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(_FILE, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        for column in (_ROLE, _WHERE):
            self.setColumnWidth(column, 122)
        self._fit(3)
        self.itemChanged.connect(self._named)

    def set_channels(self, image: StainedImage | None) -> None:
        """A row per channel, filled in from what is known of stains; rows of its name stay.

        Parameters
        ----------
        image : StainedImage or None
            Where its file does not name a channel, its layer may.
        """
        from islet_imaging.reading.names import known_stain

        held = {row[0]: row for row in self._rows()}
        rows: list[tuple[str, str, str, str]] = []
        for name, shown in [] if image is None else zip(image.channels, image.shown, strict=True):
            named = None if known_stain(name) else known_stain(shown)
            if name in held and named is None:
                rows.append(held[name])
                continue
            called, role, where = named or known_stain(name) or (name, "marker", WHERE[0])
            if role == "dna" and any(r[1] == "dna" for r in rows):
                role = "ignore"
            if called in [r[2] for r in rows]:
                called = name
            rows.append((name, role, called, where))
        self._fill(rows)

    def set_protocol(self, protocol: Protocol) -> list[str]:
        """Take roles and names from a protocol; returns its channels that the image lacks."""
        rows = self._rows()
        known = {(c.source or c.name).casefold(): c for c in protocol.channels}
        known |= {c.name.casefold(): c for c in protocol.channels}
        found: set[str] = set()
        filled = []
        for name, _, called, where in rows:
            channel = known.get(name.casefold()) or known.get(called.casefold())
            if channel is None:
                filled.append((name, "ignore", called, where))
                continue
            found.add(channel.name)
            filled.append((name, channel.role, channel.name, channel.compartment))
        self._fill(filled)
        return [c.name for c in protocol.channels if c.name not in found and c.role != "ignore"]

    def channels(self) -> tuple[Channel, ...]:
        """The rows as channels of a protocol; ignored ones are left out.

        Raises
        ------
        IsletImagingError
            If it was not said where a marker lies.
        """
        found = []
        for name, role, called, where in self._rows():
            if role == "marker" and where == WHERE[0]:
                raise IsletImagingError(
                    f"{called} is not a marker this program knows: say in the column 'lies in' "
                    "whether it is expressed in the cytoplasm (around the nucleus), in the "
                    "nucleus itself or on the membrane."
                )
            if role != "ignore":
                place = "cytoplasm" if where == WHERE[0] else where
                source = None if called == name else name
                found.append(Channel(called, role, place, source))  # type: ignore[arg-type]
        return tuple(found)

    def _named(self, item: QTableWidgetItem) -> None:
        """A channel was given the name of a stain that is known: it lies where that one does."""
        from islet_imaging.reading.names import known_stain

        known = known_stain(item.text()) if item.column() == _NAME else None
        if known is not None and self.cellWidget(item.row(), _ROLE).currentText() == "marker":
            self.cellWidget(item.row(), _WHERE).setCurrentText(known[2])

    def _fit(self, rows: int) -> None:
        """As high as its rows need: what stands below does not move when a result comes."""
        self.setFixedHeight(_ROW_PX * (min(max(rows, 3), 6) + 1) + 4)

    def _fill(self, rows: list[tuple[str, str, str, str]]) -> None:
        self.blockSignals(True)
        self.setRowCount(len(rows))
        self._fit(len(rows))
        for k, (name, role, called, where) in enumerate(rows):
            item = QTableWidgetItem(name)
            item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
            self.setItem(k, _FILE, item)
            self._choose(k, _ROLE, ROLES, role)
            self.setItem(k, _NAME, QTableWidgetItem(called))
            self._choose(k, _WHERE, WHERE, "nucleus" if role == "dna" else where)
        self.blockSignals(False)

    def _choose(self, row: int, column: int, options: tuple[str, ...], chosen: str) -> None:
        """Show a choice in the list that is there: one that is replaced lingers over the table."""
        box = self.cellWidget(row, column)
        if box is None:
            box = chooser()
            box.addItems(list(options))
            self.setCellWidget(row, column, box)
        box.setCurrentText(chosen)

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (
                self.item(k, _FILE).text(),
                self.cellWidget(k, _ROLE).currentText(),
                self.item(k, _NAME).text().strip(),
                self.cellWidget(k, _WHERE).currentText(),
            )
            for k in range(self.rowCount())
        ]
