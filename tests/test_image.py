"""IsletImage hands out channels by name, regions, and a pixel size that was never guessed."""

from __future__ import annotations

import numpy as np
import pytest

from islet_imaging.errors import ChannelError, PixelSizeError
from islet_imaging.image import IsletImage

STACK = np.arange(2 * 5 * 6, dtype=np.uint16).reshape(2, 5, 6)


def test_channels_and_regions() -> None:
    image = IsletImage.from_array(STACK, ["DAPI", "INS"], 0.5)
    np.testing.assert_array_equal(image.channel("ins"), STACK[1])
    region = (slice(1, 3), slice(2, 6))
    np.testing.assert_array_equal(image.channel("DAPI", region), STACK[0][region])
    assert image.require_pixel_size() == 0.5
    with pytest.raises(ChannelError, match=r"no channel 'GCG'; the image has \['DAPI', 'INS'\]"):
        image.channel("GCG")


def test_exact_name_before_case() -> None:
    image = IsletImage.from_array(STACK, ["ins", "INS"])
    assert image.index("INS") == 1
    with pytest.raises(ChannelError):
        image.index("Ins")


@pytest.mark.parametrize("names", [["DAPI"], ["a", "b", "c"], ["a", "a"]])
def test_names_must_fit(names: list[str]) -> None:
    with pytest.raises(ChannelError):
        IsletImage.from_array(STACK, names)


def test_missing_pixel_size_says_three_ways() -> None:
    with pytest.raises(PixelSizeError, match=r"three ways.*PhysicalSizeX.*protocol.*pixel_size_um"):
        IsletImage.from_array(STACK, ["a", "b"]).require_pixel_size()


@pytest.mark.parametrize(
    ("largest", "dtype", "stated", "expected"),
    [
        (4095, np.uint16, None, 4095),
        (4000, np.uint16, None, 4095),
        (4096, np.uint16, None, 16383),
        (900, np.uint16, None, 1023),
        (900, np.uint16, 12, 4095),
        (5000, np.uint16, 12, 16383),  # the statement is wrong: pixels exceed it
        (65535, np.uint16, None, 65535),
        (3, np.uint16, None, 1023),
        (200, np.uint8, None, 255),
        (32767, np.int16, None, 32767),
        (100, np.float32, None, None),
    ],
)
def test_full_scale(largest: int, dtype: type, stated: int | None, expected: int | None) -> None:
    pixels = np.zeros((4, 4), dtype)
    pixels[1, 1] = largest
    metadata = {} if stated is None else {"significant_bits": stated}
    image = IsletImage.from_array(pixels, ["DAPI"], metadata=metadata)
    assert image.full_scale(pixels) == expected
