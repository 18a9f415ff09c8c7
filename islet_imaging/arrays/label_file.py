"""Label images that are too large for memory: rows written to a file, regions read from it.

The idea: a plain file of int32, row after row, is written once from top to bottom and then read by
region through a short-lived memory map, so that what was looked at does not stay in memory.  To
callers it is a read-only `numpy.memmap`, which takes the place of an array.
It fails when the disk is full; the file goes when the image that uses it does.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Labels, Region

#: pixels of a band of whole rows that is handled at once
BAND_PX = 16_000_000


class LabelFile:
    """A label image on disk.

    Parameters
    ----------
    path : Path
        The file; made anew, or one that is there.
    shape : tuple of int
        Height and width, px.
    there : bool
        Whether the file is somebody else's, to be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = LabelFile(Path(folder) / "nuclei.raw", (4, 3))
    ...     file.append(np.zeros((3, 3), np.int32))
    ...     file.append(np.full((1, 3), 7, np.int32))
    ...     file.read((slice(2, 4), slice(1, 3))).tolist()
    [[0, 0], [7, 7]]
    """

    def __init__(self, path: Path, shape: tuple[int, int], *, there: bool = False) -> None:
        self.path, self.shape = path, shape
        if there:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    def append(self, rows: NDArray[Any]) -> None:
        """Write the next rows, shape (n, width)."""
        # not through the map: written pages of a map count as memory of the process
        with self.path.open("ab") as stream:
            stream.write(np.ascontiguousarray(rows, np.int32).data)

    def map(self) -> np.memmap[Any, np.dtype[np.int32]]:
        """The whole image as a read-only memory map."""
        return np.memmap(self.path, np.int32, "r", shape=self.shape)

    def read(self, region: Region) -> Labels:
        """A copy of a region."""
        return np.array(self.map()[region])

    def bands(self) -> Iterator[tuple[int, Labels]]:
        """First row and pixels of bands of whole rows, from top to bottom."""
        for rows in band_rows(self.shape):
            yield rows.start, self.read((rows, slice(0, self.shape[1])))


class LabelArray:
    """A label image in memory, to be used as a `LabelFile`.

    Parameters
    ----------
    shape : tuple of int
        Height and width, px.

    Examples
    --------
    >>> labels = LabelArray((2, 3))
    >>> labels.append(np.full((2, 3), 7, np.int32))
    >>> labels.read((slice(1, 2), slice(0, 2))).tolist()
    [[7, 7]]
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._pixels: Labels = np.zeros(shape, np.int32)
        self._rows = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Write the next rows, shape (n, width)."""
        self._pixels[self._rows : self._rows + len(rows)] = rows
        self._rows += len(rows)

    def map(self) -> Labels:
        """The whole image."""
        return self._pixels

    def read(self, region: Region) -> Labels:
        """A region; not a copy."""
        return self._pixels[region]

    def bands(self) -> Iterator[tuple[int, Labels]]:
        """First row and pixels of bands of whole rows, from top to bottom."""
        for rows in band_rows(self.shape):
            yield rows.start, self._pixels[rows]


def band_rows(shape: tuple[int, ...], multiple: int = 1) -> Iterator[slice]:
    """Bands of whole rows, each of about `BAND_PX` pixels and of a multiple of some rows."""
    step = max(1, BAND_PX // max(1, shape[1]) // multiple) * multiple
    for top in range(0, shape[0], step):
        yield slice(top, min(top + step, shape[0]))


def bands_of(labels: NDArray[Any], multiple: int = 1) -> Iterator[NDArray[Any]]:
    """Bands of whole rows of an array; of a memory map, without its pages staying in memory.

    Examples
    --------
    >>> [len(band) for band in bands_of(np.zeros((5, 4)))]
    [5]
    """
    for rows in band_rows(labels.shape, multiple):
        if isinstance(labels, np.memmap) and labels.filename and labels.flags.c_contiguous:
            again: NDArray[Any] = np.memmap(
                Path(labels.filename), labels.dtype, "r", labels.offset, labels.shape
            )
            yield np.array(again[rows])
        else:
            yield labels[rows]


def remove_with(users: Sequence[NDArray[Any]], folder: Path) -> None:
    """Take a folder away when all of some arrays are gone, at the latest when Python ends."""
    left = {id(u) for u in users}

    def gone(name: int) -> None:
        left.discard(name)
        if not left:
            shutil.rmtree(folder, ignore_errors=True)

    for user in users:
        weakref.finalize(user, gone, id(user))
