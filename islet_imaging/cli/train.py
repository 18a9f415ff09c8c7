"""`islet-imaging train`: train or fine-tune a network from a configuration file."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app, say


class Network(StrEnum):
    """The networks that can be trained."""

    nuclei = "nuclei"


@app.command()
def train(
    network: Annotated[Network, typer.Argument(help="Which network.")],
    config: Annotated[Path, typer.Argument(help="YAML file: data, lengths, seeds.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of checkpoints, log and curves; resumable.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of public images; default: environment ISLET_IMAGING_DATA."),
    ] = None,
) -> None:
    """Train a network; the same command goes on after a stop.

    Needs the train extra: pip install 'islet-imaging[train]'.
    """
    from islet_imaging.network.nuclei_training import NucleiTrainingConfig, train_nuclei

    folder = data or (Path(d) if (d := os.environ.get("ISLET_IMAGING_DATA")) else None)

    def tell(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            say(f"step {done} of {total}")

    train_nuclei(NucleiTrainingConfig.from_yaml(config), out, data_dir=folder, progress=tell)
    say(f"checkpoint, log and curves: {out}")
