"""A staining run's fit: where the network's logit has its zero."""

import json

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info

from islet_imaging.positivity import Threshold, call_marker, fit_marker, fitting, image_threshold
from islet_imaging.protocol import Channel, Positivity, Protocol

PROTOCOL = Protocol(
    (Channel("DAPI", "dna"), Channel("INS")), positivity={"INS": Positivity(method="network")}
)


def cells(
    image: str, positive: int, n: int = 120, logits=(-5.0, 5.0), dim: int = 0
) -> pd.DataFrame:
    """An image whose first cells are positive, and last ones so dim that nobody can tell."""
    rng = np.random.default_rng(len(image) + positive)
    lit = np.arange(n + dim) < positive
    light = np.where(lit, 900.0, 20.0) * rng.lognormal(0, 0.25, n + dim)
    light[n:] = np.geomspace(90, 350, dim)
    odds = np.where(lit, logits[1], logits[0]) + rng.normal(0, 0.5, n + dim)
    odds[n:] = np.mean(logits)
    return pd.DataFrame(
        {
            "image": image,
            "islet": 1,
            "cell": np.arange(1, n + dim + 1),
            "y_um": 20.0 * (np.arange(n + dim) // 12),
            "x_um": 20.0 * (np.arange(n + dim) % 12),
            "excluded": False,
            "INS_ring_mean": light,
            "INS_ring_p25": light,
            "INS_sector_p25": light,
            "INS_nucleus_mean": light,
            "INS_network_own": light,
            "INS_network_odds": odds,
        }
    )


def fit_both(**how):
    images = [cells("a", 40, dim=10, **how), cells("bb", 60, dim=10, **how)]
    return fit_marker(images, [], "INS", PROTOCOL), images


@pytest.mark.parametrize("lower", [0.0, 1.5, 3.0])
def test_a_stain_that_the_network_takes_for_less_of_a_pattern_is_called_the_same(lower):
    usual, images = fit_both()
    threshold, lowered = fit_both(logits=(-5.0, 5.0 - 2 * lower))
    assert threshold.network.logit_zero == pytest.approx(-lower, abs=0.3)
    # cells as unclear to the network as to the eye are called by their light, in either stain
    for image, same in zip(images, lowered, strict=True):
        expected = call_marker(image, "INS", usual, PROTOCOL).tail(10)["INS_probability"]
        found = call_marker(same, "INS", threshold, PROTOCOL).tail(10)["INS_probability"]
        np.testing.assert_allclose(found, expected, atol=0.06)


def test_an_image_of_one_kind_of_cells_tells_no_zero():
    """Logits of positive cells fall with the share of them, so kinds are held together."""
    few = [cells("a", 3), cells("bb", 117, logits=(-3.0, 1.0))]
    assert fit_marker(few, [], "INS", PROTOCOL).network.logit_zero == 0
    with_mixed = fit_marker([*few, cells("ccc", 50)], [], "INS", PROTOCOL)
    assert with_mixed.network.logit_zero == pytest.approx(0.0, abs=0.3)


def test_an_image_with_hardly_a_dark_cell_reads_a_zero_of_its_own():
    """With nothing to hold them against bright cells show less of a pattern, dim ones even less."""
    mixed = [cells("a", 50, logits=(-5.0, 1.0)), cells("bb", 60, logits=(-5.0, 1.0))]
    bright = cells("ccc", 300, n=300, logits=(-5.0, -2.0), dim=10)
    bright.loc[300:, "INS_network_odds"] = -3.0
    threshold = fit_marker([*mixed, bright], [], "INS", PROTOCOL)
    assert threshold.network.logit_gap == pytest.approx(3.0, abs=0.3)
    own = image_threshold(bright, threshold)
    # three quarters of the way, by 300 clear cells, from the run's -2 to -2 - 3
    assert own.network.logit_zero == pytest.approx(-4.25, abs=0.3)
    whole = call_marker(bright, "INS", threshold, PROTOCOL)
    called = call_marker(bright.tail(20), "INS", own, PROTOCOL)
    # a part of the image is called as the whole image is, but for light of neighbours left out
    expected = whole["INS_probability"].tail(20)
    np.testing.assert_allclose(called["INS_probability"], expected, atol=0.001)
    # an image that shows no bright cell is called by the run's
    dark = cells("d", 0)
    assert image_threshold(dark, threshold).network.logit_zero == threshold.network.logit_zero
    # a threshold stored before there was such a thing calls as it did then
    older = {**threshold.to_dict(), "version": 4}
    older["network"] = {k: v for k, v in older["network"].items() if k != "logit_gap"}
    del older["plain"], older["relative"]
    kept = image_threshold(bright, Threshold.from_dict(older)).network
    assert kept.logit_zero == threshold.network.logit_zero
    assert Threshold.from_dict(json.loads(json.dumps(threshold.to_dict()))) == threshold


def test_a_fit_leaves_other_cores_alone(monkeypatch):
    """Products of small matrices on many threads cost four times the processor's time."""
    seen = []

    def level_of(*args):
        seen.extend(lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas")
        return read(*args)

    read = fitting.level_of
    monkeypatch.setattr(fitting, "level_of", level_of)
    fit_marker([cells("a", 40)], [], "INS", PROTOCOL)
    assert seen
    assert set(seen) == {1}
