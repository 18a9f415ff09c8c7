"""The share of every image and of every islet, as rows of a table beside the image.

The idea: each row is counted by the functions that the run's tables are made with, of the cells as
they are now; of two markers the cells that have both are counted too.
It fails to give a share where the library gives none: there are its bounds then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from islet_imaging import terms
from napari_islet_imaging.session.tally import Tally

if TYPE_CHECKING:
    import pandas as pd

    from napari_islet_imaging.session.review import ReviewSession


@dataclass(frozen=True)
class Both:
    """Cells that are positive for two markers.

    Parameters
    ----------
    n : int
        Surely both.
    n_perhaps : int
        Unsure in one of the two and not negative in the other.
    """

    n: int
    n_perhaps: int


@dataclass(frozen=True)
class ShareRow:
    """A row of the table.

    Parameters
    ----------
    image : str
        The image.
    islet : int
        The islet in it, 0 for the image as a whole.
    tallies : dict of str to Tally
        Per marker.
    both : Both or None
        Of the marker under review and the second one; None without a second.
    out : dict of str to int
        Why cells count in no share, and how many.
    """

    image: str
    islet: int
    tallies: dict[str, Tally]
    both: Both | None
    out: dict[str, int]


def both_positive(table: pd.DataFrame, first: str, second: str) -> Both:
    """Counted cells that are positive, or may be, for two markers."""
    counted = ~table["excluded"].to_numpy(bool)
    calls = [table[f"{m}_call"].to_numpy()[counted] for m in (first, second)]
    sure = (calls[0] == "positive") & (calls[1] == "positive")
    may = (calls[0] != "negative") & (calls[1] != "negative")
    return Both(int(sure.sum()), int((may & ~sure).sum()))


def image_row(session: ReviewSession, image: str) -> ShareRow:
    """The row of an image as a whole."""
    tallies = {m: session.counts.now(image, m) for m in session.protocol.markers}
    return _row(session, image, 0, session.tables[image], tallies)


def islet_rows(session: ReviewSession) -> Iterator[ShareRow]:
    """A row per islet of the open image, one after another."""
    if session.open is None:
        return
    name, table = session.open.name, session.table
    for islet, cells in table[table["islet"] > 0].groupby("islet"):
        tallies = {m: session.counts.of(cells, m) for m in session.protocol.markers}
        yield _row(session, name, int(islet), cells, tallies)  # type: ignore[arg-type]


def _row(
    session: ReviewSession, image: str, islet: int, cells: pd.DataFrame, tallies: dict[str, Tally]
) -> ShareRow:
    both = both_positive(cells, session.marker, session.second) if session.second else None
    out = cells.loc[cells["excluded"].astype(bool), "flags"]
    border = session.protocol.nuclei.exclude_border
    return ShareRow(image, islet, tallies, both, terms.not_counted(out, border=border))
