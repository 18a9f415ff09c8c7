"""Which file of labels or regions belongs to which image, by names alone and by exact rules.

The idea: a file belongs to an image if its name is the image's (or that of one of its files)
followed by nothing but words that tools put there (``_cp_masks``, ``_seg``, ``.rois``), and if it
lies in the same sub-folder or directly in the folder that was given.  Of several files those that
name what they hold (``_cells``) go before others (``_masks``).  Two files for one image, or one
file for two, are refused: no rule would choose rightly.
It fails for names that share nothing; the sample sheet's columns take those.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from islet_imaging.errors import IsletImagingError
from islet_imaging.reading.annotations.labels import LABEL_SUFFIXES
from islet_imaging.reading.listing import ImageFiles
from islet_imaging.reading.multifile import SUFFIXES

#: words behind an image's name that any tool may put there
_ANY = (
    "mask", "masks", "cp", "cellpose", "omnipose", "seg", "segmentation", "label", "labels", "lbl",
    "roi", "rois", "roiset", "stardist", "object", "objects", "detection", "detections",
    "annotation", "annotations", "export",
)  # fmt: skip
#: and those that say what was drawn
WORDS: dict[str, tuple[str, ...]] = {
    "nuclei": (*_ANY, "nuclei", "nucleus", "nuc"),
    "cells": (*_ANY, "cells", "cell", "cyto", "cytoplasm"),
    "regions": (*_ANY, "regions", "region", "islets", "islet"),
}
#: stands for the image's name in a pattern
PLACE = "{image}"


@dataclass(frozen=True)
class Found:
    """The file of each image, and why an image has none."""

    files: Mapping[str, Path]
    problems: Mapping[str, str]


def find_for_images(where: Path, images: Sequence[ImageFiles], what: str) -> Found:
    """Find the file that belongs to each image.

    Parameters
    ----------
    where : Path
        A folder; a pattern whose file name holds ``{image}`` or one ``*`` for the image's name;
        or, for a single image, a file.
    images : sequence of ImageFiles
        The images.
    what : {"nuclei", "cells", "regions"}
        What is looked for: it decides which words may follow the image's name.

    Returns
    -------
    Found

    Raises
    ------
    IsletImagingError
        If there is no such folder, or the pattern is none.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("a.tif", "a_cp_masks.png", "b.tif", "b_seg.npy", "b_masks.tif"):
    ...     (folder / name).touch()
    >>> images = [ImageFiles(n, (folder / n,)) for n in ("a.tif", "b.tif")]
    >>> found = find_for_images(folder, images, "nuclei")
    >>> found.files["a.tif"].name, found.problems["b.tif"][:46]
    ('a_cp_masks.png', 'several files could be its nuclei: b_masks.tif')
    """
    template = where.name.replace("*", PLACE) if "*" in where.name else where.name
    if PLACE in template:
        if template.count(PLACE) != 1:
            raise IsletImagingError(f"{where}: a pattern holds {PLACE} (or *) once")
        folder = where.parent
    elif where.is_dir():
        folder, template = where, ""
    elif where.is_file():
        if len(images) != 1:
            raise IsletImagingError(
                f"{where}: one file of {what} for {len(images)} images; give the folder of such "
                f"files, a pattern such as '{where.parent / (PLACE + where.suffix)}', or a column "
                f"{what!r} in the sample sheet"
            )
        return Found({images[0].name: where}, {})
    else:
        raise IsletImagingError(f"{where}: there is no such folder or file of {what}")
    if not folder.is_dir():
        raise IsletImagingError(f"{folder}: there is no such folder of {what}")
    listed: dict[str, list[Path]] = {}
    hits: dict[str, list[Path]] = {}
    users: dict[Path, list[str]] = {}
    for image in images:
        hits[image.name] = _most_telling(_of_image(folder, template, image, what, listed), what)
        for path in hits[image.name]:
            users.setdefault(path, []).append(image.name)
    files: dict[str, Path] = {}
    problems: dict[str, str] = {}
    for name, found in hits.items():
        if not found:
            looked = f"'{where}'" if template else str(folder)
            problems[name] = f"no file of {what} for it in {looked}"
        elif len(found) > 1:
            shown = ", ".join(sorted(p.name for p in found)[:4])
            problems[name] = (
                f"several files could be its {what}: {shown}; give a pattern such as "
                f"'{found[0].parent / (PLACE + '_masks.tif')}', or name one in the sample sheet"
            )
        elif len(users[found[0]]) > 1:
            others = ", ".join(sorted(users[found[0]])[:4])
            problems[name] = (
                f"{found[0].name} could be the {what} of several images: {others}; put such files "
                "into sub-folders like the images', or name them in the sample sheet"
            )
        else:
            files[name] = found[0]
    return Found(files, problems)


def _of_image(
    folder: Path,
    template: str,
    image: ImageFiles,
    what: str,
    listed: dict[str, list[Path]],
) -> list[Path]:
    """Files that could belong to an image."""
    parent, bases = _bases(image)
    own = {p.absolute() for p in (*image.paths, *image.members)}
    found: list[Path] = []
    for place in dict.fromkeys((folder / parent, folder)):
        key = str(place)
        if key not in listed:
            files = sorted(place.iterdir()) if place.is_dir() else []
            listed[key] = [
                f for f in files
                if f.suffix.lower() in LABEL_SUFFIXES and f.is_file()
                and not f.name.startswith((".", "~"))
            ]  # fmt: skip
        for path in listed[key]:
            if path.absolute() in own:
                continue
            name = _folded(path.name)
            if template:
                hit = any(name == _folded(template.replace(PLACE, base)) for base in bases)
            else:
                stem = _without_endings(name)
                hit = any(_follows(stem, base, what) for base in bases)
            if hit:
                found.append(path)
    return list(dict.fromkeys(found))


def _most_telling(found: list[Path], what: str) -> list[Path]:
    """Of several files those that name what they hold: ``a_cells.tif`` beside ``a_masks.tif``."""
    own = set(WORDS[what]) - set(_ANY)
    named = [p for p in found if own & set(_words(_folded(_without_endings(p.name))))]
    return named or found


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[._\- ]+", name) if word]


def _bases(image: ImageFiles) -> tuple[str, list[str]]:
    """The folder an image lies in, and the names by which its files may be called."""
    parts = PurePosixPath(image.name).parts
    # an image inside a file: plate.lif/Series 1
    inner = next((i for i, p in enumerate(parts) if Path(p).suffix.lower() in SUFFIXES), None)
    head = len(parts) - 1 if inner is None else inner
    name = _without_endings(parts[head])
    scene = "_".join(parts[head + 1 :])
    names = [f"{name}_{scene}", f"{name} {scene}", scene] if scene else [name]
    if not scene:
        names += [_without_endings(p.name) for p in image.paths]
    return "/".join(parts[:head]), list(dict.fromkeys(names))


def _without_endings(name: str) -> str:
    for end in (".ome.tif", ".ome.tiff", ".ome.btf", ".ome.zarr"):
        if name.lower().endswith(end):
            return name[: -len(end)]
    suffix = Path(name).suffix
    known = suffix.lower() in (*SUFFIXES, *LABEL_SUFFIXES)
    return name[: -len(suffix)] if known else name


def _follows(stem: str, base: str, what: str) -> bool:
    """Whether a name is an image's, with words of tools behind it."""
    base = _folded(base)
    if not base or not stem.startswith(base):
        return False
    rest = stem[len(base) :]
    if rest and rest[0] not in "._- ":
        return False
    return all(word in WORDS[what] for word in _words(rest))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
