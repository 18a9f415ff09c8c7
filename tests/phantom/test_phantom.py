"""The renderer: determinism, the camera equation, truth that agrees with itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

import islet_imaging.phantom
from islet_imaging.errors import IsletImagingError
from islet_imaging.phantom import (
    HARD_PRESETS,
    PRESETS,
    Phantom,
    PhantomParameters,
    phantom,
    random_parameters,
)
from islet_imaging.phantom.render import ring_labels

SMALL = {"shape": (192, 192), "n_islets": 1}


@pytest.fixture(scope="module")
def ffpe() -> Phantom:
    return phantom("ffpe20x", seed=4, shape=(448, 448), n_islets=1, equatorial=True)


def test_same_seed_same_bits() -> None:
    one, two = phantom("ffpe20x", seed=9, **SMALL), phantom("ffpe20x", seed=9, **SMALL)
    assert np.array_equal(one.array, two.array)
    assert np.array_equal(one.truth.nuclei, two.truth.nuclei)
    pd.testing.assert_frame_equal(one.truth.cells, two.truth.cells)
    assert not np.array_equal(one.array, phantom("ffpe20x", seed=10, **SMALL).array)


def test_camera_and_channels_do_not_move_cells() -> None:
    plain = phantom("ffpe20x", seed=3, **SMALL)
    other = phantom("ffpe20x", seed=3, gain=1.0, bits=16, channels=("GCG", "INS", "DAPI"), **SMALL)
    assert other.image.channel_names == ("GCG", "INS", "DAPI")
    names = ["cell", "islet", "z_um", "type", "INS_expressed", "INS_level", "GCG_level"]
    pd.testing.assert_frame_equal(plain.truth.cells[names], other.truth.cells[names])


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_renders(preset: str) -> None:
    made = phantom(preset, seed=1, shape=(224, 224), n_islets=1, equatorial=True)
    truth = made.truth
    assert made.array.dtype == (np.uint8 if preset == "abused_8bit" else np.uint16)
    assert made.image.pixel_size_um == PRESETS[preset].pixel_size_um
    visible = truth.cells[truth.cells["visible"]]
    assert len(visible) > 10
    assert set(np.unique(truth.nuclei)) - {0} == set(visible["cell"])
    assert truth.clean.shape == made.array.shape
    assert np.isfinite(truth.clean).all()


def test_picture_follows_from_clean_images() -> None:
    made = phantom(
        "ffpe20x", seed=5, photons=1e5, dna_photons=1e5, gain=0.5, bits=16, read_noise=0.0,
        hot_pixels=0.0, bleed_dna=0.2, bleed_next=0.1, vignetting=0.3, specks_per_mm2=0.0,
        expression_sigma=0.2, debris_per_mm2=0.0, **SMALL,
    )  # fmt: skip
    truth = made.truth
    expected = 100.0 + truth.flat_field * np.tensordot(truth.bleed, truth.clean, 1)
    below = expected < 60000
    noise = np.sqrt(0.5 * (expected - 100.0)) + 1.0
    z = (made.array - expected)[below] / noise[below]
    assert abs(z.mean()) < 0.05
    assert 0.8 < z.std() < 1.1
    assert truth.flat_field.max() == 1.0


def test_cells_table_agrees_with_labels(ffpe: Phantom) -> None:
    truth, px = ffpe.truth, ffpe.parameters.pixel_size_um
    cells = truth.cells.set_index("cell")
    area = np.bincount(truth.nuclei.ravel())
    for label in np.flatnonzero(area)[1:]:
        assert cells.loc[label, "nucleus_area_um2"] == pytest.approx(area[label] * px * px)
    visible = cells[cells["visible"]]
    assert (visible["visible_fraction"] >= 0.3).all()
    assert (cells.loc[~cells["visible"], "nucleus_area_um2"] == 0).all()
    # a nucleus never counts and is partial at once
    assert not set(np.unique(truth.partial_nuclei)) & set(visible.index)
    assert not ((truth.partial_nuclei > 0) & (truth.nuclei > 0)).any()
    inside = truth.nuclei > 0
    assert np.array_equal(truth.bodies[inside], truth.nuclei[inside])
    labels = truth.islets[inside]
    assert np.mean(labels > 0) > 0.99


def test_geometry_is_that_of_packed_tissue() -> None:
    made = phantom("ffpe20x", seed=2, scene="tissue", n_islets=0, shape=(512, 512))
    cells = made.truth.cells[made.truth.cells["visible"]]
    nearest = cKDTree(cells[["y_um", "x_um"]]).query(cells[["y_um", "x_um"]], k=2)[0][:, 1]
    assert 6.5 < np.median(nearest) < 11.0
    round_ones = cells[~cells["touches_border"] & ~cells["stroma"] & ~cells["pyknotic"]]
    diameter = np.sqrt(4 / np.pi * round_ones["nucleus_area_um2"])
    assert 6.0 < diameter.median() < 8.5
    assert cells["stroma"].mean() == pytest.approx(0.15, abs=0.08)


def test_marker_light_is_in_the_cytoplasm_and_nuclear_marker_in_the_nucleus() -> None:
    made = phantom(
        "easy_confocal", seed=6, channels=("DAPI", "INS", "NKX6.1"), shape=(320, 320), n_islets=1,
        equatorial=True,
    )  # fmt: skip
    truth = made.truth
    rings = ring_labels(truth.nuclei, made.parameters.pixel_size_um)
    size = int(truth.nuclei.max()) + 1
    for k, marker, outside in ((1, "INS", True), (2, "NKX6.1", False)):
        positive = truth.cells.loc[truth.cells["visible"] & truth.cells[f"{marker}_expressed"]]
        light = truth.clean[k].ravel()
        nucleus, ring = (
            np.bincount(labels.ravel(), light, size)
            / np.maximum(np.bincount(labels.ravel(), minlength=size), 1)
            for labels in (truth.nuclei, rings)
        )
        ratio = np.median(nucleus[positive["cell"]] / ring[positive["cell"]])
        assert ratio < 0.6 if outside else ratio > 1.5


def test_own_light_is_all_light_where_no_other_cell_shines() -> None:
    changes = dict(
        SMALL, shape=(256, 256), equatorial=True, nonspecific_level=0.0, uptake_fraction=0.0,
        halo=0.0, haze=0.0, pooling=0.0, dim_fraction=0.0, chromatic_shift_um=0.0,
        bihormonal_fraction=0.0, insulin_fraction=0.01, islet_diameter_um=60.0,
        islet_diameter_sd_um=1.0,
    )  # fmt: skip
    made = [phantom("ffpe20x", seed=seed, **changes) for seed in range(8)]
    cells = pd.concat([m.truth.cells for m in made])
    alone = cells[cells["INS_expressed"] & cells["visible"]].dropna(subset=["INS_own_light"])
    assert len(alone) > 0
    lone = alone[alone["INS_spill_fraction"] < 0.5]
    assert len(lone) == len(alone)
    total = alone["INS_own_light"] + alone["INS_neighbour_light"]
    np.testing.assert_allclose(alone["INS_own_light"], total, rtol=0.06)


def test_fractions_asked_for_are_met() -> None:
    none = phantom("ffpe20x", seed=1, insulin_fraction=0.0, bihormonal_fraction=0.0, **SMALL)
    assert not none.truth.cells["INS_expressed"].any()
    table = phantom("ffpe20x", seed=1, insulin_fraction=0.5, **SMALL).truth.islet_table
    # 50 % insulin-only and 3 % bihormonal, of all cells of the aggregate
    assert table["INS_aggregate_fraction"].to_numpy() == pytest.approx(0.53, abs=0.02)
    crop = phantom("ffpe20x", seed=1, whole_aggregates=False, **SMALL).truth.islet_table
    assert crop["INS_aggregate_fraction"].isna().all()


def test_controls_take_the_stain_away() -> None:
    light = {}
    for control in ("none", "secondary_only", "unstained", "no_insulin", "single_stain:GCG"):
        made = phantom("ffpe20x", seed=8, control=control, dim_fraction=0.0, **SMALL)
        inside = made.truth.islets > 0
        light[control] = [float(np.quantile(plane[inside], 0.9)) for plane in made.truth.clean]
    full = light["none"]
    assert light["secondary_only"][1] < 0.25 * full[1]
    assert light["unstained"][1] < light["secondary_only"][1]
    assert light["unstained"][0] == pytest.approx(full[0])
    assert light["no_insulin"][1] < 0.3 * full[1]
    assert light["no_insulin"][2] > 0.5 * full[2]
    assert light["single_stain:GCG"][2] > 0.9 * full[2]
    assert light["single_stain:GCG"][0] < 0.3 * full[0]


def test_hard_presets_overcall_by_ring_mean() -> None:
    """A threshold at 5 % of the median positive ring mean overcalls by 15 points or more."""
    assert "cryo10um_widefield" in HARD_PRESETS
    made = phantom("cryo10um_widefield", seed=12, shape=(512, 512), n_islets=1, equatorial=True)
    truth = made.truth
    cells = truth.cells[truth.cells["visible"] & ~truth.cells["pyknotic"]]
    cells = cells.dropna(subset=["INS_own_light"])
    ring = cells["INS_own_light"] + cells["INS_neighbour_light"]
    called = ring > 0.05 * ring[cells["INS_expressed"]].median()
    assert called.mean() - cells["INS_expressed"].mean() > 0.15
    # and it is neighbours' light that does it, not stain of the cell's own
    negative = cells[~cells["INS_expressed"]]
    assert (negative["INS_spill_fraction"] > 0.5).mean() > 0.8


def test_heldout_texture_differs() -> None:
    plain = phantom("ffpe20x", seed=2, **SMALL)
    held = phantom("ffpe20x", seed=2, texture="heldout", **SMALL)
    assert not np.array_equal(plain.truth.nuclei, held.truth.nuclei)
    assert held.truth.cells["visible"].sum() > 10


@given(seed=st.integers(0, 10_000), texture=st.sampled_from(["standard", "heldout"]))
@settings(max_examples=12, deadline=None)
def test_random_parameters_always_render(seed: int, texture: str) -> None:
    p = random_parameters(np.random.default_rng(seed), shape=(96, 96), texture=texture)
    made = phantom(p, seed=seed)
    assert made.array.shape == (2, 96, 96)
    visible = made.truth.cells["visible"].to_numpy(bool)
    labels = set(np.unique(made.truth.nuclei)) - {0}
    assert labels == set(made.truth.cells.loc[visible, "cell"])
    assert np.isfinite(made.truth.clean).all()
    assert p == random_parameters(np.random.default_rng(seed), shape=(96, 96), texture=texture)


def test_empty_scene_has_no_cells() -> None:
    made = phantom("ffpe20x", seed=0, scene="empty", **SMALL)
    assert len(made.truth.cells) == 0
    assert not made.truth.nuclei.any()
    assert "INS_section_fraction" in made.truth.islet_table


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"channels": ("DAPI", "XYZ")}, "XYZ"),
        ({"channels": ("DAPI", "DAPI")}, "differ"),
        ({"insulin_fraction": 0.9, "glucagon_fraction": 0.9}, "sum to at most 1"),
        ({"control": "single_stain:SST"}, "single_stain"),
        ({"pixel_size_um": 0.0}, "pixel_size_um"),
        ({"numerical_aperture": 1.6}, "numerical_aperture"),
        ({"bits": 10}, "bits"),
        ({"shape": (4, 4)}, "shape"),
        ({"scene": "moon"}, "moon"),
    ],
)
def test_wrong_parameters_are_named(changes: dict[str, object], word: str) -> None:
    with pytest.raises(IsletImagingError, match=word):
        phantom("ffpe20x", **changes)


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(IsletImagingError, match="cryo10um_widefield"):
        phantom("cryo10")


def test_package_can_be_called() -> None:
    made = islet_imaging.phantom("ffpe20x", seed=1, shape=(64, 64), n_islets=1)
    assert isinstance(made, Phantom)
    assert isinstance(made.parameters, PhantomParameters)
