"""Train the nuclei network from a configuration file, or fine-tune it on a user's folder.

The idea: a YAML file says everything that makes a set of weights (sources, shares, split, steps,
seed), so that the model card can name one command.  Validation finds instances on whole images,
not on crops, because that is what users get; a fine-tuned network is judged on images that were
held out, beside the network it came from, before anything replaces anything.

It fails with a clear error when the data folder is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from islet_imaging._types import Work
from islet_imaging.errors import ImageReadError
from islet_imaging.network.training.configuration import read_config
from islet_imaging.network.training.nuclei_data import (
    CropSource,
    Sample,
    load_folder,
    load_rows,
    read_index,
    read_row,
    split_names,
)

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NucleiTrainingConfig:
    """Everything that makes a set of nuclei weights.

    Attributes
    ----------
    split : {"train", "all"}
        Of dsb2018: only the train part of the published split, or all that is marked train.
    left_out_organs : tuple of str
        Organs of the tissue set that are not trained on (``bone``, ``heart``, ``liver``,
        ``muscle``).
    shares : dict of str -> float
        How often crops come from ``cultures``, ``tissue``, ``phantoms``, ``folder``.
    phantom_images : int
        Number of rendered images; 0 leaves the source out.
    folder : str, optional
        A user's folder of ``images/`` and ``masks/``.
    crop_px : int
        Side of a crop at working scale.
    scale_jitter : (float, float)
        Range of nucleus diameters relative to the working one.
    plain_share : float
        Share of crops that are not augmented; see ``data.CropSource``.
    widths : tuple of int
        Of the network.
    steps, batch_size, learning_rate, warmup, ema_decay, seed : see ``LoopConfig``
    workers, threads, precision, validate_every : see ``LoopConfig``
    start_from : str, optional
        Checkpoint whose weights the training starts with.
    teacher : str, optional
        Name or folder of a larger network that this one begins as a part of, and whose fields it
        learns beside the truth; see `distillation`.
    """

    split: str = "train"
    left_out_organs: tuple[str, ...] = ()
    shares: dict[str, float] = field(
        default_factory=lambda: {"cultures": 0.55, "tissue": 0.45, "phantoms": 0.2, "folder": 1.0}
    )
    phantom_images: int = 0
    folder: str | None = None
    crop_px: int = 128
    scale_jitter: tuple[float, float] = (0.6, 1.7)
    plain_share: float = 0.0
    widths: tuple[int, ...] = (32, 64, 96, 128)
    steps: int = 4500
    batch_size: int = 16
    learning_rate: float = 3e-3
    warmup: float = 0.08
    ema_decay: float = 0.998
    seed: int = 0
    workers: int = 1
    threads: int = 2
    precision: str = "float32"
    validate_every: int = 500
    start_from: str | None = None
    teacher: str | None = None

    @classmethod
    def from_yaml(cls, path: Path) -> NucleiTrainingConfig:
        """Read a configuration; unknown keys are errors."""
        return read_config(cls, path)


def training_sources(
    config: NucleiTrainingConfig, data_dir: Path | None, phantom_cache: Path | None = None
) -> dict[str, list[Sample]]:
    """Load the samples of each source that has a share."""
    sources: dict[str, list[Sample]] = {}
    wants = {n for n, share in config.shares.items() if share > 0}
    if {"cultures", "tissue"} & wants:
        if data_dir is None:
            raise ImageReadError(
                "the training data folder is not given; pass data_dir or set ISLET_IMAGING_DATA"
            )
        rows = read_index(data_dir, datasets=["dsb2018_fluo"])
        if config.split == "train":
            names = split_names(data_dir)["train"]
            rows = [r for r in rows if Path(r["image"]).name in names]
        if "cultures" in wants:
            sources["cultures"] = load_rows(data_dir, rows)
        if "tissue" in wants:
            tissue = read_index(data_dir, datasets=["bitdepth_mouse_tissue"])
            tissue = [r for r in tissue if r["group"].split("/")[0] not in config.left_out_organs]
            sources["tissue"] = load_rows(data_dir, tissue)
    if config.phantom_images and "phantoms" in wants:
        from islet_imaging.network.training.nuclei_phantoms import phantom_samples

        cache = phantom_cache or Path("phantoms")
        sources["phantoms"] = phantom_samples(config.phantom_images, cache, seed=config.seed)
    if config.folder is not None:
        sources["folder"] = load_folder(Path(config.folder))
    return sources


def crop_source(config: NucleiTrainingConfig, sources: dict[str, list[Sample]]) -> CropSource:
    """Crops of these samples as a training with this configuration sees them."""
    return CropSource(
        sources,
        config.shares,
        size_px=config.crop_px,
        seed=config.seed,
        scale_jitter=config.scale_jitter,
        plain_share=config.plain_share,
    )


def validation_rows(
    config: NucleiTrainingConfig, data_dir: Path
) -> dict[str, list[dict[str, str]]]:
    """Index rows that validate a run: the split's validation part and the organs left out.

    Validation never changes a weight; it draws the curve that says when a run has gone wrong.
    """
    sets: dict[str, list[dict[str, str]]] = {}
    if config.split == "train":
        names = split_names(data_dir)["val"]
        rows = read_index(data_dir, datasets=["dsb2018_fluo"])
        sets["val"] = [r for r in rows if Path(r["image"]).name in names]
    else:
        sets["dev"] = read_index(data_dir, datasets=["dsb2018_stage1test_fluo"], roles=["dev"])
    tissue = read_index(data_dir, datasets=["bitdepth_mouse_tissue"])
    for organ in config.left_out_organs:
        sets[organ] = [r for r in tissue if r["group"].startswith(f"{organ}/")]
    return sets


def _validator(
    config: NucleiTrainingConfig, data_dir: Path | None
) -> Callable[[nn.Module], dict[str, float]] | None:
    if data_dir is None:
        return None
    from islet_imaging.network.engine import TorchEngine
    from islet_imaging.network.nuclei import segment_nuclei_network
    from islet_imaging.network.training.matching import match_labels, summarise_matchings

    sets = {
        name: [read_row(data_dir, r) for r in rows]
        for name, rows in validation_rows(config, data_dir).items()
    }

    def validate(net: nn.Module) -> dict[str, float]:
        engine = TorchEngine(net, "cpu")
        numbers: dict[str, float] = {}
        for name, images in sets.items():
            matchings = [
                match_labels(
                    truth, segment_nuclei_network(dna, engine, diameter_px=d, work=Work(threads=1))
                )
                for dna, truth, d in images
            ]
            scores = summarise_matchings(matchings)
            for key in ("f1", "ap50", "ap_mean"):
                numbers[f"{name}_{key}"] = round(scores[key], 4)
        return numbers

    return validate


def train_nuclei(
    config: NucleiTrainingConfig,
    out_dir: Path,
    *,
    data_dir: Path | None = None,
    sources: dict[str, list[Sample]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> nn.Module:
    """Train the nuclei network; the same call goes on after a stop.

    Parameters
    ----------
    config : NucleiTrainingConfig
        What to train on and for how long.
    out_dir : Path
        Folder for checkpoint, log, validation curve and the configuration itself.
    data_dir : Path, optional
        The data folder (``nuclei/index.csv`` in it).
    sources : dict of str -> list of Sample, optional
        Images in place of those that the configuration names.
    progress, cancelled : callable, optional
        See ``training.train``.

    Returns
    -------
    torch.nn.Module
        The averaged network.
    """
    import numpy as np
    import torch

    from islet_imaging.network.architecture import UNet, UNetConfig, fold_batch_norm
    from islet_imaging.network.targets import N_FIELDS
    from islet_imaging.network.training.distillation import (
        REFIT_CROPS,
        TaughtCrops,
        distillation_loss,
        part_of,
    )
    from islet_imaging.network.training.loop import ItemSource, LoopConfig, train
    from islet_imaging.network.training.nuclei_loss import nuclei_loss
    from islet_imaging.network.weights import load_model

    if sources is None:
        sources = training_sources(config, data_dir, out_dir / "phantoms")
    for name, samples in sources.items():
        log.info("source %s: %d images, share %s", name, len(samples), config.shares.get(name))
    torch.manual_seed(config.seed)
    net = UNet(UNetConfig(1, N_FIELDS, config.widths))
    crops: ItemSource = crop_source(config, sources)
    loss = nuclei_loss
    if config.teacher is not None:
        if not (out_dir / "checkpoint.pt").exists():
            images = np.stack([crops.crop(i)["image"] for i in range(REFIT_CROPS)])
            teacher = load_model(config.teacher).torch_module()
            net = part_of(teacher, net.config, torch.from_numpy(images))
        else:
            net = fold_batch_norm(net)
        crops, loss = TaughtCrops(crops, config.teacher), distillation_loss
    return train(
        net,
        crops,
        loss,
        LoopConfig.of(config),
        out_dir,
        validate=_validator(config, data_dir),
        about={"config": asdict(config), "images": {k: len(v) for k, v in sources.items()}},
        start_from=Path(config.start_from) if config.start_from else None,
        progress=progress,
        cancelled=cancelled,
    )
