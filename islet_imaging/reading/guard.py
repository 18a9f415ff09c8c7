"""Nothing but our own errors leaves the reader, and no reader library prints.

The idea: tifffile and imagecodecs raise many kinds of exceptions on damaged files and report
lesser trouble through `logging`.  Inside ``with guarded(path):`` every exception becomes an
`ImageReadError` that names the file, and log records of this thread are kept aside as notes.
Sizes that a header declares are checked here before anything is allocated.
It fails when pixels are touched outside of it.
"""

from __future__ import annotations

import logging
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from islet_imaging.errors import ImageReadError, IsletImagingError
from islet_imaging.protocol import Limits

#: an image is large, and may be packed less tightly, from this on
LARGE_BYTES = 256 * 2**20
#: below this a decoded image is harmless whatever its compression
SMALL_BYTES = 32 * 2**20

#: those that readers write to; a filter acts on its own logger only, so each is named
_LOGGERS = (
    "tifffile",
    "imagecodecs",
    "bioio.bio_image",
    "bioio.plugins",
    "bioio_lif.reader",
    "nd2",
)
_BAD = "The file may be damaged or incomplete; export it again from the microscope's software"


class _Notes(logging.Filter):
    """Takes the records of one thread out of a logger and keeps their text."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
        self.notes: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if threading.get_ident() != self.thread:
            return True
        if record.levelno >= logging.WARNING:
            self.notes.append(record.getMessage()[:200])
        return False


@contextmanager
def guarded(path: object) -> Iterator[list[str]]:
    """Turn any exception into an `ImageReadError` about ``path``; collect warnings as notes."""
    loggers = [logging.getLogger(n) for n in _LOGGERS]
    # where guards are nested, the outer one takes the records already
    mine = threading.get_ident()
    outer = [f for f in loggers[0].filters if isinstance(f, _Notes) and f.thread == mine]
    taker = outer[0] if outer else _Notes()
    if not outer:
        for logger in loggers:
            logger.addFilter(taker)
    try:
        yield taker.notes
    except IsletImagingError:
        raise
    except FileNotFoundError:
        raise ImageReadError(f"{path}: there is no such file; check the path") from None
    except PermissionError:
        raise ImageReadError(
            f"{path}: no permission to read this file; change its permissions or copy it"
        ) from None
    except MemoryError as error:
        raise ImageReadError(f"{path}: not enough memory to read this image ({error})") from error
    except Exception as error:  # the libraries raise at least eight unrelated types
        text = "its structure is not that of its format"
        if isinstance(error, OSError) and error.strerror:
            text = error.strerror
        # what the library said stays in the chain of exceptions, for whoever looks for a fault
        raise ImageReadError(f"{path}: cannot be read as an image: {text}. {_BAD}") from error
    finally:
        if not outer:
            for logger in loggers:
                logger.removeFilter(taker)


def check_file(path: Path) -> None:
    """Refuse what is no file, or an empty one."""
    if path.is_dir():
        raise ImageReadError(f"{path}: this is a folder; give an image file, or score the folder")
    if not path.exists():
        raise ImageReadError(f"{path}: there is no such file; check the path")
    if not stat.S_ISREG(path.stat().st_mode):
        raise ImageReadError(
            f"{path}: a pipe, device or socket, not a file; give a file, not a link to a device"
        )
    if path.stat().st_size == 0:
        raise ImageReadError(f"{path}: the file is empty (0 bytes); copy or export it again")


def check_declared(path: Path, n_bytes: int, file_bytes: int, limits: Limits) -> None:
    """Refuse a header that declares far more pixels than its file can hold."""
    large = n_bytes > LARGE_BYTES
    most = limits.max_compression_large if large else limits.max_compression
    if n_bytes > max(SMALL_BYTES, most * file_bytes):
        switch = "max_compression_large" if large else "max_compression"
        raise ImageReadError(
            f"{path}: the header declares {gib(n_bytes)} of pixels, the file has "
            f"{file_bytes:,} bytes, less than a {most:g}th. {_BAD}; if it is right, save it "
            f"without compression, or raise reading.limits.{switch} in the protocol"
        )


def check_read(path: object, n_bytes: int, limits: Limits) -> None:
    """Refuse to make an array larger than ``limits.max_gib``."""
    if n_bytes > limits.max_gib * 2**30:
        raise ImageReadError(
            f"{path}: reading this would take {gib(n_bytes)} at once, the limit is "
            f"{limits.max_gib:g} GiB. Read it by region, or raise reading.limits.max_gib in the "
            "protocol (limits= of read_image)"
        )


def check_planes(path: Path, n: int, limits: Limits) -> None:
    """Refuse an image of more planes than ``limits.max_planes``."""
    if n > limits.max_planes:
        raise ImageReadError(
            f"{path}: the header declares {n} planes; not an image. If it is right, raise "
            "reading.limits.max_planes in the protocol"
        )


def gib(n_bytes: int) -> str:
    """A size for people."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes:,} bytes"
