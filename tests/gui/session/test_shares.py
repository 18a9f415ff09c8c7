"""What the table beside the image counts; that its shares are the run's: test_three_ways."""

from __future__ import annotations

import pytest

pytest.importorskip("psygnal", reason="the plugin needs napari: pip install '.[all]'")
from napari_islet_imaging.session import reshape
from napari_islet_imaging.session.corrected import corrected_cells
from napari_islet_imaging.session.shares import both_positive, image_row


def test_cells_of_both_markers_are_counted(session):
    session.open_image(session.image_names[0])
    table = session.table
    session.set_second("GCG")
    row = image_row(session, session.open.name)
    counted = table[~table["excluded"]]
    both = (counted["INS_call"] == "positive") & (counted["GCG_call"] == "positive")
    assert row.both.n == both.sum() > 0
    assert both_positive(table, "INS", "INS").n == (counted["INS_call"] == "positive").sum()


def test_decided_cells_are_listed_the_last_first(session):
    session.open_image(session.image_names[0])
    a, b, c = (int(x) for x in session.table["cell"][:3])
    first = str(session.row(a)["INS_call"])
    other = "negative" if first != "negative" else "positive"
    session.set_focus(a)
    session.call(other)
    session.set_focus(b)
    session.exclude()
    reshape.delete_cells(session, [c])
    session.set_focus(a)
    session.exclude()
    found = corrected_cells(session)
    assert [x.cell for x in found] == [a, c, b]
    assert found[0].what == f"INS {other}, was {first}; not counted"
    assert found[1].what == "painted out"
    assert {x.who for x in found} == {"ana"}
    session.undo()
    assert [x.cell for x in corrected_cells(session)] == [c, b, a]
    session.set_reviewer("bo")
    assert len(corrected_cells(session)) == 3
    session.set_blinded(True)  # what others said would sway
    assert corrected_cells(session) == []
