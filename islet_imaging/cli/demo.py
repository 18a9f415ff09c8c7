"""`islet-imaging demo`: make an example experiment, score it, say where the report is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app, say
from islet_imaging.cli.progress import image_progress
from islet_imaging.cli.score import tell_result


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for the example.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same example.")] = 0,
) -> None:
    """Make a synthetic example, score it, compare it with its truth."""
    from islet_imaging.demo import make_demo

    say(f"Making a synthetic experiment in {out / 'images'} (two conditions, three batches each).")
    with image_progress() as tell:
        result = make_demo(out, seed=seed, progress=tell)
    tell_result(result.run)
    for line in result.comparison:
        say(line)
