"""Every dialect of TIFF gives back the pixels that were written, by channel name."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from islet_imaging.errors import ChannelError, ImageReadError, ProtocolError
from islet_imaging.protocol import Channel, Limits, Protocol, Reading
from islet_imaging.reading import read_image
from islet_imaging.scoring.fingerprints import measuring_part

NAMES = ["DAPI", "INS", "GCG", "NKX6.1"]
FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def pixels(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(100, 30, shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


LAYOUTS = st.sampled_from(
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib", "rowsperstrip": 7},
        {"rowsperstrip": 5},
        {"tile": (16, 16)},
        {"tile": (16, 32), "compression": "zstd"},
        {"tile": (32, 16), "compression": "zlib", "predictor": True},
    ]
)


@FEW
@given(data=st.data())
def test_ome_any_order_of_axes(tmp_path: Path, data: st.DataObject) -> None:
    n_c = data.draw(st.integers(1, 4))
    n_z = data.draw(st.integers(1, 3))
    order = data.draw(st.permutations("TCZ"))
    height, width = data.draw(st.integers(1, 45)), data.draw(st.integers(1, 45))
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "int16", "float32"]))
    layout = data.draw(LAYOUTS)
    bigtiff, byteorder = data.draw(st.booleans()), data.draw(st.sampled_from("<>"))
    sizes = {"T": 1, "C": n_c, "Z": n_z}
    stored = pixels((*(sizes[a] for a in order), height, width), dtype)
    file = tmp_path / "x.ome.tif"
    tifffile.imwrite(
        file,
        stored,
        photometric="minisblack",
        ome=True,
        bigtiff=bigtiff,
        byteorder=byteorder,
        metadata={
            "axes": "".join(order) + "YX",
            "Channel": {"Name": NAMES[:n_c]},
            "PhysicalSizeX": 0.325,
            "PhysicalSizeY": 0.325,
        },
        **layout,
    )
    expected = np.moveaxis(stored, [order.index(a) for a in "TCZ"], [0, 1, 2])[0]
    plane = data.draw(st.integers(0, n_z - 1))
    image = read_image(file, projection="plane", plane=plane)
    assert image.channel_names == tuple(NAMES[:n_c])
    assert image.sources["channel_names"] == "OME-XML"
    assert image.pixel_size_um == 0.325
    assert image.shape == (height, width)
    rows = slice(*sorted(data.draw(st.tuples(st.integers(0, 50), st.integers(0, 50)))))
    columns = slice(*sorted(data.draw(st.tuples(st.integers(0, 50), st.integers(0, 50)))))
    for c, name in enumerate(image.channel_names):
        whole = image.channel(name)
        assert whole.dtype == stored.dtype.newbyteorder("=") == image.dtype
        np.testing.assert_array_equal(whole, expected[c, plane])
        np.testing.assert_array_equal(
            image.channel(name, (rows, columns)), expected[c, plane][rows, columns]
        )
    top = read_image(file, projection="max")
    np.testing.assert_array_equal(top.channel("DAPI"), expected[0].max(axis=0))
    mean = read_image(file, projection="mean")
    np.testing.assert_allclose(
        mean.channel("DAPI"), expected[0].mean(axis=0, dtype=np.float64), rtol=1e-5
    )
    assert mean.channel("DAPI").dtype == mean.dtype


@FEW
@given(data=st.data())
def test_imagej_hyperstacks(tmp_path: Path, data: st.DataObject) -> None:
    n_c, n_z = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 3))
    stored = pixels((n_z, n_c, 11, 13), data.draw(st.sampled_from(["uint8", "uint16", "float32"])))
    compression = data.draw(st.sampled_from([None, "zlib"]))
    file = tmp_path / "x.tif"
    tifffile.imwrite(
        file,
        stored,
        imagej=True,
        compression=compression,
        resolution=(1 / 0.42, 1 / 0.42),
        metadata={"axes": "ZCYX", "unit": "um", "Labels": NAMES[:n_c] * n_z},
    )
    image = read_image(file, projection="plane", plane=n_z - 1)
    assert image.channel_names == tuple(NAMES[:n_c])
    assert image.pixel_size_um == pytest.approx(0.42, rel=1e-4)
    for c, name in enumerate(NAMES[:n_c]):
        np.testing.assert_array_equal(image.channel(name), stored[-1, c])


@FEW
@given(
    planar=st.booleans(),
    layout=LAYOUTS,
    n=st.sampled_from([3, 4]),
    dtype=st.sampled_from(["uint8", "uint16"]),
)
def test_rgb_and_rgba_samples(
    tmp_path: Path, planar: bool, layout: dict[str, object], n: int, dtype: str
) -> None:
    stored = pixels((21, 33, n), dtype)
    file = tmp_path / "rgb.tif"
    tifffile.imwrite(
        file,
        np.moveaxis(stored, -1, 0) if planar else stored,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        **layout,
    )
    image = read_image(file, channel_names={"DAPI": "blue", "INS": "red"})
    assert image.channel_names == ("DAPI", "INS")
    assert image.metadata["rgb"]
    np.testing.assert_array_equal(image.channel("DAPI"), stored[..., 2])
    np.testing.assert_array_equal(
        image.channel("INS", (slice(3, 9), slice(0, 33))), stored[3:9, :, 0]
    )


@pytest.mark.parametrize("planar", [False, True])
def test_samples_that_are_no_colours(tmp_path: Path, planar: bool) -> None:
    stored = pixels((9, 10, 5), "uint16")
    file = tmp_path / "samples.tif"
    tifffile.imwrite(
        file,
        np.moveaxis(stored, -1, 0) if planar else stored,
        photometric="minisblack",
        planarconfig="separate" if planar else "contig",
        metadata=None,
    )
    names = ["a", "b", "c", "d", "e"]
    image = read_image(file, channel_names=names)
    np.testing.assert_array_equal(image.channel("d"), stored[..., 3])


def test_plain_pages_are_channels_only_when_that_many_are_named(tmp_path: Path) -> None:
    stored = pixels((3, 9, 10), "uint16")
    file = tmp_path / "pages.tif"
    with tifffile.TiffWriter(file) as writer:
        for page in stored:
            writer.write(page, metadata=None, contiguous=False)
    with pytest.raises(ImageReadError, match=r"3 pages.*does not say.*Name 3 channels"):
        read_image(file)
    image = read_image(file, channel_names=["DAPI", "INS", "GCG"])
    np.testing.assert_array_equal(image.channel("GCG"), stored[2])
    three = Protocol(channels=(Channel("GCG"), Channel("INS"), Channel("DAPI", "dna")))
    np.testing.assert_array_equal(read_image(file, protocol=three).channel("DAPI"), stored[2])
    two = three.replace(channels=three.channels[1:])
    with pytest.raises(ImageReadError, match="has 2"):
        read_image(file, protocol=two)
    placed = Protocol(
        channels=(
            Channel("INS", source="channel 3"),
            Channel("DAPI", "dna", source="C1"),
            Channel("none", "ignore", source="ch 2"),
        )
    )
    np.testing.assert_array_equal(read_image(file, protocol=placed).channel("INS"), stored[2])


def test_order_in_the_file_does_not_matter(tmp_path: Path) -> None:
    stored = pixels((3, 9, 10), "uint16")
    protocol = Protocol(
        channels=(Channel("DAPI", "dna"), Channel("INS", source="Alexa 488"), Channel("C-peptide"))
    )
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        names = np.array(["dapi", "alexa 488", "CPeptide"])[order]
        file = tmp_path / "o.ome.tif"
        tifffile.imwrite(
            file,
            stored[order],
            photometric="minisblack",
            metadata={"axes": "CYX", "Channel": {"Name": list(names)}},
        )
        image = read_image(file, protocol=protocol)
        assert image.channel_names == ("DAPI", "INS", "C-peptide")
        for i, name in enumerate(image.channel_names):
            np.testing.assert_array_equal(image.channel(name), stored[i])


def test_wrong_channel_lists_what_the_file_has(tmp_path: Path) -> None:
    file = tmp_path / "o.ome.tif"
    tifffile.imwrite(
        file,
        pixels((2, 9, 10), "uint16"),
        photometric="minisblack",
        metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "Cy3"]}},
    )
    protocol = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS", source="AF488")))
    with pytest.raises(ChannelError, match=r"AF488.*source of INS.*'DAPI', 'Cy3'"):
        read_image(file, protocol=protocol)
    twice = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS", source="dapi")))
    with pytest.raises(ChannelError, match="INS and DAPI are both"):
        read_image(file, protocol=twice)
    ignored = Protocol(channels=(Channel("DAPI", "dna"), Channel("TL", "ignore")))
    assert read_image(file, protocol=ignored).channel_names == ("DAPI",)


def test_position_words_never_beat_names(tmp_path: Path) -> None:
    file = tmp_path / "o.ome.tif"
    stored = pixels((2, 9, 10), "uint16")
    tifffile.imwrite(
        file,
        stored,
        photometric="minisblack",
        metadata={"axes": "CYX", "Channel": {"Name": ["C2", "C1"]}},
    )
    image = read_image(file, channel_names={"INS": "c1"})
    np.testing.assert_array_equal(image.channel("INS"), stored[1])


def test_pixel_size_sources_in_order(tmp_path: Path) -> None:
    file = tmp_path / "s.tif"
    grey = pixels((9, 10), "uint8")
    for unit, resolution, size in (
        ("CENTIMETER", 1e4 / 0.5, 0.5),
        ("CENTIMETER", 28.35, None),
        ("INCH", 72, None),
        ("INCH", 96, None),
        ("NONE", 1, None),
    ):
        tifffile.imwrite(file, grey, resolution=(resolution, resolution), resolutionunit=unit)
        assert read_image(file).pixel_size_um == (size and pytest.approx(size, rel=1e-6))
    for unit, factor in (("micron", 1), ("um", 1), ("\\u00B5m", 1), ("nm", 1e3), ("mm", 1e-3)):
        per_unit = 1 / (0.25 * factor)
        tifffile.imwrite(
            file, grey, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit}
        )
        image = read_image(file)
        assert image.pixel_size_um == pytest.approx(0.25, rel=1e-4), unit
        assert image.sources["pixel_size_um"] == "ImageJ properties"
    for unit in ("pixel", "", "inch"):
        tifffile.imwrite(file, grey, imagej=True, resolution=(1, 1), metadata={"unit": unit})
        assert read_image(file).pixel_size_um is None
    protocol = Protocol(channels=(Channel("DAPI", "dna"),), reading=Reading(pixel_size_um=0.7))
    assert read_image(file, protocol=protocol).pixel_size_um == 0.7
    assert read_image(file, protocol=protocol, pixel_size_um=0.3).pixel_size_um == 0.3
    with pytest.raises(ImageReadError, match="not possible"):
        read_image(file, pixel_size_um=-1)


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    file = tmp_path / "s.ome.tif"
    meta = {"axes": "YX", "PhysicalSizeX": 0.3, "PhysicalSizeY": 0.6}
    tifffile.imwrite(file, pixels((9, 10), "uint8"), metadata=meta)
    with pytest.raises(ImageReadError, match=r"not square.*0.3 um wide and 0.6 um high"):
        read_image(file)
    assert read_image(file, pixel_size_um=0.3).pixel_size_um == 0.3


def test_ome_facts(tmp_path: Path) -> None:
    file = tmp_path / "f.ome.tif"
    tifffile.imwrite(
        file,
        pixels((2, 9, 10), "uint16"),
        photometric="minisblack",
        metadata={
            "axes": "CYX",
            "SignificantBits": 12,
            "PhysicalSizeX": 325.0,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 325.0,
            "PhysicalSizeYUnit": "nm",
            "Channel": {"Name": ["DAPI", "INS"], "EmissionWavelength": [460, 520]},
            "Plane": {"ExposureTime": [50.0, 200.0], "ExposureTimeUnit": ["ms", "ms"]},
        },
    )
    image = read_image(file)
    assert image.metadata["exposure_s"] == {"DAPI": 0.05, "INS": 0.2}
    assert image.metadata["emission_nm"] == {"DAPI": 460, "INS": 520}
    assert image.metadata["significant_bits"] == 12
    assert image.pixel_size_um == pytest.approx(0.325)


def test_names_that_are_not_unique_address_nothing(tmp_path: Path) -> None:
    file = tmp_path / "u.ome.tif"
    meta = {"axes": "CYX", "Channel": {"Name": ["Fluor", "Fluor"]}}
    tifffile.imwrite(file, pixels((2, 9, 10), "uint8"), photometric="minisblack", metadata=meta)
    assert read_image(file).channel_names == ("channel 1", "channel 2")


def test_an_image_goes_to_another_process(tmp_path: Path) -> None:
    stored = pixels((2, 9, 10), "uint8")
    file = tmp_path / "p.ome.tif"
    meta = {"axes": "CYX", "Channel": {"Name": ["DAPI", "INS"]}}
    tifffile.imwrite(file, stored, photometric="minisblack", compression="zlib", metadata=meta)
    image = read_image(file)
    image.channel("INS")
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again.channel("INS"), stored[1])


def test_pyramid_reads_its_full_size(tmp_path: Path) -> None:
    stored = pixels((2, 64, 64), "uint16")
    file = tmp_path / "pyramid.ome.tif"
    with tifffile.TiffWriter(file) as writer:
        meta = {"axes": "CYX", "Channel": {"Name": ["DAPI", "INS"]}}
        options = {"photometric": "minisblack", "tile": (16, 16)}
        writer.write(stored, subifds=1, metadata=meta, **options)
        writer.write(stored[:, ::2, ::2], subfiletype=1, **options)
    image = read_image(file)
    assert image.shape == (64, 64)
    np.testing.assert_array_equal(image.channel("INS"), stored[1])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_region_of_a_slide_does_not_load_the_slide(
    tmp_path: Path, compression: str | None
) -> None:
    # 20,000 x 20,000 x 3 uncompressed would be slow to write; the bare layout is tried smaller
    side = 20_000 if compression else 5000
    file = tmp_path / "slide.btf"
    _slide(file, side, compression)
    image = read_image(file, channel_names=["DAPI", "INS", "GCG"])
    assert image.shape == (side, side)
    tracemalloc.start()
    region = (slice(1000, 3048), slice(700, 2748))
    part = image.channel("GCG", region)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert part.shape == (2048, 2048)
    assert peak < 80e6
    np.testing.assert_array_equal(part[:24, :68], _TILE[1000 - 512 :, 700 - 512 : 768 - 512][:24])


_TILE = (np.arange(512 * 512, dtype=np.uint32) % 4093).astype(np.uint16).reshape(512, 512)


def _slide(file: Path, side: int, compression: str | None) -> None:
    import zlib

    n = (-(-side // 512)) ** 2
    data = zlib.compress(_TILE.tobytes(), 1) if compression else _TILE.tobytes()
    tifffile.imwrite(
        file,
        (data for _ in range(3 * n)),
        shape=(3, side, side),
        dtype="uint16",
        tile=(512, 512),
        bigtiff=True,
        compression=compression,
        photometric="minisblack",
        ome=True,
        metadata={"axes": "CYX"},
    )


def test_too_large_for_one_read(tmp_path: Path) -> None:
    file = tmp_path / "slide.ome.tif"
    _slide(file, 5000, "zlib")
    image = read_image(file, limits=Limits(max_gib=0.02))
    with pytest.raises(ImageReadError, match=r"47.7 MiB.*limit is 0.02 GiB.*by region"):
        image.channel("channel 1")
    assert image.channel("channel 1", (slice(0, 512), slice(0, 512))).shape == (512, 512)


def test_every_limit_is_stated_and_can_be_changed(tmp_path: Path) -> None:
    """What is refused as a bomb can be let in by whoever knows better; and less can be let in."""
    blank = tmp_path / "blank.tif"
    tifffile.imwrite(blank, np.zeros((6000, 6000), np.uint16), compression="zlib", rowsperstrip=600)
    share = 72e6 / blank.stat().st_size
    tight, loose = Limits(max_compression=share * 0.9), Limits(max_compression=share * 1.1)
    with pytest.raises(ImageReadError, match=r"raise reading\.limits\.max_compression in"):
        read_image(blank, limits=tight)
    image = read_image(blank, limits=loose)
    assert not image.channel(image.channel_names[0]).any()
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.zeros((6, 8, 8), np.uint16), imagej=True, metadata={"axes": "ZYX"})
    read_image(stack, projection="max", limits=Limits(max_planes=6))
    with pytest.raises(ImageReadError, match=r"6 planes.*reading\.limits\.max_planes"):
        read_image(stack, projection="max", limits=Limits(max_planes=5))
    several = tmp_path / "set.ome.tif"
    tifffile.imwrite(several, np.zeros((6, 8, 8), np.uint16), ome=True, metadata={"axes": "ZYX"})
    with pytest.raises(ImageReadError, match=r"reading\.limits\.max_planes"):
        read_image(several, projection="max", limits=Limits(max_planes=5))
    # the protocol's, where nothing is said beside it
    asked = Protocol(
        channels=(Channel("DAPI", "dna"),), reading=Reading(limits=Limits(max_gib=0.001))
    )
    large = tmp_path / "large.tif"
    tifffile.imwrite(large, np.ones((1000, 1000), np.uint16))
    with pytest.raises(ImageReadError, match=r"reading\.limits\.max_gib"):
        read_image(large, protocol=asked).channel("DAPI")
    assert read_image(large, protocol=asked, limits=Limits()).channel("DAPI").any()


def test_limits_are_read_from_a_protocol_and_checked() -> None:
    text = {"format": "islet-imaging/2", "channels": [{"name": "DAPI", "role": "dna"}]}
    read = Protocol.from_dict({**text, "reading": {"limits": {"max_compression": 9000}}})
    assert read.reading.limits == Limits(max_compression=9000)
    # an image that was measured stays measured
    assert measuring_part(read) == measuring_part(Protocol.from_dict(text))
    for wrong in ({"max_gib": 0}, {"max_planes": 0}, {"max_compression": 0.5}, {"most": 1}):
        with pytest.raises(ProtocolError, match="limits"):
            Protocol.from_dict({**text, "reading": {"limits": wrong}})
