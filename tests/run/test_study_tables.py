"""Designs of a protocol as tables, and what the sample sheet says in every one of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from islet_imaging.errors import ProtocolError
from islet_imaging.protocol import Channel, Protocol, Statistics
from islet_imaging.run.rows import ImageRow
from islet_imaging.run.study_tables import comparisons, study_tables, with_sheet
from islet_imaging.statistics import Summary, summarise
from islet_imaging.statistics.comparison import COMPARISON_COLUMNS


def study(*, shift: float = 0.2) -> Summary:
    """Two conditions of the same four batches, of two lines; the dose is 0 and 10."""
    rng = np.random.default_rng(3)
    cells, sheet = [], []
    for k, batch in enumerate("abcd"):
        for condition, dose in (("control", "0"), ("drug", "10")):
            share = 0.3 + 0.02 * k + (shift if condition == "drug" else 0)
            for islet in range(3):
                image = f"{batch}{condition}{islet}"
                call = np.where(rng.random(120) < share, "positive", "negative")
                cells.append(
                    pd.DataFrame({"image": image, "islet": 1, "cell": np.arange(120) + 1,
                                  "excluded": False, "INS_call": call, "INS_probability": 0.5})
                )  # fmt: skip
                sheet.append(
                    {"file": image, "condition": condition, "batch": batch, "well": f"A{islet}",
                     "line": "H1" if k < 2 else "H9", "dose": dose}
                )  # fmt: skip
    return summarise(pd.concat(cells), pd.DataFrame(sheet), markers=["INS"])


def protocol(**asked: object) -> Protocol:
    channels = (Channel("DAPI", "dna"), Channel("INS"), Channel("GCG"))
    return Protocol.from_dict({**Protocol(channels=channels).to_dict(), "statistics": dict(asked)})


@pytest.fixture(scope="module")
def summary() -> Summary:
    return study()


def test_the_protocol_says_how_conditions_are_compared(summary: Summary) -> None:
    plain = comparisons(summary, protocol()).iloc[0]
    assert (plain["condition"], plain["reference"], plain["design"]) == (
        "drug",
        "control",
        "paired",
    )
    assert plain["p"] < 0.05
    turned = comparisons(summary, protocol(reference="drug")).iloc[0]
    assert turned["effect_pp"] == pytest.approx(-plain["effect_pp"])
    pair = comparisons(summary, protocol(contrasts=[["control", "drug"]])).iloc[0]
    assert pair["reference"] == "drug"
    apart = comparisons(summary, protocol(pairing="unpaired")).iloc[0]
    assert (apart["design"], apart["n_shared"]) == ("unpaired", 0)
    blocked = comparisons(summary, protocol(blocks=["line"])).iloc[0]
    assert blocked["design"] == "within line"
    lines = comparisons(summary, protocol(unit="line")).iloc[0]
    assert (lines["unit"], lines["n_units"]) == ("line", 2)
    same = comparisons(summary, protocol(equivalence_pp=50)).iloc[0]
    assert same["p_equivalence"] < 0.05


def test_a_trend_is_a_row_and_counts_in_holm(summary: Summary) -> None:
    table = comparisons(summary, protocol(trend="dose"))
    assert list(table.columns) == list(COMPARISON_COLUMNS)
    assert table["design"].tolist() == ["paired", "trend within batch"]
    difference, slope = table["effect_pp"]
    assert slope == pytest.approx(difference / 10)
    assert (table["p_holm"] >= table["p"]).all()
    assert (table["p_holm"] > table["p"]).any()


def test_what_cannot_be_compared_is_a_row_with_its_reason(summary: Summary) -> None:
    unknown = comparisons(summary, protocol(reference="placebo"))
    assert "placebo" in unknown["note"].iloc[0]
    missing = comparisons(summary, protocol(unit="donor"))
    assert "no column 'donor'" in missing["note"].iloc[0]
    wells = comparisons(summary, protocol(blocks=["well"]))
    assert "has no well in the sample sheet, or several" in wells["note"].iloc[0]
    assert wells["p"].isna().all()


def test_differences_are_corrected_where_cells_were_labelled(summary: Summary) -> None:
    corrected = pd.DataFrame(
        {"marker": ["INS"], "sensitivity": [0.9], "specificity": [0.9],
         "n_labelled_positive": [300], "n_labelled_negative": [300]}
    )  # fmt: skip
    row = comparisons(summary, protocol(), corrected).iloc[0]
    assert row["effect_corrected_pp"] == pytest.approx(row["effect_pp"] / 0.8)


def test_all_four_tables_also_without_a_cell(summary: Summary) -> None:
    full, none = study_tables(summary, protocol()), study_tables(None, protocol())
    assert set(full) == set(none) == {"comparisons", "composition", "variance", "levels"}
    assert all(len(t) == 0 for t in none.values())
    for name in ("comparisons", "composition", "variance"):
        assert list(none[name].columns) == list(full[name].columns)
    # three wells in each of four batches, by name three
    assert full["levels"]["n_wells"].tolist() == [12, 12]
    assert full["levels"]["n_lines"].tolist() == [2, 2]


def test_a_protocol_refuses_designs_that_mean_nothing() -> None:
    for wrong in (
        {"contrasts": [["drug"]]},
        {"reference": "control", "contrasts": [["drug", "control"]]},
        {"equivalence_pp": -5.0},
        {"pairing": "sometimes"},
        {"markers": ["SST"]},
        {"formula": "y ~ x"},
    ):
        with pytest.raises(ProtocolError):
            protocol(**wrong)
    kept = protocol(blocks=["line", "day"], contrasts=[["a", "b"]], unit="donor")
    assert Protocol.from_dict(kept.to_dict()) == kept
    assert kept.statistics == Statistics(
        blocks=("line", "day"), contrasts=(("a", "b"),), unit="donor"
    )


def test_the_sheet_reaches_every_table_under_names_of_its_own() -> None:
    rows = [
        ImageRow(image="a", condition="control", batch="d1", extra={"islet": "I7", "day": "21"}),
        ImageRow(image="b", condition="drug", batch="d2", extra={"day": "28"}),
    ]
    cells = pd.DataFrame({"image": ["b", "a", "a"], "islet": [1, 1, 0], "cell": [1, 1, 2]})
    table = with_sheet(cells, rows)
    assert list(table.columns) == [
        "image", "islet", "cell", "condition", "batch", "sheet_islet", "day",
    ]  # fmt: skip
    assert table["condition"].tolist() == ["drug", "control", "control"]
    assert table["islet"].tolist() == [1, 1, 0]
    assert table["sheet_islet"].tolist() == ["", "I7", "I7"]
    assert table["day"].tolist() == ["28", "21", "21"]
    assert "condition" not in with_sheet(cells, rows, place=False)
