"""How right the positivity network is, cell by cell.

The idea: whole samples go through the network as a user's image does; calls are judged by numbers
that do not depend on where a threshold lies (area under the curve), that do (balanced accuracy),
and that ask whether probabilities can be believed (calibration error).

It fails to say anything of real stainings: the truth is that of rendered images, or of the cells
that a person corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging.network.stain import curve, network_input
from islet_imaging.network.training.positivity_data import StainedSample
from islet_imaging.positivity.scores import auc, balanced_accuracy, ece

if TYPE_CHECKING:
    from islet_imaging.network.engine import Engine


def answers(engine: Engine, sample: StainedSample) -> NDArray[np.float32]:
    """Fields of a whole sample's cells, (N, 4); NaN for a nucleus too small to be drawn."""
    import torch

    from islet_imaging.network.training.positivity_loss import cell_means

    dna = np.asarray(sample.dna, np.float32)
    shape = tuple(-(-n // 16) * 16 for n in dna.shape)
    pad = [(0, n - o) for n, o in zip(shape, dna.shape, strict=True)]
    image = network_input(
        np.pad(dna, pad, mode="edge"),
        np.pad(np.asarray(sample.marker, np.float32), pad, mode="edge"),
    )
    half = np.pad(np.maximum(sample.nuclei, 0).astype(np.int64), pad)[::2, ::2]
    n = len(sample.expressed)
    with torch.no_grad():
        fields_ = torch.from_numpy(engine.run(np.ascontiguousarray(image[None])))
        means = cell_means(fields_, torch.from_numpy(half.copy())[None], n)[0].numpy()
    means[np.bincount(half.ravel(), minlength=n + 1)[1:] == 0] = np.nan
    return np.asarray(means, np.float32)


def judge(engine: Engine, samples: Sequence[StainedSample]) -> dict[str, float]:
    """Score a network on whole samples.

    Returns
    -------
    dict
        ``auc`` (mean over images that hold both kinds of cells), ``balanced_accuracy`` and
        ``ece`` of the picture alone over all cells, ``n``, and ``own_light``, the mean absolute
        error of the middle guess on the compressive scale.
    """
    odds, truth, aucs, errors = [], [], [], []
    for sample in samples:
        said = answers(engine, sample)
        known = np.isfinite(said[:, 3])
        t = sample.expressed[known] > 0.5
        odds.append(said[known, 3])
        truth.append(t)
        if t.any() and not t.all():
            aucs.append(auc(t, said[known, 3]))
        light = curve(sample.own[known])
        errors.append(np.abs(light - said[known, 1])[np.isfinite(light)])
    p = 1 / (1 + np.exp(-np.concatenate(odds).astype(np.float64)))
    t = np.concatenate(truth)
    error = np.concatenate(errors)
    return {
        "auc": float(np.mean(aucs)) if aucs else float("nan"),
        "balanced_accuracy": balanced_accuracy(t, p > 0.5),
        "ece": ece(t, p),
        "own_light": float(error.mean()) if error.size else float("nan"),
        "n": float(len(t)),
    }
