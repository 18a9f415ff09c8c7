"""Nuclei: what phantoms, tissue, one working scale and more parameters are worth, by training.

    python benchmarks/nuclei/trained_ablation.py --out FOLDER

Writes ``results/trained_ablation.csv`` and ``.md``.  Every row is a short training from random
weights (the same number of steps, the same seed) that differs in one thing from the first row.
Bone and muscle are left out of all of them, so that tissue is measured on organs that no row has
seen.  A stopped call goes on; each row takes minutes on one core.

It fails to say what a long training makes of the difference.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from islet_imaging._types import Work
from islet_imaging.network.engine import TorchEngine
from islet_imaging.network.normalise import WORKING_DIAMETER_PX
from islet_imaging.network.nuclei import segment_nuclei_network
from islet_imaging.network.training.matching import summarise_matchings
from islet_imaging.network.training.nuclei_data import (
    Sample,
    make_sample,
    read_index,
    read_row,
    split_names,
)
from islet_imaging.network.training.nuclei_evaluation import cases, match_case
from islet_imaging.network.training.nuclei_training import (
    NucleiTrainingConfig,
    train_nuclei,
    training_sources,
)

HERE = Path(__file__).parent
SETS = ("dsb_val", "dsb_stage1test", "tissue_bone", "tissue_muscle", "phantom_cryo10um_widefield")
BASE = NucleiTrainingConfig(
    left_out_organs=("bone", "muscle"),
    shares={"cultures": 0.42, "tissue": 0.38, "phantoms": 0.2},
    phantom_images=300,
    crop_px=144,
    widths=(40, 80, 120, 160),
    steps=1500,
    threads=1,
    precision="bfloat16",
    validate_every=1500,
    seed=2,
)
# of 419 images of cultures and tissue 26 are tissue: .06 of what phantoms leave
BY_NUMBER = {"cultures": 0.75, "tissue": 0.05, "phantoms": 0.2}
VARIANTS = {
    "as shipped, short": BASE,
    "without phantoms": replace(BASE, shares={"cultures": 0.52, "tissue": 0.48}),
    "tissue as rare as in the data": replace(BASE, shares=BY_NUMBER),
    "without tissue": replace(BASE, shares={"cultures": 0.8, "phantoms": 0.2}),
    "scale not normalised": BASE,
    "twice the parameters": replace(BASE, widths=(56, 112, 168, 224)),
}


def at_native_scale(
    config: NucleiTrainingConfig, data_dir: Path, phantoms: Path
) -> dict[str, list[Sample]]:
    """The same images, each said to have nuclei of the working diameter: none is rescaled."""
    names = split_names(data_dir)["train"]
    rows = read_index(data_dir, datasets=["dsb2018_fluo"])
    sets = {"cultures": [r for r in rows if Path(r["image"]).name in names]}
    rows = read_index(data_dir, datasets=["bitdepth_mouse_tissue"])
    sets["tissue"] = [r for r in rows if r["group"].split("/")[0] not in config.left_out_organs]
    sources = {
        name: [
            make_sample(
                *read_row(data_dir, row)[:2],
                name=row["image"],
                group=row["group"],
                diameter_px=WORKING_DIAMETER_PX,
            )
            for row in rows
        ]
        for name, rows in sets.items()
    }
    made = training_sources(replace(config, shares={"phantoms": 1.0}), data_dir, phantoms)
    sources["phantoms"] = [
        Sample(s.name, s.group, [(*s.levels[0][:2], WORKING_DIAMETER_PX)]) for s in made["phantoms"]
    ]
    return sources


def write_tables(table: pd.DataFrame) -> None:
    """Write what is known so far; a row takes minutes."""
    table.to_csv(HERE / "results" / "trained_ablation.csv", index=False)
    done = list(dict.fromkeys(table["variant"]))
    wide = table.pivot_table(index="variant", columns="set", values="f1").loc[done, list(SETS)]
    lines = [f"F1 at 0.5 after {BASE.steps} steps; bone and muscle left out of the training.", ""]
    lines.append("| variant | " + " | ".join(wide.columns) + " |")
    lines.append("|" + "---|" * (1 + len(wide.columns)))
    lines += [
        f"| {variant} | " + " | ".join(f"{v:.3f}" for v in values) + " |"
        for variant, values in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    (HERE / "results" / "trained_ablation.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    default = Path(os.environ.get("ISLET_IMAGING_DATA", HERE.parents[1] / ".." / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--phantoms", type=Path, help="folder of phantoms rendered before")
    args = parser.parse_args()
    phantoms = args.phantoms or args.out / "phantoms"
    rows = []
    for variant, config in VARIANTS.items():
        native = variant == "scale not normalised"
        make = at_native_scale if native else training_sources
        net = train_nuclei(
            config,
            args.out / variant.replace(" ", "_").replace(",", ""),
            sources=make(config, args.data, phantoms),
        )
        engine = TorchEngine(net, "cpu")
        for name in SETS:
            matchings = []
            for case in cases(name, args.data):
                diameter = WORKING_DIAMETER_PX if native else case[4]
                found = segment_nuclei_network(
                    case[1], engine, diameter_px=diameter, work=Work(threads=1)
                )
                matchings.append(match_case(case, found))
            scores = summarise_matchings(matchings)
            keep = {k: round(scores[k], 4) for k in ("f1", "ap50", "ap_mean", "count_bias")}
            rows.append({"set": name, "variant": variant, **keep})
            print(rows[-1], flush=True)
        write_tables(pd.DataFrame(rows))


if __name__ == "__main__":
    main()
