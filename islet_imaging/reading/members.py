"""Which files an image's pixels really come from, and which images a file holds.

The idea: an image is not always a file. It may be one of several in a file (then its path goes on
behind the file's, ``plate.lif/Series 1``), or spread over several (a multi-file OME-TIFF), or a
folder (OME-Zarr). Whoever hashes, copies or watches an image asks here for the files.
It fails softly: a file that cannot be read stands for itself.
"""

from __future__ import annotations

from pathlib import Path

from islet_imaging.errors import IsletImagingError
from islet_imaging.reading import companions
from islet_imaging.reading.headers import first_description
from islet_imaging.reading.ome import OmeSet, resolve, speaks_of_files

#: number of pages that stands for "as many as are needed" where pages were not counted
_ANY = 1_000_000


def split_scene(path: Path) -> tuple[Path, str | None]:
    """Split a path that goes on behind a file into the file and the name of an image in it.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "plate.lif"; file.touch()
    >>> split_scene(file / "Series 1")[1]
    'Series 1'
    """
    if path.exists():
        return path, None
    for parent in path.parents:
        if parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return path, None


def ome_set(path: Path) -> OmeSet | None:
    """What the OME-XML of a file says of other files and several images; None where nothing."""
    xml = first_description(path)
    if not xml or not xml.rstrip(" \0\r\n").endswith("OME>") or not speaks_of_files(xml):
        return None
    return resolve(path, xml, _ANY)


def files_of(path: str | Path) -> tuple[Path, ...]:
    """Every file that the pixels, names and scale of an image come from.

    Parameters
    ----------
    path : str or Path
        An image's path, as in `ImageFiles.paths`.

    Returns
    -------
    tuple of Path
        The file itself first; files of a multi-file OME-TIFF and the metadata files beside it; all
        files of an OME-Zarr, sorted.  A file that does not exist is listed as given.

    Examples
    --------
    >>> import numpy as np, tempfile, tifffile
    >>> file = Path(tempfile.mkdtemp()) / "a.tif"
    >>> tifffile.imwrite(file, np.zeros((8, 9), np.uint8))
    >>> [f.name for f in files_of(file)]
    ['a.tif']
    """
    file, _ = split_scene(Path(path))
    if file.is_dir():
        return tuple(sorted(p for p in file.rglob("*") if p.is_file())) or (file,)
    found = [file]
    try:
        described = ome_set(file)
    except IsletImagingError:
        described = None
    if described is not None:
        for number in described.own(file):
            found += described.images[number].files
        if described.metadata_file is not None:
            found.append(described.metadata_file)
    found += companions.files_beside(file)
    return tuple(dict.fromkeys(found))
