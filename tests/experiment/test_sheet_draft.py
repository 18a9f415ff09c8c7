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
    [
        ("A02", "B02", "C03", "D03"),
        ("A1", "B1", "C1"),
        ("D03", "D04"),
        ("r02c03", "r03c03"),
        ("001001", "002002"),
        ("AA01", "AB02"),
        ("Loch 1", "Loch 2"),
        ("puits1", "puits2"),
    ],
)
def test_wells_are_repeats_within_one_batch(wells: tuple[str, ...]) -> None:
    rows = drafted(*(f"{w}/islet.tif" for w in wells))
    assert {r["batch"] for r in rows} == {"1"}
    assert {r["condition"] for r in rows} == {"all"}
    assert [r["well"] for r in rows] == list(wells)
    assert all("CHECK" in r["note"] for r in rows)


@pytest.mark.parametrize(
    "days", [("D14", "D21", "D28"), ("D14", "D21"), ("d7", "d9"), ("S6D14", "S6D21"),
             ("day 3", "day 10"), ("J14", "J21"), ("día 14", "día 21"), ("giorno14", "giorno21"),
             ("14d", "21d"), ("Woche 3", "Woche 4"), ("24h", "48h"), ("第14天", "第21天"),
             ("S5", "S6"), ("day14_post", "day21_post")],
)  # fmt: skip
def test_days_are_conditions_of_one_batch(days: tuple[str, ...]) -> None:
    rows = drafted(*(f"{d}/islet.tif" for d in days))
    assert {r["batch"] for r in rows} == {"1"}
    assert [r["condition"] for r in rows] == list(days) == [r["day"] for r in rows]
    assert all("CHECK batch" in r["note"] and "CHECK condition" in r["note"] for r in rows)


@pytest.mark.parametrize(
    "batches", [("Spender 1", "Spender 2"), ("donneur1", "donneur2"), ("Versuch 1", "Versuch 2"),
                ("lote1", "lote2"), ("BatchA", "BatchB"), ("batch I", "batch II")],
)  # fmt: skip
def test_batches_in_other_words(batches: tuple[str, ...]) -> None:
    rows = drafted(*(f"drug/{b}/islet.tif" for b in batches))
    assert [r["batch"] for r in rows] == list(batches)
    assert {r["condition"] for r in rows} == {"drug"}


@pytest.mark.parametrize(
    "names", [("rep1", "rep2"), ("N=1", "N=2"), ("n1", "n2"), ("Wiederholung 1", "Wiederholung 2"),
              ("01.05.2023", "08.05.2023"), ("2023_05_01", "2023_05_08"), ("1May2023", "8May2023"),
              ("20230501_101500", "20230508_101500")],
)  # fmt: skip
def test_repeats_and_dates_are_batches_to_check(names: tuple[str, ...]) -> None:
    rows = drafted(*(f"{n}/islet.tif" for n in names))
    assert [r["batch"] for r in rows] == list(names)
    assert all("CHECK batch: is each" in r["note"] for r in rows)


def test_a_date_leaves_the_condition_behind_it() -> None:
    rows = drafted("2023-05-01_drug/a.tif", "2023-05-01_vehicle/a.tif", "2023-05-08_drug/a.tif")
    assert [(r["condition"], r["batch"]) for r in rows] == [
        ("drug", "2023-05-01"), ("vehicle", "2023-05-01"), ("drug", "2023-05-08")]  # fmt: skip


@pytest.mark.parametrize(
    "names", [("islet1", "islet2"), ("Insel 1", "Insel 2"), ("organoid1", "organoid2"),
              ("slide1", "slide2"), ("Plate1", "Plate2"), ("Schnitt 1", "Schnitt 2"),
              ("techrep1", "techrep2"), ("technical replicate 1", "technical replicate 2")],
)  # fmt: skip
def test_parts_of_a_batch_are_neither_conditions_nor_batches(names: tuple[str, ...]) -> None:
    rows = drafted(*(f"{n}/islet.tif" for n in names))
    assert {(r["condition"], r["batch"]) for r in rows} == {("all", "1")}
    assert all("is taken for a part of one batch" in r["note"] for r in rows)


@pytest.mark.parametrize(
    ("names", "perhaps"),
    [(("1", "2", "3"), "repeats"), (("Gruppe1", "Gruppe2"), "repeats"), (("H1", "H9"), "wells"),
     (("H1", "HUES8", "iPSC-1016"), ""), (("p35", "p41"), "batches")],
)  # fmt: skip
def test_numbered_folders_are_conditions_to_check(names: tuple[str, ...], perhaps: str) -> None:
    rows = drafted(*(f"{n}/islet.tif" for n in names))
    assert [r["condition"] for r in rows] == list(names)
    assert {r["batch"] for r in rows} == {"1"}
    if perhaps:
        assert all("CHECK condition: or are these " + perhaps in r["note"] for r in rows)


def test_rows_and_columns_of_a_plate_in_folders() -> None:
    rows = drafted("A/1/x.tif", "A/2/x.tif", "B/1/x.tif")
    assert [r["well"] for r in rows] == ["A1", "A2", "B1"]
    assert {(r["condition"], r["batch"]) for r in rows} == {("all", "1")}


def test_days_and_wells_in_names_of_files() -> None:
    rows = drafted("H1_D14_01.tif", "H1_D21_01.tif")
    assert [(r["condition"], r["day"]) for r in rows] == [("D14", "D14"), ("D21", "D21")]
    assert all("CHECK condition" in r["note"] for r in rows)
    for names in (("x_D02_1.tif", "x_D03_1.tif"), ("D5--W00041--P0", "D6--W00042--P0")):
        rows = drafted(*names)
        assert {r["condition"] for r in rows} == {"all"}
        assert all(r["well"].startswith("D") for r in rows)


def test_time_points_of_a_field_are_conditions() -> None:
    rows = drafted(*(f"x/islet{i}_t00{t}.ome.tif" for i in (1, 2) for t in (1, 2)))
    assert [r["condition"] for r in rows] == ["x/t001", "x/t002"] * 2
    rows = drafted(*(f"TimePoint_{t}/p_B02_s{s}" for t in (1, 2) for s in (1, 2)))
    assert [r["condition"] for r in rows] == ["TimePoint_1"] * 2 + ["TimePoint_2"] * 2
    # other names with a t are no times of one field
    assert {r["condition"] for r in drafted("a_t1.tif", "b_t2.tif", "c_t3.tif")} == {"all"}


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
        ("Negativkontrolle.tif", "negative_control"),
        ("contrôle négatif.ome.tif", "negative_control"),
        ("control negativo 2.tif", "negative_control"),
        ("Ctrl_neg.tif", "negative_control"),
        ("Sekundärantikörper.tif", "negative_control"),
        ("ohne Primär/a.tif", "negative_control"),
        ("sans primaire.tif", "negative_control"),
        ("nur DAPI.tif", "negative_control"),
        ("DAPI only.tif", "negative_control"),
        ("ungefärbt.tif", "negative_control"),
        ("FMO INS.tif", "negative_control:INS"),
        ("INS only.tif", "single_stain:INS"),
        ("Einzelfärbung INS.tif", "single_stain:INS"),
        ("control positivo.tif", "positive_control"),
        ("AF488 only.tif", "sample"),
        ("NC_1.tif", "sample"),
        ("témoin/a.tif", "sample"),
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
