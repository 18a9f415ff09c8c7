"""From measured images to a run's tables and report, once all images are in.

The idea: what the images said lies in the run folder; from it, the sample sheet and the journal of
human corrections, thresholds are fitted per staining run, cells are called and everything a reader
sees is written.  Making the tables again (`resummarise`) is this same step, so corrections and
re-scoring can never disagree.
It fails, and says to score again, when the kept measurements are gone.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from islet_imaging.protocol import Protocol
from islet_imaging.run.called import ImageRow, call_run, rows_of
from islet_imaging.run.folder import Run, write_parquet, write_table, write_text
from islet_imaging.run.tables import (
    BATCHES,
    CONDITIONS,
    empty_table,
    images_table,
    islets_rows,
    summaries,
)

log = logging.getLogger(__name__)


def provenance_of(
    *,
    folder: Path,
    protocol: Protocol,
    rows: Sequence[ImageRow],
    inputs: Mapping[str, Any],
    drafted: bool,
) -> dict[str, Any]:
    """Versions, hashes of inputs and models, parameters, and what became of every image."""
    import importlib.metadata

    from islet_imaging._version import __version__
    from islet_imaging.network.weights import model_hashes

    libraries = ("numpy", "scipy", "scikit-image", "tifffile", "pandas", "onnxruntime")
    return {
        "islet_imaging": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {name: importlib.metadata.version(name) for name in libraries},
        "models": model_hashes(protocol.models),
        "folder": str(folder.resolve()),
        "protocol_sha256": protocol.fingerprint(),
        "protocol_drafted": drafted,
        "inputs": dict(inputs),
        "images": [
            {
                **{k: v for k, v in dataclasses.asdict(r).items() if k != "flags"},
                "flags": [f.to_dict() for f in r.flags],
            }
            for r in rows
        ],
    }


def write_run(run: Path, protocol: Protocol, facts: dict[str, Any]) -> Run:
    """Call, summarise and write tables, protocol, report and provenance, in that order.

    ``provenance.json`` comes last: a folder that has it is a run whose other files are there.
    """
    from islet_imaging.report import write_report
    from islet_imaging.report.assemble import report_data
    from islet_imaging.run.image_checks import check_rows, with_threshold_flags
    from islet_imaging.run.summary_notes import (
        with_before,
        with_corrected,
        with_fragile,
        with_guessed,
        with_left_out,
        with_reasons,
    )
    from islet_imaging.run.validation_sheet import corrected_table

    rows, folder_flags = check_rows(run, rows_of(facts), protocol)
    called = call_run(run, rows, protocol)
    rows, of_thresholds = with_threshold_flags(rows, called.thresholds)
    folder_flags = [*of_thresholds, *folder_flags]
    summary, raw_summary = summaries(called, rows)
    corrected = corrected_table(run, called, rows, raw_summary)
    if summary is not None:
        summary = with_reasons(summary, called, rows)
        summary = with_guessed(with_fragile(summary, called, rows), rows)
        summary = with_before(summary, raw_summary, called)
        summary = with_corrected(summary, corrected)
    tables = {
        "conditions": with_left_out(
            empty_table(CONDITIONS) if summary is None else summary.conditions,
            rows,
            protocol.markers,
        ),
        "batches": empty_table(BATCHES) if summary is None else summary.batches,
        "images": images_table(rows, summary),
        "islets": islets_rows(run, rows, summary),
    }
    for name, table in tables.items():
        write_table(run / ("summary.csv" if name == "conditions" else f"{name}.csv"), table)
    if corrected is None:
        (run / "corrected.csv").unlink(missing_ok=True)
    else:
        write_table(run / "corrected.csv", corrected)
    write_table(run / "cells.csv", called.corrected)
    write_parquet(run / "cells.parquet", called.corrected)
    write_text(run / "protocol.yaml", called.protocol.dump())
    for edit in called.unmatched:
        log.warning("correction of cell %s in %s: no nucleus there now", edit.cell, edit.image)
    data = report_data(
        run=run,
        rows=rows,
        called=called,
        summary=summary,
        raw_summary=raw_summary,
        folder_flags=folder_flags,
        validation=corrected,
        provenance=facts,
        **tables,
    )
    write_report(run / "report.html", data)
    write_text(run / "provenance.json", json.dumps(facts, indent=1, ensure_ascii=False))
    return Run.open(run)


def resummarise(run: Run | str | Path) -> Run:
    """Make a run's tables and report again, with the corrections in its journal.

    Parameters
    ----------
    run : Run or path
        A run folder.

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
    opened = run if isinstance(run, Run) else Run.open(run)
    return write_run(opened.path, opened.protocol, opened.provenance)
