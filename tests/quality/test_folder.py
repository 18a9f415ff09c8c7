"""Images of a folder against each other: shared nuclei, one marker's exposure, the lamp."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from islet_imaging.protocol import Channel, Protocol
from islet_imaging.quality import check_folder, measure_quality
from islet_imaging.quality.overlap import overlaps
from islet_imaging.quality.pixels import dark_level

UM = 0.5
PROTOCOL = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")))
Stack = dict[str, np.ndarray]


def nuclei(rng: np.random.Generator, height: float, width: float) -> np.ndarray:
    """Centres some 9 um apart, as in tissue, um."""
    grid = np.stack(np.mgrid[5:height:9.0, 5:width:9.0], axis=-1).reshape(-1, 2)
    return grid + rng.normal(0, 1.8, grid.shape)


def picture(seed: int, *, exposure: dict[str, float] | None = None, positive: float = 0.4) -> Stack:
    """Tissue in the middle of a field; a camera with an offset of 100 and two counts a photon."""
    rng = np.random.default_rng(seed)
    dots = {c: np.zeros((384, 384)) for c in ("DAPI", "INS", "GCG")}
    for py, px in nuclei(rng, 192, 192):
        if np.hypot(py - 96, px - 96) > 65:
            continue
        at = np.clip([py / UM, px / UM], 0, 383).astype(int)
        dots["DAPI"][tuple(at)] += rng.normal(900, 100)
        if rng.random() < positive:
            dots["INS"][tuple(at)] += 700 * rng.lognormal(0, 0.4)
        elif rng.random() < 0.2:
            dots["GCG"][tuple(at)] += 500 * rng.lognormal(0, 0.4)
    out = {}
    for name, dot in dots.items():
        cell = ndimage.gaussian_filter(dot, 2.5 / UM) * 60
        haze = 0.08 * ndimage.gaussian_filter(cell, 15 / UM)
        light = (cell + haze + 9) * (exposure or {}).get(name, 1.0)
        out[name] = (100 + 2 * rng.poisson(light)).astype(np.uint16)
    return out


def row(name: str, stack: Stack, role: str = "sample", **more: Any) -> dict[str, Any]:
    numbers = measure_quality(stack, dna="DAPI", pixel_size_um=UM)
    return {"image": name, "batch": "b", "role": role, "metadata": {}, "numbers": numbers, **more}


def codes(rows: list[dict[str, Any]]) -> set[tuple[str, str | None, str | None]]:
    return {(f.code, f.image, f.channel) for f in check_folder(rows, protocol=PROTOCOL)}


@pytest.fixture(scope="module")
def samples() -> list[dict[str, Any]]:
    shares = (0.05, 0.2, 0.4, 0.6, 0.7)
    return [row(f"s{k}", picture(k, positive=p)) for k, p in enumerate(shares)]


@pytest.fixture(scope="module")
def controls() -> list[dict[str, Any]]:
    return [row(f"c{k}", picture(20 + k, positive=0.0), "negative_control") for k in range(2)]


def test_the_level_of_no_light_is_found_under_the_offset() -> None:
    for seed in range(3):
        for plane in picture(seed).values():
            assert dark_level(plane) == pytest.approx(100, abs=12)
    flat = np.full((256, 256), 7, np.uint16)
    assert np.isnan(dark_level(flat))
    assert np.isnan(dark_level(flat[:40]))


def test_islets_of_any_share_of_insulin_are_one_exposure(
    samples: list[dict[str, Any]], controls: list[dict[str, Any]]
) -> None:
    assert codes([*samples, *controls]) == set()


@pytest.mark.parametrize("factor", [2.5, 0.4])
def test_one_marker_exposed_otherwise_is_named(
    samples: list[dict[str, Any]], controls: list[dict[str, Any]], factor: float
) -> None:
    odd = row("odd", picture(12, exposure={"INS": factor}))
    expected = {("exposure_mismatch", "odd", "INS")}

    def codes(rows: list[dict[str, Any]]) -> set[tuple[str, str | None, str | None]]:
        # these drawn nuclei are too smooth for a verdict on focus
        found = check_folder(rows, protocol=PROTOCOL)
        return {(f.code, f.image, f.channel) for f in found if f.code != "out_of_focus"}

    # against the other samples, and, with none to compare with, against the controls
    assert codes([*samples, odd]) == expected
    assert codes([odd, *controls]) == expected
    # stated settings are believed
    stated = [{**r, "metadata": {"exposure_s": {"INS": 0.1}}} for r in [*samples, odd]]
    assert codes(stated) == set()


def cut(tissue: np.ndarray, left: float, width: float, rng: np.random.Generator) -> np.ndarray:
    """A field of a tissue; not every nucleus is found, and none to the pixel."""
    inside = tissue[(tissue[:, 1] >= left) & (tissue[:, 1] < left + width)] - [0, left]
    found = inside[rng.random(len(inside)) > 0.08]
    return found + rng.normal(0, 0.25, found.shape)


@pytest.mark.parametrize("shared", [0.3, 0.6, 1.0])
def test_fields_that_share_nuclei(shared: float) -> None:
    rng = np.random.default_rng(int(100 * shared))
    tissue = nuclei(rng, 200, 500)
    step = 200 * (1 - shared)
    fields = [cut(tissue, 0, 200, rng), nuclei(rng, 200, 200), cut(tissue, step, 200, rng)]
    (found,) = overlaps(fields)
    assert (found.first, found.second) == (0, 2)
    assert found.shift_um == pytest.approx((0, step), abs=0.5)
    truth = len(tissue[(tissue[:, 1] >= step) & (tissue[:, 1] < 200)])
    assert found.shared == pytest.approx(0.85 * truth, rel=0.12)


def test_other_tissue_and_tiny_fields_share_nothing() -> None:
    rng = np.random.default_rng(1)
    assert overlaps([nuclei(rng, 300, 300) for _ in range(12)]) == []
    assert overlaps([nuclei(rng, 300, 300), np.empty((0, 2)), rng.uniform(0, 9, (3, 2))]) == []
    assert overlaps([]) == []


def test_a_shared_field_is_a_flag_that_says_how_much(samples: list[dict[str, Any]]) -> None:
    rng = np.random.default_rng(3)
    tissue = nuclei(rng, 192, 400)
    places = [cut(tissue, 0, 192, rng), cut(tissue, 120, 192, rng)]
    rows = [
        {**r, "nuclei": {"y_um": p[:, 0], "x_um": p[:, 1], "light": np.full(len(p), np.nan)}}
        for r, p in zip(samples[:2], places, strict=True)
    ]
    (flag,) = check_folder(rows, protocol=PROTOCOL)
    assert (flag.code, flag.image) == ("overlapping_fields", "s1")
    assert "s0" in flag.message
    assert "counted twice" in flag.message


def test_the_lamp_is_what_nuclei_of_all_images_share(samples: list[dict[str, Any]]) -> None:
    rng = np.random.default_rng(5)

    def lit(fall: float, images: int = 5) -> list[dict[str, Any]]:
        out = []
        for r in samples[:images]:
            yx = nuclei(rng, 192, 192)[rng.random(21 * 21) < 0.12]
            lamp = 1 - fall * yx[:, 1] / 192
            light = lamp * rng.lognormal(6, 0.3, len(yx))
            light[::9] *= 6  # dying cells
            out.append({**r, "nuclei": {"y_um": yx[:, 0], "x_um": yx[:, 1], "light": light}})
        return out

    assert codes(lit(0.5)) == {("uneven_illumination", None, "DAPI")}
    assert codes(lit(0.1)) == set()
    # three images are no batch to tell the lamp from the tissue by
    assert codes(lit(0.5, images=3)) == set()


def test_an_image_of_another_depth_and_one_of_another_black_level_are_named(
    samples: list[dict[str, Any]], controls: list[dict[str, Any]]
) -> None:
    plain = picture(13)
    eight = {n: np.clip((p - 90.0) / 10, 0, 255).astype(np.uint8) for n, p in plain.items()}
    said = [f for f in check_folder([*samples, row("odd", eight)], protocol=PROTOCOL)
            if f.code == "exposure_mismatch"]  # fmt: skip
    assert {f.image for f in said} == {"odd"}
    assert any("rescaled" in f.message for f in said)
    # controls of which a background was subtracted, and samples that were left as they were
    lifted = [row(f"l{k}", {**picture(30 + k), "INS": picture(30 + k)["INS"] + 900})
              for k in range(2)]  # fmt: skip
    said = [f for f in check_folder([*lifted, *controls], protocol=PROTOCOL)
            if "black level" in f.message]  # fmt: skip
    assert {(f.code, f.image, f.channel) for f in said} == {
        ("exposure_mismatch", "c0", "INS"),
        ("exposure_mismatch", "c1", "INS"),
    }


@pytest.mark.parametrize("way", ["rot90", "rot270", "mirrored"])
def test_a_field_that_was_turned_is_the_same_field(samples: list[dict[str, Any]], way: str) -> None:
    centres = nuclei(np.random.default_rng(0), 192, 192)  # of picture 0
    y, x = centres.T
    turn, (ty, tx) = {
        "rot90": (lambda p: np.rot90(p), (192 - x, y)),
        "rot270": (lambda p: np.rot90(p, 3), (x, 192 - y)),
        "mirrored": (lambda p: p[:, ::-1], (y, 192 - x)),
    }[way]
    dark = np.full(len(y), np.nan)
    first = {**samples[0], "nuclei": {"y_um": y, "x_um": x, "light": dark}}
    copy = {n: np.ascontiguousarray(turn(p)) for n, p in picture(0, positive=0.05).items()}
    second = row("copy", copy, nuclei={"y_um": ty, "x_um": tx, "light": dark})
    assert ("near_duplicate", "copy", None) in codes([first, *samples[1:], second])
