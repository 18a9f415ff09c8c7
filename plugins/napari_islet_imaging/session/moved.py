"""Images of a run that lie elsewhere now than when they were scored.

The idea: a file is looked for under its name beside the run and in folders that a person names, and
taken only if its bytes are those that were scored.
It fails for a file that was changed or renamed: that is another image to this program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from islet_imaging.errors import IsletImagingError

if TYPE_CHECKING:
    from islet_imaging.image import IsletImage
    from islet_imaging.run.folder import Run


def read_found(run: Run, image: str, folders: Sequence[Path] = ()) -> IsletImage:
    """Read an image of a run, wherever its files are now.

    Parameters
    ----------
    run : Run
        The run folder.
    image : str
        The image, as in the tables.
    folders : sequence of Path
        Where else to look, in any depth, before what lies beside the run.

    Raises
    ------
    IsletImagingError
        If a file is not found, or only one of that name with other bytes.
    """
    from islet_imaging.reading import read_image

    try:
        return run.read_image(image)
    except IsletImagingError:
        row = next(r for r in run.provenance["images"] if r["image"] == image)
        found = []
        for file, sha256 in zip(row["files"], row.get("inputs", ()), strict=False):
            here = find_file(run, Path(file), str(sha256), folders)
            if here is None:
                raise
            found.append(here)
        if not found:
            raise
        return read_image(found, protocol=run.protocol, name=image)


def find_file(run: Run, file: Path, sha256: str, folders: Sequence[Path] = ()) -> Path | None:
    """Where a file of a run is now, by its name and bytes; None where it is nowhere.

    Parameters
    ----------
    run : Run
        The run folder; what was moved together with it lies beside it.
    file : Path
        Where it was.
    sha256 : str
        Of its bytes.
    folders : sequence of Path
        Where else to look, in any depth.
    """
    beside = run.path.parent / Path(str(run.provenance["folder"])).name
    if file.is_file() and _hash(file) == sha256:
        return file
    for folder in (*folders, beside):
        if not folder.is_dir():
            continue
        for candidate in (folder / file.name, *folder.rglob(file.name)):
            if candidate.is_file() and _hash(candidate) == sha256:
                return candidate
    return None


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
