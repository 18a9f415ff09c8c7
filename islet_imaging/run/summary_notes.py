"""Notes of the summary that hang on more than counts: thresholds, and labels of people.

The idea: what a reader must know beside a fraction stands in its row, in words, so that it cannot
be lost on the way from the table to a figure.
It fails where a note is longer than anybody reads; each is one clause.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from islet_imaging.protocol import negative_for
from islet_imaging.statistics.counting import ESTIMATED, NO_CELLS, countable
from islet_imaging.terms import image_flag

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.run.called import CalledRun
    from islet_imaging.run.rows import ImageRow
    from islet_imaging.statistics import Summary

#: flags of controls that notes of their own speak of, or that a good control has
OF_CONTROLS = ("control_not_used", "control_not_negative", "empty_channel")
#: from this share on, of so many cells at least, double positives of two hormones are worth a word
MOSTLY, MANY_POSITIVE = 0.5, 20


def note_fragile_thresholds(
    summary: Summary, called: CalledRun, rows: Sequence[ImageRow]
) -> Summary:
    """The summary with a note where the answer hangs on where the threshold sits.

    Parameters
    ----------
    summary : Summary
        Of the run.
    called : CalledRun
        Its cells as scored and its thresholds.
    rows : sequence of ImageRow
        Its images.
    """
    from islet_imaging.positivity import threshold_sensitivity

    of = {r.image: r for r in rows}
    features = {t.feature for found in called.thresholds.values() for t in found.values()}
    cells = called.raw[["image", *sorted(features & set(called.raw.columns))]]
    cells = cells[countable(called.raw)]
    if cells.empty:
        return summary
    samples = cells[cells["image"].isin([r.image for r in rows if r.role == "sample"])]
    keys = ("condition", "batch", "staining")
    where = [samples["image"].map({i: getattr(r, k) for i, r in of.items()}) for k in keys]
    fragile: dict[tuple[str, str], list[str]] = {}
    for (condition, batch, staining), group in samples.groupby(where):
        for marker, threshold in called.thresholds[str(staining)].items():
            if threshold.feature not in group:
                continue
            found = threshold_sensitivity(group[threshold.feature], threshold)
            if found is not None and found.fragile:
                text = f"{batch} {found.slope_pp:.0f}".strip()
                fragile.setdefault((str(condition), marker), []).append(text)
    start = "fragile: points by which a threshold 10 % higher or lower moves a batch: "
    return _noted(summary, {key: start + ", ".join(named) for key, named in fragile.items()})


def note_double_positives(summary: Summary, markers: Sequence[str]) -> Summary:
    """The summary with a note where most cells of one hormone are called for another one, too.

    Parameters
    ----------
    summary : Summary
        Of the run, with its composition.
    markers : sequence of str
        Of the protocol.
    """
    from islet_imaging.quality.numbers import independent_markers

    counts: dict[tuple[str, str], dict[tuple[str, str], tuple[int, int]]] = {}
    hormones = independent_markers(markers)
    of_cells = summary.phenotypes[summary.phenotypes["kind"] == "phenotype"]
    for row in of_cells.to_dict("records"):
        lit = set(str(row["class"]).split("/"))
        for pair in itertools.permutations(hormones, 2):
            found = counts.setdefault((str(row["condition"]), pair[1]), {})
            n, both = found.get(pair, (0, 0))
            one = int(row["n_cells"]) if f"{pair[0]}+" in lit else 0
            found[pair] = (n + one, both + (one if f"{pair[1]}+" in lit else 0))
    said: dict[tuple[str, str], str] = {}
    for key, found in counts.items():
        said[key] = "; ".join(
            f"{100 * both / n:.0f} % of the {one}+ cells are {other}+ too, as where light of {one} "
            f"reaches the channel of {other}, or in immature cells: single stains tell"
            for (one, other), (n, both) in found.items()
            if n >= MANY_POSITIVE and both > MOSTLY * n
        )
    return _noted(summary, said)


def note_guesses(summary: Summary, rows: Sequence[ImageRow]) -> Summary:
    """The summary with a note where what a draft guessed of the design still stands unconfirmed.

    Parameters
    ----------
    summary : Summary
        Of the run.
    rows : sequence of ImageRow
        Its images, with the sheet's column ``note``.
    """
    guessed = {
        what: [r for r in rows if f"CHECK {what}" in r.extra.get("note", "")]
        for what in ("role", "condition", "batch")
    }
    named = {
        "roles": [f"{r.image} ({r.role})" for r in guessed["role"]],
        "conditions": [r.condition or "(unnamed)" for r in guessed["condition"]],
        # one batch for all is a guess too: n and every interval rest on it
        "batches, on which n and intervals rest,": [r.batch or "one" for r in guessed["batch"]],
    }
    said = []
    for what, names in named.items():
        if names := list(dict.fromkeys(n.replace(";", ",") for n in names)):
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            said.append(
                f"{what} guessed from names and still marked CHECK in the sample sheet: "
                f"{', '.join(names[:3])}{more}"
            )
    of = summary.conditions[["condition", "marker"]].itertuples(index=False)
    return _noted(summary, {(str(c), str(m)): "; ".join(said) for c, m in of})


def note_corrected_fractions(summary: Summary, corrected: pd.DataFrame | None) -> Summary:
    """The summary with a note that gives the fraction corrected for wrong calls.

    Parameters
    ----------
    summary : Summary
        Of the run.
    corrected : DataFrame or None
        Of `corrected_table`.
    """
    if corrected is None:
        return summary
    said = {}
    for row in corrected.to_dict("records"):
        low, high = 100 * row["ci_low"], 100 * row["ci_high"]
        value = f"{100 * row['fraction']:.1f} %" if row["status"] == "corrected" else row["status"]
        said[row["condition"], row["marker"]] = (
            f"not corrected for wrong calls: {row['note']}"
            if row["status"] == "refused"
            else f"corrected for wrong calls: {value} [{low:.1f} to {high:.1f}], see corrected.csv"
        )
    return _noted(summary, said)


def note_fractions_before_edits(
    summary: Summary, raw: Summary | None, called: CalledRun
) -> Summary:
    """The summary with a note that gives the fraction before people's edits, and who made them.

    Parameters
    ----------
    summary, raw : Summary
        Of the run, after and before its corrections.
    called : CalledRun
        Its cells.
    """
    if raw is None or called.corrected is called.raw:
        return summary
    people = called.corrected["corrected_by"].fillna("").astype(str)
    by = ", ".join(f"{k} {n}" for k, n in people[people != ""].value_counts().items())
    said = {}
    for row in raw.conditions.to_dict("records"):
        was = f"{100 * row['fraction']:.1f} %" if row["status"] == ESTIMATED else "not estimable"
        changed = f" (cells of the run changed by {by})" if by else ""
        said[row["condition"], row["marker"]] = f"{was} before corrections{changed}"
    return _noted(summary, said)


def note_missing_thresholds(
    summary: Summary, called: CalledRun, rows: Sequence[ImageRow]
) -> Summary:
    """The summary with a note of the batches in which no threshold could be estimated, and why.

    Parameters
    ----------
    summary : Summary
        Of the run.
    called : CalledRun
        Its thresholds.
    rows : sequence of ImageRow
        Its images.
    """
    samples = [r for r in rows if r.status == "scored" and r.role == "sample"]
    said: dict[tuple[str, str], dict[str, list[str]]] = {}
    for condition, staining in dict.fromkeys((r.condition, r.staining) for r in samples):
        for marker, threshold in called.thresholds[staining].items():
            if not threshold.estimable:
                reasons = said.setdefault((condition, marker), {})
                reasons.setdefault(threshold.reason, []).append(staining)
    clauses = {
        key: "; ".join(
            f"no threshold{_in_runs(runs)}: {reason}" for reason, runs in reasons.items()
        )
        for key, reasons in said.items()
    }
    return _noted(summary, clauses)


def _in_runs(stainings: Sequence[str]) -> str:
    named = [s for s in stainings if s]
    return f" in {', '.join(named)}" if named else ""


def with_left_out(
    conditions: pd.DataFrame, rows: Sequence[ImageRow], markers: Sequence[str]
) -> pd.DataFrame:
    """Conditions with a note of the samples that a blocking flag left out, and rows of none else.

    Parameters
    ----------
    conditions : DataFrame
        ``summary.csv``.
    rows : sequence of ImageRow
        Images of the run; those left out are ``skipped``.
    markers : sequence of str
        Markers of the protocol.

    Returns
    -------
    DataFrame
        A copy; a condition of which every image is left out has rows of status "no_cells".
    """
    import pandas as pd

    gone: dict[str, list[ImageRow]] = {}
    for row in rows:
        if row.status in ("failed", "skipped") and row.role == "sample":
            gone.setdefault(row.condition, []).append(row)
    table = conditions.copy()
    for condition, images in gone.items():
        n = sum(r.condition == condition and r.role == "sample" for r in rows)
        said = "; ".join(filter(None, (_left_out(images), _failed(images, n))))
        here = (table["condition"] == condition).to_numpy(dtype=bool)
        table.loc[here, "note"] = [f"{n}; {said}" if n else said for n in table.loc[here, "note"]]
        if here.any():
            continue
        empty = {c: 0 for c in table.columns if str(c).startswith("n_")}
        more = pd.DataFrame(
            [
                {
                    "condition": condition, "marker": marker, "status": NO_CELLS, **empty,
                    "interval": "none", "note": said,
                }
                for marker in markers
            ],
            columns=list(table.columns),
        )  # fmt: skip
        table = pd.concat([table, more], ignore_index=True) if len(table) else more
    return table


def add_empty_conditions(
    conditions: pd.DataFrame, rows: Sequence[ImageRow], markers: Sequence[str]
) -> pd.DataFrame:
    """Conditions with rows of those whose images were scored and hold no nucleus.

    Parameters
    ----------
    conditions : DataFrame
        ``summary.csv``.
    rows : sequence of ImageRow
        Images of the run.
    markers : sequence of str
        Markers of the protocol.

    Returns
    -------
    DataFrame
        A copy; every condition of the sheet's samples has a row for every marker.
    """
    import pandas as pd

    known = set(zip(conditions["condition"], conditions["marker"], strict=True))
    counts = {c: 0 for c in conditions.columns if str(c).startswith("n_")}
    more = [
        {
            "condition": condition,
            "marker": marker,
            "status": NO_CELLS,
            **counts,
            "interval": "none",
            "note": "no cell could be counted: no nucleus was found",
        }
        for condition in dict.fromkeys(r.condition for r in rows if r.role == "sample")
        for marker in markers
        if (condition, marker) not in known
    ]
    if not more:
        return conditions.copy()
    added = pd.DataFrame(more, columns=list(conditions.columns))
    return pd.concat([conditions, added], ignore_index=True) if len(conditions) else added


def _left_out(images: Sequence[ImageRow]) -> str:
    images = [r for r in images if r.status == "skipped"]
    if not images:
        return ""
    codes = [f.code for r in images for f in r.flags if f.severity == "block"]
    why = ", ".join(dict.fromkeys(c.replace("_", " ") for c in codes))
    n = len(images)
    return f"{n} {'image is' if n == 1 else 'images are'} left out ({why}), see images.csv"


def _failed(images: Sequence[ImageRow], n: int, what: str = "image") -> str:
    """Those of ``n`` images that failed, in words; empty for none."""
    names = [r.image for r in images if r.status == "failed"]
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    # a semicolon parts the clauses of a note
    shown = shown.replace(";", ",")
    if len(names) == n:
        whole = f"all {n} {what}s" if n > 1 else f"its only {what}"
        return f"{whole} failed ({shown}), see images.csv"
    return f"{len(names)} of {n} {what}s failed ({shown}), see images.csv"


def note_failed_controls(conditions: pd.DataFrame, rows: Sequence[ImageRow]) -> pd.DataFrame:
    """Conditions with a note of negative controls that failed, were left out or not used.

    Parameters
    ----------
    conditions : DataFrame
        ``summary.csv``.
    rows : sequence of ImageRow
        Images of the run.

    Returns
    -------
    DataFrame
        A copy.
    """
    table = conditions.copy()
    controls = [r for r in rows if r.role.startswith("negative_control")]
    said_of: list[tuple[str, str]] = []
    for staining in dict.fromkeys(r.staining for r in controls if r.status != "scored"):
        own = [r for r in controls if r.staining == staining]
        lost = [r for r in own if r.status != "scored"]
        where = f" of {staining}" if staining else ""
        said = (
            f"all {len(own)} negative controls{where} are missing (failed or left out)"
            if len(lost) == len(own)
            else f"{len(lost)} of {len(own)} negative controls{where} are missing (failed or left "
            "out)"
        )
        said += ": " + ", ".join(r.image.replace(";", ",") for r in lost[:3])
        said_of.append((staining, said))
    unlike = [r for r in controls if any(f.code == "control_not_used" for f in r.flags)]
    for staining in dict.fromkeys(r.staining for r in unlike):
        names = [r.image.replace(";", ",") for r in unlike if r.staining == staining]
        said = "negative controls not used, being brighter than the samples or clipped: "
        said_of.append((staining, said + ", ".join(names[:3])))
    for staining, said in said_of:
        of = {r.condition for r in rows if not staining or r.staining == staining}
        here = table["condition"].isin(of).to_numpy(dtype=bool)
        table.loc[here, "note"] = [f"{n}; {said}" if n else said for n in table.loc[here, "note"]]
    return table


def note_flagged_images(
    conditions: pd.DataFrame, rows: Sequence[ImageRow], dna: str
) -> pd.DataFrame:
    """Conditions with a note of the warnings that their counted images, and controls, carry.

    Parameters
    ----------
    conditions : DataFrame
        ``summary.csv``.
    rows : sequence of ImageRow
        Images of the run, with all their flags.
    dna : str
        Channel whose flags concern every marker.

    Returns
    -------
    DataFrame
        A copy.
    """
    table = conditions.copy()
    scored = [r for r in rows if r.status == "scored"]
    notes = []
    for condition, marker, note in table[["condition", "marker", "note"]].itertuples(index=False):
        samples = [r for r in scored if r.role == "sample" and r.condition == condition]
        stainings = {r.staining for r in samples}
        controls = [r for r in scored if negative_for(r.role, marker) and r.staining in stainings]
        said = [note] if note else []
        for whose, images in (("images", samples), ("negative controls", controls)):
            if of := _flagged(images, (marker, dna, None)):
                said.append(f"{whose} with a warning: {of}")
        notes.append("; ".join(said))
    table["note"] = notes
    return table


def _flagged(images: Sequence[ImageRow], channels: Sequence[str | None]) -> str:
    """Warnings of images that concern one of the channels, in words; empty for none."""
    of: dict[str, list[str]] = {}
    for row in images:
        codes = {
            f.code
            for f in row.flags
            if f.severity != "info" and f.channel in channels and f.code not in OF_CONTROLS
        }
        for code in sorted(codes):
            of.setdefault(code, []).append(row.image.replace(";", ","))
    return ", ".join(
        f"{image_flag(code)} ({_counted(names, len(images))})" for code, names in of.items()
    )


def _counted(names: Sequence[str], n: int) -> str:
    """Which of ``n`` images: by name where they are few."""
    if len(names) == n > 1:
        return f"all {n}"
    return ", ".join(names) if len(names) < 3 else f"{len(names)} of {n}"


def note_of_run(conditions: pd.DataFrame, told: Sequence[str]) -> pd.DataFrame:
    """Conditions with what concerns every number of the run in every note.

    Parameters
    ----------
    conditions : DataFrame
        ``summary.csv``.
    told : sequence of str
        Clauses.

    Returns
    -------
    DataFrame
        A copy.
    """
    table = conditions.copy()
    clauses = "; ".join(t.replace("; ", ", ") for t in told)
    if clauses:
        table["note"] = [f"{n}; {clauses}" if n else clauses for n in table["note"]]
    return table


def _noted(summary: Summary, said: dict[tuple[str, str], str]) -> Summary:
    """The summary with one more clause in the notes of these conditions and markers."""
    table = summary.conditions.copy()
    table["note"] = [
        "; ".join(n for n in (row["note"], said.get((row["condition"], row["marker"]), "")) if n)
        for row in table.to_dict("records")
    ]
    return dataclasses.replace(summary, conditions=table)
