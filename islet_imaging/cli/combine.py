"""`islet-imaging combine`: finished runs as one study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli import study
from islet_imaging.cli.app import app, say
from islet_imaging.cli.score import tell_summary


@app.command()
def combine(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of one protocol.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier study in it is replaced.")],
    reference: study.Reference = None,
    contrast: study.Contrast = None,
    compare: study.Compare = None,
    pairing: study.Pairing = None,
    unit: study.Unit = None,
    block: study.Block = None,
    trend: study.Trend = None,
    equivalence_pp: study.Equivalence = None,
) -> None:
    """Join finished runs: statistics over all their batches.

    For a screen that was scored as many runs, one for each staining run, as by a SLURM array.
    Nothing is measured or called again. OUT/cells.parquet is a folder with a part for each run,
    which pandas, pyarrow, polars and DuckDB read as one table. Exit status: 3 where a share is not
    estimable.
    """
    from islet_imaging.run.folder import Run
    from islet_imaging.run.study import combine_runs
    from islet_imaging.statistics.counting import ESTIMATED

    switches = {
        "reference": reference,
        "contrast": contrast,
        "compare": compare,
        "pairing": pairing,
        "unit": unit,
        "block": block,
        "trend": trend,
        "equivalence_pp": equivalence_pp,
    }
    statistics = None
    if study.given(switches):
        statistics = study.changed(Run.open(runs[0]).protocol.statistics, **switches)
    tables = combine_runs(runs, out, statistics=statistics)
    tell_summary(tables["summary"], tables["comparisons"])
    images = tables["images"]
    n_scored = int((images["status"] == "scored").sum())
    say(f"{len(runs)} runs: {n_scored} of {len(images)} images scored.")
    say(f"Tables: {out}; all cells: {out / 'cells.parquet'}")
    if not (tables["summary"]["status"] == ESTIMATED).all():
        raise typer.Exit(3)
