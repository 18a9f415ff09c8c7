"""Cells by two markers: their measurements, and which of the two they are positive for.

The idea: what is plotted is what calls rest on, each marker's own light, and the classes are the
calls as they are shown, so that plot, outlines and numbers tell the same.
It fails where a marker has no such measurement, as without a threshold: then there is no plot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_islet_imaging.session.review import ReviewSession

#: class -> its colour; {a} and {b} are the markers
CLASSES = {
    "neither": "#56b4e9",
    "unsure": "#9a9a9a",
    "{a}+ alone": "#ffb000",
    "{b}+ alone": "#e0602e",
    "both": "#ffffff",
}


@dataclass(frozen=True)
class MarkerPairs:
    """Counted cells of an image by two markers.

    Parameters
    ----------
    cells : ndarray of int, (N,)
        Their numbers.
    values : ndarray of float64, (N, 2)
        Own light of both markers.
    classes : ndarray of int, (N,)
        Places in `CLASSES`.
    columns : (str, str)
        Where the values are from.
    """

    cells: NDArray[np.int64]
    values: NDArray[np.float64]
    classes: NDArray[np.int64]
    columns: tuple[str, str]

    def counts(self, first: str, second: str) -> dict[str, int]:
        """Cells of each class, by its name with the markers in it."""
        number = np.bincount(self.classes, minlength=len(CLASSES))
        return {
            name.format(a=first, b=second): int(n) for name, n in zip(CLASSES, number, strict=True)
        }


def marker_pairs(session: ReviewSession) -> MarkerPairs | None:
    """The open image's cells by the marker under review and the second one, as they are shown."""
    first, second = session.marker, session.second
    if session.open is None or not second or session.hidden:
        return None
    table = session.shown
    columns = (f"{first}_own", f"{second}_own")
    if not set(columns) <= set(table.columns):
        return None
    table = table[~table["excluded"].to_numpy(bool)]
    calls = [table[f"{m}_call"].to_numpy() for m in (first, second)]
    positive = [c == "positive" for c in calls]
    classes = 2 * positive[0].astype(int) + 3 * positive[1].astype(int)
    classes[positive[0] & positive[1]] = 4
    classes[(calls[0] == "unsure") | (calls[1] == "unsure")] = 1
    return MarkerPairs(
        table["cell"].to_numpy(np.int64),
        table[list(columns)].to_numpy(float),
        classes.astype(np.int64),
        columns,
    )
