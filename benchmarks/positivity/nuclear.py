"""Markers of the nucleus (NKX6.1, Ki67), called on the library's own nuclei.

``python benchmarks/positivity/nuclear.py`` writes ``results/nuclear.md``.

The idea: per preset one staining run of samples with different shares of insulin cells, most of
which express NKX6.1, and of dividing cells, with two secondary-only controls; the library's levels
against two cuts of the mean level in the nucleus.  It fails to say anything about real stainings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from images import PRESETS, cells_table, shares
from run import RESULTS, markdown

from islet_imaging.positivity import scores

if TYPE_CHECKING:
    import pandas as pd

#: seeds from here on are for this table only
SEED = 140_000
MARKERS = ("NKX6.1", "KI67")
#: shares of insulin cells and of dividing cells in the samples of a run
SAMPLES = ((0.10, 0.02), (0.30, 0.05), (0.50, 0.10), (0.75, 0.20))
CONTROLS = 2


def tables(preset: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Role and measured cells of each image of a preset's run."""
    from islet_imaging.phantom import phantom
    from islet_imaging.segmentation.nuclei import segment_nuclei

    base = SEED + 100 * PRESETS.index(preset)
    plans: list[dict[str, Any]] = [{**shares(i, 0.0), "ki67_fraction": k} for i, k in SAMPLES]
    plans += [{"control": "secondary_only"}] * CONTROLS
    for number, plan in enumerate(plans):
        made = phantom(
            preset,
            seed=base + number,
            shape=(1024, 1024),
            channels=("DAPI", *MARKERS),
            measure_light=False,
            **plan,
        )
        size = made.image.require_pixel_size()
        found = segment_nuclei(made.image.channel("DAPI"), pixel_size_um=size)
        table = cells_table(made, f"{preset}-{number}", nuclei=found)
        yield plan.get("control", "sample"), table


def called(samples: list[pd.DataFrame], controls: list[pd.DataFrame], marker: str, how: str) -> Any:
    """Cells of the samples, then of the controls; probability, score and, if there is one, call."""
    import pandas as pd
    from skimage.filters import threshold_otsu

    from islet_imaging.positivity import call_cells, fit_marker
    from islet_imaging.protocol import Channel, Protocol

    cells = pd.concat([*samples, *controls], ignore_index=True)
    level = cells[f"{marker}_nucleus_mean"].to_numpy()
    n = sum(len(t) for t in samples)
    if how == "Otsu, nuclear mean":
        return cells, (level > threshold_otsu(level[:n])).astype(float), level, None
    if how == "control's 99th percentile, nuclear mean":
        return cells, (level > np.percentile(level[n:], 99)).astype(float), level, None
    protocol = Protocol((Channel("DAPI", "dna"), Channel(marker, "marker", "nucleus")))
    dark = [] if how == "islet-imaging, no control" else controls
    found = call_cells(cells, marker, fit_marker(samples, dark, marker, protocol))
    p = found[f"{marker}_probability"].to_numpy()
    return cells, p, p, found[f"{marker}_call"].to_numpy()


METHODS = (
    "islet-imaging",
    "islet-imaging, no control",
    "Otsu, nuclear mean",
    "control's 99th percentile, nuclear mean",
)


def rows(preset: str) -> Iterator[dict[str, Any]]:
    """Rows of one preset."""
    measured = [(role, t[~t["ignore"]].assign(excluded=False)) for role, t in tables(preset)]
    samples = [t for role, t in measured if role == "sample"]
    controls = [t for role, t in measured if role != "sample"]
    n = sum(len(t) for t in samples)
    for marker in MARKERS:
        for how in METHODS:
            cells, p, score, call = called(samples, controls, marker, how)
            truth = cells[f"truth_{marker}"].to_numpy(dtype=bool)
            images = cells["image"].to_numpy()
            errors = [
                100 * (p[images == name].mean() - truth[images == name].mean())
                for name in dict.fromkeys(images[:n])
            ]
            yield {
                "preset": preset,
                "marker": marker,
                "method": how,
                "cells": n,
                "positive_pct": 100 * truth[:n].mean(),
                "auc": scores.auc(truth[:n], score[:n]),
                "balanced_accuracy": scores.balanced_accuracy(truth[:n], p[:n] > 0.5),
                "ece": scores.ece(truth[:n], p[:n]),
                "unsure_pct": np.nan if call is None else 100 * (call[:n] == "unsure").mean(),
                "control_positive_pct": 100 * (p[n:] > 0.5).mean(),
                "image_bias_pp": float(np.mean(errors)),
                "image_mae_pp": float(np.mean(np.abs(errors))),
            }


def main() -> None:
    """Measure, print and write the table."""
    import pandas as pd

    argparse.ArgumentParser(description=__doc__).parse_args()
    found = []
    for preset in PRESETS:
        found += list(rows(preset))
        print(markdown(pd.DataFrame(found[-len(MARKERS) * len(METHODS) :])), flush=True)
    table = pd.DataFrame(found)
    table.to_csv(RESULTS / "nuclear.csv", index=False, float_format="%.4f")
    (RESULTS / "nuclear.md").write_text(markdown(table), encoding="utf-8")


if __name__ == "__main__":
    main()
