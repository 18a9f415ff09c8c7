"""What is kept of a measured image beside its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from islet_imaging import read_image, score_folder
from islet_imaging.run.measurements import pixel_hashes
from tests.stainings import staining, write


def plain(pixels: np.ndarray) -> np.ndarray:
    return pixels


def with_a_bar(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels.copy()
    pixels[:, 180:186, 20:120] = 65535
    return pixels


def of_floats(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 7


@pytest.mark.parametrize("change", [plain, with_a_bar, of_floats])
def test_the_hashes_of_pixels_are_those_of_the_file(change, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    third = staining(2, 0.5)[1:]
    pixels = change(np.concatenate([staining(1, 0.5), third]))
    write(folder / "a.ome.tif", pixels, ["DAPI", "INS", "brightfield"])
    run = score_folder(folder, tmp_path / "run", workers=1)
    (row,) = run.provenance["images"]
    image = read_image(folder / "a.ome.tif")
    assert row["pixels"] == pixel_hashes(image.channel, image.channel_names, image.shape)
    assert len(set(row["pixels"])) == 3
