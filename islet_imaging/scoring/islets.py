"""The islets of an image by its protocol: groups of nuclei, the whole field, or none until drawn.

The idea: nuclei come in bands twice, to be counted and to be drawn over, so that an image of any
size is done; what method the protocol states decides what becomes of them.
It fails where the two passes see different nuclei.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Labels
from islet_imaging.protocol import Islets
from islet_imaging.segmentation.islet_grid import IsletGrid
from islet_imaging.segmentation.islets import RIM_UM


class IsletForming:
    """Islets of one image, from its nuclei in bands.

    Parameters
    ----------
    shape : tuple of int
        Of the image, px.
    pixel_size_um : float
        Edge of a pixel, um.
    how : Islets
        Method and limits.
    nucleus_um : float
        Diameter of a nucleus, which the gap follows where it is not stated, um.

    Examples
    --------
    >>> labels = np.zeros((8, 8), np.int32)
    >>> labels[2:4, 2:4] = 7
    >>> forming = IsletForming((8, 8), 1.0, Islets(method="field"), 7.5)
    >>> forming.add(0, labels)
    >>> [islets.max().item() for _, islets in forming.draw(iter([(0, labels)]))]
    [1]
    >>> forming.n_cells.tolist()
    [0, 1]
    """

    def __init__(
        self, shape: tuple[int, int], pixel_size_um: float, how: Islets, nucleus_um: float
    ) -> None:
        self._method = how.method
        self._there = np.zeros(1, bool)
        self._grid = IsletGrid(
            shape,
            pixel_size_um=pixel_size_um,
            max_gap_um=how.gap_of(nucleus_um),
            min_cells=how.min_cells,
            rim_um=RIM_UM,
        )

    def add(self, top: int, labels: NDArray[Any]) -> None:
        """Count the nuclei of the rows from ``top`` on; bands go from top to bottom."""
        if self._method == "islets":
            self._grid.add(top, labels)
            return
        found = np.bincount(labels.ravel()) > 0
        if len(found) > len(self._there):
            self._there = np.pad(self._there, (0, len(found) - len(self._there)))
        self._there[: len(found)] |= found

    def draw(
        self, bands: Iterator[tuple[int, Labels]], *, threads: int = 1
    ) -> Iterator[tuple[int, Labels]]:
        """First row and islets of every band of nuclei, once all are counted."""
        if self._method == "islets":
            self._grid.close()
        filled = int(self._method == "field" and self._there[1:].any())
        for top, labels in bands:
            if self._method == "islets":
                yield top, self._grid.draw(top, labels, threads=threads)
            else:
                yield top, np.full(labels.shape, filled, np.int32)

    @property
    def n_cells(self) -> NDArray[np.int64]:
        """Nuclei of each islet by its number."""
        if self._method == "islets":
            return self._grid.n_cells
        n = np.count_nonzero(self._there[1:]) if self._method == "field" else 0
        return np.array([0, n], np.int64)
