"""Human corrections: an append-only journal that outlives crashes, re-scoring and colleagues.

The idea: whatever a person decides about a cell is one line of JSON in ``corrections.jsonl``, on
the disk before the next cell is shown; nothing is ever rewritten, an undo is a further line.  An
edit names the cell by where it lies *and* by its label, so that it finds its cell again when the
images have been scored anew with other labels (`islet_imaging.review.replay`), and holds what
was there before, so that raw values are never lost.
It fails, before anything is shown as made, when an edit cannot be put on the disk.
"""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from islet_imaging.errors import IsletImagingError

Action = Literal["call", "exclude", "shape", "undo"]
CALLS = ("positive", "negative", "unsure")
_ACTIONS = ("call", "exclude", "shape", "undo")


class JournalError(IsletImagingError):
    """A journal of corrections cannot be used."""


@dataclass(frozen=True)
class Edit:
    """One decision of one person.

    Parameters
    ----------
    who, image : str
        The person; the image's name as in the tables.
    action : {"call", "exclude", "shape", "undo"}
        A call of one marker; taking a cell out of all fractions or back in; a change of outlines
        (paint, merge, split, delete, add); taking back an earlier edit.
    cell : int
        The label, 0 for an undo.
    y_px, x_px : float
        The cell's centroid when the edit was made, px: what finds it again after re-scoring.
    marker : str
        For a call.
    before, after : object
        For a call ``"positive" | "negative" | "unsure"``; for an exclusion a bool; for a shape
        lists of ``{"cell", "mask", "row"}`` (see `islet_imaging.arrays.text_masks`;
        ``row`` is the cell's row of the table).
    undoes : str
        The id of the edit that an undo takes back.
    id, time : str
        Set by themselves: unique id, and UTC time in ISO 8601.

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

    def __post_init__(self) -> None:
        if self.action not in _ACTIONS:
            raise JournalError(
                f"corrections: unknown action {self.action!r} (known: {', '.join(_ACTIONS)}); "
                "the journal was probably written by a newer version: update islet-imaging"
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
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, separators=(",", ":"))


class Journal:
    """The file of edits of a run.

    Every `append` is on the disk (``fsync``) when it returns.  A last line that was torn by a crash
    or a full disk is skipped on reading and named in `damaged`; what follows it is kept.

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
        #: numbers of the lines (from 1) that were unreadable at the last reading
        self.damaged: tuple[int, ...] = ()

    def append(self, edit: Edit) -> Edit:
        """Write one edit to the disk and return it.

        Raises
        ------
        JournalError
            If it cannot be written: then the edit must not be shown as made.
        """
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
        """Every edit in the order of writing, undone ones included."""
        if not self.path.exists():
            return []
        found: list[Edit] = []
        damaged: list[int] = []
        names = {f.name for f in dataclasses.fields(Edit)}
        for number, line in enumerate(self.path.read_bytes().split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                edit = Edit(**{k: v for k, v in record.items() if k in names})
            except (UnicodeDecodeError, json.JSONDecodeError, AttributeError, TypeError):
                damaged.append(number)
                continue
            found.append(edit)
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

    def undone(identity: str) -> bool:
        # an undo may itself be undone; a journal pasted together by hand may even hold a circle
        seen: set[str] = set()

        def visit(one: str) -> bool:
            if one in seen:
                return False
            seen.add(one)
            return any(not visit(other) for other in undos.get(one, ()))

        return visit(identity)

    return [
        e
        for e in everything
        if e.action != "undo" and (who is None or e.who == who) and not undone(e.id)
    ]
