"""Corrections speak of pixels and of a nucleus; those that speak of others are told."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.review.journal import FORMAT, Edit, Journal, JournalError, effective
from islet_imaging.review.replay import apply_corrections
from islet_imaging.review.subject import nucleus_mark
from tests.mutations import mutated


def table(*places: tuple[float, float], area: float = 40.0) -> pd.DataFrame:
    n = len(places)
    return pd.DataFrame(
        {
            "image": "a.tif",
            "cell": np.arange(1, n + 1),
            "y_px": [float(y) for y, _ in places],
            "x_px": [float(x) for _, x in places],
            "nucleus_area_um2": area,
            "INS_probability": 0.4,
            "INS_call": "unsure",
            "excluded": False,
            "flags": "",
        }
    )


def call(y: float, x: float, after: str, *, cell: int = 1, area: float = 40.0, **more) -> Edit:
    mark = nucleus_mark(y, x, area)
    return Edit("ana", "a.tif", "call", cell, y, x, "INS", "unsure", after, nucleus=mark, **more)


def calls(found) -> list[str]:
    return found.cells["INS_call"].tolist()


def test_edits_of_two_nuclei_that_became_one_are_a_conflict_where_they_disagree():
    merged = table((10, 12), (60, 60), (60, 90))
    found = apply_corrections(merged, [call(10, 10, "positive"), call(10, 14, "negative", cell=2)])
    assert calls(found)[0] == "unsure"
    assert found.cells["INS_probability"][0] == 0.4
    assert {k: v for k, v in found.counts().items() if v} == {"conflicts": 2}
    assert "disagree" in found.told()[0]
    assert "a.tif cell 1, a.tif cell 2" in found.told()[0]


def test_edits_of_two_nuclei_that_agree_are_no_conflict():
    merged = table((10, 12), (60, 60), (60, 90))
    found = apply_corrections(merged, [call(10, 10, "positive"), call(10, 14, "positive", cell=2)])
    assert calls(found)[0] == "positive"
    assert (len(found.conflicts), len(found.moved)) == (0, 2)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_look_at_the_nucleus_as_it_is_settles_a_conflict(at):
    merged = table((10, 12), (60, 60), (60, 90))
    edits = [call(10, 10, "positive"), call(10, 14, "negative", cell=2)]
    edits.insert(at, call(10, 12, "negative"))
    found = apply_corrections(merged, edits)
    assert calls(found)[0] == "negative"
    # what disagrees and came later is still named
    assert len(found.conflicts) == sum(e.after == "positive" for e in edits[at:])


def test_the_same_nucleus_may_be_called_twice_by_two_people():
    edits = [call(10, 12, "positive"), call(10, 12, "negative")]
    found = apply_corrections(table((10, 12), (60, 60)), edits)
    assert calls(found)[0] == "negative"
    assert not found.not_applied


def test_a_nucleus_found_anew_is_corrected_by_place_and_that_is_counted():
    found = apply_corrections(table((11, 12), (60, 60)), [call(10, 12, "positive")])
    assert calls(found)[0] == "positive"
    assert found.counts()["moved"] == 1


def test_an_edit_of_another_picture_is_not_applied():
    edits = [call(10, 12, "positive", pixels=("aa", "bb"))]
    cells = table((10, 12), (60, 60))
    for now, applied in ((["aa", "bb"], True), (["aa"], True), (["aa", "bb", "cc"], True),
                         (["aa", "dd"], False), (["dd"], False), ([], True)):  # fmt: skip
        found = apply_corrections(cells, edits, pixels={"a.tif": now})
        assert (calls(found)[0] == "positive") is applied, now
        assert len(found.other_pixels) == (not applied)


def test_edits_of_an_older_journal_are_counted():
    cells = table((10, 12), (60, 60))
    found = apply_corrections(cells, [call(10, 12, "positive")], pixels={"a.tif": ["aa"]})
    assert calls(found)[0] == "positive"
    assert {k: v for k, v in found.counts().items() if v} == {"unproven": 1}


def test_lines_state_their_format_and_old_ones_are_read(tmp_path: Path):
    journal = Journal(tmp_path / "corrections.jsonl")
    edit = journal.append(call(10, 12, "positive", pixels=("aa",)))
    line = json.loads(journal.path.read_text())
    assert line["format"] == FORMAT
    assert Journal(journal.path).edits() == [edit]
    for name in ("format", "pixels", "nucleus"):
        del line[name]
    journal.path.write_text(json.dumps(line) + "\n")
    (old,) = Journal(journal.path).edits()
    assert (old.cell, old.pixels, old.nucleus) == (1, (), "")
    journal.path.write_text(json.dumps({**line, "format": FORMAT + 1}) + "\n")
    with pytest.raises(JournalError, match="update"):
        Journal(journal.path).edits()


@pytest.mark.parametrize(
    "change",
    [
        {"cell": "3"}, {"cell": -1}, {"cell": True}, {"cell": 2**40}, {"y_px": "far"},
        {"y_px": float("nan")}, {"x_px": 1e999}, {"who": None}, {"image": 7}, {"marker": []},
        {"after": "maybe"}, {"id": ""}, {"time": 5}, {"pixels": "aa"}, {"format": "two"},
        {"action": "exclude", "after": "yes"}, {"action": "shape", "after": 3},
        {"action": "shape", "after": [{"cell": 1, "mask": {"box": [0, 0, 1, 10**9], "runs": []}}]},
        {"action": "shape", "after": [{"cell": 1, "mask": {"box": [0, 0, 2, 2], "runs": [9]}}]},
        {"action": "undo", "undoes": 4},
    ],
)  # fmt: skip
def test_a_wrongly_typed_line_is_damage_not_a_traceback(tmp_path: Path, change: dict):
    record = json.loads(call(10, 12, "positive").to_line())
    journal = Journal(tmp_path / "corrections.jsonl")
    journal.path.write_text(json.dumps({**record, **change}) + "\n")
    assert journal.edits() == []
    assert journal.damaged == (1,)


@given(seed=st.integers(0, 2**32), n=st.integers(1, 12))
@settings(max_examples=150)
def test_a_mutated_journal_is_replayed_or_named(tmp_path: Path, seed: int, n: int):
    lines = [call(10, 12, "positive").to_line(), call(60, 60, "negative", cell=2).to_line()]
    shape = {"cell": 2, "mask": {"box": [58, 58, 2, 2], "runs": [0, 4]}, "row": {"y_px": 59.0}}
    lines.append(
        Edit("bo", "a.tif", "shape", 2, 60.0, 60.0, before=[shape], after=[shape]).to_line()
    )
    path = tmp_path / "corrections.jsonl"
    path.write_bytes(mutated("\n".join(lines).encode() + b"\n", seed, n))
    with contextlib.suppress(JournalError):
        journal = Journal(path)
        edits = journal.edits()
        cells = table((10, 12), (60, 60), (60, 90))
        found = apply_corrections(cells, edits, labels={"a.tif": np.ones((99, 99), np.int32)})
        assert len(found.cells) >= 3
        effective(edits)


def test_thousands_of_undos_of_undos_do_not_end_it():
    edits = [call(10, 12, "positive")]
    for _ in range(5000):
        edits.append(Edit("ana", "a.tif", "undo", undoes=edits[-1].id))
    assert effective(edits) == [edits[0]]
    assert effective(edits[:-1]) == []
