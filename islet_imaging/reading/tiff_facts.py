"""What a TIFF says of itself, from whichever of its many places says it.

The idea: OME-XML, ImageJ's tags, MetaSeries, LSM, a scanner's text, page names and resolution tags
are asked in this order; the first that speaks is named beside what it said.
It fails softly: what nothing states stays open, and a value that only looks stated is named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from islet_imaging.errors import ImageReadError
from islet_imaging.reading.metadata import (
    IMPLAUSIBLE,
    Facts,
    parse_imagej,
    parse_metaseries,
    parse_ome,
    resolution_um,
    worded,
)
from islet_imaging.reading.names import are_stains
from islet_imaging.reading.slide_descriptions import parse_bif, parse_qptiff, parse_svs
from islet_imaging.reading.source import COLOURS, FileChannel

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

#: reading the names of more pages than this says nothing of channels
_MAX_NAMED_PAGES = 100


def facts_of(tif: TiffFile, kind: str) -> tuple[Facts, str, str]:
    """What the file says, and where names and pixel size were found.

    Raises
    ------
    ImageReadError
        If the file says that its pixels are no picture before they are stitched.
    """
    tags = tif.pages[0].tags
    x, y = (_rational(tags.valueof(code)) for code in (282, 283))
    facts, names_by, scale_by = Facts(), "", ""
    if tif.is_ome and tif.ome_metadata:
        facts = parse_ome(tif.ome_metadata) or facts
        names_by = scale_by = "OME-XML"
    elif tif.is_imagej and tif.imagej_metadata:
        facts = parse_imagej(tif.imagej_metadata, x, y)
        names_by, scale_by = "ImageJ labels", "ImageJ properties"
    elif (said := parse_metaseries(tif.pages[0].description)) is not None:
        facts = said
        names_by = scale_by = "MetaSeries description"
    elif kind == "lsm" and tif.lsm_metadata:
        facts = _lsm(tif.lsm_metadata)
        names_by = scale_by = "LSM metadata"
    elif kind == "svs":
        facts = parse_svs(tif.pages[0].description)
        scale_by = "Aperio description"
    elif kind == "qpi":
        facts = parse_qptiff([p.description for p in tif.series[0].pages if p is not None])
        names_by = "QPTIFF description"
    elif packets := _ventana(tif):
        facts, overlap = parse_bif(packets)
        scale_by = "Ventana's iScan"
        if overlap:
            raise ImageReadError(
                f"{tif.filehandle.path}: tiles of this Ventana slide overlap by up to {overlap} px "
                "and are not stitched here, so cells at the seams would count twice. Export it as "
                "a stitched OME-TIFF, for instance from QuPath, or with Bio-Formats' bfconvert"
            )
    if not any(facts.names):
        facts.names = _page_names(tif)
        names_by = "page names"
    other = not facts.doubt or facts.doubt.endswith(IMPLAUSIBLE)
    if facts.pixel_size_um is None and other and not tif.is_imagej:
        unit = tags.valueof(296, default=2)
        unit = int(unit) if isinstance(unit, int) else 2
        facts.pixel_size_um = resolution_um(x, y, unit)
        scale_by = "TIFF resolution in cm"
        if unit == 2 and (inches := resolution_um(x and x / 2.54, y and y / 2.54, 3)):
            facts.doubt = (
                f"{inches[1]:.4g} um in the tag of a print resolution in inches, which is mostly "
                "none of the microscope"
            )
    if facts.pixel_size_um is None:
        scale_by = ""
    return facts, names_by, scale_by


def _ventana(tif: TiffFile) -> list[str]:
    """XMP that a Ventana scanner wrote, of the first page and of the full resolution."""
    found = []
    for page in (tif.pages[0], tif.series[0].keyframe):
        value = page.tags.valueof(700)
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
        if "iScan" in text or "EncodeInfo" in text:
            found.append(text)
    return found


def _page_names(tif: TiffFile) -> list[str]:
    """What each page of the first series calls itself (tag PageName), if that tells pages apart."""
    n = len(tif.series[0])
    if n > _MAX_NAMED_PAGES:
        return []
    names = []
    for page in tif.series[0].pages:
        value = _page_name(page.aspage()) if page is not None else None
        names.append(worded(value.split("\n")[0]) if isinstance(value, str) else "")
    return names if any(names) and (n == 1 or len(set(names)) > 1) else []


def _page_name(page: TiffPage) -> Any:
    """What a page calls itself: the target of an ion beam image, else the tag PageName."""
    text = page.description
    if text.startswith("{") and "channel.target" in text:
        try:
            return json.loads(text).get("channel.target")
        except ValueError:
            pass
    return page.tags.valueof(285)


def name_planes(tif: TiffFile, facts: Facts, axes: str, sizes: Sequence[int]) -> str:
    """The axis of a stack whose planes bear the names of different stains; "" where none is.

    Stains that were saved as focal planes or time points are channels; their names are put into
    ``facts``.
    """
    long = [(a, n) for a, n in zip(axes, sizes, strict=True) if n > 1]
    if len(long) != 1 or long[0][0] not in "TZ":
        return ""
    axis, n = long[0]
    if len(facts.names) != n:
        named = _page_names(tif)
        if len(named) == n and are_stains(named):
            facts.names, facts.aliases, facts.channel_facts = named, [], []
    return axis if len(facts.names) == n and are_stains(facts.names) else ""


def _lsm(meta: Mapping[str, Any]) -> Facts:
    """Zeiss LSM: voxel sizes in metres, names of the channels' colours."""
    facts = Facts()
    y, x = (float(meta.get(f"VoxelSize{a}", 0) or 0) * 1e6 for a in "YX")
    facts.size((y, x) if x > 0 and y > 0 else None)
    names = (meta.get("ChannelColors") or {}).get("ColorNames") or []
    facts.names = [worded(str(n)) for n in names]
    return facts


def _rational(value: Any) -> float | None:
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1]) or None
    return None


def channels_of(facts: Facts, n: int, colours: bool, samples: int) -> tuple[FileChannel, ...]:
    """One record per channel; colours have their names, others what the metadata says."""
    out = []
    for i in range(n):
        known = len(facts.names) == n
        name = facts.names[i] if known else ""
        aliases = facts.aliases[i] if known and len(facts.aliases) == n else ()
        more = facts.channel_facts[i] if len(facts.channel_facts) == n else {}
        if colours and samples == 3:
            aliases = (*aliases, COLOURS[i % 3]) if name else aliases
            name = name or COLOURS[i % 3]
        out.append(FileChannel(name, aliases, more))
    return tuple(out)
