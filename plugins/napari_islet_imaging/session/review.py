"""A review: one run, one person, every edit on the disk before it is shown.

The idea: everything the panels do with a run passes through this class, which knows nothing of Qt
or of layers: it ties the run's edit history, the queue and the open image together, and tells its
listeners what changed.
It fails, loudly and without applying anything, when the journal cannot be written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from islet_imaging.review.journal import Edit
from napari_islet_imaging.session.agreement import Agreement
from napari_islet_imaging.session.edit_history import EditHistory
from napari_islet_imaging.session.names import blind_names, login_name, seed_of
from napari_islet_imaging.session.opened import OpenImage, load_image
from napari_islet_imaging.session.outlines import Region
from napari_islet_imaging.session.queue import (
    QueuedCell,
    ReviewQueue,
    chance_queue,
    review_queue,
)
from napari_islet_imaging.session.run_facts import RunFacts
from napari_islet_imaging.session.staining import Stainings
from napari_islet_imaging.session.tally import Counts
from napari_islet_imaging.session.trial import Cuts, Trial

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.positivity import Threshold
    from islet_imaging.run.folder import Run


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
    #: what is shown of all cells changed: another marker, or calls are hidden or shown
    display_changed = Signal()
    #: a threshold is tried, or no longer
    trial_changed = Signal()
    #: other cells are chosen
    chosen_changed = Signal()
    #: marker, reviewer, blinding or queue changed
    settings_changed = Signal()

    def __init__(self, run: Run, *, reviewer: str | None = None, blinded: bool = False) -> None:
        self.run = run
        self.reviewer = reviewer or login_name()
        self.protocol = run.protocol
        self.history = EditHistory(run)
        self.stainings = Stainings(run)
        self.facts = RunFacts(run)
        self.counts = Counts(self.history, self.protocol.statistics.denominator)
        #: the marker under review; empty where only nuclei were counted
        self.marker = next(iter(self.protocol.markers), "")
        #: a second marker, whose positive cells are filled; empty for none
        self.second = ""
        self.blinded = blinded
        #: whether the queue goes through the cells drawn for validation
        self.by_chance = False
        #: whether hidden calls are shown for a moment
        self.revealed = False
        self.open: OpenImage | None = None
        self.focus = 0
        #: where to look for images that were moved
        self.image_folders: list[Path] = []
        #: the threshold that is tried, if one is
        self.trial: Trial | None = None
        self._cuts: Cuts | None = None
        #: cells of the open image that are chosen together
        self.chosen: list[int] = []
        self.queue = ReviewQueue(self._decided, self._gone)
        #: what shows the session in a viewer, if anything does
        self.view: Any = None
        self._rows: dict[int, int] = {}
        self._agreement: Agreement | None = None
        self._samples = self.facts.batches()
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
        return blind_names(self.tables, self._seed())[image] if self.blinded else image

    def _seed(self) -> int:
        return seed_of(self.run.path, self.reviewer)

    def thresholds(self) -> dict[str, Threshold]:
        """Each marker's threshold in the open image's staining run; empty without one."""
        if self.open is None:
            return {}
        return self.stainings.thresholds(self.open.name)

    def control_values(self, column: str) -> NDArray[np.float64] | None:
        """A feature of the open image's negative controls, None without any."""
        if self.open is None:
            return None
        names = self.stainings.controls(self.open.name, self.marker)
        tables = [self.tables[n] for n in names if n in self.tables and n != self.open.name]
        values = [t.loc[~t["excluded"].astype(bool), column].to_numpy(float) for t in tables]
        return np.concatenate(values) if values else None

    def agreement(self) -> Agreement:
        """How far this person's calls agree with the tool's."""
        if self._agreement is None:
            self._agreement = Agreement(self.raw, self.history.effective(who=self.reviewer))
        return self._agreement

    # ------------------------------------------------------------ what a reviewer may know

    @property
    def hidden(self) -> bool:
        """Whether the calls of the tool and of other people are hidden."""
        return (self.blinded or self.by_chance) and not self.revealed

    def reveal(self, revealed: bool = True) -> None:
        """Show what is hidden, on request, until the next cell."""
        if revealed != self.revealed:
            self.revealed = revealed
            self.display_changed.emit()
            self.settings_changed.emit()

    def own_call(self, image: str, cell: int) -> str:
        """What this person said of a cell for the marker under review; empty for nothing."""
        own = self.agreement()
        if (image, cell) in own.excluded:
            return "excluded"
        return own.calls.get((image, cell, self.marker), "")

    def _decided(self, entry: QueuedCell) -> bool:
        """Whether this person called or excluded a cell of the queue, or it is gone."""
        return bool(self.own_call(entry.image, entry.cell)) or self._gone(entry)

    # ------------------------------------------------------------ what is tried and chosen

    @property
    def shown(self) -> pd.DataFrame:
        """Cells of the open image as they are shown: by the threshold that is tried, if any."""
        return self.table if self.trial is None else self.trial.table

    def try_threshold(self, cut: float) -> Trial | None:
        """Show the open image as scoring with this threshold would call it; nothing is changed."""
        if self.open is None:
            return None
        what = (self.open.name, self.marker)
        if self._cuts is None or (self._cuts.image, self._cuts.marker) != what:
            self._cuts = Cuts(self.history, self.protocol, self.stainings, *what)
        self.trial = self._cuts.at(cut)
        self.trial_changed.emit()
        return self.trial

    def end_trial(self) -> None:
        """Show the calls that count again."""
        if self.trial is not None:
            self.trial = None
            self.trial_changed.emit()

    def pick(self, cell: int, *, add: bool = False) -> None:
        """A click on a cell (0: beside all): look at it, or with ``add`` choose it with others."""
        if add:
            kept = [c for c in self.chosen if c != cell]
            if cell:
                self.choose(kept if cell in self.chosen else [*kept, cell])
            return
        self.choose([])  # what was chosen before is not meant any more
        if cell:  # a click beside the cells, as to give the image the keys, keeps the focus
            self.set_focus(cell)

    def choose(self, cells: Iterable[int]) -> None:
        """Choose these cells of the open image, and none else."""
        chosen = list(dict.fromkeys(cells))
        if chosen != self.chosen:
            self.chosen = chosen
            self.chosen_changed.emit()

    # ------------------------------------------------------------ settings

    def reread(self) -> None:
        """Take the summary and the flags of images from the run again."""
        self.facts.reread()
        self.settings_changed.emit()

    def set_marker(self, marker: str) -> None:
        """Review another marker."""
        self.end_trial()
        self.marker = marker
        if self.second == marker:
            self.second = ""
        self.rebuild_queue()
        self.display_changed.emit()
        self.settings_changed.emit()

    def set_second(self, marker: str) -> None:
        """Show the positive cells of a second marker as well; empty for none."""
        self.second = "" if marker == self.marker else marker
        self.display_changed.emit()
        self.settings_changed.emit()

    def set_reviewer(self, name: str) -> None:
        """Keep further edits under another name."""
        self.reviewer = name.strip() or login_name()
        self._agreement = None
        self.rebuild_queue()
        if self.hidden:  # what was said by whom is drawn
            self.display_changed.emit()
        self.settings_changed.emit()

    def set_blinded(self, blinded: bool) -> None:
        """Hide or show what could sway the reviewer: names, calls, numbers, the order."""
        self.end_trial()
        self.blinded, self.revealed = blinded, False
        self.rebuild_queue()
        self.display_changed.emit()
        self.settings_changed.emit()

    def set_by_chance(self, by_chance: bool) -> None:
        """Review the cells drawn for validation, or the unsure and flagged ones."""
        self.end_trial()
        self.by_chance, self.revealed = by_chance, False
        self.rebuild_queue()
        self.display_changed.emit()
        self.settings_changed.emit()

    def rebuild_queue(self) -> None:
        """Sort what is left to look at; cells this person has called are left out."""
        if not self.marker:
            queue: list[QueuedCell] = []
        elif self.by_chance:
            drawn = self.facts.drawn()
            drawn = drawn[drawn["image"].isin(list(self.tables))]
            queue = chance_queue(drawn, self.marker, seed=self._seed())
        else:
            queue = review_queue(
                self.history.as_scored(),
                self.marker,
                batch_of=self._samples,
                shuffle_seed=self._seed() if self.blinded else None,
            )
        self.queue.fill([c for c in queue if not self._decided(c)])

    # ------------------------------------------------------------ images and cells

    def open_image(self, name: str) -> OpenImage:
        """Load an image with its labels, corrections replayed."""
        return self.set_open(self.load(name))

    def load(self, name: str) -> OpenImage:
        """Load an image without opening it: the part that takes a while."""
        return load_image(
            self.run,
            name,
            self.raw[name],
            self.history.effective(image=name),
            folders=self.image_folders,
        )

    def set_open(self, opened: OpenImage) -> OpenImage:
        """Make a loaded image the open one."""
        self.trial = None
        self.chosen = []
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

    def shown_row(self, cell: int) -> pd.Series[Any] | None:
        """The row of a cell as it is shown: by the threshold that is tried, if any."""
        found = None if self.trial is None else self.shown[self.shown["cell"] == cell]
        return self.row(cell) if found is None else next((r for _, r in found.iterrows()), None)

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
        self.reveal(False)
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
        if self.open is None or position is None or (action == "call" and not self.marker):
            return None
        self.end_trial()
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
        self.end_trial()
        cell, y, x = anchor
        edit = self.history.reshape(
            Edit(self.reviewer, self.open.name, "shape", cell, y, x, before=before, after=after)
        )
        self._index()
        self.shapes_changed.emit(region)
        self._after_edit([int(s["cell"]) for s in [*before, *after]])
        return edit

    def catch_up(self) -> int:
        """Take in what was edited in another window meanwhile; returns how many edits."""
        new = self.history.catch_up()
        if not new:
            return 0
        self.end_trial()
        self._agreement = None
        self.counts.forget()
        if self.open is not None and any(e.image == self.open.name for e in new):
            if any(e.action in ("shape", "undo") for e in new):
                focus = self.focus
                self.open_image(self.open.name)
                self.set_focus(focus)
            else:
                self._index()
                self.cells_changed.emit([e.cell for e in new if e.image == self.open.name])
        self.settings_changed.emit()
        return len(new)

    def last_edit(self) -> Edit | None:
        """The last edit of this person that holds: what `undo` takes back."""
        return self.history.last_of(self.reviewer)

    def undo(self) -> Edit | None:
        """Take back this person's last edit, wherever it was made; it stays in the journal."""
        last = self.last_edit()
        return None if last is None else self._turn(last)

    def redo(self) -> Edit | None:
        """Do again what this person took back last, unless something else was done since."""
        found = self.history.last_undo(self.reviewer)
        return None if found is None else self._turn(found[1], undo=found[0])

    def _turn(self, last: Edit, undo: Edit | None = None) -> Edit:
        """Take an edit back, or its undo."""
        self.end_trial()
        self.history.take_back(last, self.reviewer, undo=undo)
        self._agreement = None
        if self.open is None or self.open.name != last.image:
            self.counts.forget(last.image)
            self.open_image(last.image)
        else:
            self._index()
            changed = [last.cell]
            if last.action == "shape":
                self.shapes_changed.emit(self.open.take_back(last, again=undo is not None))
                changed = [int(s["cell"]) for s in [*(last.before or ()), *(last.after or ())]]
            self._after_edit(changed)
        self.set_focus(last.cell)
        return last

    def _after_edit(self, cells: list[int]) -> None:
        assert self.open is not None
        self.counts.forget(self.open.name)
        self.cells_changed.emit(cells)

    def region_of(self, cells: list[int]) -> Region | None:
        """A box that holds some cells of the open image with a margin."""
        if self.open is None:
            return None
        rows = [self._rows[c] for c in cells if c in self._rows]
        return self.open.region_of(self.table.iloc[rows])
