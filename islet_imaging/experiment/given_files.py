"""Files of nuclei, cells and regions that go with a folder's images: where they are said to be.

The idea: a column of the sample sheet names a file for one image; a folder or pattern, which
stands in the protocol, gives one for every image by its name.  Either way the file is settled
before anything is measured, and an image whose file is missing or could be several fails alone,
with the reason.  Files that were drawn from images are no images, and are left out of the listing.
It fails, for all, where the folder of such files is not there.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from islet_imaging.experiment.sample_sheet import Sample, SampleProblem, SampleSheet
from islet_imaging.protocol import Protocol
from islet_imaging.reading.annotations.naming import PLACE, find_for_images
from islet_imaging.reading.listing import ImageFiles, Skipped

#: what may be given: columns of the sheet, and where the protocol has their places
KINDS = ("nuclei", "cells", "regions")
#: section and key of the protocol that hold the place of each
_SECTIONS = {
    "nuclei": ("nuclei", "labels"), "cells": ("cells", "labels"), "regions": ("islets", "regions"),
}  # fmt: skip
#: roles of images that need no nuclei of their own
_NO_NUCLEI = "single_stain:"
#: names of masks that lie among the images
_MASKS = ("mask", "masks", "label", "labels", "seg")


def place_of(protocol: Protocol, what: str) -> str | None:
    """Folder or pattern that the protocol states for nuclei, cells or regions."""
    section, key = _SECTIONS[what]
    found: str | None = getattr(getattr(protocol, section), key)
    return found


def with_places(
    protocol: Protocol, folder: Path, places: Mapping[str, str | Path | None]
) -> Protocol:
    """The protocol with stated places of files, absolute, and without these files as images.

    Parameters
    ----------
    protocol : Protocol
        May state places itself; relative ones are looked for in the scored folder.
    folder : Path
        The scored folder.
    places : mapping of str to path
        By what is there (`KINDS`): folder, pattern or file, relative to the current folder, or to
        the scored one where it is not there.

    Returns
    -------
    Protocol
    """
    found: list[Path] = []
    for what in KINDS:
        stated, asked = place_of(protocol, what), places.get(what)
        if asked is not None:
            where = _found(asked, folder)
        elif stated is not None:
            where = folder.absolute() / stated
        else:
            continue
        found.append(where)
        section = _SECTIONS[what]
        changed: Any = dataclasses.replace(
            getattr(protocol, section[0]), **{section[1]: where.as_posix()}
        )
        protocol = protocol.replace(**{section[0]: changed})
    before = protocol.reading.exclude
    new = [p for p in left_out(folder, *found) if p not in before]
    if not new:
        return protocol
    return protocol.replace(reading=dataclasses.replace(protocol.reading, exclude=(*before, *new)))


def left_out(folder: Path, *places: str | Path | None) -> list[str]:
    """Patterns of `reading.exclude` that keep drawn files from being taken for images.

    Parameters
    ----------
    folder : Path
        The scored folder.
    *places : path
        Folders, patterns or files of drawn files, inside of it or elsewhere.

    Examples
    --------
    >>> left_out(Path("images"), "images/masks", "images/*_cp.png", "elsewhere", None)
    ['masks/*', '*_cp.png']
    """
    root = folder.absolute()
    patterns: list[str] = []
    for place in places:
        where = root if place is None else _found(place, folder)
        if place is None or not where.is_relative_to(root):
            continue
        if where == root:
            patterns += [f"*[_. -]{word}.*" for word in _MASKS]
            continue
        pattern = where.relative_to(root).as_posix().replace(PLACE, "*")
        by_name = "*" in pattern or where.is_file()
        patterns.append(pattern if by_name else f"{pattern}/*")
    return patterns


def _found(place: str | Path, folder: Path) -> Path:
    """A place relative to the current folder, or to the scored one if it is only there."""
    where = Path(place).absolute()
    inside = folder.absolute() / place
    return inside if not _there(where) and _there(inside) else where


def _there(where: Path) -> bool:
    """Whether a place exists; of a pattern, its folder."""
    try:
        held = "*" in where.name or PLACE in where.name
        return where.parent.is_dir() if held else where.exists()
    except OSError:
        return False


def with_given(sheet: SampleSheet, folder: Path, protocol: Protocol) -> SampleSheet:
    """The sheet with the files of nuclei, cells and regions of every image.

    Parameters
    ----------
    sheet : SampleSheet
        Its columns ``nuclei``, ``cells`` and ``regions`` name files relative to the folder; an
        empty cell leaves it to the protocol, and without a place there to what is found.
    folder : Path
        The scored folder.
    protocol : Protocol
        With absolute places (`with_places`).

    Returns
    -------
    SampleSheet
        An image whose file cannot be settled is among the problems.
    """
    problems: dict[str, str] = {}
    given: dict[str, dict[str, Path]] = {s.image: {} for s in sheet.samples}
    used: set[Path] = set()
    for what in KINDS:
        place = place_of(protocol, what)
        waiting: list[Sample] = []
        for sample in sheet.samples:
            named = sample.extra.get(what, "")
            if named:
                path = folder / named.replace("\\", "/")
                given[sample.image][what] = path
                if not path.is_file():
                    problems[sample.image] = (
                        f"row {sample.row}: there is no file of {what} {named[:120]!r} in {folder}"
                    )
            elif place is not None:
                waiting.append(sample)
        if place is None or not waiting:
            continue
        found = find_for_images(Path(place), [ImageFiles(s.image, s.paths) for s in waiting], what)
        used |= set(found.files.values())
        for sample in waiting:
            if sample.image in found.files:
                given[sample.image][what] = found.files[sample.image]
            elif _needed(what, sample.role):
                problems.setdefault(sample.image, found.problems[sample.image])
    used |= {p for files in given.values() for p in files.values()}
    drawn = {p.absolute() for p in used}
    kept, masks = list(sheet.samples), []
    if drawn:
        is_mask = [any(p.absolute() in drawn for p in s.paths) for s in kept]
        masks = [s for s, mask in zip(kept, is_mask, strict=True) if mask]
        kept = [s for s, mask in zip(kept, is_mask, strict=True) if not mask]
    good = [dataclasses.replace(s, given=given[s.image]) for s in kept if s.image not in problems]
    failed = [
        SampleProblem(s.row, s.image, f"{s.image}: {why}", s.condition, s.batch, s.role)
        for s in kept
        if (why := problems.get(s.image))
    ]
    return dataclasses.replace(
        sheet,
        samples=tuple(good),
        problems=(*sheet.problems, *failed),
        skipped=tuple(
            sorted(
                [*sheet.skipped, *(Skipped(s.image, "drawn from another image") for s in masks)],
                key=lambda s: s.name,
            )
        ),
    )


def _needed(what: str, role: str) -> bool:
    """Whether an image of that role fails without its file."""
    if what == "regions":
        return role == "sample"
    return not role.startswith(_NO_NUCLEI)


class WithNuclei(typing.Protocol):
    """An image of a folder, before it is scored or after: its role, and what was given with it."""

    @property
    def role(self) -> str:
        """As in the sample sheet."""

    @property
    def given(self) -> Mapping[str, Any]:
        """What was given with it, by `KINDS`."""


def told_of_mixture(images: Sequence[WithNuclei]) -> str:
    """What to say where some images have given nuclei and others not; "" where all are alike.

    Parameters
    ----------
    images : sequence of Sample or ImageRow
        Images of the folder; those of single stains need no nuclei.

    Examples
    --------
    >>> a, b = Sample("a", ()), Sample("b", (), given={"nuclei": Path("b_masks.tif")})
    >>> told_of_mixture([a, b])
    'nuclei of 1 of 2 images were given, of the others they were found: shares of the two differ \
by that too'
    >>> told_of_mixture([a, a])
    ''
    """
    own = ["nuclei" in i.given for i in images if not i.role.startswith(_NO_NUCLEI)]
    if all(own) or not any(own):
        return ""
    return (
        f"nuclei of {sum(own)} of {len(own)} images were given, of the others they were found: "
        "shares of the two differ by that too"
    )
