"""Images stretched one by one: what one that shows a single population takes from the others."""

import json

import numpy as np
import pandas as pd
import pytest

from islet_imaging.positivity import Threshold, call_marker, fit_marker
from islet_imaging.protocol import Channel, Protocol

PROTOCOL = Protocol((Channel("DAPI", "dna"), Channel("INS")))
SHARES = {"few": 0.3, "half": 0.5, "none": 0.0, "all": 1.0, "most": 0.97}


def image(name, share, *, n=300, gain=1.0, offset=0.0, sees=1.0, lower=0.0, seed=0):
    """Cells of an image that was stretched.

    ``sees`` is how much of a pattern the network sees, ``lower`` what granules take off.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    truth = np.arange(n) < round(share * n)
    light = np.where(truth, rng.lognormal(6.0, 0.25, n), rng.lognormal(4.6, 0.15, n))
    level = offset + gain * light
    return pd.DataFrame(
        {
            "image": name,
            "y_um": 20.0 * (np.arange(n) // 20),
            "x_um": 20.0 * (np.arange(n) % 20),
            "excluded": False,
            "truth": truth,
            "INS_ring_mean": level,
            "INS_sector_p25": level,
            "INS_background": offset + 40.0 * gain,
            # every image has pixels at the end of its scale
            "INS_saturated": np.where(np.arange(n) == 0, 0.3, 0.0),
            "INS_network_own": level - offset,
            "INS_network_odds": sees * np.where(truth, 3.0, -3.0) + rng.normal(0, 0.7, n) - lower,
        }
    )


def stretched(shares=SHARES, **how):
    """A run in which every image has a gain and an offset of its own."""
    ways = zip(shares, (1.0, 1.3, 4.0, 0.8, 0.9), (0, 15, 60, 5, 8), strict=False)
    return [image(k, shares[k], gain=g, offset=o, **how) for k, g, o in ways]


def fractions(samples, fitted):
    called = pd.concat([call_marker(s, "INS", fitted, PROTOCOL) for s in samples])
    return called.groupby("image")["INS_probability"].mean()


def test_an_image_of_one_population_is_placed_by_its_background_and_the_others():
    samples = stretched()
    fitted = fit_marker(samples, [], "INS", PROTOCOL)
    assert fitted.per_image
    assert fitted.relative.images == 2
    assert "lend" in fitted.reason
    found = fractions(samples, fitted)
    for name in ("none", "all", "most"):
        assert found[name] == pytest.approx(SHARES[name], abs=0.02), name


def test_gain_and_offset_of_such_an_image_change_nothing():
    samples = stretched()
    fitted = fit_marker(samples, [], "INS", PROTOCOL)

    def called(**how):
        return [
            call_marker(image(k, SHARES[k], **how), "INS", fitted, PROTOCOL)["INS_probability"]
            for k in ("none", "all")
        ]

    for one, other in zip(called(), called(gain=2.5, offset=30.0), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_stored_threshold_keeps_what_was_lent():
    samples = stretched()
    fitted = fit_marker(samples, [], "INS", PROTOCOL)
    again = Threshold.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    alone = {**fitted.to_dict(), "version": 4}
    del alone["relative"]
    assert Threshold.from_dict(alone).relative is None


@pytest.mark.parametrize(
    ("shares", "control", "sees"),
    [
        ({"half": 0.5, "none": 0.0, "all": 1.0}, None, {}),  # one image shows both
        (SHARES, None, {"sees": 0.1}),  # the network sees no pattern where intensities are clear
        (SHARES, None, {"lower": 2.0}),  # so little that positive cells alone would look negative
        (SHARES, 0.03, {}),  # it sees one in the control, which is dark
    ],
)
def test_nothing_is_lent_where_it_is_not_proven(shares, control, sees):
    samples = stretched(shares, **sees)
    controls = []
    if control is not None:
        dark = image("control", 0.0, gain=3.0)
        dark.loc[: int(control * len(dark)), "INS_network_odds"] = 3.0
        controls = [dark]
    fitted = fit_marker(samples, controls, "INS", PROTOCOL)
    assert fitted.per_image
    assert fitted.relative is None
    found = fractions(samples, fitted)
    assert found[["none", "all"]].isna().all()


def test_an_image_that_may_be_either_has_no_number():
    samples = stretched()
    fitted = fit_marker(samples, [], "INS", PROTOCOL)
    # all cells are positive, and the network sees a pattern in a quarter of them
    odd = image("all", 1.0)
    odd.loc[75:, "INS_network_odds"] -= 4.0
    assert fractions([odd], fitted).isna().all()
