"""What comes next in a review."""

from __future__ import annotations

import pytest

pytest.importorskip("psygnal")
from napari_islet_imaging.session import reshape
from napari_islet_imaging.session.queue import review_queue
from napari_islet_imaging.session.review import ReviewSession


def test_the_queue_begins_with_what_changes_the_answer_most(run):
    session = ReviewSession(run)
    assert session.queue.cells
    for image in session.tables:
        gains = [c.gain for c in session.queue.cells if c.image == image]
        assert gains == sorted(gains, reverse=True)
    # an image of a batch with few cells weighs more
    small = {k: t.copy() for k, t in session.tables.items()}
    first = next(iter(small))
    small[first] = small[first].iloc[:20]
    queue = review_queue(small, "INS", batch_of=session.facts.batches())
    weight = {c.image: c.gain for c in queue}
    assert weight[first] > min(weight.values())


def test_flagged_cells_are_queued_and_excluded_ones_are_not(session):
    image = next(iter(session.tables))
    table = session.raw[image]  # as scored
    sure = table.index[(table["INS_call"] == "negative") & ~table["excluded"]][:2]
    table.loc[sure[0], "flags"] = "autofluorescent"
    table.loc[sure[1], ["flags", "excluded"]] = ["pyknotic", True]
    session.rebuild_queue()
    queued = {(c.image, c.cell) for c in session.queue.cells}
    assert (image, table.loc[sure[0], "cell"]) in queued
    assert (image, table.loc[sure[1], "cell"]) not in queued


def test_the_queue_waits_for_a_cell_that_was_clicked(session):
    first = session.step()
    clicked = next(
        int(c)
        for c in session.table["cell"]
        if (first.image, c) not in {(q.image, q.cell) for q in session.queue.cells}
    )
    session.set_focus(clicked)
    session.call("positive")
    assert session.step() == first
    session.call("negative")
    left = session.queue.n_undecided()
    assert left == len(session.queue.cells) - 1
    assert session.step() == session.queue.cells[1]
    session.exclude()
    assert session.queue.n_undecided() == left - 1
    # a nucleus that was painted out is not waited for
    gone, after = session.queue.cells[2:4]
    reshape.delete_cells(session, [gone.cell])
    assert session.step() == after
    assert session.queue.n_undecided() == left - 2
