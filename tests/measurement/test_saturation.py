"""The ceiling is where pixels pile up, whatever power of two it is not."""

from __future__ import annotations

import numpy as np
import pytest

from islet_imaging.image import IsletImage
from islet_imaging.measurement.saturation import full_scales
from islet_imaging.quality.pixels import saturation

PLANE = np.random.default_rng(0).gamma(2.0, 900.0, (160, 160))


def scale(plane: np.ndarray) -> float | None:
    image = IsletImage.from_array(plane, ["INS"])
    halves = [(slice(0, 80), slice(0, 160)), (slice(80, 160), slice(0, 160))]
    found = full_scales(image, image.channel, ["INS"], halves)
    # a small image is looked at whole
    assert full_scales(image, image.channel, ["INS"], [(slice(0, 160), slice(0, 160))]) == found
    return found.get("INS")


@pytest.mark.parametrize(("offset", "factor"), [(0, 1), (32768, 1), (0, 16), (17, 3)])
def test_a_shifted_camera_clips_where_it_clips(offset: int, factor: int) -> None:
    clipped = (np.minimum(np.rint(PLANE), 4095) * factor + offset).astype(np.uint16)
    assert scale(clipped) == 4095 * factor + offset
    everywhere = np.ones((20, 20), bool)
    share = float((clipped == clipped.max()).mean())
    assert share > 0.03
    assert saturation(clipped, everywhere) == pytest.approx(share)


def test_a_float_image_clips_at_its_pile() -> None:
    clipped = (np.minimum(PLANE, 4095) / 4095).astype(np.float32)
    assert scale(clipped) == 1.0
    assert scale(PLANE.astype(np.float32)) is None


def test_without_a_pile_the_camera_is_the_limit() -> None:
    assert PLANE.max() < 16383
    assert scale(np.rint(PLANE).astype(np.uint16)) == 16383.0
    assert saturation(np.rint(PLANE).astype(np.uint16), np.ones((20, 20), bool)) == 0.0
