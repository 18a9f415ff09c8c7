"""Each check sees its planted fault, says nothing of the clean image, and survives odd input."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from islet_imaging.protocol import Acquisition, Channel, Nuclei, Protocol
from islet_imaging.quality import (
    Flag,
    ImageNumbers,
    check_folder,
    check_image,
    flag_cells,
    join_codes,
    measure_quality,
)
from islet_imaging.quality.image_flags import nuclear_likeness
from islet_imaging.quality.numbers import independent_markers

UM = 0.5
PROTOCOL = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")))
Stack = dict[str, np.ndarray]


def scene(seed: int = 0, size: int = 512, *, gain: float = 1.0) -> Stack:
    """A round islet of touching nuclei, half of them with an insulin ring, some with glucagon."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    dna, ins, gcg = (np.zeros((size, size), np.float32) for _ in range(3))
    centre = size / 2 + rng.normal(0, 20, 2)
    step = 8.5 / UM
    # a grid turned against the axes, so that no row of nuclei is a straight step
    for v in np.arange(-size, size, step):
        for u in np.arange(-size, size, step):
            py = size / 2 + 0.94 * v + 0.34 * u + rng.normal(0, 1.5)
            px = size / 2 - 0.34 * v + 0.94 * u + rng.normal(0, 1.5)
            if np.hypot(py - centre[0], px - centre[1]) > 0.36 * size:
                continue
            box = (slice(int(py) - 20, int(py) + 21), slice(int(px) - 20, int(px) + 21))
            r = np.hypot(y[box] - py, x[box] - px) * UM
            dna[box] += rng.normal(900, 120) / (1 + np.exp((r - 3.3) / 0.25))
            kind = rng.random()
            ring = np.exp(-(((r - 4.3) / 1.2) ** 2)) * rng.lognormal(6.5, 0.5)
            if kind < 0.45:
                ins[box] += ring
            elif kind < 0.6:
                gcg[box] += ring
    tissue = ndimage.gaussian_filter(dna, 8)
    out = {}
    for name, light in (("DAPI", dna), ("INS", ins), ("GCG", gcg)):
        light = gain * (light + 0.03 * tissue + 12)
        out[name] = rng.poisson(100 + light).astype(np.uint16)
    return out


def codes(stack: Stack, protocol: Protocol = PROTOCOL, **metadata: object) -> set[str]:
    return {
        f.code
        for f in check_image(stack, protocol=protocol, metadata=metadata, pixel_size_um=UM)
        if f.severity != "info"
    }


@pytest.fixture(scope="module")
def clean() -> Stack:
    return scene()


def test_clean_image_raises_nothing(clean: Stack) -> None:
    assert codes(clean) == set()


@pytest.mark.parametrize("top", [255, 4095])
def test_saturation_warns_then_blocks(clean: Stack, top: int) -> None:
    dtype = np.uint8 if top == 255 else np.uint16
    for share, severity in ((0.004, "warning"), (0.05, "block")):
        light = clean["INS"].astype(float)
        scaled = 5 + light * (top - 5) / np.quantile(light, 1 - share * 0.45)
        stack = {**clean, "INS": np.clip(scaled, 0, top).astype(dtype)}
        (flag,) = (
            f
            for f in check_image(stack, protocol=PROTOCOL, metadata={}, pixel_size_um=UM)
            if f.code == "saturated"
        )
        assert (flag.severity, flag.channel) == (severity, "INS")
        assert str(top) in flag.message


def test_one_bright_pixel_is_no_saturation(clean: Stack) -> None:
    ins = clean["INS"].copy()
    ins[100, 100] = 65535
    assert "saturated" not in codes({**clean, "INS": ins})


def test_empty_swapped_identical_constant_nan(clean: Stack) -> None:
    noise = np.random.default_rng(1).normal(110, 6, clean["INS"].shape).astype(np.uint16)
    assert codes({**clean, "INS": noise}) == {"empty_channel"}
    assert "swapped_channels" in codes({**clean, "DAPI": clean["INS"], "INS": clean["DAPI"]})
    assert "identical_channels" in codes({**clean, "GCG": clean["INS"]})
    assert codes({**clean, "GCG": np.full_like(clean["GCG"], 7)}) == {"constant_channel"}
    holes = clean["INS"].astype(np.float32)
    holes[0, 0] = np.nan
    assert "not_finite" in codes({**clean, "INS": holes})


def test_nuclear_marker_is_not_called_swapped(clean: Stack) -> None:
    p = Protocol(channels=(Channel("DAPI", "dna"), Channel("NKX6.1", compartment="nucleus")))
    stack = {"DAPI": clean["INS"], "NKX6.1": clean["DAPI"]}
    assert "swapped_channels" not in codes(stack, p)
    numbers = measure_quality(clean, dna="DAPI", pixel_size_um=UM)
    assert nuclear_likeness(numbers.channels["INS"], numbers.channels["DAPI"]) < 0.6


def test_encodings(clean: Stack) -> None:
    import imagecodecs

    eight = {c: 200.0 * p / p.max() for c, p in clean.items()}
    plain = {c: p.astype(np.uint8) for c, p in eight.items()}
    assert codes(plain) == set()
    full = {
        c: (255 * (p - p.min()) / (p.max() - p.min())).astype(np.uint8) for c, p in eight.items()
    }
    assert "display_scaled" in codes(full)
    stretched = {
        c: np.clip(1.7 * p.astype(float), 0, 250).astype(np.uint8) for c, p in plain.items()
    }
    assert "display_scaled" in codes(stretched)
    jpeg = {
        c: imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(p, level=60)) for c, p in plain.items()
    }
    assert "lossy" in codes(jpeg)
    assert "lossy" in codes(clean, lossy=True)


def test_seam_and_partial_blur(clean: Stack) -> None:
    split = {}
    for c, p in clean.items():
        light = p.astype(float)
        light[:, 250:] = 100 + 0.75 * (light[:, 250:] - 100)
        split[c] = light.astype(np.uint16)
    assert codes(split) == {"tile_seam"}
    rng = np.random.default_rng(2)
    half = {}
    for c, p in clean.items():
        soft = rng.poisson(ndimage.gaussian_filter(p.astype(float), 1.6 / UM)).astype(np.uint16)
        half[c] = np.concatenate([p[:, :256], soft[:, 256:]], axis=1)
    assert "partly_out_of_focus" in codes(half)


def test_shared_light(clean: Stack) -> None:
    bled = clean["GCG"] + (0.15 * (clean["INS"] - 100.0).clip(0)).astype(np.uint16)
    assert "bleed_through" in codes({**clean, "GCG": bled})
    assert independent_markers(["DAPI", "INS", "CPEP", "GCG", "CHGA"]) == ["INS", "GCG"]
    rng = np.random.default_rng(3)
    spots = np.zeros(clean["INS"].shape)
    spots[rng.integers(0, 512, 400), rng.integers(0, 512, 400)] = 12000
    spots = ndimage.gaussian_filter(spots, 1.2)
    glow = {c: (p + spots).astype(np.uint16) if c != "DAPI" else p for c, p in clean.items()}
    assert "autofluorescence" in codes(glow)


def test_thick_widefield_section(clean: Stack) -> None:
    thick = PROTOCOL.replace(acquisition=Acquisition(modality="widefield", section_um=10))
    assert codes(clean, thick) == {"thick_section"}
    assert codes(clean, section_um="10", modality="confocal") == set()
    assert codes(clean, section_um="10", modality="widefield") == {"thick_section"}
    # a sheet's empty or odd entry is no statement
    assert codes(clean, section_um="", modality="") == set()
    assert codes(clean, section_um="thin", modality="widefield") == set()


def test_out_of_domain_share() -> None:
    found = check_image(
        scene(), protocol=PROTOCOL, metadata={}, pixel_size_um=UM, out_of_domain={"INS": 0.4}
    )
    assert [f.code for f in found] == ["out_of_domain"]


def rows(images: list[Stack], role: str = "sample", **facts: object) -> list[dict[str, object]]:
    return [
        {
            "image": f"{role}{k}",
            "batch": "b1",
            "role": role,
            "metadata": dict(facts),
            "numbers": measure_quality(s, dna="DAPI", pixel_size_um=UM).to_dict(),
        }
        for k, s in enumerate(images)
    ]


@pytest.fixture(scope="module")
def batch() -> list[Stack]:
    return [scene(seed) for seed in range(5)]


def test_clean_folder_raises_nothing(batch: list[Stack]) -> None:
    assert check_folder(rows(batch), protocol=PROTOCOL) == []


def test_folder_faults(batch: list[Stack]) -> None:
    def named(images: list[Stack]) -> set[tuple[str, str | None]]:
        return {(f.code, f.image) for f in check_folder(rows(images), protocol=PROTOCOL)}

    rng = np.random.default_rng(0)
    soft = {
        c: rng.poisson(ndimage.gaussian_filter(p.astype(float), 1.5 / UM)).astype(np.uint16)
        for c, p in batch[2].items()
    }
    assert named([*batch[:2], soft, *batch[3:]]) == {("out_of_focus", "sample2")}
    assert named([*batch, batch[0]]) == {("duplicate", "sample5")}
    again = {c: (p * 0.7).astype(np.uint16) for c, p in batch[1].items()}
    assert ("near_duplicate", "sample5") in named([*batch, again])
    assert named([*batch, scene(9, gain=3.0)]) == {("exposure_mismatch", "sample5")}
    mixed = rows(batch)
    mixed[3]["numbers"]["pixel_size_um"] = 0.65  # type: ignore[index]
    assert [(f.code, f.image) for f in check_folder(mixed, protocol=PROTOCOL)] == [
        ("mixed_acquisition", "sample3")
    ]


def test_stated_exposure_stops_the_image(batch: list[Stack]) -> None:
    sample = rows(batch[:2], exposure_s={"INS": 0.2})
    control = rows(batch[2:3], "negative_control", exposure_s={"INS": 0.1})
    found = check_folder([*sample, *control], protocol=PROTOCOL)
    assert {(f.code, f.severity, f.image) for f in found} == {
        ("exposure_mismatch", "block", "sample0"),
        ("exposure_mismatch", "block", "sample1"),
    }
    same = rows(batch[:2], exposure_s={"INS": 0.1})
    assert check_folder([*same, *control], protocol=PROTOCOL) == []
    # a control of another staining run is no control
    other = [{**r, "batch": "b2"} for r in control]
    assert check_folder([*sample, *other], protocol=PROTOCOL) == []


def test_numbers_survive_strict_json(clean: Stack) -> None:
    numbers = measure_quality(clean, dna="DAPI", pixel_size_um=None)
    text = json.dumps(numbers.to_dict(), allow_nan=False)
    back = ImageNumbers.from_dict(json.loads(text))
    assert back.shape == numbers.shape
    assert back.channels["INS"].digest == numbers.channels["INS"].digest
    assert np.isnan(back.channels["INS"].band)
    assert back.to_dict() == numbers.to_dict()


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.sampled_from([np.uint8, np.uint16, np.float32, np.int32, bool]),
    st.integers(0, 3),
    st.sampled_from([None, 0.1, 0.5, 2.0]),
)
def test_any_small_array_is_judged_without_error(
    shape: tuple[int, int], dtype: type, seed: int, um: float | None
) -> None:
    rng = np.random.default_rng(seed)
    stack = {c: (rng.random(shape) * 300).astype(dtype) for c in ("DAPI", "INS", "GCG")}
    flags = check_image(stack, protocol=PROTOCOL, metadata={}, pixel_size_um=um)
    assert all(isinstance(f, Flag) and f.message for f in flags)


def population(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "touches_border": [k < 5 for k in range(n)],
            "nucleus_area_um2": rng.normal(45, 6, n),
            "dna_mean": rng.normal(1000, 100, n),
            "dna_texture": rng.normal(0.2, 0.015, n),
            "INS_saturated": 0.0,
            "GCG_saturated": 0.0,
        }
    )


def test_cell_flags_and_exclusion() -> None:
    cells = population()
    cells.loc[10, ["nucleus_area_um2", "dna_mean", "dna_texture"]] = [15, 1700, 0.22]
    cells.loc[11, ["nucleus_area_um2", "dna_mean", "dna_texture"]] = [20, 1100, 0.32]
    cells.loc[12, ["nucleus_area_um2", "dna_mean"]] = [15, 500]  # the cap of a cut nucleus
    cells.loc[13, ["dna_mean", "dna_texture"]] = [300, 0.08]
    cells.loc[14, "INS_saturated"] = 0.4
    flags, excluded = flag_cells(cells, PROTOCOL)
    assert list(flags[:5]) == ["border"] * 5
    assert list(flags[10:15]) == ["pyknotic", "pyknotic", "", "out_of_focus", "saturated"]
    assert (flags[15:] == "").all()
    assert list(excluded[excluded].index) == [0, 1, 2, 3, 4, 10, 11]
    keep = PROTOCOL.replace(nuclei=Nuclei(exclude_border=False, exclude_pyknotic=False))
    assert not flag_cells(cells, keep)[1].any()


def test_cells_are_judged_relative_to_their_image() -> None:
    cells = population()
    cells.loc[10, ["nucleus_area_um2", "dna_mean"]] = [15, 1700]
    other = cells.assign(
        dna_mean=cells["dna_mean"] * 7, nucleus_area_um2=cells["nucleus_area_um2"] / 2
    )
    assert list(flag_cells(cells, PROTOCOL)[0]) == list(flag_cells(other, PROTOCOL)[0])


def test_no_cells_and_few_cells() -> None:
    flags, excluded = flag_cells(population().iloc[:0], PROTOCOL)
    assert len(flags) == len(excluded) == 0
    few = population().iloc[:12].assign(flags="")
    found = check_image(scene(), protocol=PROTOCOL, metadata={}, pixel_size_um=UM, cells=few)
    assert [f.code for f in found] == ["few_cells"]


def test_shares_of_flagged_cells() -> None:
    cells = population()
    cells["flags"] = ["pyknotic"] * 30 + ["border"] * 80 + [""] * 90
    found = check_image(scene(), protocol=PROTOCOL, metadata={}, pixel_size_um=UM, cells=cells)
    assert {f.code for f in found} == {"many_pyknotic", "many_at_border"}
    # of those that are not cut by the border
    assert any("25 %" in f.message for f in found)


def test_channel_without_stain_marks_glowing_cells() -> None:
    p = Protocol(
        channels=(Channel("DAPI", "dna"), Channel("INS"), Channel("AF", "autofluorescence"))
    )
    cells = population().assign(AF_ring_p75=100.0)
    cells.loc[20, "AF_ring_p75"] = 2000
    flags, excluded = flag_cells(cells, p)
    assert flags[20] == "autofluorescent"
    assert not excluded[20]


def test_codes_for_tables() -> None:
    assert (
        join_codes([Flag("b", "info", ""), Flag("a", "block", ""), Flag("b", "info", "")]) == "a;b"
    )
    flag = Flag("a", "block", "m", "INS", "i.tif")
    assert Flag.from_dict(flag.to_dict()) == flag
