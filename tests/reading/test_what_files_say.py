"""Names and scale from the places where files state them, and no fact that only looks stated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from islet_imaging.errors import ChannelError, ImageReadError
from islet_imaging.experiment.drafting import draft_protocol
from islet_imaging.experiment.sample_sheet import images_in_folder
from islet_imaging.protocol import Channel, Protocol, Reading
from islet_imaging.reading import read_image
from islet_imaging.reading.members import files_of
from islet_imaging.reading.metadata import doubtful, to_um

RNG = np.random.default_rng(8)
STACK = RNG.integers(0, 4000, (2, 12, 14)).astype(np.uint16)


@pytest.mark.parametrize(
    "unit",
    ["um", "µm", "μm", "\\u00B5m", "\\u03BCm", "Âµm", "Î¼m", " um ", "um.", "micron", "Microns",
     "micrometer", "Micrometre", "Mikrometer", "micras", "micromètres", "мкм", "微米"],
)  # fmt: skip
def test_spellings_of_the_micrometre(unit: str) -> None:
    assert to_um(0.5, unit) == 0.5


@pytest.mark.parametrize("unit", ["pixel", "", "px", None, "unit", "voxel", "m/s"])
def test_what_is_no_length(unit: str | None) -> None:
    assert to_um(0.5, unit) is None


def test_defaults_and_print_settings_are_no_facts(tmp_path: Path) -> None:
    for size, why in ((1.0, "exactly 1 um"), (84.6667, "300 dots per inch")):
        file = tmp_path / "x.ome.tif"
        meta = {"axes": "CYX", "PhysicalSizeX": size, "PhysicalSizeY": size}
        tifffile.imwrite(file, STACK, photometric="minisblack", metadata=meta)
        image = read_image(file)
        assert image.pixel_size_um is None
        assert why in image.sources["pixel_size_um"]
        with pytest.raises(ValueError, match=why):
            image.require_pixel_size()
        assert read_image(file, pixel_size_um=size).pixel_size_um == size
    inches = {"resolution": (300, 300), "imagej": True, "metadata": {"axes": "CYX", "unit": "inch"}}
    tifffile.imwrite(tmp_path / "x.tif", STACK, **inches)
    assert read_image(tmp_path / "x.tif").pixel_size_um is None
    assert not doubtful((0.65, 0.65))


def test_one_repeated_name_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "x.ome.tif"
    names, dyes = ["DAPI", "GCG", "DAPI", "INS"], ["R1 DAPI", "AF488", "R2 DAPI", "AF647"]
    stored = RNG.integers(0, 999, (4, 12, 14)).astype(np.uint16)
    meta = {"axes": "CYX", "Channel": {"Name": names, "Fluor": dyes}}
    tifffile.imwrite(file, stored, photometric="minisblack", metadata=meta)
    wanted = (Channel("DNA", "dna", source="R2 DAPI"), Channel("INS"), Channel("G", source="AF488"))
    image = read_image(file, protocol=Protocol(wanted))
    for name, place in (("DNA", 2), ("INS", 3), ("G", 1)):
        np.testing.assert_array_equal(image.channel(name), stored[place])
    # four names for four channels are not taken in their order where the file has names
    four = (Channel("DAPI", "dna"), Channel("INS"), Channel("GCG"), Channel("DAPI2", "ignore"))
    with pytest.raises(ChannelError, match=r"2 channels are called 'DAPI'.*R1 DAPI.*R2 DAPI"):
        read_image(file, protocol=Protocol(four))
    (tmp_path / "p.yaml").write_text(draft_protocol(tmp_path).text)
    drafted = Protocol.load(tmp_path / "p.yaml")
    np.testing.assert_array_equal(
        read_image(file, protocol=drafted).channel(drafted.dna), stored[0]
    )


def test_names_of_pages(tmp_path: Path) -> None:
    file = tmp_path / "x.tif"
    with tifffile.TiffWriter(file) as tif:
        for label, plane in zip(("INS", "DAPI"), STACK, strict=True):
            tif.write(
                plane, metadata=None, contiguous=False, extratags=[(285, "s", 0, label, True)]
            )
    image = read_image(file, protocol=Protocol((Channel("DAPI", "dna"), Channel("INS"))))
    np.testing.assert_array_equal(image.channel("INS"), STACK[0])


def test_slices_called_after_stains_are_channels(tmp_path: Path) -> None:
    file = tmp_path / "x.tif"
    for labels, is_stack in ((["DAPI", "INS"], False), (["z1", "z2"], True), (["DAPI"] * 2, True)):
        tifffile.imwrite(file, STACK, imagej=True, metadata={"axes": "ZYX", "Labels": labels})
        if is_stack:
            with pytest.raises(ImageReadError, match="z-stack of 2"):
                read_image(file)
        else:
            np.testing.assert_array_equal(read_image(file).channel("INS"), STACK[1])


def test_stains_saved_as_time_points_are_channels(tmp_path: Path) -> None:
    file = tmp_path / "x.tif"
    meta = {"axes": "TYX", "Labels": ["DAPI", "INS"]}
    tifffile.imwrite(file, STACK, imagej=True, metadata=meta)
    np.testing.assert_array_equal(read_image(file).channel("INS"), STACK[1])
    tifffile.imwrite(file, STACK, imagej=True, metadata={"axes": "TYX", "Labels": ["t1", "t2"]})
    with pytest.raises(ImageReadError, match=r"2 time points.*Stack to Hyperstack"):
        read_image(file)
    # an ion beam image names its pages in a description of their own
    with tifffile.TiffWriter(file) as tif:
        for plane, target in zip(STACK, ("INS", "dsDNA"), strict=True):
            said = json.dumps({"channel.mass": 1, "channel.target": target})
            tif.write(plane, metadata=None, contiguous=False, description=said)
    np.testing.assert_array_equal(read_image(file).channel("INS"), STACK[0])
    drafted = draft_protocol(tmp_path).protocol.channels
    assert [(c.name, c.role, c.source) for c in drafted] == [
        ("INS", "marker", None), ("DNA", "dna", "dsDNA")]  # fmt: skip


def test_names_of_another_number_of_channels_are_not_taken_in_order(tmp_path: Path) -> None:
    three = RNG.integers(0, 999, (3, 1, 12, 14)).astype(np.uint16)
    zarr_image(tmp_path / "a.zarr", "0.4", three)  # which names two
    names = (Channel("DAPI", "dna"), Channel("INS"), Channel("GCG"))
    with pytest.raises(ChannelError, match=r"has 3 channels and names 2 \(DAPI, INS\)"):
        read_image(tmp_path / "a.zarr", protocol=Protocol(names))
    stated = tuple(replace(c, source=f"channel {3 - i}") for i, c in enumerate(names))
    image = read_image(tmp_path / "a.zarr", protocol=Protocol(stated))
    np.testing.assert_array_equal(image.channel("DAPI"), three[2, 0])


def test_sizes_that_cannot_be_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.tif"
    for size, unit, said in ((500, "\u00b5m", "no microscope"), (5e-7, "\u00b5m", "no microscope"),
                             ("0,5", "\u00b5m", None)):  # fmt: skip
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/x"><Image ID="I:0">'
            '<Pixels DimensionOrder="XYCZT" ID="P:0" SizeC="2" SizeT="1" SizeZ="1" SizeX="14" '
            f'SizeY="12" Type="uint16" PhysicalSizeX="{size}" PhysicalSizeXUnit="{unit}">'
            "<TiffData/></Pixels></Image></OME>"
        )
        tifffile.imwrite(file, STACK, description=xml.encode(), metadata=None,
                         photometric="minisblack")  # fmt: skip
        image = read_image(file)
        assert image.pixel_size_um == (None if said else 0.5)
        assert said is None or said in image.sources["pixel_size_um"]
    inches = (50800, 50800)
    tifffile.imwrite(file, STACK[0], metadata=None, resolution=inches, resolutionunit="INCH")
    image = read_image(file)
    assert image.pixel_size_um is None
    assert "0.5 um in the tag of a print resolution" in image.sources["pixel_size_um"]


def test_a_dash_is_no_name(tmp_path: Path) -> None:
    file = tmp_path / "x.tif"
    tifffile.imwrite(file, STACK[0], imagej=True, metadata={"Labels": ["-"]})
    assert read_image(file).channel_names == ("channel 1",)


def test_transparency_is_no_channel(tmp_path: Path) -> None:
    file = tmp_path / "x.tif"
    grey = STACK[0].astype(np.uint8)
    tifffile.imwrite(file, np.dstack([grey, np.full_like(grey, 255)]), photometric="minisblack",
                     planarconfig="contig", extrasamples=["unassalpha"], metadata=None)  # fmt: skip
    image = read_image(file)
    assert image.channel_names == ("channel 1",)
    np.testing.assert_array_equal(image.channel("channel 1"), grey)


META = (
    '<MetaData><PlaneInfo><prop id="spatial-calibration-state" value="{on}"/>'
    '<prop id="spatial-calibration-x" value="0.5"/><prop id="spatial-calibration-y" value="0.5"/>'
    '<prop id="spatial-calibration-units" value="um"/><prop id="image-name" value="DAPI"/>'
    "</PlaneInfo></MetaData>"
)


@pytest.mark.parametrize(("on", "size"), [("on", 0.5), ("off", None)])
def test_metaseries(tmp_path: Path, on: str, size: float | None) -> None:
    file = tmp_path / "x.tif"
    tifffile.imwrite(file, STACK[0], description=META.format(on=on), metadata=None)
    image = read_image(file)
    assert (image.channel_names, image.pixel_size_um) == (("DAPI",), size)


def zarr_image(path: Path, version: str, stack: np.ndarray, size: float = 0.5) -> None:
    zarr = pytest.importorskip("zarr", reason="needs the formats extra")
    form = 3 if version == "0.5" else 2
    group = zarr.open_group(str(path), mode="w", zarr_format=form)
    array = group.create_array("0", shape=stack.shape, dtype=stack.dtype, chunks=(1, 1, 8, 8))
    array[:] = stack
    axes = [{"name": a, "type": t, **({"unit": "micrometer"} if t == "space" else {})}
            for a, t in zip("czyx", ("channel", *["space"] * 3), strict=True)]  # fmt: skip
    scale = [{"type": "scale", "scale": [1, 2, size, size]}]
    ome = {
        "multiscales": [{"version": version, "axes": axes, "datasets": [
            {"path": "0", "coordinateTransformations": scale}]}],
        "omero": {"channels": [{"label": "DAPI", "color": "0000FF"}, {"label": "INS"}]},
    }  # fmt: skip
    group.attrs.update({"ome": {"version": version, **ome}} if version == "0.5" else ome)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    stack = RNG.integers(0, 999, (2, 3, 20, 21)).astype(np.uint16)
    zarr_image(tmp_path / "a.ome.zarr", version, stack)
    (found,) = images_in_folder(tmp_path)
    assert found.name == "a.ome.zarr"
    image = read_image(found.paths[0], projection="max")
    assert (image.channel_names, image.pixel_size_um) == (("DAPI", "INS"), 0.5)
    assert image.metadata["colour"] == {"DAPI": "#0000ff"}
    np.testing.assert_array_equal(image.channel("INS"), stack[1].max(axis=0))
    part = image.channel("DAPI", (slice(3, 9), slice(10, 30)))
    np.testing.assert_array_equal(part, stack[0].max(axis=0)[3:9, 10:30])
    assert len(files_of(found.paths[0])) > 10
    drafted = draft_protocol(tmp_path).protocol
    assert drafted.reading.projection == "max"


def test_axes_of_ome_zarr_in_any_order(tmp_path: Path) -> None:
    stack = RNG.integers(0, 999, (2, 1, 20, 25)).astype(np.uint16)
    zarr_image(tmp_path / "a.zarr", "0.4", stack)
    zarr_image(tmp_path / "b.zarr", "0.4", stack.transpose(0, 1, 3, 2))
    file = tmp_path / "b.zarr" / ".zattrs"
    said = json.loads(file.read_text())
    (scales,) = said["multiscales"]
    scales["axes"] = [{"name": "c"}, *({"name": a, "units": "micrometer"} for a in "zxy")]
    # of the axes of space alone, as some write it
    scales["datasets"][0]["coordinateTransformations"][0]["scale"] = [2, 0.5, 0.5]
    file.write_text(json.dumps(said))
    image = read_image(tmp_path / "b.zarr")
    assert image.pixel_size_um == 0.5
    np.testing.assert_array_equal(image.channel("INS"), stack[1, 0])
    region = (slice(3, 9), slice(10, 22))
    np.testing.assert_array_equal(image.channel("INS", region), stack[1, 0][region])


def test_a_plate_of_ome_zarr_is_its_fields(tmp_path: Path) -> None:
    plate = tmp_path / "p.zarr"
    for well in ("A/1", "B/2"):
        zarr_image(plate / well / "0", "0.4", np.full((2, 1, 9, 9), ord(well[0]), np.uint16))
        (plate / well / ".zattrs").write_text(json.dumps({"well": {"images": [{"path": "0"}]}}))
    wells = [{"path": "A/1"}, {"path": "B/2"}]
    (plate / ".zattrs").write_text(json.dumps({"plate": {"wells": wells}}))
    images = images_in_folder(tmp_path)
    assert [i.name for i in images] == ["p.zarr/A/1/0", "p.zarr/B/2/0"]
    assert read_image(images[1].paths[0]).channel("INS").max() == ord("B")
    with pytest.raises(ImageReadError, match="holds 2 images"):
        read_image(plate)


def czi(file: Path, planes: list[np.ndarray], names: dict[int, str], um: float | None) -> None:
    library = pytest.importorskip("pylibCZIrw.czi", reason="needs the formats extra")
    scale = {} if um is None else {"scale_x": um * 1e-6, "scale_y": um * 1e-6}
    with library.create_czi(str(file)) as writer:
        for c, plane in enumerate(planes):
            writer.write(data=np.ascontiguousarray(plane), plane={"C": c, "Z": 0, "T": 0})
        writer.write_metadata("x", channel_names=names, **scale)


def test_czi_of_a_colour_camera(tmp_path: Path) -> None:
    bgr = RNG.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    czi(tmp_path / "x.czi", [bgr], {0: "RGB"}, 0.5)
    image = read_image(tmp_path / "x.czi")
    assert image.channel_names == ("red", "green", "blue")
    assert image.metadata["rgb"]
    for k, name in enumerate(("blue", "green", "red")):
        np.testing.assert_array_equal(image.channel(name), bgr[..., k])
    part = image.channel("red", (slice(2, 9), slice(4, 11)))
    np.testing.assert_array_equal(part, bgr[2:9, 4:11, 2])


def test_czi_without_scaling(tmp_path: Path) -> None:
    file = tmp_path / "x.czi"
    czi(file, [p[..., None] for p in STACK], {0: "DAPI", 1: "INS"}, None)
    raw = file.read_bytes()
    raw = raw.replace(b"<Distance ", b"<Distonce ").replace(b"</Distance>", b"</Distonce>")
    file.write_bytes(raw)
    assert read_image(file).pixel_size_um is None
    protocol = Protocol((Channel("DAPI", "dna"), Channel("INS")), Reading(pixel_size_um=0.5))
    image = read_image(file, protocol=protocol)
    assert image.pixel_size_um == 0.5
    np.testing.assert_array_equal(image.channel("INS"), STACK[1])


def test_scenes_of_a_czi_are_images(tmp_path: Path) -> None:
    library = pytest.importorskip("pylibCZIrw.czi", reason="needs the formats extra")
    file = tmp_path / "x.czi"
    with library.create_czi(str(file)) as writer:
        for s, plane in enumerate(STACK):
            writer.write(data=np.ascontiguousarray(plane[..., None]), scene=s,
                         plane={"C": 0, "Z": 0, "T": 0}, location=(100 * s, 0))  # fmt: skip
        writer.write_metadata("x", channel_names={0: "DAPI"}, scale_x=5e-7, scale_y=5e-7)
    images = images_in_folder(tmp_path)
    assert len(images) == 2
    for image, stored in zip(images, STACK, strict=True):
        np.testing.assert_array_equal(read_image(image.paths[0]).channel("DAPI"), stored)
        assert files_of(image.paths[0]) == (file,)


def test_colours_that_files_state(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        STACK,
        ome=True,
        photometric="minisblack",
        # red and opaque as a signed number; white is what programs write that know none
        metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "INS"], "Color": [-1, -16776961]}},
    )
    assert read_image(tmp_path / "a.ome.tif").metadata["colour"] == {"INS": "#ff0000"}
    ramp, none = np.arange(256, dtype=np.uint8), np.zeros(256, np.uint8)
    tifffile.imwrite(
        tmp_path / "b.tif",
        STACK,
        imagej=True,
        metadata={"axes": "CYX", "Labels": ["DAPI", "INS"], "mode": "composite",
                  "LUTs": [np.stack([none, none, ramp]), np.stack([ramp, ramp, none])]},
    )  # fmt: skip
    colours = read_image(tmp_path / "b.tif").metadata["colour"]
    assert colours == {"DAPI": "#0000ff", "INS": "#ffff00"}


def test_colours_of_a_czi(tmp_path: Path) -> None:
    library = pytest.importorskip("pylibCZIrw.czi", reason="needs the formats extra")
    shown = {
        c: library.ChannelDisplaySettingsDataClass(
            True, library.TintingMode.Color, library.Rgb8Color(*colour), 0.0, 1.0
        )
        for c, colour in enumerate(((0, 0, 255), (255, 0, 255)))
    }
    with library.create_czi(str(tmp_path / "x.czi")) as writer:
        for c, plane in enumerate(STACK):
            writer.write(data=np.ascontiguousarray(plane[..., None]), plane={"C": c})
        writer.write_metadata("x", channel_names={0: "DAPI", 1: "GCG"}, display_settings=shown)
    colours = read_image(tmp_path / "x.czi").metadata["colour"]
    assert colours == {"DAPI": "#0000ff", "GCG": "#ff00ff"}


def test_images_of_spatialdata_and_names_instead_of_labels(tmp_path: Path) -> None:
    stack = RNG.integers(0, 999, (2, 1, 12, 14)).astype(np.uint16)
    zarr_image(tmp_path / "a.zarr" / "images" / "islet", "0.4", stack)
    zarr_image(tmp_path / "a.zarr" / "labels" / "nuclei", "0.4", stack)
    (tmp_path / "a.zarr" / ".zattrs").write_text(json.dumps({"spatialdata_attrs": {}}))
    file = tmp_path / "a.zarr" / "images" / "islet" / ".zattrs"
    said = json.loads(file.read_text())
    said["omero"]["channels"] = [{"name": "INS"}, {"label": None, "name": "DAPI"}]
    file.write_text(json.dumps(said))
    (found,) = images_in_folder(tmp_path)
    assert found.name == "a.zarr/images/islet"
    np.testing.assert_array_equal(read_image(found.paths[0]).channel("INS"), stack[0, 0])
