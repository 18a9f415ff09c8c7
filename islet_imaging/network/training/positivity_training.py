"""Train the positivity network from a configuration file.

The idea: staining runs are rendered once, kept in the training's folder, and split by run: what
validates was never trained on.  Validation is per cell on whole images, as a user gets it.

It fails to say anything of real stainings: what is learned and measured here is synthetic.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from islet_imaging.network.stain import N_FIELDS
from islet_imaging.network.training.configuration import read_config
from islet_imaging.network.training.positivity_data import StainCropSource, run_samples

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PositivityTrainingConfig:
    """Everything that makes a set of positivity weights.

    Attributes
    ----------
    runs : int
        Rendered staining runs that are trained on (numbers from ``first_run``).
    first_run : int
        Number of the first run.
    pattern_share : float
        Share of runs whose product lies in granules, on one side, in patches or near the nucleus.
    validation_runs : int
        The runs after those, which validate.
    crop_px : int
        Side of a crop at working scale.
    plain_share : float
        Share of crops that are not varied, see ``StainCropSource``.
    widths : tuple of int
        Of the network.
    steps, batch_size, learning_rate, warmup, ema_decay, seed : see ``LoopConfig``
    workers, threads, precision, validate_every : see ``LoopConfig``
    start_from : str, optional
        What the training starts with: a checkpoint, or a network by its name or folder.
    """

    runs: int = 500
    first_run: int = 0
    pattern_share: float = 0.0
    validation_runs: int = 20
    crop_px: int = 160
    plain_share: float = 0.0
    widths: tuple[int, ...] = (24, 48, 64, 96)
    steps: int = 8000
    batch_size: int = 16
    learning_rate: float = 3e-3
    warmup: float = 0.05
    ema_decay: float = 0.998
    seed: int = 0
    workers: int = 2
    threads: int = 2
    precision: str = "float32"
    validate_every: int = 1000
    start_from: str | None = None

    @classmethod
    def from_yaml(cls, path: Path) -> PositivityTrainingConfig:
        """Read a configuration; unknown keys are errors."""
        return read_config(cls, path)


def training_crops(config: PositivityTrainingConfig, cache: Path) -> StainCropSource:
    """Crops of the runs that are trained on; `cache` keeps the rendered runs."""
    runs = range(config.first_run, config.first_run + config.runs)
    return StainCropSource(
        run_samples(runs, cache, pattern_share=config.pattern_share),
        size_px=config.crop_px,
        seed=config.seed,
        plain_share=config.plain_share,
    )


def train_positivity(
    config: PositivityTrainingConfig,
    out_dir: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> nn.Module:
    """Train the positivity network; the same call goes on after a stop.

    Parameters
    ----------
    config : PositivityTrainingConfig
        What to train on and for how long.
    out_dir : Path
        Folder for checkpoint, log, validation curve and the rendered runs.
    progress, cancelled : callable, optional
        See ``training.train``.

    Returns
    -------
    torch.nn.Module
        The averaged network.
    """
    import torch

    from islet_imaging.network.architecture import UNet, UNetConfig
    from islet_imaging.network.engine import TorchEngine
    from islet_imaging.network.training.loop import LoopConfig, train
    from islet_imaging.network.training.positivity_evaluation import judge
    from islet_imaging.network.training.positivity_loss import positivity_loss
    from islet_imaging.network.weights import load_model

    cache = out_dir / "runs"
    first = config.first_run + config.runs
    crops = training_crops(config, cache)
    held_out = run_samples(
        range(first, first + config.validation_runs), cache, pattern_share=config.pattern_share
    )
    n = len(crops.samples)
    log.info("%d images of %d runs, %d to validate", n, config.runs, len(held_out))
    torch.manual_seed(config.seed)
    checkpoint = Path(config.start_from) if config.start_from else None
    net: nn.Module
    if checkpoint is not None and checkpoint.suffix != ".pt":
        # released weights hold no batch norms: they go on without
        net, checkpoint = load_model(str(config.start_from)).torch_module(), None
    else:
        net = UNet(UNetConfig(3, N_FIELDS, config.widths))
    return train(
        net,
        crops,
        positivity_loss,
        LoopConfig.of(config),
        out_dir,
        validate=lambda averaged: judge(TorchEngine(averaged, "cpu"), held_out),
        about={"network": "positivity", "config": asdict(config), "images": n},
        start_from=checkpoint,
        progress=progress,
        cancelled=cancelled,
    )
