"""The review without a window: what is kept, what is undone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pandas as pd
import pytest

pytest.importorskip("psygnal")
from napari_islet_imaging.session.review import ReviewSession

from islet_imaging.review.journal import Journal, JournalError
from islet_imaging.run.folder import Run


def test_a_call_is_in_the_journal_before_it_is_in_the_table(session, monkeypatch):
    session.step()
    before = session.table.copy()

    def full(self, edit):
        raise JournalError("disk full")

    monkeypatch.setattr(Journal, "append", full)
    with pytest.raises(JournalError):
        session.call("positive")
    pd.testing.assert_frame_equal(session.table, before)


def test_edits_are_replayed_when_the_run_is_opened_again(session, run):
    done = []
    for call in ("positive", "negative", "positive"):
        entry = session.step()
        session.call(call)
        done.append((entry.image, entry.cell, call))
    again = ReviewSession(Run.open(run.path), reviewer="ana")
    for image, cell, call in done:
        table = again.tables[image].set_index("cell")
        assert table.loc[cell, "INS_call"] == call
    assert not {(c.image, c.cell) for c in again.queue.cells} & {(i, c) for i, c, _ in done}


def test_fraction_follows_each_call(session):
    session.step()
    image = session.open.name
    before = session.counts.now(image, session.marker)
    p = session.row(session.focus)["INS_probability"]
    session.call("positive")
    after = session.counts.now(image, session.marker)
    assert after.fraction == pytest.approx(before.fraction + (1 - p) / before.n)
    assert after.n_positive == before.n_positive + 1
    session.undo()
    assert session.counts.now(image, session.marker) == before


def test_undo_takes_back_the_last_edit_of_this_person_only(session, run):
    session.step()
    first = session.focus
    session.call("positive")
    session.set_reviewer("bo")
    session.set_focus(first)
    session.call("negative")
    session.set_reviewer("ana")
    undone = session.undo()
    assert (undone.who, undone.after) == ("ana", "positive")
    assert session.row(first)["INS_call"] == "negative"  # bo's call stands
    assert session.undo() is None
    assert [e.action for e in Journal(run.corrections).edits()] == ["call", "call", "undo"]


def test_exclusion_leaves_the_fraction_and_comes_back(session):
    session.step()
    before = session.counts.now(session.open.name, session.marker)
    session.exclude()
    assert session.counts.now(session.open.name, session.marker).n == before.n - 1
    session.exclude()
    assert session.counts.now(session.open.name, session.marker).n == before.n


def test_blinded_hides_names_and_shuffles_the_same_way_twice(session, run):
    plain = list(session.queue.cells)
    session.set_blinded(True)
    assert {session.shown_name(i) for i in session.tables} == {"image 1", "image 2"}
    assert sorted(session.queue.cells, key=str) == sorted(plain, key=str)
    assert session.queue.cells != plain
    again = ReviewSession(run, reviewer="ana", blinded=True)
    assert again.queue.cells == session.queue.cells


def test_agreement_with_the_first_call(session):
    session.open_image(session.image_names[0])
    table = session.table
    sure = table[(table["INS_call"] == "positive") & ~table["excluded"]]["cell"].tolist()[:3]
    for cell, call in zip(sure, ("positive", "positive", "negative"), strict=True):
        session.call(call, cell)
    assert session.agreement().counts == (3, 2, 0)
    # where the tool was unsure there is nothing to agree with
    unsure = table[(table["INS_call"] == "unsure") & ~table["excluded"]]["cell"].tolist()[0]
    session.call("negative", unsure)
    assert session.agreement().counts == (3, 2, 1)


_REVIEW = """
import sys
from islet_imaging.errors import IsletImagingError
from islet_imaging.run.folder import Run
from napari_islet_imaging.session.review import ReviewSession
session = ReviewSession(Run.open(sys.argv[1]), reviewer="ana")
calls = ["positive", "negative", "unsure"]
k = 0
while True:
    entry = session.step()
    if entry is None:
        session.queue.position = -1
        continue
    session.call(calls[k % 3])
    print(entry.image, entry.cell, calls[k % 3], flush=True)
    k += 1
"""


def test_kill_9_in_the_middle_of_a_review_loses_nothing(run):
    process = subprocess.Popen(
        [sys.executable, "-c", _REVIEW, str(run.path)], stdout=subprocess.PIPE, text=True
    )
    shown = [process.stdout.readline().split() for _ in range(15)]
    os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    shown += [line.split() for line in process.stdout.read().splitlines()]
    process.wait()
    process.stdout.close()
    shown = [s for s in shown if len(s) == 3]
    kept = [[e.image, str(e.cell), e.after] for e in Journal(run.corrections).edits()]
    assert kept[: len(shown)] == shown
    again = ReviewSession(run, reviewer="ana")
    last = {}
    for image, cell, call in kept:
        last[image, int(cell)] = call
    for (image, cell), call in last.items():
        assert again.tables[image].set_index("cell").loc[cell, "INS_call"] == call
