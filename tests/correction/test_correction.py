"""Corrections of pixels."""

from __future__ import annotations

import numpy as np
import pytest

from islet_imaging.correction.image import correct_image
from islet_imaging.correction.steps import (
    estimate_offset,
    fit_bleed_through,
    fit_flat_field,
    local_background,
    remove_bleed_through,
)
from islet_imaging.errors import ChannelError, NotEstimableError, PixelSizeError
from islet_imaging.protocol import Correction


def blobs(seed: int, shape: tuple[int, int] = (200, 220), n: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    out = np.zeros(shape)
    for _ in range(n):
        cy, cx = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        out[np.hypot(y - cy, x - cx) < 6] += rng.uniform(300, 1500)
    return out


def test_off_hands_back_the_very_pixels() -> None:
    image = {"DAPI": np.zeros((4, 4), np.uint16)}
    out, record = correct_image(image, Correction())
    assert out["DAPI"] is image["DAPI"]
    assert record == {}


def test_offset_stated_and_from_dark_pixels() -> None:
    rng = np.random.default_rng(0)
    image = {"INS": (100 + blobs(0) + rng.normal(0, 1, (200, 220))).astype(np.float32)}
    assert estimate_offset(image["INS"]) == pytest.approx(100, abs=5)
    auto, record = correct_image(image, Correction(offset="auto"))
    assert np.median(auto["INS"]) == pytest.approx(0, abs=5)
    assert record["offset"]["INS"] == estimate_offset(image["INS"])
    assert image["INS"].min() > 90


def test_flat_field_of_uneven_light_is_found() -> None:
    y, x = np.mgrid[-1:1:200j, -1:1:220j]
    shade = 1 - 0.15 * ((y - 0.2) ** 2 + x**2)
    shade /= shade.mean()
    rng = np.random.default_rng(0)
    images = [
        shade * (blobs(k) + rng.uniform(100, 300)) + rng.normal(0, 3, shade.shape) for k in range(8)
    ]
    field = fit_flat_field(images)
    assert np.abs(field / shade - 1).max() < 0.06
    out, record = correct_image(
        {"INS": shade * 100}, Correction(flat_field="auto"), flat_fields={"INS": field}
    )
    assert out["INS"].std() / out["INS"].mean() < 0.02
    assert record["flat_field"]["INS"]["lowest"] < 1


def test_flat_field_is_refused_without_enough_images() -> None:
    with pytest.raises(NotEstimableError, match="at least 5"):
        fit_flat_field([blobs(0)] * 4)
    with pytest.raises(NotEstimableError, match="dark"):
        fit_flat_field([np.zeros((50, 50))] * 6)
    with pytest.raises(ChannelError, match="shape"):
        correct_image(
            {"INS": np.zeros((5, 5))},
            Correction(flat_field="flat.tif"),
            flat_fields={"INS": np.ones((4, 4))},
        )


def test_local_background_follows_haze_and_keeps_cells() -> None:
    y, x = np.indices((400, 400))
    haze = 50 + 0.08 * x + 0.05 * y
    cells = np.zeros((400, 400))
    for cy in range(20, 400, 45):
        for cx in range(20, 400, 45):
            cells[np.hypot(y - cy, x - cx) < 9] = 500
    background = local_background(haze + cells, window_px=120)
    assert np.abs(background - haze).max() < 12
    out, _ = correct_image({"INS": haze + cells}, Correction(background="local"), pixel_size_um=0.5)
    assert np.abs(out["INS"][cells > 0] - 500).mean() < 6


def test_local_background_needs_a_pixel_size() -> None:
    with pytest.raises(PixelSizeError):
        correct_image({"INS": np.zeros((5, 5))}, Correction(background="local"))


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (3, 200)])
def test_local_background_of_odd_shapes(shape: tuple[int, int]) -> None:
    assert local_background(np.full(shape, 7.0), window_px=20).shape == shape


def test_bleed_through_is_fitted_and_undone() -> None:
    rng = np.random.default_rng(0)
    truth = {"AF488": {"AF568": 0.06}, "AF568": {"AF488": 0.01, "AF647": 0.03}}
    names = ["AF488", "AF568", "AF647"]

    def seen(own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        out = {}
        for name in names:
            light = own.get(name, 0) + sum(
                row.get(name, 0) * own[source] for source, row in truth.items() if source in own
            )
            out[name] = 120 + light + rng.normal(0, 3, (200, 220))
        return out

    controls = {
        name: [seen({name: blobs(k)}), seen({name: blobs(k + 9)})] for k, name in enumerate(names)
    }
    matrix = fit_bleed_through(controls)
    for source in names:
        for name in names:
            if name != source:
                expected = truth.get(source, {}).get(name, 0.0)
                assert matrix[source].get(name, 0.0) == pytest.approx(expected, abs=0.004)
    own = {name: blobs(k + 20) for k, name in enumerate(names)}
    image = {name: pixels - 120 for name, pixels in seen(own).items()}
    out, record = correct_image(image, Correction(bleed_matrix=matrix))
    for name in names:
        assert np.abs(out[name] - own[name]).mean() < 8
        assert out[name].min() >= 0
    assert record["bleed_through"]["condition"] < 1.3


def test_bleed_through_is_not_dazzled_by_debris() -> None:
    rng = np.random.default_rng(0)
    signal = blobs(3)
    other = 0.05 * signal + rng.normal(0, 2, signal.shape)
    other[40:60, 40:60] += 2000  # stained debris in the other channel
    matrix = fit_bleed_through({"A": [{"A": signal + rng.normal(0, 2, signal.shape), "B": other}]})
    assert matrix["A"]["B"] == pytest.approx(0.05, abs=0.01)


def test_bleed_through_refusals() -> None:
    rng = np.random.default_rng(0)
    flat = {"A": rng.normal(100, 3, (60, 60)), "B": rng.normal(100, 3, (60, 60))}
    with pytest.raises(NotEstimableError, match="pixels above the noise"):
        fit_bleed_through({"A": [flat]})
    with pytest.raises(ChannelError, match="no such channel"):
        fit_bleed_through({"C": [flat]})
    with pytest.raises(NotEstimableError, match="condition"):
        remove_bleed_through(flat, {"A": {"B": 0.95}, "B": {"A": 0.95}})
    with pytest.raises(ChannelError, match="names"):
        remove_bleed_through(flat, {"A": {"X": 0.1}})
