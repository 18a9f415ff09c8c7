"""From a cells table to the tables of a run: fractions per islet, image, batch and condition.

The idea: count once (``counting``), add up to four levels, and lay an interval over the level
that is replicated: batches where there are two or more, islets within one batch otherwise, with
the words for it in the table.  Every sentence a reader needs to not misread the number is in
``note``.  It fails where the sample sheet calls one differentiation two batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.errors import IsletImagingError
from islet_imaging.statistics import composition, levels
from islet_imaging.statistics.cautions import batch_notes, none_note
from islet_imaging.statistics.counting import (
    ESTIMATED,
    NO_CELLS,
    NOT_ESTIMABLE,
    SUMS,
    enough,
    fractions,
)
from islet_imaging.statistics.design import (
    UNKNOWN_BATCH,
    lay_over,
    of_sheet,
    sheet_by_batch,
    stated,
)
from islet_imaging.statistics.intervals import (
    batch_interval,
    check_level,
)
from islet_imaging.statistics.tally import Tally, tally
from islet_imaging.statistics.within_batch import (
    DESCRIPTIVE,
    LEAST_ISLETS,
    NONE,
    ONE_BATCH,
    OVER_BATCHES,
    within,
)
from islet_imaging.terms import NOT_COUNTED

if TYPE_CHECKING:
    import pandas as pd

#: points by which weighting cells and weighting islets may differ before it is said
WEIGHTING_PP = 3.0
#: share of cells without a probability above which it is said
UNKNOWN_SHARE = 0.01


@dataclass(frozen=True)
class Summary:
    """The tables of a run.

    Attributes
    ----------
    conditions : DataFrame
        ``summary.csv``: condition, marker, status ("estimated", "not_estimable", "no_cells"),
        n_batches, n_islets, n_cells, n_unsure, n_excluded, fraction (empty unless estimated),
        fraction_low, fraction_high, ci_low, ci_high, interval, note.
    batches : DataFrame
        ``batches.csv``: condition, batch, marker, n_islets, n_cells, n_positive, n_unsure,
        fraction, fraction_low, fraction_high.
    images : DataFrame
        Per image: image, condition, batch, role, n_cells, n_islets, then ``<marker>_fraction``,
        ``<marker>_fraction_low``, ``<marker>_fraction_high``.  All roles.
    islets : DataFrame
        Per islet of an image: image, islet, n_cells and the same three columns per marker.
    levels : DataFrame
        What was sampled, per condition: batches, images, islets, cells, excluded cells.
    phenotypes : DataFrame
        Composition per condition: shares that add up to 1, with intervals and what they are over.
    counts : DataFrame
        The counts everything is made of, one row per condition, batch, unit (islet, or image for
        cells outside islets) and marker: k positives (fractional) of n cells.  Batches whose
        fraction is open are left out.
    sheet : DataFrame
        Per batch: condition, batch, and the columns of the sample sheet that its images agree on.
    denominator : str
        What the fractions are of.
    level : float
        Confidence level of all intervals.
    """

    conditions: pd.DataFrame
    batches: pd.DataFrame
    images: pd.DataFrame
    islets: pd.DataFrame
    levels: pd.DataFrame
    phenotypes: pd.DataFrame
    counts: pd.DataFrame
    sheet: pd.DataFrame
    denominator: str
    level: float


def summarise(
    cells: pd.DataFrame,
    samples: pd.DataFrame | None = None,
    *,
    markers: Sequence[str],
    denominator: str = "all",
    level: float = 0.95,
) -> Summary:
    """Fractions of positive cells per islet, image, batch and condition, with intervals.

    Parameters
    ----------
    cells : DataFrame
        One row per nucleus: ``image, islet, cell, excluded``, for each marker ``<marker>_call``
        (positive, negative, unsure) and ``<marker>_probability``, optionally ``phenotype``; and,
        where there is no sample sheet, optionally ``condition, batch, role``.
    samples : DataFrame, optional
        Sample sheet: ``file, condition, batch, role`` and further columns.  ``file`` is what the
        cells table calls ``image``.
    markers : sequence of str
        Markers to summarise.
    denominator : str
        ``"all"``: all live cells; ``"islets"``: cells inside islets; or a marker, whose positive
        cells count (``"CHGA"``: share of CHGA+ cells).
    level : float
        Confidence level.

    Returns
    -------
    Summary

    Raises
    ------
    IsletImagingError
        If columns are missing, calls are not what they may be, or an image is not in the sheet.

    Notes
    -----
    ``fraction`` counts an unsure cell by its probability, ``fraction_low`` and ``fraction_high``
    count all of them as negative and as positive; where these differ by more than 20 points there
    is no fraction.  Excluded cells count nowhere.  Only images of role ``sample`` enter batches
    and conditions.  A batch's fraction is all its positives over all its cells; a condition's is
    the mean over its batches, and it has one only if more than half of those with cells have.
    Intervals: see `batch_interval` and `islet_interval`.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({
    ...     "image": ["a", "a", "b", "b"], "islet": 1, "cell": [1, 2, 1, 2], "excluded": False,
    ...     "INS_call": ["positive", "negative", "positive", "negative"],
    ...     "INS_probability": [0.99, 0.02, 0.95, 0.1]})
    >>> sheet = pd.DataFrame({"file": ["a", "b"], "condition": "day 30", "batch": ["d1", "d2"]})
    >>> s = summarise(cells, sheet, markers=["INS"])
    >>> s.conditions[["condition", "marker", "n_batches", "fraction", "interval"]].to_dict("list")
    {'condition': ['day 30'], 'marker': ['INS'], 'n_batches': [2], 'fraction': [0.5], \
'interval': ['over batches']}
    """
    if isinstance(markers, str) or len(set(markers)) != len(markers):
        raise IsletImagingError(f"markers must be a list of different names, found {markers!r}")
    counted = tally(cells, markers=markers, denominator=denominator)
    images = stated(cells) if samples is None else of_sheet(samples)
    return summary_of(counted, images, level=level)


def summary_of(counted: Tally, images: pd.DataFrame, *, level: float = 0.95) -> Summary:
    """As `summarise`, from cells that were added up already.

    Parameters
    ----------
    counted : Tally
        Of the cells.
    images : DataFrame
        Of `islet_imaging.statistics.design.of_sheet`.
    level : float
        Confidence level.

    Returns
    -------
    Summary

    Raises
    ------
    IsletImagingError
        If an image is not in the sheet.
    """
    check_level(level)
    where, images = lay_over(counted.where, images)
    markers = list(counted.sums)
    counts = _counts(where, counted.sums)
    batches = _batches(counts, markers, images)
    counts = _of_known(counts, batches)
    samples = where[where["role"] == "sample"]
    left_out = counted.left_out.merge(images[images["role"] == "sample"], on="image")
    conditions = _conditions(counts, batches, markers, samples, left_out, level, _order(images))
    return Summary(
        conditions=conditions,
        batches=batches[list(_BATCH_COLUMNS)],
        images=_images(where, counted.sums, images),
        islets=_islets(where, counted.sums),
        levels=levels.levels_table(where, images),
        phenotypes=composition.composition(
            counted.classes, where, conditions=_order(images), level=level
        ),
        counts=counts,
        sheet=sheet_by_batch(images),
        denominator=counted.denominator,
        level=level,
    )


_BATCH_COLUMNS = (
    "condition",
    "batch",
    "marker",
    "n_islets",
    "n_cells",
    "n_positive",
    "n_unsure",
    "fraction",
    "fraction_low",
    "fraction_high",
)
_CONDITION_COLUMNS = (
    "condition",
    "marker",
    "status",
    "n_batches",
    "n_islets",
    "n_cells",
    "n_unsure",
    "n_excluded",
    "fraction",
    "fraction_low",
    "fraction_high",
    "ci_low",
    "ci_high",
    "interval",
    "note",
)
_WHOLE = ["n_cells", "n_positive", "n_unsure", "n_unknown"]


def _order(images: pd.DataFrame) -> list[str]:
    """Conditions of samples in the order of the sheet (images are sorted where there is none)."""
    return list(dict.fromkeys(images.loc[images["role"] == "sample", "condition"]))


def _counts(where: pd.DataFrame, sums: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Sums of the samples by physical islet, which several images may show."""
    import pandas as pd

    keys = ["condition", "batch", "unit", "islet_key"]
    own = (where["role"] == "sample").to_numpy()
    by = [where.loc[own, k] for k in keys]
    parts = []
    for marker, of in sums.items():
        added = of[own].groupby(by, sort=True, observed=True).sum().reset_index()
        added.insert(2, "marker", marker)
        parts.append(added[added["n_cells"] > 0])
    if not parts:
        return pd.DataFrame(columns=["condition", "batch", "marker", "unit", "islet_key", *SUMS])
    out = pd.concat(parts, ignore_index=True)
    out[_WHOLE] = out[_WHOLE].astype(np.int64)
    return out


def _batches(counts: pd.DataFrame, markers: Sequence[str], images: pd.DataFrame) -> pd.DataFrame:
    """One row per batch that has a sample image, also where no cell could be counted."""
    import pandas as pd

    sample = images[images["role"] == "sample"]
    pairs = sorted(set(zip(sample["condition"], sample["batch"], strict=True)), key=lambda p: p[1])
    order = {c: i for i, c in enumerate(_order(images))}
    pairs.sort(key=lambda p: order[p[0]])
    keys = ["condition", "batch", "marker"]
    index = pd.MultiIndex.from_tuples([(c, b, m) for c, b in pairs for m in markers], names=keys)
    grouped = counts.groupby(keys, observed=True)
    sums = grouped[list(SUMS)].sum().reindex(index, fill_value=0)
    sums["n_islets"] = (
        counts[counts["islet_key"] != ""].groupby(keys, observed=True)["islet_key"].nunique()
    )
    out = pd.concat([sums, fractions(sums)], axis=1).reset_index()
    out[["n_islets", *_WHOLE]] = out[["n_islets", *_WHOLE]].fillna(0).astype(np.int64)
    return out


def _of_known(counts: pd.DataFrame, batches: pd.DataFrame) -> pd.DataFrame:
    """Counts of the batches that have a fraction."""
    keys = ["condition", "batch", "marker"]
    known = batches.loc[batches["status"] == ESTIMATED, keys]
    return counts.merge(known, on=keys, how="inner")[list(counts.columns)]


def _conditions(
    counts: pd.DataFrame,
    batches: pd.DataFrame,
    markers: Sequence[str],
    samples: pd.DataFrame,
    left_out: pd.DataFrame,
    level: float,
    order: Sequence[str],
) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for condition in order:
        here = samples[samples["condition"] == condition]
        n_excluded = int(here["n_excluded"].sum())
        said = _not_counted(
            n_excluded,
            left_out[left_out["condition"] == condition],
            int((here["n_kept"] - here["n_cells"]).sum()),
        )
        for marker in markers:
            own = batches[(batches["condition"] == condition) & (batches["marker"] == marker)]
            units = counts[(counts["condition"] == condition) & (counts["marker"] == marker)]
            rows.append(
                {
                    "condition": condition,
                    "marker": marker,
                    "n_excluded": n_excluded,
                    **_condition(own, units, said, level),
                }
            )
    return pd.DataFrame(rows, columns=list(_CONDITION_COLUMNS))


def _not_counted(excluded: int, left_out: pd.DataFrame, outside: int) -> str:
    """How many cells count in no fraction, why, and what counts apart, in words; "" for none."""
    notes = []
    if excluded:
        reasons = left_out.groupby("code")["n"].sum().sort_index()
        reasons = reasons.sort_values(ascending=False, kind="stable")
        why = ", ".join(f"{n} {NOT_COUNTED[str(code)]}" for code, n in reasons.items())
        notes.append(f"left out of all counts: {excluded} nuclei" + (f" ({why})" if why else ""))
    if outside:
        notes.append(f"{outside} nuclei outside of the drawn islets count apart")
    return "; ".join(notes)


def _condition(
    batches: pd.DataFrame, units: pd.DataFrame, left_out: str, level: float
) -> dict[str, object]:
    """What is said of one condition and marker; ``units`` are of batches with a fraction."""
    with_cells = batches[batches["n_cells"] > 0]
    known = batches[batches["status"] == ESTIMATED]
    unknown = UNKNOWN_BATCH in set(batches["batch"])
    n_cells = int(batches["n_cells"].sum())
    row: dict[str, object] = {
        "n_batches": min(len(with_cells), 1) if unknown else len(with_cells),
        "n_islets": int(batches["n_islets"].sum()),
        "n_cells": n_cells,
        "n_unsure": int(batches["n_unsure"].sum()),
        "fraction": np.nan,
        "fraction_low": with_cells["fraction_low"].mean(),
        "fraction_high": with_cells["fraction_high"].mean(),
        "ci_low": np.nan,
        "ci_high": np.nan,
        "interval": NONE,
    }
    if not enough(len(known), len(with_cells)):
        status, said = NOT_ESTIMABLE, _why_open(with_cells, len(known))
        if not n_cells:
            status, said = NO_CELLS, "no cell could be counted"
        return row | {"status": status, "note": "; ".join(n for n in (said, left_out) if n)}
    notes: list[str] = []
    if unknown:
        kind, interval = within(units, DESCRIPTIVE, level)
        notes.append(
            "batches are not stated (no sample sheet, or gaps in its column `batch`): all images "
            "are taken as one batch: the interval describes these islets and says nothing about "
            "another differentiation"
        )
    elif len(known) >= 2:
        kind, interval = OVER_BATCHES, batch_interval(known["k"], known["n"], level=level)
        notes += batch_notes(known, interval, level=level)
    else:
        kind, interval = within(units, ONE_BATCH, level)
        notes.append("one batch: the interval is over its islets; batches differ by more")
    if kind == NONE:
        notes = [f"fewer than {LEAST_ISLETS} islets or images of one batch: no interval"]
    without = [str(b) for b in batches.loc[batches["n_cells"] == 0, "batch"]]
    if without:
        notes.append(f"no cell could be counted in batch {', '.join(without)}")
    open_ones = with_cells[with_cells["status"] == NOT_ESTIMABLE]
    if len(open_ones):
        names = ", ".join(str(b) for b in open_ones["batch"])
        notes.append(f"batch {names} is left out: {_why_open(open_ones, 0)}")
    notes += none_note(batches, interval, kind)
    share = batches["n_unknown"].sum() / max(n_cells, 1)
    if share > UNKNOWN_SHARE:
        notes.append(f"{100 * share:.0f} % of the cells have no probability and are left out")
    equal = _equal_weight(units, pooled=unknown)
    if np.isfinite(equal) and abs(equal - interval.fraction) * 100 > WEIGHTING_PP:
        notes.append(
            f"{100 * equal:.1f} % where every islet weighs the same: large and small islets differ"
        )
    if left_out:
        notes.append(left_out)
    return row | {
        "status": ESTIMATED,
        "n_batches": min(len(known), 1) if unknown else len(known),
        "fraction": interval.fraction,
        "fraction_low": known["fraction_low"].mean(),
        "fraction_high": known["fraction_high"].mean(),
        "ci_low": interval.low,
        "ci_high": interval.high,
        "interval": kind,
        "note": "; ".join(notes),
    }


def _why_open(batches: pd.DataFrame, known: int) -> str:
    """Why there is no fraction, in words."""
    n, unsure = int(batches["n_cells"].sum()), int(batches["n_unsure"].sum())
    low, high = (100 * batches[f"fraction_{k}"].mean() for k in ("low", "high"))
    text = (
        f"not estimable: {unsure} of {n} cells are unsure, anything from {low:.0f} to {high:.0f} %"
    )
    if known:
        text += f"; only {known} of {len(batches)} batches have a fraction"
    return text


def _equal_weight(units: pd.DataFrame, *, pooled: bool) -> float:
    """Mean over batches of the mean over islets; NaN without islets."""
    inside = units[(units["islet_key"] != "") & (units["n"] > 0)]
    if inside.empty:
        return np.nan
    share = inside["k"] / inside["n"]
    return float(share.mean() if pooled else share.groupby(inside["batch"]).mean().mean())


def _images(
    where: pd.DataFrame, sums: Mapping[str, pd.DataFrame], images: pd.DataFrame
) -> pd.DataFrame:
    out = images[["image", "condition", "batch", "role"]].set_index("image")
    out["n_cells"] = where.groupby("image")["n_cells"].sum()
    with_cells = where[(where["islet"] > 0) & (where["n_cells"] > 0)]
    out["n_islets"] = with_cells.groupby("image").size()
    out[["n_cells", "n_islets"]] = out[["n_cells", "n_islets"]].fillna(0).astype(np.int64)
    return _with_fractions(out, where, sums, ["image"]).reset_index()


def _islets(where: pd.DataFrame, sums: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    keys = ["image", "islet"]
    inside = where[where["islet"] > 0].sort_values(keys)
    out = inside.set_index(keys)[["n_kept"]].rename(columns={"n_kept": "n_cells"})
    return _with_fractions(out, where, sums, keys).reset_index()


def _with_fractions(
    out: pd.DataFrame, where: pd.DataFrame, sums: Mapping[str, pd.DataFrame], keys: list[str]
) -> pd.DataFrame:
    import pandas as pd

    parts = [out]
    for marker, of in sums.items():
        added = of.groupby([where[k] for k in keys], observed=True).sum()
        found = fractions(added.reindex(out.index, fill_value=0)).drop(columns="status")
        parts.append(found.add_prefix(f"{marker}_"))
    return pd.concat(parts, axis=1)
