"""Regions in the journal: written, read, exchanged pictures, lines that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from islet_imaging.reading.annotations import Outline
from islet_imaging.review.journal import Edit, Journal
from islet_imaging.review.regions import (
    exchanged_told,
    region_edit,
    regions_digest,
    regions_of,
    without_regions,
)

RING = np.array([[0.0, 0.0], [0.0, 9.5], [9.25, 9.5]])
A = Outline((RING, RING / 3), "A", "islet")
FOLD = Outline((RING + 4,), "fold", "left_out")


def test_the_last_that_was_not_undone_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "corrections.jsonl")
    first = journal.append(region_edit("ana", "a.tif", [A, FOLD], pixels=["p"]))
    call = journal.append(Edit("ana", "a.tif", "call", 1, 1.0, 1.0, "INS", "unsure", "positive"))
    last = journal.append(region_edit("bo", "a.tif", [FOLD], pixels=["p"]))
    assert [o.name for o in regions_of(journal.edits())["a.tif"]] == ["fold"]
    undo = journal.append(Edit("bo", "a.tif", "undo", undoes=last.id))
    found = regions_of(journal.edits())["a.tif"]
    assert regions_digest(found) == regions_digest([A, FOLD])
    assert without_regions(journal.edits()) == [call]
    journal.append(Edit("bo", "a.tif", "undo", undoes=undo.id))
    assert [o.name for o in regions_of(journal.edits())["a.tif"]] == ["fold"]
    assert without_regions(journal.edits()) == [call]
    journal.append(region_edit("ana", "a.tif", []))
    assert regions_of(journal.edits()) == {}
    assert first.pixels == ("p",)


def test_of_an_exchanged_picture_they_are_not_applied_and_it_is_told() -> None:
    edits = [region_edit("ana", "a.tif", [A], pixels=["p", "q"])]
    assert regions_of(edits, {"a.tif": ["p"]})["a.tif"][0].name == "A"
    assert regions_of(edits, {"a.tif": ["p", "x"]}) == {}
    assert exchanged_told(edits, {"a.tif": ["p", "x"]}) == (
        "regions not applied: the picture was exchanged since they were drawn (a.tif)",
    )
    assert exchanged_told(edits, {"a.tif": ["p"]}) == ()


@pytest.mark.parametrize(
    "after",
    [
        None, [], {"regions": {}}, {"regions": [{"name": "A", "kind": "islet", "rings": []}]},
        {"regions": [{"name": 3, "kind": "islet", "rings": [[[0, 0], [0, 9], [9, 9]]]}]},
        {"regions": [{"name": "A", "kind": "stroma", "rings": [[[0, 0], [0, 9], [9, 9]]]}]},
        {"regions": [{"name": "A", "kind": "islet", "rings": [[[0, 0], [0, 9]]]}]},
        {"regions": [{"name": "A", "kind": "islet", "rings": [[[0, 0], [0, "9"], [9, 9]]]}]},
    ],
)  # fmt: skip
def test_a_line_that_holds_no_regions_is_left_out_and_counted(
    tmp_path: Path, after: object
) -> None:
    journal = Journal(tmp_path / "corrections.jsonl")
    journal.append(region_edit("ana", "a.tif", [A]))
    line = json.loads(journal.path.read_text("utf-8"))
    with journal.path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({**line, "id": "other", "after": after}) + "\n")
    assert len(journal.edits()) == 1
    assert journal.damaged == (2,)
