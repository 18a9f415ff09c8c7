"""Which images there are, and what each one is: the folder and its sample sheet.

The idea: `images_in_folder` lists what can be scored, grouping one-file-per-channel sets;
`read_samples` reads ``samples.csv`` (file, condition, batch, role and any further columns) against
it.  A sheet that cannot be understood is an error; a row that cannot is a problem with its row
number and takes only its own image out of the run.
It fails, with a `ProtocolError`, on a sheet without its four columns or without rows.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from islet_imaging.errors import ProtocolError
from islet_imaging.protocol import ROLES, Protocol
from islet_imaging.reading.multifile import SUFFIXES, split_name

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("file", "condition", "batch", "role")
_SINGLE = "single_stain:"
_OF_ONE = (_SINGLE, "negative_control:")
#: files that a finished or running run leaves in its folder
_RUN_FILES = ("provenance.json", "images.csv", "cells.csv", "corrections.jsonl")


@dataclass(frozen=True)
class ImageFiles:
    """An image of a folder: its name in tables and the files behind it."""

    name: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Sample:
    """A row of the sample sheet that can be scored.

    ``row`` is the line in the sheet, the header being 1; 0 where there is no sheet.
    """

    image: str
    paths: tuple[Path, ...]
    condition: str = ""
    batch: str = ""
    role: str = "sample"
    row: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def staining(self) -> str:
        """What was stained together with it: the column ``staining``, else the batch."""
        return self.extra.get("staining") or self.batch

    @property
    def single_stain(self) -> str | None:
        """The channel of a single-stain control."""
        return self.role.removeprefix(_SINGLE) if self.role.startswith(_SINGLE) else None


@dataclass(frozen=True)
class SampleProblem:
    """A row that cannot be scored, and why; the image it names is reported as failed."""

    row: int
    image: str
    message: str
    condition: str = ""
    batch: str = ""
    role: str = ""


@dataclass(frozen=True)
class SampleSheet:
    """What is to be scored, what is not and why, and the sheet's further columns."""

    samples: tuple[Sample, ...]
    problems: tuple[SampleProblem, ...] = ()
    extra_columns: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """The good rows as a table: image, condition, batch, role, further columns."""
        import pandas as pd

        rows = [
            {"image": s.image, "condition": s.condition, "batch": s.batch, "role": s.role}
            | {c: s.extra.get(c, "") for c in self.extra_columns}
            for s in self.samples
        ]
        names = ["image", *COLUMNS[1:], *self.extra_columns]
        return pd.DataFrame(rows, columns=names, dtype=object)


def images_in_folder(folder: str | Path, protocol: Protocol | None = None) -> list[ImageFiles]:
    """List the images of a folder and its subfolders.

    Parameters
    ----------
    folder : str or Path
        The folder.  Hidden files and folders, and the folders of runs, are left out.
    protocol : Protocol, optional
        With ``reading.file_pattern`` files are grouped into images, named by what the pattern's
        group ``image`` matches; files that do not match are not listed.

    Returns
    -------
    list of ImageFiles
        Sorted by name; a name is the path relative to the folder with forward slashes.

    Raises
    ------
    ProtocolError
        If there is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()); (folder / "a.tif").touch()
    >>> [i.name for i in images_in_folder(folder)]
    ['a.tif']
    """
    root = Path(folder)
    if not root.is_dir():
        raise ProtocolError(f"{root}: there is no such folder; give the folder of the images")
    pattern = protocol.reading.file_pattern if protocol else None
    groups: dict[str, list[Path]] = {}
    for path in image_paths(root):
        name = path.relative_to(root).as_posix()
        if pattern is not None:
            split = split_name(path.name, pattern)
            if split is None:
                continue
            name = str(PurePosixPath(name).with_name(split[0]))
        groups.setdefault(name, []).append(path)
    return [ImageFiles(n, tuple(groups[n])) for n in sorted(groups)]


def image_paths(root: Path) -> list[Path]:
    """All files under ``root`` with an image's suffix, sorted, without runs and hidden ones."""
    found: list[Path] = []
    try:
        entries = sorted(root.iterdir())
    except PermissionError:
        raise ProtocolError(f"{root}: no permission to list this folder") from None
    if any((root / f).is_file() for f in _RUN_FILES):
        return []
    for entry in entries:
        if entry.name.startswith((".", "~")):
            continue
        if entry.is_dir():
            found += image_paths(entry) if not entry.is_symlink() else []
        elif entry.suffix.lower() in SUFFIXES:
            found.append(entry)
    return found


def samples_without_sheet(folder: str | Path, protocol: Protocol | None = None) -> SampleSheet:
    """Every image of a folder as a sample of one unnamed condition and batch."""
    images = images_in_folder(folder, protocol)
    return SampleSheet(tuple(Sample(i.name, i.paths) for i in images))


def read_samples(
    sheet: str | Path, folder: str | Path, protocol: Protocol | None = None
) -> SampleSheet:
    """Read and check a sample sheet.

    Parameters
    ----------
    sheet : str or Path
        CSV with the columns file, condition, batch, role and any further ones; separated by
        commas, semicolons or tabs, in UTF-8, UTF-16 or Windows-1252.
    folder : str or Path
        The folder that ``file`` is relative to.  For one file per channel ``file`` is the image's
        name (what the file names have in common) or any one of its files.
    protocol : Protocol, optional
        Gives the file pattern and the channels that ``single_stain:<channel>`` may name.

    Returns
    -------
    SampleSheet
        Good rows in their order, and one problem for every row, or repeated image, that is not.

    Raises
    ------
    ProtocolError
        If the sheet as a whole cannot be used.
    """
    path, root = Path(sheet), Path(folder)
    header, rows = _table(path)
    extra = tuple(h for h in header if h not in COLUMNS)
    images = {i.name: i for i in images_in_folder(root, protocol)}
    by_file = {p.relative_to(root).as_posix(): i for i in images.values() for p in i.paths}
    good: list[Sample] = []
    problems: list[SampleProblem] = []
    seen: dict[str, list[int]] = {}
    for number, cells in rows:
        row = dict(zip(header, cells, strict=False))
        name = row.get("file", "").replace("\\", "/").removeprefix("./")
        found = images.get(name) or by_file.get(name)
        image = found.name if found else name
        wrong = _wrong(row, len(cells), len(header), protocol)
        if not wrong and found is None:
            if not (root / name).is_file():
                wrong = f"there is no file {name!r} in {root}{_near(name, [*images, *by_file])}"
            elif PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                wrong = f"{name!r} lies outside of the scored folder; give a path relative to it"
            else:
                wrong = (
                    f"{name!r} is not listed as an image: its suffix is not one of "
                    f"{', '.join(SUFFIXES)}, it lies in a run's folder, or its name does not "
                    "match reading.file_pattern"
                )
        # the same file twice is noticed even where one row has another fault
        if name:
            seen.setdefault(image, []).append(number)
        fields = {k: row.get(k, "") for k in COLUMNS[1:]}
        if wrong or found is None:
            problems.append(
                SampleProblem(number, image, f"{path.name} row {number}: {wrong}", **fields)
            )
        else:
            more = {k: row.get(k, "") for k in extra}
            good.append(Sample(image, found.paths, **fields, row=number, extra=more))
    for image, numbers in seen.items():
        if len(numbers) > 1:
            rows_text = ", ".join(map(str, numbers))
            message = f"{path.name} rows {rows_text} all name the image {image!r}; keep one"
            problems = [p for p in problems if p.image != image]
            problems.append(SampleProblem(numbers[0], image, message))
            good = [s for s in good if s.image != image]
    return SampleSheet(tuple(good), tuple(sorted(problems, key=lambda p: p.row)), extra)


def _wrong(row: Mapping[str, str], n_cells: int, n_columns: int, protocol: Protocol | None) -> str:
    """What is wrong with a row; empty if nothing is."""
    if n_cells > n_columns:
        return f"{n_cells} cells under {n_columns} columns; quote cells that contain the separator"
    role = row.get("role", "")
    needed = ["file", "role", "batch"] + (["condition"] if role in ("", "sample") else [])
    empty = [c for c in COLUMNS if c in needed and not row.get(c)]
    if empty:
        return f"empty cell in {', '.join(empty)}"
    if role not in ROLES and not role.startswith(_OF_ONE):
        near = difflib.get_close_matches(role.lower(), ROLES, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        of_one = ", ".join(f"{start}<channel>" for start in _OF_ONE)
        return f"unknown role {role!r}; roles are {', '.join(ROLES)}, {of_one}.{hint}"
    if role.startswith(_OF_ONE):
        channel = role.partition(":")[2]
        known = [c.name for c in protocol.channels] if protocol else [channel]
        if not channel or channel not in known:
            return f"role {role!r}: {channel!r} is not a channel of the protocol ({known})"
    section = row.get("section_um", "")
    if section and re.fullmatch(r"\d+([.,]\d+)?", section) is None:
        return f"section_um is {section!r}; a thickness in um such as 5"
    return ""


def _near(name: str, known: Sequence[str]) -> str:
    folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and rows, each with its line's number; cells stripped, empty rows dropped."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ProtocolError(
            f"{path}: there is no such sample sheet; `islet-imaging init FOLDER` drafts one"
        ) from None
    except OSError as error:
        raise ProtocolError(f"{path}: cannot be read: {error.strerror}") from None
    text = _decode(data)
    if "\0" in text:
        raise ProtocolError(f"{path}: not a text file; save the sheet as CSV")
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise ProtocolError(f"{path}: the sample sheet is empty; its first line must be a header")
    separator = max(",;\t", key=lines[0].count)
    try:
        table = list(_rows(text, separator))
    except csv.Error as error:
        raise ProtocolError(f"{path}: not a readable CSV: {error}") from None
    header = [h.strip().strip("\ufeff") for h in table[0][1]]
    folded = [h.casefold() if h.casefold() in COLUMNS else h for h in header]
    missing = [c for c in COLUMNS if c not in folded]
    if missing:
        raise ProtocolError(
            f"{path}: no column {', '.join(missing)}; the header is {header}. A sample sheet has "
            f"{', '.join(COLUMNS)} and any further columns"
        )
    doubled = sorted({h for h in folded if h and folded.count(h) > 1})
    if doubled:
        raise ProtocolError(f"{path}: column {doubled[0]!r} occurs twice")
    if "image" in folded:
        raise ProtocolError(f"{path}: a further column may not be called 'image'; rename it")
    rows = [(n, [c.strip() for c in cells]) for n, cells in table[1:] if any(map(str.strip, cells))]
    while folded and not folded[-1]:
        folded.pop()
    if "" in folded:
        raise ProtocolError(f"{path}: column {folded.index('') + 1} has no name in the header")
    rows = [(n, _trim(cells, len(folded))) for n, cells in rows]
    if not rows:
        raise ProtocolError(f"{path}: the sample sheet has no rows; list the images to score")
    return folded, rows


def _trim(cells: list[str], n: int) -> list[str]:
    """Drop empty cells beyond the header, which spreadsheets like to write."""
    while len(cells) > n and not cells[-1]:
        cells = cells[:-1]
    return cells


def _rows(text: str, separator: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    return [(reader.line_num, row) for row in reader]


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
