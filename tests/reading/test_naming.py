"""Files of one image are found by how instruments name them, and only where content allows it."""

from __future__ import annotations

import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from islet_imaging.errors import ImageReadError, ProtocolError
from islet_imaging.experiment.drafting import (
    draft_protocol,
    folder_of_images,
    protocol_of_folder,
)
from islet_imaging.experiment.sample_sheet import images_in_folder, listing_of
from islet_imaging.protocol import Channel, Protocol, Reading
from islet_imaging.reading import read_image
from islet_imaging.reading.naming import find_pattern

GUID = "1E94C24B-45E4-450A-9919-257C714278F7"


def grey(file: Path, value: int = 1) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(file, np.full((6, 7), value, np.uint16), metadata=None)
    return file


SCHEMES: dict[str, tuple[list[str], list[str], tuple[str, ...], int]] = {
    # names, images, channels of an image, planes of a channel
    "Phenix": (
        [f"r{r:02}c03f01p{p:02}-ch{c}sk1fk1fl1.tiff" for r in (2, 3)
         for p in (1, 2) for c in (1, 2)],
        ["r02c03f01", "r03c03f01"], ("ch1", "ch2"), 2),
    "Phenix in time": (
        [f"r02c03f01p01-ch{c}sk{t}fk1fl1.tiff" for c in (1, 2) for t in (1, 2)],
        ["r02c03f01_sk1", "r02c03f01_sk2"], ("ch1", "ch2"), 1),
    "IN Cell": (
        [f"{w} - 1(fld {f} wv {c}).tif" for w in "AB" for f in (1, 2)
         for c in ("DAPI - DAPI", "Cy5 - Cy5")],
        ["A - 1_1", "A - 1_2", "B - 1_1", "B - 1_2"], ("Cy5 - Cy5", "DAPI - DAPI"), 1),
    "CellVoyager": (
        [f"p_B02_T0001F00{f}L01A0{c}Z0{z}C0{c}.tif" for f in (1, 2)
         for z in (1, 2) for c in (1, 2)],
        ["p_B02_T0001F001", "p_B02_T0001F002"], ("C01", "C02"), 2),
    "ImageXpress": (
        [f"p_B0{w}_s1_w{c}{GUID}.tif" for w in (2, 3) for c in (1, 2)],
        ["p_B02_s1", "p_B03_s1"], ("w1", "w2"), 1),
    "ImageXpress planes": (
        [f"TimePoint_1/ZStep_{z}/p_B0{w}_s1_w{c}.TIF" for w in (2, 3)
         for z in (1, 2, 3) for c in (1, 2)],
        ["TimePoint_1/p_B02_s1", "TimePoint_1/p_B03_s1"], ("w1", "w2"), 3),
    "MetaMorph": (
        [f"exp_w{c}_s{s}_t1.TIF" for c in ("1DAPI", "2Cy5") for s in (1, 2)],
        ["exp_s1_t1", "exp_s2_t1"], ("w1DAPI", "w2Cy5"), 1),
    "LAS X": (
        [f"S00{s}_z{z:02}_ch{c:02}.tif" for s in (1, 2) for z in range(3) for c in (0, 1)],
        ["S001", "S002"], ("ch00", "ch01"), 3),
    "Keyence": (
        [f"Image_0000{i}_CH{c}.tif" for i in (1, 2) for c in (1, 3)] + ["Image_00001_Overlay.tif"],
        ["Image_00001", "Image_00002"], ("CH1", "CH3"), 1),
    "NIS": (
        [f"seq0000xy0{i}c{c}.tif" for i in (1, 2) for c in (1, 2)],
        ["seq0000xy01", "seq0000xy02"], ("c1", "c2"), 1),
    "EVOS": (
        [f"scan_Plate_R_p00_0_A01f0{f}d{c}.TIF" for f in (0, 1) for c in (0, 2)],
        ["scan_Plate_R_p00_0_A01f00", "scan_Plate_R_p00_0_A01f01"], ("d0", "d2"), 1),
    "Incucyte": (
        [f"{w}-1-{c}.tif" for w in ("B2", "B3") for c in ("C1", "C2")],
        ["B2-1", "B3-1"], ("C1", "C2"), 1),
    "Micro-Manager": (
        [f"Pos{p}/img_000000000_{c}_00{z}.tif" for p in (0, 1)
         for c in ("DAPI", "Cy5") for z in (0, 1)],
        ["Pos0", "Pos1"], ("Cy5", "DAPI"), 2),
    "Micro-Manager 2": (
        [f"img_channel00{c}_position00{p}_time000000000_z000.tif" for p in (0, 1) for c in (0, 1)],
        ["position000", "position001"], ("channel000", "channel001"), 1),
    "ZEN": (
        [f"exp_s{s}z{z}c{c}_ORG.tif" for s in (1, 2) for z in (1, 2) for c in (1, 2)],
        ["exp_s1", "exp_s2"], ("c1", "c2"), 2),
    "a folder for each channel": (
        [f"b1/{c}/islet{i}.tif" for c in ("DAPI", "INS") for i in (1, 2)],
        ["b1/islet1", "b1/islet2"], ("DAPI", "INS"), 1),
    "channel in folder and name": (
        [f"{c}/islet{i}_{c}.tif" for c in ("DAPI", "INS") for i in (1, 2)],
        ["islet1", "islet2"], ("DAPI", "INS"), 1),
    "Harmony 5": (
        [f"r01c0{w}f01p0{z}-ch0{c}t01.tiff" for w in (1, 2) for z in (1, 2) for c in (1, 2)],
        ["r01c01f01", "r01c02f01"], ("ch01", "ch02"), 2),
    "IN Cell in time": (
        [f"A - 01(fld 1 wv {c} time {t} - {t}36ms).tif" for t in (1, 2)
         for c in ("UV - DAPI", "Blue - FITC")],
        ["A - 01_1_1", "A - 01_1_2"], ("Blue - FITC", "UV - DAPI"), 1),
    "IN Cell 7": (
        [f"A_0{w}_f1_c{c}_x{x}_m{m}_z{z}_t1.tif" for w in (1, 2) for z in (1, 2)
         for c, x, m in ((1, "UV", "DAPI"), (2, "Blue", "FITC"))],
        ["A_01_1_t1", "A_02_1_t1"], ("DAPI", "FITC"), 2),
    "scanR": (
        [f"D{w}--W0000{w}--P00001--Z0000{z}--T00000--{c}.tif" for w in (5, 6) for z in (0, 1, 2)
         for c in ("DAPI", "RFP50")],
        ["D5--W00005--P00001_T00000", "D6--W00006--P00001_T00000"], ("DAPI", "RFP50"), 3),
    "Gen5": (
        [f"A{w}_02_{c}_1Z{z}_{n}_001.tif" for w in (1, 2) for z in (0, 1)
         for c, n in ((1, "DAPI"), (2, "GFP"))],
        ["A1_1_001", "A2_1_001"], ("DAPI", "GFP"), 2),
    "Gen5 stitched": (
        [f"A{w}_-1_{c}_1_Stitched[{n}]_001.tif" for w in (1, 2)
         for c, n in ((1, "DAPI 377,447"), (2, "GFP 469,525"))],
        ["A1_1_001", "A2_1_001"], ("DAPI", "GFP"), 1),
    "Squid": (
        [f"0/B{w}_0_{z}_Fluorescence_{c}_nm_Ex.tiff" for w in (2, 3) for z in (0, 1)
         for c in (405, 488)],
        ["0/B2_0", "0/B3_0"], ("Fluorescence_405_nm_Ex", "Fluorescence_488_nm_Ex"), 2),
    "ImageXpress without plate, planes": (
        [f"TimePoint_1/A0{w}_s1_w{c}_z{z}.tif" for w in (1, 2) for z in (1, 2) for c in (1, 2)],
        ["TimePoint_1/A01_s1", "TimePoint_1/A02_s1"], ("w1", "w2"), 2),
    "LAS X raw tiles": (
        [f"Tile_001_s0{s}_z0{z}_RAW_ch0{c}.tif" for s in (1, 2) for z in (0, 1) for c in (0, 1)],
        ["Tile_001_s01", "Tile_001_s02"], ("ch00", "ch01"), 2),
    "SlideBook": (
        [f"Capture {i} - Position {i}_XY16_Z0{z}_T0_C{c}.tiff" for i in (1, 2) for z in (0, 1)
         for c in (0, 1)],
        ["Capture 1 - Position 1_XY16", "Capture 2 - Position 2_XY16"], ("C0", "C1"), 2),
    "ImageJ sequence": (
        [f"i{i}_t001_z00{z}_c00{c}.tif" for i in (1, 2) for z in (1, 2, 3) for c in (1, 2)],
        ["i1_t001", "i2_t001"], ("c001", "c002"), 3),
    "planes in folders": (
        [f"{c}/z0{z}/islet{i}.tif" for c in ("DAPI", "INS") for z in (1, 2) for i in (1, 2)],
        ["islet1", "islet2"], ("DAPI", "INS"), 2),
    "a folder for each islet": (
        [f"b1/islet{i}/{c}_z00{z}.tif" for i in (1, 2) for c in ("DAPI", "INS") for z in (1, 2)],
        ["b1/islet1", "b1/islet2"], ("DAPI", "INS"), 2),
    "channel's number, exposure and name": (
        [f"reg00{r}_cyc{n}_{c}_{t}ms.tif" for r in (1, 2)
         for n, c, t in ((1, "DAPI", 10), (1, "INS", 500), (2, "GCG", 500))],
        ["reg001", "reg002"], ("DAPI", "GCG", "INS"), 1),
    "a word before the channel's name": (
        [f"Well{w}_Channel{c}_Seq{w}.tif" for w in ("A01", "A02") for c in ("DAPI", "FITC")],
        ["WellA01_SeqA01", "WellA02_SeqA02"], ("DAPI", "FITC"), 1),
    "a serial number of the files": (
        ["A_DAPI_0001.tif", "A_INS_0002.tif", "B_DAPI_0003.tif", "B_INS_0004.tif"],
        ["A", "B"], ("DAPI", "INS"), 1),
    "a stain in the middle": (
        [f"d14_{c}_islet{i}.tif" for c in ("DAPI", "INS", "x") for i in (1, 2)],
        ["d14_islet1", "d14_islet2"], ("DAPI", "INS", "x"), 1),
}  # fmt: skip


#: only several images tell what belongs to the channel
NOT_BY_ONE_IMAGE = ("channel's number, exposure and name", "a serial number of the files")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_ways_of_naming(tmp_path: Path, scheme: str) -> None:
    names, images, channels, planes = SCHEMES[scheme]
    for k, name in enumerate(names):
        grey(tmp_path / name, k)
    listing, pattern = folder_of_images(tmp_path)
    assert pattern is not None
    assert [i.name for i in listing.images] == images
    for image in listing.images:
        assert len(image.paths) == len(channels) * planes
        one = scheme in NOT_BY_ONE_IMAGE
        every = tuple(Channel(c, "marker" if i else "dna") for i, c in enumerate(channels))
        known = Protocol(every, Reading(file_pattern=pattern)) if one else None
        opened = read_image(image.paths, projection="max", protocol=known)
        assert tuple(sorted(opened.channel_names)) == channels
        assert opened.metadata["n_planes"] == planes
        for name in channels:
            tokens = [names.index(p.relative_to(tmp_path).as_posix()) for p in image.paths]
            assert opened.channel(name)[0, 0] in tokens
    # any file of a set stands for it
    protocol = Protocol((Channel(channels[0], "dna"),), Reading(file_pattern=pattern))
    one = read_image(listing.images[0].paths[-1], protocol=protocol, projection="max")
    assert len(one.paths) == len(channels) * planes


@pytest.mark.parametrize("ending", ["C{}", "d{}", "ch0{}", "w{}"])
def test_whole_images_are_never_parts_of_a_set(tmp_path: Path, ending: str) -> None:
    for n in (1, 2, 3):
        meta = {"axes": "CYX", "Channel": {"Name": ["DAPI", "INS"]}}
        file = tmp_path / f"plate1_{ending.format(n)}.tif"
        tifffile.imwrite(file, np.zeros((2, 6, 7), np.uint16), ome=True, metadata=meta)
    assert find_pattern(sorted(tmp_path.iterdir())) is None
    assert len(draft_protocol(tmp_path).protocol.channels) == 2


@pytest.mark.parametrize("numbers", [range(400, 500), (405, 406, 407), (486, 487, 488, 489)])
def test_serial_numbers_are_no_laser_lines(tmp_path: Path, numbers: list[int]) -> None:
    for n in numbers:
        grey(tmp_path / f"w_{n}_abc.tif")
    assert find_pattern(sorted(tmp_path.iterdir())) is None


def test_single_channels_without_a_rule_draft_nothing(tmp_path: Path) -> None:
    for name in ("first.tif", "second.tif", "third.tif"):
        grey(tmp_path / name)
    with pytest.raises(ProtocolError, match=r"one channel each.*file_pattern"):
        draft_protocol(tmp_path)


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "labels").mkdir(parents=True)
    (run / "provenance.json").touch()
    grey(run / "labels" / "a.nuclei.tif")
    for name in ("a.tif", "MAX_a.tif", "a_thumb.tif", "flat_field.tif", ".b.tif", "MAX_c.tif"):
        grey(tmp_path / name)
    (tmp_path / "d.vsi").touch()
    grey(tmp_path / "tables" / "e.tif")
    (tmp_path / "tables" / "images.csv").touch()  # a table is no sign of a run
    (tmp_path / "link").symlink_to(tmp_path / "tables")
    (tmp_path / "gone.tif").symlink_to(tmp_path / "nothing.tif")
    listing = listing_of(tmp_path)
    assert [i.name for i in listing.images] == ["MAX_c.tif", "a.tif", "tables/e.tif"]
    why = {s.name: s.why for s in listing.skipped}
    for name, word in {
        "MAX_a.tif": "projection of a", "a_thumb.tif": "thumbnail", "flat_field.tif": "calibration",
        ".b.tif": "hidden", "d.vsi": "OME-TIFF", "run": "run", "link": "link to a folder",
        "gone.tif": "not there",
    }.items():  # fmt: skip
        assert word in why[name]


def test_include_and_exclude(tmp_path: Path) -> None:
    for name in ("a/x.tif", "a/y.tif", "b/x.tif"):
        grey(tmp_path / name)

    def names(**reading: tuple[str, ...]) -> list[str]:
        protocol = Protocol((Channel("DAPI", "dna"),), Reading(**reading))  # type: ignore[arg-type]
        return [i.name for i in images_in_folder(tmp_path, protocol)]

    assert names(include=("a",)) == ["a/x.tif", "a/y.tif"]
    assert names(include=("*.tif",), exclude=("x.*",)) == ["a/y.tif"]
    assert names(exclude=("a/*",)) == ["b/x.tif"]


def test_a_tinted_picture_is_one_channel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(32), np.arange(40)).astype(np.uint8)[..., None]
    for c, tint in (("CH1", 2), ("CH2", 1)):  # compression leaves a little in other colours
        encoded = imagecodecs.jpeg8_encode(smooth * (np.arange(3) == tint).astype(np.uint8))
        (tmp_path / "jpeg").mkdir(exist_ok=True)
        (tmp_path / "jpeg" / f"Image_1_{c}.jpg").write_bytes(encoded)
    lossy = read_image(sorted((tmp_path / "jpeg").iterdir()))
    assert lossy.channel_names == ("CH1", "CH2")
    assert lossy.metadata["lossy"]
    for c, tint in (("CH1", (0, 0, 1)), ("CH2", (0.5, 0, 1))):
        light = rng.integers(0, 255, (9, 8, 1))
        rgb = np.rint(light * np.array(tint)).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"Image_1_{c}.tif", rgb, photometric="rgb", metadata=None)
    files = sorted(tmp_path.glob("*.tif"))
    image = read_image(files)
    assert image.channel_names == ("CH1", "CH2")
    np.testing.assert_array_equal(image.channel("CH2"), rgb[..., 2])
    assert not image.metadata["rgb"]


@pytest.mark.parametrize(
    "names",
    [
        [f"p_{w}f01.tif" for w in ("C02", "C03", "C04")],  # wells of row C
        [f"l{i}_d{d}f1.tif" for i in (1, 2) for d in (14, 21)],  # days
        [f"islet{i}/{z:04}.tif" for i in (1, 2) for z in range(4)],
    ],
)
def test_wells_days_and_bare_numbers_are_no_channels(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        grey(tmp_path / name)
    assert find_pattern(sorted(tmp_path.rglob("*.tif"))) is None
    with pytest.raises(ProtocolError, match=r"one channel each.*file_pattern"):
        draft_protocol(tmp_path)


def test_what_is_made_of_an_image_is_not_counted(tmp_path: Path) -> None:
    made = {
        "Projected-a.tif": "projection", "a - MIP.tif": "projection", "a_EDF.tif": "projection",
        "a_Maximum intensity projection.tif": "projection", "MaxProj_a.tif": "projection",
        "Merged_a.tif": "overlay", "a_scalebar.tif": "overlay", "a_cp_masks.tif": "mask",
        "a_Probabilities.tif": "mask", "a_decon.tif": "processed", "a_lowres.tif": "smaller",
        "a.jpg": "same image", "a.tif": "same image", "thumbs/a.tif": "thumbnail",
        "Background.tif": "calibration", "dark_1.tif": "calibration",
    }  # fmt: skip
    kept = ["a.ome.tif", "drug_large.tif", "drug_small.tif", "max.tif"]
    for name in (*kept, *made):
        grey(tmp_path / name)
    listing = listing_of(tmp_path)
    assert [i.name for i in listing.images] == kept
    why = {s.name: s.why for s in listing.skipped}
    assert why.keys() == made.keys()
    assert all(word in why[name] for name, word in made.items())


def stack(file: Path, planes: int, value: int, channels: tuple[str, ...] = ()) -> None:
    """Pages of ``value`` and one more for each: bare, or channels that are named."""
    pixels = np.stack([np.full((6, 7), value + z, np.uint16) for z in range(planes)])
    meta = {"axes": "CYX", "Channel": {"Name": channels}} if channels else None
    tifffile.imwrite(file, pixels, ome=bool(channels), metadata=meta, photometric="minisblack")


def test_a_stack_for_each_channel(tmp_path: Path) -> None:
    for s in (1, 2):
        for c, name in ((1, "DAPI"), (2, "Cy5")):
            stack(tmp_path / f"exp_w{c}{name}_s{s}.TIF", 3, 100 * s + 10 * c)
    listing, pattern = folder_of_images(tmp_path)
    assert [(i.name, len(i.paths)) for i in listing.images] == [("exp_s1", 2), ("exp_s2", 2)]
    draft = draft_protocol(tmp_path).protocol
    assert (draft.reading.projection, draft.reading.file_pattern) == ("max", pattern)
    image = read_image(listing.images[1].paths, protocol=draft)
    assert [image.channel(n)[0, 0] for n in ("DAPI", *draft.markers)] == [212, 222]


def test_stacks_of_other_names_stay_what_they_are(tmp_path: Path) -> None:
    for s in (1, 2):
        for c in (1, 2):
            stack(tmp_path / f"line{s}_C{c}.tif", 3, c)
    assert folder_of_images(tmp_path)[1] is None


@pytest.mark.parametrize(("planes", "are"), [((0, 1, 2), True), ((1, 2), True), ((4, 7), False)])
def test_a_file_of_all_channels_for_each_plane(
    tmp_path: Path, planes: tuple[int, ...], are: bool
) -> None:
    for i in (1, 2):
        for z in planes:
            stack(tmp_path / f"islet{i}_z{z}.ome.tif", 2, 100 * i + 10 * z, ("INS", "DAPI"))
    listing, pattern = folder_of_images(tmp_path)
    if not are:
        assert pattern is None
        return
    assert [i.name for i in listing.images] == ["islet1", "islet2"]
    draft = draft_protocol(tmp_path).protocol
    image = read_image(listing.images[1].paths[0], protocol=draft)
    assert image.metadata["n_planes"] == len(planes)
    last = 200 + 10 * planes[-1]
    assert [int(image.channel(n)[0, 0]) for n in ("INS", "DAPI")] == [last, last + 1]


def test_tiles_beside_their_mosaic_count_once(tmp_path: Path) -> None:
    for name in ("a_stitched.tif", "a_tile1.tif", "a_tile_02.tif", "b_tile1.tif"):
        stack(tmp_path / name, 2, 1, ("DAPI", "INS"))
    assert [i.name for i in listing_of(tmp_path).images] == ["a_stitched.tif", "b_tile1.tif"]


def test_labels_and_overviews_of_slides_are_left_out(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "slide.ome.tif") as tif:
        for name, shape in (("scan", (2, 9, 8)), ("label image", (5, 4)), ("macro", (4, 5))):
            tif.write(np.ones(shape, np.uint16), photometric="minisblack", metadata={"Name": name})
    listing = listing_of(tmp_path)
    assert [i.name for i in listing.images] == ["slide.ome.tif/scan"]
    assert [s.name for s in listing.skipped] == ["slide.ome.tif/label image", "slide.ome.tif/macro"]


def test_projections_beside_planes_count_once(tmp_path: Path) -> None:
    for c in (1, 2):
        grey(tmp_path / f"x/MAX_a_ch0{c}.tif", 90 + c)
        grey(tmp_path / f"y/p_B02_s1_w{c}.TIF", 90 + c)
        for z in (1, 2):
            grey(tmp_path / f"x/a_z{z}_ch0{c}.tif", 10 * z + c)
            grey(tmp_path / f"y/ZStep_{z}/p_B02_s1_w{c}.TIF", 10 * z + c)
    for folder, name, n in (("x", "a", 4), ("y", "p_B02_s1", 2)):
        listing, _ = folder_of_images(tmp_path / folder)
        assert [(i.name, len(i.paths)) for i in listing.images] == [(name, n)]
        assert len(listing.skipped) == 6 - n


INDEX = """<EvaluationInputData xmlns="x"><Images>{}</Images></EvaluationInputData>"""


def test_an_operetta_index_names_channels_and_scale(tmp_path: Path) -> None:
    entries = ""
    for c, name in ((1, "DAPI"), (2, "Alexa 647")):
        file = grey(tmp_path / f"r02c03f01p01-ch{c}sk1fk1fl1.tiff", c)
        entries += (
            f"<Image><URL>{file.name}</URL><ChannelName>{name}</ChannelName>"
            '<ImageResolutionX Unit="m">5.98E-07</ImageResolutionX>'
            '<ImageResolutionY Unit="m">5.98E-07</ImageResolutionY></Image>'
        )
    (tmp_path / "Index.idx.xml").write_text(INDEX.format(entries))
    draft = draft_protocol(tmp_path)
    assert [c.source or c.name for c in draft.protocol.channels] == ["DAPI", "Alexa 647"]
    (found,) = images_in_folder(tmp_path, draft.protocol)
    image = read_image(found.paths, protocol=draft.protocol)
    assert image.pixel_size_um == pytest.approx(0.598)
    assert image.sources["pixel_size_um"] == "Index.idx.xml"
    assert image.channel(image.channel_names[1]).max() == 2


def test_a_cellvoyager_measurement(tmp_path: Path) -> None:
    records = ""
    for c in (1, 2):
        file = grey(tmp_path / f"p_B02_T0001F001L01A0{c}Z01C0{c}.tif", c)
        records += f'<b:MeasurementRecord b:Type="IMG" b:Ch="{c}">{file.name}</b:MeasurementRecord>'
    space = 'xmlns:b="urn:b"'
    (tmp_path / "MeasurementData.mlf").write_text(f"<b:D {space}>{records}</b:D>")
    (tmp_path / "MeasurementDetail.mrf").write_text(
        f"<b:D {space}>"
        + "".join(
            f'<b:MeasurementChannel b:Ch="{c}" b:HorizontalPixelDimension="0.325" '
            'b:VerticalPixelDimension="0.325"/>'
            for c in (1, 2)
        )
        + "</b:D>"
    )
    (tmp_path / "s.mes").write_text(
        f'<b:S {space}><b:Channel b:Ch="1" b:Target="DAPI"/>'
        '<b:Channel b:Ch="2" b:Target="INS"/></b:S>'
    )
    protocol = draft_protocol(tmp_path).protocol
    assert [c.name for c in protocol.channels] == ["DAPI", "INS"]
    (found,) = images_in_folder(tmp_path, protocol)
    assert read_image(found.paths, protocol=protocol).pixel_size_um == 0.325


def test_results_system_folders_and_archives_are_named(tmp_path: Path) -> None:
    made = {
        "results/a_overlay.tif": "made of a.tif", "output/a.tif": "made of a.tif",
        "$RECYCLE.BIN": "deleted", "@eaDir": "deleted", "b.ome.zarr.zip": "unpack",
        "c.tif.gz": "unpack", "d.C01": "OME-TIFF", "e.mcd": "OME-TIFF",
    }  # fmt: skip
    for name in ("a.tif", "results/a_overlay.tif", "output/a.tif", "$RECYCLE.BIN/x.tif",
                 "@eaDir/a.tif", "masks/z.tif"):  # fmt: skip
        grey(tmp_path / name)
    for name in ("b.ome.zarr.zip", "c.tif.gz", "d.C01", "e.mcd", "RoiSet.zip"):
        (tmp_path / name).touch()
    listing = listing_of(tmp_path)
    # what a folder of results holds that has no image above it is an image
    assert [i.name for i in listing.images] == ["a.tif", "masks/z.tif"]
    why = {s.name: s.why for s in listing.skipped}
    assert why.keys() == made.keys()
    assert all(word in why[name] for name, word in made.items())


def test_lower_resolutions_of_an_image_are_not_counted(tmp_path: Path) -> None:
    stack_ = np.ones((2, 32, 48), np.uint16)
    with tifffile.TiffWriter(tmp_path / "slide.ome.tif") as tif:
        for n, (step, um) in enumerate(((1, 0.5), (2, 1.01), (4, 2.0), (2, 0.5))):
            tif.write(stack_[:, ::step, ::step], photometric="minisblack", metadata={
                "axes": "CYX", "Name": f"scan {n}", "PhysicalSizeX": um, "PhysicalSizeY": um,
            })  # fmt: skip
    listing = listing_of(tmp_path)
    # one of half the size and the same pixels is a smaller field
    names = ["slide.ome.tif/scan 0", "slide.ome.tif/scan 3"]
    assert [i.name for i in listing.images] == names
    assert all("lower resolution" in s.why for s in listing.skipped)
    assert len(listing.skipped) == 2


def test_planes_that_do_not_look_alike_are_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    field = np.kron(rng.integers(0, 900, (12, 12)), np.ones((8, 8))).astype(np.uint16)
    for folder, alike in (("stack", True), ("zones", False)):
        for z in (1, 2, 3):
            own = field if alike else np.roll(field, 32 * z, (0, 1))
            pixels = own + rng.integers(0, 200, (2, *own.shape)).astype(np.uint16)
            (tmp_path / folder / "single").mkdir(parents=True, exist_ok=True)
            file = tmp_path / folder / f"donor_Z{z}.ome.tif"
            meta = {"axes": "CYX", "Channel": {"Name": ["DAPI", "INS"]}, "PhysicalSizeX": 0.5}
            tifffile.imwrite(file, pixels, ome=True, metadata=meta, photometric="minisblack")
            for c, name in enumerate(("DAPI", "INS")):
                single = tmp_path / folder / "single" / f"donor_Z{z}_{name}.tif"
                tifffile.imwrite(single, pixels[c], metadata=None)
        single = tmp_path / folder / "single"
        for where, leave in ((tmp_path / folder, ("single",)), (single, ())):
            listing, _ = folder_of_images(where, exclude=leave)
            stems = [i.name.removesuffix(".ome.tif") for i in listing.images]
            assert stems == (["donor"] if alike else ["donor_Z1", "donor_Z2", "donor_Z3"])
            draft = draft_protocol(where, exclude=leave)
            asked = [q for q in draft.questions if "named like focal planes" in q]
            assert bool(asked) is not alike
            assert ("CHECK: images are named" in draft.text) is not alike
    with pytest.raises(ProtocolError, match="what the files are"):
        protocol_of_folder(tmp_path / "zones", exclude=("single",))


def test_micro_manager_names_channels_beside_its_files(tmp_path: Path) -> None:
    said: dict[str, object] = {"Summary": {}}
    for c, name in enumerate(("DAPI", "Cy5")):
        file = f"img_channel00{c}_position000_time000000000_z000.tif"
        grey(tmp_path / "Pos0" / file, c)
        said[f"Metadata-Pos0/{file}"] = {"PixelSizeUm": 0.65, "Channel": name}
    (tmp_path / "Pos0" / "metadata.txt").write_text(json.dumps(said))
    (image,) = folder_of_images(tmp_path)[0].images
    opened = read_image(image.paths)
    assert (opened.channel_names, opened.pixel_size_um) == (("DAPI", "Cy5"), 0.65)


def test_a_file_of_an_ndtiff_set_is_refused(tmp_path: Path) -> None:
    stack(tmp_path / "a_NDTiffStack.tif", 4, 1)
    (tmp_path / "NDTiff.index").touch()
    with pytest.raises(ImageReadError, match=r"NDTiff.*OME-TIFF"):
        read_image(tmp_path / "a_NDTiffStack.tif")
