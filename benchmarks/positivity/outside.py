"""Networks on stains beyond what they were trained on: what each part of the training is worth.

    python benchmarks/positivity/outside.py
    python benchmarks/positivity/outside.py --also "every crop varied=FOLDER"

The network is asked alone, image by image, on true nuclei; controls and levels have no say.
Writes ``results/outside.csv`` and ``.md``: AUC (mean over images), balanced accuracy and
calibration error of all cells of five images of a preset, and, in ``.md``, AUC / balanced accuracy
as means over presets.  Needs the extra ``train``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from finetune import STAINS
from run import markdown

from islet_imaging.network.engine import make_engine
from islet_imaging.network.training.positivity_data import StainedSample, make_stained_sample
from islet_imaging.network.training.positivity_evaluation import judge
from islet_imaging.phantom import phantom

RESULTS = Path(__file__).parent / "results"
SEED = 950_000
SHAPE = (420, 420)
PRESETS = ("ffpe20x", "cryo10um_widefield", "hcs0.65")
FRACTIONS = (0.2, 0.4, 0.6, 0.1, 0.3)
CHANGES: dict[str, dict[str, Any]] = {
    "as the preset": {},
    **STAINS,
    "sticky antibody and dye of DNA": {
        "nonspecific_level": 0.3,
        "nonspecific_sigma": 0.4,
        "bleed_dna": 0.6,
    },
}


def samples(preset: str, changes: dict[str, Any]) -> list[StainedSample]:
    """Five images of a preset with its stain changed, each with another share of positive cells."""
    made = []
    for k, share in enumerate(FRACTIONS):
        image = phantom(
            preset,
            seed=SEED + k,
            shape=SHAPE,
            channels=("DAPI", "INS"),
            insulin_fraction=share,
            **changes,
        )
        cells = image.truth.cells
        cells = cells[cells["visible"] & ~cells["pyknotic"] & ~cells["touches_border"]]
        sample = make_stained_sample(
            f"{preset}-{k}",
            *image.array[:2],
            image.truth.nuclei.astype(np.int32),
            pixel_size_um=image.parameters.pixel_size_um,
            cells=cells["cell"].to_numpy(np.int32),
            expressed=cells["INS_expressed"].to_numpy(bool),
        )
        assert sample is not None
        made.append(sample)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--also", nargs="*", default=[], metavar="LABEL=FOLDER")
    args = parser.parse_args()
    wanted = {"islet-positivity": "islet-positivity"} | dict(a.split("=", 1) for a in args.also)
    networks = {label: make_engine(where, "cpu") for label, where in wanted.items()}
    rows = []
    for preset in PRESETS:
        for stain, changes in CHANGES.items():
            shown = samples(preset, changes)
            for label, network in networks.items():
                scores = judge(network, shown)
                keep = {k: scores[k] for k in ("auc", "balanced_accuracy", "ece")}
                row = {"preset": preset, "stain": stain, "network": label}
                rows.append(row | {"cells": int(scores["n"])} | keep)
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "outside.csv", index=False)
    scores = ["auc", "balanced_accuracy"]
    means = table.pivot_table(index="stain", columns="network", values=scores)
    shown = means.map("{:.3f}".format)
    both = shown["auc"] + " / " + shown["balanced_accuracy"]
    wide = both.loc[list(CHANGES), list(networks)]
    (RESULTS / "outside.md").write_text(f"{markdown(wide.reset_index())}\n{markdown(table)}")


if __name__ == "__main__":
    main()
