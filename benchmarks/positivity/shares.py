"""The fraction at every true share of positive cells: ``shares.py --cache FOLDER``.

The idea: unsure cells are mostly positive where most cells are, and mostly negative where few are;
a fraction that does not know the share shrinks towards the middle.  Each row is one preset and one
true share from 0 to 100 %: at least two samples of that share are a staining run, with two controls
or without, once with each texture code.  The table gives points off the truth, for the way the
library counts and for evidence that knows no share.
It fails to speak of real stainings: accuracy here is accuracy on synthetic images.  The power in
``islet_imaging/positivity/share.py`` was chosen on these seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from images import PRESETS, cells_table, shares

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).parent / "results"
SHARES = (0.0, 0.02, 0.05, 0.20, 0.40, 0.80, 0.95, 1.0)
TEXTURES = ("standard", "heldout")
SHAPE = (1024, 1024)
#: images of each share; a field of the preset with the largest magnification holds few cells
TWINS = {"easy_confocal": 4}
SEED = 80_000


def load(cache: Path, preset: str, texture: str, seed: int) -> pd.DataFrame:
    """Measured cells of all shares and controls of a preset, with the truth; kept in ``cache``."""
    import pandas as pd

    from islet_imaging.phantom import phantom

    path = cache / f"shares_{preset}_{texture}_{seed}.parquet"
    if path.exists():
        return pd.read_parquet(path)
    base = seed + 1000 * PRESETS.index(preset) + 500 * TEXTURES.index(texture)
    how: dict[str, Any] = {"shape": SHAPE, "texture": texture}
    parts = []
    for k, share in enumerate(SHARES):
        for twin in range(TWINS.get(preset, 2)):
            made = phantom(preset, seed=base + 10 * k + twin, **how, **shares(share, 0.0))
            table = cells_table(made, f"{share:g}-{twin}")
            parts.append(table.assign(share=share, role="sample"))
    for twin in range(2):
        made = phantom(preset, seed=base + 100 + twin, control="secondary_only", **how)
        parts.append(cells_table(made, f"control-{twin}").assign(share=np.nan, role="control"))
    out = pd.concat(parts, ignore_index=True)
    out.to_parquet(path)
    return out


def called(table: pd.DataFrame, share: float, method: str, controls: bool) -> pd.DataFrame:
    """The samples of one share, called as a staining run, with and without their share."""
    from islet_imaging.positivity import call_cells, fit_marker
    from islet_imaging.protocol import Channel, Positivity, Protocol

    protocol = Protocol(
        (Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")),
        positivity={"INS": Positivity(method=method)},
    )
    table = table.assign(excluded=table["ignore"])
    dark = [g for _, g in table[table["role"] == "control"].groupby("image")] if controls else []
    samples = [g for _, g in table[table["share"] == share].groupby("image")]
    fitted = fit_marker(samples, dark, "INS", protocol)
    cells = pd_concat(samples)
    plain = call_cells(cells, "INS", dataclasses.replace(fitted, share=0.5))
    out = call_cells(cells, "INS", fitted)
    out = out.assign(plain_call=plain["INS_call"], plain_probability=plain["INS_probability"])
    return out[~out["ignore"]]


def pd_concat(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables one below the other."""
    import pandas as pd

    return pd.concat(parts, ignore_index=True)


def rows(cache: Path, preset: str, seed: int) -> list[dict[str, Any]]:
    """The rows of one preset."""
    out = []
    for method in ("network", "levels"):
        for controls in (True, False):
            for share in SHARES:
                tables = [
                    called(load(cache, preset, texture, seed), share, method, controls)
                    for texture in TEXTURES
                ]
                out.append(
                    {
                        "preset": preset,
                        "method": method,
                        "controls": "yes" if controls else "no",
                        "share_pct": 100 * share,
                        **_row(tables),
                    }
                )
    return out


def _row(tables: list[pd.DataFrame]) -> dict[str, Any]:
    """Errors of the staining runs that have a number, and how many have none."""
    from islet_imaging.positivity import scores
    from islet_imaging.statistics.counting import fractions, weigh

    errors, plain, areas, balanced, unsure = [], [], [], [], []
    for table in tables:
        truth = table["truth_INS"].to_numpy(dtype=bool)
        found = fractions(weigh(table, "INS", "all").sum().to_frame().T).iloc[0]
        if found["status"] != "estimated":
            continue
        errors.append(100 * (found["fraction"] - truth.mean()))
        p, call = table["plain_probability"], table["plain_call"]
        counted = p.where(call == "unsure", (call == "positive").astype(float))
        plain.append(100 * (counted.mean() - truth.mean()))
        areas.append(scores.auc(truth, table["INS_probability"]))
        balanced.append(scores.balanced_accuracy(truth, table["INS_probability"] > 0.5))
        unsure.append(100 * float((table["INS_call"] == "unsure").mean()))

    def mean(values: list[float]) -> float:
        known = [v for v in values if np.isfinite(v)]
        return float(np.mean(known)) if known else float("nan")

    return {
        "n_cells": sum(map(len, tables)),
        "error_pp": mean(errors),
        "error_without_share_pp": mean(plain),
        "auc": mean(areas),
        "balanced_accuracy": mean(balanced),
        "unsure_pct": mean(unsure),
        "not_estimable": len(tables) - len(errors),
    }


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Slope of found on true shares, and the largest errors, per preset and method."""
    import pandas as pd

    out = []
    keys = ["preset", "method", "controls"]
    for key, own in table.groupby(keys, sort=False):
        refused = int(own["not_estimable"].sum())
        own = own.dropna(subset=["error_pp"])
        row: dict[str, Any] = dict(zip(keys, key, strict=True))
        for name, column in (("", "error_pp"), ("_without_share", "error_without_share_pp")):
            if len(own) > 2:
                row[f"slope{name}"] = 1 + np.polyfit(own["share_pct"], own[column], 1)[0]
            row[f"largest_error{name}_pp"] = own[column].abs().max()
        out.append({**row, "not_estimable": refused})
    return pd.DataFrame(out)


def main() -> None:
    import pandas as pd
    from run import markdown

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder for tables of cells")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=PRESETS)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(exist_ok=True)
    table = pd.DataFrame([r for p in args.presets for r in rows(args.cache, p, args.seed)])
    for name, made in (("shares", table), ("shares_slopes", slopes(table))):
        made.to_csv(RESULTS / f"{name}.csv", index=False, float_format="%.4f")
        (RESULTS / f"{name}.md").write_text(markdown(made), encoding="utf-8")
    print(markdown(slopes(table)))


if __name__ == "__main__":
    main()
