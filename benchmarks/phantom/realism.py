"""What phantoms measure, preset by preset, beside what was measured on real stainings.

    python benchmarks/phantom/realism.py

writes benchmarks/phantom/realism.csv and docs/figures/phantom_presets.jpg. With ``--side-by-side``
and the data folder it also writes a comparison with the human islet there to the path given.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from islet_imaging.phantom import PRESETS, Phantom, phantom
from islet_imaging.phantom.render import ring_labels

HERE = Path(__file__).resolve().parent


def grouped(values: NDArray[Any], labels: NDArray[np.int32], how: str) -> pd.Series:
    inside = labels > 0
    series = pd.Series(values[inside].astype(float)).groupby(labels[inside])
    return series.quantile(0.25) if how == "p25" else series.agg(how)


def auc(truth: NDArray[np.bool_], score: NDArray[Any]) -> float:
    n, m = truth.sum(), (~truth).sum()
    return float((rankdata(score)[truth].sum() - n * (n + 1) / 2) / (n * m))


def halo_at_edge(made: Phantom) -> float:
    """Insulin 1 to 3 um outside islets over inside, background subtracted."""
    islets, light = made.truth.islets > 0, made.truth.clean[1]
    away = distance_transform_edt(~islets) * made.parameters.pixel_size_um
    far = np.median(light[away > 40]) if (away > 40).any() else 0.0
    edge = np.median(light[(away > 1) & (away < 3)])
    return float((edge - far) / (np.median(light[islets]) - far))


def measure(preset: str, seeds: range) -> dict[str, float | str]:
    cells, rows = [], []
    for seed in seeds:
        made = phantom(preset, seed=seed, equatorial=True)
        truth, px = made.truth, made.parameters.pixel_size_um
        image = [made.image.channel(c).astype(np.float32) for c in made.image.channel_names]
        table = truth.cells[truth.cells["visible"] & (truth.cells["islet"] > 0)].set_index("cell")
        places = table[["y_um", "x_um"]]
        table["nearest_um"] = cKDTree(places).query(places, k=2)[0][:, 1]
        table["diameter_um"] = np.sqrt(4 / np.pi * table["nucleus_area_um2"])
        rings = ring_labels(truth.nuclei, px)
        dna = image[0] - np.median(image[0][truth.islets == 0])
        if made.parameters.rescale_8bit:
            # stretched files share no scale with their control
            background = float(np.median(image[1][truth.islets == 0]))
        else:
            # as a laboratory would take it: the ring mean of a secondary-only slide
            blank = phantom(
                preset, seed=seed, equatorial=True, control="secondary_only", measure_light=False
            )
            blank_image = blank.image.channel("INS").astype(np.float32)
            background = float(grouped(blank_image, rings, "mean").median())
        insulin = image[1] - background
        table["dna_cv"] = grouped(dna, truth.nuclei, "std") / grouped(dna, truth.nuclei, "mean")
        table["nucleus"] = grouped(insulin, truth.nuclei, "mean")
        table["ring_mean"] = grouped(insulin, rings, "mean")
        table["ring_p25"] = grouped(insulin, rings, "p25")
        cells.append(table[~table["pyknotic"] & ~table["touches_border"]])
        between = (truth.nuclei == 0) & (truth.partial_nuclei == 0) & (truth.islets > 0)
        rows.append(
            {
                "density": 1000 * len(table) / ((truth.islets > 0).sum() * px * px),
                "contrast": np.median(dna[truth.nuclei > 0]) / np.median(dna[between]),
                "halo": halo_at_edge(made),
            }
        )
    c, mean = pd.concat(cells).dropna(subset=["ring_mean"]), pd.DataFrame(rows).mean()
    y = c["INS_expressed"].to_numpy(bool)
    positive = c[y]
    cut = 0.05 * positive["ring_mean"].median()
    spread = positive["ring_mean"].quantile([0.1, 0.9])
    return {
        "preset": preset,
        "cells": len(c),
        "nearest_p10_um": c["nearest_um"].quantile(0.1),
        "nearest_p50_um": c["nearest_um"].median(),
        "nearest_p90_um": c["nearest_um"].quantile(0.9),
        "diameter_p10_um": c["diameter_um"].quantile(0.1),
        "diameter_p50_um": c["diameter_um"].median(),
        "diameter_p90_um": c["diameter_um"].quantile(0.9),
        "nuclei_per_1000um2": mean["density"],
        "dna_nucleus_over_between": mean["contrast"],
        "dna_cv_in_nucleus": c["dna_cv"].median(),
        "insulin_p90_over_p10": spread[0.9] / spread[0.1],
        "insulin_nucleus_over_ring": (positive["nucleus"] / positive["ring_mean"]).median(),
        "halo_at_edge": mean["halo"],
        "spill_share_of_positives": positive["INS_spill_fraction"].median(),
        "spill_share_of_negatives": c.loc[~y, "INS_spill_fraction"].median(),
        "true_fraction": y.mean(),
        "called_by_ring_mean_over_5_percent": (c["ring_mean"] > cut).mean(),
        "auc_ring_mean": auc(y, c["ring_mean"].to_numpy()),
        "auc_ring_p25": auc(y, c["ring_p25"].to_numpy()),
    }


def picture(made: Phantom, side: int) -> NDArray[np.uint8]:
    """Red insulin, green glucagon, blue DNA, each stretched, the middle of the field."""
    planes = []
    for channel in ("INS", "GCG", "DAPI"):
        plane = made.image.channel(channel).astype(float)
        low, high = np.percentile(plane, [1, 99.7])
        planes.append(np.clip((plane - low) / max(high - low, 1.0), 0, 1))
    stack = (255 * np.stack(planes, -1)).astype(np.uint8)
    y, x = ((length - side) // 2 for length in stack.shape[:2])
    return stack[y : y + side, x : x + side]


def side_by_side(path: Path) -> None:
    """The human islet of the data folder and a phantom made to resemble it."""
    from skimage.io import imread, imsave

    default = HERE.parents[2] / "shared" / "data"
    data = Path(os.environ.get("ISLET_IMAGING_DATA", default))
    real = imread(data / "islet" / "human_islet" / "INS_GCG_DAPI_composite.jpg")[..., :3]
    made = phantom(
        "ffpe20x", seed=11, shape=(1000, 1000), pixel_size_um=0.301, scene="tissue", n_islets=1,
        islet_diameter_um=240.0, islet_diameter_sd_um=5.0, equatorial=True, fused_fraction=0.0,
        lumens_per_mm2=40.0, halo=0.6, halo_um=25.0, pooling=0.9, nuclear_ratio=0.5,
        insulin_fraction=0.6, glucagon_fraction=0.28, bihormonal_fraction=0.0,
        enterochromaffin_fraction=0.0, arrangement="cords", arrangement_strength=0.75,
        specks_per_mm2=2500.0, speck_level=0.5, section_um=10.0, numerical_aperture=0.6, haze=0.25,
        polarity=0.7, granule_contrast=1.0, gap_um=0.0, min_distance_um=7.0, bleed_dna=0.1,
        cell_density_per_1000um3=1.5, tissue_density_per_1000um3=1.0, photons=300.0,
        autofluorescence=0.04, rescale_8bit=True, clip_fraction=0.03, jpeg_quality=85,
    )  # fmt: skip
    a = made.array
    rendered = np.stack([a[1], a[2], a[0]], -1)
    imsave(path, np.concatenate([real[420:1420, 540:1540], rendered], 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4, help="pictures per preset")
    parser.add_argument("--side-by-side", type=Path, help="where to write the comparison")
    arguments = parser.parse_args()
    if arguments.side_by_side:
        side_by_side(arguments.side_by_side)
        return
    rows = []
    for preset in PRESETS:
        start = time.process_time()
        row = measure(preset, range(7000, 7000 + arguments.images))
        rows.append(row)
        seconds = time.process_time() - start
        print(f"{preset}: {row['cells']} cells, {seconds:.0f} s", flush=True)
    table = pd.DataFrame(rows).set_index("preset").T.map(lambda v: f"{v:.3g}")
    table.index.name = "quantity"
    table.to_csv(HERE / "realism.csv")
    print(table.to_string())

    from skimage.io import imsave

    side = 480
    shown = [picture(phantom(preset, seed=3), side) for preset in PRESETS]
    rows_of = [np.concatenate(shown[i : i + 3], 1) for i in (0, 3)]
    figure = HERE.parents[1] / "docs" / "figures" / "phantom_presets.jpg"
    figure.parent.mkdir(exist_ok=True)
    imsave(figure, np.concatenate(rows_of, 0), check_contrast=False)


if __name__ == "__main__":
    main()
