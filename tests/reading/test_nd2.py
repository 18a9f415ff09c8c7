"""Nikon ND2: files of several channels, planes, positions and colours, and those that are refused.

The ``nd2`` library itself reads what `nikon` writes; a file's facts are held against its answers.
"""

from __future__ import annotations

import pickle
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from islet_imaging.errors import ImageReadError
from islet_imaging.experiment.sample_sheet import images_in_folder
from islet_imaging.reading import read_image
from islet_imaging.reading.read import open_source
from islet_imaging.scoring.folder import score_folder
from tests.reading.nikon import chunk, nikon
from tests.stainings import staining, write

nd2 = pytest.importorskip("nd2", reason="needs the formats extra")
RNG = np.random.default_rng(16)


def frames(n: int, channels: int = 2, shape: tuple[int, int] = (17, 23)) -> np.ndarray:
    return RNG.integers(1, 4000, (n, *shape, channels)).astype(np.uint16)


def test_channels_scale_and_what_the_microscope_was_set_to(tmp_path: Path) -> None:
    stored = frames(1)
    file = nikon(tmp_path / "a.nd2", stored, um=0.325)
    with nd2.ND2File(file) as opened:
        assert dict(opened.sizes) == {"C": 2, "Y": 17, "X": 23}
        assert opened.voxel_size().x == 0.325
        np.testing.assert_array_equal(opened.asarray(), np.moveaxis(stored[0], -1, 0))
    image = read_image(file)
    assert image.channel_names == ("DAPI", "INS")
    assert (image.shape, image.dtype) == ((17, 23), np.uint16)
    assert (image.pixel_size_um, image.sources["pixel_size_um"]) == (0.325, "ND2")
    assert image.metadata["exposure_s"] == {"DAPI": 0.1, "INS": 0.2}
    assert image.metadata["emission_nm"] == {"DAPI": 450, "INS": 550}
    assert image.metadata["colour"] == {"DAPI": "#0000ff", "INS": "#00ff00"}
    assert image.metadata["objective_na"] == 0.75
    assert image.metadata["significant_bits"] == 12
    for i, name in enumerate(image.channel_names):
        np.testing.assert_array_equal(image.channel(name), stored[0, ..., i])
        part = pickle.loads(pickle.dumps(image)).channel(name, (slice(3, 9), slice(20, 99)))
        np.testing.assert_array_equal(part, stored[0, 3:9, 20:, i])


def test_a_size_that_is_not_calibrated_is_none(tmp_path: Path) -> None:
    """The library answers 1 um."""
    file = nikon(tmp_path / "a.nd2", frames(1), um=None)
    with nd2.ND2File(file) as opened:
        assert opened.voxel_size().x == 1.0
    assert read_image(file).pixel_size_um is None


def test_positions_are_images_and_planes_a_stack(tmp_path: Path) -> None:
    stored = frames(6)
    file = nikon(tmp_path / "plate.nd2", stored, positions=["B02", "", "B02"], planes=2)
    with pytest.raises(ImageReadError, match=r"3 images \(B02, XYPos_1, B02 3\); name one"):
        read_image(file)
    for p, name in enumerate(("B02", "XYPos_1", "B02 3")):
        image = read_image(file / name, projection="max")
        np.testing.assert_array_equal(
            image.channel("INS"), stored[2 * p : 2 * p + 2, ..., 1].max(0)
        )
        one = read_image(file / name, projection="plane", plane=1)
        np.testing.assert_array_equal(one.channel("DAPI"), stored[2 * p + 1, ..., 0])
    assert [i.name for i in images_in_folder(tmp_path)] == [
        "plate.nd2/B02",
        "plate.nd2/B02 3",
        "plate.nd2/XYPos_1",
    ]


def test_a_colour_camera_stores_blue_green_red(tmp_path: Path) -> None:
    stored = frames(1, 3).astype(np.uint8)
    file = nikon(tmp_path / "rgb.nd2", stored, names=["Brightfield"], samples=3)
    image = read_image(file)
    assert image.channel_names == ("red", "green", "blue")
    assert image.metadata["rgb"]
    for i, name in enumerate(("blue", "green", "red")):
        np.testing.assert_array_equal(image.channel(name), stored[0, ..., i])


def test_one_channel_and_one_row(tmp_path: Path) -> None:
    stored = frames(1, 1, (1, 9))
    image = read_image(nikon(tmp_path / "a.nd2", stored, names=["DAPI"]))
    np.testing.assert_array_equal(image.channel("DAPI"), stored[0, ..., 0])


def test_frames_that_were_never_taken_are_not_black_images(tmp_path: Path) -> None:
    """The library gives zeros for them."""
    file = nikon(tmp_path / "a.nd2", frames(2), positions=["one", "two"], left_out=[1])
    with nd2.ND2File(file) as opened:
        assert not opened.read_frame(1).any()
    assert read_image(file / "one").channel("INS").any()
    with pytest.raises(ImageReadError, match=r"frame 2 is not in the file: .* stopped"):
        read_image(file / "two").channel("INS")


def test_a_dark_frame_that_was_taken_is_read(tmp_path: Path) -> None:
    """Confocal microscopes store zeros where there is no light."""
    image = read_image(nikon(tmp_path / "a.nd2", np.zeros((1, 17, 23, 2), np.uint16)))
    assert not image.channel("INS").any()


def test_lossless_compression_is_undone_and_lossy_refused(tmp_path: Path) -> None:
    stored = frames(1)
    file = nikon(tmp_path / "a.nd2", stored, eCompression=0)
    raw = file.read_bytes()
    # the one frame lies behind the first 4096 bytes
    plain = chunk(b"ImageDataSeq|0!", bytes(8) + stored[0].tobytes())
    packed = chunk(b"ImageDataSeq|0!", bytes(8) + zlib.compress(stored[0].tobytes()))
    file.write_bytes(raw[:4096] + packed.ljust(len(plain), b"\0") + raw[4096 + len(plain) :])
    np.testing.assert_array_equal(read_image(file).channel("INS"), stored[0, ..., 1])
    with pytest.raises(ImageReadError, match="compressed with loss"):
        read_image(nikon(tmp_path / "b.nd2", stored, eCompression=1))


def test_what_is_no_image_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="3 time points; save one file for each"):
        read_image(nikon(tmp_path / "t.nd2", frames(3), times=3))
    with pytest.raises(ImageReadError, match="4 samples in a channel"):
        read_image(nikon(tmp_path / "s.nd2", frames(1, 4), names=["x"], samples=4))
    with pytest.raises(ImageReadError, match="the header declares"):
        read_image(nikon(tmp_path / "h.nd2", frames(1), uiHeight=2**31))
    whole = nikon(tmp_path / "a.nd2", frames(1)).read_bytes()
    for length in (50, 5000, len(whole) - 1):
        (tmp_path / "cut.nd2").write_bytes(whole[:length])
        with pytest.raises(ImageReadError, match=r"cut\.nd2: "):
            read_image(tmp_path / "cut.nd2")
    (tmp_path / "old.nd2").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100))
    with pytest.raises(ImageReadError, match="ND2 was before NIS-Elements 3"):
        read_image(tmp_path / "old.nd2")


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = nikon(tmp_path / "a.nd2", frames(1))
    monkeypatch.setitem(sys.modules, "nd2", None)
    with pytest.raises(ImageReadError, match=r"islet-imaging\[formats\]"):
        open_source(file)


def test_a_file_of_positions_scores_as_its_islets_saved_one_by_one(tmp_path: Path) -> None:
    roles = {"2nd only": "negative_control", "B02": "sample"}
    pixels = {n: staining(i, 0.5 * i, (160, 160)) for i, n in enumerate(roles)}
    one, each = tmp_path / "one", tmp_path / "each"
    one.mkdir(), each.mkdir()
    stack = np.stack([np.moveaxis(p, 0, -1) for p in pixels.values()])
    nikon(one / "plate.nd2", stack, positions=list(roles))
    for name, planes in pixels.items():
        write(each / f"{name}.ome.tif", planes)
    tables = []
    for folder, form in ((one, "plate.nd2/{}"), (each, "{}.ome.tif")):
        rows = [f"{form.format(n)},x,1,{role}" for n, role in roles.items()]
        sheet = folder / "samples.csv"
        sheet.write_text("\n".join(["file,condition,batch,role", *rows]), "utf-8")
        run = score_folder(folder, tmp_path / f"run_{folder.name}", samples=sheet, workers=1)
        assert set(run.cells["image"]) == {form.format(n) for n in roles}
        tables.append(run.cells.drop(columns="image"))
    assert len(tables[0]) == 50
    pd.testing.assert_frame_equal(*tables)
