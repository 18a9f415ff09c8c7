"""Patterns of expression: light moves within a cell, and all else of the picture stays."""

from __future__ import annotations

import numpy as np
import pytest

from islet_imaging.errors import IsletImagingError
from islet_imaging.phantom import PATTERNS, Phantom, phantom, random_parameters, random_pattern
from islet_imaging.positivity.evenness import LEAST_EVEN, evenness, level_column

SMALL = {"shape": (320, 320), "n_islets": 1, "equatorial": True, "channels": ("DAPI", "INS")}


def made(pattern: str, preset: str = "easy_confocal", **changes: object) -> Phantom:
    return phantom(preset, seed=5, **{**SMALL, **PATTERNS[pattern], **changes})


@pytest.fixture(scope="module")
def smooth() -> Phantom:
    return made("smooth")


@pytest.mark.parametrize("pattern", sorted(set(PATTERNS) - {"smooth"}))
def test_a_pattern_moves_nothing_but_product(pattern: str, smooth: Phantom) -> None:
    other = made(pattern)
    assert np.array_equal(other.truth.nuclei, smooth.truth.nuclei)
    assert np.array_equal(other.truth.clean[0], smooth.truth.clean[0])
    columns = ["cell", "type", "INS_expressed", "INS_level", "visible"]
    assert other.truth.cells[columns].equals(smooth.truth.cells[columns])
    assert not np.array_equal(other.array[1], smooth.array[1])
    # light is moved, not made: the picture as a whole keeps it
    light, before = (m.truth.clean[1].sum() for m in (other, smooth))
    assert light == pytest.approx(before, rel=0.15)


def test_granules_are_bright_and_few() -> None:
    """Most of a granular cell is dark, a few pixels hold its light."""
    shares = {}
    for name in ("smooth", "granular", "few_granules"):
        truth = made(name).truth
        cells = truth.cells[truth.cells["visible"] & truth.cells["INS_expressed"]]
        light = truth.clean[1][np.isin(truth.bodies, cells["cell"]) & (truth.nuclei == 0)]
        top = np.sort(light)[::-1]
        shares[name] = top[: len(top) // 10].sum() / top.sum()
    assert shares["smooth"] < 0.4 < shares["granular"] < shares["few_granules"]


def test_a_cap_lies_on_one_side(smooth: Phantom) -> None:
    def one_sidedness(shown: Phantom) -> float:
        truth, found = shown.truth, []
        for cell in truth.cells.loc[truth.cells["visible"] & truth.cells["INS_expressed"], "cell"]:
            y, x = np.nonzero((truth.bodies == cell) & (truth.nuclei != cell))
            ny, nx = np.nonzero(truth.nuclei == cell)
            if len(y) < 50:
                continue
            weight = truth.clean[1][y, x]
            angle = np.arctan2(y - ny.mean(), x - nx.mean())
            even = abs(np.exp(1j * angle).mean())
            found.append(abs(np.average(np.exp(1j * angle), weights=weight)) - even)
        return float(np.median(found))

    assert one_sidedness(made("polarised")) > one_sidedness(smooth) + 0.25


def test_nonspecific_stain_keeps_even() -> None:
    """A cell that expresses nothing shows no granule."""
    plain, granular = (
        made(name, insulin_fraction=0.0, bihormonal_fraction=0.0, uptake_fraction=0.0)
        for name in ("smooth", "few_granules")
    )
    assert np.array_equal(plain.array, granular.array)


@pytest.mark.parametrize(
    "changes",
    [
        {"granule_share": 1.5},
        {"cap_share": 0.0},
        {"patch_share": 2.0},
        {"perinuclear_um": -1.0},
        {"granules_per_cell": 0.0},
    ],
)
def test_impossible_patterns_are_told(changes: dict[str, float]) -> None:
    with pytest.raises(IsletImagingError, match=next(iter(changes))):
        phantom("ffpe20x", **SMALL, **changes)


def test_random_patterns_are_parameters() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_pattern(rng) for _ in range(40)]
    parameters = random_parameters(rng, shape=(64, 64))
    for values in drawn:
        parameters.with_changes(**values)
    assert len({tuple(sorted(values)) for values in drawn}) >= 5


@pytest.mark.parametrize("pattern", ["smooth", "perinuclear", "polarised", "polarised_granules"])
def test_the_level_follows_the_pattern(pattern: str) -> None:
    from islet_imaging.measurement.measure import measure_cells
    from islet_imaging.segmentation.cells import grow_cells

    shown = made(pattern, "ffpe20x", shape=(640, 640))
    size, nuclei = shown.parameters.pixel_size_um, shown.truth.nuclei
    channels = {"DAPI": shown.array[0], "INS": shown.array[1]}
    cells = grow_cells(nuclei, ring_um=3.0, pixel_size_um=size)
    table = measure_cells(nuclei, cells, channels, dna="DAPI", pixel_size_um=size)
    even = pattern in ("smooth", "perinuclear")
    found = evenness(table, "INS")
    assert found is not None
    assert (found > LEAST_EVEN) == even
    assert level_column(table, "INS") == f"INS_{'sector_p25' if even else 'sector_blend'}"
    # too few bright cells to tell: as for an even product
    assert level_column(table.iloc[:15], "INS") == "INS_sector_p25"
    # a table measured before there was a choice
    assert level_column(table.drop(columns="INS_sector_blend"), "INS") == "INS_sector_p25"
