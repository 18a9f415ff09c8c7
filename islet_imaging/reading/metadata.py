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
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from islet_imaging.reading.names import are_stains

#: micrometres per unit; spellings are compared as `_plain` writes them
_UNITS = {
    "um": 1.0, "micron": 1.0, "micrometer": 1.0, "micrometre": 1.0, "mikrometer": 1.0,
    "mikron": 1.0, "mikrometre": 1.0, "micra": 1.0, "micrometro": 1.0, "mikrometr": 1.0,
    "mikrometri": 1.0, "micrometru": 1.0, "мкм": 1.0, "микрометр": 1.0, "микрон": 1.0,
    "微米": 1.0, "マイクロメートル": 1.0, "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3, "cm": 1e4, "centimeter": 1e4,
    "centimetre": 1e4, "m": 1e6, "meter": 1e6, "metre": 1e6, "pm": 1e-6, "a": 1e-4,
    "angstrom": 1e-4, "inch": 25400.0, "inche": 25400.0, "in": 25400.0,
}  # fmt: skip
_SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0}
#: an exposure without a unit that is longer than this is no number of seconds
_LONGEST_S = 20.0
#: a microscope's pixel lies in this range, um
PLAUSIBLE_UM = (0.005, 100.0)
#: of a stated size that is beyond it; another statement may be better
IMPLAUSIBLE = "which no microscope has (another unit is meant?)"
#: resolutions of screens and printers, dots per inch
_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 220, 240, 254, 300, 350, 360, 400, 450, 480,
        500, 600, 720, 900, 1000, 1200, 1440, 2400)  # fmt: skip


@dataclass
class Facts:
    """What one metadata block says; empty where it says nothing."""

    names: list[str] = field(default_factory=list)
    aliases: list[tuple[str, ...]] = field(default_factory=list)
    channel_facts: list[dict[str, Any]] = field(default_factory=list)
    pixel_size_um: tuple[float, float] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    n_images: int = 1
    #: why a pixel size that is written in the file is not believed
    doubt: str = ""

    def size(self, size: tuple[float, float] | None) -> None:
        """Take a pixel size that is stated, unless it is a default or a print setting."""
        if size is not None:
            self.doubt = doubtful(size)
            self.pixel_size_um = None if self.doubt else size

    def unplaced(self, n: int) -> tuple[str, ...]:
        """Names that are given to another number of channels than ``n``."""
        return tuple(filter(None, self.names)) if len(self.names) != n else ()


def _plain(unit: str) -> str:
    """A unit without what writers do to it: escapes, lost encodings, accents, dots, plural."""
    text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), unit)
    # UTF-8 that was read as Latin-1, once or twice
    for _ in range(2):
        try:
            text = text.encode("latin-1").decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            break
    text = text.replace("Î¼", "u").replace("Âµ", "u")
    text = unicodedata.normalize("NFKD", text.strip(" .,;:[]()\0'\"").casefold())
    text = "".join(c for c in text if not unicodedata.combining(c))
    # both signs of mu are one after the compatibility form
    text = text.replace("\N{GREEK SMALL LETTER MU}", "u").replace(" ", "")
    return text[:-1] if len(text) > 3 and text.endswith("s") else text


def to_um(value: float, unit: str | None) -> float | None:
    r"""A length in um, or None where unit or value mean nothing.

    Examples
    --------
    >>> to_um(0.5, "micras"), to_um(500, "nm"), to_um(0.5, r"\u03BCm"), to_um(1, "pixel")
    (0.5, 0.5, 0.5, None)
    """
    factor = _UNITS.get(_plain(unit or ""))
    if factor is None or not math.isfinite(value) or value <= 0:
        return None
    return value * factor


def plausible(size: tuple[float, float] | None) -> tuple[float, float] | None:
    """``size`` if a microscope could have it."""
    if size is None or not all(PLAUSIBLE_UM[0] <= s <= PLAUSIBLE_UM[1] for s in size):
        return None
    return size


def doubtful(size: tuple[float, float]) -> str:
    """Why a stated pixel size is what programs write that do not know it; empty if it is not.

    Exactly 1 um is the default of many writers; 84.67 um is 300 dots per inch.

    Examples
    --------
    >>> doubtful((0.5, 0.5)), doubtful((1.0, 1.0))
    ('', 'exactly 1 um, which programs write that do not know it')
    >>> doubtful((84.667, 84.667))
    '84.667 um, which is 300 dots per inch, a setting of a printer or screen'
    """
    y, x = size
    if plausible(size) is None:
        return f"{x:.4g} x {y:.4g} um, {IMPLAUSIBLE}"
    if x == y == 1.0:
        return "exactly 1 um, which programs write that do not know it"
    for dpi in _DPI:
        if all(abs(s * dpi - 25400.0) < 25.4 * 0.5 for s in size):
            return f"{x:.5g} um, which is {dpi} dots per inch, a setting of a printer or screen"
    return ""


def worded(name: str) -> str:
    """A channel's name, or nothing where it holds no letter and no digit ("-", "...").

    Examples
    --------
    >>> worded(" DAPI "), worded("-")
    ('DAPI', '')
    """
    name = name.strip().strip("\0")
    return name if any(c.isalnum() for c in name) else ""


def _number(text: str | None) -> float | None:
    if text is not None and re.fullmatch(r"\s*\d+,\d+\s*", text):
        text = text.replace(",", ".")  # as some countries write it
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
    facts.size((y, x) if x and y else None)
    bits = _number(pixels.get("SignificantBits"))
    if bits:
        facts.metadata["significant_bits"] = int(bits)
    for channel in pixels.findall("Channel"):
        name = worded(channel.get("Name") or "")
        dye = worded(channel.get("Fluor") or "")
        more: dict[str, Any] = {}
        for key, attribute in (
            ("emission_nm", "EmissionWavelength"),
            ("excitation_nm", "ExcitationWavelength"),
        ):
            value = _number(channel.get(attribute))
            if value:
                more[key] = value
        number = _number(channel.get("Color"))  # signed, red to alpha
        if number is not None and (colour := shown_colour((int(number) & 0xFFFFFFFF) >> 8)):
            more["colour"] = colour
        samples = int(_number(channel.get("SamplesPerPixel")) or 1)
        for _ in range(samples if samples > 1 and not name else 1):
            facts.names.append(name or dye)
            facts.aliases.append((dye,) if dye and dye != name else ())
            facts.channel_facts.append(dict(more))
    for plane in pixels.findall("Plane"):
        c = int(_number(plane.get("TheC")) or 0)
        value = _number(plane.get("ExposureTime"))
        if value and 0 <= c < len(facts.channel_facts):
            stated = plane.get("ExposureTimeUnit")
            if stated is None and value > _LONGEST_S:
                continue  # milliseconds under a schema whose unit is the second
            seconds = value * _SECONDS.get(stated or "s", 1.0)
            facts.channel_facts[c].setdefault("exposure_s", seconds)
    _objective(root, own, facts)
    acquired = own.find("AcquisitionDate")
    if acquired is not None and acquired.text:
        facts.metadata["acquired"] = acquired.text.strip()
    return facts


def shown_colour(rgb: int) -> str:
    """A channel's stated colour as ``#rrggbb``; empty for black, white and greys, which state none.

    Examples
    --------
    >>> shown_colour(0x00FF00), shown_colour(0xFFFFFF)
    ('#00ff00', '')
    """
    red, green, blue = rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255
    # writers that know no colour give white
    return "" if red == green == blue else f"#{red:02x}{green:02x}{blue:02x}"


def _objective(root: ET.Element, image: ET.Element, facts: Facts) -> None:
    wanted = image.find("ObjectiveSettings")
    objectives = list(root.iter("Objective"))
    if wanted is not None:
        objectives = [o for o in objectives if o.get("ID") == wanted.get("ID")] or objectives
    elif (used := image.find("InstrumentRef")) is not None:
        # an instrument that the image does not use may hold a placeholder of 1x
        own = [i for i in root.iter("Instrument") if i.get("ID") == used.get("ID")]
        objectives = [o for i in own for o in i.iter("Objective")] or objectives
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


def imagej_names(
    labels: Sequence[str], channels: int, images: int, *, together: int = 1
) -> list[str]:
    """Channel names out of ImageJ's slice labels, or an empty list.

    Labels that do not differ between channels name the image and are no channel names; so are
    labels that differ along z.  ``together`` planes of one channel follow each other.

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
        per_channel[i // together % channels].add(text.split("\n")[0].strip())
    if any(len(s) != 1 for s in per_channel):
        return []
    names = [worded(s.pop()) for s in per_channel]
    if not any(names) or (channels > 1 and len(set(names)) == 1):
        return []
    return _without_common(names) if all(names) else names


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
        facts.size((y, x) if x and y else None)
    channels = int(meta.get("channels", 1) or 1)
    images = int(meta.get("images", channels) or channels)
    slices, frames = (int(meta.get(k, 1) or 1) for k in ("slices", "frames"))
    labels = [str(t) for t in meta.get("Labels") or []]
    order = str(meta.get("order", "czt")).lower()
    together = slices if order.startswith("z") else 1
    facts.names = imagej_names(labels, channels, images, together=together)
    if channels == 1 and images in (slices, frames) and 1 < images <= len(labels):
        named = imagej_names(labels, images, images)
        if are_stains(named):  # stains that were saved as slices or frames
            facts.names = named
    tables = meta.get("LUTs") or []
    if len(tables) == channels:
        for table in tables:  # (3, 256), or its first component alone
            top = [int(part[-1]) for part in table] if len(table) == 3 else [0, 0, 0]
            colour = shown_colour(top[0] << 16 | top[1] << 8 | top[2])
            facts.channel_facts.append({"colour": colour} if colour else {})
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
    return size if all(0.02 <= s <= 20 for s in size) and not doubtful(size) else None


#: what MetaXpress and MetaMorph write into each page
_METASERIES = re.compile(r"^\s*<MetaData>.*</MetaData>\s*$", re.DOTALL)


def parse_metaseries(description: str) -> Facts | None:
    """Read a MetaSeries description (MetaXpress, MetaMorph); None where it is none.

    Examples
    --------
    >>> text = ('<MetaData><PlaneInfo><prop id="spatial-calibration-state" value="on"/>'
    ...         '<prop id="spatial-calibration-x" value="0.5"/>'
    ...         '<prop id="spatial-calibration-y" value="0.5"/>'
    ...         '<prop id="spatial-calibration-units" value="um"/>'
    ...         '<prop id="image-name" value="Cy5"/></PlaneInfo></MetaData>')
    >>> facts = parse_metaseries(text)
    >>> facts.names, facts.pixel_size_um
    (['Cy5'], (0.5, 0.5))
    """
    if not _METASERIES.match(description):
        return None
    try:
        root = ET.fromstring(description.strip().strip("\0"))  # noqa: S314 - as above
    except (ET.ParseError, ValueError):
        return None
    said = {str(p.get("id")): str(p.get("value", "")) for p in root.iter("prop")}
    facts = Facts()
    on = said.get("spatial-calibration-state", "").strip().casefold()
    if on in ("on", "1", "true", "-1"):
        unit = said.get("spatial-calibration-units", "")
        sizes = [_number(said.get(f"spatial-calibration-{axis}")) for axis in "yx"]
        y, x = (None if v is None else to_um(v, unit) for v in sizes)
        facts.size((y, x) if x and y else None)
    name = worded(said.get("_IllumSetting_", "") or said.get("image-name", ""))
    other = worded(said.get("image-name", ""))
    if name:
        facts.names, facts.aliases = [name], [(other,) if other and other != name else ()]
    for key, prop in (
        ("objective_magnification", "_MagNominalMagnification_"),
        ("objective_na", "_MagNA_"),
    ):
        value = _number(said.get(prop))
        if value:
            facts.metadata[key] = value
    exposure = re.search(r"Exposure(?: Time)?:\s*([\d.]+)\s*(ms|s)\b", said.get("Description", ""))
    if exposure and _number(exposure[1]):
        facts.channel_facts = [{"exposure_s": float(exposure[1]) * _SECONDS[exposure[2]]}]
    return facts
