"""Sections on the evidence: flags in plain words, thresholds with the cells they were set on.

The idea: what speaks against the number stands before what speaks for it, and the most serious
first.
It fails when a flag's message does not say what to do: the report only passes it on.
"""

from __future__ import annotations

from typing import Any

from islet_imaging import terms
from islet_imaging.quality.flag import SEVERITIES, Flag
from islet_imaging.report.data import ReportData
from islet_imaging.report.figures import threshold_figure
from islet_imaging.report.words import clean, esc, folded, missing, number, plural

#: messages of one kind, and panels of thresholds, shown before the rest is folded away
SHOWN, PANELS = 4, 6
#: and those kept behind a click; a report of thousands of images must still open
KEPT, KEPT_PANELS = 200, 60
SEVERITY_WORDS = {"block": "Serious", "warning": "Look at this", "info": "Note"}


def flags_section(data: ReportData) -> str:
    """What could not be scored, and every flag, the most serious first."""
    failed: list[dict[Any, Any]] = []
    if "status" in data.images:
        failed = data.images[data.images["status"] == "failed"].to_dict("records")
    out = []
    if failed:
        items = "".join(
            f"<li>{esc(_named(r['image'], r.get('message') or 'no reason recorded'))}</li>"
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


def _named(image: Any, message: Any) -> str:
    """A message that says which image it is of, once."""
    image, message = clean(image), clean(message)
    return message if not image or message.startswith(image) else f"{image}: {message}"


def _flag_group(code: str, flags: list[Flag]) -> str:
    severity = flags[0].severity
    items = [f"<li>{esc(_named(flag.image, terms.plain(flag.message)))}</li>" for flag in flags]
    named = f'<span title="{esc(code)}">{esc(terms.image_flag(code))}</span>'
    head = f"<b>{SEVERITY_WORDS[severity]}:</b>{named}"
    if len(flags) > 1:
        head += f" ({len(flags)})"
    body = f"<ul>{''.join(items[:SHOWN])}</ul>"
    if len(items) > SHOWN:
        left = len(items) - KEPT
        rest = f"<p>And {left:,} more, see the column flags of images.csv.</p>" if left > 0 else ""
        body += (
            f"<details><summary>{len(items) - SHOWN} more</summary>"
            f"<ul>{''.join(items[SHOWN:KEPT])}</ul>{rest}</details>"
        )
    return f'<div class="flag {severity}">{head}{body}</div>'


def _reason(reason: Any) -> str:
    """Why the cut is where it is, as a sentence of its own."""
    text = clean(reason).strip().rstrip(".")
    return f'<br><span class="why">{esc(text[:1].upper() + text[1:])}.</span>' if text else ""


def thresholds_section(data: ReportData) -> str:
    """Each threshold with its histograms and sensitivity; doubtful ones first."""
    if not data.thresholds:
        return ""
    panels = []
    # what needs a look comes first
    order = sorted(
        data.thresholds, key=lambda t: (not missing(t.get("value")), not t.get("fragile"))
    )
    for k, info in enumerate(order[:KEPT_PANELS]):
        words = terms.column(clean(info.get("feature")), data.protocol)
        figure = threshold_figure({**info, "feature": words}, name=f"cut{k}")
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
        moved = "" if slope is None or missing(slope) else f"{float(slope):.1f}"
        if info.get("fragile"):
            verdict += (
                ' <span class="bad">Fragile:</span> moving the threshold by 10 % moves the share '
                f"by {moved} percentage points."
            )
        elif not missing(slope):
            verdict += f" Moving it by 10 % moves the share by {moved} percentage points."
        batch = clean(info.get("batch")) or "all images"
        panels.append(
            f'<div class="panel"><h3>{esc(info.get("marker"))}, {esc(batch)}</h3>{figure}'
            f"<p>{verdict}{_reason(info.get('reason'))}</p></div>"
        )
    return (
        "<p>A threshold is set once per staining run, on the same feature in samples and controls. "
        "The grey line is the control, the blue area the samples, the orange line the cut with its "
        "interval. The lower curve shows the answer that another cut would give.</p>"
        f'<div class="grid">{"".join(panels[:PANELS])}</div>'
        + (
            folded(
                f'<div class="grid">{"".join(panels[PANELS:])}</div>',
                f"{len(panels) - PANELS} more thresholds",
                True,
            )
            if len(panels) > PANELS
            else ""
        )
        + (
            f"<p>And {len(order) - len(panels):,} more thresholds, see protocol.yaml.</p>"
            if len(order) > len(panels)
            else ""
        )
    )
