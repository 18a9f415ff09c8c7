"""Measure the nuclei network on sets of images with masks.

The idea: one function for every set (public images by the index, phantoms of a preset, a user's
folder), with the scale given and with the scale estimated, so that every number in the card and in
the documentation comes out of the same lines.

It fails to be honest for images that the weights were trained on; the names of the sets say which
part of the data they are, and the card says what was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Labels
from islet_imaging.errors import ImageReadError
from islet_imaging.network.training.matching import Matching, match_labels, summarise_matchings
from islet_imaging.network.training.nuclei_data import (
    folder_pairs,
    median_diameter,
    read_index,
    read_row,
    split_names,
)

Case = tuple[str, NDArray[np.generic], Labels, Labels | None, float]
"""Name, DNA image, true nuclei, nuclei that do not count (or None), diameter in px."""

ORGANS: tuple[str, ...] = ("bone", "heart", "liver", "muscle")


def image_sets() -> tuple[str, ...]:
    """Names of the sets that `cases` knows, without the phantoms."""
    return ("dsb_test", "dsb_val", "dsb_stage1test", *(f"tissue_{o}" for o in ORGANS))


def cases(name: str, data_dir: Path | None = None, *, phantom_seeds: int = 2) -> Iterator[Case]:
    """Read or render the images of one set.

    Parameters
    ----------
    name : str
        One of `image_sets`, or ``phantom_<preset>``.
    data_dir : Path, optional
        The data folder; phantoms do not need it.
    phantom_seeds : int
        Phantoms per preset; the seeds are none that training uses.

    Yields
    ------
    name, dna, truth, ignored, diameter_px
        ``ignored`` marks nuclei that are neither right nor wrong.
    """
    if name.startswith("phantom_"):
        yield from _phantom_cases(name.removeprefix("phantom_"), phantom_seeds)
        return
    if data_dir is None:
        raise ImageReadError(
            f"set {name}: the data folder is not given; pass it or set ISLET_IMAGING_DATA"
        )
    if name.startswith("tissue_"):
        organ = name.removeprefix("tissue_")
        rows = read_index(data_dir, datasets=["bitdepth_mouse_tissue"])
        rows = [r for r in rows if r["group"].startswith(f"{organ}/")]
    elif name == "dsb_stage1test":
        rows = read_index(data_dir, datasets=["dsb2018_stage1test_fluo"], roles=["dev"])
    else:
        names = split_names(data_dir)[name.removeprefix("dsb_")]
        rows = read_index(data_dir, datasets=["dsb2018_fluo"], roles=["train", "dev"])
        rows = [r for r in rows if Path(r["image"]).name in names]
    for row in rows:
        dna, truth, diameter = read_row(data_dir, row)
        yield Path(row["image"]).stem, dna, truth, None, diameter


def _phantom_cases(preset: str, seeds: int) -> Iterator[Case]:
    from islet_imaging.phantom import phantom

    for seed in range(seeds):
        made = phantom(preset, seed=9000 + seed, shape=(768, 768), channels=("DAPI",))
        truth = made.truth.nuclei
        yield (
            f"{preset}_{seed}",
            made.image.channel("DAPI"),
            truth,
            np.where(truth == 0, made.truth.partial_nuclei, 0).astype(np.int32),
            median_diameter(truth),
        )


def folder_cases(folder: Path) -> Iterator[Case]:
    """Read a user's folder of ``images/`` and ``masks/`` as cases."""
    for path, dna, truth in folder_pairs(folder):
        yield path.stem, dna, truth, None, median_diameter(truth)


def without_ignored(found: Labels, ignored: Labels | None) -> Labels:
    """Remove found nuclei of which more than half lies on nuclei that do not count."""
    if ignored is None:
        return found
    areas = np.bincount(found.ravel())
    on_ignored = np.bincount(found[ignored > 0], minlength=len(areas))
    drop = on_ignored > 0.5 * areas
    drop[0] = False
    return np.where(drop[found], 0, found).astype(np.int32)


def match_case(case: Case, found: Labels) -> Matching:
    """Match found labels with a case's truth."""
    return match_labels(case[2], without_ignored(found, case[3]))


def evaluate_nuclei(
    images: Sequence[Case] | Iterator[Case],
    *,
    model: str | None = None,
    known_scale: bool = True,
    device: str = "auto",
    segment: Callable[[NDArray[np.generic], float | None], Labels] | None = None,
) -> dict[str, float]:
    """Score a network, or any other function, on images with masks.

    Parameters
    ----------
    images : iterable of cases
        From `cases` or `folder_cases`.
    model : str, optional
        Name or folder of the network.
    known_scale : bool
        Whether the median nucleus diameter of the image is told.
    device : str
        What the network runs on; see ``engine.make_engine``.
    segment : callable, optional
        ``segment(dna, diameter_px or None)`` to be scored in the network's place.

    Returns
    -------
    dict
        See ``evaluation.summarise_matchings``.
    """
    from islet_imaging.network.engine import shared_engine
    from islet_imaging.network.nuclei import segment_nuclei_network

    if segment is None:
        engine = shared_engine(model or "islet-nuclei", device)

        def segment(dna: NDArray[np.generic], diameter: float | None) -> Labels:
            return segment_nuclei_network(dna, engine, diameter_px=diameter)

    matchings = []
    for case in images:
        diameter = case[4] if known_scale and np.isfinite(case[4]) else None
        matchings.append(match_case(case, segment(case[1], diameter)))
    return summarise_matchings(matchings)
