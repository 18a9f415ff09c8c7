"""A review session: one run, one person, every edit on the disk before it is shown.

The idea: everything the widgets do with a run passes through this class, which knows nothing of Qt
or of layers; it holds the corrected tables, the label image of the open image and the journal, and
tells its listeners which cells changed.  An edit is written first and applied after.
It fails, loudly and without applying anything, when the journal cannot be written.
"""

from __future__ import annotations

import getpass
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from islet_imaging.arrays.text_masks import decode_mask
from islet_imaging.review.journal import Edit, Journal, effective
from islet_imaging.review.replay import Replay, set_call, set_excluded
from islet_imaging.run.called import raw_cells
from napari_islet_imaging.agreement import Agreement
from napari_islet_imaging.colours import SELECTED
from napari_islet_imaging.opened import OpenImage, load_image
from napari_islet_imaging.outlines import categories_of, grown_box
from napari_islet_imaging.queue import QueuedCell, chance_queue, review_queue
from napari_islet_imaging.tally import Tally, tally

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.run.folder import Run

Region = tuple[slice, slice]


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
    #: region of the open image whose outlines changed
    outlines_changed = Signal(object)
    #: labels of cells whose calls or measurements changed
    cells_changed = Signal(list)
    #: another cell is in focus (0: none)
    focus_changed = Signal(int)
    #: marker, reviewer, blinding or queue changed
    settings_changed = Signal()

    def __init__(self, run: Run, *, reviewer: str | None = None, blinded: bool = False) -> None:
        self.run = run
        self.reviewer = reviewer or login_name()
        self.protocol = run.protocol
        self.journal = Journal(run.corrections)
        self.raw = {str(k): t.reset_index(drop=True) for k, t in raw_cells(run).groupby("image")}
        self.images = run.images
        self.summary = run.summary if (run.path / "summary.csv").is_file() else None
        self.edits = self.journal.edits()
        self.unmatched: list[Edit] = []
        self.tables: dict[str, pd.DataFrame] = {}
        by_image: dict[str, list[Edit]] = {}
        for edit in effective(self.edits):
            by_image.setdefault(edit.image, []).append(edit)
        for name, table in self.raw.items():
            self.tables[name] = self._replayed(name, by_image.get(name, []), table)
        self.marker = self.protocol.markers[0]
        self.blinded = blinded
        #: whether the queue goes through the cells drawn for validation
        self.by_chance = False
        self.open: OpenImage | None = None
        self.focus = 0
        self.position = -1
        self.queue: list[QueuedCell] = []
        #: what shows the session in a viewer, if anything does
        self.view: Any = None
        self._image_flags = {
            str(row["image"]): [str(f.get("message") or f.get("code")) for f in row["flags"]]
            for row in run.provenance["images"]
        }
        self._rows: dict[int, int] = {}
        self._agreement: Agreement | None = None
        self._marked: list[int] = []
        self._tallies: dict[str, Tally] = {}
        self._samples = self.batches()
        self._recount()
        self.rebuild_queue()

    # ------------------------------------------------------------ names and numbers

    @property
    def image_names(self) -> list[str]:
        """Scored images in the order of the queue, then the rest."""
        queued = dict.fromkeys(c.image for c in self.queue)
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
            (self._tallies[i] for i in self.batches() if i in self._tallies), Tally(0, 0, 0, 0, 0.0)
        )

    def agreement(self) -> Agreement:
        """How far this person's calls agree with the tool's."""
        if self._agreement is None:
            self._agreement = Agreement(self.raw, effective(self.edits, who=self.reviewer))
        return self._agreement

    def _decided(self, entry: QueuedCell) -> bool:
        """Whether this person called or excluded a cell of the queue."""
        if (entry.image, entry.cell, self.marker) in self.agreement().called:
            return True
        table = self.tables[entry.image]
        excluded = table.loc[table["cell"] == entry.cell, "excluded"]
        return bool(excluded.any()) or self._gone(entry)

    def n_undecided(self) -> int:
        """Cells of the queue that this person neither called nor excluded."""
        return sum(not self._decided(entry) for entry in self.queue)

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
        self.redraw()
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
            for e in effective(self.edits, who=self.reviewer)
            if e.action == "exclude" or e.marker == self.marker
        }
        self.queue = [c for c in queue if (c.image, c.cell) not in done]
        self.position = -1

    # ------------------------------------------------------------ images and cells

    def open_image(self, name: str) -> OpenImage:
        """Load an image with its labels, corrections replayed."""
        return self.adopt(self.prepare(name))

    def prepare(self, name: str) -> OpenImage:
        """Load an image and draw its outlines, without opening it: the part that takes a while."""
        opened = load_image(self.run, name, self.raw[name], effective(self.edits))
        opened.draw(self.tables[name], self._categories(name))
        return opened

    def adopt(self, opened: OpenImage) -> OpenImage:
        """Make a prepared image the open one."""
        self.open = opened
        self._index()
        self.focus = 0
        self._marked = []
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

    def ahead(self, by: int = 1) -> QueuedCell | None:
        """The next (or an earlier) cell of the queue, None beyond its ends.

        From a cell that was clicked, the next is the one that the queue waits at.
        """
        target = self._target(by)
        return self.queue[target] if 0 <= target < len(self.queue) else None

    def _target(self, by: int) -> int:
        if by == 1 and 0 <= self.position < len(self.queue):
            here = self.queue[self.position]
            elsewhere = self.open is None or (here.image, here.cell) != (self.open.name, self.focus)
            if elsewhere and not self._decided(here):
                return self.position
        target = self.position + by
        while 0 <= target < len(self.queue) and self._gone(self.queue[target]):
            target += by
        return target

    def _gone(self, entry: QueuedCell) -> bool:
        """Whether a queued nucleus was merged or painted out."""
        table = self.tables[entry.image]
        flags = table.loc[table["cell"] == entry.cell, "flags"].astype(str)
        return flags.empty or bool(flags.str.contains("painted_out", regex=False).any())

    def step(self, by: int = 1) -> QueuedCell | None:
        """Go to the next (or an earlier) cell of the queue, opening its image where needed."""
        entry = self.ahead(by)
        if entry is None:
            return None
        self.position = self._target(by)
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
        if action == "call":
            before: Any = str(table[f"{self.marker}_call"].iloc[position])
            edit = Edit(
                self.reviewer, self.open.name, "call", cell, y, x, self.marker, before, after
            )
        else:
            held = bool(table["excluded"].iloc[position])
            edit = Edit(self.reviewer, self.open.name, "exclude", cell, y, x, "", held, not held)
        self.edits.append(self.journal.append(edit))
        if self._agreement is not None:
            self._agreement.note(edit)
        if action == "call":
            set_call(table, position, self.marker, str(after), self.reviewer)
        else:
            set_excluded(table, position, bool(edit.after), self.reviewer)
        self._after_edit([cell])
        return edit

    def reshape(
        self,
        before: list[dict[str, Any]],
        after: list[dict[str, Any]],
        anchor: tuple[int, float, float],
    ) -> Edit:
        """Keep a change of outlines that is already in the label image."""
        if self.open is None:
            raise RuntimeError("no image is open")
        cell, y, x = anchor
        edit = Edit(self.reviewer, self.open.name, "shape", cell, y, x, before=before, after=after)
        self.edits.append(self.journal.append(edit))
        replay = Replay(self.table)
        if not replay.apply(edit):
            self.unmatched.append(edit)
        self.tables[self.open.name] = replay.cells
        self._index()
        self._after_edit([int(s["cell"]) for s in [*before, *after]])
        return edit

    def last_edit(self) -> Edit | None:
        """The last edit of this person that holds: what `undo` takes back."""
        own = effective(self.edits, who=self.reviewer)
        return own[-1] if own else None

    def undo(self) -> Edit | None:
        """Take back this person's last edit, wherever it was made; it stays in the journal."""
        last = self.last_edit()
        if last is None:
            return None
        self.edits.append(
            self.journal.append(Edit(self.reviewer, last.image, "undo", undoes=last.id))
        )
        self._agreement = None
        if self.open is None or self.open.name != last.image:
            self._replay_table(last.image)
            self.open_image(last.image)
        else:
            self._replay_cell(last)
            if last.action == "shape":
                self._paint_back(last)
            changed = (
                [int(s["cell"]) for s in [*(last.before or ()), *(last.after or ())]]
                if (last.action == "shape")
                else [last.cell]
            )
            self._after_edit(changed)
        self.set_focus(last.cell)
        return last

    def _replay_cell(self, edit: Edit) -> None:
        """Bring one edited cell to what the journal says of it now."""
        held = [e for e in effective(self.edits) if e.image == edit.image]
        row = self._rows.get(edit.cell)
        raw = self.raw[edit.image]
        own = raw[raw["cell"] == edit.cell]
        shapes = edit.action == "shape" or any(e.action == "shape" for e in held)
        if shapes or row is None or len(own) != 1:
            self._replay_table(edit.image)
            self._index()
            return
        replay = Replay(own, tolerance_px=float("inf"))
        for one in held:
            if one.cell == edit.cell:
                replay.apply(one)
        names = ["excluded", "flags", "corrected_by"]
        if edit.marker:
            names += [f"{edit.marker}_{n}" for n in ("call", "probability", "reason")]
        for name in names:
            if name in self.table:
                self.table.loc[row, name] = replay.cells[name].iloc[0]

    def _replay_table(self, image: str) -> None:
        held = [e for e in effective(self.edits) if e.image == image]
        self.tables[image] = self._replayed(image, held, self.raw[image])
        self._recount(image)

    def _replayed(self, image: str, edits: list[Edit], table: pd.DataFrame) -> pd.DataFrame:
        replay = Replay(table)
        self.unmatched = [e for e in self.unmatched if e.image != image]
        self.unmatched += [e for e in edits if not replay.apply(e)]
        return replay.cells

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
        self.outlines_moved(grown_box(boxes, self.open.labels.shape, 2))

    def _after_edit(self, cells: list[int]) -> None:
        assert self.open is not None
        self._recount(self.open.name)
        self.redraw(cells)
        self.cells_changed.emit(cells)

    # ------------------------------------------------------------ outlines

    def mark(self, cells: list[int]) -> None:
        """Outline these cells of the open image as chosen, and none else."""
        before, self._marked = self._marked, list(cells)
        self.redraw(sorted({*before, *cells}))

    def _categories(self, image: str | None = None) -> NDArray[np.uint8]:
        table = self.table if image is None else self.tables[image]
        shown = categories_of(
            table[f"{self.marker}_call"].to_numpy(), table["excluded"].to_numpy(bool)
        )
        if self._marked and image is None:
            shown[np.isin(table["cell"].to_numpy(), self._marked)] = SELECTED
        return shown

    def redraw(
        self, cells: list[int] | None = None, categories: NDArray[np.uint8] | None = None
    ) -> None:
        """Draw all outlines again, or those around some cells.

        Parameters
        ----------
        cells : list of int, optional
            Only around these.
        categories : ndarray of uint8, optional
            To show instead of the calls, one per row of the open image's table.
        """
        if self.open is None:
            return
        region = None if cells is None else self.region_of(cells)
        if cells is not None and region is None:
            return
        shown = self._categories() if categories is None else categories
        self.outlines_changed.emit(self.open.draw(self.table, shown, region))

    def outlines_moved(self, region: Region) -> None:
        """Nuclei changed shape in a region: draw it again from the label image."""
        if self.open is not None:
            self.open.forget_outlines()
            self.outlines_changed.emit(self.open.draw(self.table, self._categories(), region))

    def region_of(self, cells: list[int]) -> Region | None:
        """A box that holds some cells of the open image with a margin."""
        if self.open is None:
            return None
        rows = [self._rows[c] for c in cells if c in self._rows]
        return self.open.region_of(self.table.iloc[rows])
