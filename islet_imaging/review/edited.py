"""A table, a label image and the places of nuclei, made for thousands of single changes.

The idea: a replay changes one cell of one row at a time, which data frames are slow at; columns are
held as lists while edits come in and become a frame again when somebody looks.  Nuclei are found by
number where they lie exactly where they lay, by a search tree else.
They fail to check what is written; `islet_imaging.review.journal` lets only sound edits in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Labels
from islet_imaging.arrays.text_masks import decode_mask

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.review.journal import Edit

#: probability that stands for a person's call, so that fractions follow it
CALL_PROBABILITY = {"positive": 1.0, "negative": 0.0, "unsure": 0.5}

#: where nothing lies
_NOWHERE = 1e12
#: searches after which a tree is worth building
_PATIENCE = 20


def flags_with(flags: Any, reason: str, *, there: bool) -> str:
    """Codes of a row's flags with one put in or taken out.

    Examples
    --------
    >>> flags_with("saturated", "by_hand", there=True)
    'saturated;by_hand'
    """
    kept = [f for f in str(flags).split(";") if f and f != reason]
    return ";".join([*kept, reason] if there else kept)


class EditedTable:
    """A cells table whose values are changed one by one.

    Parameters
    ----------
    cells : DataFrame
        Rows 0 to n - 1; not changed.
    """

    def __init__(self, cells: pd.DataFrame) -> None:
        self._frame = cells
        self._first = cells
        self._types: dict[str, Any] = {str(k): v for k, v in cells.dtypes.items()}
        self._lists: dict[str, list[Any]] = {}
        self._rows = len(cells)

    def __contains__(self, column: object) -> bool:
        return column in self._types

    def _list(self, column: str) -> list[Any]:
        if column not in self._lists:
            self._lists[column] = self._frame[column].tolist()
        return self._lists[column]

    def frame(self) -> pd.DataFrame:
        """The table as it is now."""
        import pandas as pd

        if self._lists:
            made: dict[str, pd.Series[Any]] = {}
            for name in self._types:
                if name in self._lists:
                    made[name] = _series(self._lists[name], self._types[name])
                else:
                    made[name] = self._frame[name]
            self._frame = pd.DataFrame(made)
            self._lists = {}
        return self._frame

    def set_call(self, row: int, marker: str, call: str, who: str) -> None:
        """Write a person's call."""
        self._list(f"{marker}_call")[row] = call
        if f"{marker}_probability" in self._types:
            self._list(f"{marker}_probability")[row] = CALL_PROBABILITY[call]
        if f"{marker}_reason" in self._types:
            self._list(f"{marker}_reason")[row] = f"called by {who}"
        self._list("corrected_by")[row] = who

    def set_excluded(self, row: int, excluded: bool, who: str, *, reason: str = "by_hand") -> None:
        """Take a row out of all fractions or back in, with the reason among its flags."""
        self._list("excluded")[row] = excluded
        flags = self._list("flags")
        flags[row] = flags_with(flags[row], reason, there=excluded)
        self._list("corrected_by")[row] = who

    def restore(self, row: int, columns: Sequence[str]) -> None:
        """Give a row back what it held at first."""
        for name in columns:
            if name in self._types and row < len(self._first):
                self._list(name)[row] = self._first[name].iloc[row]

    def add_row(self) -> int:
        """Add an empty row and return its number."""
        empty: dict[str, Any] = {"b": False, "i": 0, "u": 0, "f": float("nan")}
        for name, kind in self._types.items():
            self._list(name).append(empty.get(kind.kind, ""))
        self._rows += 1
        return self._rows - 1

    def set_values(self, row: int, values: Mapping[str, Any]) -> None:
        """Write those of some values that are columns; None, of a number, is no number."""
        for name, value in values.items():
            if name not in self._types:
                continue
            if value is None and self._types[name].kind != "f":
                continue
            self._list(name)[row] = float("nan") if value is None else value


def _series(values: list[Any], kind: Any) -> pd.Series[Any]:
    import pandas as pd

    try:
        made: pd.Series[Any] = pd.Series(values, dtype=kind)
    except (ValueError, TypeError, OverflowError):
        made = pd.Series(values, dtype=object)
    return made


class Places:
    """Where the nuclei of an image lie, by row of its table.

    Parameters
    ----------
    cells : DataFrame
        With ``cell, y_px, x_px`` and, where known, ``nucleus_area_um2``.
    tolerance_px : float, optional
        How far a nucleus may have moved; by default half the median distance of nearest neighbours.
    """

    def __init__(self, cells: pd.DataFrame, tolerance_px: float | None) -> None:
        self._yx = cells[["y_px", "x_px"]].to_numpy(float).copy()
        self._first = self._yx.copy()
        self._cells: list[int] = [int(c) for c in cells["cell"]]
        areas = cells.get("nucleus_area_um2")
        self._areas: list[float] = (
            [0.0] * len(cells) if areas is None else [float(a) for a in areas]
        )
        self._rows: dict[int, int] = {cell: row for row, cell in enumerate(self._cells)}
        self._tolerance = tolerance_px
        self._tree: Any = None
        self._asked = 0

    def label(self, row: int) -> int:
        """The number of the cell in a row."""
        return self._cells[row]

    def nucleus(self, row: int) -> tuple[float, float, float]:
        """Centre, px, and area, um2, of the nucleus in a row."""
        return float(self._yx[row, 0]), float(self._yx[row, 1]), self._areas[row]

    def lies_at(self, row: int, edit: Edit) -> bool:
        """Whether the nucleus in a row lies exactly where an edit was made."""
        return bool(np.abs(self._yx[row] - (edit.y_px, edit.x_px)).max() <= 1e-6)

    def find(self, cell: int, y_px: float, x_px: float) -> int | None:
        """Row of the cell that lies at a place, or None; the label decides between equals."""
        named = self._rows.get(cell)
        if named is not None and np.abs(self._yx[named] - (y_px, x_px)).max() <= 1e-9:
            return named
        if not len(self._yx):
            return None
        if self._tolerance is None:  # only where there is an edit to place: it takes a while
            self._tolerance = _tolerance(self._first)
        row, distance = self._nearest(y_px, x_px)
        if not distance <= self._tolerance:
            return None
        if named is not None:
            own = float(np.hypot(*(self._yx[named] - (y_px, x_px))))
            if own <= distance + 1e-6:
                return named
        return row

    def _nearest(self, y_px: float, x_px: float) -> tuple[int, float]:
        if self._tree is None:
            self._asked += 1
            if self._asked <= _PATIENCE:
                distance = np.hypot(self._yx[:, 0] - y_px, self._yx[:, 1] - x_px)
                row = int(np.argmin(distance))
                return row, float(distance[row])
            from scipy.spatial import cKDTree

            self._tree = cKDTree(self._yx)
        found, at = self._tree.query((y_px, x_px))
        return int(at), float(found)

    def free_label(self, wanted: int) -> int:
        """A number that no cell has: the one that is wanted, where it is free."""
        top = max(self._cells, default=0)
        # numbers far beyond the others would make every table by number as long as they are
        return wanted if wanted not in self._rows and wanted <= top + 100_000 else top + 1

    def add(self, label: int) -> None:
        """A new row, nowhere yet."""
        self._yx = np.vstack([self._yx, [_NOWHERE, _NOWHERE]])
        self._cells.append(label)
        self._areas.append(0.0)
        self._rows[label] = len(self._cells) - 1

    def move(self, row: int, y_px: float, x_px: float, area_um2: Any) -> None:
        """The nucleus in a row has another outline."""
        self._yx[row] = y_px, x_px
        if isinstance(area_um2, int | float):
            self._areas[row] = float(area_um2)
        self._stale()

    def remove(self, row: int) -> None:
        """A painted-out cell is not what lies there any more."""
        self._yx[row] = _NOWHERE
        self._stale()

    def _stale(self) -> None:
        self._tree, self._asked = None, 0


def _tolerance(yx: NDArray[np.float64]) -> float:
    if len(yx) < 2:
        return 10.0
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(yx).query(yx, k=2)
    return max(float(np.median(distance[:, 1])) / 2, 2.0)


class EditedLabels:
    """A label image in which nuclei are erased and painted.

    Parameters
    ----------
    labels : ndarray of int, (Y, X)
        Copied.
    """

    def __init__(self, labels: NDArray[Any]) -> None:
        from scipy.ndimage import find_objects

        self.array: Labels = labels.astype(np.int32, copy=True)
        self._sizes = dict(enumerate(np.bincount(self.array.ravel()).tolist()))
        boxes = enumerate(find_objects(self.array), start=1)
        self._boxes = {label: list(box) for label, box in boxes if box is not None}

    def holds(self, shape: Mapping[str, Any]) -> bool:
        """Whether an outline lies within the image."""
        if not shape.get("mask"):
            return False
        y, x, height, width = shape["mask"]["box"]
        return bool(y + height <= self.array.shape[0] and x + width <= self.array.shape[1])

    def overlapping(self, shape: Mapping[str, Any]) -> list[int]:
        """Labels that lie more than half within an old outline, or cover more than half of it."""
        if not self.holds(shape):
            return []
        region, mask = decode_mask(shape["mask"])
        under = self.array[region][mask]
        found = []
        for label, count in zip(*np.unique(under[under > 0], return_counts=True), strict=True):
            if count > 0.5 * mask.sum() or count > 0.5 * self._sizes.get(int(label), 0):
                found.append(int(label))
        return found

    def erase(self, labels: Sequence[int]) -> None:
        """Take nuclei out."""
        for label in labels:
            box = self._boxes.pop(label, None)
            if box is not None:
                part = self.array[box[0], box[1]]
                part[part == label] = 0
            self._sizes[label] = 0

    def paint(self, shape: Mapping[str, Any], label: int) -> None:
        """Put a nucleus where an outline lies."""
        region, mask = decode_mask(shape["mask"])
        part = self.array[region]
        for under, count in zip(*np.unique(part[mask], return_counts=True), strict=True):
            self._sizes[int(under)] = self._sizes.get(int(under), 0) - int(count)
        part[mask] = label
        self._sizes[label] = self._sizes.get(label, 0) + int(mask.sum())
        held = self._boxes.get(label)
        self._boxes[label] = [
            new if held is None else slice(min(o.start, new.start), max(o.stop, new.stop))
            for new, o in zip(region, held or region, strict=True)
        ]
