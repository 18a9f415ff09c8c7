from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.arrays.text_masks import decode_mask, encode_mask
from islet_imaging.review.journal import Edit, Journal, JournalError, effective, merge_journals
from islet_imaging.review.replay import Replay, apply_corrections
from islet_imaging.review.reviewers import corrections_summary, reviewer_agreement


def _cells(n=6, image="a.tif"):
    return pd.DataFrame(
        {
            "image": image,
            "cell": np.arange(1, n + 1),
            "y_px": 10.0 * np.arange(n),
            "x_px": 5.0,
            "INS_probability": 0.4,
            "INS_call": "unsure",
            "INS_reason": "near threshold",
            "excluded": False,
            "flags": "",
        }
    )


def _call(cell, after, *, who="ana", y=None, before="unsure", image="a.tif", **more):
    y = 10.0 * (cell - 1) if y is None else y
    return Edit(who, image, "call", cell, y, 5.0, "INS", before, after, **more)


# ------------------------------------------------------------ the journal


def test_what_was_appended_is_read_back_in_order(tmp_path):
    journal = Journal(tmp_path / "corrections.jsonl")
    edits = [journal.append(_call(k, "positive")) for k in range(1, 6)]
    assert Journal(journal.path).edits() == edits
    assert len(journal.path.read_bytes().splitlines()) == 5


def test_no_journal_is_an_empty_one(tmp_path):
    assert Journal(tmp_path / "corrections.jsonl").edits() == []


@pytest.mark.parametrize("cut", [1, 5, 40, 120])
def test_a_torn_last_line_costs_only_itself(tmp_path, cut):
    journal = Journal(tmp_path / "corrections.jsonl")
    kept = journal.append(_call(1, "positive"))
    journal.append(_call(2, "positive"))
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-cut] if cut > 1 else whole[:-1])
    after = journal.append(_call(3, "negative"))
    found = journal.edits()
    assert found[0] == kept
    assert found[-1] == after
    # only the line break torn off: the edit itself is whole
    assert len(found) == (3 if cut == 1 else 2)
    assert journal.damaged == (() if cut == 1 else (2,))


def test_rubbish_between_lines_is_named_not_fatal(tmp_path):
    journal = Journal(tmp_path / "corrections.jsonl")
    first = journal.append(_call(1, "positive"))
    with journal.path.open("ab") as stream:
        stream.write(b"\xff\xfe not json\n[1, 2]\n")
    last = journal.append(_call(2, "negative"))
    assert journal.edits() == [first, last]
    assert journal.damaged == (2, 3)


def test_fields_of_a_newer_version_are_ignored_but_not_its_actions(tmp_path):
    journal = Journal(tmp_path / "corrections.jsonl")
    record = {**json.loads(_call(1, "positive").to_line()), "mood": "good"}
    journal.path.write_text(json.dumps(record) + "\n")
    assert journal.edits()[0].cell == 1
    journal.path.write_text(json.dumps({**record, "action": "teleport"}) + "\n")
    with pytest.raises(JournalError, match="newer version"):
        journal.edits()


def test_a_full_disk_is_an_error_that_says_so(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    link = tmp_path / "corrections.jsonl"
    link.symlink_to("/dev/full")
    with pytest.raises(JournalError, match="could not be saved"):
        Journal(link).append(_call(1, "positive"))


_WRITER = """
import sys
from islet_imaging.review.journal import Edit, Journal
journal = Journal(sys.argv[1])
for k in range(100_000):
    journal.append(Edit("ana", "a.tif", "call", k, 0.0, 0.0, "INS", "unsure", "positive"))
    print(k, flush=True)
"""


def test_kill_9_loses_no_edit_that_was_shown(tmp_path):
    path = tmp_path / "corrections.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    shown = [int(process.stdout.readline()) for _ in range(40)]
    os.kill(process.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    shown += [int(line) for line in process.stdout.read().splitlines() if line.strip().isdigit()]
    process.wait()
    process.stdout.close()
    kept = [e.cell for e in Journal(path).edits()]
    assert kept[: len(shown)] == shown
    Journal(path).append(_call(1, "negative"))
    assert len(Journal(path).edits()) == len(kept) + 1


def test_two_writers_do_not_tear_each_other(tmp_path):
    path = tmp_path / "corrections.jsonl"
    code = _WRITER.replace("100_000", "60")
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [p.wait(timeout=60) for p in both] == [0, 0]
    journal = Journal(path)
    assert len(journal.edits()) == 120
    assert journal.damaged == ()


# ------------------------------------------------------------ undo


def test_undo_is_a_further_line_and_can_be_undone():
    call = _call(1, "positive")
    undo = Edit("ana", "a.tif", "undo", undoes=call.id)
    redo = Edit("ana", "a.tif", "undo", undoes=undo.id)
    assert effective([call]) == [call]
    assert effective([call, undo]) == []
    assert effective([call, undo, redo]) == [call]


def test_undos_in_a_circle_do_not_hang():
    a = Edit("ana", "a.tif", "undo", undoes="b", id="a")
    b = Edit("ana", "a.tif", "undo", undoes="a", id="b")
    assert effective([a, b]) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=25))
def test_undoing_everything_gives_the_raw_table(steps):
    cells = _cells(4)
    edits = [_call(step + 1, ["positive", "negative", "unsure"][step % 3]) for step in steps]
    edits += [Edit("ana", "a.tif", "undo", undoes=e.id) for e in reversed(list(edits))]
    found = apply_corrections(cells, edits).cells
    assert (found["INS_call_before"] == found["INS_call"]).all()
    found = found.drop(columns=["corrected_by", "INS_call_before"])
    pd.testing.assert_frame_equal(found, cells)


# ------------------------------------------------------------ replay


def test_calls_change_call_probability_reason_and_say_by_whom():
    found = apply_corrections(_cells(), [_call(2, "positive"), _call(3, "negative")]).cells
    assert found["INS_call"].tolist()[:3] == ["unsure", "positive", "negative"]
    assert found["INS_probability"].tolist()[:3] == [0.4, 1.0, 0.0]
    assert found["corrected_by"].tolist()[:3] == ["", "ana", "ana"]


def test_the_later_edit_wins_and_the_input_is_untouched():
    cells = _cells()
    found = apply_corrections(cells, [_call(2, "positive"), _call(2, "negative", who="bo")]).cells
    assert found.loc[1, ["INS_call", "corrected_by"]].tolist() == ["negative", "bo"]
    assert "corrected_by" not in cells
    assert (cells["INS_call"] == "unsure").all()


def test_exclusion_goes_in_and_out_with_its_flag():
    out = Edit("ana", "a.tif", "exclude", 2, 10.0, 5.0, "", False, True)
    back = Edit("ana", "a.tif", "exclude", 2, 10.0, 5.0, "", True, False)
    cells = _cells()
    cells.loc[1, "flags"] = "saturated"
    found = apply_corrections(cells, [out]).cells
    assert found.loc[1, ["excluded", "flags"]].tolist() == [True, "saturated;by_hand"]
    found = apply_corrections(cells, [out, back]).cells
    assert found.loc[1, ["excluded", "flags"]].tolist() == [False, "saturated"]


@settings(max_examples=30, deadline=None)
@given(st.permutations(list(range(8))), st.floats(-1.5, 1.5), st.integers(1, 500))
def test_edits_find_their_cells_after_rescoring(order, shift, offset):
    """New labels in another order, centroids a little elsewhere."""
    edits = [_call(2, "positive"), _call(7, "negative")]
    rescored = _cells(8)
    rescored["y_px"] += shift
    rescored = rescored.iloc[list(order)].reset_index(drop=True)
    rescored["cell"] = np.arange(8) + offset
    found = apply_corrections(rescored, edits)
    assert not found.unmatched
    table = found.cells.assign(place=lambda t: np.rint((t["y_px"] - shift) / 10).astype(int))
    calls = table.set_index("place")["INS_call"]
    assert calls[1] == "positive"
    assert calls[6] == "negative"
    assert (calls.drop([1, 6]) == "unsure").all()


def test_an_edit_without_its_cell_is_reported_not_given_to_a_neighbour():
    lost, other = _call(3, "positive"), _call(1, "positive", image="gone.tif")
    cells = _cells().drop(index=2)
    found = apply_corrections(cells, [lost, other])
    assert found.unmatched == [lost, other]
    assert (found.cells["INS_call"] == "unsure").all()


# ------------------------------------------------------------ outlines


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**20), st.data())
def test_masks_survive_the_journal(height, width, seed, data):
    mask = np.random.default_rng(seed).random((height, width)) < data.draw(st.floats(0.05, 1))
    encoded = json.loads(json.dumps(encode_mask(mask, origin=(7, 11))))
    region, found = decode_mask(encoded)
    whole = np.zeros((height + 20, width + 30), bool)
    whole[region] |= found
    expected = np.zeros_like(whole)
    expected[7 : 7 + height, 11 : 11 + width] = mask
    assert (whole == expected).all()


def _labels():
    labels = np.zeros((70, 12), np.int32)
    for k in range(6):
        labels[max(10 * k - 3, 0) : 10 * k + 4, 2:9] = k + 1
    return labels


def _shape(cell, mask, **row):
    return {"cell": cell, "mask": encode_mask(mask), "row": {"cell": cell, **row}}


def _split(labels, cell=3):
    old = labels == cell
    upper, lower = old.copy(), old.copy()
    upper[20:] = False
    lower[:21] = False
    before = [_shape(cell, old, y_px=20.0, x_px=5.0)]
    after = [
        _shape(cell, upper, y_px=18.0, x_px=5.0, INS_call="negative", INS_probability=0.01),
        _shape(99, lower, y_px=22.0, x_px=5.0, INS_call="positive", INS_probability=0.99),
    ]
    return Edit("ana", "a.tif", "shape", cell, 20.0, 5.0, before=before, after=after)


def test_a_split_gives_two_rows_and_two_labels():
    labels, cells = _labels(), _cells()
    replay = Replay(cells, labels)
    assert replay.apply(_split(labels))
    assert set(np.unique(replay.labels)) == {0, 1, 2, 3, 4, 5, 6, 99}
    table = replay.cells.set_index("cell")
    assert table.loc[3, "INS_call"] == "negative"
    assert table.loc[99, ["INS_call", "image", "excluded"]].tolist() == ["positive", "a.tif", False]
    assert table.dtypes["excluded"].kind == "b"
    assert len(cells) == 6


def test_a_split_survives_rescoring_with_other_labels():
    labels = _labels()
    edit = _split(labels)
    renamed = labels.copy()
    for old, new in ((3, 41), (1, 3), (2, 99)):
        renamed[labels == old] = new
    cells = _cells()
    cells["cell"] = [3, 99, 41, 4, 5, 6]
    replay = Replay(cells, renamed)
    assert replay.apply(edit)
    now = {int(v) for v in np.unique(replay.labels)} - {0}
    assert {3, 99, 41, 4, 5, 6} < now  # the half that is new got a label that was free
    (fresh,) = now - {3, 99, 41, 4, 5, 6}
    assert fresh in set(replay.cells["cell"])
    assert (replay.labels == 99).sum() == (labels == 2).sum()


def test_a_call_after_a_split_goes_to_the_half_it_was_made_on():
    labels = _labels()
    edits = [_split(labels), _call(99, "unsure", y=22.0, before="positive")]
    found = apply_corrections(_cells(), edits).cells.set_index("cell")
    assert found.loc[99, "INS_call"] == "unsure"
    assert found.loc[3, "INS_call"] == "negative"


def test_a_deleted_nucleus_stays_in_the_table_as_excluded():
    labels = _labels()
    before = [_shape(4, labels == 4, y_px=30.0, x_px=5.0)]
    edit = Edit("ana", "a.tif", "shape", 4, 30.0, 5.0, before=before, after=[])
    replay = Replay(_cells(), labels)
    assert replay.apply(edit)
    assert not (replay.labels == 4).any()
    row = replay.cells.set_index("cell").loc[4]
    assert row["excluded"]
    assert row["flags"] == "painted_out"
    # and is not found again by a later edit at its place
    assert not replay.apply(_call(4, "positive"))


# ------------------------------------------------------------ people


def test_two_journals_merge_each_edit_once():
    a, b = (
        _call(1, "positive", time="2026-01-02"),
        _call(2, "negative", who="bo", time="2026-01-01"),
    )
    assert merge_journals([a], [b, a]) == [b, a]


def test_agreement_by_hand():
    edits = []
    for k, (x, y) in enumerate(
        [("positive", "positive")] * 4 + [("negative", "negative")] * 3 + [("positive", "negative")]
    ):
        edits += [_call(k, x), _call(k, y, who="bo")]
    edits.append(_call(50, "positive"))  # only one of them
    edits.append(Edit("bo", "a.tif", "undo", undoes=_call(51, "negative").id))
    found = reviewer_agreement(edits, "ana", "bo")
    assert (found.n_both, found.n_agree) == (8, 7)
    # observed 7/8; chance (5*4 + 3*4) / 64 = 0.5
    assert found.kappa == pytest.approx(0.75)
    assert found.disagreements[["cell", "a", "b"]].to_numpy().tolist() == [
        [7, "positive", "negative"]
    ]
    assert np.isnan(reviewer_agreement(edits, "ana", "cy").fraction)


def test_summary_counts_changes_confirmations_and_undone():
    undone = _call(4, "positive")
    edits = [
        _call(1, "positive"),
        _call(1, "negative"),
        _call(2, "unsure"),
        undone,
        Edit("ana", "a.tif", "undo", undoes=undone.id),
        Edit("ana", "a.tif", "exclude", 5, 40.0, 5.0, "", False, True),
        _call(3, "negative", who="bo"),
    ]
    found = corrections_summary(edits).set_index(["who", "marker"])
    assert found.loc[("ana", "INS"), ["n_changed", "n_confirmed", "n_undone"]].tolist() == [1, 1, 1]
    assert found.loc[("ana", ""), "n_excluded"] == 1
    assert found.loc[("bo", "INS"), "n_changed"] == 1


def test_a_thousand_edits_replay_quickly():
    cells = _cells(1000)
    edits = [_call(k % 1000 + 1, "positive") for k in range(1000)]
    start = time.perf_counter()
    found = apply_corrections(cells, edits).cells
    assert (found["INS_call"] == "positive").all()
    # a wide limit: this only guards against doing something per cell and edit
    assert time.perf_counter() - start < 30


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a disk that is full")
def test_a_correction_onto_a_full_disk_is_a_sentence(tmp_path):
    path = tmp_path / "corrections.jsonl"
    path.symlink_to("/dev/full")
    edit = Edit("ana", "a.tif", "call", 1, 0.0, 5.0, "INS", "unsure", "positive")
    with pytest.raises(JournalError, match=r"No space left on device.*It was not applied"):
        Journal(path).append(edit)
