"""`islet-imaging evaluate`: a run's calls against counts that people made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app, say


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    manual: Annotated[
        Path,
        typer.Argument(
            help="CSV of labels (image, cell, label, rater) or counts "
            "(image, islet, rater, and fraction, or n_positive and n_cells)."
        ),
    ],
    marker: Annotated[str, typer.Option(help="The marker that was counted.")] = "INS",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the tables and the picture; by default RUN/agreement."),
    ] = None,
) -> None:
    """Compare a run's calls with counts that people made.

    Prints bias, limits of agreement, concordance and kappa, and writes them as tables
    (fractions.csv, cells.csv, raters.csv, islets.csv) with a picture (agreement.svg).
    """
    import pandas as pd

    from islet_imaging.errors import IsletImagingError
    from islet_imaging.report.agreement import write_agreement
    from islet_imaging.run.folder import Run
    from islet_imaging.statistics import compare_with_manual

    try:
        table = pd.read_csv(manual)
    except (OSError, ValueError) as error:
        raise IsletImagingError(f"{manual}: not a readable CSV: {error}") from error
    scored = Run.open(run)
    found = compare_with_manual(scored.cells, table, marker=marker)
    for name, part in vars(found).items():
        if isinstance(part, pd.DataFrame) and len(part):
            say(f"{name}\n{part.to_string(index=False)}\n")
    for path in write_agreement(found, out or scored.path / "agreement", marker=marker):
        say(f"wrote {path}")
