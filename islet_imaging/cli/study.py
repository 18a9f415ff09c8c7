"""Options of the shell for the section ``statistics`` of a protocol.

The idea: `score` and `summarize` take the same switches, and each switch is a key of the protocol,
so that what was asked on the shell stands in the run's protocol.yaml.
It fails, with the protocol's own message, on values that a protocol would not take.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from islet_imaging.cli.app import fail
from islet_imaging.protocol import Statistics

if TYPE_CHECKING:
    import pandas as pd

Reference = Annotated[str | None, typer.Option(help="Condition that the others are compared with.")]
Contrast = Annotated[
    list[str] | None,
    typer.Option(help="A comparison, CONDITION:REFERENCE; may be given several times."),
]
Compare = Annotated[
    list[str] | None,
    typer.Option("--compare", help="Compare this marker only; may be given several times."),
]
Pairing = Annotated[
    str | None,
    typer.Option(help="auto (all batches, shared ones as pairs), paired or unpaired."),
]
Unit = Annotated[
    str | None,
    typer.Option(help="What is replicated: batch, or a column above it (donor, line)."),
]
Block = Annotated[
    list[str] | None,
    typer.Option(help="Compare within this column (line, day); may be given several times."),
]
Trend = Annotated[
    str | None, typer.Option(help="Fit a slope over this column of numbers (dose, day).")
]
Equivalence = Annotated[
    float | None,
    typer.Option("--equivalence-pp", help="Points within which a difference does not matter."),
]


def given(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The switches that were given, by name; a margin of 0 and an empty name are given too."""
    return {k: v for k, v in asked.items() if v is not None and v != []}


def changed(statistics: Statistics, **asked: Any) -> Statistics | None:
    """A protocol's section with what was asked on the shell; None where nothing was.

    Parameters
    ----------
    statistics : Statistics
        As the protocol has it.
    **asked
        reference, contrast, compare, pairing, unit, block, trend, equivalence_pp; None where the
        switch was not given.
    """
    found = given(asked)
    if not found:
        return None
    plain = ("reference", "pairing", "unit", "trend", "equivalence_pp")
    changes: dict[str, Any] = {k: found[k] for k in plain if k in found}
    empty = next(
        (k for k, v in found.items() if v == "" or (isinstance(v, list) and "" in v)), None
    )
    if empty is not None:
        fail(f"--{empty} is empty: name a condition or a column, or leave the switch out")
    if changes.get("pairing", "auto") not in ("auto", "paired", "unpaired"):
        fail(f"--pairing {changes['pairing']}: auto, paired or unpaired")
    for switch, key in (("compare", "markers"), ("block", "blocks")):
        if switch in found:
            changes[key] = tuple(found[switch])
    if "contrast" in found:
        pairs = [tuple(part.strip() for part in text.split(":")) for text in found["contrast"]]
        if any(len(pair) != 2 for pair in pairs):
            fail("--contrast takes CONDITION:REFERENCE")
        changes["contrasts"] = tuple(pairs)
        changes.setdefault("reference", None)
    elif "reference" in found:
        changes["contrasts"] = ()
    return dataclasses.replace(statistics, **changes)


def compared(table: pd.DataFrame) -> list[str]:
    """A line for every comparison of a run: the difference with its interval, or why there is none.

    Parameters
    ----------
    table : DataFrame
        The run's ``comparisons``.
    """
    lines = []
    for row in table.to_dict("records"):
        who = " against ".join(w for w in (row["condition"], row["reference"]) if w)
        start = ": ".join(w for w in (row["marker"], who) if w) or "comparison"
        if math.isnan(row["effect_pp"]):
            lines.append(f"{start}: {row['note']}")
            continue
        text = f"{start}: {row['effect_pp']:+.1f} points"
        if not math.isnan(row["p"]):
            text += (
                f" [{row['effect_low_pp']:+.1f} to {row['effect_high_pp']:+.1f}], "
                f"p = {row['p_holm']:.2g} after Holm's correction"
            )
        lines.append(f"{text}  ({row['design']}; n = {_n(row)})")
        lines += [f"  {note}" for note in row["note"].split("; ") if note]
    return lines


def _n(row: dict[Any, Any]) -> str:
    sizes = [row["n_units"], row["n_reference"]]
    return " and ".join(f"{n:.0f}" for n in sizes if not math.isnan(n))
