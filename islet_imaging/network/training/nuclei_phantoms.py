"""Rendered dense tissue and islets as a source of training images.

The idea: human masks of dense tissue are rare, so phantoms over the whole range of stainings are
rendered once, kept in a folder, and mixed in.  Nuclei that the truth calls partial (caps, ghosts,
covered ones) are marked as ignored: finding them is neither right nor wrong.

It fails where the renderer does: what it does not draw is not learned from it.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from islet_imaging.network.training.augmentation import IGNORED
from islet_imaging.network.training.nuclei_data import Sample, make_sample, median_diameter

log = logging.getLogger(__name__)


def phantom_samples(
    n: int, cache: Path, *, seed: int = 0, side_px: int = 320, tissue_share: float = 0.5
) -> list[Sample]:
    """Render phantoms, or read those that were rendered before.

    Parameters
    ----------
    n : int
        How many images.
    cache : Path
        Folder of ``phantom_<seed>_<i>.npz``.
    seed : int
        With the number of an image it fixes the image.
    side_px : int
        Height and width.
    tissue_share : float
        Share of images of dense tissue; the others show islets.

    Returns
    -------
    list of Sample
        Images with fewer than 5 nuclei are left out.
    """
    from islet_imaging.phantom import phantom, random_parameters

    cache.mkdir(parents=True, exist_ok=True)
    samples = []
    for i in range(n):
        path = cache / f"phantom_{seed}_{i}.npz"
        if not path.exists():
            rng = np.random.default_rng((seed, i))
            scene = "tissue" if rng.random() < tissue_share else "islets"
            made = phantom(
                random_parameters(rng, shape=(side_px, side_px), channels=("DAPI",), scene=scene),
                seed=int(rng.integers(2**31)),
            )
            labels = made.truth.nuclei.astype(np.int32)
            labels = np.where((labels == 0) & (made.truth.partial_nuclei > 0), IGNORED, labels)
            part = path.with_suffix(".part.npz")
            np.savez_compressed(part, image=made.image.channel("DAPI"), labels=labels)
            part.replace(path)
            if i % 20 == 0:
                log.info("phantom %d of %d rendered", i + 1, n)
        with np.load(path) as stored:
            image, labels = stored["image"], stored["labels"]
        if len(np.unique(labels)) < 7:
            continue
        samples.append(
            make_sample(
                image,
                labels,
                name=path.name,
                group="phantom",
                diameter_px=median_diameter(np.maximum(labels, 0)),
            )
        )
    return samples
