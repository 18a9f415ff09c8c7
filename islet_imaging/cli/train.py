"""`islet-imaging train`: train a network from a configuration file, or fine-tune it."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from islet_imaging.cli.app import app, say
from islet_imaging.errors import ImageReadError


class Network(StrEnum):
    """The networks that can be trained."""

    nuclei = "nuclei"
    positivity = "positivity"


@app.command()
def train(
    network: Annotated[Network, typer.Argument(help="Which network.")],
    source: Annotated[
        Path,
        typer.Argument(
            help="A YAML file to train from scratch; or, to fine-tune, a folder with images/ and "
            "masks/ (nuclei) or a run folder with corrected calls (positivity)."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of checkpoints, log and curves; resumable.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of public images; default: environment ISLET_IMAGING_DATA."),
    ] = None,
    marker: Annotated[
        str | None, typer.Option(help="Fine-tuning positivity: the marker; default: the first.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Keep the fine-tuned network under this name, for protocols to use."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Fine-tuning: network to start from; default: the shipped.")
    ] = None,
) -> None:
    """Train or fine-tune a network.

    The same command goes on after a stop. Fine-tuning prints scores on what was
    held out, before and after; nothing is replaced.
    Needs the train extra: pip install 'islet-imaging[train]'.
    """
    from islet_imaging.network.training.curves import plot_curves

    def tell(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            say(f"step {done} of {total}")

    if not source.exists():
        raise ImageReadError(f"{source}: there is no such file or folder")
    if source.is_dir():
        _finetune(network, source, out, marker, name, model, tell)
    elif network is Network.nuclei:
        from islet_imaging.network.training.nuclei_training import (
            NucleiTrainingConfig,
            train_nuclei,
        )

        folder = data or (Path(d) if (d := os.environ.get("ISLET_IMAGING_DATA")) else None)
        train_nuclei(NucleiTrainingConfig.from_yaml(source), out, data_dir=folder, progress=tell)
    else:
        from islet_imaging.network.training.positivity_training import (
            PositivityTrainingConfig,
            train_positivity,
        )

        train_positivity(PositivityTrainingConfig.from_yaml(source), out, progress=tell)
    say(f"checkpoint, log and curves ({plot_curves(out).name}): {out}")


def _finetune(
    network: Network,
    source: Path,
    out: Path,
    marker: str | None,
    name: str | None,
    model: str | None,
    tell: object,
) -> None:
    from islet_imaging.network.weights import check_new_name, keep_model

    if name:
        check_new_name(name)
    if network is Network.nuclei:
        from islet_imaging.network.training.nuclei_finetune import finetune_nuclei

        tuned = finetune_nuclei(source, out, model=model or "islet-nuclei", progress=tell)  # type: ignore[arg-type]
        made, before, after = tuned.model, tuned.before, tuned.after
        old = (tuned.phantoms_before, tuned.phantoms_after)
        single, weights = tuned.after_float32, tuned.weights
        shown = ("f1", "ap50", "count_bias")
    else:
        from islet_imaging.network.training.positivity_finetune import finetune_positivity

        taught = finetune_positivity(
            source,
            out,
            name=name or "my-stain",
            marker=marker,
            model=model or "islet-positivity",
            progress=tell,  # type: ignore[arg-type]
        )
        made, before, after = taught.model, taught.before, taught.after
        old = (taught.old_before, taught.old_after)
        single, weights = taught.after_float32, taught.weights
        shown = ("balanced_accuracy", "auc", "ece")
    for key in shown:
        say(
            f"{key}: held out {before[key]:.3f} before, {after[key]:.3f} after "
            f"({single[key]:.3f} with float32); "
            f"synthetic reference {old[0][key]:.3f} before, {old[1][key]:.3f} after"
        )
    say(weights)
    if name:
        say(f"kept as {name}: {keep_model(made, name)}")
    else:
        say(f"the new network: {made}; keep it with --name, or give this folder as the model")
