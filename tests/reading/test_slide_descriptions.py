"""Files of slide scanners: structure as they write it, names and pixel size as they state them."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from islet_imaging.errors import ImageReadError, PixelSizeError
from islet_imaging.protocol import Channel, Protocol
from islet_imaging.reading import read_image

TILE = (128, 128)


def pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(len(shape))
    return rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def half(plane: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(plane[::2, ::2])


def aperio(path: Path, full: np.ndarray, text: str, **more: Any) -> None:
    """Baseline, thumbnail in strips, a smaller level, label and macro."""
    head = "Aperio Image Library v12.0.15\r\n512x384 [0,0 512x384] (128x128) JPEG/RGB Q=80|"
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "rgb", "metadata": None, **more}
        file.write(full, tile=TILE, description=head + text, **options)
        file.write(pixels(96, 128, 3), description="Aperio thumbnail", **options)
        file.write(half(full), tile=TILE, description="Aperio level", **options)
        file.write(pixels(60, 70, 3), description="Aperio label", subfiletype=1, **options)
        file.write(pixels(50, 90, 3), description="Aperio macro", subfiletype=9, **options)


def test_an_aperio_slide_gives_its_full_level_and_its_own_pixel_size(tmp_path: Path) -> None:
    full = pixels(384, 512, 3)
    aperio(tmp_path / "a.svs", full, "AppMag = 20|StripeWidth = 1000|MPP = 0.4990|")
    image = read_image(tmp_path / "a.svs")
    assert image.shape == (384, 512)
    assert image.channel_names == ("red", "green", "blue")
    assert image.pixel_size_um == 0.499
    assert image.sources["pixel_size_um"] == "Aperio description"
    assert image.metadata["objective_magnification"] == 20
    np.testing.assert_array_equal(image.channel("green"), full[..., 1])
    part = image.channel("blue", (slice(100, 300), slice(250, 260)))
    np.testing.assert_array_equal(part, full[100:300, 250:260, 2])
    other = pickle.loads(pickle.dumps(image))  # to another process and back
    np.testing.assert_array_equal(other.channel("red"), full[..., 0])


def test_a_printers_resolution_is_no_pixel_size(tmp_path: Path) -> None:
    aperio(
        tmp_path / "a.svs", pixels(384, 512, 3), "AppMag = 20|",
        resolution=(72, 72), resolutionunit="INCH",
    )  # fmt: skip
    image = read_image(tmp_path / "a.svs")
    assert image.pixel_size_um is None
    with pytest.raises(PixelSizeError, match=r"a\.svs"):
        image.require_pixel_size()


def qpi_page(name: str, marker: str, exposure: int, kind: str = "FullResolution") -> str:
    return (
        '<?xml version="1.0" encoding="utf-16"?>\r\n<PerkinElmer-QPI-ImageDescription>'
        "<DescriptionVersion>5</DescriptionVersion>"
        f"<ImageType>{kind}</ImageType><IsUnmixedComponent>False</IsUnmixedComponent>"
        f"<ExposureTime>{exposure}</ExposureTime><Name>{name}</Name>"
        + (f"<Biomarker>{marker}</Biomarker>" if marker else "")
        + "<Color>0,0,255</Color><Objective>20x</Objective>"
        "</PerkinElmer-QPI-ImageDescription>"
    )


def akoya(path: Path, full: np.ndarray, pages: list[tuple[str, str, int]]) -> None:
    """All channels in full, a colour thumbnail, all channels at half size, the label."""
    common: dict[str, Any] = {
        "software": "PerkinElmer-QPI", "metadata": None,
        "resolution": (1e4 / 0.4966, 1e4 / 0.4966), "resolutionunit": "CENTIMETER",
    }  # fmt: skip
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for plane, page in zip(full, pages, strict=True):
            file.write(plane, tile=TILE, compression="lzw", description=qpi_page(*page), **common)
        file.write(pixels(96, 128, 3), photometric="rgb",
                   description=qpi_page("", "", 1, "Thumbnail"), **common)  # fmt: skip
        for plane, page in zip(full, pages, strict=True):
            file.write(half(plane), tile=TILE, subfiletype=1,
                       description=qpi_page(*page, "ReducedResolution"), **common)  # fmt: skip
        file.write(pixels(40, 60, 3), photometric="rgb",
                   description=qpi_page("", "", 1, "Label"), **common)  # fmt: skip


def test_a_qptiff_names_its_channels_by_biomarker(tmp_path: Path) -> None:
    full = pixels(3, 256, 320, dtype="uint16")
    stains = [("DAPI", "DNA", 9065), ("Opal 520", "INS", 20000), ("Opal 690", "GCG", 40000)]
    akoya(tmp_path / "q.qptiff", full, stains)
    image = read_image(tmp_path / "q.qptiff")
    assert image.channel_names == ("DNA", "INS", "GCG")
    assert image.sources["channel_names"] == "QPTIFF description"
    assert image.pixel_size_um == pytest.approx(0.4966, rel=1e-4)
    assert image.shape == (256, 320)
    for name, plane in zip(image.channel_names, full, strict=True):
        np.testing.assert_array_equal(image.channel(name), plane)
    # a dye's name finds its channel too, and exposures can be held against the controls'
    protocol = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS", source="Opal 520")))
    mine = read_image(tmp_path / "q.qptiff", protocol=protocol)
    np.testing.assert_array_equal(mine.channel("INS"), full[1])
    assert mine.metadata["exposure_s"] == pytest.approx({"DAPI": 0.009065, "INS": 0.02})


@pytest.mark.parametrize("markers", [("", "", ""), ("CD8", "CD8", "")])
def test_a_qptiff_without_useful_biomarkers_goes_by_its_filters(
    tmp_path: Path, markers: tuple[str, ...]
) -> None:
    names = ("DAPI", "FITC", "Cy5")
    akoya(tmp_path / "q.qptiff", pixels(3, 256, 320, dtype="uint16"),
          [(n, m, 1000) for n, m in zip(names, markers, strict=True)])  # fmt: skip
    assert read_image(tmp_path / "q.qptiff").channel_names == names


def hamamatsu(path: Path, pages: list[tuple[np.ndarray, float, float]]) -> None:
    """NDPI: a TIFF whose directories end in 8-byte offsets and the upper halves of all values."""
    out = bytearray(b"II*\0" + struct.pack("<Q", 0))
    link = 4
    for plane, um, magnification in pages:
        make, pixel, scale = len(out), len(out) + 10, len(out) + 10 + plane.nbytes
        out += b"Hamamatsu\0" + plane.tobytes() + struct.pack("<II", round(1e8 / um), 10_000)
        out += b"\0" * (len(out) % 2)
        short, long, rational, text, real = 3, 4, 5, 2, 11
        (level,) = struct.unpack("<I", struct.pack("<f", magnification))
        entries = [
            (256, long, 1, plane.shape[1]), (257, long, 1, plane.shape[0]),
            (258, short, 1, 8 * plane.itemsize), (259, short, 1, 1), (262, short, 1, 1),
            (271, text, 10, make), (273, long, 1, pixel), (277, short, 1, 1),
            (278, long, 1, plane.shape[0]), (279, long, 1, plane.nbytes),
            (282, rational, 1, scale), (283, rational, 1, scale), (296, short, 1, 3),
            (65420, long, 1, 1), (65421, real, 1, level),
        ]  # fmt: skip
        struct.pack_into("<Q", out, link, len(out))
        out += struct.pack("<H", len(entries))
        out += b"".join(struct.pack("<HHII", *entry) for entry in entries)
        link = len(out)
        out += struct.pack("<Q", 0) + struct.pack("<I", 0) * len(entries)
    path.write_bytes(bytes(out))


def test_a_hamamatsu_slide(tmp_path: Path) -> None:
    """Levels are pages of falling size, then the macro; fluorescence has one file a channel."""
    planes = [pixels(512, 640, dtype="uint16") + k for k in range(2)]
    for k, full in enumerate(planes):
        levels = [(full, 0.4416, 20.0), (half(full), 0.8832, 10.0), (pixels(60, 150), 50.0, -1.0)]
        hamamatsu(tmp_path / f"islet_d{k}.ndpi", levels)
    image = read_image(tmp_path / "islet_d0.ndpi")
    assert image.shape == (512, 640)
    assert image.pixel_size_um == pytest.approx(0.4416, rel=1e-4)
    np.testing.assert_array_equal(image.channel(image.channel_names[0]), planes[0])
    both = read_image(
        [tmp_path / "islet_d0.ndpi", tmp_path / "islet_d1.ndpi"],
        channel_names={"DAPI": "d0", "INS": "d1"},
    )
    np.testing.assert_array_equal(both.channel("INS"), planes[1])


def write_czi(path: Path, planes: dict[str, np.ndarray], *, um: float = 0.325) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi", reason="needs the formats extra")
    with czi.create_czi(str(path)) as file:
        for c, plane in enumerate(planes.values()):
            file.write(data=plane[..., None], plane={"C": c})
        file.write_metadata(
            path.stem,
            channel_names=dict(enumerate(planes)),
            scale_x=um * 1e-6,
            scale_y=um * 1e-6,
        )


def test_a_zeiss_file_written_with_zeiss_own_library(tmp_path: Path) -> None:
    pytest.importorskip("pylibCZIrw", reason="needs the formats extra")
    planes = {n: pixels(200, 260, dtype="uint16") + k for k, n in enumerate(("DAPI", "INS"))}
    write_czi(tmp_path / "z.czi", planes)
    image = read_image(tmp_path / "z.czi")
    assert image.channel_names == ("DAPI", "INS")
    assert image.sources["channel_names"] == "CZI"
    assert image.pixel_size_um == pytest.approx(0.325)
    assert image.shape == (200, 260)
    for name, plane in planes.items():
        np.testing.assert_array_equal(image.channel(name), plane)
    np.testing.assert_array_equal(
        image.channel("INS", (slice(20, 50), slice(100, 190))), planes["INS"][20:50, 100:190]
    )


def test_a_cut_zeiss_file_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("pylibCZIrw", reason="needs the formats extra")
    write_czi(tmp_path / "z.czi", {"DAPI": pixels(200, 260, dtype="uint16")})
    whole = (tmp_path / "z.czi").read_bytes()
    (tmp_path / "cut.czi").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageReadError, match=r"cut\.czi"):
        read_image(tmp_path / "cut.czi").channel("DAPI")


def leica(path: Path, planes: dict[str, np.ndarray], *, um: float) -> None:
    """One image in a LIF: XML in UTF-16, then blocks of memory that it names."""
    data = np.stack(list(planes.values()))
    _, height, width = data.shape
    step = data.itemsize
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{8 * step}" Min="0" '
        'Max="1" Unit="" NameOfMeasuredQuantity="" '
        f'LUTName="{name}" IsLUTInverted="0" BytesInc="{k * height * width * step}" BitInc="0"/>'
        for k, name in enumerate(planes)
    )
    dimensions = "".join(
        f'<DimensionDescription DimID="{d}" NumberOfElements="{n}" Origin="0" '
        f'Length="{(n - 1) * um * 1e-6}" Unit="m" BytesInc="{bytes_}" BitInc="0"/>'
        for d, n, bytes_ in ((1, width, step), (2, height, width * step))
    )
    text = (
        '<LMSDataContainerHeader Version="2"><Element Name="x.lif" UniqueID="u0"><Data>'
        '<Experiment Path="x.lif"/></Data><Memory Size="0" MemoryBlockID="MemBlock_0"/><Children>'
        '<Element Name="islet 1" UniqueID="u1"><Data><Image><ImageDescription>'
        f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions>"
        f'</ImageDescription></Image></Data><Memory Size="{data.nbytes}" '
        'MemoryBlockID="MemBlock_1"/><Children/></Element></Children></Element>'
        "</LMSDataContainerHeader>"
    )
    wide = text.encode("utf-16-le")
    out = struct.pack("<II", 0x70, 5 + len(wide)) + b"*" + struct.pack("<I", len(text)) + wide
    for name, block in (("MemBlock_0", b""), ("MemBlock_1", data.tobytes())):
        wide = name.encode("utf-16-le")
        out += struct.pack("<II", 0x70, 14 + len(wide)) + b"*" + struct.pack("<Q", len(block))
        out += b"*" + struct.pack("<I", len(name)) + wide + block
    path.write_bytes(out)


def test_a_leica_file(tmp_path: Path) -> None:
    pytest.importorskip("bioio_lif", reason="needs the formats extra")
    planes = {n: pixels(60, 80, dtype="uint16") + k for k, n in enumerate(("Blue", "Green"))}
    leica(tmp_path / "x.lif", planes, um=0.45)
    image = read_image(tmp_path / "x.lif")
    assert image.channel_names == ("Blue", "Green")
    assert image.pixel_size_um == pytest.approx(0.45)
    for name, plane in planes.items():
        np.testing.assert_array_equal(image.channel(name), plane)
