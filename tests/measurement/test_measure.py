"""Measurement of cells, against slow references."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.arrays.label_statistics import group_quantiles, hull_areas
from islet_imaging.errors import ChannelError
from islet_imaging.measurement.measure import (
    CELL_COLUMNS,
    MARKER_FEATURES,
    finish_cells,
    measure_cells,
    measure_halo_px,
    neighbour_pairs,
)
from islet_imaging.segmentation.cells import grow_cells


def scene(
    seed: int, shape: tuple[int, int], n: int, size: float = 1.0
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    nuclei = np.zeros(shape, np.int32)
    y, x = np.indices(shape)
    for name in 3 * rng.permutation(np.arange(1, n + 1)):
        cy, cx = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        nuclei[np.hypot(y - cy, (x - cx) * rng.uniform(0.6, 1.4)) < rng.uniform(1, 4)] = name
    cells = grow_cells(nuclei, ring_um=3.0 * size, pixel_size_um=size)
    channels = {
        "DAPI": rng.integers(0, 4000, shape).astype(np.uint16),
        "INS": rng.normal(100, 60, shape).astype(np.float32),
        "NKX": rng.integers(0, 255, shape).astype(np.uint8),
    }
    return nuclei, cells, channels


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.integers(0, 4)), max_size=60),
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_quantiles_are_exact(pixels: list[tuple[float, int]], quantiles: list[float]) -> None:
    values = np.array([v for v, _ in pixels], np.float32)
    groups = np.array([g for _, g in pixels], np.int64)
    found = group_quantiles(values, groups, 5, quantiles)
    for group in range(5):
        mine = values[groups == group].astype(np.float64)
        if len(mine):
            np.testing.assert_allclose(found[:, group], np.quantile(mine, quantiles), rtol=1e-9)
        else:
            assert np.isnan(found[:, group]).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 14))
def test_measures_are_the_slow_ones(seed: int, n: int) -> None:
    nuclei, cells, channels = scene(seed, (40, 50), n)
    table = measure_cells(
        nuclei, cells, channels, dna="DAPI", pixel_size_um=0.5, compartments={"NKX": "nucleus"}
    )
    assert table.cell.tolist() == [k for k in np.unique(nuclei) if k]
    for row in table.itertuples():
        inside, ring = nuclei == row.cell, (cells == row.cell) & (nuclei == 0)
        y, x = np.nonzero(inside)
        assert row.y_px == pytest.approx(y.mean())
        assert row.x_um == pytest.approx(x.mean() * 0.5)
        assert row.nucleus_area_um2 == pytest.approx(inside.sum() * 0.25)
        assert row.dna_mean == pytest.approx(channels["DAPI"][inside].mean())
        edge = y.min() == 0 or x.min() == 0 or y.max() == 39 or x.max() == 49
        assert row.touches_border == edge
        for marker in ("INS", "NKX"):
            pixels = channels[marker].astype(np.float64)
            found = {f: getattr(row, f"{marker}_{f}") for f in MARKER_FEATURES}
            assert found["nucleus_mean"] == pytest.approx(pixels[inside].mean())
            where = inside if marker == "NKX" else ring
            if where.any() and pixels[where].mean() > 0:
                expected = pixels[where].std() / pixels[where].mean()
                assert found["texture"] == pytest.approx(expected)
            if not ring.any():
                assert np.isnan(found["ring_mean"])
                continue
            assert found["ring_mean"] == pytest.approx(pixels[ring].mean(), rel=1e-6)
            for name, q in (("median", 0.5), ("p10", 0.1), ("p25", 0.25), ("p75", 0.75)):
                assert found[f"ring_{name}"] == pytest.approx(np.quantile(pixels[ring], q))
            ry, rx = np.nonzero(ring)
            angle = np.arctan2(ry - y.mean(), rx - x.mean())
            octant = np.floor(angle / (np.pi / 4) + 1e-12).astype(int) % 8
            means = [pixels[ry[octant == k], rx[octant == k]].mean() for k in set(octant)]
            # pixels exactly on a diagonal may fall to either side
            on_edge = np.isclose(angle / (np.pi / 4), np.round(angle / (np.pi / 4)))
            if not on_edge.any():
                assert found["sector_p25"] == pytest.approx(np.quantile(means, 0.25))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_neighbours_are_the_slow_ones(seed: int) -> None:
    nuclei, cells, channels = scene(seed, (40, 50), 14)
    table = measure_cells(nuclei, cells, channels, dna="DAPI", pixel_size_um=1.0)
    borders: dict[tuple[int, int], int] = {}
    for i, j in np.ndindex(40, 50):
        for a, b in ((i + 1, j), (i, j + 1)):
            if a < 40 and b < 50:
                pair = sorted((int(cells[i, j]), int(cells[a, b])))
                if pair[0] and pair[0] != pair[1]:
                    borders[pair[0], pair[1]] = borders.get((pair[0], pair[1]), 0) + 1
    pairs = neighbour_pairs(cells)
    known_before = measure_cells(
        nuclei, cells, channels, dna="DAPI", pixel_size_um=1.0, pairs=pairs
    )
    pd.testing.assert_frame_equal(known_before, table, check_exact=True)
    assert (
        dict(
            zip(
                zip(*map(np.ndarray.tolist, pairs[:2]), strict=True), pairs[2].tolist(), strict=True
            )
        )
        == borders
    )
    level = table.set_index("cell").INS_ring_median
    for row in table.itertuples():
        mine = {a + b - row.cell: n for (a, b), n in borders.items() if row.cell in (a, b)}
        assert row.neighbours == len(mine)
        known = {k: n for k, n in mine.items() if np.isfinite(level.get(k, np.nan))}
        if known:
            weights = np.array(list(known.values()))
            levels = level[list(known)].to_numpy()
            assert row.INS_neighbour_mean == pytest.approx((levels * weights).sum() / weights.sum())
            assert row.INS_neighbour_max == pytest.approx(levels.max())
        else:
            assert np.isnan(row.INS_neighbour_mean)
        others = table[table.cell != row.cell]
        away = np.hypot(others.y_px - row.y_px, others.x_px - row.x_px)
        assert row.nearest_um == pytest.approx(away.min())


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.integers(30, 170), st.integers(30, 170))
def test_tiles_give_the_rows_of_the_whole(seed: int, cut_y: int, cut_x: int) -> None:
    size = 4.0
    nuclei, cells, channels = scene(seed, (200, 210), 150, size)
    whole = measure_cells(nuclei, cells, channels, dna="DAPI", pixel_size_um=size)
    halo = measure_halo_px(size)
    parts = []
    for ys in ((0, cut_y), (cut_y, 200)):
        for xs in ((0, cut_x), (cut_x, 210)):
            rows = slice(max(0, ys[0] - halo), min(200, ys[1] + halo))
            columns = slice(max(0, xs[0] - halo), min(210, xs[1] + halo))
            part = measure_cells(
                nuclei[rows, columns],
                cells[rows, columns],
                {name: pixels[rows, columns] for name, pixels in channels.items()},
                dna="DAPI",
                pixel_size_um=size,
                origin_px=(rows.start, columns.start),
                image_shape_px=(200, 210),
            )
            own = part.y_px.between(*ys, inclusive="left")
            parts.append(part[own & part.x_px.between(*xs, inclusive="left")])
    joined = finish_cells(pd.concat(parts), pixel_size_um=size)
    pd.testing.assert_frame_equal(joined, whole, check_exact=True)


def test_bands_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    nuclei, cells, channels = scene(5, (150, 160), 60)
    whole = measure_cells(nuclei, cells, channels, dna="DAPI", pixel_size_um=0.5, threads=1)
    monkeypatch.setattr("islet_imaging.measurement.pixel_features.BAND_PIXELS", 160)
    banded = measure_cells(nuclei, cells, channels, dna="DAPI", pixel_size_um=0.5, threads=3)
    pd.testing.assert_frame_equal(banded, whole, check_exact=True)


@pytest.mark.parametrize("shape", [(0, 0), (30, 0), (30, 40)])
@pytest.mark.parametrize("size", [0.5, None])
def test_no_cells_no_rows_no_warning(shape: tuple[int, int], size: float | None) -> None:
    nothing = np.zeros(shape, np.int32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = measure_cells(
            nothing, nothing, {"DAPI": nothing, "INS": nothing}, dna="DAPI", pixel_size_um=size
        )
    assert len(table) == 0
    assert list(table) == [*CELL_COLUMNS, *(f"INS_{f}" for f in MARKER_FEATURES)]


def test_one_cell_without_ring_or_neighbour() -> None:
    nuclei = np.zeros((10, 10), np.int32)
    nuclei[4:6, 4:6] = 9
    image = np.zeros((10, 10), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = measure_cells(
            nuclei, nuclei, {"DAPI": image, "INS": image}, dna="DAPI", pixel_size_um=None
        ).iloc[0]
    assert row.cell == 9
    for name in ("y_um", "nucleus_area_um2", "nearest_um", "INS_ring_p25", "INS_neighbour_mean"):
        assert np.isnan(row[name])
    assert np.isnan(row.INS_saturated)
    assert row.neighbours == 0


def test_local_background_saturation_and_integrated_dna() -> None:
    nuclei = np.zeros((200, 200), np.int32)
    nuclei[95:105, 95:105] = 1
    cells = grow_cells(nuclei, ring_um=3.0, pixel_size_um=0.5)
    dna = np.where(nuclei > 0, 500, 100).astype(np.uint16)
    ins = np.where(cells > 0, 65535, 40).astype(np.uint16)
    table = measure_cells(nuclei, cells, {"DAPI": dna, "INS": ins}, dna="DAPI", pixel_size_um=0.5)
    assert table.INS_background[0] == pytest.approx(40)
    assert table.dna_integrated[0] == pytest.approx(100 * 400)
    assert table.INS_saturated[0] == 1
    low = measure_cells(
        nuclei,
        cells,
        {"DAPI": dna, "INS": ins},
        dna="DAPI",
        pixel_size_um=0.5,
        saturation={"INS": 70000.0},
    )
    assert low.INS_saturated[0] == 0


def test_islet_of_a_cell() -> None:
    nuclei, cells, channels = scene(2, (60, 60), 12)
    islets = np.zeros_like(nuclei)
    islets[:, 30:] = 7
    table = measure_cells(nuclei, cells, channels, dna="DAPI", pixel_size_um=1.0, islets=islets)
    assert table.islet.tolist() == [7 if round(x) >= 30 else 0 for x in table.x_px]


def test_shape_of_nuclei() -> None:
    y, x = np.indices((80, 200))
    nuclei = np.zeros((80, 200), np.int32)
    nuclei[np.hypot(y - 40, x - 40) < 20] = 1
    nuclei[np.hypot(y - 40, (x - 120) / 2) < 15] = 2
    nuclei[(np.hypot(y - 40, x - 180) < 15) & ((y > 40) | (x > 180))] = 3
    image = np.ones((80, 200))
    table = measure_cells(nuclei, nuclei, {"DAPI": image}, dna="DAPI", pixel_size_um=1.0)
    assert table.nucleus_eccentricity.tolist() == pytest.approx([0, np.sqrt(0.75), 0.6], abs=0.15)
    assert table.nucleus_solidity[0] > 0.96
    assert table.nucleus_solidity[1] > 0.96
    assert table.nucleus_solidity[2] < 0.9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_hull_is_nearly_that_of_scikit_image(seed: int) -> None:
    from skimage.measure import regionprops

    rng = np.random.default_rng(seed)
    y, x = np.indices((50, 50))
    shape = np.zeros((50, 50), bool)
    for _ in range(3):
        cy, cx = rng.uniform(18, 32, 2)
        shape |= np.hypot(y - cy, x - cx) < rng.uniform(4, 9)
    yy, xx = np.nonzero(shape)
    area = hull_areas(yy, xx, np.zeros(len(yy), int), 1)[0]
    assert area == pytest.approx(regionprops(shape.astype(int))[0].area_convex, rel=0.04)


def test_wrong_shapes_and_names_are_told() -> None:
    nuclei = np.zeros((5, 5), np.int32)
    with pytest.raises(ChannelError, match="DAPI"):
        measure_cells(nuclei, nuclei, {"INS": nuclei}, dna="DAPI", pixel_size_um=1.0)
    with pytest.raises(ChannelError, match="shape"):
        measure_cells(nuclei, nuclei, {"DAPI": nuclei[:4]}, dna="DAPI", pixel_size_um=1.0)
