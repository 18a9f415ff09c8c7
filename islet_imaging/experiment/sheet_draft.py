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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from islet_imaging.arrays.safe_text import safe_text
from islet_imaging.protocol import Protocol
from islet_imaging.reading.listing import ImageFiles
from islet_imaging.reading.multifile import SUFFIXES
from islet_imaging.reading.names import known_stain, words

_BATCH = re.compile(
    r"^(?:batch|diff(?:erentiation)?|rep(?:licate)?|exp(?:eriment)?|run|donor|prep|n|b|r)"
    r"[ _\-]?\d+$|^\d{6,8}$|^\d{4}-\d\d-\d\d$",
    re.IGNORECASE,
)
#: a well of a plate of 6 to 384: B2, B02, P24; or row and column by number
_WELL = re.compile(r"^(?:well[ _\-]?)?([A-P])[ _\-]?(\d{1,2})$|^r\d{2}c\d{2}$", re.IGNORECASE)
_DAY = re.compile(
    r"^(?:s(?:tage)?[ _\-]?\d[ _\-]?)?(?:d|day|tag|jour|dia)[ _\-]?(\d{1,3})$"
    r"|^(?:w|wk|week)[ _\-]?\d{1,2}$",
    re.IGNORECASE,
)
#: places within a well or slide, and what instruments call folders
_PLACE = re.compile(
    r"^(?:pos(?:ition)?|site|field|fov|xy|scan|tile|timepoint|zstep|s|f|p|series|image|images|img|"
    r"tif|tiff|raw|data|default|ome)[ _\-]?\d*$|^\d+-pos",
    re.IGNORECASE,
)
_POSITIVE = re.compile(r"(?i)(?:^|[^a-z])pos(?:itive)?[\s_\-]*(?:control|ctrl|ctl)(?:$|[^a-z])")
#: stainings without a primary antibody, or without any
_NEGATIVE = re.compile(
    r"(?i)(?:^|[^a-z0-9])(?:"
    r"(?:secondary|2(?:nd)?[\s_\-]?ary|2°|sec(?:ondary)?[\s_\-]?(?:ab|antibody)?[\s_\-]?only|"
    r"2nd(?:[\s_\-]?(?:ab|only|antibody))*)|"
    r"(?:no|w/?o|without|minus)[\s_\-]*(?:primary|prim|1st|1°|1(?:st)?[\s_\-]?ary|primary[\s_\-]?ab|"
    r"first[\s_\-]?antibody|antibody|ab)|"
    r"unstained|isotype|igg|blank|"
    r"neg(?:ative)?[\s_\-]*(?:control|ctrl|ctl|contr|c)"
    r")(?=$|[^a-z]|only|\d)"
)
#: "negative" that stands alone is a control; behind a marker it is a sorted population
_NEG_ALONE = re.compile(r"(?i)^neg(?:ative)?(?=$|[\s_\-.]*\d*$)")
_NEG_WORD = re.compile(r"(?i)(?:^|[^a-z])neg(?:ative)?(?:$|[^a-z])")
_SINGLE = re.compile(r"(?i)(?:^|[^a-z])single(?:[\s_\-]*stain(?:ed|ing)?)?(?:$|[^a-z])")
_CONTROL = re.compile(r"(?i)(?:^|[^a-z])(?:control|ctrl|ctl)(?:$|[^a-z])")


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
    """For every folder name of a level: batch, well, day, place, or nothing, judged together."""
    out: dict[tuple[int, str], str] = {}
    for level in range(max((len(f) for f in folders), default=0)):
        names = sorted({f[level] for f in folders if len(f) > level})
        wells = [m for n in names if (m := _WELL.match(n))]
        letters = {(m[1] or "").upper() for m in wells}
        numbers = [m[2] or "" for m in wells]
        days = [n for n in names if _DAY.match(n)]
        all_wells = len(wells) == len(names) and all(0 < int(n or 1) <= 24 for n in numbers)
        # D14 is a well of a large plate, and far more often the fourteenth day
        padded = all(len(n) != 1 for n in numbers) and any(n.startswith("0") for n in numbers)
        late = any(int(n or 0) > 12 for n in numbers)
        only_d = letters == {"D"} and len(days) == len(names)
        for name in names:
            kind = ""
            if all_wells and (len(letters) > 1 or (padded and not (only_d and late))):
                kind = "well"
            elif _DAY.match(name):
                kind = "day"
            elif _BATCH.match(name):
                kind = "batch"
            elif _WELL.match(name):
                kind = "well"
            elif _PLACE.match(name):
                kind = "place"
            out[level, name] = kind
    return out


def _row(name: str, folders: tuple[str, ...], kinds: dict[tuple[int, str], str]) -> _Row:
    row = _Row([], [], "", "", [])
    for level, folder in enumerate(folders):
        kind = kinds[level, folder]
        if kind == "well":
            row.well = folder
            row.notes.append("CHECK: wells are taken for repeats within one batch")
        elif kind == "day":
            row.day = folder
            row.condition.append(folder)
            row.notes.append("CHECK condition: days are taken for time points of one batch")
        elif kind == "batch":
            row.batch.append(folder)
            if len(folder) <= 3:
                row.notes.append("CHECK batch: or is this a well?")
        elif kind != "place":
            row.condition.append(folder)
    inside = PurePosixPath(name).parts[len(folders) :]
    if not row.well and len(inside) >= 3 and inside[0].lower().endswith(".zarr"):
        row.well = f"{inside[-3]}{inside[-2]}"
    if not row.well:
        in_name = re.search(r"(?:^|[_\- ])([A-P]\d{2})(?=$|[_\- ])", Path(inside[0]).stem)
        plate = re.match(r"r\d{2}c\d{2}(?=f\d)", inside[0])
        row.well = in_name[1] if in_name else plate[0] if plate else ""
    return row


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
    parts = [re.sub(r"(?i)[.](?:ome|tiff?|png|jpe?g|czi|lif|nd2)$", "", p) for p in parts]
    if any(_POSITIVE.search(p) for p in parts):
        notes.append("CHECK role: guessed from the name")
        return "positive_control"
    if any(_SINGLE.search(p) for p in parts):
        found = {w for p in parts for w in words(p)}
        stains = {known[0] for p in parts
                  for w in re.split(r"[\s_\-]+", p) if (known := known_stain(w))}  # fmt: skip
        hits = [c for c in channels if c.casefold() in found or c in stains]
        if len(hits) == 1:
            notes.append("CHECK role: guessed from the name")
            return f"single_stain:{hits[0]}"
        notes.append("CHECK role: a single stain? then single_stain:<channel>")
        return "sample"
    if any(_NEGATIVE.search(p) or _NEG_ALONE.match(p) for p in parts):
        notes.append("CHECK role: guessed from the name; a control must hold no positive cell")
        return "negative_control"
    if any(_NEG_WORD.search(p) for p in parts):
        notes.append(
            "CHECK role: 'neg' is taken for a population of cells; negative_control if it is a "
            "staining control"
        )
    elif any(_CONTROL.search(p) for p in parts):
        notes.append("CHECK role: negative_control if this is a staining control")
    return "sample"
