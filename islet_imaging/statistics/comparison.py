"""Comparing conditions with batches, and only batches, as n.

The idea: the quantity is the difference of the mean batch fractions, and effect, interval and p
value all speak of it (`difference`).  Batches that were made under both conditions are compared
with themselves, those made under one count too; blocks (a line, a day) are compared within
themselves; the unit may be a level above the batch (a donor).  An exact test stands beside, with
the smallest p it can reach.  What a design cannot estimate is refused, in words, in its row.
Cells or islets as n are refused altogether: with them 77 % or 33 % of true null hypotheses come out
significant (``benchmarks/statistics``).
It fails with two batches (nearly no power), and when batches differ in more than the condition.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.statistics.counting import enough
from islet_imaging.statistics.design import UNKNOWN_BATCH, text
from islet_imaging.statistics.difference import (
    LEAST_SHARED,
    Arm,
    Difference,
    arm,
    difference,
)
from islet_imaging.statistics.exact import holm, permutation_test, sign_flip_test
from islet_imaging.statistics.intervals import check_level
from islet_imaging.statistics.misclassification import ErrorRates, corrected_difference
from islet_imaging.statistics.outliers import outlying
from islet_imaging.statistics.summary import Summary

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Pairing = Literal["auto", "paired", "unpaired"]

#: fractions (or 1 less these) below which few batches say little, and how many are not few
RARE, ENOUGH_FOR_RARE = 0.1, 20
#: what a table of batches has no row per
_BELOW = ("cell", "islet", "image")

COMPARISON_COLUMNS = (
    "marker",
    "condition",
    "reference",
    "design",
    "unit",
    "n_units",
    "n_reference",
    "n_shared",
    "fraction",
    "fraction_reference",
    "effect_pp",
    "effect_low_pp",
    "effect_high_pp",
    "p",
    "p_holm",
    "p_exact",
    "p_exact_floor",
    "margin_pp",
    "p_equivalence",
    "effect_corrected_pp",
    "effect_corrected_low_pp",
    "effect_corrected_high_pp",
    "note",
)


@dataclass(frozen=True)
class Design:
    """How conditions are compared.

    Attributes
    ----------
    reference : str or None
        Condition that the others are compared with.
    contrasts : tuple of (str, str)
        Pairs of condition and reference to compare, instead of ``reference`` or all pairs.
    pairing : {"auto", "paired", "unpaired"}
        ``auto`` takes all batches, those made under both conditions with their correlation;
        ``paired`` takes only those; ``unpaired`` takes none for the same.
    unit : str
        What is replicated: ``batch``, or a column of the sample sheet above it (``donor``,
        ``line``), whose batches are averaged first.
    blocks : tuple of str
        Columns of the sample sheet within whose values conditions are compared.
    trend : str or None
        Column of the sample sheet with numbers (a dose, a day) to fit a slope over.
    equivalence_pp : float or None
        Margin, percentage points, within which a difference does not matter.
    """

    reference: str | None = None
    contrasts: tuple[tuple[str, str], ...] = ()
    pairing: Pairing = "auto"
    unit: str = "batch"
    blocks: tuple[str, ...] = ()
    trend: str | None = None
    equivalence_pp: float | None = None

    def __post_init__(self) -> None:
        if self.equivalence_pp is not None and not 0 < self.equivalence_pp < 100:
            raise IsletImagingError(
                f"equivalence_pp is {self.equivalence_pp}: above 0 and below 100 points"
            )
        if self.reference is not None and self.contrasts:
            raise IsletImagingError("state a reference or contrasts, not both")


def compare_conditions(
    batches: Summary | pd.DataFrame,
    *,
    reference: str | None = None,
    contrasts: Sequence[tuple[str, str]] = (),
    design: Pairing = "auto",
    unit: str = "batch",
    blocks: Sequence[str] = (),
    equivalence_pp: float | None = None,
    rates: Mapping[str, ErrorRates] | None = None,
    markers: Sequence[str] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compare the fractions of conditions, with the batch as unit of replication.

    Parameters
    ----------
    batches : Summary or DataFrame
        A summary, or its batches table (``batches.csv``): condition, batch, marker, n_cells,
        fraction, and the columns that ``unit`` and ``blocks`` name.  Batches with cells and without
        a fraction are not estimable: they are left out, and where half of a condition's batches or
        more are, its comparisons are refused.
    reference : str, optional
        Condition the others are compared with.  Without it, and without ``contrasts``, all pairs
        are compared, the earlier condition of the table being the reference.
    contrasts : sequence of (str, str)
        Pairs of condition and reference to compare.
    design : {"auto", "paired", "unpaired"}
        ``auto`` uses all batches: those made under both conditions with their correlation, the
        others as they are.  ``paired`` uses only the former.
    unit : str
        ``batch``, or a column above it (``donor``, ``line``); batches of one unit are averaged.
    blocks : sequence of str
        Columns (``line``, ``day``) within whose values conditions are compared; every block weighs
        the same.
    equivalence_pp : float, optional
        Margin, percentage points: p of "the difference is at least that large" is given too.
    rates : mapping of str to ErrorRates, optional
        Error rates of the calls by marker; the difference corrected by them is given beside.
    markers : sequence of str, optional
        Markers to compare; all by default.  The fewer, the milder Holm's correction.
    level : float
        Confidence level.

    Returns
    -------
    DataFrame
        One row per marker and pair of conditions.  ``effect_pp`` is the difference of the mean
        batch fractions in percentage points with its interval; ``p`` is below ``1 - level`` exactly
        where the interval leaves out 0; ``p_holm`` is corrected over all rows; ``p_exact_floor`` is
        the smallest p an exact test can give with these numbers of batches.  A row without a test
        has its reason in ``note``.

    Raises
    ------
    IsletImagingError
        If the table has cells or islets as rows, a batch twice, or no such condition or column.
    NotEstimableError
        If batches are not stated.

    References
    ----------
    Lord et al., J Cell Biol 219:e202001064 (2020), the unit of replication; Zou & Donner, Stat Med
    27:1693 (2008), the interval.

    Examples
    --------
    >>> import pandas as pd
    >>> t = pd.DataFrame({"condition": ["control"] * 4 + ["drug"] * 4, "batch": list("abcd") * 2,
    ...                   "marker": "INS", "n_cells": 1000,
    ...                   "fraction": [0.30, 0.41, 0.35, 0.52, 0.38, 0.50, 0.46, 0.60]})
    >>> c = compare_conditions(t).iloc[0]
    >>> print(c["design"], f"{c['effect_pp']:.1f}", c["p"] < 0.05, c["p_exact_floor"])
    paired 9.0 True 0.125
    """
    import pandas as pd

    check_level(level)
    wanted = Design(
        reference, tuple(contrasts), design, unit, tuple(blocks), equivalence_pp=equivalence_pp
    )
    table = batches_of(batches, (unit, *blocks))
    names = markers_of(table, markers)
    pairs = _pairs(list(dict.fromkeys(table["condition"])), wanted)
    rows = []
    for marker in names:
        own = table[table["marker"] == marker]
        for other, first in pairs:
            row: dict[str, object] = {"marker": marker, "condition": other, "reference": first}
            parts = [own[own["condition"] == c] for c in (first, other)]
            row |= _compare(parts[0], parts[1], wanted, level, (rates or {}).get(marker))
            rows.append(row)
    out = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    numbers = [c for c in COMPARISON_COLUMNS if c.startswith(("effect", "p", "fraction", "margin"))]
    out[numbers] = out[numbers].astype(float)
    out["p_holm"] = holm(out["p"])
    return out


def _pairs(conditions: list[str], design: Design) -> list[tuple[str, str]]:
    """(condition, reference) pairs to compare."""
    stated = [c for pair in design.contrasts for c in pair]
    if design.reference is not None:
        stated.append(design.reference)
    for name in stated:
        if name not in conditions:
            raise IsletImagingError(f"{name!r} is not in the table; there are {sorted(conditions)}")
    if design.contrasts:
        return list(design.contrasts)
    if design.reference is not None:
        return [(c, design.reference) for c in conditions if c != design.reference]
    return [(b, a) for a, b in itertools.combinations(conditions, 2)]


def markers_of(table: pd.DataFrame, markers: Sequence[str] | None) -> list[str]:
    """The markers to compare, checked."""
    known = list(dict.fromkeys(table["marker"]))
    for name in markers or ():
        if name not in known:
            raise IsletImagingError(f"{name!r} is not in the table; there are {sorted(known)}")
    return known if markers is None else list(markers)


def batches_of(batches: Summary | pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The batches table with the columns a design needs, checked; batches without cells left out.

    Raises
    ------
    IsletImagingError
        If rows are no batches, or a column is missing.
    NotEstimableError
        If a batch, or the value of a column, is not stated.
    """
    if isinstance(batches, Summary):
        table = batches.batches
        # what a sheet says of images, such as a column `islet`, is nothing of a batch
        own = {*table.columns, *_BELOW}
        further = [c for c in batches.sheet.columns if c not in own]
        table = table.merge(
            batches.sheet[["condition", "batch", *further]], on=["condition", "batch"], how="left"
        )
    else:
        table = batches
    for level in _BELOW:
        if level in table.columns:
            raise IsletImagingError(
                f"this table has one row per {level}; that is not a replicate. Compare "
                "batches: pass the summary, or its batches table"
            )
    needed = list(dict.fromkeys(("condition", "batch", "marker", "n_cells", "fraction", *columns)))
    missing = [c for c in needed if c not in table.columns]
    if missing:
        raise IsletImagingError(
            f"the batches have no column {missing[0]!r}; a column of the sample sheet counts where "
            "all images of a batch agree on it"
        )
    table = table[needed].copy()
    for column in ("condition", "batch", "marker", *columns):
        table[column] = text(table[column])
    if table.duplicated(["condition", "batch", "marker"]).any():
        raise IsletImagingError(
            "a batch occurs twice for one condition and marker; rows must be batches, not parts"
        )
    if table["batch"].isin(["", UNKNOWN_BATCH]).any():
        raise NotEstimableError(
            "batches are not stated, so conditions cannot be compared: fill in the column `batch` "
            "of the sample sheet (one name per differentiation)"
        )
    for column in columns:
        if (table[column] == "").any():
            batch = table.loc[table[column] == "", "batch"].iloc[0]
            raise NotEstimableError(
                f"batch {batch!r} has no {column} in the sample sheet, or several; the comparison "
                "needs one"
            )
    table = table[table["n_cells"] > 0]
    return table.assign(n_positive=table["n_cells"] * table["fraction"])


def by_unit(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Batches of one unit as one: the mean of their fractions, all their cells."""
    if list(keys) == ["batch"]:
        return table.set_index("batch")
    grouped = table.groupby(list(keys), sort=True)
    out = grouped[["fraction"]].mean()
    out["n_cells"] = grouped["n_cells"].sum()
    out["n_positive"] = out["fraction"] * out["n_cells"]
    return out


def _arm(table: pd.DataFrame) -> Arm:
    return arm(table["n_positive"].to_numpy(float), table["n_cells"].to_numpy(float))


def _compare(
    reference: pd.DataFrame,
    other: pd.DataFrame,
    design: Design,
    level: float,
    rates: ErrorRates | None,
) -> dict[str, object]:
    row: dict[str, object] = {"unit": design.unit, "margin_pp": design.equivalence_pp}
    notes: list[str] = []
    open_ones = [int(t["fraction"].isna().sum()) for t in (reference, other)]
    for table, n in zip((reference, other), open_ones, strict=True):
        if len(table) and not enough(len(table) - n, len(table)):
            return row | {"note": f"refused: not estimable in {n} of {len(table)} batches"}
    if any(open_ones):
        notes.append(f"{sum(open_ones)} batch(es) that are not estimable are left out")
        reference, other = (t[t["fraction"].notna()] for t in (reference, other))
    if len(other) == 0 or len(reference) == 0:
        return row | {"n_units": len(other), "n_reference": len(reference), "note": "no batch"}
    try:
        if design.blocks:
            found, facts = _blocked(reference, other, design, notes)
        else:
            found, facts = _plain(by_unit(reference, [design.unit]), by_unit(other, [design.unit]),
                                  design.pairing, notes)  # fmt: skip
    except NotEstimableError as error:
        return row | {"n_units": len(other), "n_reference": len(reference), "note": str(error)}
    row |= facts
    row["effect_pp"] = 100 * float(found.value)
    means = [float(np.mean([a.mean for a in arms])) for arms in (found.second, found.first)]
    row |= {"fraction": means[0], "fraction_reference": means[1]}
    fewest = min(a.fractions.shape[-1] for a in (*found.first, *found.second))
    if fewest < 2:
        notes.append(
            f"fewer than two {_many(design.unit)} in a condition: no test is possible; the scatter "
            "between them is what a difference is measured by"
        )
        return row | {"note": "; ".join(notes)}
    low, high = found.limits((1 - level) / 2)
    row |= {"effect_low_pp": 100 * float(low), "effect_high_pp": 100 * float(high)}
    p = float(found.p())
    row["p"] = p
    if design.equivalence_pp is not None:
        row["p_equivalence"] = float(found.p_equivalence(design.equivalence_pp / 100))
    if rates is not None:
        row |= corrected_difference(found, rates, level=level)
    floor = facts.get("p_exact_floor")
    if isinstance(floor, float) and floor > 1 - level:
        notes.append(
            f"{fewest} {_many(design.unit)}: an exact test cannot go below p = {floor:.2g}, so a "
            "smaller p rests on the model"
        )
    rarest = min(min(mean, 1 - mean) for mean in means)
    if p > 1 - level and rarest < RARE and fewest < ENOUGH_FOR_RARE:
        notes.append(
            f"rare fractions and {fewest} {_many(design.unit)}: no test that holds says much here; "
            "`batches_for_fractions` says how many it takes"
        )
    notes += _far(reference, other)
    return row | {"note": "; ".join(notes)}


def _many(unit: str) -> str:
    return "batches" if unit == "batch" else f"values of {unit}"


def _far(reference: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """What the difference would be without batches that lie far from the others."""
    kept, named = [], []
    for table in (reference, other):
        far = outlying(table["n_positive"].to_numpy(float), table["n_cells"].to_numpy(float))
        named += [str(b) for b in table.loc[far, "batch"]]
        kept.append(float(table.loc[~far, "fraction"].mean()))
    if not named:
        return []
    return [
        f"batch {', '.join(named)} lies far from the others of its condition: without, the "
        f"difference is {100 * (kept[1] - kept[0]):+.1f} points; the interval holds for one kind "
        "of batches"
    ]


def _plain(
    reference: pd.DataFrame, other: pd.DataFrame, pairing: Pairing, notes: list[str]
) -> tuple[Difference, dict[str, object]]:
    """Two conditions without blocks, units as index: paired as far as units are shared."""
    shared = reference.index.intersection(other.index, sort=True)
    alone = len(reference) + len(other) - 2 * len(shared)
    if pairing == "paired":
        if len(shared) == 0:
            raise NotEstimableError("no batch was made under both conditions: nothing is paired")
        if alone:
            notes.append(f"{alone} under one condition only are left out, as asked")
        reference, other = reference.loc[shared], other.loc[shared]
        alone = 0
    elif pairing == "unpaired" and len(shared):
        notes.append(f"{len(shared)} shared are taken for different ones, as asked")
        shared = shared[:0]
    # shared ones first, in the same order
    x = reference.loc[[*shared, *reference.index.difference(shared, sort=True)]]
    y = other.loc[[*shared, *other.index.difference(shared, sort=True)]]
    first, second = _arm(x), _arm(y)
    m = len(shared)
    known = m >= LEAST_SHARED
    if m and not known:
        notes.append(
            f"{m} shared: too few to know how alike they are, so they are compared as if different"
        )
    facts: dict[str, object] = {
        "design": "unpaired" if not m else "partly paired" if alone else "paired",
        "n_units": len(y),
        "n_reference": len(x),
        "n_shared": m,
    }
    if m and not alone:
        exact = sign_flip_test(second.fractions - first.fractions)
        facts |= {"p_exact": exact[0], "p_exact_floor": exact[1]}
    elif not m:
        exact = permutation_test(second.fractions, first.fractions, studentised=True)
        facts |= {"p_exact": exact[0], "p_exact_floor": exact[1]}
    return difference(first, second, shared=m if known else 0), facts


def _blocked(
    reference: pd.DataFrame, other: pd.DataFrame, design: Design, notes: list[str]
) -> tuple[Difference, dict[str, object]]:
    """Within blocks: each compared in itself, or, with one unit each, blocks as pairs."""
    keys = list(design.blocks)
    name = " and ".join(keys)
    inside = [t.assign(block=t[keys].agg(" / ".join, axis=1)) for t in (reference, other)]
    of = [set(t["block"]) for t in inside]
    both, left_out = sorted(of[0] & of[1]), len(of[0] ^ of[1])
    if not both:
        raise NotEstimableError(
            f"no {name} holds both conditions: the condition cannot be told from the {name}; make "
            "both conditions within one"
        )
    if left_out:
        notes.append(f"{left_out} of {name} with one condition only are left out")
    strata = [[by_unit(t[t["block"] == b], [design.unit]) for b in both] for t in inside]
    number = [[len(t) for t in side] for side in strata]
    facts: dict[str, object] = {
        "n_units": sum(number[1]),
        "n_reference": sum(number[0]),
        "n_shared": 0,
    }
    if min(min(side) for side in number) >= 2:
        facts["design"] = f"within {name}"
        notes.append(f"mean over {len(both)} of {name}, each weighing the same")
        arms = [tuple(_arm(t) for t in side) for side in strata]
        zero = np.zeros(())
        return Difference(arms[0], arms[1], zero, zero, zero + 1), facts
    if len(both) < LEAST_SHARED:
        raise NotEstimableError(
            f"{len(both)} of {name} with both conditions, and one {design.unit} of a condition in "
            f"some: that takes {LEAST_SHARED} of {name} at least, or two of each condition in each"
        )
    notes.append(f"one {design.unit} of a condition in some {name}: n are the pairs by {name}")
    wholes = [by_unit(t, ["block"]).loc[both] for t in inside]
    found, paired = _plain(wholes[0], wholes[1], "auto", notes)
    return found, paired | {"design": f"paired by {name}"}
