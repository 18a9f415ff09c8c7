"""What lies in a folder: the images to score, and what is left out with the reason.

The idea: nothing vanishes. A file that could be taken for an image is listed as one, or stands
among the skipped with a reason that says what to do: thumbnails, projections beside their stacks,
further files of a multi-file image, formats that are not read, linked folders, folders of runs.
It fails, with a `ProtocolError`, where the folder cannot be listed.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from islet_imaging.errors import IsletImagingError, ProtocolError
from islet_imaging.reading.bioio_formats import scenes_of_vendor
from islet_imaging.reading.copies import aside, made_of_others, made_of_sets
from islet_imaging.reading.members import ome_set
from islet_imaging.reading.multifile import SUFFIXES
from islet_imaging.reading.naming import split_path
from islet_imaging.reading.ome import smaller_copies
from islet_imaging.reading.tiff_set import set_scenes
from islet_imaging.reading.zarr_image import is_zarr, zarr_images

_TIFFS = (".tif", ".tiff", ".btf", ".tf2", ".tf8")
_VENDORS = (".czi", ".lif", ".nd2")
#: formats of microscopes and pictures that are not read, and what to do
_EXPORT = "is not read; export as OME-TIFF"
_OTHERS = {
    **dict.fromkeys((".vsi", ".ets", ".oib", ".oif", ".oir", ".poir", ".ims", ".dv", ".r3d", ".sld",
                     ".sldy", ".mrxs", ".zvi", ".lof", ".xlef", ".nd", ".ipl", ".ics", ".ids",
                     ".dcm", ".mvd2", ".acff", ".h5", ".hdf5", ".n5", ".liff", ".c01", ".dib",
                     ".mcd", ".obf", ".msr", ".lei", ".sif", ".spe", ".afi", ".vms"), _EXPORT),
    **dict.fromkeys((".bmp", ".gif", ".webp", ".jp2", ".jfif", ".psd", ".pdf", ".svg", ".ppt",
                     ".pptx", ".avi", ".mp4", ".mov"),
                    "is a picture or film for showing; export the raw channels as TIFF"),
}  # fmt: skip


_SMALLER = "another image of the file at a lower resolution"
_ARCHIVES = (".zip", ".gz", ".7z", ".rar", ".tar", ".tgz", ".bz2", ".xz")
_SYSTEM = frozenset({"$recycle.bin", "#recycle", "@eadir", "__macosx", "trash", "lost+found",
                     "system volume information"})  # fmt: skip


@dataclass(frozen=True)
class ImageFiles:
    """An image of a folder: its name in tables and the files behind it.

    A path goes on behind a file that holds several images: ``plate.lif/Series 1``.
    """

    name: str
    paths: tuple[Path, ...]
    #: further files that its pixels come from
    members: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """A file or folder that is not scored, and why."""

    name: str
    why: str
    #: left out for its name alone; a sample sheet that lists it is believed
    by_name: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


@dataclass
class Listing:
    """Images and what was skipped, each sorted by name."""

    images: list[ImageFiles] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def is_run_folder(folder: Path) -> bool:
    """Whether a run was, or is being, written into a folder."""
    return (folder / "provenance.json").is_file() or (
        (folder / ".work").is_dir() and (folder / "run.log").is_file()
    )


def list_files(
    root: Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    waiting: Collection[Path] = (),
) -> tuple[list[Path], list[Skipped]]:
    """All image files under ``root``, sorted, and what was skipped.

    Parameters
    ----------
    root : Path
        The folder.
    include, exclude : sequence of str
        Patterns with ``*`` and ``?`` on the relative path, the file's name, or a folder's name.
    waiting : collection of Path
        Files under ``root`` that are still being written.

    Returns
    -------
    list of Path, list of Skipped

    Raises
    ------
    ProtocolError
        If the folder cannot be listed, or is a run's folder.
    """
    if is_run_folder(root):
        raise ProtocolError(f"{root}: the folder of a run, not of images; give the images' folder")
    found: list[Path] = []
    skipped: list[Skipped] = []

    def skip(path: Path, why: str) -> None:
        skipped.append(Skipped(path.relative_to(root).as_posix(), why))

    _walk(root, found, skip, set())
    kept = []
    for path in found:
        relative = path.relative_to(root).as_posix()
        if include and not any(_glob(relative, g) for g in include):
            skip(path, "matches none of reading.include")
        elif (hit := next((g for g in exclude if _glob(relative, g)), None)) is not None:
            skip(path, f"matches {hit!r} of reading.exclude")
        elif path in waiting:
            skip(path, "still being written")
        else:
            kept.append(path)
    made = made_of_others(kept)
    skipped += [Skipped(p.relative_to(root).as_posix(), w, by_name=True) for p, w in made.items()]
    return [p for p in kept if p not in made], sorted(skipped, key=lambda s: s.name)


def _glob(relative: str, pattern: str) -> bool:
    parts = PurePosixPath(relative).parts
    return fnmatch.fnmatchcase(relative, pattern) or any(
        fnmatch.fnmatchcase(p, pattern) for p in parts
    )


def _walk(
    folder: Path, found: list[Path], skip: Callable[[Path, str], None], seen: set[str]
) -> None:
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda e: e.name)
    except PermissionError:
        raise ProtocolError(f"{folder}: no permission to list this folder") from None
    except OSError as error:
        raise ProtocolError(f"{folder}: cannot be listed: {error.strerror}") from None
    for entry in entries:
        path = folder / entry.name
        suffix = path.suffix.lower()
        if entry.name.startswith((".", "~")):
            if suffix in SUFFIXES:
                skip(path, "a hidden file")
            continue
        if entry.is_dir():
            if entry.name.casefold() in _SYSTEM:
                skip(path, "a folder of the system, for what was deleted or for previews")
            elif entry.is_symlink():
                skip(path, "a link to a folder; score that folder, or copy it here")
            elif is_run_folder(path):
                skip(path, "the folder of a run")
            elif entry.name == "truth" and (path / "batches.csv").is_file():
                skip(path, "the truth of a synthetic experiment")
            elif suffix == ".zarr" or is_zarr(path):
                found.append(path)
            else:
                _walk(path, found, skip, seen)
            continue
        if suffix in _ARCHIVES and Path(path.stem).suffix.lower() in (*SUFFIXES, ".zarr"):
            skip(path, "an archive; unpack it")
        elif suffix in _OTHERS:
            skip(path, f"{suffix} {_OTHERS[suffix]}")
        elif suffix in SUFFIXES:
            try:
                mode = entry.stat().st_mode
            except OSError:
                skip(path, "a link to a file that is not there")
                continue
            if not stat.S_ISREG(mode):
                skip(path, "a pipe, device or socket, not a file")
            else:
                found.append(path)


def list_images(
    folder: str | Path,
    pattern: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    waiting: Collection[Path] = (),
) -> Listing:
    """List the images of a folder and its subfolders, and what was skipped.

    Parameters
    ----------
    folder : str or Path
        The folder.
    pattern : str, optional
        ``reading.file_pattern``: files are grouped into images; those that do not match are
        skipped.
    include, exclude, waiting
        As for `list_files`.

    Returns
    -------
    Listing

    Raises
    ------
    ProtocolError
        If there is no such folder, or it cannot be listed.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ProtocolError(f"{root}: there is no such folder; give the folder of the images")
    files, skipped = list_files(root, include, exclude, waiting)
    out = Listing(skipped=skipped)
    groups: dict[str, list[Path]] = {}
    members: dict[str, tuple[Path, ...]] = {}
    taken: dict[Path, str] = {}
    for path in files:
        name = path.relative_to(root).as_posix()
        if pattern is not None:
            part = split_path(name, pattern)
            if part is None:
                out.skipped.append(Skipped(name, "its name does not match reading.file_pattern"))
            else:
                groups.setdefault(part.image, []).append(path)
            continue
        if path in taken:
            out.skipped.append(Skipped(name, f"a part of the image {taken[path]}"))
            continue
        for image, image_path, others, why in _images_of(path, name):
            if why:
                out.skipped.append(Skipped(image, why, by_name=True))
                continue
            groups[image] = [image_path]
            members[image] = others
            taken |= dict.fromkeys((o for o in others if o != path), image)
    if pattern is not None:
        relative = {n: [p.relative_to(root).as_posix() for p in ps] for n, ps in groups.items()}
        for made, why in list(made_of_sets(relative)):
            out.skipped += [Skipped(name, why) for name in relative[made]]
            del groups[made]
    out.images = [ImageFiles(n, tuple(groups[n]), members.get(n, ())) for n in sorted(groups)]
    out.skipped.sort(key=lambda s: s.name)
    return out


def _images_of(path: Path, name: str) -> list[tuple[str, Path, tuple[Path, ...], str]]:
    """Name, path and further files of each image in a file, and why it is none to score."""
    whole: list[tuple[str, Path, tuple[Path, ...], str]] = [(name, path, (), "")]
    smaller: set[str] = set()
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            scenes = zarr_images(path)
        elif suffix in _VENDORS:
            found = scenes_of_vendor(path)
            scenes = found if len(found) > 1 else ()
        elif suffix in _TIFFS:
            described = ome_set(path)
            if described is None:
                return whole
            scenes = set_scenes(path, described)
            again = smaller_copies(described.xml, described.own(path)) if scenes else ()
            smaller = {scenes[n] for n in again}
            if not scenes:
                own = described.own(path)
                return [(name, path, described.images[own[0]].files, "")] if own else whole
        else:
            return whole
    except IsletImagingError:
        return whole  # the fault is named when the image is read
    return [
        (f"{name}/{s}", path / s, (path,), _SMALLER if s in smaller else aside(s)) for s in scenes
    ] or whole
