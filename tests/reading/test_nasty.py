"""268 odd, fuzzed and hostile TIFFs: each is read rightly or refused by name, fast and small."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from islet_imaging.errors import ImageReadError
from islet_imaging.experiment.sample_sheet import listing_of
from islet_imaging.reading import read_image

_SCRIPT = """
import json, sys, time, warnings
from pathlib import Path
warnings.simplefilter("error")
from islet_imaging.errors import IsletImagingError
from islet_imaging.reading import read_image
import tifffile, imagecodecs
def peak_kib():
    # of this process alone: getrusage would count what the parent had in memory
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(v.split()[1]) for v in lines if v.startswith("VmHWM")), 0)
out = []
for file in sorted(p for p in Path(sys.argv[1]).rglob("*") if p.is_file()):
    start = time.perf_counter()
    cpu = time.process_time()
    try:
        image = read_image(file)
        for name in image.channel_names:
            image.channel(name)
        what, text = "read", ""
    except IsletImagingError as error:
        what, text = "refused", str(error)
    except BaseException as error:
        what, text = "raw", repr(error)
    out.append([str(file), what, text, time.process_time() - cpu,
                peak_kib()])
print(json.dumps(out))
"""


def test_every_file_is_read_or_refused(data_dir: Path) -> None:
    folder = data_dir / "nasty"
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stderr == "", "a library printed"
    results = json.loads(done.stdout)
    assert len(results) >= 268
    assert [r for r in results if r[1] == "raw"] == []
    for file, what, text, seconds, peak_kib in results:
        assert seconds < 2, file
        assert peak_kib < 500 * 1024, file
        if what == "refused":
            assert Path(file).name in text
            assert not _INTERNALS.search(text), text
    assert sum(r[1] == "read" for r in results) > 150


#: what a message to whoever made the image never holds
_INTERNALS = re.compile(
    r"Traceback|\w+Error\b|object has no|list index|NoneType|0x[0-9a-f]{6}|<class"
)


def originals(folder: Path) -> list[Path]:
    """Small valid images of every kind that is read without an extra."""
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 4096, (2, 40, 37)).astype(np.uint16)
    colours = rng.integers(0, 255, (64, 48, 3)).astype(np.uint8)
    meta = {"axes": "CYX", "Channel": {"Name": ["DAPI", "INS"]}, "PhysicalSizeX": 0.5}
    plain = {"photometric": "minisblack", "metadata": meta}
    written: dict[str, dict[str, object]] = {
        "plain.ome.tif": plain,
        "zlib.ome.tif": {**plain, "compression": "zlib", "predictor": True},
        "tiles.ome.tif": {**plain, "compression": "lzw", "tile": (16, 16)},
        "big.ome.tif": {**plain, "bigtiff": True, "compression": "zstd"},
        "imagej.tif": {"imagej": True, "metadata": {"axes": "CYX", "Labels": ["DAPI", "INS"]}},
    }
    for name, options in written.items():
        tifffile.imwrite(folder / name, stack, **options)
    for name, kind in (("jpeg.tif", "jpeg"), ("j2k.tif", "jpeg2000"), ("png.tif", "png")):
        tifffile.imwrite(folder / name, colours, photometric="rgb", compression=kind,
                         tile=(32, 48), metadata=None)  # fmt: skip
    (folder / "a.png").write_bytes(imagecodecs.png_encode(colours))
    (folder / "a.jpg").write_bytes(imagecodecs.jpeg8_encode(colours))
    return sorted(folder.iterdir())


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A file with one kind of damage: flipped bytes, huge numbers, a cut, a piece moved."""
    out = bytearray(data)
    kind = rng.integers(5)
    if kind == 0:
        for at in rng.integers(0, len(out), rng.integers(1, 20)):
            out[at] = rng.integers(256)
    elif kind == 1:  # where headers and tags are
        for at in rng.integers(0, min(400, len(out) - 4), rng.integers(1, 4)):
            value = int(rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000, 65500]))
            out[at : at + 4] = value.to_bytes(4, "little" if rng.random() < 0.5 else "big")
    elif kind == 2:
        del out[rng.integers(1, len(out)) :]
    elif kind == 3:
        a, b, n = rng.integers(0, len(out), 3)
        out[a : a + n % 200] = out[b : b + n % 200]
    else:
        at = rng.integers(0, len(out) - 8)
        out[at : at + 8] = bytes(rng.integers(0, 256, 8).tolist())
    return bytes(out)


def test_500_mutations_are_read_or_refused(tmp_path: Path) -> None:
    """No traceback, no hang, no gigabytes, and no words of Python, whatever the damage."""
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    files = originals(tmp_path / "good")
    rng = np.random.default_rng(20)
    for n in range(500):
        file = files[n % len(files)]
        data = mutated(file.read_bytes(), rng)
        (tmp_path / "bad" / f"{n:03}_{file.name}").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path / "bad")],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stderr == "", "a library printed"
    results = json.loads(done.stdout)
    assert len(results) == 500
    assert [r for r in results if r[1] == "raw"] == []
    for file, what, text, seconds, peak_kib in results:
        assert seconds < 20, file
        assert peak_kib < 2 * 2**20, file
        if what == "refused":
            assert Path(file).name in text
            assert not _INTERNALS.search(text), text


def test_a_stream_that_declares_more_than_its_tile(tmp_path: Path) -> None:
    """A tile of 64 x 64 px whose JPEG says 65,500 x 65,500 px asks for 4 GiB of a decoder."""
    file = tmp_path / "bomb.tif"
    tifffile.imwrite(file, np.zeros((64, 64), np.uint8), compression="jpeg", metadata=None)
    data = bytearray(file.read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (65500).to_bytes(2, "big") * 2
    file.write_bytes(bytes(data))
    with pytest.raises(ImageReadError, match="says it is 65500 x 65500 px"):
        read_image(file).channel("channel 1")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system here")
def test_pipes_devices_and_long_names(tmp_path: Path) -> None:
    """Nothing waits for a writer, or reads zeros for ever."""
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "zero.tif").symlink_to("/dev/zero")
    for name in ("pipe.tif", "zero.tif"):
        with pytest.raises(ImageReadError, match="not a file"):
            read_image(tmp_path / name)
    listing = listing_of(tmp_path)
    assert listing.images == []
    assert all("not a file" in s.why for s in listing.skipped)
    with pytest.raises(ImageReadError):
        read_image(tmp_path / ("x" * 5000))


def test_what_is_read_is_what_the_library_decodes(data_dir: Path) -> None:
    """Our choice of strips and tiles against tifffile's whole pages."""
    checked = 0
    files = [*(data_dir / "nasty").rglob("*.tif"), *(data_dir / "nasty").rglob("*.tiff")]
    for file in sorted(files):
        try:
            image = read_image(file)
            planes = [image.channel(n) for n in image.channel_names]
        except ImageReadError:
            continue
        with tifffile.TiffFile(file) as tif:
            page = tif.series[0][0]
            assert page is not None
            whole = page.asarray()
            if page.axes == "YXS":
                whole = np.moveaxis(whole, -1, 0)
        whole = whole.reshape(-1, *image.shape)
        for plane, expected in zip(planes, whole, strict=False):
            np.testing.assert_array_equal(plane, expected, err_msg=str(file))
        checked += 1
    assert checked > 150
