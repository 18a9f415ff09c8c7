"""`islet-imaging summarize`: tables and report of a run again, human corrections included."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app
from islet_imaging.cli.score import tell_result


@app.command()
def summarize(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
) -> None:
    """Make a run's tables and report again, with the corrections made in review."""
    from islet_imaging.results import resummarise

    tell_result(resummarise(run))
