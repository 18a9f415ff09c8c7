"""Intervals: limits, symmetry, no false precision, and coverage where it can be had quickly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from islet_imaging.errors import IsletImagingError
from islet_imaging.statistics import (
    batch_interval,
    cells_to_detect,
    clopper_pearson,
    describe_rare,
    islet_interval,
    upper_bound,
)
from islet_imaging.statistics.batch_model import mean_distribution
from islet_imaging.statistics.outliers import outlying

pairs = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 300)), min_size=2, max_size=12).map(
    lambda rows: (np.array([min(k, n) for k, n in rows]), np.array([n for _, n in rows]))
)


@pytest.mark.parametrize("over", [batch_interval, islet_interval])
@settings(max_examples=150, deadline=None)
@given(data=pairs)
def test_interval_holds_its_estimate_and_stays_a_fraction(over, data) -> None:
    k, n = data
    i = over(k, n)
    assert 0 <= i.low <= i.fraction <= i.high <= 1
    assert i.high > i.low


@pytest.mark.parametrize("over", [batch_interval, islet_interval])
@settings(max_examples=80, deadline=None)
@given(data=pairs, seed=st.integers(0, 99))
def test_order_does_not_matter_and_negatives_mirror(over, data, seed) -> None:
    k, n = data
    order = np.random.default_rng(seed).permutation(len(k))
    i, j, m = over(k, n), over(k[order], n[order]), over(n - k, n)
    np.testing.assert_allclose([i.fraction, i.low, i.high], [j.fraction, j.low, j.high], atol=1e-9)
    np.testing.assert_allclose(
        [1 - i.fraction, 1 - i.high, 1 - i.low], [m.fraction, m.low, m.high], atol=1e-9
    )


@pytest.mark.parametrize("over", [batch_interval, islet_interval])
@settings(max_examples=60, deadline=None)
@given(data=pairs)
def test_more_confidence_is_wider(over, data) -> None:
    narrow, wide = over(*data, level=0.8), over(*data, level=0.99)
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


def test_equal_batches_are_not_certain() -> None:
    i = batch_interval([50, 50, 50], [100, 100, 100])
    # counting 300 cells alone gives +-5.7 points
    assert i.high - i.low > 0.07


def test_fraction_is_the_mean_of_batches_not_of_cells() -> None:
    assert batch_interval([10, 900], [100, 1000]).fraction == pytest.approx(0.5)
    assert islet_interval([10, 900], [100, 1000]).fraction == pytest.approx(910 / 1100)


def test_one_unit_has_no_interval() -> None:
    for over in (batch_interval, islet_interval):
        i = over([5], [10])
        assert i.fraction == 0.5
        assert np.isnan(i.low)
        assert np.isnan(over([], []).fraction)


def test_units_without_cells_count_for_nothing() -> None:
    assert batch_interval([5, 0, 6], [10, 0, 10]) == batch_interval([5, 6], [10, 10])


def test_none_seen_is_bounded_over_batches() -> None:
    i = batch_interval([0, 0, 0], [500, 1000, 1000])
    assert (i.low, i.fraction) == (0, 0)
    # far beyond what counting 2500 independent cells, or the 500 of the smallest batch, would give
    assert 0.02 < i.high < 0.15
    more = batch_interval([0] * 10, [1000] * 10)
    assert more.high < i.high / 3
    every = batch_interval([500, 1000, 1000], [500, 1000, 1000])
    np.testing.assert_allclose([1 - every.high, 1 - every.low], [i.low, i.high], atol=1e-9)


def test_none_in_islets_counts_clusters_not_cells() -> None:
    i = islet_interval([0] * 10, [100] * 10)
    assert i.low == 0
    # ten islets of 100 cells are worth 16 independent cells each where cells correlate by 0.15
    assert i.high == pytest.approx(-np.log(0.025) / 166, rel=0.02)


def test_a_tiny_batch_weighs_little_in_the_interval() -> None:
    with_it = batch_interval([400, 420, 380, 3], [1000, 1000, 1000, 3])
    without = batch_interval([400, 420, 380], [1000, 1000, 1000])
    assert with_it.fraction > 0.54
    assert with_it.low == pytest.approx(without.low, abs=0.05)


def test_what_cannot_be_trusted_says_so() -> None:
    assert "2 batches" in batch_interval([400, 420], [1000, 1000]).caution
    failed = batch_interval([480, 520, 10, 450], [1000] * 4)
    assert "two kinds" in failed.caution
    assert "order of magnitude" in batch_interval([0, 1, 0], [1000] * 3).caution
    assert batch_interval([480, 520, 390, 450], [1000] * 4).caution == ""


def test_what_is_wide_by_design_says_so_and_why() -> None:
    three = batch_interval([480, 520, 390], [1000] * 3)
    assert (three.caution, three.wide[:14]) == ("", "wide by design")
    rare = batch_interval([3, 9, 1, 4], [1000] * 4)
    assert "lower limit leaves room" in rare.wide
    assert "upper limit leaves room" in batch_interval([997, 991, 999, 996], [1000] * 4).wide
    # plainly: enough batches, and a fraction that they know
    assert batch_interval([480, 520, 390, 450], [1000] * 4).wide == ""
    # one word at a time: what cannot be trusted is not called wide
    assert batch_interval([0, 1, 0], [1000] * 3).wide == ""


def test_the_lower_limit_of_a_rare_fraction_leaves_room_the_upper_one_not() -> None:
    k, n = np.array([3.0, 9, 1]), np.array([1000.0] * 3)
    i, plain = batch_interval(k, n), mean_distribution(k, n)
    assert i.low < plain.quantile(0.005)
    assert i.high == pytest.approx(float(plain.quantile(0.975)))
    k = np.array([420.0, 500, 610])
    i, plain = batch_interval(k, n), mean_distribution(k, n)
    assert i.low == pytest.approx(float(plain.quantile(0.025)))


def test_batches_with_next_to_nothing_are_found_where_half_of_them_scatter() -> None:
    """Three failed of eight hide each other from any spread."""
    k = np.array([280, 450, 12, 390, 9, 520, 15, 350])
    assert np.flatnonzero(outlying(k, np.full(8, 1000))).tolist() == [2, 4, 6]
    # of rare fractions a tenth is nothing odd
    assert not outlying([1, 14, 11, 9], [1000] * 4).any()


def test_failed_batches_are_found_also_when_there_are_two() -> None:
    n = np.full(10, 1000)
    k = np.array([500, 450, 20, 520, 480, 530, 10, 470, 510, 490])
    assert np.flatnonzero(outlying(k, n)).tolist() == [2, 6]
    assert not outlying(np.delete(k, [2, 6]), n[:8]).any()
    # an odd fraction of three cells is no odd batch
    assert not outlying([500, 450, 0, 480], [1000, 1000, 3, 1000]).any()
    assert not outlying([500, 0], [1000, 1000]).any()


def test_outlying_batches_are_rarely_found_where_there_are_none() -> None:
    rng = np.random.default_rng(0)
    found = [
        outlying(
            rng.binomial(1000, special.expit(rng.normal(-0.3, 0.35, 5))), np.full(5, 1000)
        ).any()
        for _ in range(400)
    ]
    assert np.mean(found) < 0.05


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(IsletImagingError, match="exceeds"):
        batch_interval([11, 2], [10, 10])
    with pytest.raises(IsletImagingError, match="length"):
        batch_interval([1, 2, 3], [10, 10])
    with pytest.raises(IsletImagingError, match="level"):
        islet_interval([1, 2], [10, 10], level=95)


def test_it_covers_the_mean_where_the_mean_of_logits_does_not() -> None:
    """Ten wildly different batches at a low fraction: the textbook interval misses one in five."""
    rng = np.random.default_rng(7)
    u = rng.normal(0, 0.8, 200_000)
    shift = -3.4
    truth = special.expit(shift + u).mean()
    ours = textbook = 0
    runs = 1500
    for _ in range(runs):
        k = rng.binomial(1200, special.expit(shift + rng.normal(0, 0.8, 10)))
        n = np.full(10, 1200)
        i = batch_interval(k, n)
        ours += i.low <= truth <= i.high
        logit = np.log((k + 0.5) / (n - k + 0.5))
        half = stats.t.ppf(0.975, 9) * logit.std(ddof=1) / np.sqrt(10)
        low, high = special.expit([logit.mean() - half, logit.mean() + half])
        textbook += low <= truth <= high
    assert 0.92 < ours / runs < 0.97
    assert textbook / runs < 0.9


def test_rare_events() -> None:
    assert upper_bound(3000) == pytest.approx(3 / 3000, rel=0.01)
    assert upper_bound(0) == 1
    low, high = clopper_pearson(5, 100)
    # the definition: each limit leaves 2.5 % in its tail
    assert stats.binom.sf(4, 100, low) == pytest.approx(0.025, abs=1e-6)
    assert stats.binom.cdf(5, 100, high) == pytest.approx(0.025, abs=1e-6)
    n = cells_to_detect(0.01)
    assert 1 - 0.99**n >= 0.95 > 1 - 0.99 ** (n - 1)
    assert "0 %" not in describe_rare(0, 5000).replace("at most 0.06 %", "").replace("95 %", "")
    for bad in ((-1, 10), (11, 10)):
        with pytest.raises(IsletImagingError):
            clopper_pearson(*bad)
    with pytest.raises(IsletImagingError):
        cells_to_detect(0)
