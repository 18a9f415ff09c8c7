"""`islet-imaging contribute`: blind calls of two people, with crops, as one zip to give away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app, say


@app.command()
def contribute(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The zip to write, once cells were called.")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Under which it is given away, such as CC-BY-4.0.")
    ] = "",
    stain: Annotated[
        str, typer.Option(help="Antibodies, clones, dyes, tissue and fixation, in words.")
    ] = "",
    marker: Annotated[str | None, typer.Option(help="The marker; default: the first.")] = None,
    draw: Annotated[
        int | None, typer.Option(min=1, help="Draw so many random cells for people to call.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides the draw and the order.")] = 0,
) -> None:
    """Give truth away: random cells that two people called.

    Draws the cells, and packs calls and crops once two people have called them blind.

    First `--draw 300`: two people call these cells, in the window with names hidden or each in a
    copy of validation.csv (taken back by `summarize --labels`). Then `--out truth.zip --licence
    ... --stain ...`: the zip holds no path and no name of an image, batch or person.
    """
    from islet_imaging.errors import IsletImagingError
    from islet_imaging.export.contribution import pack_truth
    from islet_imaging.run.validation_sheet import draw_validation_sheet

    if (draw is None) == (out is None):
        raise IsletImagingError("give either --draw N, or --out ZIP with --licence and --stain")
    if draw is not None:
        path = draw_validation_sheet(run, marker, n=draw, seed=seed)
        say(f"wrote {path}: two people fill in label and rater, without seeing each other's")
    elif out is not None:
        path = pack_truth(run, out, licence=licence, stain=stain, marker=marker, seed=seed)
        say(f"wrote {path}; look into it before you give it away")
