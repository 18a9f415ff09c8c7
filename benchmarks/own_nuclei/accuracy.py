"""Shares of insulin-positive cells from given nuclei, found nuclei, and a cut on one column.

``python benchmarks/own_nuclei/accuracy.py`` writes ``accuracy.csv`` beside this file: phantoms of
two presets at two shares, each with its secondary-only control of the same staining run.  `true`
is the share of counted cells that were drawn positive, of the true nuclei; `given` is the default
calling on the true nuclei, `found` on those that the network finds, `cut` the control's quantile on
the bare column INS_sector_p25, which takes neighbours' light for the cells' own.  In percent.
"""

from __future__ import annotations

import csv
from pathlib import Path

from islet_imaging import (
    Channel,
    Protocol,
    call_cells,
    fit_threshold,
    grow_cells,
    measure_cells,
    phantom,
    score_image,
)

PRESETS = ("ffpe20x", "cryo10um_widefield")
SHARES = (0.38, 0.70)
NAMES = ("DAPI", "INS")


def share(cells):
    """Percent positive of the counted cells, unsure ones by their probability."""
    counted = cells[~cells["excluded"]]
    weight = counted["INS_probability"].where(counted["INS_call"] == "unsure")
    return 100 * float(weight.fillna((counted["INS_call"] == "positive").astype(float)).mean())


def measured(made):
    """The table of the plain functions, on true nuclei."""
    nuclei, size = made.truth.nuclei, made.image.pixel_size_um
    images = {name: made.image.channel(name) for name in NAMES}
    rings = grow_cells(nuclei, pixel_size_um=size)
    table = measure_cells(nuclei, rings, images, dna="DAPI", pixel_size_um=size)
    return table.assign(excluded=table["touches_border"])


def row(preset, fraction, seed):
    """One line of the table."""
    side = (640, 640)
    made = phantom(preset, seed=seed, shape=side, channels=NAMES, insulin_fraction=fraction)
    dark = phantom(preset, seed=seed + 1, shape=side, channels=NAMES, control="secondary_only")
    protocol = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS")))
    given = score_image(
        made.image, protocol, nuclei=made.truth.nuclei, controls=[dark.image],
        control_nuclei=[dark.truth.nuclei],
    ).cells  # fmt: skip
    scored = score_image(made.image, protocol, controls=[dark.image])
    found = scored.cells
    again = score_image(
        made.image, protocol, nuclei=scored.nuclei, controls=[dark.image]
    ).cells  # fmt: skip
    truth = made.truth.cells.set_index("cell")["INS_expressed"].astype(float)
    counted = given.loc[~given["excluded"], "cell"]
    cells, control = measured(made), measured(dark)
    column = "INS_sector_p25"
    cut = fit_threshold(cells[column], control=control[column], feature=column)
    return {
        "preset": preset,
        "n_cells": len(counted),
        "true": round(100 * truth.reindex(counted).mean(), 1),
        "given": round(share(given), 1),
        "found": round(share(found), 1),
        "cut": round(share(call_cells(cells, "INS", cut)), 1),
        "calls_changed_by_handing_back": int((again["INS_call"] != found["INS_call"]).sum()),
    }


def main():
    """Write the table."""
    rows = [row(preset, f, 11) for preset in PRESETS for f in SHARES]
    path = Path(__file__).with_suffix(".csv")
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(path.read_text("utf-8"))


if __name__ == "__main__":
    main()
