"""What people decided in a run, cell by cell, to be looked at again.

The idea: the journal's edits that hold are grouped by cell; what was decided last stands first, and
each says what it changed, in words.
It fails to find a cell that later edits merged into another: that one has no place to go to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from islet_imaging.review.journal import Edit
    from napari_islet_imaging.session.review import ReviewSession


@dataclass(frozen=True)
class CorrectedCell:
    """A cell that people decided.

    Parameters
    ----------
    image : str
        Where it is.
    cell : int
        Its number.
    what : str
        What was decided, in words.
    who : str
        By whom, in the order of deciding.
    """

    image: str
    cell: int
    what: str
    who: str


def corrected_cells(session: ReviewSession) -> list[CorrectedCell]:
    """Cells that people decided, the last decision first; hidden from it what must not sway.

    Parameters
    ----------
    session : ReviewSession
        Where calls are hidden, only the reviewer's own decisions are told, and not what was there.
    """
    who = session.reviewer if session.hidden else None
    by_cell: dict[tuple[str, int], list[Edit]] = {}
    for edit in session.history.effective(who=who):
        if edit.image not in session.tables:
            continue
        place = (edit.image, edit.cell)
        by_cell[place] = [*by_cell.pop(place, []), edit]  # the latest goes last
    found = []
    for (image, cell), edits in reversed(by_cell.items()):
        latest = {(e.action, e.marker): e for e in edits}
        first = {(e.action, e.marker): e for e in reversed(edits)}
        said = [_said(edit, None if session.hidden else first[key]) for key, edit in latest.items()]
        people = dict.fromkeys(e.who for e in edits)
        found.append(CorrectedCell(image, cell, "; ".join(said), ", ".join(people)))
    return found


def _said(edit: Edit, first: Edit | None) -> str:
    if edit.action == "shape":
        n = len(edit.after or ())
        return "outline changed" if n else "painted out"
    if edit.action == "exclude":
        return "not counted" if edit.after else "counted again"
    text = f"{edit.marker} {edit.after}"
    before = "" if first is None else str(first.before or "")
    if before == edit.after:
        return f"{text}, confirmed"
    return f"{text}, was {before}" if before else text
