"""The example: a synthetic experiment made here and now, scored, and held against its truth.

The idea: whoever installed the package sees in a minute what it does and how right it is, without
data of their own and without a network connection.
It fails to say anything about real stainings: these islets are synthetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from islet_imaging._types import usable_cores
from islet_imaging.phantom import write_experiment
from islet_imaging.run.folder import Run
from islet_imaging.scoring.folder import FolderProgress, score_folder


@dataclass(frozen=True)
class DemoResult:
    """The run, and sentences that compare it with the truth."""

    run: Run
    comparison: tuple[str, ...]


def make_demo(
    folder: str | Path, *, seed: int = 0, progress: FolderProgress | None = None
) -> DemoResult:
    """Make a small synthetic experiment, score it and compare it with its truth.

    Parameters
    ----------
    folder : path
        ``images/`` and ``run/`` are made in it; an earlier example there is used again.
    seed : int
        Decides the images.
    progress : callable, optional
        As in `score_folder`.

    Returns
    -------
    DemoResult
    """
    folder = Path(folder)
    images = folder / "images"
    if not (images / "samples.csv").exists():
        write_experiment(
            images,
            preset="ffpe20x",
            seed=seed,
            n_conditions=2,
            n_batches=3,
            n_islets=2,
            insulin_fractions=(0.35, 0.55),
            control_islets=2,
            single_stain_batches=1,
            shape=(576, 576),
            # as fine as the eye can tell; whose light is in whose ring is asked by nobody here
            plane_um=2.0,
            measure_light=False,
            workers=usable_cores(),
        )
    run = score_folder(images, folder / "run", samples=images / "samples.csv", progress=progress)
    return DemoResult(run, tuple(_against_truth(run, images / "truth")))


def _against_truth(run: Run, truth: Path) -> list[str]:
    import pandas as pd

    known = pd.read_csv(truth / "batches.csv")
    keys = ["condition", "batch", "marker"]
    both = run.batches.merge(known[[*keys, "section_fraction"]], on=keys)
    said = []
    for marker, rows in both.groupby("marker", sort=False):
        error = (100 * (rows["fraction"] - rows["section_fraction"]).abs()).dropna()
        if not len(error):
            continue
        said.append(
            f"Truth of this synthetic experiment: the {len(error)} batches' {marker} fractions are "
            f"off by {error.mean():.1f} percentage points on average, {error.max():.1f} at most."
        )
    return said
