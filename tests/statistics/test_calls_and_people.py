"""Wrong calls corrected, planted raters recovered, and the refusals in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.report.agreement import write_agreement
from islet_imaging.statistics import (
    ErrorRates,
    bland_altman,
    cohen_kappa,
    compare_with_manual,
    concordance,
    correct_batches,
    correct_fraction,
    dawid_skene,
    error_rates,
    icc_2_1,
    lang_reiczigel,
    majority,
    prior_shift,
)

# ------------------------------------------------------------------------- wrong calls


@settings(max_examples=100, deadline=None)
@given(p=st.floats(0, 1), se=st.floats(0.76, 1), sp=st.floats(0.76, 1))
def test_correction_undoes_misclassification(p: float, se: float, sp: float) -> None:
    apparent = p * se + (1 - p) * (1 - sp)
    assert float(correct_fraction(apparent, se, sp)) == pytest.approx(p, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_correction_is_monotone_and_bounded(p: list[float]) -> None:
    out = correct_fraction(sorted(p), 0.8, 0.9)
    assert (np.diff(out) >= 0).all()
    assert ((out >= 0) & (out <= 1)).all()


def test_refusals() -> None:
    with pytest.raises(NotEstimableError, match="carry too little"):
        correct_fraction(0.3, 0.7, 0.75)
    with pytest.raises(NotEstimableError, match="two batches"):
        correct_batches([30], [100], ErrorRates(0.9, 0.9, 300, 300))
    low = correct_batches([20, 30, 25], [1000] * 3, ErrorRates(0.9, 0.95, 300, 300))
    assert low.status == "below the detection limit"
    assert (low.fraction, low.low) == (0, 0)
    assert low.high > 0
    with pytest.raises(IsletImagingError, match="0 to 1"):
        ErrorRates(95, 0.9, 300, 300)
    with pytest.raises(IsletImagingError, match="both kinds"):
        ErrorRates(0.9, 0.9, 0, 300)


def test_interval_widens_with_fewer_labels_and_contains_the_estimate() -> None:
    counts = [400, 430, 380, 420], [1000] * 4
    wide = correct_batches(*counts, ErrorRates(0.9, 0.95, 40, 40))
    narrow = correct_batches(*counts, ErrorRates(0.9, 0.95, 4000, 4000))
    assert wide.high - wide.low > narrow.high - narrow.low
    for c in (wide, narrow):
        assert c.low <= c.fraction <= c.high
    assert correct_batches(*counts, ErrorRates(0.9, 0.95, 40, 40)) == wide


def test_perfect_calls_are_left_alone() -> None:
    c = correct_batches([400, 430, 380], [1000] * 3, ErrorRates(1, 1, 10_000, 10_000))
    assert c.fraction == pytest.approx(c.apparent)
    i = lang_reiczigel(40, 100, ErrorRates(1, 1, 10_000, 10_000))
    assert i.fraction == pytest.approx(0.4)
    # Agresti and Coull's interval of 40 of 100
    assert (round(i.low, 2), round(i.high, 2)) == (0.31, 0.5)


def labelled(**change: Any) -> pd.DataFrame:
    n = 400
    rng = np.random.default_rng(0)
    positive = np.arange(n) % 2 == 0
    right = rng.random(n) < np.where(positive, 0.9, 0.95)
    table = {
        "image": "a",
        "islet": np.arange(n) // 20,
        "label": np.where(positive, "positive", "negative"),
        "INS_call": np.where(positive == right, "positive", "negative"),
        "INS_probability": 0.5,
    }
    return pd.DataFrame(table | change)


def test_error_rates() -> None:
    r = error_rates(labelled(), "INS")
    assert r.sensitivity == pytest.approx(0.9, abs=0.05)
    assert r.specificity == pytest.approx(0.95, abs=0.04)
    assert 50 < r.n_positive <= 200
    assert r.note == ""
    # unsure cells count by their probability, as in a fraction
    half = error_rates(labelled(INS_call="unsure"), "INS")
    assert (half.sensitivity, half.specificity) == (0.5, 0.5)
    # errors that come by the islet are worth few independent labels
    by_islet = np.where((np.arange(400) // 20) % 4 == 0, "negative", "positive")
    clustered = error_rates(labelled(INS_call=by_islet), "INS")
    assert clustered.n_positive < 40
    assert "fewer than 200" in error_rates(labelled().iloc[:100], "INS").note
    with pytest.raises(IsletImagingError, match="both kinds"):
        error_rates(labelled(label="positive"), "INS")
    with pytest.raises(IsletImagingError, match="truth"):
        error_rates(labelled(), "INS", truth="truth")


def test_sampling_weights_undo_a_stratified_choice() -> None:
    table = labelled()
    wrong = (table["label"] == "positive") & (table["INS_call"] == "negative")
    # wrong cells were picked three times as often as they occur
    chosen = pd.concat([table, table[wrong], table[wrong]])
    weight = np.where(
        (chosen["label"] == "positive") & (chosen["INS_call"] == "negative"), 1 / 3, 1
    )
    r = error_rates(chosen.assign(w=weight), "INS", weight="w")
    assert r.sensitivity == pytest.approx(error_rates(table, "INS").sensitivity)


@pytest.mark.parametrize("true", [0.02, 0.2, 0.8])
def test_prior_shift_finds_another_mix(true: float) -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(50_000) < true
    score = rng.normal(np.where(positive, 2.9, 0.0), 1)
    p = 1 / (1 + np.exp(-(2.9 * score - 2.9**2 / 2 + np.log(0.4 / 0.6))))
    shift = prior_shift(p, 0.4)
    assert shift.fraction == pytest.approx(true, abs=0.01)
    assert shift.probabilities.mean() == pytest.approx(shift.fraction, abs=1e-3)
    assert abs(p.mean() - true) > 2 * abs(shift.fraction - true)


def test_prior_shift_leaves_the_training_mix_alone_and_refuses_nonsense() -> None:
    p = np.array([0.0, 1.0, 1.0, 0.0, np.nan])
    assert prior_shift(p, 0.5).fraction == pytest.approx(0.5)
    assert np.isnan(prior_shift(p, 0.5).probabilities[-1])
    with pytest.raises(NotEstimableError):
        prior_shift([np.nan], 0.5)
    with pytest.raises(IsletImagingError):
        prior_shift([0.5], 1.0)
    with pytest.raises(IsletImagingError):
        prior_shift([50.0], 0.5)


# ----------------------------------------------------------------------------- agreement


def test_planted_bias_is_recovered() -> None:
    rng = np.random.default_rng(0)
    batch = np.repeat(np.arange(4), 15)
    found = []
    for _ in range(200):
        truth = rng.normal(45, 12, 60)
        manual = truth - 3 + rng.normal(0, 0.5, 4)[batch] + rng.normal(0, 2, 60)
        found.append(bland_altman(truth + rng.normal(0, 2, 60), manual, batch).bias)
    assert np.mean(found) == pytest.approx(3, abs=0.15)
    assert np.mean(np.abs(np.array(found) - 3) < 0.5) > 0.6


def test_nested_limits_are_wider_than_naive_ones() -> None:
    rng = np.random.default_rng(1)
    batch = np.repeat(np.arange(6), 10)
    a = rng.normal(50, 10, 60)
    b = a + rng.normal(0, 4, 6)[batch] + rng.normal(0, 2, 60)
    nested, naive = bland_altman(a, b, batch), bland_altman(a, b)
    assert nested.high - nested.low > 0.97 * (naive.high - naive.low)
    assert nested.bias_high - nested.bias_low > 1.5 * (naive.bias_high - naive.bias_low)
    assert nested.sd_batch == pytest.approx(4, abs=2.5)
    assert nested.sd_islet == pytest.approx(2, abs=0.5)
    assert nested.low_outer < nested.low < nested.bias < nested.high < nested.high_outer
    assert (naive.n_batches, nested.n_batches) == (0, 6)


@settings(max_examples=60, deadline=None)
@given(
    a=st.lists(st.floats(0, 100), min_size=5, max_size=20),
    shift=st.floats(-20, 20),
    k=st.integers(1, 4),
)
def test_bland_altman_moves_with_a_shift(a: list[float], shift: float, k: int) -> None:
    x = np.array(a)
    batch = np.arange(len(x)) % k
    noise = np.sin(np.arange(len(x)))
    one, two = bland_altman(x, x + noise, batch), bland_altman(x + shift, x + noise, batch)
    assert two.bias - one.bias == pytest.approx(shift, abs=1e-6)
    assert two.high - two.low == pytest.approx(one.high - one.low, abs=1e-6)
    assert one.low_outer <= one.low <= one.bias_low <= one.bias_high <= one.high <= one.high_outer


def test_icc_of_shrout_and_fleiss() -> None:
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert icc_2_1(table).value == pytest.approx(0.2898, abs=1e-4)
    with pytest.raises(NotEstimableError):
        icc_2_1(table[:2])


def test_concordance_punishes_a_bias_that_correlation_ignores() -> None:
    x = np.linspace(10, 80, 30)
    noise = np.cos(np.arange(30))
    near, far = concordance(x, x + noise), concordance(x, x + noise + 15)
    assert near.value > 0.99
    assert far.value < 0.9
    assert far.low < far.value < far.high
    assert concordance(x, x).value == pytest.approx(1)


def test_kappa() -> None:
    k = cohen_kappa([1, 1, 0, 0, np.nan], [1, 0, 0, 0, 1])
    assert (k.n, k.agreement) == (4, 0.75)
    assert k.kappa == pytest.approx(0.5)
    assert np.isnan(cohen_kappa([1, 1], [1, 1]).kappa)
    # textbook example: 20, 5, 10, 15 of 50
    a = [1] * 25 + [0] * 25
    b = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohen_kappa(a, b).kappa == pytest.approx(0.4)
    with pytest.raises(NotEstimableError):
        cohen_kappa([np.nan], [1])


PLACES = ("islets", "outside islets")


def clustered(rng: np.random.Generator, islets: int, error: float, icc: float):
    """Labels of two whose errors gather in islets."""
    size = rng.integers(30, 150, islets)
    of = np.repeat(np.arange(islets), size)
    spread = 1 / icc - 1
    own = rng.beta(error * spread, (1 - error) * spread, islets)[of]
    truth = rng.random(len(of)) < rng.beta(2, 3, islets)[of]
    return truth, truth ^ (rng.random(len(of)) < own), of


def test_kappa_over_islets_holds_where_errors_gather() -> None:
    rng = np.random.default_rng(4)
    true = cohen_kappa(*clustered(rng, 20_000, 0.08, 0.2)[:2]).kappa
    held = np.zeros(2)
    runs = 200
    for _ in range(runs):
        a, b, of = clustered(rng, 20, 0.08, 0.2)
        for j, k in enumerate((cohen_kappa(a, b, of), cohen_kappa(a, b))):
            held[j] += k.low <= true <= k.high
    assert held[0] / runs > 0.9
    assert held[1] / runs < 0.75
    k = cohen_kappa(a, b, of)
    assert (k.n_islets, k.note) == (20, "over islets")
    assert k.kappa == pytest.approx(cohen_kappa(a, b).kappa)


def test_kappa_of_few_islets_has_no_interval_and_says_why() -> None:
    a, b, of = clustered(np.random.default_rng(1), 6, 0.1, 0.1)
    k = cohen_kappa(a, b, of)
    assert np.isnan(k.low)
    assert "6 islets of 10" in k.note
    assert np.isfinite(k.kappa)


def test_cells_outside_islets_and_tiny_islets_stand_apart() -> None:
    cells = scored()
    base = compare_with_manual(cells, labels_of(cells, "ann", 0.05, 0), marker="INS")
    # an islet of two cells, and cells in none, on which both agree
    more = pd.DataFrame(
        {"image": "i0", "islet": [99, 99, 0, 0], "cell": [9001, 9002, 9003, 9004]}
    ).assign(excluded=False, batch="b0", truth=[True, True, False, False])
    call = np.where(more["truth"], "positive", "negative")
    more = more.assign(INS_call=call, INS_probability=np.where(more["truth"], 0.95, 0.05))
    both = pd.concat([cells, more], ignore_index=True)
    labels = pd.concat(
        [labels_of(cells, "ann", 0.05, 0), labels_of(more, "ann", 0.0, 0)], ignore_index=True
    )
    a = compare_with_manual(both, labels, marker="INS")
    inside, outside = (a.fractions[a.fractions["of"] == w].iloc[0] for w in PLACES)
    assert inside["ccc"] == pytest.approx(base.fractions["ccc"].iloc[0])
    assert "1 islet(s) of fewer than 5 cells" in inside["note"]
    assert "2 cells outside islets" in outside["note"]
    assert outside["n_islets"] == 0
    assert np.isnan(a.cells.set_index("of").loc["outside islets", "kappa_low"])


def test_agreement_is_written_with_its_picture(tmp_path: Path) -> None:
    cells = scored()
    found = compare_with_manual(cells, labels_of(cells, "ann <b>", 0.05, 0), marker="INS")
    written = write_agreement(found, tmp_path / "agreement", marker="INS")
    names = {p.name for p in written}
    assert names == {"fractions.csv", "cells.csv", "islets.csv", "agreement.svg"}
    kept = pd.read_csv(tmp_path / "agreement" / "fractions.csv")
    assert kept["bias_pp"].iloc[0] == pytest.approx(found.fractions["bias_pp"].iloc[0])
    picture = (tmp_path / "agreement" / "agreement.svg").read_text("utf-8")
    root = ElementTree.fromstring(picture)
    assert root.tag.endswith("svg")
    assert "ann <b>" in "".join(root.itertext())


def test_consensus_of_unequal_raters() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(3000) < 0.3
    wrong = rng.random((3000, 3)) < [0.03, 0.25, 0.3]
    labels = (truth[:, None] ^ wrong).astype(float)
    c = dawid_skene(labels)
    assert np.mean((c.probability > 0.5) == truth) > np.mean(majority(labels) == truth) + 0.03
    np.testing.assert_allclose(c.specificity, [0.97, 0.75, 0.7], atol=0.05)
    labels[:10] = np.nan
    assert np.isnan(dawid_skene(labels).probability[:10]).all()
    assert np.isnan(majority(labels)[:10]).all()


# ------------------------------------------------------------------- compare with manual


def scored(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for b in range(3):
        for islet in range(1, 9):
            share = np.clip(rng.normal(0.45, 0.15), 0.05, 0.95)
            parts.append(
                pd.DataFrame(
                    {
                        "image": f"i{b}",
                        "islet": islet,
                        "truth": rng.random(60) < share,
                        "batch": f"d{b}",
                    }
                )
            )
    table = pd.concat(parts, ignore_index=True)
    table["cell"] = table.groupby("image").cumcount() + 1
    table["excluded"] = table["cell"] % 17 == 0
    call = table["truth"] ^ (rng.random(len(table)) < 0.05)
    table["INS_call"] = np.where(call, "positive", "negative")
    table["INS_probability"] = np.where(call, 0.95, 0.05)
    return table


def labels_of(cells: pd.DataFrame, rater: str, error: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    said = cells["truth"] ^ (rng.random(len(cells)) < error)
    label = np.where(said, "positive", "negative")
    return cells[["image", "cell"]].assign(rater=rater, label=label)


def test_labels_of_cells_by_three_raters() -> None:
    cells = scored()
    manual = pd.concat(
        [
            labels_of(cells, r, e, i)
            for i, (r, e) in enumerate([("ann", 0.02), ("bob", 0.05), ("eve", 0.2)])
        ]
    )
    a = compare_with_manual(cells, manual, marker="INS")
    assert a.fractions["rater"].tolist() == ["ann", "bob", "eve", "all raters"]
    assert a.cells["rater"].tolist() == ["ann", "bob", "eve", "all raters"]
    assert set(a.cells["of"]) == {"islets"}
    kappa = a.cells.set_index("rater")["kappa"]
    assert kappa["ann"] > kappa["bob"] > kappa["eve"]
    assert kappa["all raters"] > 0.85
    assert len(a.raters) == 3
    assert len(a.consensus) == (~cells["excluded"]).sum()
    assert a.cells.set_index("rater").loc["ann", "sensitivity"] == pytest.approx(0.94, abs=0.04)
    assert (a.fractions["n_batches"] == 3).all()
    assert a.fractions.set_index("rater").loc["ann", "bias_pp"] == pytest.approx(0, abs=1.5)


def test_counts_of_islets() -> None:
    cells = scored()
    live = cells[~cells["excluded"]]
    share = (live["INS_call"] == "positive").groupby([live["image"], live["islet"]]).mean()
    counts = (share - 0.03).clip(0).rename("fraction").reset_index()
    a = compare_with_manual(cells, counts, marker="INS")
    assert a.fractions["bias_pp"].iloc[0] == pytest.approx(3)
    assert a.fractions["rater"].tolist() == ["manual"]
    assert a.cells.empty
    numbers = counts.assign(n_positive=counts["fraction"] * 50, n_cells=50).drop(columns="fraction")
    b = compare_with_manual(cells, numbers, marker="INS")
    assert b.fractions["bias_pp"].iloc[0] == pytest.approx(3)
    unknown = compare_with_manual(cells.drop(columns="batch"), counts, marker="INS")
    assert "batches unknown" in unknown.fractions["note"].iloc[0]


@pytest.mark.parametrize(
    ("manual", "message"),
    [
        ({"islet": [1], "fraction": [0.5]}, "image"),
        ({"image": ["i0"], "fraction": [0.5]}, "needs"),
        ({"image": ["i0"], "islet": [1], "fraction": [45.0]}, "not 45"),
        ({"image": ["x"], "islet": [1], "fraction": [0.5]}, "no counted islet"),
        ({"image": ["x"], "cell": [1], "label": ["positive"]}, "no labelled cell"),
        ({"image": ["i0"] * 2, "cell": [1, 1], "label": ["positive"] * 2}, "twice"),
        ({"image": ["i0"] * 2, "islet": [1, 1], "fraction": [0.5, 0.5]}, "twice"),
        ({"image": ["i0"], "islet": [1], "share": [0.5]}, "neither"),
    ],
)
def test_unusable_manual_tables_are_named(manual: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(IsletImagingError, match=message):
        compare_with_manual(scored(), pd.DataFrame(manual), marker="INS")


def test_too_few_islets_are_said_not_guessed() -> None:
    counts = pd.DataFrame({"image": ["i0"], "islet": [1], "fraction": [0.5]})
    a = compare_with_manual(scored(), counts, marker="INS")
    assert "at least 3 islets" in a.fractions["note"].iloc[0]
