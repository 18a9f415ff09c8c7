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
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from islet_imaging.arrays.safe_text import plain_text
from islet_imaging.errors import ProtocolError
from islet_imaging.protocol import ROLES, Protocol, Reading
from islet_imaging.reading.listing import ImageFiles, Listing, Skipped, list_images
from islet_imaging.reading.multifile import SUFFIXES

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("file", "condition", "batch", "role")
_SINGLE = "single_stain:"
_OF_ONE = (_SINGLE, "negative_control:")
#: what a draft writes into the note of a role that it guessed; whoever checked it takes it away
_GUESSED = "CHECK role"


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
    #: files of nuclei, cells and regions that go with it (`given_files.with_given`)
    given: Mapping[str, Path] = field(default_factory=dict)

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
    #: what the folder holds and is not scored, with the reason
    skipped: tuple[Skipped, ...] = ()
    #: rows whose role a draft guessed from the image's name and nobody has confirmed
    guessed: tuple[str, ...] = ()

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
        The folder.  Hidden files, folders of runs, thumbnails, projections beside their stacks and
        linked folders are left out; `listing_of` says which and why.
    protocol : Protocol, optional
        With ``reading.file_pattern`` files are grouped into images, named by what the pattern's
        groups match; files that do not match are not listed.

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
    return listing_of(folder, protocol).images


def listing_of(
    folder: str | Path, protocol: Protocol | None = None, waiting: Collection[Path] = ()
) -> Listing:
    """Images of a folder as `images_in_folder` gives them, and what was skipped, with reasons."""
    reading = protocol.reading if protocol else Reading()
    return list_images(folder, reading.file_pattern, reading.include, reading.exclude, waiting)


def samples_without_sheet(
    folder: str | Path, protocol: Protocol | None = None, waiting: Collection[Path] = ()
) -> SampleSheet:
    """Every image of a folder as a sample of one unnamed condition and batch."""
    listing = listing_of(folder, protocol, waiting)
    samples = tuple(Sample(i.name, i.paths) for i in listing.images)
    return SampleSheet(samples, skipped=tuple(listing.skipped))


def read_samples(
    sheet: str | Path,
    folder: str | Path,
    protocol: Protocol | None = None,
    waiting: Collection[Path] = (),
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
    waiting : collection of Path
        Files that are still being written: their rows are problems that say so.

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
    listing = listing_of(root, protocol, waiting)
    images = {_folded(i.name): i for i in listing.images}
    by_file: dict[str, ImageFiles] = {}
    several: dict[str, list[str]] = {}
    for image in listing.images:
        for p in (*image.paths, *image.members):
            relative = _folded(p.relative_to(root).as_posix())
            by_file.setdefault(relative, image)
            several.setdefault(relative, []).append(image.name)
    left_out = {_folded(s.name): s.why for s in listing.skipped}
    if protocol is None or protocol.reading.file_pattern is None:
        # what was left out for its name counts where the sheet asks for it
        for s in listing.skipped:
            if s.by_name:
                by_file[_folded(s.name)] = ImageFiles(s.name, (root / s.name,))
    good: list[Sample] = []
    problems: list[SampleProblem] = []
    seen: dict[str, list[int]] = {}
    for number, cells in rows:
        row = dict(zip(header, cells, strict=False))
        name = row.get("file", "").replace("\\", "/").removeprefix("./")
        key = _folded(name)
        found = images.get(key) or by_file.get(key)
        image_name = found.name if found else name[:200]
        wrong = _wrong(row, len(cells), len(header), protocol)
        if not wrong and key not in images and len(several.get(key, ())) > 1:
            wrong = (
                f"{name!r} holds {len(several[key])} images; name one, such as {several[key][0]!r}"
            )
        if not wrong and found is None:
            wrong = _not_found(name, root, left_out.get(key, ""), [*images, *by_file])
        # the same file twice is noticed even where one row has another fault
        if name:
            seen.setdefault(image_name, []).append(number)
        fields = {k: row.get(k, "") for k in COLUMNS[1:]}
        if wrong or found is None:
            problems.append(
                SampleProblem(number, image_name, f"{path.name} row {number}: {wrong}", **fields)
            )
        else:
            more = {k: row.get(k, "") for k in extra}
            who = (fields["condition"], fields["batch"], fields["role"])
            good.append(Sample(found.name, found.paths, *who, row=number, extra=more))
    for named, numbers in seen.items():
        if len(numbers) > 1:
            rows_text = ", ".join(map(str, numbers))
            message = f"{path.name} rows {rows_text} all name the image {named!r}; keep one"
            problems = [p for p in problems if p.image != named]
            problems.append(SampleProblem(numbers[0], named, message))
            good = [s for s in good if s.image != named]
    _one_spelling(path, good)
    scored = {s.image for s in good}
    left = [s for s in listing.skipped if s.name not in scored]
    unlisted = [Skipped(i.name, f"not in {path.name}") for i in listing.images
                if i.name not in scored and i.name not in seen]  # fmt: skip
    return SampleSheet(
        tuple(good),
        tuple(sorted(problems, key=lambda p: p.row)),
        extra,
        tuple(sorted([*left, *unlisted], key=lambda s: s.name)),
        tuple(f"{s.image} ({s.role})" for s in good if _GUESSED in s.extra.get("note", "")),
    )


def _folded(name: str) -> str:
    """A name in the one form of its accents that all comparisons use."""
    return unicodedata.normalize("NFC", name)


def _not_found(name: str, root: Path, skipped: str, known: Sequence[str]) -> str:
    """Why a row's file is no image of the folder."""
    shown = name if len(name) <= 120 else f"{name[:60]}...{name[-40:]}"
    try:
        there = (root / name).exists()
    except (OSError, ValueError):  # a name that no file system takes
        return f"{shown!r} ({len(name)} characters) cannot be a file's name"
    if skipped:
        return f"{shown!r} is left out: {skipped}"
    if not there:
        return f"there is no file {shown!r} in {root}{_near(name, known)}"
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return f"{shown!r} lies outside of the scored folder; give a path relative to it"
    return (
        f"{shown!r} is not listed as an image: its suffix is not one of "
        f"{', '.join(SUFFIXES)}, or it lies in a run's folder or in a linked one"
    )


def _one_spelling(path: Path, samples: Sequence[Sample]) -> None:
    """Refuse a batch or condition that is written in two ways that look like one."""
    for column in ("batch", "condition"):
        known: dict[str, str] = {}
        for sample in samples:
            value = getattr(sample, column)
            key = unicodedata.normalize("NFKC", " ".join(value.split())).casefold()
            first = known.setdefault(key, value)
            if first != value:
                raise ProtocolError(
                    f"{path}: {column} is written {first!r} and {value!r}; they would count as "
                    "two. Write it in one way, or name them apart"
                )


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
    rows = [
        (n, [plain_text(c.strip()) for c in cells])
        for n, cells in table[1:]
        if any(map(str.strip, cells))
    ]
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
