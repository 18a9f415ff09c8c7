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
    compare_conditions,
    holm,
    permutation_test,
    sign_flip_test,
    summarise,
)
from islet_imaging.statistics.comparison import t_comparison


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


def test_paired_is_the_t_test_on_logits() -> None:
    row = compare_conditions(table(CONTROL, DRUG)).iloc[0]
    n = 2000
    logit = [
        np.log((n * np.array(p) + 0.5) / (n * (1 - np.array(p)) + 0.5)) for p in (CONTROL, DRUG)
    ]
    assert row["p"] == pytest.approx(stats.ttest_rel(*logit).pvalue)
    assert row["design"] == "paired"
    ci = stats.ttest_rel(DRUG, CONTROL).confidence_interval()
    assert row["effect_low_pp"] == pytest.approx(100 * ci.low)
    assert row["effect_high_pp"] == pytest.approx(100 * ci.high)
    assert row["effect_pp"] == pytest.approx(100 * (np.mean(DRUG) - np.mean(CONTROL)))


def test_unpaired_is_welch() -> None:
    row = compare_conditions(table(CONTROL, DRUG, shared=False)).iloc[0]
    assert row["design"] == "unpaired"
    ci = stats.ttest_ind(DRUG, CONTROL, equal_var=False).confidence_interval()
    assert row["effect_low_pp"] == pytest.approx(100 * ci.low)
    forced = compare_conditions(table(CONTROL, DRUG), design="unpaired").iloc[0]
    assert forced["p"] == pytest.approx(row["p"])
    assert "wastes" in forced["note"]


def test_batches_of_one_condition_only_are_left_out_of_pairs() -> None:
    t = pd.concat([table(CONTROL, DRUG), table([], [0.9]).assign(batch="alone")])
    row = compare_conditions(t).iloc[0]
    assert row["n_batches"] == 4
    assert "left out" in row["note"]
    assert row["p"] == pytest.approx(compare_conditions(table(CONTROL, DRUG)).iloc[0]["p"])


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


def test_identical_batches_are_no_proof() -> None:
    t = t_comparison([500, 500], [1000, 1000], [501, 501], [1000, 1000], paired=True)
    assert t.p > 0.5
    assert np.isfinite(t.odds_ratio_low)


counts = st.lists(st.integers(0, 200), min_size=3, max_size=3)


@settings(max_examples=100, deadline=None)
@given(a=counts, b=counts, paired=st.booleans())
def test_symmetry_and_agreement_of_test_with_odds_ratio(a, b, paired) -> None:
    n = [200, 210, 220]
    there = t_comparison(a, n, b, n, paired=paired)
    back = t_comparison(b, n, a, n, paired=paired)
    assert there.p == pytest.approx(back.p)
    assert there.effect_pp == pytest.approx(-back.effect_pp)
    assert there.odds_ratio == pytest.approx(1 / back.odds_ratio)
    assert 0 <= there.p <= 1
    assert there.effect_low_pp <= there.effect_pp <= there.effect_high_pp
    if abs(there.p - 0.05) > 1e-6:
        assert (there.p < 0.05) == (not there.odds_ratio_low <= 1 <= there.odds_ratio_high)


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
    out = compare_conditions(summarise(pd.concat(rows), markers=["INS"]))
    assert out["effect_pp"].iloc[0] == pytest.approx(40, abs=6)
    assert out["p"].iloc[0] < 0.01
