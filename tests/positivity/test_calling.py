import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from islet_imaging.errors import ProtocolError
from islet_imaging.positivity import (
    Cut,
    Threshold,
    assign_phenotypes,
    call_cells,
    call_marker,
    fit_marker,
    fit_threshold,
    image_threshold,
)
from islet_imaging.positivity.spillover import estimate_spill, neighbourhood, own_level
from islet_imaging.positivity.threshold import IntensityModel
from islet_imaging.protocol import Channel, Positivity, Protocol

PROTOCOL = Protocol((Channel("DAPI", "dna"), Channel("INS")))


def cells(rng, n, share, *, image="a", spill=(0.0, 0.0), gain=1.0, offset=100.0, level=800.0):
    """A table of cells whose light is known: own, and what neighbours throw on them."""
    side = 9.0 * np.sqrt(n)
    y, x = rng.uniform(0, side, (2, n))
    table = pd.DataFrame({"image": image, "y_um": y, "x_um": x, "y_px": y, "x_px": x})
    truth = rng.random(n) < share
    own = np.where(truth, level * rng.lognormal(0, 0.6, n), 0.0)
    light = neighbourhood(table).light(own, spill)
    seen = own + light + 40 * rng.lognormal(0, 0.3, n) + rng.normal(0, 4, n)
    table["INS_sector_p25"] = offset + gain * seen
    table["INS_background"] = offset + 0.5 * gain
    return table.assign(truth=truth)


def scored(samples, controls, protocol=PROTOCOL):
    fitted = fit_marker(samples, controls, "INS", protocol)
    called = pd.concat([call_marker(s, "INS", fitted, protocol) for s in samples])
    return fitted, called


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("with_control", [True, False])
def test_fraction_under_heavy_spill(share, with_control):
    rng = np.random.default_rng(3)
    samples = [cells(rng, 500, share, image=f"s{k}", spill=(0.1, 0.03)) for k in range(3)]
    controls = [cells(rng, 400, 0.0, image=f"c{k}") for k in range(2)] if with_control else []
    fitted, called = scored(samples, controls)
    if share > 0.9 and not with_control:
        # hardly any dark cell to learn from: open, or said to be uncertain
        assert not fitted.estimable or "uncertain" in fitted.reason
        return
    naive = np.mean(called["INS_sector_p25"] > 100 + 40 * 2.2 + 10)
    assert naive - share > 0.02
    error = called["INS_probability"].mean() - called["truth"].mean()
    assert abs(error) < 0.05, (fitted.reason, error)
    # with few dark cells, own light and neighbours' light can hardly be told apart
    low, high = (0.05, 0.2) if share < 0.9 else (0.0, 0.3)
    assert low <= fitted.spill.near <= high


def test_all_negative_run_with_control_is_nearly_zero():
    rng = np.random.default_rng(4)
    samples = [cells(rng, 500, 0.0, image=f"s{k}") for k in range(3)]
    controls = [cells(rng, 400, 0.0, image=f"c{k}") for k in range(2)]
    fitted, called = scored(samples, controls)
    assert fitted.estimable
    assert called["INS_probability"].mean() < 0.025
    assert (called["INS_call"] == "positive").mean() < 0.005


def test_all_positive_run_with_control_is_nearly_one():
    rng = np.random.default_rng(5)
    samples = [cells(rng, 500, 1.0, image=f"s{k}") for k in range(3)]
    controls = [cells(rng, 400, 0.0, image=f"c{k}") for k in range(2)]
    assert scored(samples, controls)[1]["INS_probability"].mean() > 0.9


@pytest.mark.parametrize("seed", [6, 10, 11, 13])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_population_without_control_is_left_open(share, seed):
    rng = np.random.default_rng(seed)
    fitted, called = scored([cells(rng, 800, share)], [])
    assert fitted.status == "not_estimable"
    assert (called["INS_call"] == "unsure").all()
    assert called["INS_probability"].isna().all()
    assert called["INS_reason"].str.contains("no threshold").all()


def test_negative_image_among_positive_ones():
    rng = np.random.default_rng(7)
    samples = [cells(rng, 400, s, image=f"s{s}", spill=(0.1, 0.02)) for s in (0.0, 0.4, 0.8)]
    called = scored(samples, [])[1]
    assert called.loc[called["image"] == "s0.0", "INS_probability"].mean() < 0.03


def test_gain_and_offset_of_a_whole_run_change_nothing():
    def run(gain, offset):
        rng = np.random.default_rng(8)
        how = {"spill": (0.1, 0.02), "gain": gain, "offset": offset}
        samples = [cells(rng, 400, 0.4, image=f"s{k}", **how) for k in range(2)]
        controls = [cells(rng, 300, 0.0, image=f"c{k}", **how) for k in range(2)]
        return scored(samples, controls)[1]["INS_probability"].to_numpy()

    plain = run(1.0, 100.0)
    for gain, offset in ((0.5, 100.0), (2.0, 100.0), (1.0, 300.0)):
        np.testing.assert_allclose(run(gain, offset), plain, atol=0.02)


def test_controls_photographed_brighter_are_not_believed():
    rng = np.random.default_rng(9)
    samples = [cells(rng, 400, 0.4, image=f"s{k}") for k in range(2)]
    controls = [cells(rng, 300, 0.0, image=f"c{k}", gain=6.0) for k in range(2)]
    fitted, called = scored(samples, controls)
    assert "not comparable" in fitted.reason
    assert fitted.per_image
    # read image by image, whether they come in one table or in several
    together = call_cells(pd.concat(samples, ignore_index=True), "INS", fitted)
    pd.testing.assert_frame_equal(together, called.reset_index(drop=True))
    assert called["INS_probability"].mean() == pytest.approx(0.4, abs=0.06)


def test_a_part_of_an_image_is_called_by_the_levels_of_the_whole_image():
    rng = np.random.default_rng(3)
    whole = cells(rng, 600, 0.4)
    cut = fit_threshold([], feature="INS_own", method="manual", value=1.0)
    cut = dataclasses.replace(cut, measured="INS_sector_p25", method="levels", per_image=True)
    own = image_threshold(whole, cut, spillover=False)
    assert not own.per_image
    part = whole[whole["truth"]]  # only positive cells: of themselves they tell no levels
    of_part = call_cells(part, "INS", own, spillover=False)["INS_call"]
    of_whole = call_cells(whole, "INS", cut, spillover=False)["INS_call"]
    assert of_part.tolist() == of_whole[whole["truth"]].tolist()
    assert (of_part == "positive").mean() > 0.9
    # alone, the same cells would not be read so
    assert (call_cells(part, "INS", cut, spillover=False)["INS_call"] == "positive").mean() < 0.9


def test_images_that_can_be_compared_keep_the_runs_cut_and_have_a_share_of_their_own():
    rng = np.random.default_rng(0)
    samples = [cells(rng, 400, share, image=f"s{share}") for share in (0.1, 0.8)]
    fitted = fit_marker(samples, [], "INS", PROTOCOL)
    own = [image_threshold(s, fitted) for s in samples]
    assert {t.cut for t in own} == {fitted.cut}
    assert [t.share for t in own] == pytest.approx([0.1, 0.8], abs=0.1)
    assert fitted.share is None
    # a cut by hand is a cut, whatever the share
    cut = fit_threshold([], feature="INS_sector_p25", method="manual", value=300.0)
    called = call_cells(samples[1], "INS", cut)
    np.testing.assert_array_equal(
        called["INS_probability"] > 0.5, samples[1]["INS_sector_p25"] > 300.0
    )


@pytest.mark.parametrize("share", [0.02, 0.05, 0.4, 0.8, 0.95])
def test_a_fraction_does_not_shrink_towards_the_middle(share):
    rng = np.random.default_rng(20)
    # dim positives and bright negatives meet: many cells in doubt
    samples = [cells(rng, 1500, share, image=f"s{k}", level=200.0) for k in range(3)]
    controls = [cells(rng, 600, 0.0, image=f"c{k}") for k in range(3)]
    called = scored(samples, controls)[1]
    unsure = called["INS_call"] == "unsure"
    counted = called["INS_probability"].where(unsure, called["INS_call"] == "positive")
    assert unsure.mean() > 0.004
    assert float(counted.mean()) == pytest.approx(called["truth"].mean(), abs=0.04)


def test_stored_threshold_calls_the_same():
    rng = np.random.default_rng(10)
    samples = [cells(rng, 300, 0.4, image="s", spill=(0.1, 0.02))]
    fitted, called = scored(samples, [])
    again = Threshold.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    pd.testing.assert_frame_equal(call_marker(samples[0], "INS", again, PROTOCOL), called)


def test_spill_is_found_again():
    rng = np.random.default_rng(11)
    table = cells(rng, 1500, 0.4, spill=(0.12, 0.03))
    above = table["INS_sector_p25"].to_numpy() - 140
    around = neighbourhood(table)
    near, far = estimate_spill(above, around, 14.0)
    assert near == pytest.approx(0.12, abs=0.05)
    assert far == pytest.approx(0.03, abs=0.01)
    own = own_level(above, around, (0.12, 0.03))
    negative = ~table["truth"].to_numpy()
    assert np.median(own[negative]) == pytest.approx(0, abs=5)


def test_images_do_not_light_each_other():
    one = pd.DataFrame({"image": ["a", "b"], "y_um": [0.0, 0.0], "x_um": [0.0, 3.0]})
    assert neighbourhood(one).near.nnz == 0
    assert neighbourhood(one.assign(image="a")).near.nnz == 2


def test_images_may_be_mixed_in_a_table():
    rng = np.random.default_rng(3)
    table = pd.DataFrame(rng.uniform(0, 120, (90, 2)), columns=["y_um", "x_um"])
    table["image"] = np.repeat(["a", "b", "c"], 30)
    mixed = rng.permutation(90)
    level = rng.gamma(2.0, 50.0, 90)
    light = neighbourhood(table).light(level, (0.1, 0.05))
    again = neighbourhood(table.iloc[mixed]).light(level[mixed], (0.1, 0.05))
    assert again == pytest.approx(light[mixed])
    alone = neighbourhood(table[:30]).light(level[:30], (0.1, 0.05))
    assert alone.min() > 0
    assert light[:30].tolist() == alone.tolist()


def test_cell_without_ring_takes_its_nucleus_and_lost_cell_is_unsure():
    cut = Threshold("manual", "INS_ring_p25", Cut(100.0), IntensityModel(weights=(0, 1, 0, -5.3)))
    table = pd.DataFrame(
        {"INS_ring_p25": [np.nan, np.nan, 500.0], "INS_nucleus_mean": [900.0, np.nan, 0.0]}
    )
    called = call_cells(table, "INS", cut)
    assert list(called["INS_call"]) == ["positive", "unsure", "positive"]
    assert called["INS_reason"].iloc[1] == "not measured"


def test_empty_image_and_empty_run():
    empty = cells(np.random.default_rng(0), 0, 0.5)
    nothing = fit_marker([empty], [], "INS", PROTOCOL)
    assert nothing.status == "not_estimable"
    called = assign_phenotypes(call_marker(empty, "INS", nothing, PROTOCOL), PROTOCOL)
    assert len(called) == 0
    assert {"INS_own", "INS_probability", "INS_call", "INS_reason", "phenotype"} <= set(called)


@pytest.mark.parametrize("method", ["levels", "control", "control_mixture", "mixture", "otsu"])
def test_every_method_fits_and_calls(method):
    rng = np.random.default_rng(12)
    protocol = PROTOCOL.replace(positivity={"INS": Positivity(method=method)})
    samples = [cells(rng, 400, 0.4, image=f"s{k}") for k in range(2)]
    controls = [cells(rng, 300, 0.0, image=f"c{k}") for k in range(2)]
    fitted, called = scored(samples, controls, protocol)
    assert fitted.method == method
    assert called["INS_probability"].mean() == pytest.approx(0.4, abs=0.2)


def test_missing_feature_is_named():
    with pytest.raises(ProtocolError, match="INS_sector_p25"):
        fit_marker([pd.DataFrame({"y_um": [1.0], "x_um": [1.0]})], [], "INS", PROTOCOL)


def test_a_network_threshold_needs_the_networks_columns():
    cells = pd.DataFrame({"INS_sector_p25": [10.0, 500.0]})
    cut = Threshold(
        "network",
        "INS_own",
        Cut(100.0),
        IntensityModel(zero=100.0, soft=20.0),
        measured="INS_sector_p25",
    )
    with pytest.raises(ProtocolError, match="measure with"):
        call_cells(cells, "INS", cut)
    seen = cells.assign(INS_network_own=[0.0, 400.0], INS_network_odds=[-4.0, 4.0])
    assert call_cells(seen, "INS", cut)["INS_call"].tolist() == ["negative", "positive"]


def test_a_nuclear_marker_with_few_bright_cells_needs_no_control():
    rng = np.random.default_rng(30)
    protocol = Protocol((Channel("DAPI", "dna"), Channel("FOXP3", compartment="nucleus")))
    n = 1600
    side = 9.0 * np.sqrt(n)
    table = pd.DataFrame(rng.uniform(0, side, (n, 2)), columns=["y_um", "x_um"])
    truth = rng.random(n) < 0.05
    level = np.where(truth, rng.normal(700, 90, n), 100 + 12 * rng.lognormal(0, 0.35, n))
    table = table.assign(image="a", FOXP3_nucleus_mean=level)
    fitted = fit_marker([table], [], "FOXP3", protocol)
    assert fitted.estimable, fitted.reason
    called = call_marker(table, "FOXP3", fitted, protocol)
    assert (called["FOXP3_call"] == "positive").mean() == pytest.approx(truth.mean(), abs=0.01)


def test_a_handful_of_control_cells_is_no_control():
    rng = np.random.default_rng(31)
    few = [cells(rng, 18, 0.0, image="c")]
    alone = [cells(rng, 700, 0.0, image="s")]
    fitted, called = scored(alone, few)
    assert not fitted.estimable
    assert "only 18 control cells" in fitted.reason
    assert (called["INS_call"] == "unsure").all()
    strict = PROTOCOL.replace(positivity={"INS": Positivity(method="control")})
    assert "only 18 control cells" in scored(alone, few, strict)[0].reason


def test_membrane_markers_are_measured_in_the_ring():
    protocol = Protocol((Channel("DAPI", "dna"), Channel("CD4", compartment="membrane")))
    assert protocol.method("CD4") == "levels"
    assert protocol.feature("CD4") == "CD4_ring_mean"
    assert protocol.network_markers == {}
    with pytest.raises(ProtocolError, match="membrane"):
        protocol.replace(positivity={"CD4": Positivity(method="network")})
