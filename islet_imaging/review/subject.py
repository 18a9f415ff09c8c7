"""What a correction speaks of: which pixels, and which nucleus in them.

The idea: an edit is about a picture and a nucleus that somebody saw.  The picture is known by the
hashes of its channels, the nucleus by a hash of its centre and area as measured; both go into the
journal's line, so that a later replay can tell the same from another.
It fails to know a nucleus that is in no table yet (drawn since the tables were made): its edits are
placed by where it lies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any


def nucleus_mark(y_px: float, x_px: float, area_um2: float = 0.0) -> str:
    """A short hash of a nucleus as it was measured.

    Parameters
    ----------
    y_px, x_px : float
        Its centroid, px.
    area_um2 : float
        Its area, um2.

    Examples
    --------
    >>> nucleus_mark(10.0, 12.5, 40.0) == nucleus_mark(10.0, 12.5, 41.0)
    False
    """
    text = f"{float(y_px)!r} {float(x_px)!r} {float(area_um2)!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def same_pixels(one: Collection[str], other: Collection[str]) -> bool:
    """Whether two lists of channel hashes can be of one picture: one holds all of the other.

    A channel more or less in the protocol makes no other picture; an exchanged channel does.
    Where one of the two is unknown nothing speaks against it.

    Examples
    --------
    >>> same_pixels(["a", "b"], ["b"]), same_pixels(["a", "b"], ["a", "c"])
    (True, False)
    """
    a, b = set(one), set(other)
    return a <= b or b <= a


class Subjects:
    """The pictures and nuclei of a run, as its files know them at the first question.

    Parameters
    ----------
    run : Path
        The run folder; where it is none, nothing is known.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._pixels: dict[str, tuple[str, ...]] | None = None
        self._cells: dict[str, dict[int, tuple[float, float, float]]] = {}

    def look(self) -> None:
        """Read which pixels the run's images hold, if that is not known yet."""
        if self._pixels is not None:
            return
        self._pixels = {}
        try:
            facts = json.loads((self._run / "provenance.json").read_text("utf-8"))
            for row in facts["images"]:
                self._pixels[str(row["image"])] = tuple(str(p) for p in row.get("pixels", ()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return  # a journal that stands alone

    def pixels(self, image: str) -> tuple[str, ...]:
        """Hashes of an image's channels; empty where nothing is known."""
        self.look()
        return (self._pixels or {}).get(image, ())

    def nucleus(self, image: str, cell: int, y_px: float, x_px: float) -> str:
        """The mark of the nucleus of that number, if it lies there; else empty."""
        if image not in self._cells:
            self._cells[image] = self._read_cells(image)
        found = self._cells[image].get(cell)
        if found is None or abs(found[0] - y_px) > 1e-6 or abs(found[1] - x_px) > 1e-6:
            return ""
        return nucleus_mark(*found)

    def _read_cells(self, image: str) -> dict[int, tuple[float, float, float]]:
        import pyarrow.parquet as pq

        names = ["cell", "y_px", "x_px", "nucleus_area_um2"]
        try:
            table: Any = pq.read_table(
                self._run / "cells.parquet", columns=names, filters=[("image", "==", image)]
            )
        except (OSError, ValueError, KeyError):
            return {}
        if table.num_columns < len(names):
            return {}
        columns = (table.column(n).to_pylist() for n in names)
        return {int(c): (y, x, a) for c, y, x, a in zip(*columns, strict=True)}
