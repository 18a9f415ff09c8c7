"""Thresholds without controls on tables called by people: ``people.py [--data FOLDER]``.

The idea: 12,447 cells of six tissue cores, unmixed, with one yes or no by people per marker; the
mixture is fitted per core on the column that lies closest to each marker, and its share is held
against the people's.  A core may also be "not estimable"; a wrong number is what must not be.
It fails to say anything of calls cell by cell beyond the table, or of stainings with controls.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[2]
#: the single column that ranks each marker's cells best
COLUMNS = {
    "tamm": "opal480_nucleus_mean",
    "ki67": "opal520_nucleus_mean",
    "leukocyte": "opal540_nucleus_mean",
    "oligodendrocyte": "opal570_nucleus_mean",
    "pvc": "opal620_cytoplasm_mean",
    "glioma": "opal650_nucleus_mean",
    "endothelial": "opal690_cytoplasm_mean",
}


def main() -> None:
    import pandas as pd
    from run import markdown

    from islet_imaging.positivity import fit_threshold
    from islet_imaging.positivity.scores import auc

    parser = argparse.ArgumentParser(description=__doc__)
    data = os.environ.get("ISLET_IMAGING_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(data))
    args = parser.parse_args()
    cells = pd.read_parquet(args.data / "real" / "vectra_glioma" / "cells.parquet")
    rows = []
    for marker, column in COLUMNS.items():
        for core, own in cells.groupby("core"):
            level = own[column].to_numpy(float)
            truth = own[f"is_{marker}"].to_numpy(bool)
            fitted = fit_threshold(level, method="mixture", bootstrap=0)
            found = 100 * np.mean(level > fitted.value) if fitted.estimable else np.nan
            people = 100 * float(truth.mean())
            rows.append(
                {
                    "marker": marker,
                    "core": core,
                    "n_cells": len(own),
                    "zeros_pct": 100 * float(np.mean(level == 0)),
                    "auc": auc(truth, level),
                    "people_pct": people,
                    "found_pct": found,
                    "off_pp": found - people,
                    "status": "estimated" if fitted.estimable else "not estimable",
                }
            )
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "people.csv", index=False, float_format="%.4f")
    (RESULTS / "people.md").write_text(markdown(table), encoding="utf-8")
    known = table[table["status"] == "estimated"]
    print(f"{len(known)} of {len(table)} estimated, {known['off_pp'].abs().max():.1f} points off")


if __name__ == "__main__":
    main()
