"""What stands beside a share: warnings of the images that it rests on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from islet_imaging.quality import Flag
from islet_imaging.run.rows import ImageRow
from islet_imaging.run.summary_notes import (
    note_double_positives,
    note_flagged_images,
    note_guesses,
)
from islet_imaging.statistics import summarise


def flags(*found: tuple[str, str, str | None]) -> tuple[Flag, ...]:
    return tuple(Flag(code, severity, "", channel) for code, severity, channel in found)  # type: ignore[arg-type]


def test_warnings_of_images_stand_beside_the_shares_that_rest_on_them() -> None:
    clipped = flags(("saturated", "warning", "INS"), ("painted_out", "info", "INS"))
    rows = [
        ImageRow(image="a", condition="x", flags=clipped),
        ImageRow(image="b", condition="x", flags=clipped + flags(("lossy", "warning", None))),
        ImageRow(image="c", condition="y", flags=flags(("out_of_focus", "warning", "DAPI"))),
        ImageRow(image="d", condition="y", status="skipped", flags=clipped),
        ImageRow(image="n", role="negative_control", flags=flags(("lossy", "warning", None))),
    ]
    table = pd.DataFrame(
        [(c, m, "") for c in "xyz" for m in ("INS", "GCG")], columns=["condition", "marker", "note"]
    )
    table.loc[0, "note"] = "said before"
    noted = note_flagged_images(table, rows, "DAPI").set_index(["condition", "marker"])["note"]
    of_control = "negative controls with a warning: compressed with loss (n)"
    assert noted["x", "INS"] == (
        "said before; images with a warning: brighter than the camera could record (all 2), "
        f"compressed with loss (b); {of_control}"
    )
    assert noted["x", "GCG"] == f"images with a warning: compressed with loss (b); {of_control}"
    assert noted["y", "GCG"] == f"images with a warning: out of focus (c); {of_control}"
    assert noted["z", "INS"] == ""


@pytest.mark.parametrize(("shared", "named"), [(30, {"GCG"}), (15, set())])
def test_cells_of_one_hormone_that_are_mostly_another_one_too_are_named(
    shared: int, named: set[str]
) -> None:
    n = np.arange(200)
    cells = pd.DataFrame({"image": "a", "excluded": False, "islet": 1, "cell": n + 1})
    # 40 of insulin; the first of 100 glucagon cells are among them
    ins, gcg = n < 40, (n >= 40 - shared) & (n < 140 - shared)
    for marker, lit in (("INS", ins), ("GCG", gcg)):
        cells[f"{marker}_call"] = np.where(lit, "positive", "negative")
        cells[f"{marker}_probability"] = lit.astype(float)
    names = np.array(["negative", "INS+", "GCG+", "INS+/GCG+"])
    cells["phenotype"] = names[ins + 2 * gcg]
    sheet = pd.DataFrame([{"file": "a", "condition": "x"}])
    summary = summarise(cells, sheet, markers=("INS", "GCG"))
    noted = note_double_positives(summary, ("INS", "GCG", "C-peptide"))
    notes = noted.conditions.set_index("marker")["note"]
    assert {m for m in notes.index if "% of the INS+ cells are GCG+ too" in notes[m]} == named
    assert "75 % of the INS+" in notes["GCG"] or not named
    assert "GCG+ cells" not in notes["INS"]


def test_what_a_draft_guessed_is_said_while_nobody_confirmed_it() -> None:
    cells = pd.DataFrame({"image": ["a", "b"], "excluded": False, "islet": 1, "cell": 1})
    cells = cells.assign(INS_call="positive", INS_probability=1.0)
    sheet = pd.DataFrame({"file": ["a", "b"], "condition": "x", "batch": ["B02", "B03"]})
    summary = summarise(cells, sheet, markers=("INS",))
    row = ImageRow(image="a", condition="x", batch="B02", role="sample")
    assert note_guesses(summary, [row]).conditions["note"].equals(summary.conditions["note"])
    asked = "CHECK batch: or is this a well?; CHECK role: guessed from the name"
    rows = [ImageRow(image=i, condition="x", batch=f"B0{k}", extra={"note": asked})
            for k, i in enumerate("abcde")]  # fmt: skip
    note = note_guesses(summary, rows).conditions["note"].iloc[0]
    end = "guessed from names and still marked CHECK in the sample sheet"
    assert f"roles {end}: a (sample), b (sample), c (sample) and 2 more" in note
    assert f"batches, on which n and intervals rest, {end}: B00, B01, B02 and 2 more" in note
    assert "conditions" not in note
