"""Pixels come from the files that an image's own metadata identify, and from no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from islet_imaging.errors import ImageReadError
from islet_imaging.experiment.sample_sheet import images_in_folder, listing_of, read_samples
from islet_imaging.reading import read_image
from islet_imaging.reading.members import files_of
from islet_imaging.reading.naming import find_pattern

RNG = np.random.default_rng(5)


def plane(value: int) -> np.ndarray:
    return RNG.integers(value, value + 50, (12, 14)).astype(np.uint16)


def ome(
    file: Path,
    planes: list[np.ndarray],
    entries: list[tuple[int, str, str]],
    *,
    uuid: str | None = None,
    images: int = 1,
    of_files: Sequence[str] = (),
) -> np.ndarray:
    """Write pages and an OME-XML whose plane c lies in file ``entries[c]`` (page, name, uuid).

    With ``of_files`` it speaks of an image in each of them.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(
        f'<TiffData FirstC="{c}" IFD="{page}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{own}</UUID></TiffData>'
        for c, (page, name, own) in enumerate(entries)
    )
    channels = "".join(f'<Channel ID="C:{c}" Name="{n}"/>' for c, n in enumerate(["DAPI", "INS"]))
    root = f' UUID="urn:uuid:{uuid}"' if uuid else ""
    one = (
        '<Image ID="Image:{i}" Name="field {i}"><Pixels DimensionOrder="XYCZT" ID="P:0" SizeC="2" '
        'SizeT="1" SizeZ="1" SizeX="14" SizeY="12" Type="uint16" PhysicalSizeX="0.5" '
        f'PhysicalSizeY="0.5">{channels}' + "{data}</Pixels></Image>"
    )
    blocks = [data]
    if images > 1:
        blocks = [
            "".join(f'<TiffData FirstC="{c}" IFD="{2 * i + c}" PlaneCount="1"/>' for c in range(2))
            for i in range(images)
        ]
    if of_files:
        blocks = [
            "".join(
                f'<TiffData FirstC="{c}" IFD="{c}" PlaneCount="1">'
                f'<UUID FileName="{name}">urn:uuid:{i}</UUID></TiffData>'
                for c in range(2)
            )
            for i, name in enumerate(of_files)
        ]
    body = "".join(one.format(i=i, data=d) for i, d in enumerate(blocks))
    xml = f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/x"{root}>{body}</OME>'
    stored = np.stack(planes)
    tifffile.imwrite(
        file, stored, description=xml.encode(), metadata=None, photometric="minisblack"
    )
    return stored


def test_a_renamed_file_keeps_its_own_pixels(tmp_path: Path) -> None:
    default = "Experiment-01.ome.tif"
    first = ome(tmp_path / "monday.ome.tif", [plane(0), plane(99)],
                [(c, default, "1") for c in range(2)])  # fmt: skip
    second = ome(tmp_path / default, [plane(500), plane(900)],
                 [(c, default, "2") for c in range(2)])  # fmt: skip
    for name, stored in (("monday.ome.tif", first), (default, second)):
        image = read_image(tmp_path / name)
        assert image.channel_names == ("DAPI", "INS")
        np.testing.assert_array_equal(image.channel("INS"), stored[1])
        assert files_of(tmp_path / name) == (tmp_path / name,)


def pair(folder: Path) -> list[np.ndarray]:
    """Two files of one image, a channel in each."""
    names = ["a_C0.ome.tif", "a_C1.ome.tif"]
    entries = [(0, names[c], str(c)) for c in range(2)]
    return [ome(folder / names[c], [plane(300 * c)], entries, uuid=str(c)) for c in range(2)]


def test_members_of_a_set_are_one_image(tmp_path: Path) -> None:
    stored = pair(tmp_path)
    listing = listing_of(tmp_path)
    assert [i.name for i in listing.images] == ["a_C0.ome.tif"]
    assert "a_C1.ome.tif: a part of the image a_C0.ome.tif" in map(str, listing.skipped)
    for file in ("a_C0.ome.tif", "a_C1.ome.tif"):
        image = read_image(tmp_path / file)
        for c, name in enumerate(("DAPI", "INS")):
            np.testing.assert_array_equal(image.channel(name), stored[c][0])
        assert {f.name for f in files_of(tmp_path / file)} == {"a_C0.ome.tif", "a_C1.ome.tif"}
    sheet = tmp_path / "s.csv"
    sheet.write_text("file,condition,batch,role\na_C1.ome.tif,x,1,sample\n")
    assert [s.image for s in read_samples(sheet, tmp_path).samples] == ["a_C0.ome.tif"]


def test_a_member_of_another_set_is_refused(tmp_path: Path) -> None:
    pair(tmp_path)
    ome(tmp_path / "a_C1.ome.tif", [plane(0)], [(0, "a_C1.ome.tif", "9")] * 2, uuid="9")
    with pytest.raises(ImageReadError, match="UUID does not match"):
        read_image(tmp_path / "a_C0.ome.tif")
    (tmp_path / "a_C1.ome.tif").unlink()
    with pytest.raises(ImageReadError, match="missing"):
        read_image(tmp_path / "a_C0.ome.tif")


@pytest.mark.parametrize("name", ["../b.ome.tif", "sub/b.ome.tif", "..\\b.ome.tif", "/b.ome.tif"])
def test_a_member_outside_of_the_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    here = tmp_path / "x"
    other = [(0, "a.ome.tif", "1"), (0, name, "2")]
    ome(here / "a.ome.tif", [plane(0)], other, uuid="1")
    for at in (tmp_path / "b.ome.tif", here / "sub" / "b.ome.tif"):
        ome(at, [plane(9)], [(0, "b.ome.tif", "2")] * 2, uuid="2")
    with pytest.raises(ImageReadError, match="not in the same folder"):
        read_image(here / "a.ome.tif")


def test_several_images_in_a_file_are_several_images(tmp_path: Path) -> None:
    stored = ome(tmp_path / "p.ome.tif", [plane(100 * k) for k in range(4)], [], images=2)
    names = ["p.ome.tif/field 0", "p.ome.tif/field 1"]
    assert [i.name for i in images_in_folder(tmp_path)] == names
    for k, name in enumerate(names):
        np.testing.assert_array_equal(read_image(tmp_path / name).channel("INS"), stored[2 * k + 1])
        assert files_of(tmp_path / name) == (tmp_path / "p.ome.tif",)
    with pytest.raises(ImageReadError, match=r"holds 2 images \(field 0, field 1\)"):
        read_image(tmp_path / "p.ome.tif")
    sheet = tmp_path / "s.csv"
    sheet.write_text("file,condition,batch,role\np.ome.tif,x,1,sample\n")
    assert "holds 2 images" in read_samples(sheet, tmp_path).problems[0].message


def test_positions_need_no_file_but_their_own(tmp_path: Path) -> None:
    """Every file of an acquisition speaks of all positions; one of them was not copied."""
    names = [f"x_MMStack_Pos{p}.ome.tif" for p in range(3)]
    stored = {}
    for p in (0, 2):
        stored[p] = ome(tmp_path / names[p], [plane(100 * p), plane(100 * p + 50)], [],
                        uuid=str(p), of_files=names)  # fmt: skip
    assert [i.name for i in images_in_folder(tmp_path)] == [names[0], names[2]]
    for p in (0, 2):
        image = read_image(tmp_path / names[p])
        np.testing.assert_array_equal(image.channel("INS"), stored[p][1])
        assert files_of(tmp_path / names[p]) == (tmp_path / names[p],)


def test_metadata_in_a_companion(tmp_path: Path) -> None:
    ome(tmp_path / "a.ome.tif", [plane(0), plane(70)], [(c, "a.ome.tif", "1") for c in range(2)],
        uuid="1")  # fmt: skip
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        xml = str(tif.ome_metadata)
        stored = tif.asarray()
    (tmp_path / "set.companion.ome").write_text(xml.replace('UUID="urn:uuid:1">', 'UUID="c">', 1))
    link = '<OME UUID="urn:uuid:1"><BinaryOnly MetadataFile="set.companion.ome" UUID="c"/></OME>'
    tifffile.imwrite(tmp_path / "a.ome.tif", stored, description=link.encode(), metadata=None,
                     photometric="minisblack")  # fmt: skip
    image = read_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(image.channel("INS"), stored[1])
    assert tmp_path / "set.companion.ome" in files_of(tmp_path / "a.ome.tif")
    # what a file holds is said by the companion, not by names that look like channels
    for c in (0, 1):
        own = link.replace("UUID", f'ID="{c}" UUID', 1)
        tifffile.imwrite(tmp_path / f"a_C{c}.ome.tif", stored, description=own.encode(),
                         metadata=None, photometric="minisblack")  # fmt: skip
    assert find_pattern(sorted(tmp_path.glob("a_C*"))) is None
    (tmp_path / "set.companion.ome").unlink()
    with pytest.raises(ImageReadError, match="its metadata is in 'set"):
        read_image(tmp_path / "a.ome.tif")
