"""Bad files give our error with the file's name and a way out, and never wrong pixels."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from islet_imaging.errors import ImageReadError, IsletImagingError
from islet_imaging.protocol import Channel, Protocol, Reading
from islet_imaging.reading import read_image

MANY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
STORED = np.random.default_rng(1).integers(0, 4096, (3, 40, 37)).astype(np.uint16)


def written(file: Path, **options: object) -> Path:
    defaults: dict[str, object] = {
        "photometric": "minisblack",
        "metadata": {"axes": "CYX", "Channel": {"Name": ["DAPI", "INS", "GCG"]}},
    }
    tifffile.imwrite(file, STORED, **(defaults | options))
    return file


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n <html>login</html>", "web page"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04abcdefg", "ZIP"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"II*\0", "cannot be read"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "not supported"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8\xff\xe0", "truncated"),
        (b"hello, I am text", "not an image"),
    ],
)
def test_not_an_image(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "islet.tif"
    file.write_bytes(content)
    with pytest.raises(ImageReadError, match=says) as error:
        read_image(file)
    assert "islet.tif" in str(error.value)


def test_folder_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="this is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageReadError, match="no such file"):
        read_image(tmp_path / "none.tif")
    with pytest.raises(ImageReadError, match="empty list"):
        read_image([])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    file = written(tmp_path / "x.ome.tif")
    file.chmod(0)
    with pytest.raises(ImageReadError, match="permission"):
        read_image(file)


def test_permission_error_becomes_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "x.ome.tif")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageReadError, match="no permission"):
        read_image(file)


@MANY
@given(cut=st.floats(0, 1), compression=st.sampled_from([None, "zlib", "lzw"]), ome=st.booleans())
def test_truncated_file_never_gives_other_pixels(
    tmp_path: Path, cut: float, compression: str | None, ome: bool
) -> None:
    options = {} if ome else {"imagej": True, "metadata": {"axes": "CYX"}, "photometric": None}
    file = written(tmp_path / ("x.ome.tif" if ome else "x.tif"), compression=compression, **options)
    data = file.read_bytes()
    file.write_bytes(data[: int(cut * len(data))])
    try:
        image = read_image(file)
        planes = [image.channel(n) for n in image.channel_names]
    except IsletImagingError as error:
        assert file.name in str(error)  # noqa: PT017 - either outcome is right
    else:
        for plane, stored in zip(planes, STORED, strict=True):
            np.testing.assert_array_equal(plane, stored)


@MANY
@given(data=st.data())
def test_flipped_bytes_never_raise_anything_else(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["zlib", "tile", "imagej"]))
    options: dict[str, object] = {
        "zlib": {"compression": "zlib"},
        "tile": {"tile": (16, 16), "compression": "lzw"},
        "imagej": {"imagej": True, "metadata": {"axes": "CYX"}, "photometric": None},
    }[kind]
    file = written(tmp_path / "x.tif", **options)
    content = bytearray(file.read_bytes())
    # tags, not pixels, are what breaks readers; they stand at either end of the file
    for _ in range(data.draw(st.integers(1, 6))):
        near = data.draw(st.integers(0, min(700, len(content) - 1)))
        at = near if data.draw(st.booleans()) else len(content) - 1 - near
        content[at] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(content))
    try:
        image = read_image(file, projection="max")
        for name in image.channel_names:
            image.channel(name)
    except IsletImagingError as error:
        assert file.name in str(error)  # noqa: PT017 - either outcome is right


def test_header_that_asks_for_terabytes(tmp_path: Path) -> None:
    """A few hundred bytes that declare 1,400,000 x 1,400,000 pixels of 16 bit: 3.5 TiB."""
    for compression, counts in ((1, 100), (8, 100)):
        tags = [
            (256, 4, 1, 1_400_000),
            (257, 4, 1, 1_400_000),
            (258, 3, 1, 16),
            (259, 3, 1, compression),
            (262, 3, 1, 1),
            (273, 4, 1, 300),
            (277, 3, 1, 1),
            (278, 4, 1, 1_400_000),
            (279, 4, 1, counts),
        ]
        data = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
        data += b"".join(struct.pack("<HHII", *t) for t in tags) + struct.pack("<I", 0)
        file = tmp_path / "huge.tif"
        file.write_bytes(data.ljust(500, b"\0"))
        with pytest.raises(ImageReadError, match=r"huge.tif: .*(3.57 TiB|truncated)"):
            read_image(file)


def test_png_and_jpeg_headers_that_ask_for_too_much(tmp_path: Path) -> None:
    file = tmp_path / "huge.png"
    chunk = struct.pack(">IIBBBBB", 100_000, 100_000, 16, 2, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + chunk + bytes(50))
    with pytest.raises(ImageReadError, match=r"declares 55\.9 GiB"):
        read_image(file)
    file = tmp_path / "huge.jpg"
    frame = struct.pack(">BBHBHHB", 0xFF, 0xC0, 17, 8, 65000, 65000, 3)
    file.write_bytes(b"\xff\xd8\xff\xe0\0\x04ab" + frame + bytes(50) + b"\xff\xd9")
    with pytest.raises(ImageReadError, match=r"declares 11\.8 GiB"):
        read_image(file)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "bool"])
def test_pixels_that_are_no_intensities(tmp_path: Path, dtype: str) -> None:
    file = tmp_path / "x.tif"
    tifffile.imwrite(file, STORED[0].astype(dtype))
    with pytest.raises(ImageReadError, match="no fluorescence intensities"):
        read_image(file)


@pytest.mark.parametrize("photometric", ["miniswhite", "separated", "cielab"])
def test_colour_spaces(tmp_path: Path, photometric: str) -> None:
    file = tmp_path / "x.tif"
    n = {"miniswhite": 1, "separated": 4, "cielab": 3}[photometric]
    stored = np.zeros((9, 8, n), np.uint8).squeeze()
    tifffile.imwrite(file, stored, photometric=photometric)
    with pytest.raises(ImageReadError, match=r"inverted|colour space"):
        read_image(file)


def test_palette_is_refused_and_a_tint_is_not(tmp_path: Path) -> None:
    file = tmp_path / "x.tif"
    grey = STORED[0].astype(np.uint8)
    tint = np.zeros((3, 256), np.uint16)
    tint[1] = np.arange(256) * 257
    tifffile.imwrite(file, grey, photometric="palette", colormap=tint)
    np.testing.assert_array_equal(read_image(file).channel("channel 1"), grey)
    rainbow = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(file, grey, photometric="palette", colormap=rainbow)
    with pytest.raises(ImageReadError, match="palette"):
        read_image(file)


def test_nan_and_infinity_are_counted(tmp_path: Path) -> None:
    stored = STORED.astype(np.float32)
    stored[1, 3, 4:7] = np.nan
    stored[1, 9, 9] = np.inf
    file = tmp_path / "x.ome.tif"
    meta = {"axes": "CYX", "Channel": {"Name": ["DAPI", "INS", "GCG"]}}
    tifffile.imwrite(file, stored, photometric="minisblack", metadata=meta)
    image = read_image(file)
    assert image.channel("DAPI").shape == (40, 37)
    with pytest.raises(ImageReadError, match="channel INS has 4 of 1480 pixels that are NaN"):
        image.channel("INS")


def test_time_series_stacks_and_scenes(tmp_path: Path) -> None:
    file = tmp_path / "x.ome.tif"
    tifffile.imwrite(file, STORED, photometric="minisblack", metadata={"axes": "TYX"})
    with pytest.raises(ImageReadError, match="3 time points"):
        read_image(file)
    tifffile.imwrite(file, STORED, photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(ImageReadError, match=r"z-stack of 3 planes.*projection: max"):
        read_image(file)
    with pytest.raises(ImageReadError, match="planes are 0 to 2"):
        read_image(file, projection="plane", plane=3)
    with pytest.raises(ImageReadError, match="not one of"):
        read_image(file, projection="median")
    reading = Reading(projection="plane", plane=2)
    protocol = Protocol(channels=(Channel("DAPI", "dna"),), reading=reading)
    np.testing.assert_array_equal(read_image(file, protocol=protocol).channel("DAPI"), STORED[2])
    with tifffile.TiffWriter(file, ome=True) as writer:
        writer.write(STORED[0], metadata={"axes": "YX"})
        writer.write(STORED[1, :20], metadata={"axes": "YX"})
    with pytest.raises(ImageReadError, match="2 images"):
        read_image(file)


def test_missing_plane_of_an_ome_set(tmp_path: Path) -> None:
    """A companion file that is gone must not be read as zeros."""
    file = tmp_path / "x.ome.tif"
    written(file, compression="zlib")
    with tifffile.TiffFile(file) as tif:
        xml = tif.ome_metadata
    assert xml
    other = '<TiffData IFD="0" FirstC="2" PlaneCount="1"><UUID FileName="gone.ome.tif">urn:uuid:0'
    other += "0000000-0000-0000-0000-000000000000</UUID></TiffData></Pixels>"
    import re

    xml = re.sub(r"<TiffData.*?(/>|</TiffData>)", "", xml, flags=re.DOTALL)
    first = "".join(f'<TiffData IFD="{c}" FirstC="{c}" PlaneCount="1"/>' for c in range(2))
    xml = xml.replace("</Pixels>", first + other)
    with tifffile.TiffWriter(file, ome=False) as writer:
        for c in range(2):
            description = xml if c == 0 else None
            writer.write(STORED[c], description=description, metadata=None, contiguous=False)
    with pytest.raises(ImageReadError, match=r"missing|damaged|planes"):
        read_image(file)


def test_wrong_number_of_names(tmp_path: Path) -> None:
    file = written(tmp_path / "x.ome.tif")
    with pytest.raises(IsletImagingError, match="3 different names are needed"):
        read_image(file, channel_names=["DAPI", "INS"])
    with pytest.raises(IsletImagingError, match="3 different names are needed"):
        read_image(file, channel_names=["DAPI", "INS", "INS"])


def test_reader_libraries_do_not_print(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path / "x.ome.tif")
    data = bytearray(file.read_bytes())
    data = data[: len(data) // 2]
    file.write_bytes(bytes(data))
    with pytest.raises(ImageReadError):
        read_image(file)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert not caplog.records
