"""What scoring a folder into a run folder would do, image by image, and why.

The idea: the ledger makes the same plan as scoring and holds it against the records of what was
measured before.  A record keeps what its key is the hash of part by part, so a changed input,
protocol, network or version is named.  Nothing is written.
It fails to foresee what only the pixels tell: an image that turns out to be damaged, a duplicate,
a blocking flag.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.run.folder import Run
from islet_imaging.run.measurements import Record, read_record
from islet_imaging.run.rows import rows_of
from islet_imaging.scoring.fingerprints import Inputs
from islet_imaging.scoring.plan import Plan, make_plan, requested, same_run, tasks_of

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.experiment.sample_sheet import Sample
    from islet_imaging.run.rows import ImageRow
    from islet_imaging.scoring.task import Task

#: what would become of an image
Action = Literal["measure", "keep", "refuse", "leave out", "drop"]

#: parts of a key that need no number or name beside
_OWN = {
    "input": "input changed",
    "sheet": "its row of the sample sheet changed",
    "given nuclei": "given nuclei changed",
    "given cells": "given cells changed",
    "flat field": "flat field changed",
    "device": "device changed",
}


@dataclass(frozen=True)
class Entry:
    """What would be done with one image, and why."""

    image: str
    action: Action
    reason: str

    def __str__(self) -> str:
        return f"{self.action:<9}  {self.image}: {self.reason}"


@dataclass(frozen=True)
class Ledger:
    """What scoring would do.

    Parameters
    ----------
    entries : tuple of Entry
        Sorted by action, then by name.  ``measure``: new, or changed as the reason says; ``keep``:
        measured before under the same key; ``refuse``: would be reported as failed; ``leave out``:
        no input; ``drop``: in the tables of the run that is there, and in this one no more.
    tables_kept : bool
        Whether the finished run would stay as it is, tables and report included.
    """

    entries: tuple[Entry, ...]
    tables_kept: bool

    def count(self, action: Action) -> int:
        """How many images have an action."""
        return sum(e.action == action for e in self.entries)

    def to_frame(self) -> pd.DataFrame:
        """The entries as a table: image, action, reason."""
        import pandas as pd

        rows = [(e.image, e.action, e.reason) for e in self.entries]
        return pd.DataFrame(rows, columns=["image", "action", "reason"], dtype=object)

    def __str__(self) -> str:
        """Counts in one sentence, with the reasons of what would be measured."""
        why = Counter(e.reason.partition(":")[0] for e in self.entries if e.action == "measure")
        reasons = f" ({', '.join(f'{n} {word}' for word, n in why.most_common())})" if why else ""
        said = [
            f"{n} {words}{reasons if action == 'measure' else ''}"
            for action, words in (
                ("measure", "to measure"),
                ("keep", "up to date"),
                ("refuse", "refused"),
                ("leave out", "left out"),
                ("drop", "not there any more"),
            )
            if (n := self.count(action)) or action == "measure"  # type: ignore[arg-type]
        ]
        tables = "stay as they are" if self.tables_kept else "would be made"
        return f"{', '.join(said)}; tables and report {tables}"


def scoring_ledger(
    folder: str | Path,
    out: str | Path,
    *,
    protocol: Protocol | str | Path | None = None,
    samples: str | Path | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    nuclei: str | Path | None = None,
    cells: str | Path | None = None,
    regions: str | Path | None = None,
    device: str = "auto",
) -> Ledger:
    """Say what `score_folder` would do with each image of a folder, and write nothing.

    Parameters
    ----------
    folder, out, protocol, samples, include, exclude, nuclei, cells, regions
        As for `score_folder`; the run folder need not exist.
    device : str
        As for `score_folder`.

    Returns
    -------
    Ledger

    Raises
    ------
    IsletImagingError
        As `score_folder` would.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from islet_imaging import score_folder, scoring_ledger
    >>> from islet_imaging.phantom import write_experiment
    >>> folder = Path(tempfile.mkdtemp())
    >>> sheet = write_experiment(folder / "stainings", n_conditions=1, n_batches=1, n_islets=1,
    ...                          controls=False, shape=(160, 160))
    >>> print(scoring_ledger(folder / "stainings", folder / "run").entries[0])
    measure    batch1/untreated/islet01.ome.tif: new
    >>> run = score_folder(folder / "stainings", folder / "run", workers=1)
    >>> print(scoring_ledger(folder / "stainings", folder / "run"))
    0 to measure, 1 up to date, 1 left out; tables and report stay as they are
    """
    request = requested(
        folder,
        out,
        protocol=protocol,
        samples=samples,
        include=include,
        exclude=exclude,
        nuclei=nuclei,
        cells=cells,
        regions=regions,
    )
    out, sheet = request.out, request.sheet
    records = {s.image: r for s in sheet.samples if (r := read_record(out, s.image)) is not None}
    # what was never measured needs no hash to be new, but what is fitted over all images does
    how = request.protocol.correction
    fitted = how.flat_field == "auto" or how.bleed_through == "controls"
    inputs = Inputs(
        sheet, request.folder, out, only=None if fitted else set(records), remember=False
    )
    plan = make_plan(request, device, inputs=inputs)
    kept = len(records) == len(sheet.samples) and same_run(out, plan.key) is not None
    with tempfile.TemporaryDirectory(prefix="islet-imaging-") as scratch:
        _, tasks = tasks_of(plan, Path(scratch))
    before = _rows_before(out)
    entries = [
        _entry(plan, sample, task, records.get(task.image), before.get(task.image))
        for sample, task in zip(sheet.samples, tasks, strict=True)
    ]
    entries += [Entry(p.image, "refuse", p.message) for p in sheet.problems]
    entries += [Entry(s.name, "leave out", s.why) for s in sheet.skipped]
    named = {e.image for e in entries}
    entries += [
        Entry(image, "drop", "in the tables of the run so far, and not in this folder or sheet")
        for image in before
        if image not in named
    ]
    order = ("refuse", "measure", "keep", "leave out", "drop")
    entries.sort(key=lambda e: (order.index(e.action), e.image))
    return Ledger(tuple(entries), kept)


def _rows_before(out: Path) -> dict[str, ImageRow]:
    """Rows of the finished run that lies there, by image."""
    if not (out / "provenance.json").exists():
        return {}
    try:
        return {r.image: r for r in rows_of(Run.open(out).provenance)}
    except IsletImagingError:
        return {}


def _entry(
    plan: Plan, sample: Sample, task: Task, record: Record | None, row: ImageRow | None
) -> Entry:
    if record is None:
        if row is not None and row.status == "failed":
            return Entry(task.image, "measure", f"failed the last time: {row.message}")
        return Entry(task.image, "measure", "new")
    for path in plan.inputs.measured(sample):
        if (fault := plan.inputs.stamps[str(path)].get("error")) is not None:
            return Entry(task.image, "refuse", f"cannot be read: {fault}")
    if record.key != task.key:
        return Entry(task.image, "measure", changed(record.parts, task.parts))
    if not record.holds(plan.out, task.image):
        return Entry(task.image, "measure", "its measurements are gone or damaged")
    return Entry(task.image, "keep", "up to date")


def changed(before: Mapping[str, Any], now: Mapping[str, str]) -> str:
    """What of a key's parts is another than before, in words.

    Examples
    --------
    >>> changed({"input": "a", "numpy": "2.1", "protocol nuclei": "b"},
    ...         {"input": "c", "numpy": "2.2", "protocol nuclei": "b"})
    'input changed, version changed: numpy 2.1 to 2.2'
    """
    if not before:
        return "version changed: measured by one that kept no account"
    differ = [n for n in sorted({*before, *now}) if before.get(n) != now.get(n)]
    said = [words for name, words in _OWN.items() if name in differ]
    for kind in ("protocol", "network"):
        start = f"{kind} "
        if named := [n.removeprefix(start) for n in differ if n.startswith(start)]:
            said.append(f"{kind} changed: {', '.join(named)}")
    versions = [n for n in differ if n not in _OWN and not n.startswith(("protocol ", "network "))]
    if versions:
        steps = [f"{n} {before.get(n, 'none')} to {now.get(n, 'none')}" for n in versions]
        said.append(f"version changed: {', '.join(steps)}")
    return ", ".join(said)
