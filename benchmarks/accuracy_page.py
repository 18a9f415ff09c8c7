"""Write docs/accuracy.md from the tables of all benchmarks: `python benchmarks/accuracy_page.py`.

The page holds no number of its own; run the benchmarks it names first.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent
PAGE = ROOT.parent / "docs" / "accuracy.md"

BASELINES = {
    "otsu_ring_mean": "Otsu on ring mean",
    "control_p99_ring_mean": "control's 99th percentile, ring mean",
    "mean_plus_2sd": "2 µm ring, mean + 2 SD of the control",
    "otsu_area": "Otsu, area fraction",
}


def table(frame: pd.DataFrame, digits: int = 3) -> str:
    """A Markdown table."""
    whole = [c for c in frame.columns if c in ("n_cells", "images", "nuclei")]
    frame = frame.astype(dict.fromkeys(whole, "Int64"))
    rows = [
        [f"{v:.{digits}g}" if isinstance(v, float) else str(v) for v in row]
        for row in frame.itertuples(index=False)
    ]
    rows = [["" if v == "nan" else v for v in r] for r in rows]
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + "---|" * len(frame.columns)]
    return "\n".join([*lines, *("| " + " | ".join(r) + " |" for r in rows)])


def positivity() -> str:
    """Calls on synthetic islets with the project's own nuclei, beside the four baselines."""
    found = pd.read_csv(ROOT / "positivity" / "results" / "accuracy.csv")
    further = pd.read_csv(ROOT / "positivity" / "results" / "seeds.csv")
    own = found[found["nuclei"] == "own"]
    calls = own[own["method"] == "network"][
        ["preset", "n_cells", "auc", "balanced_accuracy", "kappa", "ece", "unsure_pct",
         "retained_accuracy", "control_positive_pct", "no_insulin_pct", "no_insulin_positive_pct",
         "image_bias_pp", "islet_mae_pp", "batch_mae_pp"]
    ]  # fmt: skip
    names = {"network": "islet-imaging", "levels": "the same without the network", **BASELINES}
    wide = own[own["method"].isin(names)].pivot_table(
        index="preset", columns="method", values="image_mae_pp"
    )
    wide = wide[[n for n in names if n in wide]].rename(columns=names).reset_index()
    return (
        "Seeds that were not used in development; nuclei found by the shipped network; cells of "
        "six presets. What comes of other shares of positive cells is in "
        "[calling cells](positivity.md). Made by "
        "`python benchmarks/positivity/run.py`; the full table, with true nuclei and every method, "
        "is `benchmarks/positivity/results/accuracy.md`. Errors of % are those of the fraction as "
        "tables give it: a positive cell counts as one, an unsure one its probability. "
        "`no_insulin_pct` is that fraction on islets without insulin, `no_insulin_positive_pct` "
        "the share of their cells that are called positive.\n\n"
        f"{table(calls)}\n\n"
        "Mean absolute error of an image's % insulin-positive, percentage points:\n\n"
        f"{table(wide)}\n\n"
        "`abused_8bit` stretches every picture by itself, controls included, so no threshold can "
        "be carried from one picture to another: such runs are noticed, and pictures are read one "
        "by one, by their own levels and by what the network sees in them; one that shows a single "
        "population borrows levels from those of its run that show both. The network and the "
        "numbers that join it with levels were fitted on other seeds; which of its answers are "
        "joined was chosen with three of the presets in view (`easy_confocal`, `ffpe20x`, "
        "`cryo10um_widefield`), before the last two trainings.\n\n"
        "The same on images of further seeds, for how much of a difference is one of images. Made "
        "by `python benchmarks/positivity/run.py --seeds`.\n\n"
        f"{table(further)}\n\n"
        f"{invariance()}{patterns()}{nuclear()}{taught()}"
    )


def real() -> str:
    """Real stainings with a truth, beside Otsu on the same cells."""
    calls = pd.read_csv(ROOT / "real" / "results" / "calls.csv")
    nuclei = pd.read_csv(ROOT / "real" / "results" / "nuclei.csv", dtype={"flags": str})
    columns = ["set", "marker", "compartment", "truth_pct", "truth_is", "method", "status",
               "got_pct", "low_pct", "high_pct", "auc", "auc_ring_mean", "balanced_accuracy",
               "double_positive_pct"]  # fmt: skip
    return (
        "No control, everything as it comes. What a threshold does not stand for is not a number: "
        "then bounds are all there is. `double_positive_pct` is of all cells, for two markers that "
        "exclude each other. Made by `python benchmarks/real/run.py`; thresholds on tables of "
        "another program's cells are in `benchmarks/real/results/tables.csv`. Each set is one "
        f"tissue of one laboratory.\n\n{table(calls[columns])}\n\n"
        "Nuclei found in the same images when a pixel size is stated, rightly or wrongly, and when "
        "none is. How many there are is known to a person's eye only (`expected`).\n\n"
        f"{table(nuclei.fillna({'flags': ''}))}\n"
    )


def patterns() -> str:
    """Product spread evenly, in granules, on one side, in patches."""
    found = pd.read_csv(ROOT / "positivity" / "results" / "patterns.csv")
    keep = ["auc", "balanced_accuracy", "unsure_pct", "off_pp", "off_at_5", "off_at_20",
            "off_at_40", "off_at_80"]  # fmt: skip
    groups = found.groupby(["pattern", "method"], sort=False)
    return (
        "The same islets with their product spread evenly, in granules, on one side of the "
        "nucleus, around it or in patches: means over five presets, true nuclei. `off` is the "
        "error of the % positive, percentage points, of all cells and of the image with that share "
        "of positive ones. None of them was in the network's training; most is lost where the "
        "product is smooth in some cells and in granules in others (`mixed`). "
        "Made by `python benchmarks/positivity/patterns.py`.\n\n"
        f"{table(groups[keep].mean().reset_index())}"
        "\n\n"
    )


def invariance() -> str:
    """What gain, offset, bit depth, pixel size and rotation change."""
    found = pd.read_csv(ROOT / "positivity" / "results" / "invariance.csv")
    return (
        "Largest change of an image's % insulin-positive, percentage points, when its pixels are "
        f"changed and its nuclei kept:\n\n{table(found)}\n\n"
    )


def taught() -> str:
    """Teaching the network stains that it does not know."""
    path = ROOT / "positivity" / "results" / "finetune.csv"
    if not path.exists():
        return ""
    return (
        "Teaching: 200 cells of a stain that the network was not trained on, called by hand; "
        "balanced accuracy and AUC of the network alone on images that nobody touched, and on a "
        "stain known before (`known`); `run` is whether such a run has a share at all, before and "
        "after. Made by `python benchmarks/positivity/finetune.py`.\n\n"
        f"{table(pd.read_csv(path))}\n"
    )


def nuclear() -> str:
    """Markers of the nucleus, beside two cuts of the nuclear mean."""
    found = pd.read_csv(ROOT / "positivity" / "results" / "nuclear.csv")
    return (
        "Markers of the nucleus, on nuclei found by the shipped network; four samples of other "
        "shares and two secondary-only controls per preset. Made by "
        f"`python benchmarks/positivity/nuclear.py`.\n\n{table(found)}\n\n"
        "Ki67 on `abused_8bit` has no answer: few cells are positive, and pictures that were "
        "stretched one by one share no threshold; most cells are left unsure, and the mean of "
        "their probabilities means nothing.\n\n"
    )


def nuclei() -> str:
    """Nuclei on human masks and on phantoms."""
    found = pd.read_csv(ROOT / "nuclei" / "results" / "accuracy.csv")
    columns = ["set", "scale", "method", "images", "nuclei", "f1", "ap50", "ap_mean", "pq",
               "count_bias"]  # fmt: skip
    return (
        "F1 and AP at IoU 0.5, mean AP over IoU 0.5 to 0.9; means over images. `known`: the "
        "nucleus diameter is given; `auto`: it is estimated from the image. Which weights saw "
        "which images is told in [the network's page](nuclei_network.md). Made by "
        "`python benchmarks/nuclei/run.py`.\n\n" + table(found[columns].sort_values(columns[:3]))
    )


def main() -> None:
    """Write the page."""
    text = (
        "# How accuracy was measured\n\n"
        "Made by `python benchmarks/accuracy_page.py` from the benchmarks' tables. Three things "
        "must not be mixed up. **Shown on real tissue**: nuclei, on human masks; calls of other "
        "markers on a few stainings whose truth is a trained classifier, people's corrections or "
        "biology. **Shown on phantoms**: calls of insulin, patterns of expression, neighbours' "
        "light. **Shown by nobody**: calls of insulin on real stainings, since no insulin staining "
        "with calls by people is public; [how to change that](contribute.md).\n\n"
        f"## Calls, on real stainings of other markers\n\n{real()}\n"
        f"## Calls, on synthetic islets\n\n{positivity()}\n"
        f"## Nuclei\n\n{nuclei()}\n\n"
        "## Statistics\n\nCoverage of intervals and false positives of comparisons, by "
        "simulation: [statistics](statistics.md).\n\n"
        "## Quality flags\n\nPlanted faults and false alarms: [quality](quality.md).\n"
    )
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
