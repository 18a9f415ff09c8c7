"""Images that lie behind an address (``s3://``, ``gs://``, ``https://``...) instead of a path.

The idea: an OME-Zarr is read where it lies, chunk by chunk, as its chunks are files.  Whatever else
fsspec can open is copied into a temporary folder, once in a process, and read from there like any
file; so every format works, and what was read is whole.  Nothing is fetched unless a caller names
an address: folders, sample sheets and files that name other files never do.
It fails, with an `ImageReadError`, where fsspec or what the address needs beside is not installed,
or nothing can be fetched; and it is slow for a slide in one file of which a region is wanted.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from islet_imaging.errors import ImageReadError

_ADDRESS = re.compile(r"^[a-z][a-z0-9+.\-]+(?:://|::)", re.IGNORECASE)
#: copies of this process by address and options, in a folder that goes with it
_copies: dict[tuple[str, str], Path] = {}
_folders: list[tempfile.TemporaryDirectory[str]] = []


def is_address(path: object) -> bool:
    """Whether this is an address and no path.

    Examples
    --------
    >>> is_address("s3://bucket/a.tif"), is_address("C:/a.tif"), is_address("a.tif")
    (True, False, False)
    """
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def local_copy(address: str, options: Mapping[str, Any] | None = None) -> Path:
    """Copy what lies behind an address into a temporary folder.

    Parameters
    ----------
    address : str
        Of a file, or of a folder whose name ends in ``.zarr``.
    options : mapping, optional
        For its file system, such as ``{"anon": True}``.

    Returns
    -------
    Path
        Of the copy, under its own name; it goes with the process.

    Raises
    ------
    ImageReadError
        If it cannot be copied, with what to do.
    """
    key = address, repr(sorted((options or {}).items()))
    if key in _copies:
        return _copies[key]
    folder = tempfile.TemporaryDirectory(prefix="islet-imaging-")
    try:
        with fetching(address):
            system, inside = _system(address, options)
            name = _name(inside)
            if name in ("", ".", ".."):
                raise ImageReadError(f"{address}: names no file")
            target = Path(folder.name) / name
            system.get(inside, str(target), recursive=name.lower().endswith(".zarr"))
    except ImageReadError:
        folder.cleanup()
        raise
    _folders.append(folder)
    _copies[key] = target
    return target


@contextmanager
def fetching(address: object) -> Iterator[None]:
    """Turn whatever a file system raises into an `ImageReadError` that says what to do."""
    try:
        yield
    except ImageReadError:
        raise
    except ImportError as error:  # names the package that the address needs
        raise ImageReadError(f"{address}: {error}") from None
    except Exception as error:  # every file system raises its own
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageReadError(
            f"{address}: cannot be fetched from there ({text}); check the address, your rights "
            "(storage_options) and the network"
        ) from error


def _system(address: str, options: Mapping[str, Any] | None) -> tuple[Any, str]:
    """The file system of an address and the path in it."""
    try:
        import fsspec
    except ImportError:
        raise ImageReadError(
            f"{address}: addresses need the cloud extra: pip install 'islet-imaging[cloud]'"
        ) from None
    system, inside = fsspec.core.url_to_fs(address, **(options or {}))
    return system, str(inside).rstrip("/")


def _name(inside: str) -> str:
    return inside.rpartition("/")[2].partition("?")[0]


@dataclass(frozen=True)
class RemoteFolder:
    """A folder behind an address, with what reading an OME-Zarr asks of one.

    Parameters
    ----------
    address : str
        As it is shown in messages.
    system : fsspec.AbstractFileSystem
        Where it lies.
    inside : str
        Its path there.
    """

    address: str
    system: Any
    inside: str

    @classmethod
    def of(cls, address: str, options: Mapping[str, Any] | None = None) -> RemoteFolder:
        """The folder of an address; nothing is fetched."""
        with fetching(address):
            return cls(address, *_system(address.rstrip("/"), options))

    @property
    def name(self) -> str:
        """The last part of its path."""
        return _name(self.inside)

    def __truediv__(self, inside: str) -> RemoteFolder:
        """A folder in it."""
        return RemoteFolder(f"{self.address}/{inside}", self.system, f"{self.inside}/{inside}")

    def __str__(self) -> str:
        return self.address

    def text(self, name: str) -> str | None:
        """What a small file in it says; None where there is none."""
        with fetching(self / name):
            try:
                return str(self.system.cat_file(f"{self.inside}/{name}").decode("utf-8"))
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
                # a store that may not be listed denies what is not there
                return None

    def store(self) -> Any:
        """The folder as a read-only store of the zarr library."""
        import fsspec
        from zarr.storage import FsspecStore

        mapped = fsspec.FSMap(self.inside, self.system)
        return FsspecStore.from_mapper(mapped, read_only=True)


def remote_zarr(path: object, options: Mapping[str, Any] | None = None) -> RemoteFolder | None:
    """The folder of an OME-Zarr where that is what an address names; else None.

    Examples
    --------
    >>> remote_zarr("a.zarr") is None, remote_zarr("memory://bucket/a.tif") is None
    (True, True)
    >>> remote_zarr("memory://bucket/plate.zarr/A/1/0").name
    '0'
    """
    if not isinstance(path, str) or not is_address(path):
        return None
    parts = path.partition("?")[0].lower().split("/")
    return RemoteFolder.of(path, options) if any(p.endswith(".zarr") for p in parts) else None
