"""Variance components, planning, section bias and control charts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.statistics import (
    abercrombie,
    abercrombie_fraction,
    apparent_fraction,
    batch_se_pp,
    batches_for_difference,
    batches_for_fractions,
    batches_for_width,
    control_chart,
    plan,
    power,
    power_for_fractions,
    radial_weights,
    summarise,
    variance_split,
    variance_table,
)
from islet_imaging.statistics.variance import _Counts, _log_likelihood


def nested(seed: int, batches: int, batch_sd: float, rho: float, islets: int = 12):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(batches), islets)
    p = 1 / (1 + np.exp(0.3 - rng.normal(0, batch_sd, batches)[group]))
    share = p if rho == 0 else rng.beta(p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho)
    n = rng.integers(60, 240, len(group))
    return rng.binomial(n, share), n, group


def test_likelihood_is_the_beta_binomial() -> None:
    k, n, group = nested(0, 1, 0, 0.1, islets=5)
    p, rho = 1 / (1 + np.exp(0.2)), 0.1
    a, b = p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho
    ours = _log_likelihood(-0.2, 0.0, rho, _Counts.of(k.astype(float), n.astype(float), group))[0]
    choose = stats.betabinom.logpmf(k, n, a, b).sum() - stats.betabinom.logpmf(0, n, a, b).sum()
    zero = _log_likelihood(-0.2, 0.0, rho, _Counts.of(0.0 * k, n.astype(float), group))[0]
    log_choose = stats.binom.logpmf(k, n, 0.5).sum() - stats.binom.logpmf(0, n, 0.5).sum()
    assert ours - zero == pytest.approx(choose - log_choose)


@pytest.mark.parametrize("islets", [3, 600])
@pytest.mark.parametrize(("mean", "sd", "rho"), [(-0.3, 0.4, 0.06), (0.0, 0.05, 0.01), (0.2, 1, 0)])
def test_batches_are_integrated_out(islets: int, mean: float, sd: float, rho: float) -> None:
    k, n, group = nested(5, 3, 0.4, 0.06, islets=islets)
    counts = _Counts.of(k.astype(float), n.astype(float), group)
    # every batch alone, by brute force: of many islets the likelihood is narrow
    logit = np.linspace(mean - 20 * sd, mean + 20 * sd, 40_001)[:, None]
    p = special.expit(logit)
    whole = 0.0
    for batch in range(3):
        own_k, own_n = k[group == batch], n[group == batch]
        if rho:
            a, b = p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho
            log = special.betaln(own_k + a, own_n - own_k + b) - special.betaln(a, b)
        else:
            log = own_k * np.log(p) + (own_n - own_k) * np.log1p(-p)
        weight = stats.norm.logpdf(logit[:, 0], mean, sd) + np.log(logit[1, 0] - logit[0, 0])
        whole += special.logsumexp(log.sum(axis=1) + weight)
    found, slopes = _log_likelihood(mean, sd, rho, counts)
    assert found == pytest.approx(whole, abs=1e-6)

    def moved(x: np.ndarray) -> float:
        inside = special.expit(x[2]) if rho else 0.0
        return _log_likelihood(x[0], np.exp(x[1]), inside, counts)[0]

    at = np.array([mean, np.log(sd), special.logit(rho or 0.5)])
    steps = 1e-5 * np.eye(3)
    by_steps = [(moved(at + h) - moved(at - h)) / 2e-5 for h in steps]
    assert slopes == pytest.approx(by_steps, rel=1e-4, abs=1e-3)


def test_many_islets_of_a_batch_do_not_hide_their_scatter() -> None:
    s = variance_split(*nested(6, 4, 0.02, 0.05, islets=800))
    assert s.icc_islet == pytest.approx(0.05, abs=0.01)
    assert s.batch_sd_pp < 2


def test_components_are_recovered() -> None:
    s = variance_split(*nested(1, 40, 0.4, 0.06))
    assert s.icc_islet - s.icc_batch == pytest.approx(0.06, abs=0.015)
    assert s.batch_sd_pp == pytest.approx(9.6, abs=2.5)
    assert s.design_effect > s.design_effect_islet > 5
    assert s.effective_cells == pytest.approx(s.n_cells / s.design_effect)


def test_boundaries() -> None:
    flat = variance_split(*nested(2, 6, 0, 0))
    assert flat.icc_islet < 0.01
    assert flat.design_effect < 4
    one = variance_split(*nested(3, 1, 0, 0.1))
    assert np.isnan(one.icc_batch)
    assert np.isnan(one.batch_sd_pp)
    assert one.icc_islet > 0.02
    # one islet is all positive, the other all negative
    extreme = variance_split([100, 0], [100, 100], ["a", "a"])
    assert extreme.icc_islet > 0.8
    for k in ([0, 0], [10, 10]):
        with pytest.raises(NotEstimableError):
            variance_split(k, [10, 10], ["a", "b"])
    with pytest.raises(NotEstimableError):
        variance_split([3], [10], ["a"])


def test_batches_may_be_of_any_size_and_order() -> None:
    k, n, group = nested(4, 5, 0.4, 0.08)
    order = np.random.default_rng(0).permutation(len(k))
    a = variance_split(k, n, group)
    b = variance_split(k[order], n[order], np.array(list("abcde"))[group[order]])
    assert a.icc_islet == pytest.approx(b.icc_islet, rel=1e-3)
    assert a.batch_sd_pp == pytest.approx(b.batch_sd_pp, rel=1e-2)


def test_table_of_a_summary_says_why_not() -> None:
    import pandas as pd

    cells = pd.DataFrame({"image": ["a"] * 40, "islet": [1] * 20 + [2] * 20})
    cells["cell"] = np.arange(40)
    cells["excluded"] = False
    cells["INS_call"] = "negative"
    cells["INS_probability"] = 0.0
    table = variance_table(summarise(cells, markers=["INS"]))
    assert "no variance" in table["note"].iloc[0]


def test_planning_table_of_the_literature() -> None:
    assert [round(batch_se_pp(i, fraction=0.43), 1) for i in (5, 10, 20, 40)] == [
        5.2,
        3.7,
        2.6,
        1.9,
    ]
    pairs = [batches_for_difference(d, sd_pp=6.75, paired=True) for d in (5, 10, 15, 20)]
    assert pairs == [17, 6, 4, 4]


def test_power_is_that_of_simulated_t_tests() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(10, 8, (4000, 6))
    found = np.mean(stats.ttest_1samp(d, 0, axis=1).pvalue < 0.05)
    assert power(6, 10, sd_pp=8, paired=True) == pytest.approx(found, abs=0.03)
    x, y = rng.normal(0, 8, (4000, 6)), rng.normal(10, 8, (4000, 6))
    found = np.mean(stats.ttest_ind(x, y, axis=1).pvalue < 0.05)
    assert power(6, 10, sd_pp=8, paired=False) == pytest.approx(found, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 40), difference=st.floats(0.1, 60), sd=st.floats(0.5, 30), paired=st.booleans()
)
def test_power_grows_with_batches_and_difference(n, difference, sd, paired) -> None:
    here = power(n, difference, sd_pp=sd, paired=paired)
    assert 0 <= here <= 1
    assert power(n + 1, difference, sd_pp=sd, paired=paired) >= here - 1e-9
    assert power(n, difference * 1.1, sd_pp=sd, paired=paired) >= here - 1e-9
    assert here >= 0.05 - 1e-6


def test_the_simulated_power_is_that_of_the_test_that_is_made() -> None:
    """Where fractions are middling it is about the t test's; where they are rare, far less."""
    sd = 100 * np.sqrt(0.45 * 0.55 * (0.03 + 0.97 * (1 + 99 * 0.08) / 1500))
    middling = power_for_fractions(10, 0.55, 0.4, runs=400)
    assert middling == pytest.approx(power(10, 15, sd_pp=sd, paired=False), abs=0.1)
    few, more = (power_for_fractions(n, 0.08, 0.02, runs=200) for n in (3, 16))
    assert few < 0.1 < 0.5 < more
    assert power_for_fractions(6, 0.98, 0.92, paired=True, runs=200) == pytest.approx(
        power_for_fractions(6, 0.02, 0.08, paired=True, runs=200), abs=0.1
    )
    paired, apart = (power_for_fractions(6, 0.3, 0.2, paired=p, runs=200) for p in (True, False))
    assert paired > apart


def test_batches_for_fractions_is_the_first_number_with_that_power() -> None:
    n = batches_for_fractions(0.3, 0.05, runs=200)
    assert power_for_fractions(n, 0.3, 0.05, runs=200) >= 0.8
    assert power_for_fractions(n - 1, 0.3, 0.05, runs=200) < 0.8
    with pytest.raises(NotEstimableError, match="would take over 128"):
        batches_for_fractions(0.011, 0.01, runs=2)
    for wrong in ({"fraction": 0}, {"icc": 1.0}, {"islets": 0}, {"correlation": 2}):
        with pytest.raises(IsletImagingError):
            power_for_fractions(**{"n_batches": 4, "fraction": 0.1, "reference": 0.2, **wrong})


def test_plan_says_that_batches_beat_islets() -> None:
    p = plan(islets=(5, 20, 40))
    assert p["batch_se_pp"].is_monotonic_decreasing
    assert p["batches_for_width"].iloc[1] == p["batches_for_width"].iloc[2]
    assert batches_for_width(10, sd_pp=9) > batches_for_width(20, sd_pp=9)
    with pytest.raises(NotEstimableError, match="1000"):
        batches_for_difference(0.01, sd_pp=20, paired=True)
    with pytest.raises(IsletImagingError):
        plan(fraction=45)


def test_sections() -> None:
    read = [
        round(
            100
            * float(
                apparent_fraction(0.5, section_um=t, positive_height_um=7, negative_height_um=8.5)
            ),
            1,
        )
        for t in (3, 5, 10)
    ]
    assert read == [46.5, 47.1, 47.9]
    assert abercrombie(100, section_um=10, height_um=0) == 100
    with pytest.raises(IsletImagingError, match="thickness"):
        abercrombie(100, section_um=0, height_um=7)
    with pytest.raises(IsletImagingError):
        radial_weights([-1.0], radius_um=10)


@settings(max_examples=50, deadline=None)
@given(p=st.floats(0, 1), t=st.floats(1, 50), h=st.floats(3, 15), g=st.floats(3, 15))
def test_section_correction_undoes_the_bias(p: float, t: float, h: float, g: float) -> None:
    heights = {"section_um": t, "positive_height_um": h, "negative_height_um": g}
    read = apparent_fraction(p, **heights)
    assert 0 <= read <= 1
    assert float(abercrombie_fraction(read, **heights)) == pytest.approx(p, abs=1e-9)


def test_control_chart() -> None:
    rng = np.random.default_rng(0)
    alarms = np.mean(
        [control_chart(rng.normal(40, 2, 9))["status"].iloc[-1] != "in control" for _ in range(250)]
    )
    # 2 SD of a known normal: 4.6 %; the limits allow for the SD being estimated from 8 runs
    assert 0.02 < alarms < 0.09
    c = control_chart([40, 41, 42, 41, 40, 41, 55], baseline=5)
    assert c["status"].tolist()[:3] == ["no limits"] * 3
    assert c["status"].iloc[-1] == "out of control"
    assert c["low_3sd"].iloc[-1] < c["low_2sd"].iloc[-1] < c["mean"].iloc[-1]
    with pytest.raises(IsletImagingError):
        control_chart([1, 2, np.nan])
    with pytest.raises(IsletImagingError, match="3 runs"):
        control_chart([1, 2, 3], baseline=2)
