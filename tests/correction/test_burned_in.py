"""Scale bars and letters leave the pixels; clipped tissue never does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from islet_imaging.correction.burned_in import find_burned_in, without_burned_in
from islet_imaging.image import IsletImage
from islet_imaging.protocol import Channel, Nuclei, Protocol
from islet_imaging.scoring.image import measure_image
from tests.stainings import staining

SHAPE = (200, 200)
WHOLE = [(slice(0, 200), slice(0, 200))]


def drawn(stack: np.ndarray, top: int) -> np.ndarray:
    """A bar and six letters at ``top`` in every channel."""
    out = stack.copy()
    out[:, 186:191, 110:180] = top
    for k in range(6):
        out[:, 172:182, 120 + 9 * k : 125 + 9 * k] = top
    return out


def found(stack: np.ndarray) -> list[list[int]]:
    planes = dict(zip("ab", stack, strict=True))
    result = find_burned_in(lambda name, region: planes[name][region], "ab", SHAPE, WHOLE)
    return [] if result is None else result.boxes


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 4095)])
def test_a_bar_and_its_letters_are_found(dtype: type, top: int) -> None:
    stack = staining(1, 0.5)
    stack = np.clip(stack // (8 if dtype is np.uint8 else 1), 0, top).astype(dtype)
    boxes = found(drawn(stack, top))
    assert [186, 110, 191, 180] in boxes
    assert len(boxes) == 7
    assert found(stack) == []


def test_clipped_tissue_is_no_bar() -> None:
    stack = staining(2, 1.0).astype(float)
    both = np.maximum(stack[0], stack[1])
    clipped = np.clip(np.stack([both, both]), 0, 500).astype(np.uint16)
    assert (clipped == 500).all(axis=0).mean() > 0.02
    assert found(clipped) == []


def test_letters_alone_are_found() -> None:
    stack = drawn(staining(1, 0.5), 65535)
    stack[:, 186:191] = 100
    assert len(found(stack)) == 6


def test_pixels_are_filled_and_any_region_agrees() -> None:
    stack = drawn(staining(3, 0.5), 65535)
    image = IsletImage.from_array(stack, ["DAPI", "INS"], 0.5)
    clean, what = without_burned_in(image, ["DAPI", "INS"], WHOLE, image.channel)
    assert what is not None
    whole = clean.channel("DAPI")
    assert whole.max() < 2000
    np.testing.assert_array_equal(whole[~what.mask], stack[0][~what.mask])
    for region in ((slice(170, 200), slice(100, 150)), (slice(188, 190), slice(0, 200))):
        np.testing.assert_array_equal(clean.channel("DAPI", region), whole[region])


def test_the_bar_changes_no_cell_and_is_named() -> None:
    protocol = Protocol((Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei("classical"))

    def measured(stack: np.ndarray) -> object:
        return measure_image(IsletImage.from_array(stack, ["DAPI", "INS"], 0.5), protocol)

    plain = staining(4, 0.5)
    plain[:, 165:195, 105:190] = 100  # bars are put where there is nothing
    clean, barred = measured(plain), measured(drawn(plain, 65535))
    assert "burned_in" in {f.code for f in barred.flags}  # type: ignore[attr-defined]
    assert "burned_in" not in {f.code for f in clean.flags}  # type: ignore[attr-defined]
    cells = barred.cells  # type: ignore[attr-defined]
    far = cells[~cells["flags"].str.contains("burned_in")]
    assert len(far) > 30
    same = clean.cells.set_index(["y_px", "x_px"]).loc[  # type: ignore[attr-defined]
        list(zip(far["y_px"], far["x_px"], strict=True))
    ]
    np.testing.assert_allclose(same["INS_sector_p25"], far["INS_sector_p25"], rtol=1e-6)
    near = cells[cells["flags"].str.contains("burned_in")]
    assert near["excluded"].all()


def test_one_channel_has_bars_but_no_letters() -> None:
    plane = drawn(staining(1, 0.5), 65535)[0]
    whole = find_burned_in(lambda _, region: plane[region], "a", SHAPE, WHOLE)
    assert [186, 110, 191, 180] in whole.boxes
    assert whole.mask[175, 122]  # its label is beside it
    clipped = np.minimum(staining(2, 1.0)[0], 300)
    assert (clipped == 300).mean() > 0.02
    assert find_burned_in(lambda _, region: clipped[region], "a", SHAPE, WHOLE) is None


def test_a_bar_in_an_image_too_large_to_be_looked_at_whole_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    protocol = Protocol((Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei("classical"))
    image = IsletImage.from_array(drawn(staining(4, 0.5), 65535), ["DAPI", "INS"], 0.5)
    clean = IsletImage.from_array(staining(4, 0.5), ["DAPI", "INS"], 0.5)
    before = measure_image(image, protocol)
    for module in ("islet_imaging.correction.burned_in", "islet_imaging.scoring.regions"):
        monkeypatch.setattr(f"{module}.WHOLE_PX", 1000)
    monkeypatch.setattr("islet_imaging.scoring.regions.TILE_PX", 120)
    flags = [f for f in measure_image(image, protocol).flags if f.code == "burned_in"]
    assert len(flags) == 1
    assert "not taken out" in flags[0].message
    assert "rows 186 to 191, columns 110 to" in flags[0].message
    cells = measure_image(image, protocol).cells
    touched = cells["flags"].str.contains("burned_in")
    assert cells[touched]["excluded"].all()
    inside = cells["y_px"].between(172, 191) & cells["x_px"].between(110, 180)
    assert touched[inside].all()
    assert abs(int(touched.sum()) - before.cells["flags"].str.contains("burned_in").sum()) <= 20
    assert "burned_in" not in {f.code for f in measure_image(clean, protocol).flags}


def inked(stack: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """A slanted arrow, a circle and dashes, over tissue and beside it; and where they are."""
    y, x = np.mgrid[:200, :200]
    line = (np.abs(y - x - 20) < 3) & (x > 70) & (x < 120)
    circle = np.abs(np.hypot(y - 60, x - 150) - 25) < 2
    dashes = (np.abs(x - 20) < 2) & (y % 16 < 9)
    ink = line | circle | dashes
    out = stack.copy()
    out[:, ink] = top
    return out, ink


def test_shapes_of_every_form_are_found_where_white_stands_alone() -> None:
    stack, ink = inked(staining(1, 0.5), 65535)
    planes = dict(zip("ab", stack, strict=True))
    what = find_burned_in(lambda name, region: planes[name][region], "ab", SHAPE, WHOLE)
    assert what is not None
    assert what.mask[ink].all()
    assert what.mask.sum() < 2.5 * ink.sum()


def test_clipped_nuclei_that_are_all_positive_for_a_nuclear_marker_are_no_shapes() -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:200, :200]
    planes = np.zeros((2, 200, 200))
    for cy, cx in rng.uniform(10, 190, (40, 2)):
        inside = np.hypot(y - cy, x - cx) < rng.uniform(4, 6)
        planes[:, inside] = rng.uniform(0.9, 1.1, (2, 1))
    smooth = gaussian_filter(planes, (0, 1, 1)) + rng.normal(0, 0.02, planes.shape)
    stack = (np.clip(smooth / 0.95, 0, 1) * 65535).astype(np.uint16)
    assert found(stack) == []


def test_a_bright_thing_of_one_channel_and_hot_pixels_are_no_shapes() -> None:
    stack = staining(1, 0.5)
    stack[0] = inked(stack, 65535)[0][0]
    assert found(stack) == []
    stack = staining(1, 0.5)
    at = np.random.default_rng(0).integers(0, 200, (2, 60))
    stack[:, at[0], at[1]] = 65535
    assert found(stack) == []
