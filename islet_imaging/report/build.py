"""The page: sections in the order in which a reader asks.

The idea: what is the number, of what and how sure; what speaks against it; why were cells called
so; what was counted; what goes into the paper; what exactly was run.  Each section is a function
of the data that gives HTML, or "" where there is nothing to show.
It fails where a section grows a computation of its own: numbers belong in the run's tables.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from islet_imaging.quality.flag import SEVERITIES, Flag
from islet_imaging.report.data import ReportData
from islet_imaging.report.figures import headline_figure, legend, threshold_figure
from islet_imaging.report.gallery import gallery_html
from islet_imaging.report.methods import checklist, methods_paragraph
from islet_imaging.report.words import (
    clean,
    count,
    esc,
    interval,
    missing,
    number,
    percent,
    plural,
    table,
)

#: messages of one kind shown before the rest is folded away
SHOWN = 4
SEVERITY_WORDS = {"block": "Do not use", "warning": "Look at this", "info": "Note"}


def build_report(data: ReportData) -> str:
    """The report as HTML text.

    Parameters
    ----------
    data : ReportData
        The run.

    Returns
    -------
    str
        A complete HTML document; the same text for equal data.
    """
    sections = [
        ("result", "Result", _headline(data)),
        ("comparison", "Comparison of conditions", _comparison(data)),
        ("flags", "What to look at first", _flags(data)),
        ("thresholds", "Why cells were called so", _thresholds(data)),
        ("gallery", "See for yourself", _gallery(data)),
        ("composition", "Composition", _composition(data)),
        ("levels", "What was counted", _levels(data)),
        ("methods", "For the paper", _methods(data)),
        ("provenance", "What exactly was run", _provenance(data)),
    ]
    sections = [s for s in sections if s[2]]
    links = "".join(f'<a href="#{key}">{esc(title)}</a>' for key, title, _ in sections)
    body = f'{_opening(data)}<nav aria-label="Sections">{links}</nav>' + "".join(
        f'<section id="{key}"><h2>{esc(title)}</h2>{html}</section>'
        for key, title, html in sections
    )
    page = resources.files("islet_imaging.report").joinpath("template.html").read_text("utf-8")
    return Template(page).substitute(title=esc(data.title), body=body)


def write_report(path: str | Path, results: ReportData) -> Path:
    """Write the report as one self-contained HTML file, whole or not at all.

    Parameters
    ----------
    path : path
        Where to; its folder must exist.
    results : ReportData
        The run.

    Returns
    -------
    Path
        The file.
    """
    path = Path(path)
    text = build_report(results)
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        Path(part).chmod(0o644)
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)
    return path


# ---------------------------------------------------------------- sections


def _opening(data: ReportData) -> str:
    images = data.images
    scored = int((images["status"] == "scored").sum()) if "status" in images else len(images)
    parts = [f"{plural(scored, 'image')} scored", f"{plural(len(data.cells), 'nucleus')} found"]
    parts[1] = parts[1].replace("nucleuses", "nuclei")
    if scored < len(images):
        parts.append(f"{plural(len(images) - scored, 'image')} not scored")
    when = data.provenance.get("finished") or data.provenance.get("started")
    if when:
        parts.append(clean(when))
    return (
        f'<h1>{esc(data.title)}</h1><p class="lead">{esc(" · ".join(parts))} '
        '<span class="tag">research use only</span></p>'
    )


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
        return f"{who}the share of {marker}-positive cells cannot be given ({esc(seen)})."
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


def _headline(data: ReportData) -> str:
    summary = data.summary
    if summary.empty:
        return "<p>No sample image was scored, so there is no result. See the flags below.</p>"
    panels = []
    for k, marker in enumerate(dict.fromkeys(summary["marker"])):
        rows = summary[summary["marker"] == marker]
        batches = data.batches[data.batches["marker"] == marker]
        figure = headline_figure(
            clean(marker), rows, batches, _islet_fractions(data, str(marker)), name=f"result{k}"
        )
        said = "".join(
            f'<p class="say">{_sentence(data, row)}</p>' for row in rows.to_dict("records")
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
        ("n_batches", "Batches", count),
        ("n_islets", "Islets", count),
        ("n_cells", "Cells", count),
        ("fraction", "Positive", percent),
        ("ci_low", "From", percent),
        ("ci_high", "To", percent),
        ("interval", "Interval", clean),
        ("note", "Note", clean),
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
        + table(data.batches, by_batch, caption="Every batch (batches.csv)")
    )


def _comparison(data: ReportData) -> str:
    rows = data.comparisons
    if rows is None or rows.empty:
        return ""
    columns = [(c, clean(c).replace("_", " "), number) for c in rows.columns]
    return "<p>Conditions are compared over batches, never over cells.</p>" + table(
        rows, columns, caption="Differences between conditions, batches as n"
    )


def _flags(data: ReportData) -> str:
    failed: list[dict[Any, Any]] = []
    if "status" in data.images:
        failed = data.images[data.images["status"] == "failed"].to_dict("records")
    out = []
    if failed:
        items = "".join(
            f"<li>{esc(r['image'])}: {esc(r.get('message') or 'no reason recorded')}</li>"
            for r in failed
        )
        out.append(
            f'<div class="flag block"><b>Not scored</b>{esc(plural(len(failed), "image"))}'
            f"<ul>{items}</ul></div>"
        )
    groups: dict[tuple[int, str], list[Flag]] = {}
    for flag in data.flags:
        groups.setdefault((-SEVERITIES.index(flag.severity), flag.code), []).append(flag)
    for (_, code), flags in sorted(groups.items(), key=lambda item: item[0]):
        out.append(_flag_group(code, flags))
    if not out:
        return (
            "<p>No check raised a flag. The checks cannot see everything: look at the gallery.</p>"
        )
    return "".join(out)


def _flag_group(code: str, flags: list[Flag]) -> str:
    severity = flags[0].severity
    items = []
    for flag in flags:
        named = flag.image and not flag.message.startswith(flag.image)
        items.append(
            f"<li>{esc(flag.image + ': ') if named and flag.image else ''}{esc(flag.message)}</li>"
        )
    head = f"<b>{SEVERITY_WORDS[severity]}</b>{esc(code.replace('_', ' '))}"
    if len(flags) > 1:
        head += f" ({len(flags)})"
    body = f"<ul>{''.join(items[:SHOWN])}</ul>"
    if len(items) > SHOWN:
        body += (
            f"<details><summary>{len(items) - SHOWN} more</summary>"
            f"<ul>{''.join(items[SHOWN:])}</ul></details>"
        )
    return f'<div class="flag {severity}">{head}{body}</div>'


def _thresholds(data: ReportData) -> str:
    if not data.thresholds:
        return ""
    panels = []
    for k, info in enumerate(data.thresholds):
        figure = threshold_figure(info, name=f"cut{k}")
        value = info.get("value")
        if missing(value):
            verdict = '<span class="bad">No threshold could be estimated.</span>'
        else:
            verdict = f"Cut at <b>{esc(number(value))}</b>"
            if not missing(info.get("low")) and not missing(info.get("high")):
                low, high = number(info["low"]), number(info["high"])
                verdict += f" (95 % interval of the cut {esc(low)} to {esc(high)})"
            verdict += f", method: {esc(info.get('method'))}."
        curve = info.get("sensitivity") or {}
        slope = curve.get("slope_pp")
        if info.get("fragile"):
            verdict += (
                ' <span class="bad">Fragile:</span> moving the threshold by 10 % moves the share '
                f"by {esc(number(slope))} percentage points."
            )
        elif not missing(slope):
            verdict += (
                f" Moving it by 10 % moves the share by {esc(number(slope))} percentage points."
            )
        batch = clean(info.get("batch")) or "all images"
        panels.append(
            f'<div class="panel"><h3>{esc(info.get("marker"))}, {esc(batch)}</h3>{figure}'
            f"<p>{verdict} {esc(info.get('reason'))}</p></div>"
        )
    return (
        "<p>A threshold is set once per staining run, on the same feature in samples and controls. "
        "The grey line is the control, the blue area the samples, the orange line the cut with its "
        "interval. The lower curve shows the answer that another cut would give.</p>"
        f'<div class="grid">{"".join(panels)}</div>'
    )


def _gallery(data: ReportData) -> str:
    return gallery_html(data.gallery) if data.gallery else ""


def _composition(data: ReportData) -> str:
    rows = data.composition
    if rows is None or rows.empty:
        return ""
    out = []
    titles = {
        "phenotype": "Phenotypes, all markers called jointly",
        "hormones": "Number of hormones per cell",
    }
    for kind in dict.fromkeys(rows["kind"]):
        own = rows[rows["kind"] == kind]
        columns = [
            ("condition", "Condition", clean),
            ("class", "Class", clean),
            ("n_cells", "Cells", count),
            ("fraction", "Share", percent),
            ("ci_low", "From", percent),
            ("ci_high", "To", percent),
        ]
        out.append(table(own, columns, caption=titles.get(str(kind), clean(kind))))
    return (
        "<p>Shares of one condition add up to 100 %. Cells positive for two hormones are where "
        "light of neighbours does most harm: look at them in the gallery or the plugin.</p>"
        + "".join(out)
    )


def _levels(data: ReportData) -> str:
    out = []
    if data.levels is not None and not data.levels.empty:
        names = {
            "condition": "Condition",
            "n_batches": "Batches",
            "n_images": "Images",
            "n_islets": "Islets",
            "n_cells": "Cells counted",
            "n_excluded": "Cells not counted",
            "cells_per_islet": "Cells per islet (median)",
        }
        columns = [
            (
                c,
                names.get(c, clean(c).removeprefix("n_").replace("_", " ").capitalize()),
                clean if c == "condition" else number,
            )
            for c in data.levels.columns
        ]
        out.append(
            "<p>Only batches are independent. Islets of one batch resemble each other, cells of "
            "one islet even more.</p>"
            + table(data.levels, columns, caption="Numbers at every level")
        )
    if "flags" in data.cells and len(data.cells):
        codes = data.cells["flags"].fillna("").astype(str)
        tally: dict[str, int] = {}
        for text, n in codes.value_counts().items():
            for code in str(text).split(";"):
                if code:
                    tally[code] = tally.get(code, 0) + int(n)
        rows = [
            {"code": code.replace("_", " "), "cells": n, "share": n / len(data.cells)}
            for code, n in sorted(tally.items(), key=lambda kv: (-kv[1], kv[0]))
        ]
        if rows:
            columns = [
                ("code", "Flag", clean),
                ("cells", "Nuclei", count),
                ("share", "Share", percent),
            ]
            out.append(table(rows, columns, caption="Flagged nuclei (a nucleus may have several)"))
    out.append(_images(data))
    return "".join(out)


def _images(data: ReportData) -> str:
    if data.images.empty:
        return ""
    fractions = [c for c in data.images.columns if str(c).endswith("_fraction")]
    wanted = [
        ("image", "Image", clean),
        ("condition", "Condition", clean),
        ("batch", "Batch", clean),
        ("role", "Role", clean),
        ("status", "Status", clean),
        ("n_cells", "Cells", count),
        ("n_islets", "Islets", count),
        *((c, str(c).removesuffix("_fraction") + " positive", percent) for c in fractions),
        ("flags", "Flags", lambda v: clean(v).replace(";", ", ").replace("_", " ")),
    ]
    columns = [w for w in wanted if w[0] in data.images]
    return (
        f"<details><summary>All {esc(plural(len(data.images), 'image'))}</summary>"
        + table(data.images, columns, caption="Images (images.csv)")
        + "</details>"
    )


def _methods(data: ReportData) -> str:
    text = re.sub(
        r"\[state: [^\]]*\]", lambda m: f'<span class="fill">{m[0]}</span>',
        esc(methods_paragraph(data)),
    )  # fmt: skip
    items = checklist(data)
    rows = "".join(
        f"<tr><td>{esc(i.level)}</td><td>{esc(i.question)}</td><td>"
        + re.sub(r"\[state: [^\]]*\]", lambda m: f'<span class="fill">{m[0]}</span>', esc(i.answer))
        + "</td></tr>"
        for i in items
    )
    left = sum(i.open for i in items)
    return (
        "<h3>Methods paragraph</h3><p>Ready to paste; yellow places are for you to fill.</p>"
        f'<p class="paper">{text}</p><h3>Checklist</h3><p>After the levels of Schmied et al., Nat '
        f"Methods 21:170 (2024), and what reviewers ask of such work. {left} of {len(items)} lines "
        "are left to fill.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Checklist"><table><thead>'
        '<tr><th scope="col">Level</th><th scope="col">Item</th><th scope="col">Answer</th></tr>'
        "</thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _provenance(data: ReportData) -> str:
    rows = []
    for key, value in data.provenance.items():
        if isinstance(value, Mapping | list | tuple):
            shown = json.dumps(value, ensure_ascii=False, default=str)
            shown = shown if len(shown) <= 600 else f"{len(value)} entries, see provenance.json"
        else:
            shown = clean(value)
        rows.append(f"<dt>{esc(str(key).replace('_', ' '))}</dt><dd>{esc(shown)}</dd>")
    for key, value in data.corrections.items():
        rows.append(f"<dt>corrections, {esc(key)}</dt><dd>{esc(number(value))}</dd>")
    return (
        f"<dl>{''.join(rows)}<dt>protocol fingerprint</dt>"
        f"<dd>{data.protocol.fingerprint()}</dd></dl>"
        f"<details><summary>protocol.yaml</summary><pre>{esc(data.protocol.dump())}</pre></details>"
    )
