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
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Protocol
from islet_imaging.run import Run, work_table, write_parquet, write_table, write_text

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.corrections import Edit
    from islet_imaging.positivity import Threshold
    from islet_imaging.quality import Flag
    from islet_imaging.statistics import Summary

log = logging.getLogger(__name__)

CONDITIONS = (
    "condition marker status n_batches n_islets n_cells n_unsure n_excluded "
    "fraction fraction_low fraction_high ci_low ci_high interval note"
)
BATCHES = (
    "condition batch marker n_islets n_cells n_positive n_unsure "
    "fraction fraction_low fraction_high"
)
_FIRST_COLUMNS = ("image", "islet", "cell", "y_px", "x_px", "y_um", "x_um", "nucleus_area_um2")
_LAST_COLUMNS = ("phenotype", "excluded", "flags")


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """What the run knows of one image beside its cells."""

    image: str
    condition: str
    batch: str
    role: str
    status: str
    message: str
    flags: tuple[Flag, ...]
    record: Mapping[str, Any]
    extra: Mapping[str, Any]
    files: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class CalledRun:
    """Every cell of a run called, before and after human corrections."""

    raw: pd.DataFrame
    corrected: pd.DataFrame
    unmatched: list[Edit]
    thresholds: dict[str, dict[str, Threshold]]
    protocol: Protocol
    edits: tuple[Edit, ...] = ()


def _load(run: Path, image: str, name: str) -> pd.DataFrame:
    import pandas as pd

    path = work_table(run, image, name)
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise IsletImagingError(
            f"{path}: the measurements of {image!r} are gone or damaged ({error}); "
            "score the folder again into the same run folder"
        ) from error


# ---------------------------------------------------------------- thresholds and calls


def fit_run(
    run: Path, rows: Sequence[ImageRow], protocol: Protocol
) -> dict[str, dict[str, Threshold]]:
    """Fit the thresholds of every staining run (= batch), or take those the protocol states.

    Parameters
    ----------
    run : Path
        The run folder with its measured images.
    rows : sequence of ImageRow
        Scored images.
    protocol : Protocol
        With ``fitted`` thresholds for batches that shall not be fitted again.

    Returns
    -------
    dict
        ``{batch: {marker: Threshold}}``.
    """
    from islet_imaging.positivity import Threshold, fit_stains

    scored = [r for r in rows if r.status == "scored"]
    shared = [r for r in scored if r.role == "negative_control" and not r.batch]
    thresholds: dict[str, dict[str, Threshold]] = {}
    for batch in sorted({r.batch for r in scored}):
        stated = protocol.fitted.get(batch, {})
        known = {m: Threshold.from_dict(stated[m]) for m in protocol.markers if m in stated}
        if len(known) == len(protocol.markers):
            thresholds[batch] = known
            continue
        own = [r for r in scored if r.batch == batch]
        samples = [r for r in own if r.role in ("sample", "positive_control")]
        controls = [r for r in own if r.role == "negative_control"] or shared
        fitted = fit_stains(
            [_load(run, r.image, "cells") for r in samples],
            [_load(run, r.image, "cells") for r in controls],
            protocol,
        )
        thresholds[batch] = {**fitted, **known}
    return thresholds


def raw_cells(run: Run) -> pd.DataFrame:
    """The cells of a run as the tool called them, also where its tables hold corrections already.

    Parameters
    ----------
    run : Run
        A run folder.

    Returns
    -------
    DataFrame
    """
    cells = run.cells
    if "corrected_by" not in cells:
        return cells
    return call_run(run.path, rows_of(run.provenance), run.protocol).raw


def call_run(run: Path, rows: Sequence[ImageRow], protocol: Protocol) -> CalledRun:
    """Fit, call every cell of every scored image, and lay the journal's corrections over it."""
    import pandas as pd

    from islet_imaging.corrections import Journal
    from islet_imaging.positivity import call_image
    from islet_imaging.replay import apply_corrections

    thresholds = fit_run(run, rows, protocol)
    parts = [
        call_image(_load(run, r.image, "cells"), thresholds[r.batch], protocol)
        for r in rows
        if r.status == "scored"
    ]
    fitted = {
        batch: {m: t.to_dict() for m, t in by_marker.items()}
        for batch, by_marker in thresholds.items()
    }
    protocol = protocol.replace(fitted=fitted)
    if not parts:
        empty = pd.DataFrame({c: [] for c in (*_FIRST_COLUMNS, *_LAST_COLUMNS)})
        return CalledRun(empty, empty, [], thresholds, protocol)
    raw = pd.concat(parts, ignore_index=True)
    raw = raw[_ordered(raw.columns)]
    edits = Journal(run / "corrections.jsonl").edits()
    if not edits:
        return CalledRun(raw, raw, [], thresholds, protocol)
    corrected = apply_corrections(raw, edits)
    cells = corrected.cells
    columns = [c for c in cells.columns if c != "corrected_by"]
    return CalledRun(
        raw,
        cells[[*_ordered(columns), "corrected_by"]],
        corrected.unmatched,
        thresholds,
        protocol,
        tuple(edits),
    )


def _ordered(columns: Iterable[str]) -> list[str]:
    columns = list(columns)
    first = [c for c in _FIRST_COLUMNS if c in columns]
    last = [c for c in _LAST_COLUMNS if c in columns]
    middle = [c for c in columns if c not in first and c not in last]
    return [*first, *middle, *last]


# ---------------------------------------------------------------- tables


def images_table(rows: Sequence[ImageRow], summary: Summary | None) -> pd.DataFrame:
    """``images.csv``: one row per image, failed ones with their message."""
    import pandas as pd

    from islet_imaging.quality import join_codes

    table = pd.DataFrame(
        {
            "image": [r.image for r in rows],
            "condition": [r.condition for r in rows],
            "batch": [r.batch for r in rows],
            "role": [r.role for r in rows],
            "status": [r.status for r in rows],
            "message": [r.message for r in rows],
        },
        dtype=object,
    )
    if summary is not None:
        counted = summary.images.drop(columns=["condition", "batch", "role"])
        table = table.merge(counted, on="image", how="left")
        whole = ["n_cells", "n_islets"]
        table[whole] = table[whole].fillna(0).astype("int64")
    else:
        table["n_cells"] = table["n_islets"] = 0
    table["flags"] = [join_codes(r.flags) for r in rows]
    return table


def islets_rows(run: Path, rows: Sequence[ImageRow], summary: Summary | None) -> pd.DataFrame:
    """``islets.csv``: geometry and fractions, one row per islet."""
    import pandas as pd

    parts = [_load(run, r.image, "islets") for r in rows if r.status == "scored"]
    parts = [p for p in parts if len(p)]
    if not parts or summary is None:
        names = ("image", "islet", "y_um", "x_um", "area_um2", "diameter_um", "circularity")
        return pd.DataFrame({c: [] for c in (*names, "n_cells", "flags")})
    table = pd.concat(parts, ignore_index=True).drop(columns=["n_cells"], errors="ignore")
    table = table.merge(summary.islets, on=["image", "islet"], how="left")
    # an islet of which people took every cell out has no fraction and no cells
    table["n_cells"] = table["n_cells"].fillna(0).astype("int64")
    flags = table.pop("flags") if "flags" in table else ""
    table["flags"] = flags
    return table


def sheet_table(rows: Sequence[ImageRow]) -> pd.DataFrame:
    """The sample sheet as the statistics want it: scored images only, names as in the tables."""
    import pandas as pd

    scored = [r for r in rows if r.status == "scored"]
    extra = list(dict.fromkeys(k for r in scored for k in r.extra))
    return pd.DataFrame(
        {
            "file": [r.image for r in scored],
            "condition": [r.condition for r in scored],
            "batch": [r.batch for r in scored],
            "role": [r.role for r in scored],
            **{k: [r.extra.get(k, "") for r in scored] for k in extra},
        },
        dtype=object,
    )


def _summaries(
    called: CalledRun, rows: Sequence[ImageRow]
) -> tuple[Summary | None, Summary | None]:
    from islet_imaging.statistics import summarise

    if not len(called.corrected):
        return None, None
    sheet = sheet_table(rows)
    settings: dict[str, Any] = {
        "markers": called.protocol.markers,
        "denominator": called.protocol.statistics.denominator,
        "level": called.protocol.statistics.level,
    }
    now = summarise(called.corrected, sheet, **settings)
    if called.corrected is called.raw:
        return now, now
    return now, summarise(called.raw, sheet, **settings)


# ---------------------------------------------------------------- writing a run


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

    from islet_imaging import __version__
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


def rows_of(provenance: Mapping[str, Any]) -> list[ImageRow]:
    """The image rows a provenance holds."""
    from islet_imaging.quality import Flag

    return [
        ImageRow(
            **{
                **row,
                "flags": tuple(Flag.from_dict(f) for f in row["flags"]),
                "files": tuple(row["files"]),
            }
        )
        for row in provenance["images"]
    ]


def write_run(run: Path, protocol: Protocol, facts: dict[str, Any]) -> Run:
    """Call, summarise and write tables, protocol, report and provenance, in that order.

    ``provenance.json`` comes last: a folder that has it is a run whose other files are there.
    """
    from islet_imaging.folder_checks import check_rows
    from islet_imaging.notes import with_before, with_corrected, with_fragile, with_reasons
    from islet_imaging.report import write_report
    from islet_imaging.report.assemble import report_data
    from islet_imaging.validation import corrected_table

    rows, folder_flags = check_rows(run, rows_of(facts), protocol)
    called = call_run(run, rows, protocol)
    summary, raw_summary = _summaries(called, rows)
    corrected = corrected_table(run, called, rows, raw_summary)
    if summary is not None:
        summary = with_reasons(summary, called, rows)
        summary = with_fragile(summary, called, rows)
        summary = with_before(summary, raw_summary, called)
        summary = with_corrected(summary, corrected)
    tables = {
        "conditions": _columns(CONDITIONS) if summary is None else summary.conditions,
        "batches": _columns(BATCHES) if summary is None else summary.batches,
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


def _columns(names: str) -> pd.DataFrame:
    """An empty table, for a run in which no cell was found."""
    import pandas as pd

    return pd.DataFrame({c: [] for c in names.split()})


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
    ``resummarise("run").summary``
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    return write_run(opened.path, opened.protocol, opened.provenance)
