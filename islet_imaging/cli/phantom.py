"""`islet-imaging phantom`: an experiment of synthetic stained islets with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app, say


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write the images into.")],
    preset: Annotated[
        str,
        typer.Option(
            help="easy_confocal, ffpe20x, cryo10um_widefield, wholemount, hcs0.65 or abused_8bit."
        ),
    ] = "ffpe20x",
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
    conditions: Annotated[int, typer.Option(min=1, help="Number of conditions.")] = 2,
    batches: Annotated[int, typer.Option(min=1, help="Batches per condition.")] = 3,
    islets: Annotated[
        int, typer.Option(min=1, help="Islets per batch and condition, one image each.")
    ] = 6,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Write a synthetic experiment with known truth.

    Stained islets, controls, samples.csv, and the truth behind them.
    """
    from islet_imaging.phantom import write_experiment

    write_experiment(
        out,
        preset=preset,
        seed=seed,
        n_conditions=conditions,
        n_batches=batches,
        n_islets=islets,
        workers=workers,
    )
    say(f"wrote images, controls, {out / 'samples.csv'} and {out / 'truth'}")
