"""Drafts load, say what they guessed, and never fill in a pixel size."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import tifffile

from islet_imaging.errors import ImageReadError, ProtocolError
from islet_imaging.experiment.drafting import (
    draft_protocol,
    draft_samples,
    inspect_path,
    protocol_of_folder,
)
from islet_imaging.experiment.sample_sheet import images_in_folder, read_samples
from islet_imaging.protocol import Protocol
from islet_imaging.reading import read_image
from islet_imaging.reading.naming import find_pattern


def ome(file: Path, names: list[str], *, planes: int = 1, size: float | None = 0.5) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    meta: dict[str, object] = {"axes": "ZCYX", "Channel": {"Name": names}}
    if size:
        meta |= {"PhysicalSizeX": size, "PhysicalSizeY": size}
    stack = np.zeros((planes, len(names), 8, 9), np.uint16)
    tifffile.imwrite(file, stack, photometric="minisblack", ome=True, metadata=meta)


def test_a_draft_that_settles_everything(tmp_path: Path) -> None:
    names = ["Hoechst 33342", "AF488-Insulin", "NKX6.1", "TL"]
    ome(tmp_path / "a.ome.tif", names, planes=4)
    draft = draft_protocol(tmp_path)
    assert draft.questions == ()
    protocol = draft.protocol
    assert [(c.name, c.role, c.compartment) for c in protocol.channels] == [
        ("Hoechst", "dna", "cytoplasm"),
        ("INS", "marker", "cytoplasm"),
        ("NKX6.1", "marker", "nucleus"),
        ("TL", "ignore", "cytoplasm"),
    ]
    assert protocol.reading.projection == "max"
    assert protocol.reading.pixel_size_um is None
    assert protocol_of_folder(tmp_path) == protocol
    (tmp_path / "p.yaml").write_text(draft.text)
    assert Protocol.load(tmp_path / "p.yaml") == protocol
    image = read_image(tmp_path / "a.ome.tif", protocol=protocol)
    assert image.channel_names == ("Hoechst", "INS", "NKX6.1", "TL")


def test_a_draft_says_what_it_guessed(tmp_path: Path) -> None:
    ome(tmp_path / "a.ome.tif", ["FITC", "Cy5"], size=None)
    draft = draft_protocol(tmp_path)
    assert len(draft.questions) == 3
    assert draft.text.count("CHECK") >= 3
    assert "no file states it" in draft.text
    with pytest.raises(ProtocolError, match="do not say which channel is DNA"):
        protocol_of_folder(tmp_path)
    # renaming a channel in the draft leaves it readable
    data = draft.protocol.to_dict()
    for channel, name in zip(data["channels"], "ab", strict=True):
        channel["name"] = name
    protocol = Protocol.from_dict(data)
    assert read_image(tmp_path / "a.ome.tif", protocol=protocol).channel_names == ("a", "b")


def test_odd_channel_names_survive_yaml(tmp_path: Path) -> None:
    names = ["DAPI: #1", "- no", "on", "é 'quoted'"]
    ome(tmp_path / "a.ome.tif", names)
    draft = draft_protocol(tmp_path)
    assert read_image(tmp_path / "a.ome.tif", protocol=draft.protocol).shape == (8, 9)


def test_images_that_differ_or_fail_are_named(tmp_path: Path) -> None:
    ome(tmp_path / "a.ome.tif", ["DAPI", "INS"])
    ome(tmp_path / "b.ome.tif", ["DAPI", "INS"])
    ome(tmp_path / "c.ome.tif", ["DAPI", "GCG"])
    (tmp_path / "d.tif").write_bytes(b"<html>")
    draft = draft_protocol(tmp_path)
    assert [c.name for c in draft.protocol.channels] == ["DAPI", "INS"]
    assert "some images have other channels" in draft.text
    assert "web page" in draft.text
    said = inspect_path(tmp_path)
    assert "4 images" in said
    assert "cannot be read" in said
    assert "looks like INS (marker)" in said


def test_nothing_to_draft_from(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="no images here"):
        draft_protocol(tmp_path)
    (tmp_path / "d.tif").write_bytes(b"<html>")
    with pytest.raises(ImageReadError, match="none of its images can be read"):
        draft_protocol(tmp_path)
    with pytest.raises(ProtocolError, match="no such folder"):
        draft_protocol(tmp_path / "none")
    with pytest.raises(ImageReadError):
        inspect_path(tmp_path / "d.tif")


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (["a_d0.tif", "a_d1.tif", "b_d0.tif", "b_d1.tif"], ["a", "b"]),
        (["w f00d0.tif", "w f00d1.tif"], ["w f00"]),
        (["a_C1.TIF", "a_C2.tif"], ["a"]),
        (["a_ch00.tif", "a_ch01.tif", "a_ch02.tif"], ["a"]),
        (["p_s1_w1DAPI.tif", "p_s1_w2INS.tif", "p_s2_w1DAPI.tif", "p_s2_w2INS.tif"],
         ["p_s1", "p_s2"]),
        (["x-DAPI.png", "x-c+r.png", "y-DAPI.png", "y-c+r.png"], ["x", "y"]),
        (["C1-a b.tif", "C2-a b.tif"], ["a b"]),
        (["a.tif", "b.tif"], None),
        (["islet1_DAPI.tif", "islet2_INS.tif"], None),
        (["day_1.tif", "day_2.tif"], None),
        ([], None),
    ],
)  # fmt: skip
def test_patterns_are_found(tmp_path: Path, names: list[str], images: list[str] | None) -> None:
    for name in names:
        tifffile.imwrite(tmp_path / name, np.zeros((4, 5), np.uint8))
    pattern = find_pattern(sorted(tmp_path.iterdir()))
    if images is None:
        assert pattern is None
        return
    assert pattern is not None
    protocol = draft_protocol(tmp_path).protocol
    assert protocol.reading.file_pattern == pattern
    assert [i.name for i in images_in_folder(tmp_path, protocol)] == images


def test_sheet_from_folders_and_words(tmp_path: Path) -> None:
    for name in (
        "drug/batch1/a.ome.tif",
        "drug/batch2/secondary only.ome.tif",
        "vehicle/2024-05-03/b_unstained.ome.tif",
        "vehicle/batch1/single INS.ome.tif",
        "control/batch1/c.ome.tif",
    ):
        ome(tmp_path / name, ["DAPI", "INS"])
    protocol = draft_protocol(tmp_path).protocol
    text = draft_samples(tmp_path, protocol)
    rows = {r["file"]: r for r in csv.DictReader(io.StringIO(text))}
    one = rows["drug/batch1/a.ome.tif"]
    assert (one["condition"], one["batch"], one["role"]) == ("drug", "batch1", "sample")
    assert rows["drug/batch2/secondary only.ome.tif"]["role"] == "negative_control"
    assert rows["vehicle/2024-05-03/b_unstained.ome.tif"]["role"] == "negative_control"
    assert rows["vehicle/2024-05-03/b_unstained.ome.tif"]["batch"] == "2024-05-03"
    assert rows["vehicle/batch1/single INS.ome.tif"]["role"] == "single_stain:INS"
    # a condition called control is not a staining control, but is worth a look
    assert rows["control/batch1/c.ome.tif"]["role"] == "sample"
    assert "CHECK role" in rows["control/batch1/c.ome.tif"]["note"]
    file = tmp_path / "samples.csv"
    file.write_text(text)
    read = read_samples(file, tmp_path, protocol)
    assert not read.problems
    assert len(read.samples) == 5


def test_real_folders(data_dir: Path) -> None:
    folder = data_dir / "marker/cellprofiler_examples/ExamplePercentPositive"
    draft = draft_protocol(folder)
    assert [c.source for c in draft.protocol.channels] == ["d0", "d1"]
    assert "pixel size" in " ".join(draft.questions)
    (image,) = images_in_folder(folder, draft.protocol)
    assert image.name == "images/AS_09125_050116030001_D03f00"
    assert read_image(image.paths, protocol=draft.protocol).channel_names == ("d0", "d1")
    assert "0.5687 um (ImageJ properties)" in inspect_path(
        data_dir / "marker/double_positive_nuclei"
    )
    islet = draft_protocol(data_dir / "islet/human_islet")
    assert [c.source for c in islet.protocol.channels] == ["red", "green", "blue"]


def test_a_dye_beside_a_name_that_says_nothing(tmp_path: Path) -> None:
    channel = {"Name": ["Ch1-T1", "Ch2-T2"], "Fluor": ["Alexa Fluor 647", "DAPI"]}
    for name in ("a", "b"):
        pixels = np.zeros((2, 8, 9), np.uint16)
        meta = {"axes": "CYX", "Channel": channel, "PhysicalSizeX": 0.5}
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", pixels, ome=True, metadata=meta)
    draft = draft_protocol(tmp_path)
    assert [(c.name, c.role, c.source) for c in draft.protocol.channels] == [
        ("Ch1-T1", "marker", "Ch1-T1"), ("DAPI", "dna", "Ch2-T2")]  # fmt: skip
    assert draft.questions == ("what these channels are: Ch1-T1",)


def test_names_that_would_break_a_table(tmp_path: Path) -> None:
    pixels = np.zeros((3, 8, 9), np.uint16)
    names = ["DAPI; 405", "Insulin, AF488", 'a "new" marker, 1:500']
    meta = {"axes": "CYX", "Channel": {"Name": names}, "PhysicalSizeX": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, ome=True, metadata=meta)
    protocol = draft_protocol(tmp_path).protocol
    assert [(c.name, c.source) for c in protocol.channels] == [
        ("DAPI", names[0]), ("INS", names[1]), ("a new marker 1:500", names[2])]  # fmt: skip
    assert len(read_image(tmp_path / "a.ome.tif", protocol=protocol).channel_names) == 3
