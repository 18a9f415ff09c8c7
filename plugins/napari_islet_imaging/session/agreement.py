"""How far one person's calls agree with the tool's.

The idea: each cell that the person called is held against its call as scored; where the tool had
been unsure there was nothing to agree with, and the cell is counted apart.
It fails to say who was right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from islet_imaging.review.journal import Edit

if TYPE_CHECKING:
    import pandas as pd


class Agreement:
    """Cells that one person called.

    Parameters
    ----------
    raw : mapping of str to DataFrame
        Cells tables of the images, as scored.
    edits : iterable of Edit
        The person's, those that hold.
    """

    def __init__(self, raw: Mapping[str, pd.DataFrame], edits: Iterable[Edit]) -> None:
        self._raw = raw
        #: (image, cell, marker) -> whether called as the tool had; None where it was unsure
        self.called: dict[tuple[str, int, str], bool | None] = {}
        #: (image, cell, marker) -> what the person said last
        self.calls: dict[tuple[str, int, str], str] = {}
        #: (image, cell) that the person took out
        self.excluded: set[tuple[str, int]] = set()
        for edit in edits:
            self.note(edit)

    def note(self, edit: Edit) -> None:
        """Take one more edit into account."""
        if edit.action == "exclude":
            place = (edit.image, edit.cell)
            (self.excluded.add if edit.after else self.excluded.discard)(place)
        if edit.action != "call" or edit.image not in self._raw:
            return
        self.calls[edit.image, edit.cell, edit.marker] = str(edit.after)
        raw = self._raw[edit.image]
        first = raw[f"{edit.marker}_call"].to_numpy()[raw["cell"].to_numpy() == edit.cell]
        sure = len(first) > 0 and first[0] != "unsure"
        same = bool(first[0] == edit.after) if sure else None
        self.called[edit.image, edit.cell, edit.marker] = same

    @property
    def counts(self) -> tuple[int, int, int]:
        """Cells the tool was sure of, how many of them were called alike, and the others."""
        sure = [same for same in self.called.values() if same is not None]
        return len(sure), sum(sure), len(self.called) - len(sure)
