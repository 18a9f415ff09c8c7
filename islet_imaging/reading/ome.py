"""Which file, and which page of it, holds each plane that an OME-XML block speaks of.

The idea: an OME-TIFF may be one of a set, and its XML names the other files.  Such a name is
followed only to a file of the same folder that bears the identifier (UUID) which the XML states;
pages of the file itself are taken where the XML means the file itself, whatever it is called now.
It fails, with an `ImageReadError`, where a plane lies in a file that is missing, that bears another
identifier, or that would lie elsewhere: pixels of another experiment are worse than none.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from islet_imaging.errors import ImageReadError
from islet_imaging.protocol import Limits
from islet_imaging.reading.guard import check_planes
from islet_imaging.reading.headers import first_description


@dataclass(frozen=True)
class OmeImage:
    """One Image element: its sizes, and for every (channel, plane, time) a file and page."""

    name: str
    sizes: dict[str, int]
    samples: int
    #: (c, z, t) -> (file, page)
    places: dict[tuple[int, int, int], tuple[Path, int]]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold its planes, in the order of the planes."""
        return tuple(dict.fromkeys(self.places[k][0] for k in sorted(self.places)))


@dataclass(frozen=True)
class OmeSet:
    """What the OME-XML of a file says of it and of its companions."""

    xml: str
    #: the companion whose XML speaks for a file that has none of its own
    metadata_file: Path | None
    images: tuple[OmeImage, ...]

    def own(self, path: Path) -> list[int]:
        """Numbers of the images that have planes in ``path``."""
        return [i for i, image in enumerate(self.images) if path in image.files]


def parse(xml: str) -> ET.Element | None:
    """The root of an OME-XML block with plain tags; None where it is none."""
    try:
        root = ET.fromstring(xml.strip().strip("\0"))  # noqa: S314 - expat >= 2.4 stops bombs
    except (ET.ParseError, ValueError):
        return None
    for element in root.iter():  # namespaces change with every schema version
        element.tag = str(element.tag).rsplit("}", 1)[-1]
    return root if root.tag == "OME" else None


def speaks_of_files(xml: str) -> bool:
    """Whether an OME-XML block names files, or holds several images, so that it must be resolved.

    Examples
    --------
    >>> speaks_of_files('<OME><Image><Pixels><TiffData/></Pixels></Image></OME>')
    False
    >>> speaks_of_files('<OME><BinaryOnly MetadataFile="a.companion.ome"/></OME>')
    True
    """
    return (
        "FileName=" in xml
        or "BinaryOnly" in xml
        or len(re.findall(r"<(?:\w+:)?Image[ >]", xml)) > 1
    )


def resolve(path: Path, xml: str, n_pages: int, limits: Limits | None = None) -> OmeSet | None:
    """Find the planes of an OME-TIFF.

    Parameters
    ----------
    path : Path
        The file.
    xml : str
        Its OME-XML block.
    n_pages : int
        Number of its pages.

    Returns
    -------
    OmeSet or None
        None where the block is no OME-XML.

    Raises
    ------
    ImageReadError
        If a file of the set is missing, bears another identifier, or lies outside of the folder.
    """
    root = parse(xml)
    if root is None:
        return None
    metadata_file = None
    own = root
    binary = root.find("BinaryOnly")
    if binary is not None:
        metadata_file = _beside(path, str(binary.get("MetadataFile", "")))
        if not metadata_file.is_file():
            raise ImageReadError(
                f"{path}: its metadata is in {metadata_file.name!r}, which is not beside it; copy "
                "that file here too, or export as single OME-TIFF files"
            )
        if metadata_file.suffix == ".ome" or metadata_file.suffix == ".xml":
            xml = metadata_file.read_text("utf-8", errors="replace")
        else:
            xml = first_description(metadata_file) or ""
        root = parse(xml)
        stated = binary.get("UUID")
        if root is None or (stated and root.get("UUID") != stated):
            raise ImageReadError(
                f"{path}: its metadata is said to be in {metadata_file.name!r}, and that file "
                "belongs to another image; copy or export the set again"
            )
    files = _Files(path, own, root, n_pages)
    images = []
    for element in root.findall("Image"):
        pixels = element.find("Pixels")
        if pixels is not None:
            images.append(_image(element.get("Name") or "", pixels, files, limits or Limits()))
    return OmeSet(xml, metadata_file, tuple(images))


def smaller_copies(xml: str, numbers: Sequence[int]) -> list[int]:
    """Which of a file's images are another of them at a lower resolution, by places in ``numbers``.

    Parameters
    ----------
    xml : str
        An OME-XML block.
    numbers : sequence of int
        The images of the file.

    Returns
    -------
    list of int
        Places of images whose two sides are a half, a third... of those of an earlier image with
        the same channels, and whose pixels, where stated, are larger by as much.
    """
    root = parse(xml)
    if root is None:
        return []
    every = [p for p in (e.find("Pixels") for e in root.findall("Image")) if p is not None]
    known = []
    for n in numbers:
        sizes = [_number(every[n].get(f"Size{a}")) for a in "XYCZ"]
        known.append((sizes, _number(every[n].get("PhysicalSizeX"))))
    out = []
    for i, (own, um) in enumerate(known):
        for other, other_um in known[:i]:
            ratio = other[0] / own[0] if own[0] else 0.0
            whole = round(ratio) >= 2 and all(
                abs(b - a * round(ratio)) <= round(ratio)
                for a, b in zip(own[:2], other[:2], strict=True)
            )
            scaled = not um or not other_um or abs(um / other_um / ratio - 1) < 0.03
            if whole and scaled and own[2:] == other[2:]:
                out.append(i)
                break
    return out


def _number(text: str | None) -> float:
    try:
        return float(text) if text else 0.0
    except ValueError:
        return 0.0


def identity(root: ET.Element | None, name: str) -> str | None:
    """The identifier of a file called ``name``: of its XML's root, else what is said of the name.

    Examples
    --------
    >>> identity(parse('<OME UUID="urn:uuid:1"/>'), "a.ome.tif")
    'urn:uuid:1'
    """
    if root is None:
        return None
    if root.get("UUID"):
        return str(root.get("UUID"))
    for e in root.iter("UUID"):
        if str(e.get("FileName", "")).casefold() == name.casefold():
            return str(e.text or "").strip() or None
    return None


class _Files:
    """Which file an identifier means."""

    def __init__(self, path: Path, own: ET.Element | None, root: ET.Element, n_pages: int) -> None:
        self.path, self.n_pages = path, n_pages
        self._known: dict[str, Path] = {}
        self.own_uuid = identity(own, path.name)
        said = {str(e.text or "").strip() for e in root.iter("UUID")}
        if self.own_uuid is None and len(said) == 1:
            # a file that was renamed, and whose set is itself alone, is meant by any name
            self.own_uuid = said.pop()

    def of(self, element: ET.Element | None) -> Path:
        """The file of a ``TiffData`` element's ``UUID``."""
        if element is None:
            return self.path
        uuid, name = str(element.text or "").strip(), str(element.get("FileName", ""))
        if uuid == self.own_uuid or name.casefold() == self.path.name.casefold():
            return self.path
        key = f"{uuid} {name}"
        if key not in self._known:
            self._known[key] = self._find(uuid, name)
        return self._known[key]

    def are_in(self, pixels: ET.Element) -> bool:
        """Whether any plane of an image lies in the file that is read."""
        for data in pixels.findall("TiffData"):
            element = data.find("UUID")
            if element is None or str(element.text or "").strip() == self.own_uuid:
                return True
            if str(element.get("FileName", "")).casefold() == self.path.name.casefold():
                return True
        return False

    def _find(self, uuid: str, name: str) -> Path:
        if not uuid or not name:
            raise ImageReadError(
                f"{self.path}: planes lie in a file of a set that is not identified; keep the "
                "files of the set together under their names, or export as single files"
            )
        other = _beside(self.path, name)
        if not other.is_file():
            raise ImageReadError(
                f"{self.path}: a plane of this OME-TIFF lies in another file, {name!r}, that is "
                "missing; keep the files of the set together under their names"
            )
        if identity(parse(first_description(other) or ""), other.name) != uuid:
            raise ImageReadError(
                f"{self.path}: a plane of this OME-TIFF lies in {name!r}, and the file of that "
                "name here is another one (its UUID does not match); put the files of the set "
                "back under their names, or export the image again as one file"
            )
        return other


def _beside(path: Path, name: str) -> Path:
    if not name or "/" in name or "\\" in name or name in (".", "..") or ":" in name:
        raise ImageReadError(
            f"{path}: names a file of its set that is not in the same folder ({name[:80]!r}); put "
            "the files of a set into one folder, or export as single files"
        )
    return path.with_name(name)


def _image(name: str, pixels: ET.Element, files: _Files, limits: Limits) -> OmeImage:
    """Sizes and places of one Pixels element."""
    try:
        sizes = {a: int(pixels.get(f"Size{a}", "1")) for a in "CZT"}
        samples = {int(c.get("SamplesPerPixel", "1")) for c in pixels.findall("Channel")} or {1}
    except ValueError:
        raise ImageReadError(f"{files.path}: sizes in its OME-XML are no numbers") from None
    if len(samples) > 1:
        raise ImageReadError(f"{files.path}: grey and colour channels in one image; export apart")
    per_page = max(1, samples.pop())
    sizes["C"] = max(1, sizes["C"] // per_page)
    count = sizes["C"] * sizes["Z"] * sizes["T"]
    if count <= 0:
        raise ImageReadError(f"{files.path}: its OME-XML declares {count} planes; not an image")
    check_planes(files.path, count, limits)
    order = [a for a in pixels.get("DimensionOrder", "XYCZT") if a in "CZT"]
    if sorted(order) != ["C", "T", "Z"]:
        order = ["C", "Z", "T"]
    places: dict[tuple[int, int, int], tuple[Path, int]] = {}
    if not files.are_in(pixels):  # an image of other files, which need not be here
        return OmeImage(name, sizes, per_page, places)
    for data in pixels.findall("TiffData"):
        try:
            at = {a: int(data.get(f"First{a}", "0")) for a in "CZT"}
            page = int(data.get("IFD", "0"))
            n = int(
                data.get("PlaneCount", data.get("NumPlanes", "1" if "IFD" in data.attrib else "0"))
            )
        except ValueError:
            continue
        file = files.of(data.find("UUID"))
        first = at[order[0]] + sizes[order[0]] * (at[order[1]] + sizes[order[1]] * at[order[2]])
        if n <= 0:
            n = min(count - first, files.n_pages - page) if file == files.path else 1
        for i in range(max(0, min(n, count - first))):
            left, place = first + i, {}
            for axis in order:
                left, place[axis] = divmod(left, sizes[axis])
            places[place["C"], place["Z"], place["T"]] = (file, page + i)
    return OmeImage(name, sizes, per_page, places)
