"""The page: sections in the order in which a reader asks.

The idea: what is the number, of what and how sure; what speaks against it; why were cells called
so; what was counted; what goes into the paper; what exactly was run.  Each section is a function
of the data that gives HTML, or "" where there is nothing to show.
It fails where a section grows a computation of its own: numbers belong in the run's tables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template

from islet_imaging import terms
from islet_imaging.report.data import ReportData
from islet_imaging.report.evidence import flags_section, thresholds_section
from islet_imaging.report.gallery import gallery_html
from islet_imaging.report.methods import checklist, methods_paragraph
from islet_imaging.report.result import comparison, corrections, headline
from islet_imaging.report.validated import validated
from islet_imaging.report.words import (
    clean,
    count,
    esc,
    moment,
    number,
    percent,
    plural,
    share,
    table,
)
from islet_imaging.run.files import write_text

#: images that are listed; all are in ``images.csv``
LISTED = 1000


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
        ("result", "Result", headline(data)),
        ("validation", "Corrected for wrong calls", validated(data)),
        ("comparison", "Comparison of conditions", comparison(data)),
        ("corrections", "What people changed", corrections(data)),
        ("flags", "What to look at first", flags_section(data)),
        ("thresholds", "Why cells were called so", thresholds_section(data)),
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
    write_text(path, build_report(results))
    return path


# ---------------------------------------------------------------- sections


def _opening(data: ReportData) -> str:
    images = data.images
    scored = int((images["status"] == "scored").sum()) if "status" in images else len(images)
    found = len(data.cells)
    if "flags" in data.cells:  # a nucleus that people merged or painted out keeps its row
        flags = data.cells["flags"].fillna("").astype(str)
        found -= int(flags.str.contains("painted_out", regex=False).sum())
    parts = [f"{plural(scored, 'image')} scored", f"{plural(found, 'nucleus')} found"]
    parts[1] = parts[1].replace("nucleuses", "nuclei")
    if scored < len(images):
        parts.append(f"{plural(len(images) - scored, 'image')} not scored")
    when = data.provenance.get("made")
    if when:
        parts.append(moment(when))
    serious = [sum(f.severity == s for f in data.flags) for s in ("block", "warning")]
    seen = [
        f'<a href="#flags">{esc(text)}</a>'
        for n, text in (
            (serious[0], f"{plural(serious[0], 'finding')} not to be ignored"),
            (serious[1], f"{plural(serious[1], 'warning')}"),
        )
        if n
    ]
    links = f" · {' · '.join(seen)}" if seen else ""
    return (
        f'<h1>{esc(data.title)}</h1><p class="lead">{esc(" · ".join(parts))}{links} '
        '<span class="tag">research use only</span></p>'
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
            ("interval", "Interval", clean),
            ("note", "Note", clean),
        ]
        columns = [c for c in columns if c[0] in own]
        out.append(table(own, columns, caption=titles.get(str(kind), clean(kind))))
    return (
        "<p>Shares of one condition add up to 100 %. Cells positive for two hormones are where "
        "light of neighbours does most harm: look at them in the gallery or the plugin.</p>"
        + "".join(out)
    )


def _variance(data: ReportData) -> str:
    """Where the scatter comes from, and so what the next experiment should have more of."""
    if data.variance is None:
        return ""
    rows = data.variance.dropna(subset=["islet_sd_pp"])
    if rows.empty:
        return ""
    columns = [
        ("condition", "Condition", clean),
        ("marker", "Marker", clean),
        ("batch_sd_pp", "SD between batches, points", number),
        ("islet_sd_pp", "SD between islets of a batch, points", number),
        ("icc_batch", "ICC of a batch", number),
        ("icc_islet", "ICC of an islet", number),
        ("design_effect", "Design effect", number),
        ("effective_cells", "Cells are worth", count),
    ]
    return (
        "<p>Cells of one islet are alike, so many cells are worth few independent ones. Where the "
        "batches differ most, more batches help; more cells hardly ever do.</p>"
        + table(rows, columns, caption="Where the scatter comes from (beta-binomial split)")
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
    out += [f"<p>{esc(sentence)}</p>" for sentence in data.sentences]
    out.append(_variance(data))
    if "flags" in data.cells and len(data.cells):
        codes = data.cells["flags"].fillna("").astype(str)
        tally: dict[str, int] = {}
        for text, n in codes.value_counts().items():
            for code in str(text).split(";"):
                if code:
                    tally[code] = tally.get(code, 0) + int(n)
        rows = [
            {"code": terms.flag(code), "cells": n, "share": n / len(data.cells)}
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
        *((c, str(c).removesuffix("_fraction") + " positive", clean) for c in fractions),
        ("flags", "Flags", lambda v: "; ".join(terms.image_flag(c) for c in terms.codes(clean(v)))),
    ]
    columns = [w for w in wanted if w[0] in data.images]
    shown = data.images.head(LISTED)
    rows = shown.to_dict("records")
    said = {c: [share(r, str(c).removesuffix("fraction")) for r in rows] for c in fractions}
    left = len(data.images) - len(shown)
    more = f"<p>And {esc(plural(left, 'more image'))}, see images.csv.</p>" if left else ""
    title = f"The first {LISTED:,} of" if left else "All"
    return (
        f"<details><summary>{title} {esc(plural(len(data.images), 'image'))}</summary>"
        + table(shown.assign(**said), columns, caption="Images (images.csv)")
        + f"{more}</details>"
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
    return (
        f"<dl>{''.join(rows)}<dt>protocol fingerprint</dt>"
        f"<dd>{data.protocol.fingerprint()}</dd></dl>"
        f"<details><summary>protocol.yaml</summary><pre>{esc(data.protocol.dump())}</pre></details>"
    )
