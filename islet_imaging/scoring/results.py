"""From measured images to a run's tables and report, once all images are in.

The idea: what the images said lies in the run folder; from it, the sample sheet and the journal of
human corrections, thresholds are fitted per staining run, cells are called and everything a reader
sees is written.  Making the tables again (`resummarise`) is this same step, so corrections and
re-scoring can never disagree.
It fails, and says to score again, when the kept measurements are gone.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import starmap
from pathlib import Path
from typing import Any

from islet_imaging.errors import IsletImagingError
from islet_imaging.experiment.given_files import told_of_mixture
from islet_imaging.protocol import Protocol, Statistics
from islet_imaging.review.journal import Journal
from islet_imaging.run.called import CalledRun, Each, call_run
from islet_imaging.run.files import write_parquet, write_table, write_text
from islet_imaging.run.folder import PROVENANCE_FORMAT, Run, corrections_state
from islet_imaging.run.lock import RunLock
from islet_imaging.run.rows import ImageRow, rows_of
from islet_imaging.run.stage import exchange, finish_exchange, stage_folder
from islet_imaging.run.study_tables import sheet_words, study_tables, with_sheet
from islet_imaging.run.tables import (
    BATCHES,
    CONDITIONS,
    empty_table,
    images_table,
    islets_rows,
    summaries,
    with_outside,
)

log = logging.getLogger(__name__)


#: versions of what numbers are computed by
LIBRARIES = ("numpy", "scipy", "scikit-image", "tifffile", "pandas", "onnxruntime")


#: of a provenance, what a report shows elsewhere or nobody reads
_NOT_SHOWN = ("files", "flat_fields", "told", "thresholds_not_used")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that numbers are computed by."""
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def provenance_of(
    *,
    folder: Path,
    protocol: Protocol,
    rows: Sequence[ImageRow],
    inputs: Mapping[str, Any],
    drafted: bool,
    device: str,
) -> dict[str, Any]:
    """Versions, hashes of inputs and models, parameters, and what became of every image."""
    from islet_imaging._version import __version__
    from islet_imaging.network.weights import model_hashes, weights_used

    return {
        "format": PROVENANCE_FORMAT,
        "islet_imaging": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": library_versions(),
        "models": model_hashes(protocol.models),
        "weights": weights_used(protocol.models, device),
        "device": device,
        "folder": str(folder.resolve()),
        "protocol_sha256": protocol.fingerprint(),
        "protocol_drafted": drafted,
        "inputs": dict(inputs),
        "images": [r.to_dict() for r in rows],
    }


def write_run(
    run: Path,
    protocol: Protocol,
    facts: Mapping[str, Any],
    each: Each = starmap,
    *,
    own: bool = False,
) -> Run:
    """Call, summarise and exchange tables, protocol, report and provenance, all at once.

    Parameters
    ----------
    run : Path
        The run folder, with its measured images; whoever calls holds its lock.
    protocol : Protocol
        How to call.
    facts : mapping
        The provenance.
    each : callable
        Where thresholds are fitted and cells called, as in `call_run`.
    own : bool
        Whether the protocol is the run's own: thresholds in it that hold no more, as after regions
        were drawn, were stated by nobody.
    """
    from islet_imaging.report import write_report
    from islet_imaging.report.assemble import report_data
    from islet_imaging.run.image_checks import check_rows, with_threshold_flags
    from islet_imaging.run.summary_notes import (
        add_empty_conditions,
        note_corrected_fractions,
        note_double_positives,
        note_failed_controls,
        note_flagged_images,
        note_fractions_before_edits,
        note_fragile_thresholds,
        note_guesses,
        note_missing_thresholds,
        note_of_run,
        with_left_out,
    )
    from islet_imaging.run.validation_sheet import FILE as VALIDATION
    from islet_imaging.run.validation_sheet import corrected_table
    from islet_imaging.scoring.drawn import lay_over_run

    facts = dict(facts)
    # before the journal is read: an edit made from here on is seen to be missing
    facts["corrections"] = corrections_state(run)
    stage = stage_folder(run)
    rows = lay_over_run(run, rows_of(facts), protocol, Journal(run / "corrections.jsonl").edits())
    facts["images"] = [r.to_dict() for r in rows]
    rows, folder_flags = check_rows(run, rows, protocol, each)
    # labels of people are found again in what is counted
    counted = (run / VALIDATION).is_file()
    called = call_run(run, rows, protocol, each=each, into=stage / ".cells", counted=counted)
    rows, of_thresholds = with_threshold_flags(rows, called.thresholds)
    folder_flags = [*of_thresholds, *folder_flags]
    facts["corrections"].update(called.counts)
    not_used = () if own else called.not_used
    facts["thresholds_not_used"] = sorted({*not_used, *facts.get("thresholds_not_used", ())})
    told = [*called.told, *thresholds_told(facts["thresholds_not_used"])]
    if mixture := told_of_mixture([r for r in rows if r.status == "scored"]):
        told.append(mixture)
    facts["told"] = told
    for sentence in told:
        log.warning("%s", sentence)
    summary, raw_summary = summaries(called, rows)
    corrected = corrected_table(run, called, rows, raw_summary)
    if summary is not None:
        summary = note_missing_thresholds(summary, called, rows)
        summary = note_guesses(note_fragile_thresholds(summary, called, rows), rows)
        summary = note_double_positives(summary, protocol.markers)
        summary = note_fractions_before_edits(summary, raw_summary, called)
        summary = note_corrected_fractions(summary, corrected)
    conditions = with_left_out(
        empty_table(CONDITIONS) if summary is None else summary.conditions, rows, protocol.markers
    )
    conditions = add_empty_conditions(conditions, rows, protocol.markers)
    conditions = note_flagged_images(note_failed_controls(conditions, rows), rows, protocol.dna)
    tables = {
        "conditions": note_of_run(conditions, told),
        "batches": empty_table(BATCHES) if summary is None else summary.batches,
        "images": with_sheet(
            with_outside(images_table(rows, summary), called.tallies and called.tallies[1]),
            rows,
            place=False,
        ),
        "islets": with_sheet(islets_rows(run, rows, summary), rows),
    }
    study = study_tables(summary, called.protocol, corrected)
    for name, table in study.items():
        write_table(stage / f"{name}.csv", table)
    for name, table in tables.items():
        write_table(stage / ("summary.csv" if name == "conditions" else f"{name}.csv"), table)
    if corrected is not None:
        write_table(stage / "corrected.csv", corrected)
    _write_cells(stage, called, rows, each)
    write_text(stage / "protocol.yaml", called.protocol.dump())
    data = report_data(
        run=run,
        rows=rows,
        called=called,
        summary=summary,
        raw_summary=raw_summary,
        folder_flags=folder_flags,
        validation=corrected,
        provenance={k: v for k, v in facts.items() if k not in _NOT_SHOWN},
        study=study,
        each=each,
        **tables,
    )
    write_report(stage / "report.html", data)
    written = {p.name for p in stage.iterdir()}
    exchange(run, facts, removed=sorted({*facts.get("files", ()), "corrected.csv"} - written))
    return Run.open(run)


def _write_cells(stage: Path, called: CalledRun, rows: Sequence[ImageRow], each: Each) -> None:
    """``cells.csv`` and ``cells.parquet``."""
    table, text = stage / "cells.parquet", stage / "cells.csv"
    if called.parts is None:  # no image was scored
        cells = with_sheet(called.corrected, rows)
        write_table(text, cells)
        write_parquet(table, cells)
        return
    names = called.parts.schema().names
    called.parts.write(table, text, sheet_words(names, rows), each)


def thresholds_told(stainings: Sequence[str]) -> list[str]:
    """What to say of thresholds that a protocol states and that are not used."""
    if not stainings:
        return []
    named = ", ".join(s or "(unnamed)" for s in stainings)
    return [
        f"the protocol states thresholds of staining run {named} that were fitted on other images "
        "or settings: they are not used, thresholds were fitted anew on these images"
    ]


def resummarise(run: Run | str | Path, *, statistics: Statistics | None = None) -> Run:
    """Make a run's tables and report again, with the corrections in its journal.

    Parameters
    ----------
    run : Run or path
        A run folder.
    statistics : Statistics, optional
        How to count and compare from now on; by default as before.

    Returns
    -------
    Run

    Raises
    ------
    IsletImagingError
        If the folder is no run, or its kept measurements are gone.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from islet_imaging import resummarise, score_folder
    >>> from islet_imaging.phantom import write_experiment
    >>> folder = Path(tempfile.mkdtemp())
    >>> sheet = write_experiment(folder / "stainings", n_conditions=1, n_batches=1, n_islets=1,
    ...                          controls=False, shape=(160, 160))
    >>> run = score_folder(folder / "stainings", folder / "run", workers=1)
    >>> resummarise(run).summary["marker"].tolist()
    ['INS', 'GCG']
    """
    path = run.path if isinstance(run, Run) else Path(run)
    if not (path / ".work").is_dir():
        Run.open(path)  # says what is wrong with it
    with RunLock(path, "summarize"):
        finish_exchange(path)
        opened = Run.open(path)
        if opened.provenance.get("format", 1) < PROVENANCE_FORMAT:
            raise IsletImagingError(
                f"{path}: written by version {opened.provenance.get('islet_imaging')}, whose files "
                "carry no proof of what they were made of; score the folder again into this run "
                "folder, corrections are kept"
            )
        protocol, facts = opened.protocol, opened.provenance
        if statistics is not None:
            protocol = protocol.replace(statistics=statistics)
            facts = {**facts, "protocol_sha256": protocol.fingerprint()}
        return write_run(path, protocol, facts, own=True)
