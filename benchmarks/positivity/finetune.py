"""Teach the positivity network stains that it does not know.

``python benchmarks/positivity/finetune.py``.

The idea: three stains outside of the ranges that the network was trained on, each an experiment of
six images and two controls.  A reviewer who knows the truth calls the 200 most doubtful cells of
four images by hand; the network is fine-tuned on them as the command line does; then both networks
look at the two images that nobody touched, and at one preset that was known before.  The network is
asked alone, since a run of such stains is refused where its controls do not look negative; whether
it is stands beside.
Writes ``results/finetune.csv`` and ``.md``.  It fails to speak of real stains.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from images import _match
from run import markdown

from islet_imaging.network.training.positivity_finetune import finetune_positivity
from islet_imaging.phantom import phantom
from islet_imaging.phantom.experiment import write_ome_tiff
from islet_imaging.positivity.coefficients import LOGIT_ALONE
from islet_imaging.positivity.scores import auc, balanced_accuracy, ece
from islet_imaging.protocol import Channel, Positivity, Protocol
from islet_imaging.review.journal import Edit, Journal
from islet_imaging.run.folder import Run
from islet_imaging.scoring.folder import score_folder

RESULTS = Path(__file__).parent / "results"
SEED = 900_000
CELLS = 200
SHAPE = (640, 640)
#: what is changed of ffpe20x, all of it beyond what was trained on
STAINS: dict[str, dict[str, Any]] = {
    "sticky antibody": {"nonspecific_level": 0.45, "nonspecific_sigma": 0.6},
    "dye of DNA in the marker": {"bleed_dna": 1.2, "nonspecific_level": 0.15},
    "marker in the nucleus too": {"nuclear_ratio": 2.5, "granule_contrast": 0.05, "halo": 0.3},
}
KNOWN = "ffpe20x"
FRACTIONS = (0.2, 0.5, 0.35, 0.65, 0.3, 0.55)


def make_experiment(folder: Path, changes: dict[str, Any], seed: int) -> dict[str, Any]:
    """Write images, controls and sample sheets; return the truth by file name."""
    truth, rows = {}, []
    for k, share in enumerate((*FRACTIONS, None, None)):
        control = {"control": "secondary_only"} if share is None else {"insulin_fraction": share}
        made = phantom(
            KNOWN,
            seed=seed + k,
            shape=SHAPE,
            channels=("DAPI", "INS"),
            bihormonal_fraction=0.0,
            glucagon_fraction=0.1,
            **control,
            **changes,
        )
        name = f"{'c' if share is None else 's'}{k}.ome.tif"
        write_ome_tiff(folder / name, made)
        truth[name] = made.truth
        role = "negative_control" if share is None else "sample"
        rows.append({"file": name, "condition": "stained", "batch": "1", "role": role})
    sheet = pd.DataFrame(rows)
    taught = sheet[~sheet["file"].isin(["s4.ome.tif", "s5.ome.tif"])]
    fresh = sheet[sheet["file"].isin(["s4.ome.tif", "s5.ome.tif"]) | sheet["role"].ne("sample")]
    taught.to_csv(folder / "taught.csv", index=False)
    fresh.to_csv(folder / "fresh.csv", index=False)
    return truth


def protocol(model: str) -> Protocol:
    """Insulin, called by one network."""
    how = Positivity(method="network", model=model)
    return Protocol((Channel("DAPI", "dna"), Channel("INS")), positivity={"INS": how})


def with_truth(run: Run, truth: dict[str, Any]) -> pd.DataFrame:
    """Cells of the samples that match a true nucleus, and what is true of them."""
    parts = []
    for name, cells in run.cells.groupby("image"):
        known = truth[str(name)]
        labels = run.labels(str(name))
        owner, partial = _match(labels, known, cells["cell"].to_numpy())
        table = known.cells.set_index("cell").reindex(owner)
        parts.append(cells.assign(
            truth=table["INS_expressed"].eq(True).to_numpy(),
            known=(owner > 0) & ~partial & ~cells["excluded"].to_numpy(bool),
        ))  # fmt: skip
    cells = pd.concat(parts)
    return cells[cells["known"] & cells["image"].str.startswith("s")]


def judged(run: Run, truth: dict[str, Any]) -> dict[str, float]:
    """What the network says of a run's cells, against the truth."""
    cells = with_truth(run, truth)
    t, p = cells["truth"].to_numpy(bool), said(cells)
    return {"balanced_accuracy": balanced_accuracy(t, p > 0.5), "auc": auc(t, p), "ece": ece(t, p)}


def said(cells: pd.DataFrame) -> np.ndarray:
    """Probability by the network alone."""
    slope, constant = LOGIT_ALONE
    odds = slope * cells["INS_network_odds"].to_numpy(float) + constant
    return np.asarray(1 / (1 + np.exp(-odds)))


def teach(run: Run, truth: dict[str, Any]) -> None:
    """Call the most doubtful cells as they really are."""
    cells = with_truth(run, truth)
    doubt = pd.Series(np.abs(said(cells) - 0.5), index=cells.index)
    journal = Journal(run.corrections)
    for row in cells.loc[doubt.sort_values(kind="stable").index[:CELLS]].itertuples():
        call = "positive" if row.truth else "negative"
        journal.append(Edit("truth", row.image, "call", row.cell, row.y_px, row.x_px, "INS",
                            row.INS_call, call))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        old = Path(scratch) / "known"
        old.mkdir()
        old_truth = make_experiment(old, {}, args.seed + 900)
        for n, (stain, changes) in enumerate(STAINS.items()):
            folder = Path(scratch) / str(n)
            folder.mkdir()
            truth = make_experiment(folder, changes, args.seed + 100 * n)

            def score(model: str, sheet: str, where: Path, out: str) -> Run:
                return score_folder(where, where / out, protocol=protocol(model),
                                    samples=where / sheet, workers=1)  # fmt: skip

            run = score("islet-positivity", "taught.csv", folder, "run")
            teach(run, truth)
            begun = time.perf_counter()
            taught = finetune_positivity(run.path, folder / "taught", name="taught")
            seconds = time.perf_counter() - begun
            row: dict[str, Any] = {"stain": stain, "cells": taught.n_corrections,
                                   "seconds": round(seconds, 1)}  # fmt: skip
            for when, model in (("before", "islet-positivity"), ("after", str(taught.model))):
                fresh = score(model, "fresh.csv", folder, f"fresh-{when}")
                new = judged(fresh, truth)
                known = judged(score(model, "taught.csv", old, f"{n}-{when}"), old_truth)
                row |= {f"{k}_{when}": v for k, v in new.items()}
                row[f"known_{when}"] = known["balanced_accuracy"]
                row[f"run_{when}"] = fresh.summary["status"].iloc[0].replace("_", " ")
            rows.append(row)
            print(row, flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "finetune.csv", index=False, float_format="%.4f")
    (RESULTS / "finetune.md").write_text(markdown(table), encoding="utf-8")


if __name__ == "__main__":
    main()
