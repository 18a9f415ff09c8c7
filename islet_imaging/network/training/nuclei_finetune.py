"""Fine-tune the nuclei network on a user's own images and corrected masks.

The idea: part of the user's images is held out, the shipped weights are trained on the others with
rendered tissue mixed in against forgetting, and both networks are scored on the images held out
and on phantoms.  The new network is written to a folder of its own beside that comparison; nothing
that exists is replaced.  Whoever wants it passes the folder as ``model``.

It fails to be believable with fewer than about four images: the one held out may be like no other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from islet_imaging.errors import ImageReadError
from islet_imaging.network.postprocess import PostprocessConfig
from islet_imaging.network.training.loop import LoopConfig, train
from islet_imaging.network.training.nuclei_data import CropSource, folder_pairs, load_folder
from islet_imaging.network.weights import load_model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinetuneResult:
    """What a fine-tuning gave.

    Attributes
    ----------
    model : Path
        Folder of the new network.
    held_out : tuple of str
        Images that were not trained on.
    before, after : dict
        Scores on the images held out, of the network it came from and of the new one.
    phantoms_before, phantoms_after : dict
        The same on phantoms: what was forgotten.
    after_float32, phantoms_after_float32 : dict
        Of the new network's float32 weights; the others are of the weights that are kept.
    weights : str
        Which weights of the new network run on a processor, and why.
    """

    model: Path
    held_out: tuple[str, ...]
    before: dict[str, float]
    after: dict[str, float]
    phantoms_before: dict[str, float]
    phantoms_after: dict[str, float]
    after_float32: dict[str, float]
    phantoms_after_float32: dict[str, float]
    weights: str


def finetune_nuclei(
    folder: Path,
    out_dir: Path,
    *,
    model: str = "islet-nuclei",
    held_out_share: float = 0.25,
    steps: int = 200,
    batch_size: int = 8,
    learning_rate: float = 3e-4,
    phantom_images: int = 24,
    seed: int = 0,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> FinetuneResult:
    """Fine-tune a nuclei network and compare it with what it came from.

    Parameters
    ----------
    folder : Path
        ``images/NAME.tif`` with ``masks/NAME.tif``; at least two.
    out_dir : Path
        Gets checkpoint, log, ``comparison.json`` and the new network in ``model/``.  The same
        call goes on after a stop.
    model : str
        Name or folder of the network to start from.
    held_out_share : float
        Share of the images that is kept for the comparison, at least one.
    steps, batch_size, learning_rate, seed, threads
        See ``training.LoopConfig``.
    phantom_images : int
        Rendered images mixed in against forgetting.
    progress, cancelled : callable, optional
        See ``training.train``.

    Returns
    -------
    FinetuneResult
        Scores before and after.

    Raises
    ------
    ImageReadError
        With fewer than two images, or images without masks.
    """
    from islet_imaging.network import architecture
    from islet_imaging.network.training.export_model import export_model, nuclei_settings
    from islet_imaging.network.training.integers import choose_weights
    from islet_imaging.network.training.model_cards import NUCLEI
    from islet_imaging.network.training.nuclei_evaluation import (
        cases,
        evaluate_nuclei,
        folder_cases,
    )
    from islet_imaging.network.training.nuclei_loss import nuclei_loss
    from islet_imaging.network.training.nuclei_phantoms import phantom_samples

    names = [path.name for path, _, _ in folder_pairs(folder)]
    if len(names) < 2:
        raise ImageReadError(
            f"{folder}: fine-tuning needs at least two images, one of them to measure on"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    n = min(len(names) - 1, max(1, round(held_out_share * len(names))))
    held_out = tuple(sorted(names[i] for i in order[:n]))
    sources = {
        "folder": load_folder(folder, only=set(names) - set(held_out)),
        "phantoms": phantom_samples(phantom_images, out_dir / "phantoms", seed=seed),
    }
    start = load_model(model)
    net = start.torch_module()
    assert isinstance(net, architecture.UNet)
    crops = CropSource(sources, {"folder": 0.7, "phantoms": 0.3}, seed=seed)
    tuned = train(
        net,
        crops,
        nuclei_loss,
        LoopConfig(
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            ema_decay=0.98,
            seed=seed,
            threads=threads,
            workers=0,
        ),
        out_dir,
        about={"folder": str(folder), "held_out": held_out, "start": start.sha256},
        progress=progress,
        cancelled=cancelled,
    )
    assert isinstance(tuned, architecture.UNet)
    new = out_dir / "model"
    export_model(
        tuned,
        new,
        NUCLEI,
        version=f"{start.version.removesuffix('+finetuned')}+finetuned",
        settings=nuclei_settings(PostprocessConfig(**start.settings["postprocess"])),
        training={"start": start.sha256, "steps": steps, "seed": seed},
    )

    def score(which: str) -> tuple[dict[str, float], dict[str, float]]:
        own = [c for c in folder_cases(folder) if c[0] in stems]
        return (
            evaluate_nuclei(own, model=which, device="cpu"),
            evaluate_nuclei(cases("phantom_ffpe20x", phantom_seeds=1), model=which, device="cpu"),
        )

    stems = {Path(name).stem for name in held_out}
    before, phantoms_before = score(model)
    chosen = choose_weights(new, crops, lambda: score(str(new)), "f1")
    after, phantoms_after = chosen.scores
    single, phantoms_single = chosen.float32
    result = FinetuneResult(
        model=new,
        held_out=held_out,
        before=before,
        after=after,
        phantoms_before=phantoms_before,
        phantoms_after=phantoms_after,
        after_float32=single,
        phantoms_after_float32=phantoms_single,
        weights=chosen.note,
    )
    (out_dir / "comparison.json").write_text(
        json.dumps({k: v for k, v in vars(result).items() if k != "model"}, indent=1)
    )
    log.info("F1 on %d held-out images: %.3f before, %.3f after", n, before["f1"], after["f1"])
    log.info("%s (F1 %.3f with float32)", chosen.note, single["f1"])
    return result
