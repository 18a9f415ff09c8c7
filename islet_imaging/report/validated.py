"""Section on wrong calls: the raw fraction beside the one corrected by labelled cells.

The idea: both numbers stand side by side with the error rates between them, so that a reader sees
how much rests on the correction, and a refusal is as plain as a result.
It fails where the labelled cells were not picked by chance: the page can only repeat that they
must be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from islet_imaging.report.data import ReportData
from islet_imaging.report.words import (
    clean,
    count,
    esc,
    interval,
    missing,
    percent,
    plural,
    table,
)

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    ("condition", "Condition", clean),
    ("marker", "Marker", clean),
    ("raw_fraction", "Raw", percent),
    ("raw_interval", "Interval", clean),
    ("fraction", "Corrected", percent),
    ("corrected_interval", "Interval", clean),
    ("interval", "Both intervals", clean),
    ("sensitivity", "Sensitivity", percent),
    ("specificity", "Specificity", percent),
    ("labelled", "Labelled pos. / neg.", clean),
    ("said", "Note", clean),
)


def validated(data: ReportData) -> str:
    """Raw and corrected fractions; "" where nobody labelled cells."""
    rows = data.validation
    if rows is None or rows.empty:
        return ""
    said = "".join(f'<p class="say">{_sentence(data, r)}</p>' for r in rows.to_dict("records"))
    return (
        "<p>People labelled cells that chance had picked. How often calls agree with them gives "
        "sensitivity and specificity, and with these the raw fraction is corrected (Rogan and "
        "Gladen). The interval of the corrected fraction holds the scatter between the units and "
        "the uncertainty of both error rates, with labelled cells of one islet taken as alike. "
        "Error rates are taken to be the same in every condition and batch.</p>"
        + said
        + table(
            _shown(rows),
            _COLUMNS,
            caption="Raw and corrected share of positive cells (corrected.csv)",
        )
    )


def _shown(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with each interval in one cell, so that the table fits a page."""
    return [
        {
            **{str(k): v for k, v in row.items()},
            "raw_interval": interval(row["raw_low"], row["raw_high"]),
            "corrected_interval": interval(row["ci_low"], row["ci_high"]),
            "labelled": f"{count(row['n_labelled_positive'])} / "
            f"{count(row['n_labelled_negative'])}",
            "said": "; ".join(
                n for n in (row["status"].replace("corrected", ""), clean(row["note"])) if n
            ),
        }
        for row in rows.to_dict("records")
    ]


def _sentence(data: ReportData, row: Mapping[Any, Any]) -> str:
    level = f"{100 * data.protocol.statistics.level:g} %"
    who = f"<b>{esc(row['condition'])}</b>, " if clean(row["condition"]) else ""
    text = f"{who}{esc(row['marker'])}: raw {percent(row['raw_fraction'])}"
    if not missing(row["raw_low"]):
        text += f" ({level} interval {interval(row['raw_low'], row['raw_high'])})"
    both = interval(row["ci_low"], row["ci_high"])
    if row["status"] == "corrected":
        text += (
            f", corrected <strong>{percent(row['fraction'])}</strong> ({level} interval {both}, "
            f"{esc(row['interval'])})."
        )
    elif row["status"] == "refused":
        return text + f". <b>Not corrected:</b> {esc(row['note'])}."
    else:
        text += (
            f"; <b>below the detection limit</b>: no more cells were called positive than wrong "
            f"calls alone would give. Up to {percent(row['ci_high'])} cannot be excluded "
            f"({level} interval {both}, {esc(row['interval'])})."
        )
    return text + (
        f" Sensitivity {percent(row['sensitivity'])}, specificity {percent(row['specificity'])}, "
        f"from {plural(row['n_labelled_positive'], 'positive cell')} and "
        f"{plural(row['n_labelled_negative'], 'negative cell')}."
    )


def error_rates_line(data: ReportData) -> str:
    """Error rates of the calls, for the methods text and checklist; "" without labels."""
    rows = data.validation
    if rows is None or rows.empty:
        return ""
    parts = []
    for row in rows.drop_duplicates("marker").to_dict("records"):
        if missing(row["sensitivity"]):
            continue
        parts.append(
            f"{clean(row['marker'])}: sensitivity {percent(row['sensitivity'])}, specificity "
            f"{percent(row['specificity'])} ({plural(row['n_labelled_positive'], 'positive cell')} "
            f"and {plural(row['n_labelled_negative'], 'negative cell')} labelled)"
        )
    return "; ".join(parts)
