"""Words and numbers of the report, escaped.

The idea: names come from files and sheets and are not trusted, so whatever reaches the page goes
through :func:`esc`; numbers are written one way everywhere.
It fails when a string is put on the page without :func:`esc`.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: control characters that neither HTML nor XML allow
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Format = Callable[[Any], str]


def clean(value: Any) -> str:
    """Text without control characters, "" for missing values.

    Examples
    --------
    >>> clean(float("nan")), clean(3)
    ('', '3')
    """
    if missing(value):
        return ""
    return _CONTROL.sub("\ufffd", str(value))


def missing(value: Any) -> bool:
    """Whether a table's value is missing (None, NaN, NaT, pandas NA)."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def esc(value: Any) -> str:
    """Text that is safe in HTML, attributes included.

    Examples
    --------
    >>> esc('<img src="x">')
    '&lt;img src=&quot;x&quot;&gt;'
    """
    return html.escape(clean(value), quote=True)


def count(value: Any) -> str:
    """A whole number with thin separators: ``12,345``; a dash where missing."""
    return "–" if missing(value) else f"{int(value):,}"


def percent(value: Any, digits: int = 1) -> str:
    """A fraction of 1 as per cent: ``41.3 %``; a dash where missing.

    Examples
    --------
    >>> percent(0.4132), percent(float("nan"))
    ('41.3 %', '–')
    """
    if missing(value) or not math.isfinite(float(value)):
        return "–"
    return f"{100 * float(value):.{digits}f} %"


def share(row: Mapping[Any, Any], prefix: str = "") -> str:
    """The share of positive cells of a table's row, or that it is open and between what.

    Examples
    --------
    >>> share({"fraction": float("nan"), "fraction_low": 0.03, "fraction_high": 0.62})
    'not estimable (3 to 62 %)'
    """
    value = row[f"{prefix}fraction"]
    bounds = [row.get(f"{prefix}fraction_{k}") for k in ("low", "high")]
    if not missing(value) or any(missing(b) for b in bounds):
        return percent(value)
    low, high = (percent(b, 0).removesuffix(" %") for b in bounds)
    return f"not estimable ({low} to {high} %)"


def points(value: Any) -> str:
    """Percentage points with a sign and one digit: ``+14.2``; a dash where missing."""
    if missing(value) or not math.isfinite(float(value)):
        return "–"
    return f"{float(value):+.1f}".replace("-", "−")


def number(value: Any) -> str:
    """A number with 4 significant digits, text as it is; a dash where missing."""
    if missing(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    try:
        as_float = float(value)
    except (TypeError, ValueError):
        return clean(value)
    if not math.isfinite(as_float):
        return "–"
    if as_float == int(as_float) and abs(as_float) < 1e9:
        return f"{int(as_float):,}"
    return f"{as_float:.4g}"


def plural(n: Any, noun: str) -> str:
    """``1 batch``, ``4 batches``, ``1,200 cells``.

    Examples
    --------
    >>> plural(1, "batch"), plural(3, "batch"), plural(2, "islet")
    ('1 batch', '3 batches', '2 islets')
    """
    many = noun + ("es" if noun.endswith(("ch", "s")) else "s")
    return f"{count(n)} {noun if not missing(n) and int(n) == 1 else many}"


def moment(value: Any) -> str:
    """A time of the provenance for people; other text as it is.

    Examples
    --------
    >>> moment("2026-11-25T07:16:43+00:00")
    '25 Nov 2026, 07:16 UTC'
    """
    text = clean(value)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = f" {when.tzname()}" if when.tzinfo else ""
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    return f"{when.day} {months[when.month - 1]} {when.year}, {when:%H:%M}{zone}"


def interval(low: Any, high: Any) -> str:
    """``30.1 to 57.5 %``; a dash where there is none."""
    if missing(low) or missing(high):
        return "–"
    return f"{100 * float(low):.1f} to {100 * float(high):.1f} %"


def folded(content: str, summary: str, fold: bool) -> str:
    """Content, behind a line to click on where it is long."""
    if not fold:
        return content
    return f"<details><summary>{esc(summary)}</summary>{content}</details>"


def table(
    rows: pd.DataFrame | Iterable[Mapping[str, Any]],
    columns: Sequence[tuple[str, str, Format]],
    *,
    caption: str,
) -> str:
    """An HTML table of some columns.

    Parameters
    ----------
    rows : DataFrame or iterable of mapping
        The values.
    columns : sequence of (key, heading, format)
        What is shown; a format makes text, which is escaped here.
    caption : str
        What the table is, for readers and screen readers.
    """
    records = list(rows if not hasattr(rows, "to_dict") else rows.to_dict("records"))
    numeric = {percent, count, number, points}
    kinds = []
    for key, _, fmt in columns:
        longest = max((len(fmt(row.get(key))) for row in records), default=0)
        # without a least width a sentence would be squeezed to a word a line
        kinds.append(
            ' class="long"'
            if longest > 30
            else ' class="num"'
            if fmt in numeric
            else ' class="short"'
            if longest <= 20
            else ""
        )
    head = "".join(
        f'<th scope="col"{kind}>{esc(title)}</th>'
        for (_, title, _), kind in zip(columns, kinds, strict=True)
    )
    body = []
    for row in records:
        cells = "".join(
            f"<td{kind}>{esc(fmt(row.get(key)))}</td>"
            for (key, _, fmt), kind in zip(columns, kinds, strict=True)
        )
        body.append(f"<tr>{cells}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption)}"><table>'
        f"<caption>{esc(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
