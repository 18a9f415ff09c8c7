import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.errors import ProtocolError
from islet_imaging.positivity import Threshold, fit_threshold, trimmed_quantile


def negatives(rng, n, level=60.0, offset=110.0):
    return offset + level * rng.lognormal(0, 0.3, n)


def positives(rng, n, level=900.0):
    return 110.0 + level * rng.lognormal(0, 0.7, n)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def test_control_quantile_is_deaf_to_debris(rng):
    clean = negatives(rng, 2000)
    debris = np.append(clean, rng.uniform(500, 2500, 60))
    assert np.quantile(debris, 0.995) > 600
    assert trimmed_quantile(debris, 0.995) == pytest.approx(trimmed_quantile(clean, 0.995), rel=0.1)


def test_control_keeps_false_positives_low(rng):
    cut = fit_threshold(negatives(rng, 500), control=negatives(rng, 2000), method="control")
    assert cut.status == "few_controls"  # one image only
    assert np.mean(negatives(rng, 20000) > cut.value) < 0.012
    assert cut.low < cut.value < cut.high


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.97, 1.0])
def test_fraction_with_control(rng, share):
    n = 2000
    k = round(share * n)
    sample = np.concatenate([negatives(rng, n - k), positives(rng, k)])
    control = negatives(rng, 1500)
    cut = fit_threshold(
        sample,
        control=control,
        control_images=np.repeat(["a", "b", "c"], 500),
        method="control_mixture",
    )
    assert cut.status == "ok"
    assert np.mean(sample > cut.value) == pytest.approx(share, abs=0.025)


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.5])
def test_one_population_is_never_split(rng, spread):
    for dirt in (0, 10):
        one = 100 + 50 * rng.lognormal(0, spread, 3000)
        one[:dirt] *= 8
        cut = fit_threshold(one, method="mixture")
        assert cut.status == "not_estimable", cut.reason
        assert cut.value is None
        assert (cut.probability(one) == 0.5).all()


def test_two_populations_without_control(rng):
    sample = np.concatenate([negatives(rng, 1200), positives(rng, 800)])
    cut = fit_threshold(sample, method="mixture")
    assert cut.status == "ok"
    assert np.mean(sample > cut.value) == pytest.approx(0.4, abs=0.02)
    assert cut.populations.separation > 2


@settings(max_examples=25, deadline=None)
@given(
    gain=st.floats(0.2, 5), offset=st.floats(-50, 400), share=st.sampled_from([0.0, 0.1, 0.5, 0.9])
)
def test_gain_and_offset_change_nothing(gain, offset, share):
    rng = np.random.default_rng(5)
    k = int(1000 * share)
    sample = np.concatenate([negatives(rng, 1000 - k), positives(rng, k)])
    control = negatives(rng, 800)
    plain = fit_threshold(sample, control=control, method="control_mixture", bootstrap=0)
    moved = fit_threshold(
        sample * gain + offset,
        control=control * gain + offset,
        method="control_mixture",
        bootstrap=0,
    )
    np.testing.assert_allclose(
        plain.probability(sample), moved.probability(sample * gain + offset), atol=0.01
    )


def test_exposure_doubled_in_both_changes_little(rng):
    sample = np.concatenate([negatives(rng, 600), positives(rng, 400)])
    control = negatives(rng, 800)
    once = fit_threshold(sample, control=control, method="control_mixture")
    twice = fit_threshold(
        2 * (sample - 100) + 100, control=2 * (control - 100) + 100, method="control_mixture"
    )
    share = [np.mean(sample > once.value), np.mean(2 * (sample - 100) + 100 > twice.value)]
    assert abs(share[0] - share[1]) <= 0.02


def test_round_trip_with_plain_values(rng):
    cut = fit_threshold(positives(rng, 50), control=negatives(rng, 300), method="control_mixture")
    text = json.dumps(cut.to_dict())
    assert Threshold.from_dict(json.loads(text)) == cut
    with pytest.raises(ProtocolError, match="unknown key"):
        Threshold.from_dict({**cut.to_dict(), "turn": 1})


def test_same_input_same_answer(rng):
    sample, control = positives(rng, 50), negatives(rng, 300)
    one = fit_threshold(sample, control=control)
    assert one == fit_threshold(sample, control=control)


def test_otsu_and_manual(rng):
    sample = np.concatenate([negatives(rng, 600), positives(rng, 400)])
    assert fit_threshold(sample, method="otsu").value > 300
    assert fit_threshold(sample, method="manual", value=500.0).value == 500.0


def test_errors(rng):
    with pytest.raises(ProtocolError, match="negative controls"):
        fit_threshold([1.0, 2.0], method="control")
    with pytest.raises(ProtocolError, match="threshold"):
        fit_threshold([1.0, 2.0], method="manual")
    with pytest.raises(ProtocolError, match="control_images"):
        fit_threshold([1.0], control=np.ones(20), control_images=["a"])


@pytest.mark.parametrize("values", [[], [np.nan] * 30, [5.0] * 100, [1.0, 2.0]])
def test_odd_values_are_not_estimable(values):
    cut = fit_threshold(values, method="mixture")
    assert cut.status == "not_estimable"


def test_quantised_control():
    control = np.tile([3.0, 3.0, 3.0, 4.0, 4.0], 200)
    sample = np.concatenate([control, np.full(500, 120.0)])
    cut = fit_threshold(sample, control=control, method="control_mixture")
    assert 4 <= cut.value < 120


def test_a_threshold_stored_by_an_earlier_version_is_read():
    flat = {
        "method": "network", "feature": "INS_own", "value": 120.0, "low": 110.0, "high": 130.0,
        "status": "few_controls", "reason": "why", "n_cells": 9, "n_control_cells": 5,
        "n_control_images": 1, "zero": 100.0, "soft": 4.0, "bright": 90.0,
        "weights": [1.0, 0.5, 0.2, 0.1], "mix_soft": 3.0, "mix_slope": 2.0, "mix_cut": 1.5,
        "negative_location": 101.0, "negative_scale": 4.5, "positive_location": 190.0,
        "positive_fraction": 0.3, "separation": 4.0, "measured": "INS_sector_p25",
        "spill_near": 0.1, "spill_far": 0.02, "spill_zero": 99.0, "per_image": False,
        "network_zero": 7.0, "network_bright": 60.0, "network_weight": 1.1,
        "picture_weight": 0.5,
    }  # fmt: skip
    read = Threshold.from_dict(flat)
    assert (read.value, read.low, read.high, read.status) == (120.0, 110.0, 130.0, "few_controls")
    assert read.model.weights == (1.0, 0.5, 0.2, 0.1)
    assert read.populations.positive_share == 0.3
    assert read.spill.shares == (0.1, 0.02)
    assert read.network.logit_weight == 0.5
    assert read.used.control_images == 1
    assert read.measured == "INS_sector_p25"
    assert Threshold.from_dict(read.to_dict()) == read
    second = {**read.to_dict(), "version": 2}
    second["model"].pop("left_over")
    assert Threshold.from_dict(second) == read
    third = {**read.to_dict(), "version": 3}
    third["network"].pop("logit_zero")
    assert Threshold.from_dict(third) == read
    with pytest.raises(ProtocolError, match="version 6"):
        Threshold.from_dict({**read.to_dict(), "version": 6})
    with pytest.raises(ProtocolError, match="4 weights"):
        Threshold.from_dict({**flat, "weights": [1.0]})


def test_each_door_takes_only_the_methods_it_can_do():
    with pytest.raises(ProtocolError, match="no method 'auto'"):
        fit_threshold([1.0, 2.0], method="auto")
    with pytest.raises(ProtocolError, match="no method 'levels'"):
        fit_threshold([1.0, 2.0], method="levels")


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3])
def test_exact_zeros_make_no_positive_cells(rng, share):
    """As after unmixing: most dark cells at exactly 0, others a little above."""
    dark = np.maximum(rng.normal(-0.05, 0.1, round(3000 * (1 - share))), 0)
    sample = np.append(dark, rng.normal(9, 2, round(3000 * share)))
    cut = fit_threshold(sample, method="mixture", bootstrap=0)
    assert cut.estimable
    assert np.mean(sample > cut.value) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("scale", [0.02, 0.3])
def test_zeros_with_a_tail_are_refused(rng, scale):
    tail = np.where(rng.random(3000) < 0.6, 0.0, scale * rng.lognormal(0, 1.2, 3000))
    assert not fit_threshold(tail, method="mixture", bootstrap=0).estimable


@pytest.mark.parametrize("share", [0.03, 0.08])
def test_few_bright_cells_over_a_tight_peak_have_a_threshold(rng, share):
    n = round(2500 * share)
    sample = np.append(rng.normal(100, 7, 2500 - n), rng.normal(230, 18, n))
    cut = fit_threshold(sample, method="mixture", bootstrap=0)
    assert cut.estimable, cut.reason
    assert np.mean(sample > cut.value) == pytest.approx(share, abs=0.005)


def test_cells_between_dark_and_bright_leave_no_threshold(rng):
    dark, bright = rng.normal(10, 1, 1500), rng.normal(100, 10, 500)
    between = 10 + rng.exponential(25, 1500)
    cut = fit_threshold(np.concatenate([dark, bright, between]), method="mixture", bootstrap=0)
    assert not cut.estimable
