"""Sentences the widgets show.

The idea: one place turns numbers into words, so that the same thing is said the same way
everywhere, and can be read in a test.  It fails if a widget makes up a sentence with a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging.statistics.counting import NOT_ESTIMABLE

if TYPE_CHECKING:
    from islet_imaging.review.journal import Edit
    from napari_islet_imaging.session.review import ReviewSession
    from napari_islet_imaging.session.tally import Tally
    from napari_islet_imaging.viewer.provisional import Provisional

FLAGS = {
    "border": "cut by the image's border",
    "pyknotic": "nucleus looks dying (small and bright)",
    "saturated": "brighter than the camera could record",
    "autofluorescent": "bright in several channels: autofluorescence?",
    "out_of_focus": "out of focus",
    "by_hand": "excluded by hand",
    "painted_out": "painted out",
}


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage."""
    return "no cells" if not np.isfinite(fraction) else f"{100 * fraction:.{digits}f} %"


def share(counts: Tally) -> str:
    """The share of positive cells, or that it is open and between what."""
    if counts.n and not np.isfinite(counts.fraction):
        return f"not estimable ({100 * counts.low:.0f} to {100 * counts.high:.0f} %)"
    return percent(counts.fraction)


def headline(session: ReviewSession) -> str:
    """The answer as it stands, for the open image and for the run."""
    from napari_islet_imaging.session.tally import tally

    lines = []
    marker = session.marker
    if session.open is not None:
        here = session.tally(session.open.name)
        raw = tally(session.raw[session.open.name], marker)
        line = (
            f"<b>{marker}+ {share(here)}</b> of {here.n:,} cells in this image "
            f"({here.n_positive:,} positive, {here.n_negative:,} negative, "
            f"{here.n_unsure:,} unsure)"
        )
        if (raw.n, raw.n_positive, raw.n_unsure) != (here.n, here.n_positive, here.n_unsure):
            line += f"<br>before corrections {share(raw)}"
        lines.append(line)
    whole = session.tally()
    if len(session.tables) > 1:
        lines.append(f"all images: {share(whole)} of {whole.n:,} cells")
    if not session.blinded:
        lines += intervals(session)
        lines += image_flags(session)
    return "<br>".join(lines)


def other_markers(session: ReviewSession) -> list[str]:
    """The open image's answer for the markers that are not under review."""
    from napari_islet_imaging.session.tally import tally

    lines = []
    if session.open is not None:
        for marker in session.protocol.markers:
            if marker != session.marker:
                here = tally(session.tables[session.open.name], marker)
                lines.append(
                    f"<b>{marker}+ {share(here)}</b> ({here.n_positive:,} positive, "
                    f"{here.n_negative:,} negative, {here.n_unsure:,} unsure)"
                )
    return lines


def intervals(session: ReviewSession) -> list[str]:
    """The run's own headline with its interval, as last written."""
    table = session.summary
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
    return ["<i>in the tables: </i>" + "; ".join(lines)] if lines else []


def image_flags(session: ReviewSession) -> list[str]:
    """What was noticed in the open image, in the library's own words."""
    if session.open is None:
        return []
    found = session.image_flags(session.open.name)
    return [f"⚑ {text}" for text in found]


def cell(session: ReviewSession) -> str:
    """The cell in focus."""
    row = session.row(session.focus) if session.focus else None
    if row is None and not session.queue.cells and session.by_chance:
        return of_end(session)
    if row is None and not session.queue.cells:
        return "Nothing unsure or flagged is left. Click any cell in the image to correct it."
    if row is None:
        return "No cell in focus. Press N, or click a cell in the image."
    marker = session.marker
    if session.by_chance and row[f"{marker}_reason"] != f"called by {session.reviewer}":
        # a label swayed by the tool's call, or another person's, says nothing of how often it errs
        return (
            f"<b>cell {session.focus}</b><br>drawn by chance: is it {marker} positive? What the "
            "tool calls it is not shown; where nobody can tell, say unsure."
        )
    call = str(row[f"{marker}_call"])
    probability = float(row[f"{marker}_probability"])
    text = f"<b>cell {session.focus}: {call}</b>"
    text += f", p = {probability:.2f}" if np.isfinite(probability) else ""
    if row["excluded"]:
        text = f"<b>cell {session.focus}: excluded</b>"
    reason = str(row.get(f"{marker}_reason", ""))
    if reason:
        text += f"<br>{reason}"
    flags = [FLAGS.get(f, f) for f in str(row["flags"]).split(";") if f]
    if flags:
        text += "<br>⚑ " + "; ".join(flags)
    entry = session.queue.current
    here = None if session.open is None else (session.open.name, session.focus)
    if entry is not None and not session.by_chance and here == (entry.image, entry.cell):
        text += f"<br>may change the answer by {entry.gain:.3f} points"
    return text


def agreement(session: ReviewSession) -> str:
    """How far the reviewer and the tool agree, and who else has looked."""
    made, agree, unsure = session.agreement().counts
    text = "" if made or unsure else "No calls of yours yet."
    if made:
        share = percent(agree / made, 0)
        text = f"You agree with the first call on {agree} of {made} cells ({share})."
    if unsure:
        text += f" You called {unsure} that {'was' if unsure == 1 else 'were'} unsure."
    others = sorted({e.who for e in session.edits} - {session.reviewer})
    if others and not session.blinded:
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
    from napari_islet_imaging.session.tally import tally

    name = before.opened.name
    lines = [f"<b>{name}</b>: the run is complete, these calls are its own."]
    for marker, threshold in before.thresholds.items():
        now = share(tally(session.tables[name], marker))
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
