"""Expression patterns: ``python benchmarks/positivity/patterns.py --cache FOLDER``.

The idea: the same islets with their product spread evenly, in granules, on one side of the nucleus,
around it, or in patches; one staining run per preset and pattern, eight images from 0 to 100 %
positive and a secondary-only control.  Written per pattern: the area under the curve of plain
features, of own levels and of the network alone, then the calls of both methods, with the control
and without, and of Otsu on the ring mean.  True outlines of nuclei.
It fails to speak of real stainings; seeds are nobody's training's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from images import cells_table, shares
from run import markdown, reported

from islet_imaging.phantom import PATTERNS, phantom
from islet_imaging.positivity import scores

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).parent / "results"
PRESETS = ("easy_confocal", "ffpe20x", "cryo10um_widefield", "wholemount", "hcs0.65")
FRACTIONS = (0.0, 0.02, 0.05, 0.2, 0.4, 0.8, 0.95, 1.0)
SEED = 970_000
SHAPE = (640, 640)
METHODS = {"network": True, "network_no_control": False, "levels": True, "levels_no_control": False}
PLAIN = ("ring_mean", "sector_p25", "sector_blend", "network_own", "network_odds")


def cells(cache: Path, preset: str, pattern: str, model: str = "islet-positivity") -> pd.DataFrame:
    """Measured cells of one staining run, rendered once."""
    import pandas as pd

    path = cache / f"{preset}-{pattern}.parquet"
    if path.exists():
        return pd.read_parquet(path)
    # presets show different islets, patterns of a preset the same
    seed = SEED + 100 * PRESETS.index(preset)
    common: dict[str, Any] = {
        "shape": SHAPE, "channels": ("DAPI", "INS"), "equatorial": True, **PATTERNS[pattern]
    }  # fmt: skip
    parts = []
    for k, fraction in enumerate(FRACTIONS):
        made = phantom(preset, seed=seed + k, **shares(fraction, 0.0), **common)
        parts.append(cells_table(made, f"s{k}", model=model).assign(role="sample"))
    dark = phantom(preset, seed=seed + 50, control="secondary_only", **common)
    parts.append(cells_table(dark, "c0", model=model).assign(role="secondary_only"))
    table = pd.concat(parts, ignore_index=True).assign(preset=preset, pattern=pattern)
    cache.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return table


def called(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Samples of a run, called by one of `METHODS` or by Otsu on the ring mean."""
    from skimage.filters import threshold_otsu

    from islet_imaging.positivity import call_marker, fit_marker
    from islet_imaging.protocol import Channel, Positivity, Protocol

    table = table.assign(excluded=table["ignore"])
    samples = table[table["role"] == "sample"]
    if method == "otsu_ring_mean":
        level = samples["INS_ring_mean"].fillna(samples["INS_nucleus_mean"])
        positive = (level > threshold_otsu(level[~samples["ignore"]].to_numpy())).to_numpy()
        return samples.assign(
            INS_probability=positive.astype(float),
            INS_call=np.where(positive, "positive", "negative"),
        )
    how = Positivity(method=method.split("_")[0])
    protocol = Protocol((Channel("DAPI", "dna"), Channel("INS")), positivity={"INS": how})
    dark = [table[table["role"] != "sample"]] if METHODS[method] else []
    one_by_one = [group for _, group in samples.groupby("image")]
    return call_marker(samples, "INS", fit_marker(one_by_one, dark, "INS", protocol), protocol)


def measure(table: pd.DataFrame, method: str) -> dict[str, Any]:
    """One row: a pattern of a preset, called in one way."""
    found = called(table, method)
    found = found[~found["ignore"]]
    truth, p = found["truth_INS"].to_numpy(bool), found["INS_probability"].to_numpy()
    off = {}
    for k, (_, image) in zip(FRACTIONS, found.groupby("image"), strict=True):
        off[f"off_at_{100 * k:.0f}"] = 100 * (reported(image).mean() - image["truth_INS"].mean())
    unsure = (found["INS_call"] == "unsure").to_numpy()
    return {
        "preset": table["preset"].iloc[0],
        "pattern": table["pattern"].iloc[0],
        "method": method,
        "n_cells": len(found),
        "auc": scores.auc(truth, p),
        "balanced_accuracy": scores.balanced_accuracy(truth, p > 0.5),
        "unsure_pct": 100 * float(unsure.mean()),
        "off_pp": 100 * float(reported(found).mean() - truth.mean()),
        **off,
    }


def plain(table: pd.DataFrame) -> dict[str, Any]:
    """Area under the curve of single features over all samples of a run."""
    samples = table[(table["role"] == "sample") & ~table["ignore"]]
    row: dict[str, Any] = {k: table[k].iloc[0] for k in ("preset", "pattern")}
    for feature in PLAIN:
        level = samples[f"INS_{feature}"].fillna(samples["INS_nucleus_mean"])
        row[feature] = scores.auc(samples["truth_INS"], level)
    return row


def main() -> None:
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder for tables of cells")
    parser.add_argument("--model", default="islet-positivity", help="with a cache of its own")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
    args = parser.parse_args()
    rows, alone = [], []
    for preset in PRESETS:
        for pattern in PATTERNS:
            table = cells(args.cache, preset, pattern, args.model)
            rows += [measure(table, method) for method in (*METHODS, "otsu_ring_mean")]
            alone.append(plain(table))
    calls, features = pd.DataFrame(rows), pd.DataFrame(alone)
    args.out.mkdir(parents=True, exist_ok=True)
    calls.to_csv(args.out / "patterns.csv", index=False, float_format="%.4f")
    means = calls.drop(columns=["preset", "n_cells"]).groupby(["pattern", "method"], sort=False)
    worst = calls.assign(worst_off_pp=calls["off_pp"].abs()).groupby(
        ["pattern", "method"], sort=False
    )["worst_off_pp"]
    summary = means.mean().join(worst.max()).reset_index()
    by_pattern = features.drop(columns="preset").groupby("pattern", sort=False).mean().reset_index()
    text = (
        f"Means over {', '.join(PRESETS)}; true outlines of nuclei.\n\n{markdown(summary)}\n"
        f"Area under the curve of single features, the network's answers among them:\n\n"
        f"{markdown(by_pattern)}\nEvery preset:\n\n{markdown(calls)}"
    )
    (args.out / "patterns.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
