"""Which cell to look at next: the one that would change the answer most.

The idea: the answer is a mean over batches of each batch's fraction, so a cell of a batch with n
cells weighs 1 / n of its batch, and the batch 1 / (number of batches) of its condition.  The
expected change of the answer by looking is that weight times the spread of a coin with the cell's
probability, sqrt(p (1 - p)).  A flagged cell is at most as trustworthy as 5 %, whatever its call.
Images come one after another, the most rewarding first, so that no key press waits for a file.
Cells that chance drew for validation are another queue: there, the order must say nothing.
It fails where the probabilities do: a cell that is wrong and sure, and not flagged, comes last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

#: flags that say nothing about a call being wrong
_HARMLESS = {"", "border", "by_hand", "painted_out"}
_FLAGGED_DOUBT = 0.05


@dataclass(frozen=True)
class QueuedCell:
    """A cell in the queue; ``gain`` is the expected change of the answer, percentage points."""

    image: str
    cell: int
    gain: float
    why: str


def review_queue(
    tables: Mapping[str, pd.DataFrame],
    marker: str,
    *,
    batch_of: Mapping[str, tuple[str, str]],
    shuffle_seed: int | None = None,
) -> list[QueuedCell]:
    """Queue of unsure and flagged cells of all images.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Cells table per image.
    marker : str
        The marker under review.
    batch_of : mapping of str to (str, str)
        Condition and batch per image; images that are not named (controls) are left out.
    shuffle_seed : int, optional
        For a blinded review: images and cells in an order that tells nothing.

    Returns
    -------
    list of QueuedCell
    """
    counted = {name: table for name, table in tables.items() if name in batch_of}
    sizes: dict[tuple[str, str], int] = {}
    for name, table in counted.items():
        key = batch_of[name]
        sizes[key] = sizes.get(key, 0) + int((~table["excluded"].to_numpy(bool)).sum())
    batches: dict[str, int] = {}
    for condition, _ in sizes:
        batches[condition] = batches.get(condition, 0) + 1
    rng = np.random.default_rng(shuffle_seed)
    per_image: list[tuple[float, list[QueuedCell]]] = []
    for name, table in counted.items():
        condition, _ = key = batch_of[name]
        weight = 100.0 / max(sizes[key], 1) / batches[condition]
        cells = _of_image(name, table, marker, weight)
        if shuffle_seed is not None:
            cells = [cells[i] for i in rng.permutation(len(cells))]
        if cells:
            per_image.append((sum(c.gain for c in cells), cells))
    if shuffle_seed is None:
        per_image.sort(key=lambda one: -one[0])
    else:
        per_image = [per_image[i] for i in rng.permutation(len(per_image))]
    return [cell for _, cells in per_image for cell in cells]


def _of_image(name: str, table: pd.DataFrame, marker: str, weight: float) -> list[QueuedCell]:
    probability = np.nan_to_num(table[f"{marker}_probability"].to_numpy(float), nan=0.5)
    calls = table[f"{marker}_call"].to_numpy()
    flags = table["flags"].fillna("").astype(str).to_numpy()
    telling = np.array([bool(set(f.split(";")) - _HARMLESS) for f in flags], bool)
    unsure = calls == "unsure"
    wanted = (unsure | telling) & ~table["excluded"].to_numpy(bool)
    doubt = np.minimum(probability, 1 - probability)
    doubt[telling] = np.maximum(doubt[telling], _FLAGGED_DOUBT)
    gain = weight * np.sqrt(doubt * (1 - doubt))
    rows = np.flatnonzero(wanted)
    rows = rows[np.argsort(-gain[rows], kind="stable")]
    labels = table["cell"].to_numpy()
    return [
        QueuedCell(name, int(labels[r]), float(gain[r]), "unsure" if unsure[r] else str(flags[r]))
        for r in rows
    ]


def chance_queue(sheet: pd.DataFrame, marker: str, *, seed: int) -> list[QueuedCell]:
    """Queue of the cells that chance drew for validation, shuffled within their images.

    Parameters
    ----------
    sheet : DataFrame
        A run's ``validation.csv``: ``image, cell, marker``.
    marker : str
        The marker under review.
    seed : int
        Of the order.

    Returns
    -------
    list of QueuedCell
    """
    rng = np.random.default_rng(seed)
    own = sheet[sheet["marker"] == marker]
    queue = []
    for image, rows in own.groupby("image", sort=False):
        cells = rng.permutation(rows["cell"].to_numpy(int))
        queue += [QueuedCell(str(image), int(c), 0.0, "drawn by chance") for c in cells]
    return queue


class ReviewQueue:
    """The cells to look at, and where the reviewer is among them.

    Parameters
    ----------
    decided : callable
        Whether a cell of the queue needs no look any more.
    gone : callable
        Whether its nucleus was merged or painted out.
    """

    def __init__(
        self, decided: Callable[[QueuedCell], bool], gone: Callable[[QueuedCell], bool]
    ) -> None:
        self._decided, self._gone = decided, gone
        self.cells: list[QueuedCell] = []
        #: index of the cell that was last gone to, -1 before the first
        self.position = -1

    def fill(self, cells: list[QueuedCell]) -> None:
        """Take these cells, and begin before the first."""
        self.cells, self.position = cells, -1

    @property
    def current(self) -> QueuedCell | None:
        """The cell that was last gone to."""
        return self.cells[self.position] if 0 <= self.position < len(self.cells) else None

    def n_undecided(self) -> int:
        """Cells that still need a look."""
        return sum(not self._decided(entry) for entry in self.cells)

    def ahead(self, by: int, seen: tuple[str, int] | None) -> QueuedCell | None:
        """The next (or an earlier) cell, None beyond the ends.

        Parameters
        ----------
        by : int
            1 or -1.
        seen : (str, int), optional
            Image and cell that are looked at. Where that is not the queue's own, as after a click
            on another cell, the next one is the cell that the queue waits at.
        """
        target = self._target(by, seen)
        return self.cells[target] if 0 <= target < len(self.cells) else None

    def go(self, by: int, seen: tuple[str, int] | None) -> QueuedCell | None:
        """Go to what is `ahead`; nothing moves beyond the ends."""
        entry = self.ahead(by, seen)
        if entry is not None:
            self.position = self._target(by, seen)
        return entry

    def go_to(self, image: str, cell: int) -> bool:
        """Go to a cell of the queue; False where it holds no such cell."""
        for k, entry in enumerate(self.cells):
            if (entry.image, entry.cell) == (image, cell):
                self.position = k
                return True
        return False

    def _target(self, by: int, seen: tuple[str, int] | None) -> int:
        here = self.current
        if by == 1 and here is not None:
            elsewhere = seen != (here.image, here.cell)
            if elsewhere and not self._decided(here):
                return self.position
        target = self.position + by
        while 0 <= target < len(self.cells) and self._gone(self.cells[target]):
            target += by
        return target
