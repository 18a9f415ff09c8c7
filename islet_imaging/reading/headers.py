"""The first lines of a TIFF, read in microseconds: how many pages, what kind, what it says.

The idea: to sort a folder of ten thousand files one needs a few tags of each, not a parsed file.
It fails softly: anything odd gives None, and the file is then judged when it is opened.
"""

from __future__ import annotations

import re
import stat
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

#: bytes of a description that are read; OME-XML of thousands of planes is megabytes
_MAX_TEXT = 64 * 2**20
_WIDTH = {1: 1, 2: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}
_SIGN = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True)
class Header:
    """A TIFF's first page, and whether another follows."""

    width: int
    height: int
    samples: int
    photometric: int
    #: samples beyond the colours, such as alpha
    extra: int
    description: str
    more_pages: bool

    @property
    def is_bare_stack(self) -> bool:
        """Whether the file holds pages of one sample, and says nothing of what they are."""
        text = self.description.lstrip()
        said = text.startswith(("<", "{", "ImageJ=")) and not text.startswith('{"shape"')
        return self.more_pages and self.samples - self.extra == 1 and not said

    @property
    def is_one_plane(self) -> bool:
        """Whether the file says that it holds channels and no focal planes."""
        if "<OME" in self.description[:2000]:
            depth = set(re.findall(r'\bSizeZ="(\d+)"', self.description))
            return depth == {"1"} and self.channels > 1
        slices = re.search(r"^slices=", self.description, re.MULTILINE)
        return self.description.startswith("ImageJ=") and self.channels > 1 and not slices

    @property
    def channels(self) -> int:
        """How many channels the file can hold by its first page; 0 where that is not stated.

        A picture of three colours counts as one: instruments tint the picture of a channel.
        """
        samples = self.samples - self.extra
        if "<OME" in self.description[:2000]:
            if "BinaryOnly" in self.description:  # what it holds is said in another file
                return 0
            found = re.search(r'\bSizeC="(\d+)"', self.description)
            per_page = re.search(r'\bSamplesPerPixel="(\d+)"', self.description)
            n = int(found[1]) if found else 1
            return max(1, n // int(per_page[1])) if per_page and int(per_page[1]) else n
        if self.description.startswith("ImageJ="):
            found = re.search(r"^channels=(\d+)", self.description, re.MULTILINE)
            slices = re.search(r"^slices=(\d+)", self.description, re.MULTILINE)
            return int(found[1]) if found else 1 if slices or not self.more_pages else 0
        if samples not in (1, 3):
            return samples
        return 0 if self.more_pages else 1


def read_header(path: Path) -> Header | None:
    """Read the first page's tags of a TIFF; None where it is none, or odd.

    Examples
    --------
    >>> import numpy as np, tempfile, tifffile
    >>> file = Path(tempfile.mkdtemp()) / "a.tif"
    >>> tifffile.imwrite(file, np.zeros((2, 8, 9), np.uint8), photometric="minisblack")
    >>> header = read_header(file)
    >>> header.width, header.height, header.samples, header.more_pages
    (9, 8, 1, True)
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            return None
    except (OSError, ValueError):
        return None
    return _read_once(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=16384)
def _read_once(  # what changes with a file makes it another key
    path: Path,
    number: int,  # noqa: ARG001
    size: int,  # noqa: ARG001
    modified: int,  # noqa: ARG001
    changed: int,  # noqa: ARG001
) -> Header | None:
    """Several questions are asked of each file of a folder, one after the other."""
    try:
        with path.open("rb") as stream:
            return _read(stream)
    except (OSError, struct.error, ValueError, MemoryError, OverflowError):
        return None


def first_description(path: Path) -> str | None:
    """The ImageDescription of a TIFF's first page; None where there is none."""
    header = read_header(path)
    return header.description if header else None


def _read(stream) -> Header | None:  # type: ignore[no-untyped-def]
    start = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is None:
        return None
    version = struct.unpack(order + "H", start[2:4])[0]
    if version not in (42, 43):
        return None
    big = version == 43
    at = struct.unpack(order + ("Q" if big else "I"), start[8:16] if big else start[4:8])[0]
    stream.seek(at)
    count = struct.unpack(order + ("Q" if big else "H"), stream.read(8 if big else 2))[0]
    if not 0 < count <= 4096:
        return None
    size = 20 if big else 12
    block = stream.read(count * size)
    behind = stream.read(8 if big else 4)
    following = struct.unpack(order + ("Q" if big else "I"), behind)[0] if behind else 0
    tags: dict[int, int] = {}
    text = ""
    for i in range(count):
        entry = block[i * size : (i + 1) * size]
        code, kind = struct.unpack(order + "HH", entry[:4])
        n = struct.unpack(order + ("Q" if big else "I"), entry[4 : 12 if big else 8])[0]
        value = entry[12 if big else 8 :]
        if code == 270 and kind in (1, 2, 7) and 0 < n <= _MAX_TEXT:
            if n > len(value):
                stream.seek(struct.unpack(order + ("Q" if big else "I"), value)[0])
                value = stream.read(n)
            text = value[:n].rstrip(b"\0").decode("utf-8", errors="replace")
        elif code in (256, 257, 262, 277) and kind in _SIGN:
            width = _WIDTH[kind]
            tags[code] = struct.unpack(order + _SIGN[kind], value[:width])[0]
        elif code == 338:
            tags[code] = n
    if 256 not in tags or 257 not in tags:
        return None
    return Header(
        tags[256], tags[257], tags.get(277, 1), tags.get(262, 1), tags.get(338, 0), text,
        following != 0,
    )  # fmt: skip
