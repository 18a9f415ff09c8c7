"""Pictures, one file per channel, vendor formats."""

from __future__ import annotations

import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from islet_imaging.errors import ImageReadError, ProtocolError
from islet_imaging.protocol import Channel, Protocol, Reading
from islet_imaging.reading import read_image
from islet_imaging.reading.bioio_formats import scenes_of_vendor
from islet_imaging.reading.multifile import split_name
from islet_imaging.reading.names import known_stain, split_token

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("samples", [1, 3, 4])
def test_png(tmp_path: Path, dtype: type, samples: int) -> None:
    stored = RNG.integers(0, np.iinfo(dtype).max, (11, 13, samples)).astype(dtype)
    file = tmp_path / "x.png"
    file.write_bytes(imagecodecs.png_encode(stored if samples > 1 else stored[..., 0]))
    image = read_image(file)
    assert image.dtype == dtype
    assert image.channel_names == (("red", "green", "blue") if samples > 1 else ("channel 1",))
    assert image.pixel_size_um is None
    for i, name in enumerate(image.channel_names):
        np.testing.assert_array_equal(image.channel(name), stored[..., i])
        part = image.channel(name, (slice(2, 5), slice(0, 99)))
        np.testing.assert_array_equal(part, stored[2:5, :, i])


@pytest.mark.parametrize("samples", [1, 3])
def test_jpeg_is_lossy(tmp_path: Path, samples: int) -> None:
    stored = np.full((16, 24, samples), 77, np.uint8)
    file = tmp_path / "x.JPG"
    file.write_bytes(imagecodecs.jpeg8_encode(stored if samples > 1 else stored[..., 0]))
    image = read_image(file)
    assert image.shape == (16, 24)
    assert image.metadata["lossy"]
    assert abs(int(image.channel(image.channel_names[0])[5, 5]) - 77) < 3


def test_truncated_pictures(tmp_path: Path) -> None:
    stored = RNG.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    for suffix, data in (
        ("png", imagecodecs.png_encode(stored)),
        ("jpg", imagecodecs.jpeg8_encode(stored)),
    ):
        file = tmp_path / f"x.{suffix}"
        file.write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageReadError, match=file.name):
            read_image(file).channel("red")


def test_suffix_does_not_decide(tmp_path: Path) -> None:
    file = tmp_path / "really_a_png.tif"
    file.write_bytes(imagecodecs.png_encode(np.zeros((5, 6), np.uint8)))
    assert read_image(file).metadata["format"] == "PNG"


def grey(file: Path, value: int, shape: tuple[int, int] = (7, 8)) -> Path:
    tifffile.imwrite(file, np.full(shape, value, np.uint16))
    return file


@pytest.mark.parametrize(
    ("names", "tokens", "head"),
    [
        (["a_d0.tif", "a_d1.tif"], ("d0", "d1"), "a"),
        (["x1d0.tif", "x1d1.tif"], ("d0", "d1"), "x1"),
        (["i_C1.tif", "i_C2.tif"], ("C1", "C2"), "i"),
        (["i_ch00.tif", "i_ch01.tif"], ("ch00", "ch01"), "i"),
        (["i_w1DAPI.tif", "i_w2FITC.tif"], ("w1DAPI", "w2FITC"), "i"),
        (["islet 3-DAPI.tif", "islet 3-INS.tif"], ("DAPI", "INS"), "islet 3"),
        (["C1-islet.tif", "C2-islet.tif"], ("C1", "C2"), "islet"),
        (["s_DAPI.tif", "s_488.x.tif"], None, None),
    ],
)
def test_tokens(
    tmp_path: Path, names: list[str], tokens: tuple[str, ...] | None, head: str | None
) -> None:
    stems = [Path(n).stem for n in names]
    splits = [split_token(s, stems) for s in stems]
    if tokens is None:
        assert None in splits
        return
    assert [s and s[1] for s in splits] == list(tokens)
    files = [grey(tmp_path / n, i) for i, n in enumerate(names)]
    image = read_image(files)
    assert image.name == head
    assert image.channel_names == tokens
    assert image.channel(tokens[1]).max() == 1


def test_sets_must_match(tmp_path: Path) -> None:
    a, b = grey(tmp_path / "a_d0.tif", 1), grey(tmp_path / "a_d1.tif", 2, (9, 9))
    with pytest.raises(ImageReadError, match=r"a_d1.tif.*must match"):
        read_image([a, b])
    mixed = RNG.integers(0, 255, (7, 8, 3)).astype(np.uint8)
    tifffile.imwrite(b, mixed, photometric="rgb")
    with pytest.raises(ImageReadError, match=r"holds 3 colours.*grey"):
        read_image([a, b])
    same = tmp_path / "sub"
    same.mkdir()
    with pytest.raises(ImageReadError, match="the same channel"):
        read_image([a, grey(same / "a_d0.tif", 3)])


def test_a_missing_file_of_a_set(tmp_path: Path) -> None:
    file = grey(tmp_path / "a_d0.tif", 1)
    protocol = Protocol(
        channels=(Channel("DAPI", "dna", source="d0"), Channel("INS", source="d1")),
        reading=Reading(file_pattern="(?P<image>.+)_(?P<channel>d[01])[.]tif"),
    )
    with pytest.raises(
        ValueError, match=r"no channel 'd1' \(the source of INS\); the file has 'd0'"
    ):
        read_image(file, protocol=protocol)


def test_patterns_are_checked() -> None:
    with pytest.raises(ProtocolError, match="needs the groups"):
        split_name("a.tif", "(.+)")
    with pytest.raises(ProtocolError, match="file_pattern"):
        split_name("a.tif", "(?P<image>.+")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DAPI", ("DAPI", "dna", "nucleus")),
        ("Hoechst 33342", ("Hoechst", "dna", "nucleus")),
        ("w1DAPI", ("DAPI", "dna", "nucleus")),
        ("Insulin-AF488", ("INS", "marker", "cytoplasm")),
        ("C-Peptide", ("CPEP", "marker", "cytoplasm")),
        ("NKX6.1", ("NKX6.1", "marker", "nucleus")),
        ("Nkx6-1 (Cy5)", ("NKX6.1", "marker", "nucleus")),
        ("ki-67", ("Ki67", "marker", "nucleus")),
        ("brightfield", ("TL", "ignore", "cytoplasm")),
        ("insulated", None),
        ("channel 1", None),
        ("FITC", None),
    ],
)
def test_known_stains(name: str, expected: tuple[str, str, str] | None) -> None:
    assert known_stain(name) == expected


def test_vendor_formats_without_bioio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bioio", None)
    monkeypatch.setitem(sys.modules, "pylibCZIrw", None)
    monkeypatch.setitem(sys.modules, "nd2", None)
    for name, magic in (
        ("x.czi", b"ZISRAWFILE"),
        ("x.nd2", b"\xda\xce\xbe\x0a"),
        ("x.lif", b"\x70\0\0\0"),
    ):
        file = tmp_path / name
        file.write_bytes(magic + bytes(100))
        with pytest.raises(ImageReadError, match=r"islet-imaging\[formats\]"):
            read_image(file)


class FakeBioImage:
    """What bioio gives, with the sizes and scenes that a test sets."""

    scenes: tuple[str, ...] = ("Image:0",)
    sizes: dict[str, int] = {"T": 1, "C": 2, "Z": 3, "Y": 5, "X": 6}  # noqa: RUF012
    channel_names: list[str] = ["DAPI", "INS"]  # noqa: RUF012
    stored = RNG.integers(0, 999, (1, 2, 3, 5, 6)).astype(np.uint16)

    def __init__(self, path: Path) -> None:
        from types import SimpleNamespace

        self.dims = SimpleNamespace(**self.sizes)
        self.physical_pixel_sizes = SimpleNamespace(Z=1.0, Y=0.2, X=0.2)
        self.dtype = self.stored.dtype
        self.scene = 0

    def set_scene(self, number: int) -> None:
        self.scene = number

    def get_image_dask_data(self, order: str, **at: int) -> object:
        from types import SimpleNamespace

        plane = self.stored[at["T"], at["C"], at["Z"]] + self.scene
        return SimpleNamespace(compute=lambda scheduler: plane)


def test_vendor_formats_through_bioio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "bioio", SimpleNamespace(BioImage=FakeBioImage))
    file = tmp_path / "x.lif"
    file.write_bytes(b"\x70\0\0\0" + bytes(100))
    image = read_image(file, channel_names={"insulin": "INS"}, projection="max")
    assert image.pixel_size_um == 0.2
    assert image.sources["pixel_size_um"] == "LIF"
    expected = FakeBioImage.stored[0, 1].max(axis=0)
    np.testing.assert_array_equal(image.channel("insulin"), expected)
    monkeypatch.setattr(FakeBioImage, "sizes", {**FakeBioImage.sizes, "T": 4})
    with pytest.raises(ImageReadError, match="4 time points"):
        read_image(file)
    monkeypatch.setattr(FakeBioImage, "scenes", ("a", "b/c"))
    with pytest.raises(ImageReadError, match=r"2 images \(a, b_c\)"):
        read_image(file)
    monkeypatch.setattr(FakeBioImage, "sizes", {**FakeBioImage.sizes, "T": 1})
    assert scenes_of_vendor(file) == ("a", "b_c")
    other = read_image(file / "b_c", projection="max")
    np.testing.assert_array_equal(other.channel("INS"), expected + 1)
    with pytest.raises(ImageReadError, match="holds no image 'd'; it has a, b_c"):
        read_image(file / "d")


def test_a_real_czi(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pylibCZIrw", reason="needs the formats extra")
    czi = pytest.importorskip("pylibCZIrw.czi", reason="needs pylibCZIrw to write a CZI file")
    stored = RNG.integers(0, 4000, (2, 3, 40, 50)).astype(np.uint16)
    file = tmp_path / "real.czi"
    with czi.create_czi(str(file)) as writer:
        for c in range(2):
            for z in range(3):
                place = {"C": c, "Z": z, "T": 0}
                writer.write(data=np.ascontiguousarray(stored[c, z][..., None]), plane=place)
        writer.write_metadata(
            document_name="islet",
            channel_names={0: "DAPI", 1: "INS"},
            scale_x=0.2e-6,
            scale_y=0.2e-6,
            scale_z=1e-6,
        )
    image = read_image(file, projection="max")
    assert image.channel_names == ("DAPI", "INS")
    assert image.pixel_size_um == pytest.approx(0.2)
    np.testing.assert_array_equal(image.channel("INS"), stored[1].max(axis=0))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ImageReadError, match=r"real\.czi"):
        read_image(file)
    assert capfd.readouterr().err == ""
