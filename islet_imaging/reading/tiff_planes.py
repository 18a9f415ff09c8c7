"""Planes of TIFF files: regions on demand, through a file that is open only while it is read.

The idea: what was parsed is kept, the file is not, so that thousands of images can be described and
an image can go to another process.
It fails, with an `ImageReadError`, where the file was changed or cut since it was opened.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from islet_imaging._types import Region
from islet_imaging.protocol import Limits
from islet_imaging.reading.guard import guarded
from islet_imaging.reading.pages import read_plane

if TYPE_CHECKING:
    from tifffile import TiffFile


class TiffPlanes:
    """Reads regions of planes; opens the file for each read and keeps what was parsed."""

    def __init__(self, path: Path, limits: Limits, by_page: bool = False) -> None:
        self.path = path
        self.limits = limits
        #: pages are numbered in the file, not in its first series
        self.by_page = by_page
        #: what tifffile warned of when the file was last opened
        self.notes: list[str] = []
        self._tif: TiffFile | None = None
        self._lock = threading.RLock()
        #: page number in the series and number behind that page, by channel and plane
        self.where: dict[tuple[int, int], tuple[int, int, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the parsed file, so that an image can go to another process."""
        kept = ("path", "limits", "by_page", "where")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["limits"], state["by_page"])  # type: ignore[misc]
        self.where = state["where"]

    @contextmanager
    def opened(self) -> Iterator[TiffFile]:
        """The parsed file, open."""
        import tifffile

        with self._lock, guarded(self.path) as self.notes:
            if self._tif is None:
                self._tif = tifffile.TiffFile(self.path)
            else:
                self._tif.filehandle.open()
            try:
                yield self._tif
            finally:
                self._tif.filehandle.close()

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:
        """Pixels (Y, X) of a channel's plane."""
        page_index, virtual, sample = self.where[channel, plane]
        with self.opened() as tif:
            page: Any = tif.pages[page_index] if self.by_page else tif.series[0][page_index]
            return read_plane(
                page,
                self.path,
                virtual=virtual,
                sample=sample,
                region=region,
                limits=self.limits,
            )


@dataclass(frozen=True)
class SetPlanes:
    """Planes that lie in several files of one image."""

    readers: tuple[TiffPlanes, ...]
    #: which reader has a channel's plane
    of: dict[tuple[int, int], int]

    def __call__(self, channel: int, plane: int, region: Region | None) -> NDArray[Any]:
        """Pixels (Y, X) of a channel's plane."""
        return self.readers[self.of[channel, plane]](channel, plane, region)
