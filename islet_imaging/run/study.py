"""Several runs as one study: statistics over all their batches, their cells as one data set.

The idea: a screen is scored as many runs, one for each staining run, on whatever machines there
are; what is counted, and nothing that was measured, is read from each and summarised together, as
one run of all images would be.  Cells stay in parts, one for each run, which readers of Parquet
take for one table.  Runs of other settings, versions or networks are refused, and so is an image
that two of them count.
It fails where runs call one batch by two names, or two by one: that is the sample sheets' to say.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Protocol, Statistics
from islet_imaging.run.cell_parts import narrow
from islet_imaging.run.files import write_table, write_text
from islet_imaging.run.folder import Run
from islet_imaging.run.proof import hash_file
from islet_imaging.run.rows import ImageRow, rows_of
from islet_imaging.run.study_tables import study_tables
from islet_imaging.run.tables import sheet_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from islet_imaging.statistics.tally import Tally

#: by this file a study is known
FACTS = "study.json"
#: what must be the same in all runs, with the words for it
_ALIKE = {"islet_imaging": "version", "models": "networks", "weights": "networks' weights"}


def combine_runs(
    runs: Sequence[Run | str | Path], out: str | Path, *, statistics: Statistics | None = None
) -> dict[str, pd.DataFrame]:
    """Join finished runs: statistics over all their batches, and all their cells.

    Parameters
    ----------
    runs : sequence of Run or path
        Run folders of one protocol, with distinct images.
    out : path
        Folder to write; an earlier study in it is replaced.
    statistics : Statistics, optional
        How to count and compare; by default as the runs' protocol says.

    Returns
    -------
    dict of str to DataFrame
        ``summary``, ``batches``, ``images``, ``islets``, ``comparisons``, ``composition``,
        ``variance`` and ``levels``, as of one run of all images; images and islets have the run's
        name in front.  They are in ``out`` as CSV, beside ``cells.parquet``, a folder of one part
        for each run (``run=NAME``), ``protocol.yaml`` and ``study.json``.

    Raises
    ------
    IsletImagingError
        If fewer than two runs are given, one is none or has corrections that its tables lack, they
        are of different protocols, versions or networks, or two of them count the same image.

    Examples
    --------
    >>> import tempfile
    >>> from islet_imaging import Channel, Protocol, combine_runs, score_folder
    >>> from islet_imaging.phantom import write_experiment
    >>> folder = Path(tempfile.mkdtemp())
    >>> protocol = Protocol((Channel("DAPI", "dna"), Channel("INS")))
    >>> for k in (1, 2):
    ...     _ = write_experiment(folder / f"d{k}", n_conditions=1, n_batches=1, n_islets=1,
    ...                          controls=False, shape=(160, 160), seed=k)
    ...     run = score_folder(folder / f"d{k}", folder / f"run{k}", protocol=protocol, workers=1)
    >>> study = combine_runs([folder / "run1", folder / "run2"], folder / "study")
    >>> sorted(set(study["images"]["run"]))
    ['run1', 'run2']
    """
    out = Path(out)
    opened = [r if isinstance(r, Run) else Run.open(r) for r in runs]
    named = dict(zip(_names([r.path for r in opened]), opened, strict=True))
    if len(named) < 2:
        raise IsletImagingError("combine at least two runs; one has its own tables")
    protocol = _common_protocol(named)
    if statistics is not None:
        protocol = protocol.replace(statistics=statistics)
    rows = {name: _rows(run) for name, run in named.items()}
    _check_images(rows)
    _check_place(out)
    tables = _tables(named, rows, protocol)
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, table in tables.items():
        write_table(fresh / f"{name}.csv", table)
    _write_cells(named, fresh / "cells.parquet")
    write_text(fresh / "protocol.yaml", protocol.dump())
    facts = {
        "format": 1,
        **{key: opened[0].provenance.get(key) for key in _ALIKE},
        "protocol_sha256": protocol.fingerprint(),
        "runs": {
            name: {
                "path": str(run.path.resolve()),
                "made": run.provenance.get("made"),
                "provenance_sha256": hash_file(run.path / "provenance.json"),
                "images": len(rows[name]),
            }
            for name, run in named.items()
        },
    }
    write_text(fresh / FACTS, json.dumps(facts, indent=1) + "\n")
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    return tables


def _names(paths: Sequence[Path]) -> list[str]:
    """As much of the end of each path as tells them apart."""
    parts = [p.resolve().parts[1:] for p in paths]
    for n in range(1, max(map(len, parts), default=1) + 1):
        names = ["_".join(p[-n:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise IsletImagingError("a run is given twice")


def _common_protocol(named: Mapping[str, Run]) -> Protocol:
    """What all runs were made with, without what each fitted for itself."""
    (first, model), *others = named.items()
    protocol = model.protocol
    for name, run in named.items():
        if run.corrections_pending:
            raise IsletImagingError(
                f"{run.path}: people corrected cells since its tables were made: "
                f"islet-imaging summarize {run.path}"
            )
        for key, words in _ALIKE.items():
            if run.provenance.get(key) != model.provenance.get(key):
                raise IsletImagingError(
                    f"runs {first} and {name} are of different {words}; score one of them again"
                )
    for name, run in others:
        other = run.protocol
        if other.fingerprint() != protocol.fingerprint():
            one, two = protocol.to_dict(), other.to_dict()
            differ = [k for k in one if k not in ("fitted", "fitted_from") and one[k] != two[k]]
            raise IsletImagingError(
                f"runs {first} and {name} are of different protocols ({', '.join(differ)}): their "
                "numbers are no numbers of one study; score with one protocol.yaml"
            )
    return protocol.replace(fitted={}, fitted_from={})


def _rows(run: Run) -> list[ImageRow]:
    """A run's images with what became of them in its tables."""
    images = run.images
    became = dict(zip(images["image"], images["status"], strict=True))
    return [
        dataclasses.replace(row, status=str(became.get(row.image, row.status)))
        for row in rows_of(run.provenance)
    ]


def _check_images(rows: Mapping[str, Sequence[ImageRow]]) -> None:
    """Refuse an image that counts in two runs."""
    seen: dict[tuple[str, ...], tuple[str, str]] = {}
    for name, images in rows.items():
        for row in images:
            if row.status != "scored" or row.role != "sample" or not row.pixels:
                continue
            run, image = seen.setdefault(row.pixels, (name, row.image))
            if run != name:
                raise IsletImagingError(
                    f"{row.image} of run {name} shows the pixels of {image} of run {run}: it would "
                    "count twice; leave it out of one of them"
                )


def _check_place(out: Path) -> None:
    """Only a study is ever replaced."""
    if out.exists() and not (out / FACTS).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise IsletImagingError(
            f"{out}: there already and no study (no {FACTS} in it); choose another folder"
        )


def _tables(
    named: Mapping[str, Run], rows: Mapping[str, Sequence[ImageRow]], protocol: Protocol
) -> dict[str, pd.DataFrame]:
    import pandas as pd

    from islet_imaging.statistics.design import of_sheet
    from islet_imaging.statistics.summary import summary_of
    from islet_imaging.statistics.tally import joined, tally

    asked: dict[str, Any] = {
        "markers": protocol.markers,
        "denominator": protocol.statistics.denominator,
    }
    level = protocol.statistics.level
    tallies, sheets = [], []
    told: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name, run in named.items():
        own = [dataclasses.replace(r, image=f"{name}/{r.image}") for r in rows[name]]
        counted, sheet = tally(_counted_cells(run, name), **asked), sheet_table(own)
        for key, clause in _further_notes(run, counted, sheet, level):
            told.setdefault(key, {}).setdefault(clause, []).append(name)
        tallies.append(counted)
        sheets.append(sheet)
    sheet = pd.concat(sheets, ignore_index=True).fillna("")
    with_cells = [t for t in tallies if len(t.where)]
    tables: dict[str, pd.DataFrame] = {}
    summary = None
    if with_cells:
        summary = summary_of(joined(with_cells), of_sheet(sheet), level=level)
    conditions = summary.conditions if summary else named[next(iter(named))].summary[:0]
    tables["summary"] = _noted(conditions, told, len(named))
    tables["batches"] = summary.batches if summary else named[next(iter(named))].batches[:0]
    for kind in ("images", "islets"):
        parts = []
        for name, run in named.items():
            table = run.table(kind)
            table.insert(0, "run", name)
            parts.append(table)
        tables[kind] = pd.concat(parts, ignore_index=True)
    return {**tables, **study_tables(summary, protocol)}


def _counted_cells(run: Run, name: str) -> pd.DataFrame:
    """What cells are counted by, with the run's name before each image's."""
    import pyarrow.parquet as pq

    run.prove("cells.parquet")
    path = run.path / "cells.parquet"
    columns = list(narrow(pq.read_schema(path).empty_table().to_pandas()).columns)
    cells: pd.DataFrame = pq.read_table(path, columns=columns).to_pandas()
    cells["image"] = cells["image"].map({i: f"{name}/{i}" for i in cells["image"].unique()})
    return cells


def _further_notes(
    run: Run, counted: Tally, sheet: pd.DataFrame, level: float
) -> Iterator[tuple[tuple[str, str], str]]:
    """What a run says of its conditions beside what counting alone says."""
    from islet_imaging.statistics.design import of_sheet
    from islet_imaging.statistics.summary import summary_of

    plain: dict[tuple[str, str], set[str]] = {}
    if len(counted.where):
        alone = summary_of(counted, of_sheet(sheet), level=level)
        for row in alone.conditions.to_dict("records"):
            plain[row["condition"], row["marker"]] = set(_clauses(row["note"]))
    for row in run.summary.to_dict("records"):
        key = str(row["condition"]), str(row["marker"])
        for clause in _clauses(row["note"]):
            if clause not in plain.get(key, ()):
                yield key, clause
        if (run.path / "corrected.csv").is_file():
            yield key, "its fractions corrected for wrong calls are in the run alone"


def _clauses(note: object) -> list[str]:
    return [c for c in str(note).split("; ") if c and c != "nan"]


def _noted(
    conditions: pd.DataFrame, told: Mapping[tuple[str, str], Mapping[str, list[str]]], n_runs: int
) -> pd.DataFrame:
    """Conditions with what single runs say of them, and which."""
    table = conditions.copy()
    notes = []
    for row in table.to_dict("records"):
        said = _clauses(row["note"])
        for clause, names in told.get((str(row["condition"]), str(row["marker"])), {}).items():
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            said.append(clause if len(names) == n_runs else f"{clause} (run {shown})")
        notes.append("; ".join(said))
    table["note"] = notes
    return table


def _write_cells(named: Mapping[str, Run], folder: Path) -> None:
    """The cells of all runs as one data set: a part for each run, of one schema.

    A part that has that schema already is the run's own file, linked where the disk can.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = {name: run.path / "cells.parquet" for name, run in named.items()}
    schemas = {name: pq.read_schema(file).remove_metadata() for name, file in files.items()}
    whole = pa.unify_schemas(list(schemas.values()), promote_options="permissive")
    for name, file in files.items():
        # readers undo what is written so of signs that mean something in a path
        part = folder / f"run={quote(name, safe='')}" / "cells.parquet"
        part.parent.mkdir(parents=True)
        if schemas[name].equals(whole):
            try:
                os.link(file, part)
            except OSError:  # another disk, or one without links
                shutil.copyfile(file, part)
            continue
        with pq.ParquetWriter(part, whole) as writer:
            for batch in pq.ParquetFile(file).iter_batches():
                writer.write_batch(_of_schema(batch, whole))


def _of_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch with the columns and types of all; what it lacks is empty."""
    import pyarrow as pa

    columns = [
        batch.column(f.name).cast(f.type)
        if f.name in batch.schema.names
        else pa.nulls(len(batch), f.type)
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
