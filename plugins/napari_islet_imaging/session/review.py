"""A review: one run, one person, every edit on the disk before it is shown.

The idea: everything the panels do with a run passes through this class, which knows nothing of Qt
or of layers: it ties the run's edit history, the queue and the open image together, and tells its
listeners what changed.
It fails, loudly and without applying anything, when the journal cannot be written.
"""

from __future__ import annotations

import getpass
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from islet_imaging.arrays.text_masks import decode_mask
from islet_imaging.review.journal import Edit
from napari_islet_imaging.session.agreement import Agreement
from napari_islet_imaging.session.edit_history import EditHistory
from napari_islet_imaging.session.opened import OpenImage, load_image
from napari_islet_imaging.session.outlines import Region, grown_box
from napari_islet_imaging.session.queue import (
    QueuedCell,
    ReviewQueue,
    chance_queue,
    review_queue,
)
from napari_islet_imaging.session.tally import Tally, tally

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.run.folder import Run


def login_name() -> str:
    """The name under which edits are kept unless another is given."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "reviewer"


class ReviewSession:
    """One person's review of one run.

    Parameters
    ----------
    run : Run
        The run folder.
    reviewer : str, optional
        Who; the login name by default.
    blinded : bool
        Hide file and condition, and shuffle.
    """

    #: an image was opened
    image_opened = Signal(str)
    #: region of the open image in which nuclei changed their shape
    shapes_changed = Signal(object)
    #: labels of cells whose calls or measurements changed
    cells_changed = Signal(list)
    #: another cell is in focus (0: none)
    focus_changed = Signal(int)
    #: another marker is under review
    marker_changed = Signal()
    #: marker, reviewer, blinding or queue changed
    settings_changed = Signal()

    def __init__(self, run: Run, *, reviewer: str | None = None, blinded: bool = False) -> None:
        self.run = run
        self.reviewer = reviewer or login_name()
        self.protocol = run.protocol
        self.history = EditHistory(run)
        self.images = run.images
        self.summary = run.summary if (run.path / "summary.csv").is_file() else None
        self.marker = self.protocol.markers[0]
        self.blinded = blinded
        #: whether the queue goes through the cells drawn for validation
        self.by_chance = False
        self.open: OpenImage | None = None
        self.focus = 0
        self.queue = ReviewQueue(self._decided, self._gone)
        #: what shows the session in a viewer, if anything does
        self.view: Any = None
        self._image_flags = {
            str(row["image"]): [str(f.get("message") or f.get("code")) for f in row["flags"]]
            for row in run.provenance["images"]
        }
        self._rows: dict[int, int] = {}
        self._agreement: Agreement | None = None
        self._tallies: dict[str, Tally] = {}
        self._samples = self.batches()
        self._recount()
        self.rebuild_queue()

    # ------------------------------------------------------------ names and numbers

    @property
    def raw(self) -> dict[str, pd.DataFrame]:
        """Cells of each image as scored."""
        return self.history.raw

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Cells of each image, corrected."""
        return self.history.tables

    @property
    def edits(self) -> list[Edit]:
        """The journal's entries, undone ones and undos included."""
        return self.history.edits

    @property
    def image_names(self) -> list[str]:
        """Scored images in the order of the queue, then the rest."""
        queued = dict.fromkeys(c.image for c in self.queue.cells)
        # controls come last
        rest = sorted(
            (n for n in self.tables if n not in queued), key=lambda n: n not in self._samples
        )
        return [*queued, *rest]

    def shown_name(self, image: str) -> str:
        """The image's name, or what a blinded reviewer may know of it."""
        if not self.blinded:
            return image
        return f"image {self._blind_order.index(image) + 1}"

    @property
    def _blind_order(self) -> list[str]:
        rng = np.random.default_rng(self._seed())
        names = sorted(self.tables)
        return [names[i] for i in rng.permutation(len(names))]

    def _seed(self) -> int:
        # the same person finds the same order after a break; another person gets another
        return zlib.crc32(f"{self.run.path.resolve()}\n{self.reviewer}".encode())

    def batches(self) -> dict[str, tuple[str, str]]:
        """Condition and batch of each image that counts as a sample."""
        images = self.images
        sample = images[images["role"].isin(["sample", ""])] if "role" in images else images
        return {
            str(i): (str(c), str(b))
            for i, c, b in zip(sample["image"], sample["condition"], sample["batch"], strict=True)
        }

    def image_flags(self, image: str) -> list[str]:
        """What was noticed in an image, in words."""
        return self._image_flags.get(image, [])

    def tally(self, image: str | None = None) -> Tally:
        """Counts of one image, or of all samples."""
        if image is not None:
            return self._tallies[image]
        return sum(
            (self._tallies[i] for i in self.batches() if i in self._tallies),
            Tally(0, 0, 0, 0, 0, 0.0),
        )

    def agreement(self) -> Agreement:
        """How far this person's calls agree with the tool's."""
        if self._agreement is None:
            self._agreement = Agreement(self.raw, self.history.effective(who=self.reviewer))
        return self._agreement

    def _decided(self, entry: QueuedCell) -> bool:
        """Whether this person called or excluded a cell of the queue."""
        if (entry.image, entry.cell, self.marker) in self.agreement().called:
            return True
        table = self.tables[entry.image]
        excluded = table.loc[table["cell"] == entry.cell, "excluded"]
        return bool(excluded.any()) or self._gone(entry)

    def _recount(self, image: str | None = None) -> None:
        for name in [image] if image is not None else list(self.tables):
            self._tallies[name] = tally(self.tables[name], self.marker)

    # ------------------------------------------------------------ settings

    def reread(self) -> None:
        """Take the summary and the flags of images from the run again."""
        self.summary = self.run.summary if (self.run.path / "summary.csv").is_file() else None
        self.settings_changed.emit()

    def set_marker(self, marker: str) -> None:
        """Review another marker."""
        self.marker = marker
        self._recount()
        self.rebuild_queue()
        self.marker_changed.emit()
        self.settings_changed.emit()

    def set_reviewer(self, name: str) -> None:
        """Keep further edits under another name."""
        self.reviewer = name.strip() or login_name()
        self._agreement = None
        self.rebuild_queue()
        self.settings_changed.emit()

    def set_blinded(self, blinded: bool) -> None:
        """Hide or show what could sway the reviewer."""
        self.blinded = blinded
        self.rebuild_queue()
        self.settings_changed.emit()

    def _drawn(self) -> pd.DataFrame:
        from islet_imaging.run.validation_sheet import FILE, read_sheet

        sheet = read_sheet(self.run.path / FILE)
        return sheet[sheet["image"].isin(list(self.tables))]

    def n_drawn(self) -> int:
        """How many cells chance has drawn for the marker under review."""
        return int((self._drawn()["marker"] == self.marker).sum())

    def draw_by_chance(self, n: int) -> None:
        """Draw cells for validation into the run's ``validation.csv``."""
        from islet_imaging.run.validation_sheet import draw_validation_sheet

        draw_validation_sheet(self.run, self.marker, n=n)

    def set_by_chance(self, by_chance: bool) -> None:
        """Review the cells drawn for validation, or the unsure and flagged ones."""
        self.by_chance = by_chance
        self.rebuild_queue()
        self.settings_changed.emit()

    def rebuild_queue(self) -> None:
        """Sort what is left to look at; cells this person has called are left out."""
        if self.by_chance:
            queue = chance_queue(self._drawn(), self.marker, seed=self._seed())
        else:
            queue = review_queue(
                self.tables,
                self.marker,
                batch_of=self.batches(),
                shuffle_seed=self._seed() if self.blinded else None,
            )
        done = {
            (e.image, e.cell)
            for e in self.history.effective(who=self.reviewer)
            if e.action == "exclude" or e.marker == self.marker
        }
        self.queue.fill([c for c in queue if (c.image, c.cell) not in done])

    # ------------------------------------------------------------ images and cells

    def open_image(self, name: str) -> OpenImage:
        """Load an image with its labels, corrections replayed."""
        return self.set_open(self.load(name))

    def load(self, name: str) -> OpenImage:
        """Load an image without opening it: the part that takes a while."""
        return load_image(self.run, name, self.raw[name], self.history.effective(image=name))

    def set_open(self, opened: OpenImage) -> OpenImage:
        """Make a loaded image the open one."""
        self.open = opened
        self._index()
        self.focus = 0
        self.image_opened.emit(opened.name)
        return opened

    def _index(self) -> None:
        cells = self.table["cell"].to_numpy()
        self._rows = {int(c): r for r, c in enumerate(cells)}

    @property
    def table(self) -> pd.DataFrame:
        """Cells table of the open image, corrected."""
        if self.open is None:
            raise RuntimeError("no image is open")
        return self.tables[self.open.name]

    def row(self, cell: int) -> pd.Series[Any] | None:
        """The row of a cell of the open image."""
        position = self._rows.get(cell)
        return None if position is None else self.table.iloc[position]

    def cell_at(self, y_px: float, x_px: float) -> int:
        """Label at a place of the open image, 0 outside."""
        if self.open is None:
            return 0
        y, x = round(y_px), round(x_px)
        height, width = self.open.labels.shape
        return int(self.open.labels[y, x]) if 0 <= y < height and 0 <= x < width else 0

    def set_focus(self, cell: int) -> None:
        """Look at a cell of the open image."""
        self.focus = cell if cell in self._rows else 0
        self.focus_changed.emit(self.focus)

    @property
    def _seen(self) -> tuple[str, int] | None:
        return None if self.open is None else (self.open.name, self.focus)

    def ahead(self, by: int = 1) -> QueuedCell | None:
        """The next (or an earlier) cell of the queue, None beyond its ends.

        From a cell that was clicked, the next is the one that the queue waits at.
        """
        return self.queue.ahead(by, self._seen)

    def _gone(self, entry: QueuedCell) -> bool:
        """Whether a queued nucleus was merged or painted out."""
        table = self.tables[entry.image]
        flags = table.loc[table["cell"] == entry.cell, "flags"].astype(str)
        return flags.empty or bool(flags.str.contains("painted_out", regex=False).any())

    def step(self, by: int = 1) -> QueuedCell | None:
        """Go to the next (or an earlier) cell of the queue, opening its image where needed."""
        entry = self.queue.go(by, self._seen)
        if entry is None:
            return None
        if self.open is None or self.open.name != entry.image:
            self.open_image(entry.image)
        self.set_focus(entry.cell)
        return entry

    # ------------------------------------------------------------ edits

    def call(self, call: str, cell: int | None = None) -> Edit | None:
        """Call the cell in focus (or another) for the marker under review."""
        return self._edit("call", cell, call)

    def exclude(self, cell: int | None = None) -> Edit | None:
        """Take the cell out of all fractions, or back in."""
        return self._edit("exclude", cell, None)

    def _edit(self, action: str, cell: int | None, after: str | None) -> Edit | None:
        cell = self.focus if cell is None else cell
        position = self._rows.get(cell)
        if self.open is None or position is None:
            return None
        table = self.table
        y, x = (float(table[c].iloc[position]) for c in ("y_px", "x_px"))
        who, image = self.reviewer, self.open.name
        if action == "call":
            before: Any = str(table[f"{self.marker}_call"].iloc[position])
            edit = self.history.call(
                image, position, Edit(who, image, "call", cell, y, x, self.marker, before, after)
            )
        else:
            held = bool(table["excluded"].iloc[position])
            edit = self.history.exclude(
                image, position, Edit(who, image, "exclude", cell, y, x, "", held, not held)
            )
        if self._agreement is not None:
            self._agreement.note(edit)
        self._after_edit([cell])
        return edit

    def reshape(
        self,
        before: list[dict[str, Any]],
        after: list[dict[str, Any]],
        anchor: tuple[int, float, float],
        region: Region,
    ) -> Edit:
        """Keep a change of outlines that is already in the label image.

        Parameters
        ----------
        before, after : list of dict
            The nuclei as they were and as they are; see `napari_islet_imaging.session.reshape`.
        anchor : (int, float, float)
            A cell of them, with its y and x, px.
        region : (slice, slice)
            Holds all of them.
        """
        if self.open is None:
            raise RuntimeError("no image is open")
        cell, y, x = anchor
        edit = self.history.reshape(
            Edit(self.reviewer, self.open.name, "shape", cell, y, x, before=before, after=after)
        )
        self._index()
        self.shapes_changed.emit(region)
        self._after_edit([int(s["cell"]) for s in [*before, *after]])
        return edit

    def last_edit(self) -> Edit | None:
        """The last edit of this person that holds: what `undo` takes back."""
        return self.history.last_of(self.reviewer)

    def undo(self) -> Edit | None:
        """Take back this person's last edit, wherever it was made; it stays in the journal."""
        last = self.last_edit()
        if last is None:
            return None
        self.history.take_back(last, self.reviewer)
        self._agreement = None
        if self.open is None or self.open.name != last.image:
            self._recount(last.image)
            self.open_image(last.image)
        else:
            self._index()
            changed = [last.cell]
            if last.action == "shape":
                self._paint_back(last)
                changed = [int(s["cell"]) for s in [*(last.before or ()), *(last.after or ())]]
            self._after_edit(changed)
        self.set_focus(last.cell)
        return last

    def _paint_back(self, edit: Edit) -> None:
        assert self.open is not None
        boxes: list[Region] = []
        for shapes, erase in ((edit.after or (), True), (edit.before or (), False)):
            for shape in shapes:
                region, mask = decode_mask(shape["mask"])
                part = self.open.labels[region]
                if erase:
                    part[mask & (part == int(shape["cell"]))] = 0
                else:
                    part[mask] = int(shape["cell"])
                self.open.committed[region] = part
                boxes.append(region)
        self.shapes_changed.emit(grown_box(boxes, self.open.labels.shape, 2))

    def _after_edit(self, cells: list[int]) -> None:
        assert self.open is not None
        self._recount(self.open.name)
        self.cells_changed.emit(cells)

    def region_of(self, cells: list[int]) -> Region | None:
        """A box that holds some cells of the open image with a margin."""
        if self.open is None:
            return None
        rows = [self._rows[c] for c in cells if c in self._rows]
        return self.open.region_of(self.table.iloc[rows])
