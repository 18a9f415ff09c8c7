"""Fill of a second marker and dots of decided cells, in the drawn outlines."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("psygnal", reason="the plugin needs napari: pip install '.[all]'")
from napari_islet_imaging.session.colours import BY_CALL, FILL
from napari_islet_imaging.session.drawing import CallOutlines
from napari_islet_imaging.session.pairs import marker_pairs
from napari_islet_imaging.session.thumbnails import thumbnail, upcoming


@pytest.fixture
def drawn(session):
    session.open_image(session.image_names[0])
    return CallOutlines(session)


def at(session, cell):
    row = session.row(cell)
    return session.open.outlines[round(row["y_px"]), round(row["x_px"])]


def test_positive_cells_of_a_second_marker_are_filled(drawn):
    session = drawn.session
    session.set_second("GCG")
    table = session.table[~session.table["excluded"]]
    for cell, call in zip(table["cell"], table["GCG_call"], strict=True):
        assert (at(session, int(cell)) == FILL) == (call == "positive")
    session.set_second("")
    assert not (session.open.outlines == FILL).any()
    session.set_second(session.marker)  # a marker is no second to itself
    assert session.second == ""


def test_a_decided_cell_has_a_dot_until_it_is_taken_back(drawn):
    session = drawn.session
    cell = int(session.table["cell"].iloc[3])
    before = session.open.outlines.copy()
    session.set_focus(cell)
    session.call("positive")
    assert at(session, cell) == BY_CALL["positive"]
    assert (session.open.outlines[session.open.labels == 0] == 0).all()
    session.undo()
    np.testing.assert_array_equal(session.open.outlines, before)


def test_a_patch_is_drawn_as_the_whole(drawn):
    session = drawn.session
    session.set_second("GCG")
    for cell in session.table["cell"][:6]:
        session.set_focus(int(cell))
        session.call("positive")
    patched = session.open.outlines.copy()
    drawn.redraw()
    np.testing.assert_array_equal(session.open.outlines, patched)


def test_blinded_readers_see_neither_fill_nor_other_people_s_dots(drawn):
    session = drawn.session
    cell, own = (int(c) for c in session.table["cell"][:2])
    session.set_focus(cell)
    session.call("positive")
    session.set_second("GCG")
    session.set_reviewer("bo")
    session.set_blinded(True)
    assert at(session, cell) == 0
    assert not (session.open.outlines == FILL).any()
    assert marker_pairs(session) is None
    session.set_focus(own)
    session.call("negative")
    assert at(session, own) == BY_CALL["negative"]


def test_pairs_are_the_calls(drawn):
    session = drawn.session
    session.set_second("GCG")
    found = marker_pairs(session)
    counts = found.counts("INS", "GCG")
    table = session.table[~session.table["excluded"]]
    ins, gcg = (table[f"{m}_call"] for m in ("INS", "GCG"))
    assert counts["both"] == ((ins == "positive") & (gcg == "positive")).sum()
    assert counts["unsure"] == ((ins == "unsure") | (gcg == "unsure")).sum()
    assert counts["INS+ alone"] == ((ins == "positive") & (gcg == "negative")).sum()
    assert sum(counts.values()) == len(table)


def test_thumbnails_show_what_the_queue_has_next(drawn):
    session = drawn.session
    session.step()
    cells = upcoming(session, 4)
    assert cells[0] == session.focus
    assert cells == [c.cell for c in session.queue.cells[:4] if c.image == session.open.name]
    levels = dict.fromkeys(("DAPI", "INS"), (0.0, 1000.0))
    pictures = [thumbnail(session, cell, levels) for cell in cells]
    assert all(p.shape == (100, 100, 3) for p in pictures)  # 30 um at 0.3 um
    assert all(p.max() > p.min() for p in pictures)
    assert thumbnail(session, 10**6, levels) is None
