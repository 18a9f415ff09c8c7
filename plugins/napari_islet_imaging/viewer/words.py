"""Sentences the widgets show.

The idea: one place turns numbers into words, so that the same thing is said the same way
everywhere, and can be read in a test.  It fails if a widget makes up a sentence with a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging import terms
from islet_imaging.statistics.counting import NOT_ESTIMABLE
from napari_islet_imaging.session.pairs import CLASSES
from napari_islet_imaging.session.shares import both_positive

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from islet_imaging.review.journal import Edit
    from napari_islet_imaging.session.pairs import MarkerPairs
    from napari_islet_imaging.session.review import ReviewSession
    from napari_islet_imaging.session.tally import Tally
    from napari_islet_imaging.viewer.provisional import Provisional


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage."""
    return "no cells" if not np.isfinite(fraction) else f"{100 * fraction:.{digits}f} %"


def share(counted: Tally) -> str:
    """The share of positive cells, or that it is open and between what."""
    if counted.status == NOT_ESTIMABLE:
        return f"not estimable ({100 * counted.low:.0f} to {100 * counted.high:.0f} %)"
    return percent(counted.fraction)


def of_marker(session: ReviewSession, marker: str) -> str:
    """The open image's answer for one marker, as the tables have it, corrections included."""
    if session.open is None:
        return ""
    image = session.open.name
    table = session.tables[image]
    if not marker:
        excluded = table["excluded"].astype(bool)
        islets = table.loc[~excluded, "islet"]
        return (
            f"<b>{int((~excluded).sum()):,} nuclei</b> in {islets[islets > 0].nunique()} islets "
            f"of this image; no marker was scored{beside(session, table)}"
        )
    here = session.counts.now(image, marker)
    return (
        f"<big><b>{marker}+ {share(here)}</b></big> of {here.n:,} cells "
        f"({here.n_positive:,} positive, {here.n_negative:,} negative, {here.n_unsure:,} unsure)"
        f"{beside(session, table)}"
    )


def excluded_why(session: ReviewSession, table: pd.DataFrame) -> dict[str, int]:
    """Why cells of a table count in no share, and how many of each."""
    out = table.loc[table["excluded"].astype(bool), "flags"]
    return terms.not_counted(out, border=session.protocol.nuclei.exclude_border)


def beside(session: ReviewSession, table: pd.DataFrame) -> str:
    """The cells that do not count, with their reasons, to stand behind a share."""
    told = [terms.told(excluded_why(session, table))]
    if "region" in table:
        outside = (table["region"] == terms.OUTSIDE) & ~table["excluded"].astype(bool)
        told.append(f"{outside.sum():,} outside of the drawn islets count apart")
    return "".join(f"; {one}" for one in told if one and not one.startswith("0 "))


def trial(session: ReviewSession) -> list[str]:
    """That a threshold is being tried, and what it would give; nothing where none is."""
    tried = session.trial
    if tried is None:
        return []
    return [
        f"<b>Trying a threshold: {tried.marker}+ {share(tried.tally)}</b> at "
        f"{tried.cut:.4g}. Outlines show what it would call; nothing is changed."
    ]


def threshold(session: ReviewSession) -> str:
    """The numbers at the threshold that is shown, tried or the run's own."""
    if session.open is None or session.hidden:
        return headline(session)
    own = of_marker(session, session.marker)
    tried = session.trial
    if tried is None:
        return own
    found = tried.tally
    text = (
        f"{trial(session)[0]}<br>{found.n_positive:,} positive, {found.n_unsure:,} unsure of "
        f"{found.n:,}. The run's own: {own}"
    )
    if session.protocol.method(tried.marker) == "network":
        text += "<br>A threshold set by hand calls by the intensity alone, without the network."
    return text


def pairs(session: ReviewSession, found: MarkerPairs) -> str:
    """How many cells have both markers, one, or none; each class in its colour of the plot."""
    first, second = session.marker, session.second
    counted = found.counts(first, second)
    each = [
        f'<span style="color:{colour}">●</span> {name} {n:,}'
        for (name, n), colour in zip(counted.items(), CLASSES.values(), strict=True)
    ]
    lines = [*trial(session), of_marker(session, first), ", ".join(each)]
    return "<br>".join(lines)


def saved(session: ReviewSession, path: Path) -> str:
    """That a tried threshold was saved, and what scoring with it gives."""
    tried = session.trial
    if tried is None or session.open is None:
        return ""
    return (
        f"Saved in {path}. Score again with it: {tried.marker}+ is then "
        f"{share(tried.tally)} in this image."
    )


def headline(session: ReviewSession) -> str:
    """The answer as it stands for the open image; what is to be known beside it are `notes`."""
    if session.hidden:  # a running number would tell what the tool thinks
        return "Blinded: numbers and calls are hidden, of the tool and of other people."
    lines = trial(session)
    if session.open is not None:
        lines.append(of_marker(session, session.marker))
    if session.open is not None and session.second:
        both = both_positive(session.table, session.marker, session.second)
        perhaps = f", {both.n_perhaps:,} more may be" if both.n_perhaps else ""
        lines.append(f"{session.marker}+ and {session.second}+: {both.n:,} cells{perhaps}")
    if session.open is not None and session.marker:
        here = session.counts.now(session.open.name, session.marker)
        raw = session.counts.scored(session.open.name, session.marker)
        if (raw.n, raw.n_positive, raw.n_unsure) != (here.n, here.n_positive, here.n_unsure):
            lines.append(f"before corrections {share(raw)}")
    return "<br>".join(lines)


def notes(session: ReviewSession) -> list[str]:
    """What is to be known beside the number: intervals as last written, flags of the image."""
    if session.hidden or session.blinded:  # the run's lines name conditions
        return []
    told = [f"⚑ {sentence}" for sentence in session.facts.told]
    return [*intervals(session), *told, *image_flags(session)]


def of_run(session: ReviewSession) -> list[str]:
    """Images of the run that were not scored, and where its results are."""
    images = session.facts.images
    failed = images[images["status"] != "scored"]
    return [
        *(f"⚑ {row.image}: {row.message}" for row in failed.itertuples()),
        f"tables, report and corrections are in {session.run.path}",
    ]


def result(session: ReviewSession) -> str:
    """What scoring found in the open image, for every marker, as it stands now."""
    if session.hidden:
        return headline(session)
    lines = [headline(session)]
    lines += [of_marker(session, m) for m in session.protocol.markers if m != session.marker]
    return "<br>".join(line for line in lines if line)


def intervals(session: ReviewSession) -> list[str]:
    """The run's own headline with its interval, as last written."""
    table = session.facts.summary
    if table is None:
        return []
    lines = []
    rows = table[table["marker"] == session.marker] if "marker" in table else table.iloc[:0]
    for row in rows.to_dict("records"):
        name = row["condition"] or "all samples"
        line = f"{name}: {percent(row['fraction'])}"
        if row["status"] == NOT_ESTIMABLE:
            bounds = (100 * row["fraction_low"], 100 * row["fraction_high"])
            line = f"{name}: not estimable ({bounds[0]:.0f} to {bounds[1]:.0f} %)"
        low, high = row["ci_low"], row["ci_high"]
        if np.isfinite(low) and np.isfinite(high):
            line += f" (95 % interval {100 * low:.1f} to {100 * high:.1f} %"
            line += f", {row['interval']})" if row["interval"] else ")"
        line += f", {row['n_batches']} batch" + ("es" if row["n_batches"] != 1 else "")
        lines.append(line)
    if not lines:
        return []
    late = "" if session.facts.current() else " (without the corrections since: update them)"
    return [f"<i>in the tables{late}: </i>" + "; ".join(lines)]


def image_flags(session: ReviewSession) -> list[str]:
    """What was noticed in the open image, in the library's own words."""
    if session.open is None:
        return []
    found = session.facts.flags(session.open.name)
    return [f"⚑ <b>{terms.image_flag(code)}</b>: {text}" for code, text in found]


def cell(session: ReviewSession) -> str:
    """The cell in focus."""
    row = session.shown_row(session.focus) if session.focus else None
    if row is None and not session.queue.cells and session.by_chance:
        return of_end(session)
    if row is None and not session.queue.cells:
        return "Nothing unsure or flagged is left. Click any cell in the image to correct it."
    if row is None:
        return "No cell in focus. Press N, or click a cell in the image."
    marker = session.marker
    own = session.own_call(session.open.name, session.focus) if session.open is not None else ""
    if session.hidden:
        # a label swayed by the tool's call, or another person's, says nothing of how often it errs
        said = f"you said: {own}" if own else f"is it {marker} positive?"
        drawn = "drawn by chance: " if session.by_chance else ""
        return (
            f"<b>cell {session.focus}</b><br>{drawn}{said} What the tool or others call it is not "
            "shown; where nobody can tell, say unsure."
        )
    if not marker:
        area = float(row["nucleus_area_um2"])
        return f"<b>nucleus {session.focus}</b>, {area:.0f} µm²"
    call = str(row[f"{marker}_call"])
    probability = float(row[f"{marker}_probability"])
    tried = "" if session.trial is None else "<i>trying: </i>"
    text = f"{tried}<b>cell {session.focus}: {call}</b>"
    text += f", p = {probability:.2f}" if np.isfinite(probability) else ""
    if row["excluded"]:
        border = session.protocol.nuclei.exclude_border
        why = next(iter(terms.not_counted([row["flags"]], border=border)))
        text = f"<b>cell {session.focus}: not counted</b> ({why})"
    reason = str(row.get(f"{marker}_reason", ""))
    if reason:
        text += f"<br>{reason}"
    if region := str(row.get("region", "")):
        outside = region == terms.OUTSIDE
        text += "<br>outside of the drawn islets: counts apart" if outside else f"<br>in {region}"
    flags = [terms.flag(f) for f in terms.codes(row["flags"])]
    if flags:
        text += "<br>⚑ " + "; ".join(flags)
    entry = session.queue.current
    here = None if session.open is None else (session.open.name, session.focus)
    if entry is not None and not session.by_chance and here == (entry.image, entry.cell):
        text += f"<br>may change the answer by {entry.gain:.3f} points"
    return text


def of_redo(edit: Edit | None) -> str:
    """What was done again."""
    if edit is None:
        return "There is nothing of yours to do again."
    return f"Did again what was taken back of cell {edit.cell}."


def agreement(session: ReviewSession) -> str:
    """How far the reviewer and the tool agree, and who else has looked."""
    if session.hidden:
        n = len(session.agreement().calls)
        return f"You called {n} cell{'' if n == 1 else 's'}."
    made, agree, unsure = session.agreement().counts
    text = "" if made or unsure else "No calls of yours yet."
    if made:
        share = percent(agree / made, 0)
        text = f"You agree with the first call on {agree} of {made} cells ({share})."
    if unsure:
        text += f" You called {unsure} that {'was' if unsure == 1 else 'were'} unsure."
    others = sorted({e.who for e in session.edits if e.action != "regions"} - {session.reviewer})
    if others:
        text += f" Also reviewed by {', '.join(others)}."
    if session.history.unmatched:
        text += f" {len(session.history.unmatched)} earlier edits found no nucleus at their place."
    return text


def compared(session: ReviewSession) -> str:
    """Every pair of reviewers of the run, compared."""
    from itertools import combinations

    from islet_imaging.review.reviewers import reviewer_agreement

    people = sorted({e.who for e in session.history.effective()})
    if len(people) < 2:
        return "Only one person has reviewed this run so far."
    lines = []
    for a, b in combinations(people, 2):
        found = reviewer_agreement(session.edits, a, b)
        if not found.n_both:
            lines.append(f"{a} and {b}: no cell in common")
            continue
        kappa = f", kappa {found.kappa:.2f}" if np.isfinite(found.kappa) else ""
        lines.append(
            f"{a} and {b}: agree on {found.n_agree} of {found.n_both} "
            f"({percent(found.fraction, 0)}{kappa})"
        )
    return "<br>".join(lines)


def provisional(found: Provisional) -> str:
    """The calls of an image whose staining run is not complete yet."""
    lines = [f"<b>Provisional: {found.opened.name}</b>"]
    for marker, threshold in found.thresholds.items():
        if threshold.estimable:
            here = found.tally(marker)
            lines.append(f"{marker}+ {share(here)} of {here.n:,} cells ({here.n_unsure:,} unsure)")
        else:
            lines.append(f"{marker}: no threshold can be estimated yet")
    lines.append(
        f"The thresholds rest on {found.n_images} of {found.n_all} images of this staining run. "
        "The numbers will change when the others are measured; cells can be corrected then."
    )
    return "<br>".join(lines)


def final(before: Provisional, session: ReviewSession) -> str:
    """What became of an image's provisional numbers when its run was complete."""
    name = before.opened.name
    lines = [f"<b>{name}</b>: the run is complete, these calls are its own."]
    for marker, threshold in before.thresholds.items():
        now = share(session.counts.of(session.tables[name], marker))
        was = share(before.tally(marker)) if threshold.estimable else "not estimable"
        lines.append(f"{marker}+ {now} (provisional: {was})")
    return "<br>".join(lines)


def by_hand(session: ReviewSession, marker: str) -> tuple[int, int]:
    """How many cells people called positive and negative, excluded ones left out."""
    positive = negative = 0
    for table in session.tables.values():
        called = table[f"{marker}_reason"].astype(str).str.startswith("called by ")
        calls = table.loc[called & ~table["excluded"].astype(bool), f"{marker}_call"]
        positive += int((calls == "positive").sum())
        negative += int((calls == "negative").sum())
    return positive, negative


def taught(session: ReviewSession, marker: str) -> str:
    """What there is to learn from."""
    positive, negative = by_hand(session, marker)
    return (
        f"<b>{positive + negative:,} cells called by hand for {marker}</b>: {positive:,} positive, "
        f"{negative:,} negative. Call some that are plain as well, not only doubtful ones, and in "
        "several islets."
    )


def lesson(result: dict[str, Any]) -> str:
    """Whether teaching helped, and what it cost."""
    before, after = (float(result[k]["balanced_accuracy"]) for k in ("before", "after"))
    old = float(result["old_after"]["balanced_accuracy"])
    forgotten = float(result["old_before"]["balanced_accuracy"]) - old
    change = 100 * (after - before)
    n, islets = int(result["after"]["n"]), len(result["held_out"])
    verdict = "better" if change > 1 else "worse" if change < -1 else "no different"
    text = (
        f"<b>{verdict.capitalize()}</b> on {n:,} held-out cells of {islets} "
        f"islet{'s' if islets != 1 else ''}: balanced accuracy {change:+.1f} points. "
    )
    text += (
        f"On rendered stains it lost {100 * forgotten:.1f} points."
        if forgotten > 0.01
        else "On rendered stains it lost nothing to speak of."
    )
    single = 100 * (after - float(result["after_float32"]["balanced_accuracy"]))
    text += f" As kept, {result['weights']} ({single:+.1f} points to float32)."
    if n < 50:
        text += f" {n:,} cells are few: a difference of a few points may be chance."
    return text


def of_end(session: ReviewSession | None) -> str:
    """That the queue has no cell left, and what to do then."""
    left = 0 if session is None else session.queue.n_undecided()
    if left:
        return f"The end of the queue; {left} in it {'is' if left == 1 else 'are'} not decided: G."
    if session is not None and session.by_chance:
        return (
            "All cells drawn by chance are called. Update tables and report: they show the "
            "fraction corrected for wrong calls beside the raw one."
        )
    return "The queue is done: nothing unsure or flagged is left."


def of_undo(edit: Edit | None) -> str:
    """What an undo took back."""
    if edit is None:
        return "There is nothing of yours to undo."
    what = {
        "call": f"the call {edit.after}",
        "exclude": "the exclusion" if edit.after else "the inclusion",
        "shape": "the change of outlines",
    }[edit.action]
    return f"Took back {what} of cell {edit.cell}. The journal keeps both."
