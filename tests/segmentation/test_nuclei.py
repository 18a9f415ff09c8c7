"""Classical segmentation of nuclei, and the call that dispatches."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging._types import Work
from islet_imaging.errors import Cancelled, PixelSizeError
from islet_imaging.network.scale import Scale, estimate_nucleus_diameter_px
from islet_imaging.segmentation.nuclei import (
    Method,
    NucleiMethod,
    segment_nuclei,
    segment_nuclei_tiled,
)


def picture(
    seed: int, shape: tuple[int, int], diameter: float, spacing: float = 1.25, noise: float = 6.0
) -> tuple[np.ndarray, int]:
    """Blurred discs of uneven brightness on a slope of haze."""
    rng = np.random.default_rng(seed)
    out = np.zeros(shape)
    step = spacing * diameter
    n = 0
    y, x = np.indices(shape)
    for cy in np.arange(0.8 * diameter, shape[0] - 0.6 * diameter, step):
        for cx in np.arange(0.8 * diameter, shape[1] - 0.6 * diameter, step):
            py, px = cy + rng.normal(0, 0.06 * diameter), cx + rng.normal(0, 0.06 * diameter)
            reach = int(1.2 * diameter)
            window = tuple(slice(max(0, int(c) - reach), max(0, int(c) + reach)) for c in (py, px))
            away = (np.hypot(y - py, x - px)[window] - diameter / 2) / (0.04 * diameter)
            out[window] += rng.uniform(250, 600) / (1 + np.exp(np.minimum(away, 50)))
            n += 1
    out += 100 + 0.3 * x + rng.normal(0, noise, shape)
    return out.astype(np.float32), n


@pytest.mark.parametrize("size", [0.2, 0.325, 0.65, 1.3])
def test_counts_nuclei_at_every_pixel_size(size: float) -> None:
    side = int(75 / size)
    image, n = picture(0, (side, side), 7.5 / size)
    labels = segment_nuclei(image, pixel_size_um=size, method="classical")
    assert labels.dtype == np.int32
    assert labels.max() == n
    area = np.bincount(labels.ravel())[1:] * size**2
    assert np.median(area) == pytest.approx(np.pi / 4 * 7.5**2, rel=0.2)


def test_labels_are_in_raster_order_of_centres() -> None:
    image, n = picture(3, (200, 220), 20)
    labels = segment_nuclei(image, pixel_size_um=0.375, method="classical")
    y = [np.nonzero(labels == k)[0].mean() for k in range(1, n + 1)]
    assert y == sorted(y)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 300))
def test_labels_do_not_depend_on_the_tile(seed: int, tile: int) -> None:
    image, _ = picture(seed, (330, 90), 9.0, spacing=1.05)
    whole = segment_nuclei(image, pixel_size_um=7.5 / 9.0, method="classical")
    tiled = segment_nuclei(image, pixel_size_um=7.5 / 9.0, method="classical", tile=tile)
    assert whole.max() > 100
    assert np.array_equal(whole, tiled)


def test_a_reader_sees_strips_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("islet_imaging.arrays.label_file.BAND_PX", 100 * 60)
    image, n = picture(1, (900, 60), 8.0)
    seen = []

    def read(rows: slice, columns: slice) -> np.ndarray:
        seen.append(rows.stop - rows.start)
        return image[rows, columns]

    strips = list(
        segment_nuclei_tiled(
            read, image.shape, Scale(7.5 / 8), NucleiMethod("classical"), Work(tile_px=100)
        )
    )
    assert max(seen) < 450
    assert sum(len(part) for _, part in strips) == 900
    assert max(part.max() for _, part in strips) == n


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from([(0, 0), (0, 9), (1, 1), (1, 50), (3, 3), (64, 64), (65, 17)]),
    st.sampled_from([0, 1, 255, 65535]),
    st.sampled_from([None, 0.2, 0.5, 3.0]),
)
def test_nothing_in_nothing_out(shape: tuple[int, int], level: int, size: float | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = segment_nuclei(
            np.full(shape, level, np.uint16), pixel_size_um=size, method="classical"
        )
    assert labels.shape == shape
    assert not labels.any()


def test_noise_alone_holds_hardly_any_nuclei() -> None:
    rng = np.random.default_rng(0)
    image = rng.poisson(100, (512, 512)).astype(np.uint16)
    labels = segment_nuclei(image, pixel_size_um=0.5, method="classical")
    assert labels.max() == 0


@pytest.mark.parametrize("change", ["offset", "gain", "uint8", "rot90"])
def test_grey_scale_and_rotation_do_not_matter(change: str) -> None:
    image, n = picture(4, (160, 160), 16)
    image = {
        "offset": image + 5000,
        "gain": image * 0.01,
        "uint8": np.clip(image / 4, 0, 255).astype(np.uint8),
        "rot90": np.rot90(image),
    }[change]
    labels = segment_nuclei(image, pixel_size_um=7.5 / 16, method="classical")
    assert abs(labels.max() - n) <= 1


def test_dim_beside_bright_islets_is_found() -> None:
    bright, n_bright = picture(5, (200, 200), 16)
    dim, n_dim = picture(6, (200, 200), 16)
    image = np.hstack([bright * 4, np.full((200, 100), 120.0), dim * 0.8])
    labels = segment_nuclei(image, pixel_size_um=7.5 / 16, method="classical")
    assert abs(labels.max() - n_bright - n_dim) <= 8


def test_area_limits_leave_out() -> None:
    image, n = picture(7, (160, 160), 16)
    size = 7.5 / 16
    for limits in ({"min_area_um2": 100.0}, {"max_area_um2": 20.0}):
        assert not segment_nuclei(image, pixel_size_um=size, method="classical", **limits).any()
    kept = segment_nuclei(
        image, pixel_size_um=size, method="classical", min_area_um2=8.0, max_area_um2=400.0
    )
    assert kept.max() == n


@pytest.mark.parametrize("diameter", [8.0, 16.0, 32.0])
def test_scale_is_estimated(diameter: float) -> None:
    image, n = picture(8, (300, 300), diameter)
    assert estimate_nucleus_diameter_px(image) == pytest.approx(diameter, rel=0.3)
    assert abs(segment_nuclei(image, method="classical").max() - n) <= 0.05 * n


@pytest.mark.parametrize("method", ["network", "classical"])
def test_the_stated_pixel_size_finds_the_same_nuclei(method: Method) -> None:
    image, n = picture(8, (300, 300), 14.0)
    found = [
        segment_nuclei(image, pixel_size_um=size, method=method)
        for size in (None, 0.1, 0.2, 1.1, 2.2)
    ]
    assert all((labels == found[0]).all() for labels in found)
    assert abs(found[0].max() - n) <= 0.05 * n


def test_a_stated_diameter_is_kept() -> None:
    image, n = picture(8, (300, 300), 14.0)
    usual = segment_nuclei(image, pixel_size_um=0.5)
    assert (segment_nuclei(image, pixel_size_um=0.5, nucleus_diameter_um=7.5) == usual).all()
    # stated wrongly: nuclei are searched as stated, and hardly one is found
    assert segment_nuclei(image, pixel_size_um=0.05, nucleus_diameter_um=7.5).max() < 0.2 * n


def test_areas_allowed_follow_the_nuclei() -> None:
    """With either method, with and without a pixel size, specks are left out."""
    image, _ = picture(8, (300, 300), 14.0)
    image = image.copy()
    image[5:8, 5:8] = image.max()
    for method in ("network", "classical"):
        for size in (None, 0.5):
            labels = segment_nuclei(image, pixel_size_um=size, method=method)
            area = np.bincount(labels.ravel())[1:]
            assert area.min() >= 0.14 * 14.0**2


def test_progress_and_cancel() -> None:
    image, _ = picture(9, (120, 120), 16)
    told: list[tuple[int, int]] = []
    segment_nuclei(
        image,
        pixel_size_um=0.5,
        method="classical",
        tile=40,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Cancelled):
        segment_nuclei(image, pixel_size_um=0.5, method="classical", cancelled=lambda: True)


def test_wrong_sizes_are_told() -> None:
    image, _ = picture(9, (60, 60), 16)
    for sizes in (
        {"pixel_size_um": 0.0},
        {"nucleus_diameter_um": 7.0},
        {"pixel_size_um": 1e-4},
        {"pixel_size_um": float("nan")},
    ):
        with pytest.raises(PixelSizeError):
            segment_nuclei(image, method="classical", **sizes)
    with pytest.raises(ValueError, match="method"):
        segment_nuclei(image, pixel_size_um=0.5, method="magic")
    with pytest.raises(ValueError, match="shape"):
        segment_nuclei(image[None], pixel_size_um=0.5)


@pytest.mark.slow
def test_real_nuclei(data_dir: Path) -> None:
    import tifffile

    from islet_imaging.network.training.matching import score_images

    with (data_dir / "nuclei" / "index.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["dataset"] == "dsb2018_stage1test_fluo"]
    pairs = []
    for row in rows:
        image = tifffile.imread(data_dir / "nuclei" / row["image"])
        truth = tifffile.imread(data_dir / "nuclei" / row["mask"]).astype(np.int32)
        image = image[..., 0] if image.ndim == 3 else image
        labels = segment_nuclei(
            image, pixel_size_um=7.5 / float(row["median_diam_px"]), method="classical"
        )
        pairs.append((truth, labels))
    assert score_images(pairs)["f1"] > 0.8
