"""Islets and islet equivalents."""

from __future__ import annotations

import numpy as np
import pytest

from islet_imaging.errors import NotEstimableError, PixelSizeError
from islet_imaging.segmentation.islets import islet_equivalents, islets_table, segment_islets


def packed_disc(
    labels: np.ndarray, centre: tuple[int, int], radius_um: float, size: float, seed: int = 0
) -> int:
    """Fill a disc with nuclei of 7 um that touch its rim less 2 um of cytoplasm; how many."""
    rng = np.random.default_rng(seed)
    cy, cx = (c * size for c in centre)
    rim = radius_um - 2.0 - 3.5
    angles = np.arange(0, 2 * np.pi, 7.5 / rim)
    points = [(cy + rim * np.sin(angle), cx + rim * np.cos(angle)) for angle in angles]
    for _ in range(4000):
        p = (cy + rng.uniform(-rim, rim), cx + rng.uniform(-rim, rim))
        if np.hypot(p[0] - cy, p[1] - cx) > rim:
            continue
        if min(np.hypot(p[0] - q[0], p[1] - q[1]) for q in points) > 7.2:
            points.append(p)
    start = int(labels.max())
    for k, (py, px) in enumerate(points):
        i, j, reach = int(py / size), int(px / size), int(4 / size) + 1
        window = (
            slice(max(0, i - reach), max(0, i + reach)),
            slice(max(0, j - reach), max(0, j + reach)),
        )
        y, x = np.mgrid[window[0], window[1]]
        inside = (y < labels.shape[0]) & (x < labels.shape[1])
        y, x = y[inside], x[inside]
        disc = np.hypot(y * size - py, x * size - px) <= 3.5
        labels[y[disc], x[disc]] = start + 1 + k
    return len(points)


@pytest.mark.parametrize("size", [0.325, 0.65])
def test_diameter_of_an_aggregate(size: float) -> None:
    side = int(220 / size)
    labels = np.zeros((side, side), np.int32)
    n = packed_disc(labels, (side // 2, side // 2), 75.0, size)
    islets = segment_islets(labels, pixel_size_um=size)
    table = islets_table(labels, islets, pixel_size_um=size)
    assert len(table) == 1
    assert table.n_cells[0] == n
    assert table.diameter_um[0] == pytest.approx(150, rel=0.03)
    assert table.circularity[0] > 0.9
    assert table.solidity[0] > 0.95
    assert not table.touches_border[0]


def test_far_groups_are_two_islets_and_strays_are_none() -> None:
    labels = np.zeros((400, 700), np.int32)
    packed_disc(labels, (200, 150), 40.0, 0.5)
    packed_disc(labels, (200, 400), 40.0, 0.5)
    labels[10:20, 600:610] = labels.max() + 1
    islets = segment_islets(labels, pixel_size_um=0.5)
    assert islets.max() == 2
    assert not islets[10:20, 600:610].any()
    for name in np.unique(labels[labels > 0]):
        assert len(np.unique(islets[labels == name])) == 1


def test_one_cell_short_is_no_islet() -> None:
    labels = np.zeros((100, 200), np.int32)
    for k in range(9):
        labels[50:60, 10 + 15 * k : 20 + 15 * k] = k + 1
    assert segment_islets(labels, pixel_size_um=0.7, min_cells=10).max() == 0
    assert segment_islets(labels, pixel_size_um=0.7, min_cells=9).max() == 1


def test_an_islet_cut_by_the_border_is_told() -> None:
    labels = np.zeros((200, 300), np.int32)
    packed_disc(labels, (0, 150), 40.0, 0.5)
    table = islets_table(labels, segment_islets(labels, pixel_size_um=0.5), pixel_size_um=0.5)
    assert table.touches_border.tolist() == [True]


def test_field_and_nothing() -> None:
    labels = np.zeros((20, 30), np.int32)
    for method in ("islets", "field"):
        assert not segment_islets(labels, pixel_size_um=0.5, method=method).any()
    assert len(islets_table(labels, labels, pixel_size_um=0.5)) == 0
    assert segment_islets(np.zeros((0, 0), int), pixel_size_um=0.5).shape == (0, 0)
    labels[3, 4] = 1
    assert (segment_islets(labels, pixel_size_um=None, method="field") == 1).all()
    with pytest.raises(PixelSizeError):
        segment_islets(labels, pixel_size_um=None)


def test_equivalents_exact_and_by_class() -> None:
    # one islet in the middle of each class of the published table
    diameters = [75, 125, 175, 225, 275, 325, 375, 425]
    found = islet_equivalents(diameters, preparation="whole")
    assert found.ricordi == pytest.approx(
        0.167 + 0.667 + 1.685 + 3.5 + 6.315 + 10.352 + 15.833 + 22.75
    )
    assert found.exact == pytest.approx(sum(d**3 for d in diameters) / 150**3)
    assert (found.n, found.n_small) == (8, 0)


def test_equivalents_of_small_ones_are_not_counted() -> None:
    found = islet_equivalents([49.9, 50.0], preparation="whole")
    assert (found.n, found.n_small) == (1, 1)
    assert found.exact == pytest.approx((50 / 150) ** 3)
    assert found.ricordi == 0.167
    assert islet_equivalents([], preparation="whole").exact == 0


def test_classes_overstate_small_aggregates() -> None:
    rng = np.random.default_rng(1)
    found = islet_equivalents(rng.normal(100, 20, 5000), preparation="whole")
    assert 1.2 < found.ricordi / found.exact < 1.35


@pytest.mark.parametrize("preparation", ["section", "monolayer", ""])
def test_equivalents_are_refused_for_sections(preparation: str) -> None:
    with pytest.raises(NotEstimableError, match="whole"):
        islet_equivalents([150], preparation=preparation)


def test_equivalents_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="finite"):
        islet_equivalents([np.nan], preparation="whole")
