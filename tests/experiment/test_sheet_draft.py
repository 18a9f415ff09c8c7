"""A draft never makes more independent batches than there are, and marks every guessed role."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from islet_imaging.experiment.sheet_draft import guess_role, sheet_text
from islet_imaging.reading.listing import ImageFiles


def drafted(*names: str) -> list[dict[str, str]]:
    text = sheet_text([ImageFiles(n, (Path(n),)) for n in names], None)
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    "wells",
    [("A02", "B02", "C03", "D03"), ("A1", "B1", "C1"), ("D03", "D04"), ("r02c03", "r03c03")],
)
def test_wells_are_repeats_within_one_batch(wells: tuple[str, ...]) -> None:
    rows = drafted(*(f"{w}/islet.tif" for w in wells))
    assert {r["batch"] for r in rows} == {"1"}
    assert {r["condition"] for r in rows} == {"all"}
    assert [r["well"] for r in rows] == list(wells)
    assert all("CHECK" in r["note"] for r in rows)


@pytest.mark.parametrize(
    "days", [("D14", "D21", "D28"), ("D14", "D21"), ("d7", "d9"), ("S6D14", "S6D21"),
             ("day 3", "day 10")],
)  # fmt: skip
def test_days_are_conditions_of_one_batch(days: tuple[str, ...]) -> None:
    rows = drafted(*(f"{d}/islet.tif" for d in days))
    assert {r["batch"] for r in rows} == {"1"}
    assert [r["condition"] for r in rows] == list(days) == [r["day"] for r in rows]
    assert all("CHECK batch" in r["note"] and "CHECK condition" in r["note"] for r in rows)


def test_batches_with_wells_and_positions_inside() -> None:
    rows = drafted("drug/batch1/B02/Pos0/a.tif", "drug/batch2/C02/Pos1/a.tif")
    assert [(r["condition"], r["batch"], r["well"]) for r in rows] == [
        ("drug", "batch1", "B02"), ("drug", "batch2", "C02")]  # fmt: skip


def test_fields_of_a_plate_and_scenes_are_no_conditions() -> None:
    rows = drafted("p.zarr/A/1/0", "p.zarr/B/2/0", "x.lif/Series 1")
    assert {(r["condition"], r["batch"]) for r in rows} == {("all", "1")}
    assert [r["well"] for r in rows] == ["A1", "B2", ""]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("CD49a_neg_fraction/a.tif", "sample"),
        ("GCG-neg.tif", "sample"),
        ("INS negative cells.tif", "sample"),
        ("2ary/a.tif", "negative_control"),
        ("2ary_only.tif", "negative_control"),
        ("secondary only.tif", "negative_control"),
        ("2nd_only_3.tif", "negative_control"),
        ("noPrimary.tif", "negative_control"),
        ("no 1ary/a.tif", "negative_control"),
        ("negctrl.tif", "negative_control"),
        ("neg_control_2.tif", "negative_control"),
        ("negative/a.tif", "negative_control"),
        ("isotype.tif", "negative_control"),
        ("unstained_1.tif", "negative_control"),
        ("positive control.tif", "positive_control"),
        ("single INS.tif", "single_stain:INS"),
        ("control/a.tif", "sample"),
    ],
)
def test_every_guessed_role_is_marked(name: str, role: str) -> None:
    notes: list[str] = []
    assert guess_role(name, ["INS"], notes) == role
    assert any("CHECK role" in n for n in notes)


@pytest.mark.parametrize(
    "name", ["islet_1.tif", "drug/batch1/x.tif", "vehicle/a.tif", "negev/a.tif"]
)
def test_plain_names_are_samples_without_a_mark(name: str) -> None:
    notes: list[str] = []
    assert guess_role(name, ["INS"], notes) == "sample"
    assert notes == []
