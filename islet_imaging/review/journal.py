"""Human corrections: an append-only journal that outlives crashes, re-scoring and colleagues.

The idea: whatever a person decides about a cell is one line of JSON in ``corrections.jsonl``, on
the disk before the next cell is shown; nothing is ever rewritten, an undo is a further line.  An
edit names the cell by where it lies *and* by its label, so that it finds its cell again when the
images have been scored anew with other labels (`islet_imaging.review.replay`), holds what was
there before, so that raw values are never lost, and carries the hashes of the pixels and of the
nucleus it speaks of (`islet_imaging.review.subject`), so that it lies over no other picture.
A line states its format; format 1, of version 0.1.0, has no hashes and is still read.
It fails, before anything is shown as made, when an edit cannot be put on the disk.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from islet_imaging.arrays.text_masks import decode_mask
from islet_imaging.errors import IsletImagingError
from islet_imaging.review.subject import Subjects

#: of a line; 2 added ``format``, ``pixels`` and ``nucleus``
FORMAT = 2

Action = Literal["call", "exclude", "shape", "regions", "undo"]
CALLS = ("positive", "negative", "unsure")
_ACTIONS = ("call", "exclude", "shape", "regions", "undo")


class JournalError(IsletImagingError):
    """A journal of corrections cannot be used."""


class NewerJournalError(JournalError):
    """A newer version wrote into a journal: what it says is not known here."""


@dataclass(frozen=True)
class Edit:
    """One decision of one person.

    Parameters
    ----------
    who, image : str
        The person; the image's name as in the tables.
    action : {"call", "exclude", "shape", "regions", "undo"}
        A call of one marker; taking a cell out of all fractions or back in; a change of outlines
        (paint, merge, split, delete, add); regions of the image (`islet_imaging.review.regions`);
        taking back an earlier edit.
    cell : int
        The label, 0 for an undo.
    y_px, x_px : float
        The cell's centroid when the edit was made, px: what finds it again after re-scoring.
    marker : str
        For a call.
    before, after : object
        For a call ``"positive" | "negative" | "unsure"``; for an exclusion a bool; for a shape
        lists of ``{"cell", "mask", "row"}`` (see `islet_imaging.arrays.text_masks`;
        ``row`` is the cell's row of the table); for regions ``{"regions", "source"}``.
    undoes : str
        The id of the edit that an undo takes back.
    id, time : str
        Set by themselves: unique id, and UTC time in ISO 8601.
    pixels : tuple of str
        Hashes of the channels that were looked at; set when the edit is written into a run.
    nucleus : str
        Hash of the nucleus as measured; likewise.

    Examples
    --------
    >>> Edit("ana", "a.tif", "call", 3, 10.0, 12.5, "INS", "unsure", "positive").after
    'positive'
    """

    who: str
    image: str
    action: Action
    cell: int = 0
    y_px: float = 0.0
    x_px: float = 0.0
    marker: str = ""
    before: Any = None
    after: Any = None
    undoes: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    pixels: tuple[str, ...] = ()
    nucleus: str = ""

    def __post_init__(self) -> None:
        if self.action not in _ACTIONS:
            raise NewerJournalError(
                f"corrections: unknown action {str(self.action)[:40]!r}; known are "
                f"{', '.join(_ACTIONS)}; the journal was probably written by a newer version: "
                "update islet-imaging"
            )
        if self.action == "call" and (self.after not in CALLS or not self.marker):
            raise JournalError(
                f"corrections: a call needs a marker and one of {', '.join(CALLS)}; "
                f"got {self.marker!r}, {self.after!r}"
            )
        if self.action == "undo" and not self.undoes:
            raise JournalError("corrections: an undo must name the edit it takes back")

    def to_line(self) -> str:
        """One line of JSON, without the line break."""
        record = {"format": FORMAT, **{n: getattr(self, n) for n in _FIELDS}}
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_record(cls, record: Any) -> Edit:
        """The edit of a line of the journal.

        Raises
        ------
        TypeError, ValueError
            If the line holds what no edit holds.
        JournalError
            If a newer version wrote it.
        """
        if not isinstance(record, Mapping):
            raise TypeError("a line is a mapping")
        version = record.get("format", 1)
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise TypeError("the format is no number")
        if version > FORMAT:
            raise NewerJournalError(
                f"corrections: a line of format {version}; this version reads 1 to {FORMAT}: "
                "update islet-imaging"
            )
        given = {k: record[k] for k in _FIELDS if k in record}
        for name in _TEXTS:
            if not isinstance(given.get(name, ""), str):
                raise TypeError(f"{name} is no text")
        if not given.get("id") or not given.get("time"):
            raise TypeError("an edit has an id and a time")
        pixels = given.get("pixels", ())
        if not isinstance(pixels, list | tuple) or not all(isinstance(p, str) for p in pixels):
            raise TypeError("pixels are a list of hashes")
        given["pixels"] = tuple(pixels)
        cell = given.get("cell", 0)
        if not isinstance(cell, int) or isinstance(cell, bool) or not 0 <= cell < 2**31:
            raise TypeError("cell is no label")
        for name in ("y_px", "x_px"):
            place = given.get(name, 0.0)
            if not isinstance(place, int | float) or isinstance(place, bool):
                raise TypeError(f"{name} is no number")
            given[name] = float(place)
            if not math.isfinite(given[name]):
                raise ValueError(f"{name} is not finite")
        if given.get("action") == "exclude" and not isinstance(given.get("after"), bool):
            raise TypeError("an exclusion is true or false")
        if given.get("action") == "regions":
            _check_regions(given.get("after"))
        if given.get("action") == "shape":
            for name in ("before", "after"):
                _check_shapes(given.get(name))
        return cls(**given)


_FIELDS = tuple(f.name for f in dataclasses.fields(Edit))
_TEXTS = ("who", "image", "action", "marker", "undoes", "id", "time", "nucleus")


def _check_shapes(shapes: Any) -> None:
    """Raise unless these are outlines with the rows of their cells."""
    for shape in shapes or ():
        if not isinstance(shape, Mapping) or not isinstance(shape.get("row") or {}, Mapping):
            raise TypeError("an outline is a mapping")
        cell = shape.get("cell")
        if not isinstance(cell, int) or isinstance(cell, bool) or not 0 <= cell < 2**31:
            raise TypeError("an outline needs its cell")
        if not all(isinstance(k, str) for k in shape.get("row") or {}):
            raise TypeError("columns are named by text")
        for name in ("y_px", "x_px"):
            place = (shape.get("row") or {}).get(name, 0.0)
            if not isinstance(place, int | float) or not math.isfinite(place):
                raise TypeError(f"{name} is no number")
        mask = shape.get("mask")
        if mask is None:
            continue
        box = mask.get("box") if isinstance(mask, Mapping) else None
        if not isinstance(box, list) or len(box) != 4 or not all(type(v) is int for v in box):
            raise TypeError("a mask has a box of four whole numbers")
        if min(box) < 0 or max(box) > 2**31 or box[2] * box[3] > 2**28:
            raise ValueError("a mask of no possible size")
        if not isinstance(mask.get("runs"), list):
            raise TypeError("a mask has runs")
        decode_mask(mask)


def _check_regions(after: Any) -> None:
    """Raise unless these are regions with outlines (`islet_imaging.review.regions`)."""
    if not isinstance(after, Mapping) or not isinstance(after.get("regions"), list):
        raise TypeError("regions are a list")
    if not isinstance(after.get("source", ""), str):
        raise TypeError("the source of regions is a hash")
    for region in after["regions"]:
        if not isinstance(region, Mapping) or not isinstance(region.get("name"), str):
            raise TypeError("a region has a name")
        if region.get("kind") not in ("islet", "left_out"):
            raise ValueError("a region is an islet or left out")
        rings = region.get("rings")
        if not isinstance(rings, list) or not rings:
            raise TypeError("a region has rings")
        for ring in rings:
            if not isinstance(ring, list) or len(ring) < 3:
                raise TypeError("a ring has three corners")
            for corner in ring:
                if not isinstance(corner, list) or len(corner) != 2 or not all(
                    isinstance(v, int | float) and math.isfinite(v) for v in corner
                ):  # fmt: skip
                    raise ValueError("a corner is two numbers")


class Journal:
    """The file of edits of a run.

    Every `append` is on the disk (``fsync``) when it returns.  A line that was torn by a crash or a
    full disk, or holds what no edit holds, is left out on reading and named in `damaged`; what
    follows it is kept.  In a run folder an edit that does not say so itself gets the hashes of the
    pixels and of the nucleus that the run knew when this journal was first used.

    Parameters
    ----------
    path : path
        ``corrections.jsonl``; it need not exist.

    Examples
    --------
    >>> import tempfile
    >>> journal = Journal(Path(tempfile.mkdtemp()) / "corrections.jsonl")
    >>> first = journal.append(Edit("ana", "a.tif", "exclude", 3, 1.0, 2.0, "", False, True))
    >>> _ = journal.append(Edit("ana", "a.tif", "undo", undoes=first.id))
    >>> len(journal.edits()), len(effective(journal.edits()))
    (2, 0)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._subjects = Subjects(self.path.parent)
        #: numbers of the lines (from 1) that were unreadable at the last reading
        self.damaged: tuple[int, ...] = ()

    def append(self, edit: Edit) -> Edit:
        """Write one edit to the disk and return it.

        Raises
        ------
        JournalError
            If it cannot be written: then the edit must not be shown as made.
        """
        if edit.action != "undo" and not edit.pixels:
            nucleus = edit.nucleus
            if edit.action != "regions":
                nucleus = nucleus or self._subjects.nucleus(
                    edit.image, edit.cell, edit.y_px, edit.x_px
                )
            pixels = self._subjects.pixels(edit.image)
            edit = dataclasses.replace(edit, pixels=pixels, nucleus=nucleus)
        new = not self.path.exists()
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                torn = size > 0 and _last_byte(descriptor, size) != b"\n"
                # one write, so that two windows on one run never interleave within a line
                data = (("\n" if torn else "") + edit.to_line() + "\n").encode()
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise JournalError(
                f"{self.path}: the correction could not be saved ({error.strerror or error}). "
                "It was not applied. Free space or check the folder's permissions, then try again"
            ) from error
        return edit

    def edits(self) -> list[Edit]:
        """Every edit in the order of writing, undone ones included.

        Raises
        ------
        JournalError
            If the file cannot be read, or a newer version wrote into it.
        """
        self._subjects.look()
        self.damaged = ()
        try:
            if self.path.exists() and not self.path.is_file():
                raise JournalError(f"{self.path}: this is not a file")
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError(
                f"{self.path}: the corrections cannot be read ({error.strerror or error})"
            ) from error
        found: list[Edit] = []
        damaged: list[int] = []
        for number, line in enumerate(data.split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                found.append(Edit.from_record(json.loads(line)))
            except NewerJournalError:
                raise
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                damaged.append(number)
        self.damaged = tuple(damaged)
        return found


def _last_byte(descriptor: int, size: int) -> bytes:
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    last = os.read(descriptor, 1)
    os.lseek(descriptor, position, os.SEEK_SET)
    return last


def _sync_folder(folder: Path) -> None:
    """Make the new file's name durable too, where the system lets folders be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def merge_journals(*journals: Iterable[Edit]) -> list[Edit]:
    """Several people's edits as one list: each edit once, ordered by time.

    Examples
    --------
    >>> a = Edit("ana", "a.tif", "exclude", 1, 0.0, 0.0, "", False, True, time="2026-01-02")
    >>> b = Edit("bo", "a.tif", "exclude", 1, 0.0, 0.0, "", True, False, time="2026-01-01")
    >>> [e.who for e in merge_journals([a], [b, a])]
    ['bo', 'ana']
    """
    by_id = {edit.id: edit for journal in journals for edit in journal}
    return sorted(by_id.values(), key=lambda edit: edit.time)


def effective(edits: Iterable[Edit], *, who: str | None = None) -> list[Edit]:
    """The edits that hold: undone ones and undos left out; of one person if ``who`` is given."""
    everything = list(edits)
    undos: dict[str, list[str]] = {}
    for edit in everything:
        if edit.action == "undo":
            undos.setdefault(edit.undoes, []).append(edit.id)
    held: dict[str, bool] = {}
    for edit in everything:
        _settle(edit.id, undos, held)
    return [
        e for e in everything if e.action != "undo" and (who is None or e.who == who) and held[e.id]
    ]


def _settle(identity: str, undos: Mapping[str, list[str]], held: dict[str, bool]) -> None:
    """Find whether an edit holds: none of those that undo it does."""
    # an undo may itself be undone, thousands of times; pasted journals may even hold a circle
    stack = [identity]
    open_ = set(stack)
    while stack:
        one = stack[-1]
        waiting = [o for o in undos.get(one, ()) if o not in held and o not in open_]
        if one in held or not waiting:
            held.setdefault(one, not any(held.get(o, False) for o in undos.get(one, ())))
            stack.pop()
            open_.discard(one)
        else:
            stack.append(waiting[0])
            open_.add(waiting[0])
