"""What is kept of a measured image beside its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from islet_imaging import read_image, score_folder
from islet_imaging.errors import ChannelError
from islet_imaging.experiment.sample_sheet import images_in_folder
from islet_imaging.protocol import Channel, Protocol, Reading
from islet_imaging.run.measurements import pixel_hashes
from islet_imaging.scoring.task import Task, read_task
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


def test_a_file_that_was_left_out_is_not_read_all_the_same(tmp_path: Path) -> None:
    """A set of which one file is excluded, or still being written, lacks its channel."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("DAPI", "INS"):
        tifffile.imwrite(folder / f"a_{name}.tif", np.zeros((8, 9), np.uint16), metadata=None)
    protocol = Protocol(
        (Channel("DAPI", "dna"), Channel("INS")),
        Reading(file_pattern="(?P<image>.+)_(?P<channel>DAPI|INS)[.]tif", exclude=("a_INS.tif",)),
    )
    (image,) = images_in_folder(folder, protocol)
    task = Task(image.name, tuple(map(str, image.paths)), {}, "", {}, "", 1, "cpu", None)
    with pytest.raises(ChannelError, match=r"no channel 'INS'; the file has 'DAPI'"):
        read_task(task, protocol)
    assert read_task(task, protocol.replace(channels=protocol.channels[:1])).paths == image.paths
