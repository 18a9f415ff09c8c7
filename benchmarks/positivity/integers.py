"""Calls with integer and with float32 weights, side by side.

    python benchmarks/positivity/integers.py --side 1024 --runs 3

The same rendered images, true nuclei, controls and fits; only the network's weights differ.  Writes
``results/integers.csv`` and ``results/integers.md``.  Images are those of ``run.py`` when side and
runs are its own; smaller ones say the same of the difference in a tenth of the time.
It fails to speak of real stainings, as all of this benchmark.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from images import PRESETS, cells_table, render
from run import RESULTS, called, markdown, reported

from islet_imaging.network.training.integers import drop_integers
from islet_imaging.network.weights import load_model
from islet_imaging.positivity import scores

if TYPE_CHECKING:
    import pandas as pd


def compare(runs: list[list[pd.DataFrame]]) -> dict[str, Any]:
    """Scores of staining runs' samples, called on the whole way of an image."""
    import pandas as pd

    cells, errors, shares = [], [], []
    for tables in runs:
        table = called(pd.concat(tables, ignore_index=True), "network")
        table = table[(table["role"] == "sample") & ~table["ignore"]]
        cells.append(table)
        for _, g in table.groupby("image"):
            shares.append(100 * float(reported(g).mean()))
            errors.append(shares[-1] - 100 * float(g["truth_INS"].mean()))
    # an image without a threshold has no number
    s = pd.concat(cells)
    s = s[np.isfinite(s["INS_probability"].to_numpy(float))]
    truth, p = s["truth_INS"].to_numpy(bool), s["INS_probability"].to_numpy(float)
    return {
        "cells": len(s),
        "balanced_accuracy": scores.balanced_accuracy(truth, p > 0.5),
        "image_mae_pp": float(np.nanmean(np.abs(errors))),
        "shares": shares,
    }


def main() -> None:
    """Render, call twice, write the tables."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024, help="of an image, px")
    parser.add_argument("--runs", type=int, default=3, help="staining runs of each preset")
    parser.add_argument("--presets", nargs="+", default=PRESETS, choices=PRESETS)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        single = Path(scratch) / "float32"
        shutil.copytree(load_model("islet-positivity").folder, single)
        drop_integers(single)
        models = {"integers": "islet-positivity", "float32": str(single)}
        for preset in args.presets:
            tables: dict[str, list[list[pd.DataFrame]]] = {kind: [] for kind in models}
            for run in range(args.runs):
                made = render(preset, run, shape=(args.side, args.side))
                for kind, model in models.items():
                    tables[kind].append(
                        [cells_table(m, n, model=model).assign(role=r) for n, r, m in made]
                    )
            found = {kind: compare(t) for kind, t in tables.items()}
            change = np.subtract(*(found[kind].pop("shares") for kind in models))
            for kind, row in found.items():
                largest = float(np.nanmax(np.abs(change))) if kind == "integers" else 0.0
                mean = float(np.nanmean(change)) if kind == "integers" else 0.0
                row = {"preset": preset, "weights": kind, **row}
                rows.append(row | {"mean_change_pp": mean, "largest_change_pp": largest})
                print(rows[-1], flush=True)
            RESULTS.mkdir(exist_ok=True)
            table = pd.DataFrame(rows)
            table.to_csv(RESULTS / "integers.csv", index=False, float_format="%.4f")
            about = (
                f"{args.runs} staining runs of each preset, images of {args.side} px, true nuclei. "
                "`change`: of an image's % INS+, integers minus float32. Cells of "
                "images without a threshold have no call and do not count.\n\n"
            )
            (RESULTS / "integers.md").write_text(about + markdown(table), encoding="utf-8")


if __name__ == "__main__":
    main()
