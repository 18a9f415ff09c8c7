"""Prove the statistics by simulation: ``python benchmarks/statistics/run.py [--runs 4000]``.

Writes one CSV per table and ``results.md`` into ``benchmarks/statistics/results``, and puts the
tables of ``docs/statistics.md`` into that page.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import agreeing
import comparing
import coverage
import errors_of_calls
import holding
import pandas as pd
import reproduce

RESULTS = Path(__file__).parent / "results"
SEED = 20240


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=4000, help="simulated experiments per row")
    parser.add_argument("--only", nargs="*", help="names of tables to make; none: fill the page")
    arguments = parser.parse_args()
    runs = arguments.runs
    # what takes longest, or shows its point soonest, gets a part of the runs; each table says so
    half, some, few = runs // 2, max(runs // 4, 20), max(runs // 16, 20)
    tables: dict[str, tuple[str, Callable[[], pd.DataFrame]]] = {
        "reproduce": ("Planning and bias tables", reproduce.reproduce),
        "coverage_bootstraps": (
            "Coverage over batches beside percentile bootstraps (typical world, 43 %)",
            lambda: coverage.bootstraps(SEED, half),
        ),
        "coverage_one_batch": (
            "Coverage of the interval within one batch, over its islets",
            lambda: coverage.within_one_batch(SEED, half),
        ),
        "null": (
            "False positives of comparisons at the 5 % level, no difference (target: at most 6 %)",
            lambda: comparing.under_the_null(SEED, half),
        ),
        "holding": (
            "Where the interval over batches holds, and where it says that it cannot be trusted",
            lambda: holding.intervals(SEED, half),
        ),
        "kappa": (
            "Coverage of the interval of kappa over islets where errors gather in islets",
            lambda: agreeing.kappa(SEED, 3 * half),
        ),
        "units": (
            "False positives when cells, islets or batches are n (43 %, unpaired)",
            lambda: comparing.units(SEED, some),
        ),
        "power": (
            "Power, and coverage of the effect in percentage points",
            lambda: comparing.with_an_effect(SEED, half),
        ),
        "planned": (
            "Batches for a power of 80 %: by the noncentral t, and with rare fractions in mind",
            lambda: comparing.planned(SEED, half),
        ),
        "misclassification": (
            "Correction for wrong calls, error rates from 300 + 300 labelled cells",
            lambda: errors_of_calls.correction(SEED, few),
        ),
        "misclassification_one_batch": (
            "The same within one batch, over its islets",
            lambda: errors_of_calls.correction_in_one_batch(SEED, few),
        ),
        "misclassification_cells": (
            "Lang and Reiczigel: 500 independent cells, Se 0.9, Sp 0.95, 200 labels each",
            lambda: errors_of_calls.independent_cells(SEED, runs),
        ),
        "quantification": (
            "Counting calls, mean probability and EM (calibrated at 40 % positive, AUC 0.98)",
            lambda: errors_of_calls.quantification(SEED),
        ),
        "raters": (
            "Planted bias of raters, 60 islets of 4 batches",
            lambda: errors_of_calls.raters(SEED, some),
        ),
        "consensus": (
            "Consensus of three raters of unequal skill",
            lambda: errors_of_calls.consensus(SEED, few),
        ),
        "variance": (
            "Variance components recovered: median (10th to 90th percentile)",
            lambda: errors_of_calls.variances(SEED, max(runs // 40, 20)),
        ),
    }
    RESULTS.mkdir(exist_ok=True)
    for name, (_, make) in tables.items():
        if arguments.only is not None and name not in arguments.only:
            continue
        start = time.perf_counter()
        make().round(4).to_csv(RESULTS / f"{name}.csv", index=False)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    parts = [
        "# Statistics, proven by simulation\n\nMade by `python benchmarks/statistics/run.py`.\n"
    ]
    for name, (title, _) in tables.items():
        path = RESULTS / f"{name}.csv"
        if path.exists():
            parts.append(f"## {title}\n\n{markdown(pd.read_csv(path))}\n")
    (RESULTS / "results.md").write_text("\n".join(parts), encoding="utf-8")
    fill(RESULTS.parents[2] / "docs" / "statistics.md")


#: tables of the documentation: the columns shown, as mean (lowest to highest) for each value of one
GLANCES: dict[str, tuple[str, list[str]]] = {
    "coverage_one_batch": ("islets", ["islet_interval_%", "linearised_t_%", "bootstrap_%"]),
    "null": ("design", ["false_positives_%", "t_on_fractions_%", "t_on_logits_%"]),
    "power": ("design", ["coverage_%", "power_%", "power_of_t_on_fractions_%"]),
    "holding": (
        "world",
        [
            *("no_caution_%", "coverage_%", "wide_by_design_%", "wrong_without_caution_%"),
            *("of_batches_like_these_%", "bound_holds_%"),
        ],
    ),
    "kappa": ("islets", ["given_%", "coverage_of_given_%", "coverage_over_cells_%"]),
    "misclassification": ("batches", ["coverage_apparent_%", "coverage_corrected_%"]),
    "misclassification_one_batch": ("islets", ["coverage_apparent_%", "coverage_corrected_%"]),
}


def fill(page: Path) -> None:
    """Put the tables between their marks in the documentation."""
    text = page.read_text(encoding="utf-8")
    for path in sorted(RESULTS.glob("*.csv")):
        start, end = f"<!-- begin {path.stem} -->\n", f"<!-- end {path.stem} -->"
        if start in text:
            before, rest = text.split(start)
            text = before + start + glance(path) + "\n" + end + rest.split(end)[1]
    page.write_text(text, encoding="utf-8")


def glance(path: Path) -> str:
    table = pd.read_csv(path)
    if path.stem not in GLANCES:
        return markdown(table)
    by, columns = GLANCES[path.stem]
    groups = table.groupby(by)[columns]
    mean, low, high = groups.mean(), groups.min(), groups.max()
    short = {by: mean.index}
    for c in columns:
        short[c] = [
            "" if m != m else f"{m:.1f} ({a:.1f} to {b:.1f})"
            for m, a, b in zip(mean[c], low[c], high[c], strict=True)
        ]
    return markdown(pd.DataFrame(short))


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, numbers with three digits."""
    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + " --- |" * table.shape[1]]
    for row in table.itertuples(index=False):
        cells = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
