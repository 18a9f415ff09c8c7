"""Who changed what, and how far two people agree.

The idea: several people may review one run in the same journal, or in journals brought together by
`islet_imaging.review.journal.merge_journals`; each one's last word on a cell is compared, cell by
cell, as agreement and Cohen's kappa.
It fails to say anything, and gives NaN, where two people looked at no cell in common.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from islet_imaging.review.journal import Edit, effective

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, int, str]


def final_calls(edits: Iterable[Edit], *, who: str | None = None) -> dict[Key, Edit]:
    """The last call of each ``(image, cell, marker)`` that was not undone.

    Parameters
    ----------
    edits : iterable of Edit
        A journal.
    who : str, optional
        Only of this person.
    """
    return {(e.image, e.cell, e.marker): e for e in effective(edits, who=who) if e.action == "call"}


@dataclass(frozen=True)
class Agreement:
    """How far two people agree on the cells that both called.

    Parameters
    ----------
    a, b : str
        The two.
    n_both, n_agree : int
        Calls made by both; calls on which they agree.
    fraction : float
        ``n_agree / n_both``.
    kappa : float
        Cohen's kappa over positive, negative and unsure; NaN where chance alone explains all.
    disagreements : DataFrame
        ``image, cell, y_px, x_px, marker, a, b``.
    """

    a: str
    b: str
    n_both: int
    n_agree: int
    fraction: float
    kappa: float
    disagreements: pd.DataFrame


def reviewer_agreement(edits: Iterable[Edit], a: str, b: str) -> Agreement:
    """Compare two people's reviews of one run.

    Parameters
    ----------
    edits : iterable of Edit
        One journal, or several merged.
    a, b : str
        The two people.

    Returns
    -------
    Agreement

    Notes
    -----
    Cohen (1960), doi:10.1177/001316446002000104.

    Examples
    --------
    >>> def call(who, cell, after):
    ...     return Edit(who, "a.tif", "call", cell, 0.0, 0.0, "INS", "unsure", after)
    >>> edits = [call("ana", 1, "positive"), call("bo", 1, "positive"),
    ...          call("ana", 2, "negative"), call("bo", 2, "positive")]
    >>> reviewer_agreement(edits, "ana", "bo").fraction
    0.5
    """
    import pandas as pd

    edits = list(edits)
    first, second = final_calls(edits, who=a), final_calls(edits, who=b)
    both = [key for key in first if key in second]
    pairs = [(str(first[k].after), str(second[k].after)) for k in both]
    n_agree = sum(x == y for x, y in pairs)
    n = len(pairs)
    observed = n_agree / n if n else float("nan")
    chance = sum(
        sum(x == c for x, _ in pairs) * sum(y == c for _, y in pairs)
        for c in ("positive", "negative", "unsure")
    ) / (n * n if n else 1)
    kappa = (observed - chance) / (1 - chance) if n and chance < 1 else float("nan")
    columns = ["image", "cell", "y_px", "x_px", "marker", "a", "b"]
    rows = [
        (k[0], k[1], first[k].y_px, first[k].x_px, k[2], x, y)
        for k, (x, y) in zip(both, pairs, strict=True)
        if x != y
    ]
    return Agreement(a, b, n, n_agree, observed, kappa, pd.DataFrame(rows, columns=columns))


def corrections_summary(edits: Iterable[Edit]) -> pd.DataFrame:
    """Who changed how much: one row per person and marker.

    Parameters
    ----------
    edits : iterable of Edit
        A journal.

    Returns
    -------
    DataFrame
        ``who, marker`` (empty for exclusions and outlines), ``n_changed`` (calls that differ from
        the first), ``n_confirmed``, ``n_excluded, n_shapes, n_undone, first, last`` (times).

    Examples
    --------
    >>> edits = [Edit("ana", "a.tif", "call", 1, 0.0, 0.0, "INS", "unsure", "positive")]
    >>> corrections_summary(edits)[["who", "marker", "n_changed"]].values.tolist()
    [['ana', 'INS', 1]]
    """
    import pandas as pd

    edits = list(edits)
    held = {e.id for e in effective(edits)}
    people = dict.fromkeys(e.who for e in edits)
    rows = []
    for who in people:
        own = [e for e in edits if e.who == who]
        calls = final_calls(edits, who=who)
        before: dict[Key, object] = {}
        for e in own:
            if e.action == "call" and e.id in held:
                before.setdefault((e.image, e.cell, e.marker), e.before)
        undone = [e for e in own if e.action != "undo" and e.id not in held]
        excluded = {
            (e.image, e.cell): bool(e.after) for e in own if e.action == "exclude" and e.id in held
        }
        for marker in dict.fromkeys([k[2] for k in calls] + [e.marker for e in own]):
            mine = {k: e for k, e in calls.items() if k[2] == marker}
            changed = sum(e.after != before[k] for k, e in mine.items())
            times = [e.time for e in own if e.marker == marker]
            rows.append(
                {
                    "who": who,
                    "marker": marker,
                    "n_changed": changed,
                    "n_confirmed": len(mine) - changed,
                    "n_excluded": 0 if marker else sum(excluded.values()),
                    "n_shapes": 0
                    if marker
                    else sum(e.action == "shape" and e.id in held for e in own),
                    "n_undone": sum(e.marker == marker for e in undone),
                    "first": min(times, default=""),
                    "last": max(times, default=""),
                }
            )
    columns = ["who", "marker", "n_changed", "n_confirmed", "n_excluded", "n_shapes", "n_undone"]
    return pd.DataFrame(rows, columns=[*columns, "first", "last"])
