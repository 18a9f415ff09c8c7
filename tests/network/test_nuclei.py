"""Segmentation of whole images with the shipped network."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage as ndi

from islet_imaging._types import Work
from islet_imaging.errors import Cancelled, ModelError, PixelSizeError
from islet_imaging.network.blocks import make_grid
from islet_imaging.network.engine import shared_engine
from islet_imaging.network.normalise import normalise
from islet_imaging.network.nuclei import (
    segment_nuclei_lazy,
    segment_nuclei_network,
    working_zoom,
)
from islet_imaging.network.scale import Scale, estimate_nucleus_diameter_px
from islet_imaging.network.training.matching import match_labels


def picture(shape=(300, 420), diameter=16.0, spacing=1.35, seed=0, dtype=np.uint16):
    """Blurred discs on a noisy background, and their mask."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, np.int32)
    image = np.zeros(shape)
    step = diameter * spacing
    k = 0
    for cy in np.arange(0.7 * step, shape[0] - 0.5 * step, step):
        for cx in np.arange(0.7 * step, shape[1] - 0.5 * step, step):
            k += 1
            jy, jx = rng.uniform(-0.1, 0.1, 2) * diameter
            a = diameter / 2 * rng.uniform(0.85, 1.15)
            reach = diameter * 1.2
            rows = slice(max(0, int(cy - reach)), int(cy + reach))
            columns = slice(max(0, int(cx - reach)), int(cx + reach))
            y, x = np.mgrid[rows, columns][:, : shape[0] - rows.start, : shape[1] - columns.start]
            d = np.hypot(y - cy - jy, x - cx - jx)
            truth[rows, columns][(d < a) & (truth[rows, columns] == 0)] = k
            slope = np.clip((d - a) / (0.06 * diameter), -50, 50)
            image[rows, columns] += rng.uniform(0.6, 1) / (1 + np.exp(slope))
    image = 300 + 3000 * image + rng.normal(0, 60, shape)
    return np.clip(image, 0, None).astype(dtype), truth


@pytest.fixture(scope="module")
def sample():
    return picture()


def test_finds_plain_nuclei(sample):
    dna, truth = sample
    labels = segment_nuclei_network(dna, diameter_px=16)
    assert labels.dtype == np.int32
    assert labels.shape == dna.shape
    assert match_labels(truth, labels).f1() > 0.95


@pytest.mark.parametrize(
    "work", [Work(threads=1), Work(threads=3), Work(tile_px=64), Work(tile_px=1000)]
)
def test_labels_do_not_depend_on_how_the_work_is_cut(sample, work, monkeypatch):
    # small blocks, so that this image has seams
    monkeypatch.setattr("islet_imaging.network.blocks.make_grid", lambda s: make_grid(s, 128))
    dna, _ = sample
    reference = segment_nuclei_network(dna, diameter_px=12)
    cut = segment_nuclei_network(dna, diameter_px=12, work=work)
    assert np.array_equal(reference, cut)


def test_blocks_leave_no_seam(sample, monkeypatch):
    dna, _ = sample
    whole = segment_nuclei_network(dna, diameter_px=14)
    monkeypatch.setattr("islet_imaging.network.blocks.make_grid", lambda s: make_grid(s, 128))
    cut = segment_nuclei_network(dna, diameter_px=14)
    m = match_labels(whole, cut)
    assert m.n_true == m.n_found
    assert m.tp(0.7) == m.n_true
    # each label is one piece and numbered without gaps
    assert np.array_equal(np.unique(cut), np.arange(cut.max() + 1))


def test_lazy_strips_make_the_same_image(sample, monkeypatch):
    monkeypatch.setattr("islet_imaging.network.blocks.make_grid", lambda s: make_grid(s, 96))
    dna, _ = sample
    asked = []

    def read(rows, columns):
        asked.append((rows.stop - rows.start) * (columns.stop - columns.start))
        return dna[rows, columns]

    out = np.full(dna.shape, -1, np.int32)
    rows_seen = 0
    for (rows, columns), part in segment_nuclei_lazy(read, dna.shape, diameter_px=16):
        assert rows.start == rows_seen
        rows_seen = rows.stop
        out[rows, columns] = part
    assert rows_seen == dna.shape[0]
    assert np.array_equal(out, segment_nuclei_network(dna, diameter_px=16))


def test_gain_and_offset_do_not_matter(sample):
    dna, _ = sample
    a = segment_nuclei_network(dna, diameter_px=16)
    b = segment_nuclei_network(dna.astype(np.float64) * 4 + 1024, diameter_px=16)
    m = match_labels(a, b)
    assert m.f1(0.9) > 0.99


@pytest.mark.parametrize("diameter", [9.0, 28.0, 50.0])
def test_scale_is_estimated_from_the_image(diameter):
    dna, truth = picture((360, 360), diameter)
    assert estimate_nucleus_diameter_px(dna) == pytest.approx(diameter, rel=0.3)
    assert match_labels(truth, segment_nuclei_network(dna)).f1() > 0.9


def test_large_grey_fibres_are_not_taken_for_nuclei():
    """As in muscle: few bright nuclei on smooth fibres many times their size."""
    found = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:400, :400]
        light = np.full(y.shape, 100.0)
        for _ in range(6):
            (cy, cx), (a, b) = rng.uniform(0, 400, 2), rng.uniform(45, 80, 2)
            light[((y - cy) / a) ** 2 + ((x - cx) / b) ** 2 < 1] = rng.uniform(280, 340)
        for _ in range(10):
            cy, cx = rng.uniform(20, 380, 2)
            light[np.hypot(y - cy, x - cx) < 12 * rng.uniform(0.85, 1.15)] = rng.uniform(700, 1000)
        dna = rng.poisson(ndi.gaussian_filter(light, 1.2)).astype(np.uint16)
        found.append(estimate_nucleus_diameter_px(dna))
    assert found == pytest.approx([24.0] * 4, rel=0.3)


def test_one_large_thing_does_not_outvote_nuclei():
    """Seen from afar a fibre is one nucleus, at two zooms."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:512, :512]
    light = 100.0 + 80 * (((y - 256) / 70) ** 2 + ((x - 256) / 60) ** 2 < 1)
    for _ in range(12):
        cy, cx = rng.uniform(20, 490, 2)
        light += rng.uniform(30, 120) * (np.hypot(y - cy, x - cx) < 7)
    dna = rng.poisson(ndi.gaussian_filter(light, 1.2)).astype(np.uint16)
    assert estimate_nucleus_diameter_px(dna) == pytest.approx(14.0, rel=0.3)


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_an_empty_image_has_no_nuclei(value):
    dna = np.full((70, 90), value, np.float32)
    assert segment_nuclei_network(dna, diameter_px=16).max() == 0
    assert segment_nuclei_network(dna).max() == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (17, 5), (64, 64)])
def test_any_shape(shape):
    dna = np.random.default_rng(0).poisson(100, shape).astype(np.uint8)
    for scale in ({"diameter_px": 5.0}, {"diameter_px": 40.0}, {}):
        assert segment_nuclei_network(dna, **scale).shape == shape


def test_scale_arguments():
    assert Scale().diameter_px is None
    assert Scale(0.5).diameter_px == 15.0
    assert Scale(0.5, 10).diameter_px == 20.0
    with pytest.raises(PixelSizeError, match="pixel_size_um"):
        Scale(nucleus_diameter_um=8)
    with pytest.raises(PixelSizeError, match="positive"):
        Scale(0)
    with pytest.raises(PixelSizeError, match="outside"):
        segment_nuclei_network(np.zeros((9, 9)), diameter_px=0.5)


def test_progress_and_cancel(sample):
    dna, _ = sample
    seen = []
    watched = Work(progress=lambda i, n: seen.append((i, n)))
    segment_nuclei_network(dna, diameter_px=16, work=watched)
    assert seen[-1][0] == seen[-1][1]
    with pytest.raises(Cancelled):
        segment_nuclei_network(dna, diameter_px=16, work=Work(cancelled=lambda: True))


def test_a_missing_device_is_said():
    with pytest.raises(ModelError, match="device"):
        shared_engine("islet-nuclei", "tpu")


@pytest.mark.parametrize("shape", [(16, 16), (100, 3000), (770, 768)])
def test_grid_covers_the_image_once(shape):
    grid = make_grid(shape)
    for spans, length in zip((grid.rows, grid.columns), grid.shape, strict=True):
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert all(a[1] == b[0] for a, b in pairwise(spans))
        assert all(v % 16 == 0 for s in spans for v in s)


def test_an_image_near_the_working_size_is_not_enlarged():
    for diameter, zoom in ((16.0, 1.0), (14.6, 1.0), (14.5, 16 / 14.5), (17.0, 16 / 17)):
        assert working_zoom(diameter) == zoom
    y, x = np.mgrid[:96, :96]
    dna = sum(
        np.exp(-((y - a) ** 2 + (x - b) ** 2) / 40) for a, b in ((20, 20), (44, 60), (70, 30))
    )
    assert np.array_equal(
        segment_nuclei_network(dna, diameter_px=15.0), segment_nuclei_network(dna, diameter_px=16.0)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_values_of_a_file_are_mapped_as_numbers_are(dtype):
    top = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(0, top + 1, (300, 300)).astype(dtype)
    limits = (0.1 * top, 0.7 * top)
    assert np.array_equal(normalise(image, limits), normalise(image.astype(np.float32), limits))
