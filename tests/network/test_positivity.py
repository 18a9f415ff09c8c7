"""Asking the positivity network: scales, blocks and sums, with a network that can be computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from islet_imaging._types import Work
from islet_imaging.errors import Cancelled, ModelError, PixelSizeError
from islet_imaging.network.engine import shared_engine
from islet_imaging.network.positivity import begin_network_logits, network_columns, network_logits
from islet_imaging.network.stain import (
    COARSE,
    WORKING_PIXEL_UM,
    curve,
    marker_limits,
    network_input,
    uncurve,
)
from tests.network.test_nuclei import picture


class MarkerEngine:
    """Answers with the marker itself, averaged over 2x2 px: what a cell should read is known."""

    name = "marker"
    settings: dict = {}  # noqa: RUF012

    def run(self, image):
        fine = image[0, 2]
        h, w = fine.shape
        half = fine.reshape(h // 2, 2, w // 2, 2).mean(axis=(1, 3))
        return np.stack([half - 0.01, half, half + 0.01, 5 * half])[None].astype(np.float32)


@pytest.fixture(scope="module")
def stained():
    dna, nuclei = picture((420, 700))
    rng = np.random.default_rng(1)
    level = rng.uniform(50, 900, nuclei.max() + 1)
    level[0] = 40
    # flat inside each cell, so that resampling does not matter in its middle
    marker = level[nuclei]
    return dna, marker, nuclei, level


def ask(stained, **options):
    dna, marker, nuclei, _ = stained
    given = {"pixel_size_um": WORKING_PIXEL_UM, "engine": MarkerEngine(), **options}
    return network_logits(dna, {"INS": marker}, nuclei, **given)["INS"]


def test_each_cell_reads_its_own_pixels(stained):
    _, marker, nuclei, level = stained
    said = ask(stained)
    low, _ = marker_limits(marker[nuclei > 0])
    here = (np.bincount(nuclei.ravel())[1:] > 100) & (level[1:] > 200)
    assert np.corrcoef(said.own[here], level[1:][here])[0, 1] > 0.95
    # pixels on a cell's edge are half its surroundings
    ratio = said.own[here] / (level[1:][here] - low)
    assert 0.7 < np.median(ratio) < 1.0
    assert (said.low <= said.own).all()
    assert (said.own <= said.high).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_numbers_do_not_depend_on_threads(stained, threads, monkeypatch):
    monkeypatch.setattr("islet_imaging.network.positivity.BLOCK_PX", 128)
    one, other = (ask(stained, work=Work(threads=n)) for n in (2, threads))
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a, b, equal_nan=True)


def test_blocks_see_beyond_their_border(stained, monkeypatch):
    whole = ask(stained)
    monkeypatch.setattr("islet_imaging.network.positivity.BLOCK_PX", 128)
    assert np.allclose(ask(stained).own, whole.own, rtol=1e-6)


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0.0), (2.0, 100.0), (1.0, 1000.0)])
def test_own_light_follows_gain_and_forgets_offset(stained, gain, offset):
    dna, marker, nuclei, _ = stained
    plain = ask(stained)
    changed = ask((dna, gain * marker + offset, nuclei, None))
    assert np.allclose(changed.own, gain * plain.own, rtol=1e-3, atol=0.1)
    assert np.allclose(changed.odds, plain.odds, atol=1e-3)


def test_a_region_gets_the_answers_of_the_whole(stained, monkeypatch):
    dna, marker, nuclei, _ = stained
    monkeypatch.setattr("islet_imaging.network.positivity.BLOCK_PX", 128)
    whole = ask(stained)
    region = (slice(100, 220), slice(300, 420))
    part = begin_network_logits(
        lambda y, x: dna[y, x],
        {"INS": lambda y, x: marker[y, x]},
        lambda y, x: nuclei[y, x],
        nuclei.shape,
        int(nuclei.max()),
        pixel_size_um=WORKING_PIXEL_UM,
        engine=MarkerEngine(),
        region=region,
    )()["INS"]
    outside = nuclei.copy()
    outside[region] = 0
    inside = np.setdiff1d(np.unique(nuclei[region]), np.unique(outside)) - 1
    assert len(inside) > 10
    assert np.array_equal(part.own[inside], whole.own[inside])
    assert np.isnan(part.own).any()


def test_labels_that_nobody_asked_about_are_left_out(stained):
    dna, marker, nuclei, _ = stained
    asked = int(nuclei[:60, :60].max())
    assert asked < nuclei.max()
    some = begin_network_logits(
        lambda y, x: dna[y, x],
        {"INS": lambda y, x: marker[y, x]},
        lambda y, x: nuclei[y, x],
        nuclei.shape,
        asked,
        pixel_size_um=WORKING_PIXEL_UM,
        engine=MarkerEngine(),
        region=(slice(0, 60), slice(0, 60)),
    )()["INS"]
    assert len(some.own) == asked
    assert some.own[0] == ask(stained).own[0]
    columns = network_columns(np.array([1, asked + 5]), {"INS": some})
    assert np.isnan(columns["INS_network_own"]).tolist() == [False, True]


def test_a_network_of_another_kind_is_refused(stained):
    with pytest.raises(ModelError, match="no positivity network"):
        ask(stained, engine=shared_engine("islet-nuclei"))


def test_labels_with_gaps_get_nan_where_nothing_is(stained):
    dna, marker, nuclei, _ = stained
    holes = nuclei.copy()
    holes[holes == 3] = 0
    said = ask((dna, marker, holes, None))
    assert np.isnan(said.own[2])
    assert np.isfinite(np.delete(said.own, 2)).all()
    columns = network_columns(np.array([1, 3]), {"INS": said})
    assert list(columns) == [f"INS_network_{n}" for n in ("own", "low", "high", "odds")]
    assert columns["INS_network_own"][0] == said.own[0]


def test_an_image_without_nuclei_gets_no_answer():
    said = network_logits(
        np.zeros((64, 64)),
        {"INS": np.zeros((64, 64))},
        np.zeros((64, 64), np.int32),
        pixel_size_um=0.5,
        engine=MarkerEngine(),
    )
    assert len(said["INS"].own) == 0


def test_pixel_size_must_be_positive_and_work_can_be_stopped(stained):
    with pytest.raises(PixelSizeError, match="positive"):
        ask(stained, pixel_size_um=0.0)
    with pytest.raises(Cancelled):
        ask(stained, work=Work(cancelled=lambda: True))


@given(arrays(np.float32, st.integers(0, 50), elements=st.floats(-1e4, 1e5, width=32)))
def test_limits_are_always_apart(values):
    low, high = marker_limits(values)
    assert high > low


@given(st.floats(-1, 30))
def test_the_curve_can_be_undone(x):
    for compression in (COARSE, 30.0):
        there = curve(np.array([x]), compression)
        assert uncurve(there, compression)[0] == pytest.approx(x, rel=1e-4, abs=1e-5)


def test_input_has_three_planes_without_extremes():
    shown = network_input(np.float32([[-5.0, 50.0]]), np.float32([[-100.0, 1000.0]]))
    assert shown.shape == (3, 1, 2)
    assert np.isfinite(shown).all()
    assert np.abs(shown).max() < 3
