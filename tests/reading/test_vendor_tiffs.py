"""LSM, STK, SCN and BIF as their instruments lay them out, written by hand for the test."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from islet_imaging import read_image
from islet_imaging.errors import ImageReadError

PLANES = np.random.default_rng(0).integers(0, 4000, (3, 96, 112)).astype(np.uint16)
COUNT, HEIGHT, WIDTH = PLANES.shape


def channels(path: Path, **how: object) -> np.ndarray:
    image = read_image(path, **how)  # type: ignore[arg-type]
    return np.stack([image.channel(n) for n in image.channel_names])


def test_a_zeiss_lsm_gives_its_channels_and_voxels_not_its_thumbnails(tmp_path: Path) -> None:
    info = bytearray(512)
    struct.pack_into("<Ii5i", info, 0, 0x0400494C, 512, WIDTH, HEIGHT, 1, COUNT, 1)
    struct.pack_into("<i", info, 28, 2)
    struct.pack_into("<3d", info, 40, 0.4e-6, 0.4e-6, 1e-6)
    path = tmp_path / "a.lsm"
    how = {"planarconfig": "separate", "photometric": "minisblack", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        writer.write(PLANES, extratags=[(34412, 1, 512, bytes(info), True)], **how)
        writer.write(np.zeros((COUNT, 16, 16), np.uint8), subfiletype=1, **how)
    np.testing.assert_array_equal(channels(path), PLANES)
    assert read_image(path).pixel_size_um == pytest.approx(0.4)


def write_stk(path: Path) -> None:
    """One directory, the planes one after the other, and MetaMorph's tags UIC1 and UIC2."""
    size = 2 * HEIGHT * WIDTH
    short = {256: WIDTH, 257: HEIGHT, 258: 16, 259: 1, 262: 1, 277: 1, 278: HEIGHT}
    tags = {k: (3, 1, struct.pack("<H", v)) for k, v in short.items()}
    tags |= {273: (4, 1, b""), 279: (4, 1, struct.pack("<I", size))}
    tags[33628] = (4, 1, struct.pack("<2I", 0, 1))
    days = [struct.pack("<6I", k, 1, 2451545, 0, 2451545, 0) for k in range(COUNT)]
    tags[33629] = (5, COUNT, b"".join(days))
    at = 8 + 2 + 12 * len(tags) + 4
    entries, beyond = b"", b""
    pixels = at + sum(len(data) for _, _, data in tags.values() if len(data) > 4)
    tags[273] = (4, 1, struct.pack("<I", pixels))
    for tag, (kind, count, data) in sorted(tags.items()):
        value = data.ljust(4, b"\0")
        if len(data) > 4:
            value = struct.pack("<I", at + len(beyond))
            beyond += data
        entries += struct.pack("<HHI", tag, kind, count) + value
    directory = struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    path.write_bytes(b"II*\0\x08\0\0\0" + directory + beyond + PLANES.astype("<u2").tobytes())


def test_a_metamorph_stack_asks_what_its_planes_are(tmp_path: Path) -> None:
    write_stk(tmp_path / "a.stk")
    with pytest.raises(ImageReadError, match="channels, focal planes or time points"):
        read_image(tmp_path / "a.stk")
    named = channels(tmp_path / "a.stk", channel_names=["DAPI", "INS", "GCG"])
    np.testing.assert_array_equal(named, PLANES)


def test_a_leica_scn_gives_the_channels_of_its_full_level(tmp_path: Path) -> None:
    planes = "".join(
        f'<dimension sizeX="{WIDTH}" sizeY="{HEIGHT}" r="0" c="{k}" ifd="{k}"/>'
        for k in range(COUNT)
    )
    span = f'sizeX="{250 * WIDTH}" sizeY="{250 * HEIGHT}"'
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="s" {span}><image name="i"><view {span} offsetX="0" offsetY="0"/>'
        f'<pixels sizeX="{WIDTH}" sizeY="{HEIGHT}" firstIFD="0">{planes}</pixels></image>'
        "</collection></scn>"
    )
    with tifffile.TiffWriter(tmp_path / "a.scn") as writer:
        for k, plane in enumerate(PLANES):
            writer.write(
                plane, photometric="minisblack", metadata=None, tile=(32, 32),
                description=None if k else xml, resolution=(4e4, 4e4),
                resolutionunit="CENTIMETER",
            )  # fmt: skip
    np.testing.assert_array_equal(channels(tmp_path / "a.scn"), PLANES)
    assert read_image(tmp_path / "a.scn").pixel_size_um == pytest.approx(0.25)


def write_bif(path: Path, slide: np.ndarray, *, scan: str, joints: str = "") -> None:
    """A label, then the slide in two resolutions; XMP as ``ScanOutputManager`` leaves it."""
    how = {"photometric": "rgb", "metadata": None}
    encoded = f'<?xml version="1.0" encoding="utf-8"?><EncodeInfo>{joints}</EncodeInfo>\0'

    def xmp(text: str) -> list[tuple[int, int, int, bytes, bool]]:
        return [(700, 1, len(text), text.encode(), True)]

    with tifffile.TiffWriter(path) as writer:
        writer.write(
            np.zeros((40, 20, 3), np.uint8), description="Label Image",
            software="ScanOutputManager 1.1.0", extratags=xmp(scan), **how,
        )  # fmt: skip
        for level, pixels in enumerate((slide, slide[::2, ::2])):
            description = f"level={level} mag={20 >> level} quality=90"
            more = {"extratags": xmp(encoded)} if level == 0 else {}
            writer.write(pixels, description=description, tile=(32, 32), **more, **how)


def test_a_ventana_bif_gives_the_colours_of_its_slide_not_its_label(tmp_path: Path) -> None:
    slide = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    write_bif(tmp_path / "a.bif", slide, scan='<iScan Magnification="20" />')
    np.testing.assert_array_equal(channels(tmp_path / "a.bif"), np.moveaxis(slide, 2, 0))
    assert read_image(tmp_path / "a.bif").pixel_size_um is None
    write_bif(tmp_path / "b.bif", slide, scan='<iScan Magnification="20" ScanRes="0.465"/>')
    assert read_image(tmp_path / "b.bif").pixel_size_um == pytest.approx(0.465)


def test_a_ventana_bif_whose_tiles_overlap_is_refused(tmp_path: Path) -> None:
    joint = (
        '<TileJointInfo FlagJoined="{}" Confidence="99" Direction="{}" Tile1="1" Tile2="2" '
        'OverlapX="{}" OverlapY="{}"/>'
    )
    slide = np.random.default_rng(2).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    apart = joint.format(1, "RIGHT", 0, -3) + joint.format(0, "UP", 0, 40)
    for name, joints, overlap in (
        ("apart", apart, 0),
        ("right", apart + joint.format(1, "RIGHT", 24, 1), 24),
        ("up", apart + joint.format(1, "UP", -1, 17), 17),
    ):
        path = tmp_path / f"{name}.bif"
        info = f"<SlideStitchInfo><ImageInfo>{joints}</ImageInfo></SlideStitchInfo>"
        write_bif(path, slide, scan="<iScan/>", joints=info)
        if overlap:
            with pytest.raises(ImageReadError, match=f"overlap by up to {overlap} px"):
                read_image(path)
        else:
            assert channels(path).shape == (3, HEIGHT, WIDTH)
