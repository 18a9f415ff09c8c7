"""Replaying a journal of corrections over tables and label images.

The idea: the scored tables stay as they are; what people changed is laid over them edit by edit, in
the order it was made.  A cell is found again by where it lies, so the same journal fits the same
images scored anew; a shape finds the nuclei under its old outline and puts its new outline there.
What was said of a nucleus holds for this nucleus; said of two that became one it holds only where
both agree, until somebody looks at the one.
It fails, and names the edits, where no nucleus lies at the place of the old one any more, and where
the picture is another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.review.edited import (
    CALL_PROBABILITY,
    EditedLabels,
    EditedTable,
    Places,
    flags_with,
)
from islet_imaging.review.journal import Edit, effective
from islet_imaging.review.subject import nucleus_mark, same_pixels

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Corrected:
    """Tables and labels after the edits.

    Parameters
    ----------
    cells : DataFrame
        The cells table, with columns ``corrected_by`` (empty where nobody changed the row) and
        ``<marker>_call_before`` (as scored; empty for nuclei that people drew).
    labels : ndarray or None
        The corrected label image, int32, where one was given.
    unmatched : list of Edit
        Edits whose cell is not there any more; not applied.
    other_pixels : list of Edit
        Edits of a picture that was exchanged since; not applied.
    conflicts : list of Edit
        Edits of different nuclei that fall on one nucleus now and disagree; not applied.
    moved : list of Edit
        Edits that were applied by place alone, to a nucleus that is not the one they were made on.
    unproven : list of Edit
        Edits of an older journal, which does not say what pixels they speak of; applied.
    """

    cells: pd.DataFrame
    labels: NDArray[np.int32] | None
    unmatched: list[Edit]
    other_pixels: list[Edit] = field(default_factory=list)
    conflicts: list[Edit] = field(default_factory=list)
    moved: list[Edit] = field(default_factory=list)
    unproven: list[Edit] = field(default_factory=list)

    @property
    def not_applied(self) -> list[Edit]:
        """All edits that changed nothing."""
        return [*self.unmatched, *self.other_pixels, *self.conflicts]

    def add(self, other: Corrected) -> None:
        """Take over what is said of the edits of other images; not their cells."""
        for name in ("unmatched", "other_pixels", "conflicts", "moved", "unproven"):
            getattr(self, name).extend(getattr(other, name))

    def counts(self) -> dict[str, int]:
        """How many edits there are of each kind that was not applied as it stands."""
        return {
            name: len(getattr(self, name))
            for name in ("unmatched", "other_pixels", "conflicts", "moved", "unproven")
        }

    def told(self) -> list[str]:
        """A sentence for each kind of edit that was not applied as it stands."""
        kinds = (
            (self.other_pixels, "not applied: the picture was exchanged since"),
            (self.unmatched, "not applied: no nucleus lies there now"),
            (
                self.conflicts,
                "not applied: they fall on one nucleus now and disagree, look at it again",
            ),
            (self.moved, "applied by place: the nuclei were found anew since"),
            (self.unproven, "applied, though an older journal does not say to which picture"),
        )
        return [
            f"{len(edits)} correction{'s' if len(edits) != 1 else ''} {words} ({_where(edits)})"
            for edits, words in kinds
            if edits
        ]


def _where(edits: list[Edit]) -> str:
    named = list(dict.fromkeys(f"{e.image} cell {e.cell}" for e in edits))
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")


def apply_corrections(
    cells: pd.DataFrame,
    edits: Iterable[Edit],
    *,
    labels: Mapping[str, NDArray[Any]] | None = None,
    who: str | None = None,
    tolerance_px: float | None = None,
    pixels: Mapping[str, Sequence[str]] | None = None,
) -> Corrected:
    """Replay edits over a cells table of any number of images.

    The later edit of a cell wins.  A corrected call sets the probability to 1, 0 or (unsure) 0.5,
    so that every fraction follows it.

    Parameters
    ----------
    cells : DataFrame
        As scored: needs ``image, cell, y_px, x_px``, and ``<marker>_call`` for calls.
    edits : iterable of Edit
        Of one or several journals; undone ones are ignored.
    labels : mapping of str to ndarray, optional
        Label images (Y, X) of the images named; only needed for `Corrected.labels` of one image.
    who : str, optional
        Only this person's edits.
    tolerance_px : float, optional
        How far a nucleus may have moved, px.  Default: half the median distance of nearest
        neighbours in that image.
    pixels : mapping of str to sequence of str, optional
        Hashes of each image's channels now: edits of other pixels are not applied.

    Returns
    -------
    Corrected

    Examples
    --------
    >>> import pandas as pd
    >>> from islet_imaging.review.journal import Edit
    >>> cells = pd.DataFrame({"image": ["a"], "cell": [1], "y_px": [5.0], "x_px": [5.0],
    ...                       "INS_call": ["unsure"], "INS_probability": [0.4]})
    >>> edit = Edit("ana", "a", "call", 9, 5.2, 5.1, "INS", "unsure", "positive")
    >>> apply_corrections(cells, [edit]).cells["INS_call"].tolist()
    ['positive']
    """
    import pandas as pd

    wanted = effective(edits, who=who)
    by_image: dict[str, list[Edit]] = {}
    for edit in wanted:
        by_image.setdefault(edit.image, []).append(edit)
    corrected = cells.copy()
    if "corrected_by" not in corrected:
        corrected["corrected_by"] = ""
    done = Corrected(corrected, None, [])
    parts: list[pd.DataFrame] = []
    groups = {str(k): g for k, g in corrected.groupby("image", sort=False)}
    for image, rows in groups.items():
        own = by_image.pop(image, [])
        image_labels = None if labels is None else labels.get(image)
        replay = Replay(
            rows, image_labels, tolerance_px=tolerance_px, pixels=(pixels or {}).get(image, ())
        )
        for edit in own:
            if replay.apply(edit) and not edit.pixels and (pixels or {}).get(image):
                done.unproven.append(edit)
        for name in ("unmatched", "other_pixels", "conflicts", "moved"):
            getattr(done, name).extend(getattr(replay, name))
        parts.append(replay.cells)
        if image_labels is not None:
            done.labels = replay.labels
    done.unmatched += [edit for rest in by_image.values() for edit in rest]
    # images without a cell say nothing of the columns' types
    parts = [p for p in parts if len(p)] or parts[:1]
    result = pd.concat(parts, ignore_index=True) if parts else corrected
    done.cells = _with_calls_before(result, cells)
    return done


def _with_calls_before(corrected: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The table with each cell's calls as they were scored."""
    calls = [c for c in cells.columns if str(c).endswith("_call")]
    key = ["image", "cell"]
    before = cells[[*key, *calls]].rename(columns={c: f"{c}_before" for c in calls})
    held = corrected.drop(columns=[c for c in before.columns if c not in key], errors="ignore")
    found = held.merge(before, on=key, how="left", validate="many_to_one")
    named = [f"{c}_before" for c in calls]
    found[named] = found[named].fillna("")
    return found


class Replay:
    """One image's table and labels, corrected edit by edit.

    Parameters
    ----------
    cells : DataFrame
        Rows of one image; copied.
    labels : ndarray, (Y, X), optional
        Its label image; copied.
    tolerance_px : float, optional
        See `apply_corrections`.
    pixels : sequence of str, optional
        Hashes of the image's channels now: edits of other pixels are not applied.

    Attributes
    ----------
    unmatched, other_pixels, conflicts, moved : list of Edit
        See `Corrected`.
    """

    def __init__(
        self,
        cells: pd.DataFrame,
        labels: NDArray[Any] | None = None,
        *,
        tolerance_px: float | None = None,
        pixels: Sequence[str] = (),
    ) -> None:
        cells = cells.reset_index(drop=True).copy()
        for name, value in (("corrected_by", ""), ("flags", ""), ("excluded", False)):
            if name not in cells:
                cells[name] = value
        cells["flags"] = cells["flags"].fillna("").astype(object)
        self._table = EditedTable(cells)
        self._labels = None if labels is None else EditedLabels(labels)
        self._places = Places(cells, tolerance_px)
        self._pixels = tuple(pixels)
        #: per row, action and marker: what each nucleus that was spoken of was said to be
        self._said: dict[tuple[int, str, str], dict[str, Edit]] = {}
        self._blocked: set[tuple[int, str, str]] = set()
        self.unmatched: list[Edit] = []
        self.other_pixels: list[Edit] = []
        self.conflicts: list[Edit] = []
        self.moved: list[Edit] = []

    @property
    def cells(self) -> pd.DataFrame:
        """The table with the edits so far."""
        return self._table.frame()

    @property
    def labels(self) -> NDArray[np.int32] | None:
        """The label image with the edits so far."""
        return None if self._labels is None else self._labels.array

    def find(self, cell: int, y_px: float, x_px: float) -> int | None:
        """Row of the cell that lies at a place, or None; the label decides between equals."""
        return self._places.find(cell, y_px, x_px)

    def apply(self, edit: Edit) -> bool:
        """Apply one edit; False if it cannot be, and it then stands in the list that says why."""
        if edit.pixels and self._pixels and not same_pixels(edit.pixels, self._pixels):
            self.other_pixels.append(edit)
            return False
        if edit.action == "regions":
            return True  # they were laid over the image before its cells were called
        if edit.action == "shape":
            done = self._shape(edit)
            if not done:
                self.unmatched.append(edit)
            return done
        row = self.find(edit.cell, edit.y_px, edit.x_px)
        if row is None or (edit.action == "call" and f"{edit.marker}_call" not in self._table):
            self.unmatched.append(edit)
            return False
        return self._decide(edit, row)

    def _decide(self, edit: Edit, row: int) -> bool:
        """A call or an exclusion: what is said of the very nucleus stands above all else."""
        subject = (row, edit.action, edit.marker if edit.action == "call" else "")
        mark = nucleus_mark(*self._places.nucleus(row))
        here = edit.nucleus == mark if edit.nucleus else self._places.lies_at(row, edit)
        who = mark if here else edit.nucleus or f"{edit.y_px:.2f} {edit.x_px:.2f}"
        said = self._said.setdefault(subject, {})
        if here:
            # somebody looked at this nucleus as it is now: that settles it
            self._blocked.discard(subject)
            self.conflicts = [e for e in self.conflicts if e not in said.values()]
            said.clear()
        else:
            settled = said.get(mark)
            others = [settled] if settled is not None else [e for k, e in said.items() if k != who]
            if subject in self._blocked or any(e.after != edit.after for e in others):
                self.conflicts.append(edit)
                if settled is None and subject not in self._blocked:
                    self._table.restore(row, _columns(edit))
                    self._blocked.add(subject)
                    self.conflicts[-1:-1] = said.values()
                    self.moved = [e for e in self.moved if e not in said.values()]
                if settled is None:
                    said[who] = edit
                return False
            self.moved.append(edit)
            if settled is not None:
                return True
        said[who] = edit
        if edit.action == "exclude":
            self._table.set_excluded(row, bool(edit.after), edit.who)
        else:
            self._table.set_call(row, edit.marker, str(edit.after), edit.who)
        return True

    def _shape(self, edit: Edit) -> bool:
        masks = {}
        for shape in edit.after or ():
            if self._labels is not None and not self._labels.holds(shape):
                return False
        old: dict[int, int] = {}  # cell of the journal -> its row here
        for shape in edit.before or ():
            row = self.find(int(shape["cell"]), *_anchor(shape, edit))
            if row is not None:
                old[int(shape["cell"])] = row
            elif self._labels is None or not self._labels.overlapping(shape):
                return False
        kept = {int(shape["cell"]) for shape in edit.after or ()}
        if self._labels is not None:
            for shape in edit.before or ():
                self._labels.erase(self._labels.overlapping(shape))
        for cell, row in old.items():
            self._forget(row)
            if cell not in kept:
                self._table.set_excluded(row, True, edit.who, reason="painted_out")
                self._places.remove(row)
        for shape in edit.after or ():
            cell = int(shape["cell"])
            values: dict[str, Any] = {"image": edit.image, "y_px": edit.y_px, "x_px": edit.x_px}
            values |= shape.get("row") or {}
            for name, place in (("y_px", edit.y_px), ("x_px", edit.x_px)):
                if values[name] is None:
                    values[name] = place
            values["corrected_by"] = edit.who
            if cell in old:
                label = self._places.label(old[cell])
            else:
                label = self._places.free_label(cell)
                old[cell] = self._table.add_row()
                self._places.add(label)
            values["cell"] = label
            self._table.set_values(old[cell], values)
            self._places.move(
                old[cell],
                float(values["y_px"]),
                float(values["x_px"]),
                values.get("nucleus_area_um2"),
            )
            masks[label] = shape
        if self._labels is not None:
            for label, shape in masks.items():
                self._labels.paint(shape, label)
        return True

    def _forget(self, row: int) -> None:
        """A nucleus that changed its outline is another: what was said of the old one is done."""
        for subject in [s for s in self._said if s[0] == row]:
            del self._said[subject]
            self._blocked.discard(subject)


def _columns(edit: Edit) -> list[str]:
    if edit.action == "exclude":
        return ["excluded", "flags", "corrected_by"]
    return [*(f"{edit.marker}_{n}" for n in ("call", "probability", "reason")), "corrected_by"]


def _anchor(shape: Mapping[str, Any], edit: Edit) -> tuple[float, float]:
    row = shape.get("row") or {}
    return float(row.get("y_px", edit.y_px)), float(row.get("x_px", edit.x_px))


def set_call(cells: pd.DataFrame, row: int, marker: str, call: str, who: str) -> None:
    """Write a person's call into a row of a cells table, in place."""
    cells.loc[row, f"{marker}_call"] = call
    if f"{marker}_probability" in cells:
        cells.loc[row, f"{marker}_probability"] = CALL_PROBABILITY[call]
    if f"{marker}_reason" in cells:
        cells.loc[row, f"{marker}_reason"] = f"called by {who}"
    cells.loc[row, "corrected_by"] = who


def set_excluded(
    cells: pd.DataFrame, row: int, excluded: bool, who: str, *, reason: str = "by_hand"
) -> None:
    """Take a row out of all fractions or back in, with the reason among its flags, in place."""
    cells.loc[row, "excluded"] = excluded
    cells.loc[row, "flags"] = flags_with(cells.loc[row, "flags"], reason, there=excluded)
    cells.loc[row, "corrected_by"] = who
