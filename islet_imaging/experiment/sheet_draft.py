"""First draft of a sample sheet: what the names of folders and files seem to say of the design.

The idea: a guess that makes the count of independent batches too large is worse than none.  So
wells and positions are never batches, days of a differentiation are conditions of one batch, and
every role that a name suggests is marked ``CHECK``.
It fails where names follow a habit of one laboratory; the column ``note`` says what is a guess.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from islet_imaging.arrays.safe_text import safe_text
from islet_imaging.experiment import design_words as words_of
from islet_imaging.protocol import Protocol
from islet_imaging.reading.listing import ImageFiles
from islet_imaging.reading.multifile import SUFFIXES
from islet_imaging.reading.names import known_dye, known_stain, plain, words


@dataclass
class _Row:
    """What one image's place and name seem to say."""

    condition: list[str]
    batch: list[str]
    well: str
    day: str
    notes: list[str]


def sheet_text(images: Sequence[ImageFiles], protocol: Protocol | None) -> str:
    """Draft the sample sheet of a folder's images as CSV text.

    Parameters
    ----------
    images : sequence of ImageFiles
        From `images_in_folder`.
    protocol : Protocol or None
        Its markers are looked for in names of single stains.

    Returns
    -------
    str
        CSV with file, condition, batch, role, well and day where names show them, and note.
    """
    markers = [c.name for c in protocol.channels if c.role == "marker"] if protocol else []
    folders = [_folders(i.name) for i in images]
    kinds = _kinds(folders)
    rows = [_row(i.name, f, kinds) for i, f in zip(images, folders, strict=True)]
    _days_in_names(rows, images)
    extra = [c for c in ("well", "day") if any(getattr(r, c) for r in rows)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file", "condition", "batch", "role", *extra, "note"])
    for image, row in zip(images, rows, strict=True):
        role = guess_role(image.name, markers, row.notes)
        if not row.batch:
            row.notes.insert(0, "CHECK batch: all are taken for one")
        if not row.condition:
            row.notes.insert(0, "CHECK condition")
        cells = [image.name, "/".join(row.condition) or "all", "/".join(row.batch) or "1", role]
        cells += [getattr(row, c) for c in extra]
        cells.append("; ".join(dict.fromkeys(row.notes)))
        writer.writerow([safe_text(str(c)) for c in cells])
    return buffer.getvalue()


def _folders(name: str) -> tuple[str, ...]:
    """The folders above an image's file; scenes and fields inside a file are none."""
    parts = PurePosixPath(name).parts
    for i, part in enumerate(parts):
        suffix = Path(part).suffix.lower()
        if suffix in SUFFIXES or suffix == ".zarr":
            return parts[:i]
    return parts[:-1]


def _kinds(folders: Sequence[tuple[str, ...]]) -> dict[tuple[int, str], str]:
    """For every folder name of a level: what it is of the design, judged together."""
    out: dict[tuple[int, str], str] = {}
    for level in range(max((len(f) for f in folders), default=0)):
        names = sorted({f[level] for f in folders if len(f) > level})
        below = {f[level + 1] for f in folders if len(f) > level + 1}
        together = _together(names)
        if _are_rows(names, below):
            out |= {(level, n): "row" for n in names} | {(level + 1, n): "column" for n in below}
        for name in names:
            own = words_of.kind(name)
            if own == "well" and 2 * sum(words_of.kind(n) == "well" for n in names) < len(names):
                own = "line"  # H1 among names of lines is one
            out.setdefault((level, name), together if together in _OVER.get(own, ()) else own)
    return out


#: what names together say goes before what each says alone
_OVER = {
    "well": ("day", "line"), "day": ("well",), "batch": ("well",), "repeat": ("well",),
    "date": ("well",), "place": ("well", "day", "passage"), "": ("numbers", "line"),
}  # fmt: skip


def _together(names: Sequence[str]) -> str:
    """What names of one level are together: wells, days, lines, or only numbered."""
    plains = [plain(n) for n in names]
    if len(names) > 1 and set(plains) <= words_of.LINES:
        return "line"
    wells = [m for n in plains if (m := words_of.well(n))]
    if len(wells) == len(names):
        letters = {m[1] or "" for m in wells}
        numbers = [m[2] or "" for m in wells]
        # D14 is a well of a large plate, and far more often the fourteenth day
        padded = all(len(n) != 1 for n in numbers) and any(n.startswith("0") for n in numbers)
        late = any(int(n or 0) > 12 for n in numbers)
        if letters in ({"d"}, {"j"}) and (late or (letters == {"d"} and not padded)):
            return "day"
        if len(letters) > 1 or padded or letters == {""}:
            return "well"
    if len(names) > 1 and all(re.fullmatch(r"s[4-7]|timepoint_?\d+", n) for n in plains):
        return "day"  # stages of a differentiation (series begin at 1), or one field at times
    if all(re.fullmatch(r"p(?:1[5-9]|[2-9]\d)", n) for n in plains):
        return "passage"  # positions begin at 1
    if len(names) > 1 and len({re.sub(r"\d+", "", n) for n in plains}) == 1:
        return "numbers"
    return ""


def _are_rows(names: Sequence[str], below: Collection[str]) -> bool:
    """Whether folders are the rows of a plate, and those in them its columns."""
    rows = all(re.fullmatch("[A-P]", n) for n in names)
    return rows and bool(below) and all(n.isdigit() and 0 < int(n) <= 48 for n in below)


def _row(name: str, folders: tuple[str, ...], kinds: dict[tuple[int, str], str]) -> _Row:
    row = _Row([], [], "", "", [])
    for level, folder in enumerate(folders):
        kind = kinds[level, folder]
        if kind in ("well", "row", "column"):
            row.well += folder
            row.notes.append("CHECK: wells are taken for repeats within one batch")
        elif kind == "day":
            row.day = folder
            row.condition.append(folder)
            row.notes.append("CHECK condition: days are taken for time points of one batch")
        elif kind in ("batch", "repeat"):
            row.batch.append(folder)
            if kind == "repeat":
                row.notes.append("CHECK batch: is each an independent differentiation?")
            if len(folder) <= 3:
                row.notes.append("CHECK batch: or is this a well?")
        elif kind == "date":
            found = words_of.DATE.match(plain(folder))
            rest = found[6] if found and found[6] else ""
            row.batch.append(folder[: len(folder) - len(rest)].rstrip("_ -") if rest else folder)
            row.notes.append("CHECK batch: is each day an independent differentiation?")
            if rest:
                row.condition.append(folder[-len(rest) :])
        elif kind == "part":
            row.notes.append(f"CHECK: {folder!r} is taken for a part of one batch")
        elif kind != "place":
            row.condition.append(folder)
            if kind:
                row.notes.append(f"CHECK condition: or are these {_OR[kind]}?")
    inside = PurePosixPath(name).parts[len(folders) :]
    if not row.well and len(inside) >= 3 and inside[0].lower().endswith(".zarr"):
        row.well = f"{inside[-3]}{inside[-2]}"
    if not row.well:
        in_name = re.search(r"(?:^|[_\- ])([A-P]\d{2})(?=$|[_\- ])", Path(inside[0]).stem)
        plate = re.match(r"r\d{2}c\d{2}(?=f\d)|[A-P](?: ?- ?)?\d{1,2}(?=[_(]|--)", inside[0])
        row.well = in_name[1] if in_name else plate[0] if plate else ""
    return row


#: what folders that became conditions may be in truth
_OR = {
    "numbers": "repeats within one batch", "line": "wells", "passage": "batches",
}  # fmt: skip


def _tokens(images: Sequence[ImageFiles], word: str) -> tuple[list[str], list[str]]:
    """The one word of each image's name that matches, or "", and the names without it."""
    said, rest = [], []
    for image in images:
        name = re.sub(r"(?i)(?:[.](?:ome|tiff?|zarr|png|jpe?g))+$", "", image.name)
        folder, _, own = name.rpartition("/")
        tokens = re.split(r"[_\- ]+", own)
        found = [t for t in tokens if re.fullmatch(word, t, re.IGNORECASE)]
        said.append(found[0] if len(found) == 1 else "")
        rest.append("/".join((folder, *(t for t in tokens if t not in found))))
    return said, rest


def _days_in_names(rows: Sequence[_Row], images: Sequence[ImageFiles]) -> None:
    """Days and time points that the names of all images state become conditions, as folders do."""
    if any(r.day for r in rows):
        return
    said, rest = _tokens(images, r"(?:d|day|tag|jour|dia|div)\d{1,3}")
    if not all(said) or len(set(said)) < 2:
        # time points of one field: its islets must not count once for each
        said, rest = _tokens(images, r"t(?:ime(?:point)?)?\d{1,5}")
        if not all(said) or len(set(said)) < 2 or len(set(rest)) * 2 > len(rest):
            return
    plate = any(re.match(r"[A-P]\d+--W\d", PurePosixPath(i.name).name) for i in images)
    if plate or _together(sorted(set(said))) == "well":
        return
    for row, day in zip(rows, said, strict=True):
        row.day = day
        row.well = "" if row.well == day else row.well
        row.condition.append(day)
        row.notes.append("CHECK condition: days are taken for time points of one batch")


def guess_role(name: str, channels: Sequence[str], notes: list[str]) -> str:
    """The role that an image's name suggests; every guess is noted as ``CHECK role``.

    Parameters
    ----------
    name : str
        The image's name, with its folders.
    channels : sequence of str
        Markers that a single stain may be of.
    notes : list of str
        Gets a line for every guess.

    Returns
    -------
    str

    Examples
    --------
    >>> notes = []
    >>> [guess_role(n, [], notes) for n in ("2ary/a.tif", "GCG-neg/a.tif", "neg control.tif")]
    ['negative_control', 'sample', 'negative_control']
    """
    parts = [Path(p).stem if i else p for i, p in enumerate(reversed(PurePosixPath(name).parts))]
    parts = [re.sub(r"(?i)(?:[.](?:ome|tiff?|zarr|png|jpe?g|czi|lif|nd2))+$", "", p) for p in parts]
    parts = [plain(p) for p in parts]
    if any(words_of.POSITIVE.search(p) for p in parts):
        notes.append("CHECK role: guessed from the name")
        return "positive_control"
    found = {w for p in parts for w in words(p)}
    stains = {known[:2] for p in parts
              for w in re.split(r"[\s_\-]+", p) if (known := known_stain(w))}  # fmt: skip
    hits = [c for c in channels if c.casefold() in found or c in {name for name, _ in stains}]
    single = any(words_of.SINGLE.search(p) for p in parts)
    alone = any(words_of.ONLY.search(p) for p in parts)
    if len(hits) == 1 and (single or alone):
        notes.append("CHECK role: guessed from the name")
        return f"single_stain:{hits[0]}"
    if len(hits) == 1 and any(words_of.ALL_BUT.search(p) for p in parts):
        notes.append(f"CHECK role: taken for a staining without {hits[0]}")
        return f"negative_control:{hits[0]}"
    if single:
        notes.append("CHECK role: a single stain? then single_stain:<channel>")
        return "sample"
    only_dna = alone and any(role == "dna" for _, role in stains)
    if only_dna or any(words_of.NEGATIVE.search(p) or words_of.NEG_ALONE.match(p) for p in parts):
        notes.append("CHECK role: guessed from the name; a control must hold no positive cell")
        return "negative_control"
    if any(words_of.NEG_WORD.search(p) for p in parts):
        notes.append(
            "CHECK role: 'neg' is taken for a population of cells; negative_control if it is a "
            "staining control"
        )
    elif any(words_of.CONTROL.search(p) for p in parts):
        notes.append("CHECK role: negative_control if this is a staining control")
    elif alone and any(map(known_dye, found)):
        notes.append("CHECK role: a single stain, or a secondary antibody alone?")
    return "sample"
