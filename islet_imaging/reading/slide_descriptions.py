"""What slide scanners write beside the pixels: Aperio's text, Akoya's and Ventana's XML.

The idea: the same tolerant parsers as for microscopes' metadata; a scanner's own statement of the
pixel size stands above the resolution tags, which some of them leave at a printer's 72 dpi.
It fails softly: a description in another form says nothing, and names and size are then asked for.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from islet_imaging.reading.metadata import Facts, plausible

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def parse_svs(description: str) -> Facts:
    """Read an Aperio description: ``Aperio Image Library ...|AppMag = 20|MPP = 0.4990``.

    Examples
    --------
    >>> parse_svs("Aperio Image Library v12|AppMag = 20|MPP = 0.499").pixel_size_um
    (0.499, 0.499)
    """
    facts = Facts()
    said = {
        key.strip().casefold(): value.strip()
        for key, sign, value in (item.partition("=") for item in description.split("|")[1:])
        if sign
    }
    _keep_scale(facts, said.get("mpp"), said.get("appmag"))
    return facts


def _keep_scale(facts: Facts, pixel_um: str | None, magnification: str | None) -> None:
    """Keep what a scanner says of its scale, as far as it is a number."""
    if size := _number(pixel_um):
        facts.pixel_size_um = plausible((size, size))
    if times := _number(magnification):
        facts.metadata["objective_magnification"] = times


def parse_bif(packets: Sequence[str]) -> tuple[Facts, int]:
    """Read what a Ventana (Roche) scanner keeps as XMP: its scale, and how far tiles overlap.

    Parameters
    ----------
    packets : sequence of str
        XMP of the pages: one holds ``iScan``, that of the full resolution ``EncodeInfo``.

    Returns
    -------
    facts : Facts
        Pixel size of ``ScanRes``, um, and magnification.
    overlap_px : int
        Most that two joined tiles overlap (``TileJointInfo``), px; 0 where none do.

    Examples
    --------
    >>> facts, overlap = parse_bif([
    ...     '<iScan Magnification="20" ScanRes="0.465"/>',
    ...     '<EncodeInfo><SlideStitchInfo><ImageInfo><TileJointInfo FlagJoined="1" '
    ...     'Direction="RIGHT" OverlapX="63" OverlapY="-2"/></ImageInfo></SlideStitchInfo>'
    ...     '</EncodeInfo>'])
    >>> facts.pixel_size_um, overlap
    ((0.465, 0.465), 63)
    """
    facts, overlap = Facts(), 0.0
    for packet in packets:
        try:
            root = ET.fromstring(_DECLARATION.sub("", packet).strip("\0 \r\n\t"))  # noqa: S314
        except (ET.ParseError, ValueError):
            continue
        for scan in root.iter("iScan"):
            _keep_scale(facts, scan.get("ScanRes"), scan.get("Magnification"))
        for joint in root.iter("TileJointInfo"):
            if joint.get("FlagJoined") == "1":
                along = "OverlapY" if joint.get("Direction") in ("UP", "DOWN") else "OverlapX"
                overlap = max(overlap, _number(joint.get(along)) or 0.0)
    return facts, round(overlap)


def parse_qptiff(descriptions: Sequence[str]) -> Facts:
    """Read Akoya's (PerkinElmer's) description of each page of a QPTIFF.

    A channel goes by its biomarker where every page names another one, else by its filter's or
    dye's name; the other is an alias.

    Examples
    --------
    >>> page = ("<PerkinElmer-QPI-ImageDescription><Name>Opal 520</Name><Biomarker>INS</Biomarker>"
    ...         "<ExposureTime>20000</ExposureTime></PerkinElmer-QPI-ImageDescription>")
    >>> facts = parse_qptiff([page])
    >>> facts.names, facts.aliases, facts.channel_facts
    (['INS'], [('Opal 520',)], [{'exposure_s': 0.02}])
    """
    facts = Facts()
    pages = [_page(d) for d in descriptions]
    if not all(pages):
        return facts
    by_marker = [p.get("Biomarker", "") for p in pages]
    by_name = [p.get("Name", "") for p in pages]
    first, second = by_marker, by_name
    if not all(by_marker) or len(set(by_marker)) < len(pages):
        first, second = by_name, by_marker
    facts.names = first
    facts.aliases = [(b,) if b and b != a else () for a, b in zip(first, second, strict=True)]
    for page in pages:
        exposure = _number(page.get("ExposureTime"))
        # stated in microseconds
        facts.channel_facts.append({"exposure_s": exposure / 1e6} if exposure else {})
    magnification = _number(pages[0].get("Objective", "").rstrip("xX "))
    if magnification:
        facts.metadata["objective_magnification"] = magnification
    return facts


def _page(description: str) -> dict[str, str]:
    """Elements of one page's description that hold text."""
    try:
        # the declaration speaks of UTF-16, which a decoded text is no longer in
        root = ET.fromstring(_DECLARATION.sub("", description.strip("\ufeff\0 \n")))  # noqa: S314
    except (ET.ParseError, ValueError):
        return {}
    if not root.tag.endswith("QPI-ImageDescription"):
        return {}
    return {str(e.tag): e.text.strip() for e in root if e.text and e.text.strip()}


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else 0.0
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
