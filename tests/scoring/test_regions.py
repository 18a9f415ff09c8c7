"""Slides: parts give what the whole gives, and nothing is left behind."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from islet_imaging.arrays import label_file
from islet_imaging.arrays.label_file import LabelFile, bands_of, remove_with
from islet_imaging.correction import prepared
from islet_imaging.errors import Cancelled
from islet_imaging.image import IsletImage
from islet_imaging.measurement.measure import neighbour_pairs
from islet_imaging.protocol import Channel, Correction, Islets, Nuclei, Protocol
from islet_imaging.quality.windows import measure_quality_windows
from islet_imaging.run.files import write_labels
from islet_imaging.run.folder import Run, read_labels
from islet_imaging.scoring import regions
from islet_imaging.scoring.folder import score_folder
from islet_imaging.scoring.image import measure_image
from islet_imaging.scoring.measured import MeasuredImage
from islet_imaging.segmentation.islet_grid import IsletGrid
from islet_imaging.segmentation.islets import islets_table, segment_islets
from islet_imaging.segmentation.nuclei import segment_nuclei

NAMES = ("DAPI", "INS", "GCG")
SIZE_UM = 0.99


def protocol(**changes: Any) -> Protocol:
    channels = (Channel("DAPI", "dna"), Channel("INS"), Channel("GCG"))
    given = {"nuclei": Nuclei(method="classical"), "islets": Islets(min_cells=4), **changes}
    return Protocol(channels=channels, **given)


def stained(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """Clusters of nuclei that touch, of uneven size and brightness, on a sloping background."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    dna = 90.0 + 0.1 * x
    ins, gcg = 110.0 + 0.05 * y, np.full(shape, 130.0)
    for cy, cx in rng.uniform(0, 1, (shape[0] * shape[1] // 5000, 2)) * shape:
        for _ in range(9):
            ny, nx = cy + rng.normal(0, 10), cx + rng.normal(0, 10)
            r = rng.uniform(3.2, 4.6)
            d = np.hypot(y - ny, x - nx)
            dna[d < r] += rng.uniform(500, 1500)
            (ins if rng.random() < 0.6 else gcg)[(d > r - 1) & (d < r + 4)] += 600
    return np.asarray(rng.poisson(np.stack([dna, ins, gcg])), np.uint16)


def image_of(stack: np.ndarray) -> IsletImage:
    return IsletImage.from_array(stack, NAMES, SIZE_UM, name="a.tif")


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    return stained(3, (300, 260))


@pytest.fixture(scope="module")
def image(stack: np.ndarray) -> IsletImage:
    return image_of(stack)


@pytest.fixture(scope="module")
def whole(image: IsletImage) -> MeasuredImage:
    measured = measure_image(image, protocol())
    assert len(measured.cells) > 60
    assert len(measured.islet_table) >= 3
    assert len(measured.pairs) > 30
    return measured


@pytest.fixture
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands and reads of a few rows, so that a small image has many."""
    monkeypatch.setattr(label_file, "BAND_PX", 45 * 260)
    monkeypatch.setattr(prepared, "READ_PX", 70 * 260)


def assert_same(whole: MeasuredImage, parts: MeasuredImage) -> None:
    assert np.array_equal(whole.nuclei, parts.nuclei)
    assert np.array_equal(whole.islets, parts.islets)
    for name in ("cells", "pairs", "islet_table"):
        pd.testing.assert_frame_equal(
            getattr(whole, name), getattr(parts, name), check_exact=True, obj=name
        )
    assert whole.record["correction"] == parts.record["correction"]


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tile=st.integers(80, 300))
def test_any_tile_gives_the_labels_and_rows_of_the_whole(
    tile: int, image: IsletImage, whole: MeasuredImage, small_bands: None
) -> None:
    assert_same(whole, measure_image(image, protocol(), tile_px=tile))


@pytest.mark.parametrize(
    "changes",
    [
        {
            "correction": Correction(
                offset="auto",
                background="local",
                background_um=30.0,
                bleed_matrix={"INS": {"GCG": 0.05}, "DAPI": {"INS": 0.02}},
            )
        },
        {"islets": Islets(method="field")},
        {"nuclei": Nuclei(method="classical", min_area_um2=20, max_area_um2=50)},
        {"nuclei": Nuclei(method="network")},
    ],
    ids=["corrected", "field", "sizes", "network"],
)
def test_every_way_through_agrees(
    changes: dict[str, Any], image: IsletImage, small_bands: None
) -> None:
    how = protocol(**changes)
    assert_same(measure_image(image, how), measure_image(image, how, tile_px=150))


def test_flat_field_is_applied_by_region(image: IsletImage, small_bands: None) -> None:
    y, x = np.mgrid[:300, :260]
    field = (1 - 0.3 * np.hypot(y / 300 - 0.5, x / 260 - 0.5)).astype(np.float32)
    how = protocol(correction=Correction(offset=100.0, flat_field="auto"))
    fields = dict.fromkeys(NAMES, field)
    assert_same(
        measure_image(image, how, flat_fields=fields),
        measure_image(image, how, flat_fields=fields, tile_px=170),
    )


@pytest.mark.parametrize("level", [0, 1])
def test_an_image_without_cells(level: int) -> None:
    """A constant image, and one of a single value but for one pixel."""
    stack = np.full((3, 150, 170), 100, np.uint16)
    stack[:, 140, 20] += level
    image = image_of(stack)
    assert_same(measure_image(image, protocol()), measure_image(image, protocol(), tile_px=64))


def test_large_images_go_in_parts_and_say_so(
    image: IsletImage, whole: MeasuredImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "WHOLE_PX", 70_000)
    parts = measure_image(image, protocol())
    assert isinstance(parts.nuclei, np.memmap)
    assert "windows" in parts.record["quality"]["of"]
    assert "quality" not in whole.record
    assert isinstance(whole.nuclei, np.ndarray)
    assert not isinstance(whole.nuclei, np.memmap)


def test_a_slide_is_never_read_whole(small_bands: None) -> None:
    stack = stained(5, (900, 150))
    image = image_of(stack)
    largest = 0

    def reader(index: int, region: tuple[slice, slice] | None) -> np.ndarray:
        nonlocal largest
        assert region is not None
        part = stack[index][region]
        largest = max(largest, part.size)
        return part

    object.__setattr__(image, "reader", reader)
    windows = {"WINDOW_PX": 128, "PATCH_PX": 16}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in windows.items():
            patch.setattr(f"islet_imaging.quality.windows.{name}", value)
        patch.setattr(
            "islet_imaging.measurement.measure.measure_halo_px", lambda size, reach_um: 60
        )
        measure_image(image, protocol(), tile_px=150)
    assert 0 < largest < 0.6 * stack[0].size


def test_temporary_labels_go_with_the_result(
    image: IsletImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    parts = measure_image(image, protocol(), tile_px=2048)
    assert len(list(tmp_path.iterdir())) == 1
    del parts
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [1, 8])
def test_cancel_between_parts_leaves_nothing(
    after: int, image: IsletImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    with pytest.raises(Cancelled):
        measure_image(image, protocol(), tile_px=150, cancelled=cancelled)
    assert list(tmp_path.iterdir()) == []


def test_progress_rises_to_the_end(image: IsletImage) -> None:
    told: list[float] = []
    measure_image(image, protocol(), tile_px=150, progress=lambda done, what: told.append(done))
    assert told == sorted(told)
    assert told[0] == 0
    assert told[-1] >= 0.9
    assert len(told) > 10


# ---------------------------------------------------------------- a folder with slides


def score(folder: Path, out: Path) -> Run:
    return score_folder(folder, out, protocol=protocol(), workers=1)


def test_a_folder_of_slides_gives_the_same_tables(
    stack: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stainings"
    folder.mkdir()
    tifffile.imwrite(
        folder / "a.ome.tif",
        stack,
        tile=(64, 64),
        compression="zlib",
        ome=True,
        metadata={
            "axes": "CYX",
            "Channel": {"Name": list(NAMES)},
            "PhysicalSizeX": SIZE_UM,
            "PhysicalSizeY": SIZE_UM,
        },
    )
    one = score(folder, tmp_path / "one")
    monkeypatch.setattr(regions, "WHOLE_PX", 50_000)
    monkeypatch.setattr(regions, "TILE_PX", 160)
    two = score(folder, tmp_path / "two")
    for name in ("cells.csv", "islets.csv", "batches.csv", "summary.csv"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes(), name
    pd.testing.assert_frame_equal(
        one.images.drop(columns="flags"), two.images.drop(columns="flags")
    )
    for kind in ("nuclei", "islets"):
        labels = one.labels("a.ome.tif", kind)  # type: ignore[arg-type]
        assert np.array_equal(labels, two.labels("a.ome.tif", kind))  # type: ignore[arg-type]
        assert labels.max() > 0
    region = (slice(100, 250), slice(50, 260))
    assert np.array_equal(two.labels("a.ome.tif", region=region), one.labels("a.ome.tif")[region])
    assert not list(two.path.rglob("*.raw"))
    report = [(r.path / "report.html").read_text("utf-8") for r in (one, two)]
    assert report[1].count("<polygon") == report[0].count("<polygon") > 20


# ---------------------------------------------------------------- the parts


def test_label_file_gives_back_what_was_written(tmp_path: Path) -> None:
    labels = np.arange(12 * 7, dtype=np.int32).reshape(12, 7)
    file = LabelFile(tmp_path / "x.raw", labels.shape)
    for top in (0, 5, 6):
        file.append(labels[top : {0: 5, 5: 6, 6: 12}[top]])
    assert np.array_equal(file.map(), labels)
    assert np.array_equal(file.read((slice(3, 9), slice(2, 5))), labels[3:9, 2:5])
    assert not file.map().flags.writeable


@pytest.mark.parametrize("top_label", [60_000, 70_000])
def test_labels_of_a_map_are_written_as_those_of_an_array(
    top_label: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_file, "BAND_PX", 300 * 610)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, top_label, (700, 610)).astype(np.int32)
    labels[650, 600] = top_label
    file = LabelFile(tmp_path / "x.raw", labels.shape)
    file.append(labels)
    paths = []
    for name, kept in (("array", labels), ("map", file.map())):
        write_labels(tmp_path / "labels" / f"{name}.nuclei.tif", kept, 0.5)
        paths.append(tmp_path / "labels" / f"{name}.nuclei.tif")
    pages = [tifffile.TiffFile(p) for p in paths]
    for tif in pages:
        assert tif.pages[0].dtype == (np.uint16 if top_label < 2**16 else np.int32)
        assert tif.pages[0].tags["XResolution"].value == pages[0].pages[0].tags["XResolution"].value
        tif.close()
    for name in ("array", "map"):
        assert np.array_equal(read_labels(tmp_path, name), labels)


def test_bands_cover_an_array_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_file, "BAND_PX", 100)
    labels = np.arange(37 * 9).reshape(37, 9)
    bands = list(bands_of(labels, multiple=4))
    assert [len(b) % 4 for b in bands[:-1]] == [0] * (len(bands) - 1)
    assert np.array_equal(np.concatenate(bands), labels)


def test_folder_goes_when_the_last_user_has_gone(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    users: list[np.ndarray] = [np.zeros(3), np.zeros(4)]
    remove_with(users, folder)
    users.pop()
    gc.collect()
    assert folder.exists()
    users.pop()
    gc.collect()
    assert not folder.exists()


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    heights=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    gap=st.floats(2, 20),
    rim=st.floats(0, 5),
    part=st.integers(20, 80),
)
def test_islets_do_not_depend_on_bands(
    seed: int, heights: Sequence[int], gap: float, rim: float, part: int
) -> None:
    rng = np.random.default_rng(seed)
    nuclei = np.zeros((sum(heights), 120), np.int32)
    for k in range(25):
        y, x = rng.integers(0, nuclei.shape[0]), rng.integers(0, 115)
        nuclei[y : y + 6, x : x + 5] = k + 1
    known = {"pixel_size_um": 0.9, "max_gap_um": gap, "min_cells": 3, "rim_um": rim}
    whole = segment_islets(nuclei, **known)  # type: ignore[arg-type]
    edges = np.cumsum([0, *heights])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("islet_imaging.segmentation.islet_grid.PART", part)
        grid = IsletGrid(nuclei.shape, **known)  # type: ignore[arg-type]
        for a, b in pairwise(edges):
            grid.add(int(a), nuclei[a:b])
        grid.close()
        drawn = [grid.draw(int(a), nuclei[a:b]) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate(drawn), whole)
    table = islets_table(nuclei, whole, pixel_size_um=0.9)
    assert grid.n_cells[1:].tolist() == table["n_cells"].tolist()


def test_huge_islets_are_measured_on_a_thinned_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    disc = (np.hypot(*np.mgrid[-300:301, -300:301]) <= 250).astype(np.int32)
    exact = islets_table(disc, disc, pixel_size_um=1.0).iloc[0]
    monkeypatch.setattr("islet_imaging.segmentation.islets.SHAPE_PX", 30_000)
    thinned = islets_table(disc, disc, pixel_size_um=1.0).iloc[0]
    for name in ("y_um", "x_um", "area_um2", "diameter_um", "hull_area_um2", "circularity"):
        assert thinned[name] == pytest.approx(exact[name], rel=0.01), name
    assert thinned["n_cells"] == exact["n_cells"] == 1


def test_tiles_of_nuclei_in_both_directions(stack: np.ndarray) -> None:
    whole = segment_nuclei(stack[0], pixel_size_um=SIZE_UM, method="classical")
    for tile in (75, 130, 400):
        parts = segment_nuclei(stack[0], pixel_size_um=SIZE_UM, method="classical", tile=tile)
        assert np.array_equal(whole, parts)


def test_borders_are_counted_once_by_the_regions_they_begin_in() -> None:
    labels = np.random.default_rng(1).integers(0, 6, (23, 31))
    whole = neighbour_pairs(labels)
    total: dict[tuple[int, int], int] = {}
    for y in range(0, 23, 7):
        for x in range(0, 31, 8):
            inner = slice(y, min(y + 7, 23)), slice(x, min(x + 8, 31))
            for a, b, n in zip(*neighbour_pairs(labels, begin_in=inner), strict=True):
                total[int(a), int(b)] = total.get((int(a), int(b)), 0) + int(n)
    assert total == {(int(a), int(b)): int(n) for a, b, n in zip(*whole, strict=True)}


def test_quality_of_one_window_is_that_of_the_image(
    image: IsletImage, whole: MeasuredImage
) -> None:
    centres = whole.cells[["y_px", "x_px"]].to_numpy()
    numbers, record = measure_quality_windows(
        image.channel, image.shape, NAMES, dna="DAPI", pixel_size_um=SIZE_UM, centres=centres
    )
    assert record["windows_px"] == [[0, 0]]
    for name in NAMES:
        for field in ("minimum", "maximum", "saturated", "background", "tissue", "noise", "comb"):
            one, two = (getattr(n.channels[name], field) for n in (numbers, whole.numbers))
            assert one == pytest.approx(two), (name, field)
    assert numbers.sharpness == whole.numbers.sharpness
    assert numbers.seam == whole.numbers.seam


def test_quality_windows_lie_where_the_nuclei_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("islet_imaging.quality.windows.WINDOW_PX", 64)
    monkeypatch.setattr("islet_imaging.quality.windows.WINDOWS", 2)
    plane = np.random.default_rng(0).poisson(100, (300, 200)).astype(np.uint16)
    centres = np.array([[280.0, 190.0]] * 5 + [[10.0, 10.0]] * 3 + [[150.0, 100.0]])
    _, record = measure_quality_windows(
        lambda name, region: plane[region],
        (300, 200),
        ["DAPI"],
        dna="DAPI",
        pixel_size_um=0.5,
        centres=centres,
    )
    assert record["windows_px"] == [[0, 0], [236, 136]]


@pytest.mark.parametrize("tile_px", [None, 64])
def test_an_image_goes_with_its_last_user(tile_px):
    """Not when Python next looks for circles: its planes would pile up until then."""
    stack = np.zeros((3, 96, 96), np.uint16)
    image = IsletImage.from_array(stack, NAMES, SIZE_UM, name="a.tif")
    gc.collect()
    gc.disable()
    try:
        one = regions.ImageRegions(image, protocol(), tile_px=tile_px)
        one.corrected("INS", slice(0, 8), slice(0, 8))
        seen = weakref.ref(one)
        del one
        assert seen() is None
    finally:
        gc.enable()
