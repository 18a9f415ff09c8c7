"""Addresses instead of paths: copied whole, read like any file, and never fetched unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from islet_imaging import read_image
from islet_imaging.errors import ImageReadError
from islet_imaging.reading.remote import local_copy
from tests.stainings import staining, write

fsspec = pytest.importorskip("fsspec", reason="needs the cloud extra")


@pytest.fixture
def address(tmp_path: Path) -> str:
    write(tmp_path / "a.ome.tif", staining(1, 0.5, (40, 50)))
    address = f"memory://bucket-{tmp_path.name}/plate/a.ome.tif"
    fsspec.filesystem("memory").put(str(tmp_path / "a.ome.tif"), address)
    return address


def test_a_file_behind_an_address_is_the_file(address: str, tmp_path: Path) -> None:
    here, there = read_image(tmp_path / "a.ome.tif"), read_image(address)
    assert there.name == "a.ome.tif"
    assert there.channel_names == here.channel_names
    assert there.pixel_size_um == here.pixel_size_um
    for name in here.channel_names:
        np.testing.assert_array_equal(there.channel(name), here.channel(name))
    assert local_copy(address) == local_copy(address)


def test_a_zarr_behind_an_address_is_copied_with_its_chunks(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w", zarr_format=2)
    data = staining(2, 0.5, (40, 50))
    group.create_array("0", data=data, chunks=(1, 32, 32))
    kinds = {"c": "channel", "y": "space", "x": "space"}
    scale = [{"type": "scale", "scale": [1, 0.5, 0.5]}]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": n, "type": kind} for n, kind in kinds.items()],
            "datasets": [{"path": "0", "coordinateTransformations": scale}],
        }
    ]
    address = f"memory://bucket-{tmp_path.name}/a.ome.zarr"
    fsspec.filesystem("memory").put(str(tmp_path / "a.ome.zarr"), address, recursive=True)
    image = read_image(address, channel_names=["DAPI", "INS"])
    np.testing.assert_array_equal(image.channel("INS"), data[1])


def test_what_cannot_be_fetched_says_what_to_do(address: str) -> None:
    with pytest.raises(ImageReadError, match="cannot be copied from there"):
        read_image(address.replace("a.ome", "gone"))
    with pytest.raises(ImageReadError, match="nonsense"):
        read_image("nonsense://bucket/a.tif")
