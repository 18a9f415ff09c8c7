"""The review without a window: what is kept, what is undone, what comes next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("psygnal")
from napari_islet_imaging import reshape
from napari_islet_imaging.queue import review_queue
from napari_islet_imaging.session import ReviewSession
from napari_islet_imaging.staining import thresholds
from napari_islet_imaging.tally import tally
from napari_islet_imaging.what_if import ThresholdView

from islet_imaging.errors import IsletImagingError
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
    assert not {(c.image, c.cell) for c in again.queue} & {(i, c) for i, c, _ in done}


def test_fraction_follows_each_call(session):
    session.step()
    image = session.open.name
    before = session.tally(image)
    p = session.row(session.focus)["INS_probability"]
    session.call("positive")
    after = session.tally(image)
    assert after.fraction == pytest.approx(before.fraction + (1 - p) / before.n)
    assert after.n_positive == before.n_positive + 1
    session.undo()
    assert session.tally(image) == before


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
    before = session.tally(session.open.name)
    session.exclude()
    assert session.tally(session.open.name).n == before.n - 1
    session.exclude()
    assert session.tally(session.open.name).n == before.n


def test_the_queue_begins_with_what_changes_the_answer_most(run):
    session = ReviewSession(run)
    assert session.queue
    for image in session.tables:
        gains = [c.gain for c in session.queue if c.image == image]
        assert gains == sorted(gains, reverse=True)
    # an image of a batch with few cells weighs more
    small = {k: t.copy() for k, t in session.tables.items()}
    first = next(iter(small))
    small[first] = small[first].iloc[:20]
    queue = review_queue(small, "INS", batch_of=session.batches())
    weight = {c.image: c.gain for c in queue}
    assert weight[first] > min(weight.values())


def test_flagged_cells_are_queued_and_excluded_ones_are_not(session):
    image = next(iter(session.tables))
    table = session.tables[image]
    sure = table.index[(table["INS_call"] == "negative") & ~table["excluded"]][:2]
    table.loc[sure[0], "flags"] = "autofluorescent"
    table.loc[sure[1], ["flags", "excluded"]] = ["pyknotic", True]
    session.rebuild_queue()
    queued = {(c.image, c.cell) for c in session.queue}
    assert (image, table.loc[sure[0], "cell"]) in queued
    assert (image, table.loc[sure[1], "cell"]) not in queued


def test_blinded_hides_names_and_shuffles_the_same_way_twice(session, run):
    plain = list(session.queue)
    session.set_blinded(True)
    assert {session.shown_name(i) for i in session.tables} == {"image 1", "image 2"}
    assert sorted(session.queue, key=str) == sorted(plain, key=str)
    assert session.queue != plain
    again = ReviewSession(run, reviewer="ana", blinded=True)
    assert again.queue == session.queue


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


def test_the_queue_waits_for_a_cell_that_was_clicked(session):
    first = session.step()
    clicked = next(
        int(c)
        for c in session.table["cell"]
        if (first.image, c) not in {(q.image, q.cell) for q in session.queue}
    )
    session.set_focus(clicked)
    session.call("positive")
    assert session.step() == first
    session.call("negative")
    left = session.n_undecided()
    assert left == len(session.queue) - 1
    assert session.step() == session.queue[1]
    session.exclude()
    assert session.n_undecided() == left - 1
    # a nucleus that was painted out is not waited for
    gone, after = session.queue[2:4]
    reshape.delete_cells(session, [gone.cell])
    assert session.step() == after
    assert session.n_undecided() == left - 2


# ------------------------------------------------------------ outlines


def _split_by_erasing(session):
    cell = int(session.table["cell"].iloc[8])
    ys, _ = np.nonzero(session.open.labels == cell)
    middle = (ys.min() + ys.max()) // 2
    session.open.labels[middle][session.open.labels[middle] == cell] = 0
    return cell


def test_erasing_a_line_splits_and_measures_as_the_whole_image_would(session):
    from islet_imaging.measurement.measure import measure_cells
    from islet_imaging.segmentation.cells import grow_cells

    session.open_image(session.image_names[0])
    cell = _split_by_erasing(session)
    changed = reshape.commit_painting(session)
    assert len(changed) == 2
    assert cell in changed
    opened = session.open
    whole = measure_cells(
        opened.labels,
        grow_cells(opened.labels, ring_um=3.0, gap_um=0.0, pixel_size_um=0.3),
        {c: opened.image.channel(c) for c in opened.image.channel_names},
        dna="DAPI",
        pixel_size_um=0.3,
        islets=opened.islets,
    ).set_index("cell")
    now = session.table.set_index("cell")
    for one in changed:
        for column in ("nucleus_area_um2", "INS_ring_p25", "INS_nucleus_mean", "y_um", "x_px"):
            assert now.loc[one, column] == pytest.approx(whole.loc[one, column], rel=1e-5), column
        assert now.loc[one, "INS_call"] in ("positive", "negative", "unsure")


def test_a_reshaped_run_opens_as_it_was_left(session, run):
    session.open_image(session.image_names[0])
    name = session.open.name
    _split_by_erasing(session)
    reshape.commit_painting(session)
    cells = session.table["cell"].tolist()
    reshape.merge_cells(session, reshape.split_cell(session, cells[20]))
    reshape.split_cell(session, cells[21])
    reshape.delete_cells(session, [cells[3]])
    again = ReviewSession(Run.open(run.path), reviewer="ana")
    again.open_image(name)
    np.testing.assert_array_equal(again.open.labels, session.open.labels)
    pd.testing.assert_frame_equal(
        again.table.sort_values("cell", ignore_index=True),
        session.table.sort_values("cell", ignore_index=True),
        check_exact=False,
    )


@pytest.mark.parametrize("kind", ["split", "merge", "delete", "erase"])
def test_undo_of_outlines_restores_pixels_rows_and_lines(session, kind):
    session.open_image(session.image_names[0])
    labels, table = session.open.labels.copy(), session.table.copy()
    lines = session.open.outlines.copy()
    cells = table["cell"].tolist()
    if kind == "split":
        changed = reshape.split_cell(session, cells[7])
        assert len(changed) == 2
    elif kind == "merge":
        halves = reshape.split_cell(session, cells[7])
        labels, table = session.open.labels.copy(), session.table.copy()
        lines = session.open.outlines.copy()
        changed = reshape.merge_cells(session, halves)
        assert len(session.table[~session.table["excluded"]]) < len(table[~table["excluded"]])
    elif kind == "delete":
        changed = reshape.delete_cells(session, cells[7:9])
    else:
        _split_by_erasing(session)
        changed = reshape.commit_painting(session)
    assert changed
    assert (session.open.labels != labels).any()
    session.undo()
    np.testing.assert_array_equal(session.open.labels, labels)
    np.testing.assert_array_equal(session.open.committed, labels)
    np.testing.assert_array_equal(session.open.outlines, lines)
    pd.testing.assert_frame_equal(session.table, table)


def test_nuclei_that_do_not_touch_are_not_merged(session):
    session.open_image(session.image_names[0])
    before = session.open.labels.copy()
    cells = session.table["cell"].tolist()
    with pytest.raises(IsletImagingError, match="do not touch"):
        reshape.merge_cells(session, [cells[0], cells[-1]])
    np.testing.assert_array_equal(session.open.labels, before)


def test_undo_of_growing_a_nucleus_gives_the_small_one_back(session):
    session.open_image(session.image_names[0])
    before = session.open.labels.copy()
    cell = int(session.table["cell"].iloc[8])
    ys, xs = np.nonzero(before == cell)
    session.open.labels[ys.max() + 1 : ys.max() + 5, xs.min() : xs.max()] = cell
    assert cell in reshape.commit_painting(session)
    session.undo()
    np.testing.assert_array_equal(session.open.labels, before)


def test_a_new_nucleus_painted_by_hand_gets_a_row(session):
    session.open_image(session.image_names[0])
    before = len(session.table)
    free = np.argwhere(session.open.labels[:60, :60] == 0)[0]
    label = reshape.free_label(session)
    y, x = free
    patch = session.open.labels[y : y + 12, x : x + 12]
    patch[patch == 0] = label
    reshape.commit_painting(session)
    assert len(session.table) >= before + 1
    assert session.row(label) is not None


def test_a_person_s_call_survives_painting(session):
    session.open_image(session.image_names[0])
    cell = int(session.table["cell"].iloc[8])
    session.call("unsure", cell)
    ys, _ = np.nonzero(session.open.labels == cell)
    session.open.labels[ys.min(), :][session.open.labels[ys.min(), :] == cell] = 0
    reshape.commit_painting(session)
    assert session.row(cell)["INS_call"] == "unsure"


def test_outlines_after_edits_are_those_of_a_fresh_drawing(session):
    session.open_image(session.image_names[0])
    for call in ("positive", "negative", "unsure"):
        session.step()
        session.call(call)
    session.exclude(int(session.table["cell"].iloc[20]))
    drawn = session.open.outlines.copy()
    session.open.outlines[...] = 0
    session.open.forget_outlines()
    session.redraw()
    np.testing.assert_array_equal(drawn, session.open.outlines)
    assert set(np.unique(drawn)) >= {0, 1, 2, 3, 4}


# ------------------------------------------------------------ threshold


def test_at_its_own_value_the_threshold_gives_the_run_s_calls(session):
    session.open_image(session.image_names[0])
    fitted = thresholds(session)["INS"]
    seen = ThresholdView(session.table, "INS", fitted, "INS_own", unsure_low=0.2, unsure_high=0.8)
    found = seen.at(seen.value)
    assert (found.calls == session.table["INS_call"].to_numpy()).all()
    assert found.fraction == pytest.approx(tally(session.table, "INS").fraction)
    higher = [seen.at(seen.value * k).fraction for k in (0.5, 1, 1.5, 3, 10)]
    assert higher == sorted(higher, reverse=True)
    low, high = seen.band(seen.value)
    assert low < seen.value < high


# ------------------------------------------------------------ crash


_REVIEW = """
import sys
from islet_imaging.errors import IsletImagingError
from islet_imaging.run.folder import Run
from napari_islet_imaging.session import ReviewSession
session = ReviewSession(Run.open(sys.argv[1]), reviewer="ana")
calls = ["positive", "negative", "unsure"]
k = 0
while True:
    entry = session.step()
    if entry is None:
        session.position = -1
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
