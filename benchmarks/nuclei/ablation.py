"""Nuclei: what post-processing and scale are worth, measured without training.

    python benchmarks/nuclei/ablation.py

Writes ``results/ablation.csv`` and ``.md``.  Every row changes one thing of what is shipped.  What
needs training (phantoms, tissue, scale) is in ``trained_ablation.py``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage as ndi
from skimage.segmentation import watershed

from islet_imaging.network import nuclei as inference
from islet_imaging.network.engine import shared_engine
from islet_imaging.network.postprocess import Instances, PostprocessConfig, sigmoid
from islet_imaging.network.training.matching import summarise_matchings
from islet_imaging.network.training.nuclei_evaluation import cases, match_case

HERE = Path(__file__).parent
SETS = ("dsb_val", "dsb_stage1test", "tissue_bone", "phantom_cryo10um_widefield")


def watershed_on_distance(fields: np.ndarray, config: PostprocessConfig) -> Instances:
    """The alternative without votes: peaks of the distance field, watershed from them."""
    mask = sigmoid(fields[:4]).max(0) > config.foreground
    distance = ndi.gaussian_filter(np.where(mask, fields[7], 0), config.smooth_px)
    top = (ndi.maximum_filter(distance, 5) == distance) & mask
    seeds, _ = ndi.label(top, np.ones((3, 3)))
    return _instances(watershed(-distance, seeds, mask=mask))


def centres_and_watershed(fields: np.ndarray, config: PostprocessConfig) -> Instances:
    """The alternative with the centre field: its peaks, watershed on it."""
    mask = sigmoid(fields[:4]).max(0) > config.foreground
    centre = sigmoid(fields[6])
    top = (ndi.maximum_filter(centre, 5) == centre) & mask & (centre > 0.3)
    seeds, _ = ndi.label(top, np.ones((3, 3)))
    return _instances(watershed(-centre, seeds, mask=mask))


def _instances(labels: np.ndarray) -> Instances:
    n = int(labels.max())
    centres = np.array(ndi.center_of_mass(labels > 0, labels, range(1, n + 1))).reshape(n, 2)
    return Instances(labels.astype(np.int32), np.rint(centres).astype(np.int64))


def main() -> None:
    default = Path(os.environ.get("ISLET_IMAGING_DATA", HERE.parents[1] / ".." / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--model", default="islet-nuclei")
    parser.add_argument("--sets", default=",".join(SETS))
    args = parser.parse_args()
    engine = shared_engine(args.model)
    shipped = PostprocessConfig(**engine.settings["postprocess"])
    find = inference.find_instances
    variants: dict[str, tuple[Callable[..., Instances], PostprocessConfig, float | None]] = {
        "as shipped": (find, shipped, 1.0),
        "offsets followed once more": (find, replace(shipped, follow=1), 1.0),
        "offsets followed 3 times more": (find, replace(shipped, follow=3), 1.0),
        "votes not smoothed": (find, replace(shipped, smooth_px=0.3), 1.0),
        "any confidence": (find, replace(shipped, min_confidence=0.0), 1.0),
        "any size": (find, replace(shipped, min_area=0.0), 1.0),
        "watershed on distance": (watershed_on_distance, shipped, 1.0),
        "watershed on centre": (centres_and_watershed, shipped, 1.0),
        "scale x 0.7": (find, shipped, 0.7),
        "scale x 1.4": (find, shipped, 1.4),
        "scale estimated": (find, shipped, None),
        "scale not normalised": (find, shipped, -1.0),
    }
    rows = []
    for name in args.sets.split(","):
        images = list(cases(name, args.data))
        for variant, (method, config, factor) in variants.items():
            inference.find_instances = method
            matchings = []
            for case in images:
                diameter = None if factor is None else case[4] * factor
                if factor == -1.0:
                    diameter = 16.0  # the image goes in at its own resolution
                labels = inference.segment_nuclei_network(
                    case[1], engine, diameter_px=diameter, postprocess=config
                )
                matchings.append(match_case(case, labels))
            inference.find_instances = find
            scores = summarise_matchings(matchings)
            keep = {k: round(scores[k], 4) for k in ("f1", "ap50", "ap_mean", "count_bias")}
            rows.append({"set": name, "variant": variant, **keep})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(HERE / "results" / "ablation.csv", index=False)
    wide = table.pivot_table(index="variant", columns="set", values="f1").loc[list(variants)]
    lines = ["F1 at 0.5.", "", "| variant | " + " | ".join(wide.columns) + " |"]
    lines.append("|" + "---|" * (1 + len(wide.columns)))
    lines += [
        f"| {variant} | " + " | ".join(f"{v:.3f}" for v in values) + " |"
        for variant, values in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    (HERE / "results" / "ablation.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
