"""Images that lie behind an address (``s3://``, ``gs://``, ``https://``...) instead of a path.

The idea: whatever fsspec can open is copied into a temporary folder, once in a process, and read
from there like any file; so every format works, and what was read is whole.  Nothing is fetched
unless a caller names an address: folders, sample sheets and files that name other files never do.
It fails, with an `ImageReadError`, where fsspec or what the address needs beside is not installed,
or the copy does not succeed; and it is slow for a slide of which only a region is wanted.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
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
    try:
        import fsspec
    except ImportError:
        raise ImageReadError(
            f"{address}: addresses need the cloud extra: pip install 'islet-imaging[cloud]'"
        ) from None
    folder = tempfile.TemporaryDirectory(prefix="islet-imaging-")
    try:
        system, inside = fsspec.core.url_to_fs(address, **(options or {}))
        name = inside.rstrip("/").rpartition("/")[2].partition("?")[0]
        if name in ("", ".", ".."):
            raise ImageReadError(f"{address}: names no file")
        target = Path(folder.name) / str(name)
        system.get(inside.rstrip("/"), str(target), recursive=name.lower().endswith(".zarr"))
    except ImageReadError:
        folder.cleanup()
        raise
    except ImportError as error:  # names the package that the address needs
        folder.cleanup()
        raise ImageReadError(f"{address}: {error}") from None
    except Exception as error:  # every file system raises its own
        folder.cleanup()
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageReadError(
            f"{address}: cannot be copied from there ({text}); check the address, your rights "
            "(storage_options) and the network"
        ) from error
    _folders.append(folder)
    _copies[key] = target
    return target
