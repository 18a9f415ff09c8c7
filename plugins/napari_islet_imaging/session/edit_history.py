"""What people did to a run: the journal, and the cells tables as scored and as corrected.

The idea: an edit is written to the journal first and applied to the table after; an undo is one
more entry, and the cell (or, where outlines changed, its image) is brought to what the journal says
then.
It fails, loudly and without applying anything, when the journal cannot be written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.review.journal import Edit, Journal, effective
from islet_imaging.review.replay import Replay, set_call, set_excluded
from islet_imaging.run.image_checks import raw_cells

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.run.folder import Run


class EditHistory:
    """The corrections of one run.

    Parameters
    ----------
    run : Run
        The run folder.

    Attributes
    ----------
    raw : dict of str to DataFrame
        Cells of each image as scored.
    tables : dict of str to DataFrame
        The same with the edits that hold.
    edits : list of Edit
        All there ever were, undone ones and undos included.
    unmatched : list of Edit
        Those that are not applied: no nucleus at their place, another picture, or in conflict.
    """

    def __init__(self, run: Run) -> None:
        self.journal = Journal(run.corrections)
        self._pixels = run.pixels
        self.raw: dict[str, pd.DataFrame] = {
            str(k): t.reset_index(drop=True) for k, t in raw_cells(run).groupby("image")
        }
        self._known_size = self._size()
        self.edits = self.journal.edits()
        self.unmatched: list[Edit] = []
        self.tables: dict[str, pd.DataFrame] = {}
        by_image: dict[str, list[Edit]] = {}
        for edit in self.effective():
            by_image.setdefault(edit.image, []).append(edit)
        for name, table in self.raw.items():
            self.tables[name] = self._replayed(name, by_image.get(name, []), table)

    def effective(self, *, who: str | None = None, image: str | None = None) -> list[Edit]:
        """Edits of cells that hold, of one person or of one image."""
        found = effective(self.edits, who=who)
        return [e for e in found if image in (None, e.image) and e.action != "regions"]

    def as_scored(self) -> dict[str, pd.DataFrame]:
        """Nuclei that there are now, each as the tool calls it: no person's call is in it."""
        import pandas as pd

        reshaped: dict[str, set[int]] = {}
        for edit in self.effective():
            if edit.action == "shape":
                cells = {int(s["cell"]) for s in (edit.after or ())}
                reshaped.setdefault(edit.image, set()).update(cells)
        found = {}
        for name, raw in self.raw.items():
            now = self.tables[name]
            if name in reshaped or len(now) != len(raw):
                fresh = now["cell"].isin(reshaped.get(name, set())) | ~now["cell"].isin(raw["cell"])
                kept = raw["cell"].isin(now["cell"]) & ~raw["cell"].isin(now.loc[fresh, "cell"])
                raw = pd.concat([raw[kept], now[fresh]], ignore_index=True)
            found[name] = raw
        return found

    def catch_up(self) -> list[Edit]:
        """Take in what others wrote into the journal since, as another window; returns that."""
        size = self._size()
        if size == self._known_size:
            return []
        self._known_size = size
        known = {e.id for e in self.edits}
        edits = self.journal.edits()
        new = [e for e in edits if e.id not in known]
        if new:
            self.edits = edits
        for image in dict.fromkeys(e.image for e in new if e.image in self.raw):
            held = self.effective(image=image)
            self.tables[image] = self._replayed(image, held, self.raw[image])
        return new

    def _size(self) -> int:
        path = self.journal.path
        return path.stat().st_size if path.is_file() else 0

    def lay_over(self, image: str, table: pd.DataFrame) -> pd.DataFrame:
        """A table of an image's cells, called anew, with the edits that hold."""
        held = self.effective(image=image)
        if not held:
            return table
        replay = Replay(table, pixels=self._pixels.get(image, ()))
        for edit in held:
            replay.apply(edit)
        return replay.cells

    def last_of(self, who: str) -> Edit | None:
        """The last edit of a person that holds: what an undo takes back."""
        own = self.effective(who=who)
        return own[-1] if own else None

    def call(self, image: str, position: int, edit: Edit) -> Edit:
        """Keep the call of the cell in a row of an image's table, and apply it."""
        kept = self._keep(edit)
        set_call(self.tables[image], position, edit.marker, str(edit.after), edit.who)
        return kept

    def exclude(self, image: str, position: int, edit: Edit) -> Edit:
        """Keep that a cell is taken out, or back in, and apply it."""
        kept = self._keep(edit)
        set_excluded(self.tables[image], position, bool(edit.after), edit.who)
        return kept

    def reshape(self, edit: Edit) -> Edit:
        """Keep a change of outlines, and put its measurements into the table."""
        kept = self._keep(edit)
        replay = Replay(self.tables[edit.image], pixels=self._pixels.get(edit.image, ()))
        if not replay.apply(edit):
            self.unmatched.append(edit)
        self.tables[edit.image] = replay.cells
        return kept

    def last_undo(self, who: str) -> tuple[Edit, Edit] | None:
        """The last undo of a person that nothing followed, and the edit that it took back."""
        by_id = {e.id: e for e in self.edits}
        waiting: list[Edit] = []
        for edit in self.edits:
            if edit.who != who:
                continue
            undone = by_id.get(edit.undoes)
            if edit.action != "undo":
                waiting.clear()  # there is nothing to do again after a further edit
            elif undone is not None and undone.action == "undo":
                waiting = [e for e in waiting if e.id != undone.id]
            else:
                waiting.append(edit)
        if not waiting:
            return None
        undo = waiting[-1]
        undone = by_id.get(undo.undoes)
        return None if undone is None else (undo, undone)

    def take_back(self, edit: Edit, who: str, *, undo: Edit | None = None) -> None:
        """Keep that an edit is undone, and bring its cells to what holds then.

        Parameters
        ----------
        edit : Edit
            What is undone.
        who : str
            By whom.
        undo : Edit, optional
            The undo of that edit, which is taken back instead: the edit is done again.
        """
        self._keep(Edit(who, edit.image, "undo", undoes=edit.id if undo is None else undo.id))
        held = self.effective(image=edit.image)
        table, raw = self.tables[edit.image], self.raw[edit.image]
        rows = np.flatnonzero(table["cell"].to_numpy() == edit.cell)
        own = raw[raw["cell"] == edit.cell]
        shapes = edit.action == "shape" or any(e.action == "shape" for e in held)
        if shapes or len(rows) != 1 or len(own) != 1:
            self.tables[edit.image] = self._replayed(edit.image, held, raw)
            return
        replay = Replay(own, tolerance_px=float("inf"))
        for one in held:
            if one.cell == edit.cell:
                replay.apply(one)
        names = ["excluded", "flags", "corrected_by"]
        if edit.marker:
            names += [f"{edit.marker}_{n}" for n in ("call", "probability", "reason")]
        for name in names:
            if name in table:
                table.loc[rows[0], name] = replay.cells[name].iloc[0]

    def _keep(self, edit: Edit) -> Edit:
        before = self._size()
        kept = self.journal.append(edit)
        self.edits.append(kept)
        if before == self._known_size:  # else there is more to catch up with
            self._known_size = self._size()
        return kept

    def _replayed(self, image: str, edits: list[Edit], table: pd.DataFrame) -> pd.DataFrame:
        replay = Replay(table, pixels=self._pixels.get(image, ()))
        self.unmatched = [e for e in self.unmatched if e.image != image]
        for edit in edits:
            replay.apply(edit)
        # also what was taken back again because another edit disagrees
        self.unmatched += [*replay.unmatched, *replay.other_pixels, *replay.conflicts]
        return replay.cells
