"""What a TIFF says of its channels, scale and acquisition: OME-XML, ImageJ tags, resolution tags.

The idea: small tolerant parsers that take what is there and never fill in what is not.  OME-XML
in the wild often breaks its own schema, so it is read with the standard XML parser, not validated.
A resolution in inches is a print setting (72 or 96 dpi) and is never taken for a pixel size; one
in centimetres is taken only where it gives 0.02 to 20 um.
It fails, with an `ImageReadError`, when X and Y are stated and differ.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: micrometres per unit, by the spellings seen in files
_UNITS = {
    "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0,
    "micrometers": 1.0, "micrometre": 1.0, "micrometres": 1.0, "\\u00b5m": 1.0, "âµm": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometers": 1e-3, "mm": 1e3, "millimeter": 1e3,
    "cm": 1e4, "m": 1e6, "pm": 1e-6, "å": 1e-4, "angstrom": 1e-4, "inch": 25400.0, "in": 25400.0,
}  # fmt: skip
_SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0}
#: a microscope's pixel lies in this range, um
PLAUSIBLE_UM = (0.005, 100.0)


@dataclass
class Facts:
    """What one metadata block says; empty where it says nothing."""

    names: list[str] = field(default_factory=list)
    aliases: list[tuple[str, ...]] = field(default_factory=list)
    channel_facts: list[dict[str, Any]] = field(default_factory=list)
    pixel_size_um: tuple[float, float] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    n_images: int = 1


def to_um(value: float, unit: str | None) -> float | None:
    """A length in um, or None where unit or value mean nothing."""
    factor = _UNITS.get((unit or "").strip().casefold())
    if factor is None or not math.isfinite(value) or value <= 0:
        return None
    return value * factor


def plausible(size: tuple[float, float] | None) -> tuple[float, float] | None:
    """``size`` if a microscope could have it."""
    if size is None or not all(PLAUSIBLE_UM[0] <= s <= PLAUSIBLE_UM[1] for s in size):
        return None
    return size


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_ome(xml: str, image: int = 0) -> Facts | None:
    """Read one Image of an OME-XML block.

    Parameters
    ----------
    xml : str
        The block, usually the first page's ImageDescription.
    image : int
        Which Image element, from 0.

    Returns
    -------
    Facts or None
        None where the text is not OME-XML.

    Examples
    --------
    >>> parse_ome('<OME><Image><Pixels PhysicalSizeX="0.5" PhysicalSizeY="0.5">'
    ...           '<Channel Name="DAPI"/></Pixels></Image></OME>').names
    ['DAPI']
    """
    try:
        root = ET.fromstring(xml.strip().strip("\0"))  # noqa: S314 - expat >= 2.4 stops entity bombs
    except (ET.ParseError, ValueError):
        return None
    for element in root.iter():  # namespaces change with every schema version
        element.tag = str(element.tag).rsplit("}", 1)[-1]
    images = root.findall("Image")
    if not images:
        return None
    facts = Facts(n_images=len(images))
    own = images[min(image, len(images) - 1)]
    pixels = own.find("Pixels")
    if pixels is None:
        return facts
    sizes = []
    for axis in "XY":
        value = _number(pixels.get(f"PhysicalSize{axis}"))
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
        sizes.append(None if value is None else to_um(value, unit))
    # a file that gives one edge only has square pixels by the schema's own examples
    x, y = sizes[0] or sizes[1], sizes[1] or sizes[0]
    facts.pixel_size_um = plausible((y, x)) if x and y else None
    bits = _number(pixels.get("SignificantBits"))
    if bits:
        facts.metadata["significant_bits"] = int(bits)
    for channel in pixels.findall("Channel"):
        name = (channel.get("Name") or "").strip()
        dye = (channel.get("Fluor") or "").strip()
        more: dict[str, Any] = {}
        for key, attribute in (
            ("emission_nm", "EmissionWavelength"),
            ("excitation_nm", "ExcitationWavelength"),
        ):
            value = _number(channel.get(attribute))
            if value:
                more[key] = value
        samples = int(_number(channel.get("SamplesPerPixel")) or 1)
        for _ in range(samples if samples > 1 and not name else 1):
            facts.names.append(name or dye)
            facts.aliases.append((dye,) if dye and dye != name else ())
            facts.channel_facts.append(dict(more))
    for plane in pixels.findall("Plane"):
        c = int(_number(plane.get("TheC")) or 0)
        value = _number(plane.get("ExposureTime"))
        if value and 0 <= c < len(facts.channel_facts):
            unit = plane.get("ExposureTimeUnit", "s")
            facts.channel_facts[c].setdefault("exposure_s", value * _SECONDS.get(unit, 1.0))
    _objective(root, own, facts)
    acquired = own.find("AcquisitionDate")
    if acquired is not None and acquired.text:
        facts.metadata["acquired"] = acquired.text.strip()
    return facts


def _objective(root: ET.Element, image: ET.Element, facts: Facts) -> None:
    wanted = image.find("ObjectiveSettings")
    objectives = list(root.iter("Objective"))
    if wanted is not None:
        objectives = [o for o in objectives if o.get("ID") == wanted.get("ID")] or objectives
    if not objectives:
        return
    objective = objectives[0]
    for key, attribute in (("objective_magnification", "NominalMagnification"),
                           ("objective_na", "LensNA")):  # fmt: skip
        value = _number(objective.get(attribute))
        if value:
            facts.metadata[key] = value
    if objective.get("Model"):
        facts.metadata["objective"] = str(objective.get("Model")).strip()


#: prefix of a slice label that ImageJ or Bio-Formats wrote: "c:1/4 z:3/9 t:1/2 - title"
_POSITION = re.compile(r"^\s*(?:[czt]:\s*\d+(?:\s*/\s*\d+)?[\s;,]*)+(?:-\s*)?", re.IGNORECASE)


def imagej_names(labels: Sequence[str], channels: int, images: int) -> list[str]:
    """Channel names out of ImageJ's slice labels, or an empty list.

    Labels that do not differ between channels name the image and are no channel names; so are
    labels that differ along z.

    Examples
    --------
    >>> imagej_names(["DAPI", "INS"], 2, 2)
    ['DAPI', 'INS']
    >>> imagej_names(["c:1/2 - islet 7", "c:2/2 - islet 7"], 2, 2)
    []
    """
    if channels < 1 or len(labels) < channels:
        return []
    per_channel: list[set[str]] = [set() for _ in range(channels)]
    for i, label in enumerate(labels[:images]):
        text = _POSITION.sub("", str(label)).strip()
        per_channel[i % channels].add(text.split("\n")[0].strip())
    if any(len(s) != 1 for s in per_channel):
        return []
    names = [s.pop() for s in per_channel]
    if not all(names) or len(set(names)) != len(names):
        return []
    return _without_common(names)


def _without_common(names: list[str]) -> list[str]:
    """Drop an image title that stands before or after every name, at a word's border."""
    if len(names) < 2:
        return names
    parts = [n.split(" - ") for n in names]
    if len({len(p) for p in parts}) == 1 and len(parts[0]) > 1:
        differing = [i for i in range(len(parts[0])) if len({p[i] for p in parts}) > 1]
        if len(differing) == 1:
            return [p[differing[0]].strip() for p in parts]
    return names


def parse_imagej(
    meta: Mapping[str, Any], x_per_unit: float | None, y_per_unit: float | None
) -> Facts:
    """Read ImageJ's description and tags; resolutions are pixels per ``meta['unit']``."""
    facts = Facts()
    unit = str(meta.get("unit", ""))
    y_unit = str(meta.get("yunit", unit)) or unit
    if x_per_unit and y_per_unit:
        x = to_um(1 / x_per_unit, unit)
        y = to_um(1 / y_per_unit, y_unit)
        facts.pixel_size_um = plausible((y, x)) if x and y else None
    channels = int(meta.get("channels", 1) or 1)
    images = int(meta.get("images", channels) or channels)
    labels = meta.get("Labels") or []
    facts.names = imagej_names([str(t) for t in labels], channels, images)
    info = str(meta.get("Info", ""))
    for key, pattern in (
        ("significant_bits", r"^\s*(?:BitsPerPixel|SignificantBits)\s*=\s*(\d+)\s*$"),
        ("objective_magnification", r"\bMagnification\s*=\s*([\d.]+)\s*$"),
        ("objective_na", r"\bNumericalAperture\s*=\s*([\d.]+)\s*$"),
    ):
        found = re.search(pattern, info, re.MULTILINE)
        if found and _number(found[1]):
            value = float(found[1])
            facts.metadata[key] = int(value) if key == "significant_bits" else value
    found = re.search(r"\bObjectiveName\s*=\s*(\S.*?)\s*$", info, re.MULTILINE)
    if found:
        facts.metadata["objective"] = found[1]
    found = re.search(r"^\s*Series \d+ Name\s*=\s*(\S.*?)\s*$", info, re.MULTILINE)
    if found:
        facts.metadata["title"] = found[1]
    return facts


def resolution_um(
    x_per_unit: float | None, y_per_unit: float | None, unit: int
) -> tuple[float, float] | None:
    """Pixel size from TIFF resolution tags; only centimetres, only where a microscope could."""
    if unit != 3 or not x_per_unit or not y_per_unit:
        return None
    size = (1e4 / y_per_unit, 1e4 / x_per_unit)
    return size if all(0.02 <= s <= 20 for s in size) else None
