"""Comparisons: batches as n and nothing else, exact floors, agreement of test and interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.statistics import (
    ErrorRates,
    compare_conditions,
    holm,
    permutation_test,
    sign_flip_test,
    summarise,
    trend,
)
from islet_imaging.statistics.difference import arm, difference


def table(
    control: list[float], drug: list[float], *, shared: bool = True, marker: str = "INS"
) -> pd.DataFrame:
    names = [f"d{i}" for i in range(len(control))]
    other = [f"{'d' if shared else 'e'}{i}" for i in range(len(drug))]
    return pd.DataFrame(
        {
            "condition": ["control"] * len(control) + ["drug"] * len(drug),
            "batch": names + other,
            "marker": marker,
            "n_cells": 2000,
            "fraction": control + drug,
        }
    )


CONTROL, DRUG = [0.30, 0.41, 0.35, 0.52], [0.38, 0.52, 0.46, 0.60]


def test_paired_is_the_t_test_of_the_differences_where_fractions_are_middling() -> None:
    """The example of textbooks: interval and p of the paired t test, none of them narrower."""
    row = compare_conditions(table(CONTROL, DRUG)).iloc[0]
    assert row["design"] == "paired"
    textbook = stats.ttest_rel(DRUG, CONTROL)
    ci = textbook.confidence_interval()
    assert row["effect_pp"] == pytest.approx(100 * (np.mean(DRUG) - np.mean(CONTROL)))
    assert row["effect_low_pp"] <= 100 * ci.low + 1e-9
    assert row["effect_low_pp"] == pytest.approx(100 * ci.low, abs=0.5)
    assert row["effect_high_pp"] == pytest.approx(100 * ci.high, abs=0.5)
    assert textbook.pvalue * (1 - 1e-6) <= row["p"] < 0.01


def test_effect_and_p_speak_of_the_same_difference() -> None:
    """A wild batch: the mean of the logits falls, that of the fractions rises."""
    row = compare_conditions(
        table([0.10, 0.11, 0.09, 0.10], [0.02, 0.02, 0.03, 0.40], shared=False)
    ).iloc[0]
    assert row["effect_pp"] == pytest.approx(1.75)
    assert row["effect_low_pp"] < 0 < row["effect_high_pp"]
    assert row["p"] > 0.5
    assert "d" in row["note"]
    assert "lies far" in row["note"]
    assert "odds_ratio" not in row.index


def test_none_against_none_is_not_exactly_nothing() -> None:
    row = compare_conditions(table([0.0] * 3, [0.0] * 3)).iloc[0]
    assert row["effect_pp"] == 0
    assert row["effect_high_pp"] > 1
    assert row["effect_low_pp"] < -1
    assert row["p"] == pytest.approx(1)


def test_rare_fractions_say_what_it_would_take() -> None:
    rare = compare_conditions(table([0.01, 0.02, 0.03], [0.05, 0.07, 0.09], shared=False)).iloc[0]
    assert rare["p"] > 0.05
    assert "`batches_for_fractions` says how many it takes" in rare["note"]
    middling = compare_conditions(table([0.3, 0.4, 0.5], [0.4, 0.5, 0.6], shared=False)).iloc[0]
    assert middling["p"] > 0.05
    assert "batches_for_fractions" not in middling["note"]


def test_forced_unpaired_takes_shared_batches_for_different_ones() -> None:
    row = compare_conditions(table(CONTROL, DRUG, shared=False)).iloc[0]
    assert row["design"] == "unpaired"
    forced = compare_conditions(table(CONTROL, DRUG), design="unpaired").iloc[0]
    assert forced["p"] == pytest.approx(row["p"])
    assert "as asked" in forced["note"]


def test_two_shared_batches_do_not_cost_the_others() -> None:
    """Ten batches of which two are shared: all ten count."""
    control = table([0.2, 0.22, 0.25, 0.19, 0.21, 0.24], [])
    drug = table([], [0.4, 0.42, 0.38, 0.44])
    drug["batch"] = ["d0", "d1", "e2", "e3"]
    row = compare_conditions(pd.concat([control, drug])).iloc[0]
    assert row["design"] == "partly paired"
    assert (row["n_units"], row["n_reference"], row["n_shared"]) == (4, 6, 2)
    assert row["effect_pp"] == pytest.approx(
        100 * (0.41 - np.mean([0.2, 0.22, 0.25, 0.19, 0.21, 0.24]))
    )
    assert row["p"] < 0.01
    assert "too few" in row["note"]
    only = compare_conditions(pd.concat([control, drug]), design="paired").iloc[0]
    assert only["n_units"] == 2
    assert "left out, as asked" in only["note"]


def test_partly_paired_gains_from_the_pairs() -> None:
    control = [0.2, 0.3, 0.4, 0.5, 0.6]
    drug = [p + 0.1 + 0.005 * (-1) ** i for i, p in enumerate(control)]
    t = pd.concat([table(control, drug), table([], [0.45]).assign(batch="alone")])
    partly = compare_conditions(t).iloc[0]
    apart = compare_conditions(t, design="unpaired").iloc[0]
    assert partly["design"] == "partly paired"
    width = partly["effect_high_pp"] - partly["effect_low_pp"]
    assert width < 0.7 * (apart["effect_high_pp"] - apart["effect_low_pp"])


def nested(effect: float, *, per_cell: int = 2) -> pd.DataFrame:
    """Two lines far apart, batches of both conditions in each."""
    rng = np.random.default_rng(5)
    rows = []
    for line, base in (("H1", 0.2), ("H9", 0.6)):
        for condition, shift in (("control", 0.0), ("drug", effect)):
            rows += [
                {
                    "condition": condition,
                    "batch": f"{line}{condition}{i}",
                    "marker": "INS",
                    "n_cells": 2000,
                    "fraction": base + shift + rng.normal(0, 0.01),
                    "line": line,
                }
                for i in range(per_cell)
            ]
    return pd.DataFrame(rows)


def test_blocks_take_out_what_lines_differ_by() -> None:
    t = nested(0.15, per_cell=3)
    within = compare_conditions(t, blocks=["line"]).iloc[0]
    across = compare_conditions(t).iloc[0]
    assert within["design"] == "within line"
    assert within["effect_pp"] == pytest.approx(15, abs=1)
    assert within["p"] < 0.02 < across["p"]


def test_blocks_of_one_batch_each_are_pairs() -> None:
    t = pd.concat(
        [table([p], [p + 0.1]).assign(line=f"L{i}") for i, p in enumerate(CONTROL)]
    ).assign(batch=list("abcdefgh"))
    row = compare_conditions(t, blocks=["line"]).iloc[0]
    assert row["design"] == "paired by line"
    assert row["n_units"] == 4
    assert row["p"] < 0.05


def test_a_condition_that_cannot_be_told_from_its_block_is_refused() -> None:
    t = table(CONTROL, DRUG, shared=False)
    t["line"] = ["H1"] * 4 + ["H9"] * 4
    row = compare_conditions(t, blocks=["line"]).iloc[0]
    assert np.isnan(row["p"])
    assert np.isnan(row["effect_pp"])
    assert "cannot be told from the line" in row["note"]
    two = nested(0.1, per_cell=1)
    assert "at least" in compare_conditions(two, blocks=["line"]).iloc[0]["note"]


def test_donors_as_unit_average_their_batches() -> None:
    t = table([0.2, 0.3, 0.25, 0.35, 0.4, 0.42], [0.3, 0.4, 0.35, 0.45, 0.5, 0.52], shared=False)
    t["donor"] = ["A", "A", "B", "B", "C", "C"] * 2
    row = compare_conditions(t, unit="donor").iloc[0]
    assert (row["unit"], row["n_units"], row["n_reference"], row["n_shared"]) == ("donor", 3, 3, 3)
    assert row["effect_pp"] == pytest.approx(10)
    assert "values of donor" in row["note"]
    with pytest.raises(NotEstimableError, match="donor"):
        compare_conditions(t.assign(donor=["", *t["donor"][1:]]), unit="donor")
    with pytest.raises(IsletImagingError, match="no column 'line'"):
        compare_conditions(t, unit="line")


def test_equivalence_needs_the_whole_interval_inside_the_margin() -> None:
    same = [0.3, 0.41, 0.35, 0.52, 0.45, 0.38]
    t = table(same, [p + 0.004 * (-1) ** i for i, p in enumerate(same)])
    wide = compare_conditions(t, equivalence_pp=10).iloc[0]
    narrow = compare_conditions(t, equivalence_pp=0.1).iloc[0]
    assert wide["p_equivalence"] < 0.05 < narrow["p_equivalence"]
    assert compare_conditions(t, level=0.9).iloc[0]["effect_high_pp"] < 10
    far = compare_conditions(table(CONTROL, DRUG), equivalence_pp=5).iloc[0]
    assert far["p_equivalence"] == 1
    with pytest.raises(IsletImagingError, match="equivalence_pp"):
        compare_conditions(t, equivalence_pp=-3)


def test_corrected_difference_undoes_what_wrong_calls_shrink() -> None:
    rates = {"INS": ErrorRates(0.9, 0.9, 400, 400)}
    row = compare_conditions(table(CONTROL, DRUG), rates=rates).iloc[0]
    assert row["effect_corrected_pp"] == pytest.approx(row["effect_pp"] / 0.8)
    assert (
        row["effect_corrected_low_pp"]
        < row["effect_corrected_pp"]
        < row["effect_corrected_high_pp"]
    )
    assert row["effect_corrected_high_pp"] - row["effect_corrected_low_pp"] > (
        row["effect_high_pp"] - row["effect_low_pp"]
    )
    poor = compare_conditions(table(CONTROL, DRUG), rates={"INS": ErrorRates(0.7, 0.7, 9, 9)})
    assert np.isnan(poor.iloc[0]["effect_corrected_pp"])


def test_contrasts_are_what_is_compared() -> None:
    t = pd.concat([table(CONTROL, DRUG), table([], CONTROL).assign(condition="other")])
    out = compare_conditions(t, contrasts=[("other", "drug")])
    assert out[["condition", "reference"]].to_numpy().tolist() == [["other", "drug"]]
    with pytest.raises(IsletImagingError, match="not both"):
        compare_conditions(t, contrasts=[("other", "drug")], reference="drug")


def days(slope: float, *, followed: bool) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    rows = []
    for i in range(4):
        start = 0.2 + 0.05 * i
        rows += [
            {
                "condition": f"day {day}",
                "batch": f"b{i}" if followed else f"b{i}-{day}",
                "marker": "INS",
                "n_cells": 3000,
                "fraction": start + slope * day + rng.normal(0, 0.01),
                "day": str(day),
            }
            for day in (10, 20, 30)
        ]
    return pd.DataFrame(rows)


def test_trend_within_batches_and_across() -> None:
    within = trend(days(0.01, followed=True), "day").iloc[0]
    assert within["design"] == "trend within batch"
    assert within["n_units"] == 4
    assert within["effect_low_pp"] < 1.0 < within["effect_high_pp"]
    assert within["p"] < 0.001
    across = trend(days(0.01, followed=False), "day").iloc[0]
    assert across["design"] == "trend across batch"
    assert across["effect_low_pp"] < 1.0 < across["effect_high_pp"]
    assert across["effect_high_pp"] - across["effect_low_pp"] > (
        within["effect_high_pp"] - within["effect_low_pp"]
    )


def test_trends_that_cannot_be_estimated_are_refused() -> None:
    t = days(0.01, followed=False)
    assert "no trend" in trend(t[t["day"] == "10"], "day").iloc[0]["note"]
    assert "takes 4" in trend(t.iloc[[0, 1, 2]], "day").iloc[0]["note"]
    assert "one batch was seen" in trend(days(0.01, followed=True).iloc[:3], "day").iloc[0]["note"]
    with pytest.raises(IsletImagingError, match="needs a number"):
        trend(t.assign(day="early"), "day")


@pytest.mark.parametrize("level", ["cell", "islet", "image"])
def test_cells_and_islets_are_refused_as_n(level: str) -> None:
    with pytest.raises(IsletImagingError, match="not a replicate"):
        compare_conditions(table(CONTROL, DRUG).assign(**{level: 1}))


def test_unstated_batches_are_refused() -> None:
    t = table(CONTROL, DRUG)
    t.loc[0, "batch"] = ""
    with pytest.raises(NotEstimableError, match="batch"):
        compare_conditions(t)


def test_bad_requests_are_named() -> None:
    t = table(CONTROL, DRUG)
    with pytest.raises(IsletImagingError, match="placebo"):
        compare_conditions(t, reference="placebo")
    with pytest.raises(IsletImagingError, match="GCG"):
        compare_conditions(t, markers=["GCG"])
    with pytest.raises(IsletImagingError, match="twice"):
        compare_conditions(pd.concat([t, t]))
    with pytest.raises(IsletImagingError, match="n_cells"):
        compare_conditions(t.drop(columns="n_cells"))


def test_one_batch_gives_an_effect_and_no_test() -> None:
    row = compare_conditions(table([0.3], [0.5])).iloc[0]
    assert row["effect_pp"] == pytest.approx(20)
    assert np.isnan(row["p"])
    assert "no test" in row["note"]


def test_reference_and_pairs_of_conditions() -> None:
    t = pd.concat([table(CONTROL, DRUG), table([], CONTROL).assign(condition="other")])
    assert len(compare_conditions(t)) == 3
    to_drug = compare_conditions(t, reference="drug")
    assert to_drug["condition"].tolist() == ["control", "other"]
    assert to_drug["effect_pp"].iloc[0] == pytest.approx(-9.5)


def test_holm_over_markers() -> None:
    t = pd.concat([table(CONTROL, DRUG), table(CONTROL, CONTROL[::-1], marker="GCG")])
    out = compare_conditions(t)
    np.testing.assert_allclose(out["p_holm"], holm(out["p"]))
    assert (out["p_holm"] >= out["p"]).all()
    assert compare_conditions(t, markers=["INS"])["p_holm"].iloc[0] == out["p"].iloc[0]


def test_floor_of_exact_tests() -> None:
    assert sign_flip_test([1, 2, 3]) == (0.25, 0.25)
    assert sign_flip_test(range(1, 7)) == (2 / 64, 2 / 64)
    assert permutation_test([1, 2, 3], [4, 5, 6]) == (0.1, 0.1)
    assert permutation_test([1, 2], [4, 5, 6]) == (0.1, 0.1)
    note = compare_conditions(table(CONTROL[:3], DRUG[:3])).iloc[0]["note"]
    assert "cannot go below p = 0.25" in note


def test_exact_tests_agree_with_scipy() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=6), rng.normal(1, 1, 5)

    def difference(a, b, axis):
        return np.mean(a, axis=axis) - np.mean(b, axis=axis)

    expected = stats.permutation_test((x, y), difference, n_resamples=np.inf, vectorized=True)
    # scipy doubles the smaller tail, here both tails are counted: equal up to the asymmetry
    assert permutation_test(x, y)[0] == pytest.approx(expected.pvalue, abs=0.03)
    d = rng.normal(0.5, 1, 8)
    expected = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip_test(d)[0] == pytest.approx(expected)


def test_many_batches_draw_instead_of_trying_all() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0.4, 1, 20)
    assert sign_flip_test(d)[0] == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)
    x, y = rng.normal(size=12), rng.normal(0.8, 1, 12)
    assert permutation_test(x, y)[0] == pytest.approx(stats.ttest_ind(x, y).pvalue, abs=0.02)
    assert permutation_test(x, y) == permutation_test(x, y)


def test_identical_pairs_are_no_proof() -> None:
    row = compare_conditions(table([0.5, 0.5, 0.5], [0.501, 0.501, 0.501])).iloc[0]
    assert row["p"] > 0.5
    assert row["effect_high_pp"] - row["effect_low_pp"] > 1


counts = st.lists(st.integers(0, 200), min_size=3, max_size=3)


@settings(max_examples=40, deadline=None)
@given(a=counts, b=counts, shared=st.sampled_from([0, 3]))
def test_symmetry_and_agreement_of_test_with_interval(a, b, shared) -> None:
    n = np.array([200.0, 210, 220])
    x, y = arm(np.array(a, float), n), arm(np.array(b, float), n)
    there, back = difference(x, y, shared=shared), difference(y, x, shared=shared)
    low, high = there.limits(0.025)
    assert there.p() == pytest.approx(float(back.p()), abs=1e-6)
    np.testing.assert_allclose([-high, -low], back.limits(0.025), atol=1e-9)
    assert low <= there.value <= high
    assert high > low
    if abs(there.p() - 0.05) > 1e-4:
        assert (there.p() < 0.05) == (not low <= 0 <= high)


@settings(max_examples=100, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_p_and_bonferroni(p: list[float]) -> None:
    out = holm(p)
    assert (out >= np.array(p) - 1e-12).all()
    assert (out <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(out[order]) >= -1e-12).all()


def test_from_a_summary() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for condition, share in (("control", 0.2), ("drug", 0.6)):
        for batch in "abcd":
            call = np.where(rng.random(200) < share, "positive", "negative")
            rows.append(
                pd.DataFrame(
                    {
                        "image": f"{condition}{batch}",
                        "condition": condition,
                        "batch": batch,
                        "islet": 1,
                        "cell": np.arange(200) + 1,
                        "excluded": False,
                        "INS_call": call,
                        "INS_probability": 0.5,
                    }
                )
            )
    cells = pd.concat(rows)
    out = compare_conditions(summarise(cells, markers=["INS"]))
    assert out["effect_pp"].iloc[0] == pytest.approx(40, abs=6)
    assert out["p"].iloc[0] < 0.01
    # a sheet that names the islet of each image makes no row an islet
    places = cells.drop_duplicates("image")[["image", "condition", "batch"]]
    sheet = places.rename(columns={"image": "file"}).assign(role="sample", islet="1")
    plain = cells.drop(columns=["condition", "batch"])
    again = compare_conditions(summarise(plain, sheet, markers=["INS"]))
    assert again["effect_pp"].tolist() == out["effect_pp"].tolist()
