"""The methods paragraph: every sentence agrees with what the run did, and none speaks of more."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from islet_imaging.protocol import Acquisition, Islets, Protocol, Reading, Statistics
from islet_imaging.report import ReportData
from islet_imaging.report.methods import methods_paragraph
from islet_imaging.statistics import ErrorRates, compare_conditions, trend

from .example import report_data


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data()


def batches(*, shared: int = 4, markers: tuple[str, ...] = ("INS",)) -> pd.DataFrame:
    """Four batches under each of two conditions, ``shared`` of them the same, of two lines."""
    rows = []
    for marker in markers:
        for condition, base in (("control", 0.3), ("drug", 0.5)):
            for k in range(4):
                same = k < shared
                rows.append(
                    {"condition": condition, "batch": f"d{k}" if same else f"{condition}{k}",
                     "marker": marker, "n_cells": 1000, "fraction": base + 0.03 * k,
                     "line": "H1" if k < 2 else "H9", "day": k}
                )  # fmt: skip
    return pd.DataFrame(rows)


def told(data: ReportData, comparisons: pd.DataFrame | None = None, **statistics: object) -> str:
    asked = data.protocol.replace(statistics=Statistics(**statistics))  # type: ignore[arg-type]
    return methods_paragraph(dataclasses.replace(data, protocol=asked, comparisons=comparisons))


def test_the_test_is_named_as_it_was_made(data: ReportData) -> None:
    none = told(data)
    for word in ("compared", "Holm", "MOVER", "trend", "Equivalence", "exact"):
        assert word not in none
    paired = told(data, compare_conditions(batches()))
    assert "difference of their mean fractions (paired)" in paired
    assert "MOVER; Zou and Donner, 2008" in paired
    assert "at least as wide as that of the t test of paired data" in paired
    assert "exact sign-flip test" in paired
    assert "two-sided" in paired
    unpaired = told(data, compare_conditions(batches(shared=0)))
    assert "mean fractions (unpaired)" in unpaired
    assert "t test of paired data" not in unpaired
    assert "exact permutation test" in unpaired
    partly = told(data, compare_conditions(batches(shared=3)))
    assert "(partly paired)" in partly
    assert "t test of paired data" in partly
    assert "exact" not in partly
    lines = told(data, compare_conditions(batches(), blocks=["line"]), blocks=("line",))
    assert "(within line)" in lines


def test_holm_counts_the_tests_that_were_made(data: ReportData) -> None:
    assert "Holm" not in told(data, compare_conditions(batches()))
    two = compare_conditions(batches(markers=("INS", "GCG")))
    assert "p values were corrected for 2 tests after Holm (1979)" in told(data, two)
    # a row that was refused is no test
    two.loc[1, ["p", "p_holm"]] = np.nan
    assert "Holm" not in told(data, two)


def test_without_batches_for_a_test_none_is_claimed(data: ReportData) -> None:
    single = batches(shared=0).groupby("condition").head(1)
    text = told(data, compare_conditions(single))
    assert "Differences are given without a test, for want of batches" in text
    for word in ("MOVER", "p value", "Holm"):
        assert word not in text
    refused = pd.DataFrame({"marker": ["INS"], "effect_pp": [np.nan], "p": [np.nan]})
    assert "compared" not in told(data, refused)


def test_a_trend_has_its_own_standard_error(data: ReportData) -> None:
    slopes = trend(batches(shared=0), "day")
    assert slopes["p"].notna().all(), slopes["note"].tolist()
    text = told(data, slopes, trend="day")
    assert "A trend over day was tested" in text
    assert "HC3 standard errors" in text
    assert "MOVER" not in text


def test_equivalence_units_and_corrections_are_told_where_they_were_used(
    data: ReportData,
) -> None:
    margin = compare_conditions(batches(), equivalence_pp=5)
    assert "Equivalence within 5 points was tested by two one-sided" in told(
        data, margin, equivalence_pp=5.0
    )
    # asked for, and not tested
    refused = compare_conditions(batches().groupby("condition").head(1), equivalence_pp=5)
    assert "Equivalence" not in told(data, refused, equivalence_pp=5.0)
    donors = told(data, compare_conditions(batches(), unit="line"), unit="line")
    assert "(in comparisons, the line)" in donors
    assert "in comparisons" not in told(data)
    rates = {"INS": ErrorRates(0.9, 0.95, 300, 300)}
    assert "Se + Sp - 1" in told(data, compare_conditions(batches(), rates=rates))
    assert "Se + Sp - 1" not in told(data, compare_conditions(batches()))


@pytest.mark.parametrize(
    ("n_batches", "said", "not_said"),
    [
        (4, "are over batches, from a beta-binomial model", "over islets"),
        (1, "since one batch was stated (jackknife standard error", "over batches"),
        (0, "since batches were not stated (jackknife standard error", "over batches"),
    ],
)
def test_intervals_are_over_what_they_are_over(
    data: ReportData, n_batches: int, said: str, not_said: str
) -> None:
    levels = data.levels.assign(n_batches=n_batches)
    text = methods_paragraph(dataclasses.replace(data, levels=levels, comparisons=None))
    assert said in text
    assert not_said not in text
    assert "No test or interval treats cells as independent" in text


@pytest.mark.parametrize("level", [0.95, 0.9])
def test_level_and_denominator_are_the_protocols(data: ReportData, level: float) -> None:
    text = told(data, level=level, denominator="islets")
    assert f"{100 * level:g} % confidence intervals" in text
    assert "Fractions are of all counted nuclei inside islets" in text
    assert "Fractions are of INS-positive cells" in told(data, denominator="INS")


def test_pixel_size_section_and_modality_come_from_protocol_sheet_or_stay_open(
    data: ReportData,
) -> None:
    def text(protocol: Protocol, **more: object) -> str:
        return methods_paragraph(dataclasses.replace(data, protocol=protocol, **more))  # type: ignore[arg-type]

    bare = data.protocol.replace(acquisition=Acquisition())
    open_one = text(bare, pixel_sizes_um=())
    for blank in ("section thickness", "modality", "pixel size"):
        assert f"[state: {blank}]" in open_one
    stated = data.protocol.replace(
        acquisition=Acquisition(modality="confocal", section_um=8),
        reading=Reading(pixel_size_um=0.4),
    )
    said = text(stated, pixel_sizes_um=(0.325,))
    assert "Sections of 8 um were imaged with confocal microscopy" in said
    assert "pixel size 0.4 um;" in said
    assert "[state: section" not in said
    assert "pixel size 0.325 to 0.65 um" in text(bare, pixel_sizes_um=(0.65, 0.325, 0.325))
    # the sheet speaks for the scored images only
    images = data.images.assign(section_um="10", modality="light_sheet")
    images.loc[images["status"] == "failed", ["section_um", "modality"]] = ["5", "widefield"]
    sheet = text(bare, images=images)
    assert "Sections of 10 um were imaged with light sheet microscopy" in sheet
    whole = bare.replace(islets=Islets(preparation="whole"))
    assert "Whole aggregates were imaged" in text(whole)
    assert "section" not in text(whole).split("were imaged")[0]
