"""Replaying a journal of corrections over tables and label images.

The idea: the scored tables stay as they are; what people changed is laid over them edit by edit, in
the order it was made.  A cell is found again by where it lies, so the same journal fits the same
images scored anew; a shape finds the nuclei under its old outline and puts its new outline there.
It fails, and names the edits, where no nucleus lies at the place of the old one any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.arrays.text_masks import decode_mask
from islet_imaging.review.journal import Edit, effective

if TYPE_CHECKING:
    import pandas as pd

#: probability that stands for a person's call, so that fractions follow it
CALL_PROBABILITY = {"positive": 1.0, "negative": 0.0, "unsure": 0.5}


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
        Edits whose cell is not there any more.
    """

    cells: pd.DataFrame
    labels: NDArray[np.int32] | None
    unmatched: list[Edit]


def apply_corrections(
    cells: pd.DataFrame,
    edits: Iterable[Edit],
    *,
    labels: Mapping[str, NDArray[Any]] | None = None,
    who: str | None = None,
    tolerance_px: float | None = None,
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
    unmatched: list[Edit] = []
    parts: list[pd.DataFrame] = []
    last_labels: NDArray[np.int32] | None = None
    groups = {str(k): g for k, g in corrected.groupby("image", sort=False)}
    for image, rows in groups.items():
        own = by_image.pop(image, [])
        image_labels = None if labels is None else labels.get(image)
        replay = Replay(rows, image_labels, tolerance_px=tolerance_px)
        unmatched += [edit for edit in own if not replay.apply(edit)]
        parts.append(replay.cells)
        if image_labels is not None:
            last_labels = replay.labels
    unmatched += [edit for rest in by_image.values() for edit in rest]
    result = pd.concat(parts, ignore_index=True) if parts else corrected
    return Corrected(_with_calls_before(result, cells), last_labels, unmatched)


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
    """

    def __init__(
        self,
        cells: pd.DataFrame,
        labels: NDArray[Any] | None = None,
        *,
        tolerance_px: float | None = None,
    ) -> None:
        self.cells = cells.reset_index(drop=True).copy()
        for name, value in (("corrected_by", ""), ("flags", ""), ("excluded", False)):
            if name not in self.cells:
                self.cells[name] = value
        self.cells["flags"] = self.cells["flags"].fillna("").astype(object)
        self.labels = None if labels is None else labels.astype(np.int32, copy=True)
        self._yx = self.cells[["y_px", "x_px"]].to_numpy(float)
        self._first_yx = self._yx
        self._tolerance_px = tolerance_px

    def find(self, cell: int, y_px: float, x_px: float) -> int | None:
        """Row of the cell that lies at a place, or None; the label decides between equals."""
        if not len(self._yx):
            return None
        distance = np.hypot(self._yx[:, 0] - y_px, self._yx[:, 1] - x_px)
        row = int(np.argmin(distance))
        if self._tolerance_px is None:  # only where there is an edit to place: it takes a while
            self._tolerance_px = _tolerance(self._first_yx)
        if not distance[row] <= self._tolerance_px:
            return None
        equal = np.flatnonzero(distance <= distance[row] + 1e-6)
        same = equal[self.cells["cell"].to_numpy()[equal] == cell]
        return int(same[0]) if len(same) else row

    def apply(self, edit: Edit) -> bool:
        """Apply one edit; False if its cell is not there."""
        if edit.action == "shape":
            return self._shape(edit)
        row = self.find(edit.cell, edit.y_px, edit.x_px)
        if row is None:
            return False
        if edit.action == "exclude":
            set_excluded(self.cells, row, bool(edit.after), edit.who)
            return True
        if f"{edit.marker}_call" not in self.cells:
            return False
        set_call(self.cells, row, edit.marker, str(edit.after), edit.who)
        return True

    def _shape(self, edit: Edit) -> bool:
        import pandas as pd

        old: dict[int, int] = {}  # cell of the journal -> its row here
        for shape in edit.before or ():
            row = self.find(int(shape["cell"]), *_anchor(shape, edit))
            if row is not None:
                old[int(shape["cell"])] = row
            elif not self._overlapping(shape):
                return False
        kept = {int(shape["cell"]) for shape in edit.after or ()}
        if self.labels is not None:
            for shape in edit.before or ():
                self.labels[np.isin(self.labels, self._overlapping(shape))] = 0
        gone = [row for cell, row in old.items() if cell not in kept]
        for row in gone:
            set_excluded(self.cells, row, True, edit.who, reason="painted_out")
        for shape in edit.after or ():
            cell = int(shape["cell"])
            values: dict[str, Any] = {"image": edit.image, "y_px": edit.y_px, "x_px": edit.x_px}
            values |= {k: v for k, v in (shape.get("row") or {}).items() if v is not None}
            values["corrected_by"] = edit.who
            labels = self.cells["cell"].to_numpy()
            if cell in old:
                label = int(labels[old[cell]])
            else:
                label = int(labels.max(initial=0)) + 1 if cell in labels else cell
            values["cell"] = label
            if cell not in old:
                blank = pd.DataFrame([_blank_row(self.cells)]).astype(self.cells.dtypes.to_dict())
                self.cells = pd.concat([self.cells, blank], ignore_index=True)
                old[cell] = len(self.cells) - 1
            for name, value in values.items():
                if name in self.cells:
                    self.cells.loc[old[cell], name] = value
            if self.labels is not None:
                region, mask = decode_mask(shape["mask"])
                self.labels[region][mask] = label
        self._yx = self.cells[["y_px", "x_px"]].to_numpy(float)
        painted = self.cells["flags"].str.contains("painted_out", regex=False).to_numpy(bool)
        self._yx[painted] = np.inf  # a painted-out cell is not what lies there any more
        return True

    def _overlapping(self, shape: Mapping[str, Any]) -> list[int]:
        """Labels that lie more than half within an old outline, or cover more than half of it."""
        if self.labels is None or not shape.get("mask"):
            return []
        region, mask = decode_mask(shape["mask"])
        under = self.labels[region][mask]
        found = []
        for label, count in zip(*np.unique(under[under > 0], return_counts=True), strict=True):
            size = np.count_nonzero(self.labels == label)
            if count > 0.5 * mask.sum() or count > 0.5 * size:
                found.append(int(label))
        return found


def _blank_row(cells: pd.DataFrame) -> dict[str, Any]:
    empty: dict[str, Any] = {"b": False, "i": 0, "u": 0, "f": float("nan")}
    return {str(name): empty.get(kind.kind, "") for name, kind in cells.dtypes.items()}


def _anchor(shape: Mapping[str, Any], edit: Edit) -> tuple[float, float]:
    row = shape.get("row") or {}
    return float(row.get("y_px", edit.y_px)), float(row.get("x_px", edit.x_px))


def _tolerance(yx: NDArray[np.float64]) -> float:
    if len(yx) < 2:
        return 10.0
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(yx).query(yx, k=2)
    return max(float(np.median(distance[:, 1])) / 2, 2.0)


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
    flags = [f for f in str(cells.loc[row, "flags"]).split(";") if f and f != reason]
    cells.loc[row, "flags"] = ";".join([*flags, reason] if excluded else flags)
    cells.loc[row, "corrected_by"] = who
