"""`islet-imaging export`: a run's labels and calls in the formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app, say


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into.")],
    format: Annotated[  # the word users know
        str,
        typer.Option("--format", "-f", help="geojson (QuPath), roi (ImageJ), anndata or ome-zarr."),
    ] = "geojson",
) -> None:
    """Write a run's outlines, calls and measurements for other tools."""
    from islet_imaging.export import export as export_run
    from islet_imaging.run.folder import Run

    for path in export_run(Run.open(run), out, format=format):
        say(f"wrote {path}")
