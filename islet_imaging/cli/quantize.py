"""`islet-imaging quantize`: write a network's integer weights."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app, say


@app.command()
def quantize(
    network: Annotated[Path, typer.Argument(help="Folder of a trained network.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of public images; default: environment ISLET_IMAGING_DATA."),
    ] = None,
) -> None:
    """Write a trained network's integer weights, for processors.

    They run three times as fast. Their ranges are seen on crops of the images it was
    trained on. Float32 weights stay for graphics cards and for fine-tuning, which
    writes integers by itself.
    Needs the train extra: pip install 'islet-imaging[train]'.
    """
    from islet_imaging.network.training.integers import add_integers, calibration_crops
    from islet_imaging.network.weights import INTEGERS, load_model

    folder = data or (Path(d) if (d := os.environ.get("ISLET_IMAGING_DATA")) else None)
    model = load_model(network)
    with tempfile.TemporaryDirectory() as cache:
        crops = calibration_crops(model, folder, Path(cache))
    add_integers(model.folder, crops)
    say(f"wrote {model.folder / INTEGERS}, calibrated on {len(crops)} crops of its training images")
