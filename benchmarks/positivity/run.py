"""The table of accuracy: ``python benchmarks/positivity/run.py --cache FOLDER``.

``--seeds 90000 120000`` writes ``seeds.md`` instead: the default on the library's own nuclei, on
further images of the same plans, for how far a difference between two versions is one of images.

The idea: one row per preset, kind of nuclei and method, the numbers of science.md's table of
targets, on seeds that nothing was developed or trained on.  Written as CSV and Markdown.
It fails to speak of real stainings: accuracy here is accuracy on synthetic images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import baselines
import numpy as np
from build import CHANGES, build, load
from images import PRESETS, RUNS

from islet_imaging.positivity import scores

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).parent / "results"
#: the library's ways: its default, then what each part of it is worth
METHODS = {
    "network": {"method": "network"},
    "network_no_control": {"method": "network"},
    "levels": {},
    "levels_no_control": {},
    "levels_no_spillover": {"spillover": False},
    "levels_ring_p25": {"feature": "ring_p25"},
    "levels_ring_mean": {"feature": "ring_mean"},
    "control": {"method": "control"},
    "control_mixture": {"method": "control_mixture"},
    "mixture": {"method": "mixture"},
}


def called(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """All images of a run, controls too, called by one of the library's methods."""
    from islet_imaging.positivity import assign_phenotypes, call_cells, fit_marker
    from islet_imaging.protocol import Channel, Positivity, Protocol

    how = Positivity(**{"method": "levels", **METHODS[method]})
    protocol = Protocol(
        (Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")),
        positivity={"INS": how, "GCG": how},
    )
    table = table.assign(excluded=table["ignore"])
    samples = [g for _, g in table[table["role"] == "sample"].groupby("image")]
    for marker in ("INS", "GCG"):
        dark = [g for _, g in _controls(table, marker).groupby("image")]
        if method.endswith("_no_control"):
            dark = []
        if not dark and method in ("control", "control_mixture"):
            continue
        fitted = fit_marker(samples, dark, marker, protocol)
        table = table.join(
            call_cells(table, marker, fitted)[
                [f"{marker}_{k}" for k in ("own", "probability", "call", "reason")]
            ]
        )
        table[f"{marker}_cut"] = np.nan if fitted.value is None else fitted.value
    table["INS_score"] = table["INS_probability"]
    return assign_phenotypes(table, protocol)


def _controls(table: pd.DataFrame, marker: str) -> pd.DataFrame:
    """Cells of the slides that are negative for a marker: without insulin there is glucagon."""
    kinds = ["secondary_only", "no_insulin"] if marker == "INS" else ["secondary_only"]
    return table[table["role"].isin(kinds)]


def measure(cache: Path, preset: str, kind: str, method: str) -> dict[str, Any]:
    """One row of the table."""
    import pandas as pd

    cells, controls, images, islets, batches = [], [], [], [], []
    both: dict[float, list[float]] = {}
    false: list[bool] = []
    for run, plan in enumerate(RUNS):
        table = load(cache, preset, run, kind)
        by = _baseline if method in baselines.NAMES else called
        table = by(table, method)
        table = table[~table["ignore"]]
        s, c = table[table["role"] == "sample"], _controls(table, "INS")
        cells.append(s)
        controls.append(c)
        truth, found = [], []
        for name, g in s.groupby("image"):
            real = g["true_fraction_INS"].iloc[0]
            if method == "otsu_area":
                share = float(g["INS_otsu_area"].iloc[0])
            else:
                share = float(reported(g).mean())
            images.append((name, real, share))
            if real == 0 and method != "otsu_area":
                false += (g["INS_call"] == "positive").tolist()
            truth.append(real)
            found.append(share)
            if "GCG_probability" in g:
                two = (g["INS_call"] == "positive") & (g["GCG_call"] == "positive")
                error = 100 * (two.mean() - g["true_fraction_both"].iloc[0])
                both.setdefault(plan.bihormonal, []).append(error)
        batches.append(100 * (np.mean(found) - np.mean(truth)))
        if method != "otsu_area":
            for _, g in s[s["true_islet"] > 0].groupby(["image", "true_islet"]):
                if len(g) >= 50:
                    islets.append(100 * (reported(g).mean() - g["truth_INS"].mean()))
    error = np.array([100 * (found - real) for _, real, found in images])
    zero = [e for e, (_, real, _) in zip(error, images, strict=True) if real == 0]
    row: dict[str, Any] = {"preset": preset, "nuclei": kind, "method": method}
    if method != "otsu_area":
        s, c = pd.concat(cells), pd.concat(controls)
        p = s["INS_probability"].to_numpy()
        t = s["truth_INS"].to_numpy(dtype=bool)
        call = p > 0.5
        sure = (s["INS_call"] != "unsure").to_numpy()
        row |= {
            "n_cells": len(s),
            "auc": np.nanmean([scores.auc(g["truth_INS"], g["INS_score"]) for g in cells]),
            "balanced_accuracy": scores.balanced_accuracy(t, call),
            "kappa": scores.kappa(t, call),
            "ece": scores.ece(t, p),
            "brier": scores.brier(t, p),
            "unsure_pct": 100 * float(1 - sure.mean()),
            "retained_accuracy": float((t == call)[sure].mean()) if sure.any() else np.nan,
            "control_positive_pct": 100 * float((c["INS_call"] == "positive").mean()),
            "control_mean_p_pct": 100 * float(c["INS_probability"].mean()),
        }
    row |= {
        "image_bias_pp": float(error.mean()),
        "image_mae_pp": float(np.abs(error).mean()),
        "islet_mae_pp": float(np.mean(np.abs(islets))) if islets else np.nan,
        "batch_mae_pp": float(np.mean(np.abs(batches))),
        "worst_image_pp": float(error[np.argmax(np.abs(error))]),
        "no_insulin_pct": float(np.mean(zero)) if zero else np.nan,
        "no_insulin_positive_pct": 100 * float(np.mean(false)) if false else np.nan,
    }
    for true in (0.0, 0.02, 0.10):
        row[f"bihormonal_{round(100 * true)}_pp"] = (
            float(np.mean(both[true])) if true in both else np.nan
        )
    return row


def reported(table: pd.DataFrame) -> Any:
    """What each cell counts in the fraction that tables give: an unsure one its probability."""
    call, p = table["INS_call"], table["INS_probability"]
    return p.where(call == "unsure", (call == "positive").astype(float))


def _baseline(table: pd.DataFrame, name: str) -> pd.DataFrame:
    s = table[table["role"] == "sample"]
    if name == "otsu_area":
        return table
    for marker in ("INS", "GCG"):
        dark = _controls(table, marker)
        dark = dark[~dark["ignore"]]
        cuts = baselines.thresholds(s[~s["ignore"]], dark, marker)
        call = baselines.calls(table, cuts, marker, name)
        table = table.assign(
            **{
                f"{marker}_probability": call.astype(float),
                f"{marker}_call": np.where(call, "positive", "negative"),
            }
        )
    return table.assign(INS_score=table["INS_ring_mean"].fillna(table["INS_nucleus_mean"]))


def invariance(cache: Path, preset: str, method: str) -> dict[str, Any]:
    """Largest change of an image's %INS+, in percentage points, for each change of its pixels."""
    row: dict[str, Any] = {"preset": preset, "method": method}
    whole = load(cache, preset, 1, "true")
    for change in CHANGES:
        table = load(cache, preset, 1, change)
        plain = _fractions(whole[whole["image"].isin(table["image"])], method)
        moved = _fractions(table, method)
        row[change] = round(float(np.max(np.abs(moved - plain))), 3)
    return row


def _fractions(table: pd.DataFrame, method: str) -> Any:
    table = called(table, method)
    s = table[(table["role"] == "sample") & ~table["ignore"]]
    return 100 * s.assign(share=reported(s)).groupby("image")["share"].mean().to_numpy()


def markdown(rows: pd.DataFrame) -> str:
    """A table in Markdown, numbers to three digits."""
    lines = ["| " + " | ".join(rows.columns) + " |", "|" + "---|" * len(rows.columns)]
    for values in rows.itertuples(index=False):
        shown = ["" if v != v else f"{v:.3g}" if isinstance(v, float) else str(v) for v in values]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def further(cache: Path, seeds: list[int]) -> None:
    """The default on the library's own nuclei, on images of other seeds."""
    import pandas as pd

    names = ["n_cells", "auc", "balanced_accuracy", "kappa", "brier", "unsure_pct"]
    names += ["control_positive_pct", "image_bias_pp", "image_mae_pp", "worst_image_pp"]
    for seed in seeds:
        build(cache / str(seed), ("own",), seed)
    rows = []
    for preset in PRESETS:
        for seed in seeds:
            found = measure(cache / str(seed), preset, "own", "network")
            rows.append({"preset": preset, "seed": seed, **{k: found[k] for k in names}})
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "seeds.csv", index=False, float_format="%.4f")
    (RESULTS / "seeds.md").write_text(markdown(table), encoding="utf-8")
    print(markdown(table))


def main() -> None:
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder for tables of cells")
    parser.add_argument("--nuclei", nargs="+", default=["true", "own"], choices=["true", "own"])
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--seeds", nargs="+", type=int, help="other images, own nuclei only")
    args = parser.parse_args()
    if args.seeds:
        further(args.cache, args.seeds)
        return
    build(args.cache, tuple(args.nuclei))
    if args.build_only:
        return
    RESULTS.mkdir(exist_ok=True)
    rows = []
    for kind in args.nuclei:
        for preset in PRESETS:
            methods = (
                [*METHODS, *baselines.NAMES]
                if kind == "true"
                else ["network", "levels", *baselines.NAMES]
            )
            rows += [measure(args.cache, preset, kind, m) for m in methods]
            print(markdown(pd.DataFrame(rows[-len(methods) :])), flush=True)
    accuracy = pd.DataFrame(rows)
    accuracy.to_csv(RESULTS / "accuracy.csv", index=False, float_format="%.4f")
    (RESULTS / "accuracy.md").write_text(markdown(accuracy), encoding="utf-8")
    if "true" in args.nuclei:
        still = pd.DataFrame(
            [invariance(args.cache, p, m) for p in PRESETS for m in ("network", "levels")]
        )
        still.to_csv(RESULTS / "invariance.csv", index=False, float_format="%.4f")
        (RESULTS / "invariance.md").write_text(markdown(still), encoding="utf-8")
        print(markdown(still))


if __name__ == "__main__":
    main()
