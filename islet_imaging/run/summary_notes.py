"""Notes of the summary that hang on more than counts: thresholds, and labels of people.

The idea: what a reader must know beside a fraction stands in its row, in words, so that it cannot
be lost on the way from the table to a figure.
It fails where a note is longer than anybody reads; each is one clause.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.run.called import CalledRun, ImageRow
    from islet_imaging.statistics import Summary


def with_fragile(summary: Summary, called: CalledRun, rows: Sequence[ImageRow]) -> Summary:
    """The summary with a note where the answer hangs on where the threshold sits.

    Parameters
    ----------
    summary : Summary
        Of the run.
    called : CalledRun
        Its cells as scored and its thresholds.
    rows : sequence of ImageRow
        Its images.
    """
    from islet_imaging.positivity import threshold_sensitivity

    of = {r.image: r for r in rows}
    cells = called.raw[~called.raw["excluded"].astype(bool)]
    samples = cells[cells["image"].map(lambda i: of[i].role == "sample")]
    where = [samples["image"].map(lambda i, k=k: getattr(of[i], k)) for k in ("condition", "batch")]
    fragile: dict[tuple[str, str], list[str]] = {}
    for (condition, batch), group in samples.groupby(where):
        for marker, threshold in called.thresholds[str(batch)].items():
            if threshold.feature not in group:
                continue
            found = threshold_sensitivity(group[threshold.feature], threshold)
            if found is not None and found.fragile:
                text = f"{batch} {found.slope_pp:.0f}".strip()
                fragile.setdefault((str(condition), marker), []).append(text)
    start = "fragile: points by which a threshold 10 % higher or lower moves a batch: "
    return _noted(summary, {key: start + ", ".join(named) for key, named in fragile.items()})


def with_corrected(summary: Summary, corrected: pd.DataFrame | None) -> Summary:
    """The summary with a note that gives the fraction corrected for wrong calls.

    Parameters
    ----------
    summary : Summary
        Of the run.
    corrected : DataFrame or None
        Of `corrected_table`.
    """
    if corrected is None:
        return summary
    said = {}
    for row in corrected.to_dict("records"):
        low, high = 100 * row["ci_low"], 100 * row["ci_high"]
        value = f"{100 * row['fraction']:.1f} %" if row["status"] == "corrected" else row["status"]
        said[row["condition"], row["marker"]] = (
            f"not corrected for wrong calls: {row['note']}"
            if row["status"] == "refused"
            else f"corrected for wrong calls: {value} [{low:.1f} to {high:.1f}], see corrected.csv"
        )
    return _noted(summary, said)


def with_before(summary: Summary, raw: Summary | None, called: CalledRun) -> Summary:
    """The summary with a note that gives the fraction before people's edits, and who made them.

    Parameters
    ----------
    summary, raw : Summary
        Of the run, after and before its corrections.
    called : CalledRun
        Its cells.
    """
    if raw is None or called.corrected is called.raw:
        return summary
    people = called.corrected["corrected_by"].fillna("").astype(str)
    by = ", ".join(f"{k} {n}" for k, n in people[people != ""].value_counts().items())
    said = {
        (row["condition"], row["marker"]): f"{100 * row['fraction']:.1f} % before corrections"
        + (f" (cells of the run changed by {by})" if by else "")
        for row in raw.conditions.to_dict("records")
    }
    return _noted(summary, said)


def _noted(summary: Summary, said: dict[tuple[str, str], str]) -> Summary:
    """The summary with one more clause in the notes of these conditions and markers."""
    table = summary.conditions.copy()
    table["note"] = [
        "; ".join(n for n in (row["note"], said.get((row["condition"], row["marker"]), "")) if n)
        for row in table.to_dict("records")
    ]
    return dataclasses.replace(summary, conditions=table)
