"""Addresses instead of paths: chunks of an OME-Zarr, copies of other files, nothing unasked."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from islet_imaging import Channel, Protocol, read_image, score_image
from islet_imaging.cli import app
from islet_imaging.errors import ImageReadError
from islet_imaging.experiment.drafting import inspect_path
from islet_imaging.protocol import Nuclei
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


def scale(um: float = 0.5) -> list[dict[str, object]]:
    return [{"type": "scale", "scale": [1, um, um]}]


def ome_zarr(path: Path, data: np.ndarray, version: str = "0.4", **how: object) -> None:
    """An OME-Zarr of channels, Y and X, in chunks of 32 px."""
    zarr = pytest.importorskip("zarr", reason="needs the formats extra")
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=data, **{"chunks": (1, 32, 32), **how})
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": n, "type": "space", "unit": "micrometer"} for n in "yx"
    ]
    datasets = [{"path": "0", "coordinateTransformations": scale()}]
    found = {
        "multiscales": [{"axes": axes, "datasets": datasets}],
        "omero": {"channels": [{"label": "DAPI"}, {"label": "INS"}]},
    }
    group.attrs.update(found if version == "0.4" else {"ome": {"version": version, **found}})


def put(path: Path, tmp_path: Path) -> str:
    address = f"memory://bucket-{tmp_path.name}/{path.name}"
    fsspec.filesystem("memory").put(str(path), address, recursive=True)
    return address


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Name and bytes of everything that is read from the memory's file system."""
    from fsspec.implementations.memory import MemoryFileSystem

    seen: list[tuple[str, int]] = []
    plain = MemoryFileSystem.cat_file

    def cat_file(self: object, path: str, *args: object, **more: object) -> bytes:
        data = plain(self, path, *args, **more)
        seen.append((path.rpartition(".zarr/")[2], len(data)))
        return data

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    monkeypatch.setattr(MemoryFileSystem, "get", None)  # nothing is copied
    return seen


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_of_a_zarr_behind_an_address_the_chunks_of_a_region_are_fetched(
    version: str, tmp_path: Path, fetched: list[tuple[str, int]]
) -> None:
    data = staining(2, 0.5, (200, 230))
    ome_zarr(tmp_path / "a.ome.zarr", data, version)
    image = read_image(put(tmp_path / "a.ome.zarr", tmp_path))
    assert (image.name, image.channel_names) == ("a.ome.zarr", ("DAPI", "INS"))
    assert (image.shape, image.pixel_size_um) == ((200, 230), 0.5)
    opened = {name for name, _ in fetched}
    assert opened <= {".zattrs", "0/.zarray", "0/.zattrs", "zarr.json", "0/zarr.json"}
    fetched.clear()
    part = image.channel("INS", (slice(40, 60), slice(100, 130)))
    np.testing.assert_array_equal(part, data[1, 40:60, 100:130])
    form = "0/1.{}.{}" if version == "0.4" else "0/c/1/{}/{}"
    assert sorted(n for n, _ in fetched) == [form.format(1, 3), form.format(1, 4)]
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again.channel("DAPI"), data[0])


def test_of_a_shard_a_part_is_fetched(tmp_path: Path, fetched: list[tuple[str, int]]) -> None:
    data = np.random.default_rng(1).integers(0, 60_000, (2, 256, 256)).astype(np.uint16)
    ome_zarr(tmp_path / "a.ome.zarr", data, "0.5", shards=(1, 256, 256))
    image = read_image(put(tmp_path / "a.ome.zarr", tmp_path))
    fetched.clear()
    part = image.channel("INS", (slice(40, 60), slice(70, 90)))
    np.testing.assert_array_equal(part, data[1, 40:60, 70:90])
    assert {n for n, _ in fetched} == {"0/c/1/0/0"}
    assert sum(n for _, n in fetched) < data[1].nbytes / 20


def test_a_field_of_a_plate_and_a_series_behind_an_address(
    tmp_path: Path, fetched: list[tuple[str, int]]
) -> None:
    zarr = pytest.importorskip("zarr", reason="needs the formats extra")
    data = staining(2, 0.5, (40, 50))
    plate = tmp_path / "plate.zarr"
    group = zarr.open_group(plate, mode="w", zarr_format=2)
    group.attrs["plate"] = {"wells": [{"path": "A/1"}]}
    ome_zarr(plate / "A" / "1" / "0", data)
    zarr.open_group(plate / "A" / "1", zarr_format=2).attrs["well"] = {"images": [{"path": "0"}]}
    address = put(plate, tmp_path)
    with pytest.raises(ImageReadError, match=r"1 images .*such as plate\.zarr/A/1/0$"):
        read_image(address)
    assert inspect_path(plate).startswith(f"{plate}: 1 image\n\nplate.zarr/A/1/0\n  format ")
    image = read_image(f"{address}/A/1/0")
    np.testing.assert_array_equal(image.channel("INS"), data[1])
    series = tmp_path / "series.zarr"
    zarr.open_group(series, mode="w", zarr_format=2)
    for k in range(2):
        ome_zarr(series / str(k), data)
    with pytest.raises(ImageReadError, match=r"holds 2 images \(0, 1\.\.\.\)"):
        read_image(put(series, tmp_path))


def test_a_zarr_that_cannot_be_reached_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk that could not be fetched is no black square."""
    from fsspec.implementations.memory import MemoryFileSystem

    ome_zarr(tmp_path / "a.ome.zarr", staining(2, 0.5, (40, 50)))
    address = put(tmp_path / "a.ome.zarr", tmp_path)
    plain, away = MemoryFileSystem.cat_file, []

    def cat_file(self: object, path: str, *args: object, **more: object) -> bytes:
        if away:
            raise TimeoutError("no answer")
        return plain(self, path, *args, **more)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    image = read_image(address)
    away.append(True)
    for ask in (lambda: image.channel("INS"), lambda: read_image(address)):
        with pytest.raises(ImageReadError, match=r"cannot be fetched from there \(no answer\)"):
            ask()
    monkeypatch.undo()
    with pytest.raises(ImageReadError, match="no OME-Zarr image can be read there"):
        read_image(address.replace("a.ome", "gone"))


def test_an_image_behind_an_address_is_scored_as_here(tmp_path: Path) -> None:
    data = staining(2, 0.5, (100, 100))
    ome_zarr(tmp_path / "a.ome.zarr", data)
    protocol = Protocol((Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical"))
    here = score_image(read_image(tmp_path / "a.ome.zarr"), protocol)
    there = score_image(read_image(put(tmp_path / "a.ome.zarr", tmp_path)), protocol)
    assert len(here.cells) > 5
    pd.testing.assert_frame_equal(here.cells, there.cells)


def test_what_lies_there_is_inspected(address: str, tmp_path: Path) -> None:
    ome_zarr(tmp_path / "b.ome.zarr", staining(2, 0.5, (40, 50)))
    for here, there in (
        (tmp_path / "a.ome.tif", address),
        (tmp_path / "b.ome.zarr", put(tmp_path / "b.ome.zarr", tmp_path)),
    ):
        assert inspect_path(there) == inspect_path(here)
    assert inspect_path(tmp_path / "b.ome.zarr").startswith("b.ome.zarr\n  format       OME-Zarr\n")
    result = CliRunner().invoke(app, ["inspect", address, "memory://gone/x.tif"])
    assert result.exit_code == 1
    assert result.output.startswith("a.ome.tif\n  format       OME-TIFF")
    assert "cannot be fetched from there" in result.output


def test_what_cannot_be_fetched_says_what_to_do(address: str) -> None:
    with pytest.raises(ImageReadError, match="cannot be fetched from there"):
        read_image(address.replace("a.ome", "gone"))
    with pytest.raises(ImageReadError, match="nonsense"):
        read_image("nonsense://bucket/a.tif")
