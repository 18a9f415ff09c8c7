"""What plate readers write beside their images: names of channels and the size of a pixel.

The idea: Operetta and Phenix (``Index.xml``), Yokogawa (``MeasurementData.mlf`` with ``.mrf`` and
``.mes``), IN Cell (``.xdce``), Micro-Manager (``metadata.txt``) and LAS X (``MetaData/*.xml``)
state there what their TIFF files do not.  Each is read once per folder.
It fails softly: an index that is damaged, or does not list a file, says nothing of it.
"""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from islet_imaging.reading.metadata import Facts, to_um, worded

_INCELL_7 = re.compile(r"[A-P]_\d+_f\d+_c\d+_x")
#: an index of a plate of 384 wells with 9 fields, 5 channels and 10 planes is some 200 MB
_MAX_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Said:
    """What an index says of one file."""

    source: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    pixel_size_um: tuple[float, float] | None = None
    doubt: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


def said_beside(path: Path) -> Said | None:
    """What the index beside an image file says of it; None where there is none.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "Index.xml").write_text(
    ...     '<E><Image><URL>a.tiff</URL><ChannelName>DAPI</ChannelName>'
    ...     '<ImageResolutionX Unit="m">6E-07</ImageResolutionX>'
    ...     '<ImageResolutionY Unit="m">6E-07</ImageResolutionY></Image></E>')
    >>> said = said_beside(folder / "a.tiff")
    >>> said.name, said.pixel_size_um
    ('DAPI', (0.6, 0.6))
    """
    for index, parse in _indexes(path):
        try:
            stat = index.stat()
            if stat.st_size > _MAX_BYTES:
                continue
            said = _parsed(parse, index, stat.st_mtime_ns, stat.st_size)
        except (OSError, ET.ParseError, ValueError, KeyError, TypeError, AttributeError):
            continue
        found = said.get(path.name.casefold()) or said.get("")
        if found is not None:
            return found
    return None


def files_beside(path: Path) -> list[Path]:
    """The index files that speak of an image file."""
    out = []
    for index, parse in _indexes(path):
        out.append(index)
        if parse is _yokogawa:
            out += [p for p in _others(index) if p.is_file()]
    return out


def _indexes(path: Path) -> Iterator[tuple[Path, Callable[[Path], dict[str, Said]]]]:
    """The index files that may list ``path``, those that are there."""
    folder = path.parent
    # asked for every image of a folder: text is several times faster than paths
    beside = os.path.dirname(path)
    for name in ("Index.xml", "Index.idx.xml", "Index.ref.xml"):
        if os.path.isfile(os.path.join(beside, name)):
            yield folder / name, _operetta
    if os.path.isfile(os.path.join(beside, "MeasurementData.mlf")):
        yield folder / "MeasurementData.mlf", _yokogawa
    if " wv " in path.name or "(fld" in path.name or _INCELL_7.match(path.name):
        for index in sorted(folder.glob("*.xdce")):
            yield index, _incell
    if path.name.startswith("img_") and (folder / "metadata.txt").is_file():
        yield folder / "metadata.txt", _micromanager
    series = re.match(r"(.+?)(?:_[tzs]\d+)*_ch\d+$", path.stem, re.IGNORECASE)
    if series:
        for name in (f"{series[1]}.xml", f"{series[1]}_Properties.xml"):
            if (folder / "MetaData" / name).is_file():
                yield folder / "MetaData" / name, _lasx


@lru_cache(maxsize=32)
def _parsed(  # the time of change and the size make a changed file another key
    parse: Callable[[Path], dict[str, Said]],
    index: Path,
    modified: int,  # noqa: ARG001
    size: int,  # noqa: ARG001
) -> dict[str, Said]:
    return parse(index)


def _root(path: Path) -> ET.Element:
    root = ET.parse(path).getroot()  # noqa: S314 - expat >= 2.4 stops entity bombs
    for element in root.iter():
        element.tag = str(element.tag).rsplit("}", 1)[-1]
        for key in [k for k in element.attrib if "}" in k]:
            element.attrib[key.rsplit("}", 1)[-1]] = element.attrib.pop(key)
    return root


def _size(y: float | None, x: float | None) -> tuple[tuple[float, float] | None, str]:
    facts = Facts()
    facts.size((y, x) if y and x else None)
    return facts.pixel_size_um, facts.doubt


def _float(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _operetta(index: Path) -> dict[str, Said]:
    """Harmony's index: all of each image, or of each channel with images that refer to it."""
    root = _root(index)
    by_channel: dict[str, dict[str, tuple[str, str]]] = {}
    for entry in root.iter("Entry"):
        said = {e.tag: (e.text or "", e.get("Unit", "")) for e in entry}
        by_channel.setdefault(entry.get("ChannelID", ""), {}).update(said)
    out = {}
    for image in root.iter("Image"):
        own = {e.tag: (e.text or "", e.get("Unit", "")) for e in image}
        if "URL" not in own:
            continue
        said = {**by_channel.get(own.get("ChannelID", ("",))[0], {}), **own}
        lengths = []
        for axis in "YX":
            text, unit = said.get(f"ImageResolution{axis}", ("", ""))
            value = _float(text)
            lengths.append(None if value is None else to_um(value, unit or "m"))
        size, doubt = _size(
            lengths[0] and round(lengths[0], 9), lengths[1] and round(lengths[1], 9)
        )
        facts, meta = {}, {}
        exposure = _float(said.get("ExposureTime", ("",))[0])
        if exposure:
            facts["exposure_s"] = exposure
        emission = _float(said.get("MainEmissionWavelength", ("",))[0])
        if emission:
            facts["emission_nm"] = emission
        magnification = _float(said.get("ObjectiveMagnification", ("",))[0])
        if magnification:
            meta["objective_magnification"] = magnification
        name = Path(own["URL"][0].replace("\\", "/")).name.casefold()
        channel = worded(said.get("ChannelName", ("",))[0])
        out[name] = Said(index.name, channel, (), size, doubt, facts, meta)
    return out


def _others(index: Path) -> list[Path]:
    """The files of a Yokogawa measurement that describe its channels."""
    return [index.with_name("MeasurementDetail.mrf"), *sorted(index.parent.glob("*.mes"))]


def _yokogawa(index: Path) -> dict[str, Said]:
    """CellVoyager: records by file, sizes and names by channel."""
    sizes: dict[str, tuple[tuple[float, float] | None, str]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for other in _others(index):
        if not other.is_file():
            continue
        for element in _root(other).iter():
            ch = element.get("Ch", "")
            if element.tag == "MeasurementChannel":
                x = _float(element.get("HorizontalPixelDimension"))
                y = _float(element.get("VerticalPixelDimension"))
                sizes[ch] = _size(y, x)
            elif element.tag == "Channel" and ch:
                said = [
                    worded(element.get(k, "")) for k in ("Target", "Fluorophore", "Acquisition")
                ]
                names[ch] = tuple(dict.fromkeys(s for s in said if s))
    out = {}
    for record in _root(index).iter("MeasurementRecord"):
        ch = record.get("Ch", "")
        if record.get("Type", "IMG") == "IMG" and record.text:
            size, doubt = sizes.get(ch, (None, ""))
            words = names.get(ch, ())
            name = Path(record.text.strip().replace("\\", "/")).name.casefold()
            out[name] = Said(
                "MeasurementData.mlf", words[0] if words else "", words[1:], size, doubt
            )
    return out


def _incell(index: Path) -> dict[str, Said]:
    """IN Cell Analyzer: one calibration, a filter for each image."""
    root = _root(index)
    size, doubt, meta = None, "", {}
    for lens in root.iter("ObjectiveCalibration"):
        unit = lens.get("units", lens.get("unit", "um")) or "um"
        lengths = [_float(lens.get(k)) for k in ("pixel_height", "pixel_width")]
        size, doubt = _size(*(None if v is None else to_um(v, unit) for v in lengths))
        magnification = _float(lens.get("magnification"))
        if magnification:
            meta["objective_magnification"] = magnification
    out = {}
    for image in root.iter("Image"):
        file = image.get("filename", "")
        filters = [worded(e.get("name", "")) for e in image.iter("EmissionFilter")]
        if file:
            name = filters[0] if filters else ""
            out[file.casefold()] = Said(index.name, name, (), size, doubt, {}, meta)
    return out


def _micromanager(index: Path) -> dict[str, Said]:
    """Micro-Manager's image files of one position."""
    data = json.loads(index.read_text("utf-8", errors="replace"))
    frames = [v for k, v in data.items() if isinstance(v, dict) and k != "Summary"]
    values = [f.get("PixelSizeUm") for f in frames]
    values.append(data.get("Summary", {}).get("PixelSize_um"))
    stated = {float(v) for v in values if isinstance(v, int | float) and v > 0}
    size, doubt = _size(*(next(iter(stated)),) * 2) if len(stated) == 1 else (None, "")
    out = {"": Said(index.name, "", (), size, doubt)}
    for key, frame in data.items():
        if isinstance(frame, dict) and isinstance(frame.get("Channel"), str):
            file = str(frame.get("FileName") or key.removeprefix("Metadata-"))
            name = Path(file.replace("\\", "/")).name.casefold()
            out[name] = Said(index.name, worded(frame["Channel"]), (), size, doubt)
    return out


def _lasx(index: Path) -> dict[str, Said]:
    """LAS X: the length of the image's sides, first to last pixel."""
    lengths: dict[str, float | None] = {}
    for axis in _root(index).iter("DimensionDescription"):
        name = {"1": "X", "2": "Y"}.get(axis.get("DimID", ""), axis.get("DimID", ""))
        n = int(axis.get("NumberOfElements", "0"))
        length, unit = _float(axis.get("Length")), axis.get("Unit", "m")
        if name in ("X", "Y") and n > 1 and length:
            um = to_um(length, unit)
            lengths[name] = None if um is None else um / (n - 1)
    size, doubt = _size(lengths.get("Y"), lengths.get("X"))
    return {"": Said(f"MetaData/{index.name}", "", (), size, doubt)}
