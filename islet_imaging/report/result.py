"""Sections on the result: fractions, comparison of conditions, what people changed.

The idea: every sentence states what was estimated, the estimate, how sure, and n at every level,
so that it can be copied without losing what makes it true.
It fails where a table lacks an interval: the sentence then says so and gives none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from islet_imaging.report.data import ReportData
from islet_imaging.report.figures import headline_figure, legend
from islet_imaging.report.words import (
    clean,
    count,
    esc,
    folded,
    interval,
    missing,
    number,
    percent,
    plural,
    points,
    table,
)

#: rows of a table above which it is folded away
ROWS = 12


def _denominator(data: ReportData) -> str:
    d = data.protocol.statistics.denominator
    return {"all": "of all counted nuclei", "islets": "of counted nuclei inside islets"}.get(
        d, f"of {d}-positive cells"
    )


def _sentence(data: ReportData, row: Mapping[str, Any]) -> str:
    """What was estimated, the estimate, how sure, and n at every level."""
    condition = clean(row["condition"])
    who = f"In <b>{esc(condition)}</b>, " if condition else "In all samples together, "
    marker, n = esc(row["marker"]), row.get("n_batches")
    seen = f"{plural(row['n_islets'], 'islet')}, {plural(row['n_cells'], 'cell')}"
    if missing(row["fraction"]):
        text = f"{who}the share of {marker}-positive cells is <strong>not estimable</strong>"
        low, high = row.get("fraction_low"), row.get("fraction_high")
        if not missing(low) and not missing(high):
            text += f": it may be anything from {percent(low, 0)} to {percent(high, 0)}"
        why = clean(row.get("note"))
        return f"{text} ({esc(seen)}).{f' {esc(why)}.' if why else ''}"
    batches = 0 if n is None or missing(n) else int(n)
    of = _denominator(data)
    estimand = "the mean over batches of the share" if batches > 1 else "the share"
    text = (
        f"{who}{estimand} of {marker}-positive cells {esc(of)} is "
        f"<strong>{percent(row['fraction'])}</strong>"
    )
    level = f"{100 * data.protocol.statistics.level:g} %"
    if missing(row["ci_low"]) or missing(row["ci_high"]):
        text += ", without an interval"
    else:
        kind = clean(row.get("interval"))
        text += (
            f" ({level} interval {interval(row['ci_low'], row['ci_high'])}"
            f"{', ' + esc(kind) if kind else ''})"
        )
    sampled = plural(batches, "batch") if batches else "batches not stated"
    text += f"; n = {esc(sampled)}, {esc(seen)}."
    if batches == 1:
        text += " One batch says nothing about how far other batches differ."
    return text


def _noted(row: Mapping[Any, Any]) -> str:
    """What must be known of a number, under its sentence: nobody scrolls to the end of a table."""
    note = clean(row.get("note")).strip()
    return f'<p class="why">{esc(note[0].upper() + note[1:])}.</p>' if note else ""


def _islet_fractions(data: ReportData, marker: str) -> dict[tuple[str, str], Any]:
    column = f"{marker}_fraction"
    islets, images = data.islets, data.images
    if column not in islets or not {"image", "condition", "batch"} <= set(images.columns):
        return {}
    known = images.drop_duplicates("image").set_index("image")
    rows = islets[islets["image"].isin(known.index)]
    if "role" in known:
        rows = rows[rows["image"].map(known["role"]).astype(str) == "sample"]
    keys = zip(
        rows["image"].map(known["condition"]).map(clean),
        rows["image"].map(known["batch"]).map(clean),
        strict=True,
    )
    out: dict[tuple[str, str], list[float]] = {}
    for key, value in zip(keys, rows[column].to_numpy(dtype=float), strict=True):
        out.setdefault(key, []).append(float(value))
    return {key: np.asarray(values) for key, values in out.items()}


_SHAPE = {
    "o": '<circle cx="6" cy="6" r="4.5"/>',
    "s": '<rect x="2" y="2" width="8" height="8"/>',
    "^": '<path d="M6 1 11 10.5H1z"/>',
    "D": '<path d="M6 .8 11.2 6 6 11.2 .8 6z"/>',
    "v": '<path d="M6 11 1 1.5H11z"/>',
    "P": '<path d="M4 1h4v3h3v4H8v3H4V8H1V4h3z"/>',
    "X": '<path d="M3 1 6 4 9 1 11 3 8 6 11 9 9 11 6 8 3 11 1 9 4 6 1 3z"/>',
    "h": '<path d="M6 .8 10.5 3.4V8.6L6 11.2 1.5 8.6V3.4z"/>',
}


def headline(data: ReportData) -> str:
    """The result per marker: figure, sentences, tables."""
    summary = data.summary
    if summary.empty:
        return "<p>No sample image was scored, so there is no result. See the flags below.</p>"
    panels = []
    for k, marker in enumerate(dict.fromkeys(summary["marker"])):
        rows = summary[summary["marker"] == marker]
        batches = data.batches[data.batches["marker"] == marker]
        figure = headline_figure(
            clean(marker),
            rows,
            batches,
            _islet_fractions(data, str(marker)),
            name=f"result{k}",
            of=_denominator(data),
        )
        said = "".join(
            f'<p class="say">{_sentence(data, row)}</p>'
            # of what has no estimate the sentence holds the reason
            + ("" if missing(row["fraction"]) else _noted(row))
            for row in rows.to_dict("records")
        )
        keys = "".join(
            f'<span class="key"><svg viewBox="0 0 12 12" fill="{colour}" aria-hidden="true">'
            f"{_SHAPE[shape]}</svg>{esc(batch or 'batch not stated')}</span>"
            for batch, colour, shape in legend(batches)
        )
        panels.append(
            f'<h3>{esc(marker)}</h3><div class="grid"><div class="panel">{figure}'
            f'<p class="keys">{keys}<span class="key">small dots: islets; bar: interval; '
            f'stroke: estimate</span></p></div><div class="panel">{said}</div></div>'
        )
    notes = [
        ("condition", "Condition", clean),
        ("marker", "Marker", clean),
        ("status", "Status", lambda v: clean(v).replace("_", " ")),
        ("n_batches", "Batches", count),
        ("n_islets", "Islets", count),
        ("n_cells", "Cells", count),
        ("n_unsure", "of them unsure", count),
        ("n_excluded", "Nuclei left out", count),
        ("fraction", "Positive", percent),
        ("fraction_low", "If all unsure negative", percent),
        ("fraction_high", "If all unsure positive", percent),
        ("ci_low", "From", percent),
        ("ci_high", "To", percent),
        ("interval", "Interval", clean),
    ]
    by_batch = [
        ("condition", "Condition", clean),
        ("batch", "Batch", clean),
        ("marker", "Marker", clean),
        ("n_islets", "Islets", count),
        ("n_cells", "Cells", count),
        ("n_positive", "Positive", count),
        ("n_unsure", "Unsure", count),
        ("fraction", "Share", percent),
        ("fraction_low", "If all unsure negative", percent),
        ("fraction_high", "If all unsure positive", percent),
    ]
    return (
        "".join(panels)
        + table(summary, notes, caption="Share of positive cells per condition (summary.csv)")
        + folded(
            table(data.batches, by_batch, caption="Every batch (batches.csv)"),
            f"{len(data.batches)} rows, every batch and marker",
            len(data.batches) > ROWS,
        )
        + _uncorrected(data)
    )


def _uncorrected(data: ReportData) -> str:
    """That wrong calls are not corrected for, and how they could be."""
    if data.validation is not None and len(data.validation):
        return ""
    return (
        '<p class="why">These fractions are not corrected for wrong calls, and no interval above '
        "holds them: that takes cells picked by chance and labelled by people. "
        "<code>islet-imaging summarize RUN --draw 500</code> picks them.</p>"
    )


_COMPARED = (
    ("marker", "Marker", clean),
    ("condition", "Condition", clean),
    ("reference", "Against", clean),
    ("design", "Design", clean),
    ("n_units", "n", count),
    ("n_reference", "n of reference", count),
    ("n_shared", "n in both", count),
    ("effect_pp", "Difference, points", points),
    ("effect_low_pp", "From", points),
    ("effect_high_pp", "To", points),
    ("p", "p", number),
    ("p_holm", "p, Holm", number),
    ("p_exact", "p, exact test", number),
    ("p_exact_floor", "its least possible value", number),
    ("margin_pp", "Margin, points", number),
    ("p_equivalence", "p of a difference beyond it", number),
    ("effect_corrected_pp", "Corrected for wrong calls", points),
    ("effect_corrected_low_pp", "From", points),
    ("effect_corrected_high_pp", "To", points),
)


def comparison(data: ReportData) -> str:
    """Differences between conditions."""
    rows = data.comparisons
    if rows is None or rows.empty:
        return ""
    # a column that no row of this study has is not asked for
    columns = [c for c in _COMPARED if c[0] in rows and rows[c[0]].notna().any()]
    said = "".join(
        f'<p class="say">{_difference(data, r)}</p>'
        + ("" if missing(r.get("effect_pp")) else _noted(r))
        for r in rows.to_dict("records")
    )
    return (
        "<p>Conditions are compared over batches, never over cells or islets. Difference, interval "
        "and p speak of one quantity, the difference of the mean fractions of batches; conditions "
        "may differ in scatter and in number of batches. Assumed is that batches are independent "
        "of each other, of one kind (a failed one is named, not removed), and were not picked for "
        "their result.</p>"
        + said
        + table(rows, columns, caption="Differences between conditions (comparisons.csv)")
    )


def _difference(data: ReportData, row: Mapping[Any, Any]) -> str:
    if missing(row.get("effect_pp")):
        who = " against ".join(
            clean(row.get(k)) for k in ("condition", "reference") if clean(row.get(k))
        )
        start = ": ".join(esc(w) for w in (clean(row.get("marker")), who) if w)
        why = esc(row.get("note")) or "no difference could be estimated"
        return f"{start}: {why}." if start else f"{why}."
    if str(row.get("design", "")).startswith("trend"):
        text = (
            f"{esc(row.get('marker'))}: the share rises by "
            f"<strong>{points(row['effect_pp'])}</strong> percentage points "
            f"{esc(row['condition'])}"
        )
    else:
        text = (
            f"{esc(row.get('marker'))}: <b>{esc(row['condition'])}</b> minus "
            f"<b>{esc(row['reference'])}</b> is <strong>{points(row['effect_pp'])}</strong> "
            "percentage points"
        )
    level = f"{100 * data.protocol.statistics.level:g} %"
    low, high = row.get("effect_low_pp"), row.get("effect_high_pp")
    if not missing(low) and not missing(high):
        text += f" ({level} interval {points(low)} to {points(high)})"
    if not missing(row.get("design")):
        unit = clean(row.get("unit")) or "batch"
        text += f", {esc(row['design'])}" + (f", n are {esc(unit)}s" if unit != "batch" else "")
    if not missing(row.get("p_holm")):
        text += f"; p = {esc(number(row['p_holm']))} after Holm's correction"
    if not missing(row.get("p_equivalence")):
        inside = float(row["p_equivalence"]) < 1 - data.protocol.statistics.level
        text += (
            f"; a difference of {number(row['margin_pp'])} points or more is "
            f"{'excluded' if inside else 'not excluded'} (p = {number(row['p_equivalence'])})"
        )
    if not missing(row.get("effect_corrected_pp")):
        text += (
            f"; corrected for wrong calls {points(row['effect_corrected_pp'])} "
            f"({points(row['effect_corrected_low_pp'])} to "
            f"{points(row['effect_corrected_high_pp'])})"
        )
    floor = row.get("p_exact_floor", float("nan"))
    if not missing(floor) and float(floor) > 1 - data.protocol.statistics.level:
        text += (
            f". With so few batches an exact test cannot go below p = {esc(number(floor))}: a "
            "smaller p rests on the model of how batches scatter"
        )
    return text + "."


def _or_open(value: Any) -> str:
    return "not estimable" if missing(value) else percent(value)


def corrections(data: ReportData) -> str:
    """How human decisions changed the numbers."""
    made = data.corrections
    if not made.get("cells"):
        return ""
    who = made.get("by") or {}
    people = ", ".join(f"{clean(name)} {count(n)}" for name, n in who.items())
    text = (
        f"<p>{esc(plural(made['cells'], 'cell'))} {'was' if made['cells'] == 1 else 'were'} "
        f"changed by hand{f' ({esc(people)})' if people else ''}; the numbers above hold these "
        "decisions.</p>"
    )
    if made.get("not_found"):
        text += (
            f"<p>{esc(plural(made['not_found'], 'decision'))} found no nucleus at "
            "the place it was made for, and had no effect.</p>"
        )
    raw = made.get("raw") or {}
    rows = [{"what": k, "before": v[0], "after": v[1]} for k, v in raw.items()]
    columns = [
        ("what", "Condition and marker", clean),
        ("before", "As scored", _or_open),
        ("after", "As corrected", _or_open),
    ]
    return text + (table(rows, columns, caption="With and without corrections") if rows else "")
