"""What columns, flags and settings are called for people: one dictionary for window and report.

The idea: tables and protocols have names that scripts rely on; a person reads the field's words for
them, the same ones everywhere, with the column's name beside (a tooltip) for whoever writes a
script.
It fails for a name that is not listed: that one is shown as it is, and a test says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from islet_imaging.protocol import Protocol

#: columns of a cell that no marker has
CELL_COLUMNS = {
    "islet": "islet (0: outside any)",
    "cell": "number of the cell",
    "y_px": "place from the top, px",
    "x_px": "place from the left, px",
    "y_um": "place from the top, µm",
    "x_um": "place from the left, µm",
    "nucleus_area_um2": "area of the nucleus, µm²",
    "dna_mean": "DNA, mean in the nucleus",
    "dna_integrated": "DNA, sum over the nucleus",
    "dna_texture": "DNA, unevenness in the nucleus",
    "nucleus_eccentricity": "how long the nucleus is (0 a circle, 1 a line)",
    "nucleus_solidity": "how smooth its outline is (1: no dent)",
    "touches_border": "cut by the image's border",
    "neighbours": "cells that touch it",
    "nearest_um": "distance to the nearest nucleus, µm",
    "phenotype": "call of all markers together",
    "excluded": "not counted",
    "flags": "what was noticed",
    "corrected_by": "corrected by",
    "condition": "condition",
    "batch": "batch",
    "image": "image",
    "region": "drawn region",
}
#: columns of a marker by their ending; {m} is the marker, {place} where it is expressed
MARKER_COLUMNS = {
    "nucleus_mean": "{m} in the nucleus, mean",
    "ring_mean": "{m} around the nucleus, mean",
    "ring_median": "{m} around the nucleus, median",
    "ring_p10": "{m} around the nucleus, dimmest tenth",
    "ring_p25": "{m} around the nucleus, dimmest quarter",
    "ring_p75": "{m} around the nucleus, brightest quarter",
    "sector_p25": "{m} around the nucleus, its dim sides",
    "sector_blend": "{m} around the nucleus, dim and all sides",
    "background": "{m} beside the cells",
    "neighbour_mean": "{m} of the cells that touch it, mean",
    "neighbour_max": "{m} of the brightest cell that touches it",
    "saturated": "{m}, share too bright for the camera",
    "texture": "{m}, unevenness",
    "network_own": "{m}, own light as the network sees it",
    "network_low": "{m}, own light as the network sees it, low guess",
    "network_high": "{m}, own light as the network sees it, high guess",
    "network_odds": "{m}, log odds of the network",
    "own": "{m} {place}, own light",
    "probability": "probability of {m}",
    "call": "call of {m}",
    "reason": "why {m} was called so",
    "call_before": "call of {m} as scored",
}
#: where a marker is measured, by its compartment
PLACES = {
    "cytoplasm": "around the nucleus",
    "nucleus": "in the nucleus",
    "membrane": "on the membrane",
}
#: flags of a cell that take it out of every share: "not counted: dying"
NOT_COUNTED = {
    "border": "cut by the border",
    "pyknotic": "dying",
    "by_hand": "by hand",
    "painted_out": "painted out",
    "burned_in": "under writing or a scale bar",
    "no_cell": "in none of the given cells",
    "left_out": "in a region to leave out",
}
#: region of a cell in an image whose islets were drawn, and in none of them
OUTSIDE = "outside"
#: flags of single cells
CELL_FLAGS = {
    "border": "cut by the image's border",
    "pyknotic": "nucleus looks dying (small and bright)",
    "saturated": "brighter than the camera could record",
    "autofluorescent": "bright in several channels: autofluorescence?",
    "out_of_focus": "out of focus",
    "by_hand": "taken out by hand",
    "painted_out": "painted out",
    "burned_in": "under writing or a scale bar",
    "no_cell": "in none of the given cells",
    "left_out": "in a region to leave out",
}
#: flags of images and folders
IMAGE_FLAGS = {
    "autofluorescence": "spots that glow in every channel",
    "bleed_through": "light of one stain reaches another",
    "burned_in": "scale bar or writing in the picture",
    "control_not_negative": "a negative control that is not negative",
    "control_not_used": "a negative control that is not like its samples",
    "constant_channel": "a channel without an image",
    "display_scaled": "contrast was changed before saving",
    "duplicate": "the same picture twice",
    "empty_channel": "a channel of noise alone",
    "exposure_mismatch": "exposed differently from its controls or batch",
    "few_cells": "few nuclei",
    "identical_channels": "two channels are the same picture",
    "implausible_nuclei": "nuclei of no plausible size",
    "lossy": "compressed with loss",
    "many_at_border": "many nuclei cut by the border",
    "many_pyknotic": "many dying nuclei",
    "mixed_acquisition": "images taken with different settings",
    "near_duplicate": "the same field twice",
    "given_cells": "whole cells from another program",
    "given_nuclei": "nuclei from another program",
    "no_nuclei": "no nucleus found",
    "no_regions": "no islet is drawn",
    "nuclei_without_cell": "many nuclei in none of the given cells",
    "no_threshold": "no threshold can be told",
    "not_finite": "pixels without a value",
    "nuclei_unlike_others": "nuclei unlike those of the other images",
    "nucleus_size_differs": "nuclei of another size than stated",
    "odd_nuclei": "given nuclei of sizes that no nucleus has",
    "out_of_domain": "unlike what the network was taught on",
    "out_of_focus": "out of focus",
    "overlapping_fields": "fields that overlap",
    "painted_out": "background clipped or painted out",
    "partly_out_of_focus": "partly out of focus",
    "regions": "regions that were drawn",
    "saturated": "brighter than the camera could record",
    "swapped_channels": "channels seem swapped",
    "thick_section": "thick section",
    "tile_seam": "a seam between tiles",
    "uneven_illumination": "one side darker than the other",
}
#: settings of a protocol that messages speak of, by section and key; a value follows where it tells
SETTINGS = {
    "channels.role": "what a channel is",
    "channels.source": "the channel's name in the file",
    "reading.pixel_size_um": "the pixel size",
    "reading.projection": "what to do with the planes of a stack",
    "reading.file_pattern": "the pattern of file names",
    "nuclei.diameter_um": "the size of a nucleus",
    "correction.bleed_through": "the correction of bleed-through",
    "correction.flat_field": "the correction of uneven illumination",
    "correction.background": "the correction of background",
    "islets.preparation": "how the islets were prepared",
    "positivity.method": "how cells are called",
    "positivity.model": "the network",
    "positivity.feature": "the measurement that calls rest on",
    "positivity.threshold": "the threshold",
}
#: values of settings in words; others are told as they are, and "..." is none
_VALUES = {"controls": "by controls", "auto": "from the images", "off": "off"}
_QUOTED = re.compile(r"`([^`]*)`")
_SETTING = re.compile(r"^(?:(\w+): ?\{?)?(\w+)(?::\s*([^{}]+?))?\}?\}?$")


def column(name: str, protocol: Protocol | None = None) -> str:
    """A column of the cells table in words.

    Parameters
    ----------
    name : str
        Its name in the table.
    protocol : Protocol, optional
        Of the run: says which markers there are and where they lie.

    Returns
    -------
    str
        The name itself where there are no words for it.

    Examples
    --------
    >>> column("INS_own"), column("nucleus_area_um2"), column("x_y_z")
    ('INS around the nucleus, own light', 'area of the nucleus, µm²', 'x_y_z')
    """
    if name in CELL_COLUMNS:
        return CELL_COLUMNS[name]
    places = {}
    if protocol is not None:
        places = {m: protocol.channel(m).compartment for m in protocol.markers}
    # the longest ending first: "INS_network_own" is no "own" of a marker "INS_network"
    for ending in sorted(MARKER_COLUMNS, key=len, reverse=True):
        marker = name.removesuffix(f"_{ending}")
        if marker != name and marker and (not places or marker in places):
            place = PLACES[places.get(marker, "cytoplasm")]
            return MARKER_COLUMNS[ending].format(m=marker, place=place)
    return name


def flag(code: str) -> str:
    """A flag's code in words: of a cell where there is such a one, else of an image.

    Examples
    --------
    >>> flag("pyknotic"), flag("tile_seam"), flag("new_one")
    ('nucleus looks dying (small and bright)', 'a seam between tiles', 'new one')
    """
    return CELL_FLAGS.get(code) or image_flag(code)


def image_flag(code: str) -> str:
    """A flag of an image or of a folder in words.

    Examples
    --------
    >>> image_flag("saturated")
    'brighter than the camera could record'
    """
    return IMAGE_FLAGS.get(code) or code.replace("_", " ")


def codes(text: object) -> list[str]:
    """The codes in a field of a column ``flags``.

    Examples
    --------
    >>> codes("border;saturated"), codes("")
    (['border', 'saturated'], [])
    """
    return [code for code in str(text).split(";") if code and code != "nan"]


def not_counted(flags: Iterable[object], *, border: bool = True) -> dict[str, int]:
    """Why cells count in no share, and how many of each.

    Parameters
    ----------
    flags : iterable of str
        The field ``flags`` of every cell that is excluded.
    border : bool
        Whether the protocol leaves out cells at the border (`Nuclei.exclude_border`): then that is
        the reason of those that look dying as well.

    Returns
    -------
    dict of str to int
        Each cell once; what a person did stands above what the tool found. The most frequent first.

    Examples
    --------
    >>> not_counted(["border", "border;by_hand", "border;pyknotic", ""])
    {'cut by the border': 2, 'by hand': 1, 'for no stated reason': 1}
    """
    order = [code for code in reversed(NOT_COUNTED) if code != "border"]
    order.insert(order.index("pyknotic") + (not border), "border")
    found: dict[str, int] = {}
    for text, n in Counter(flags).items():
        own = set(codes(text))
        why = next((NOT_COUNTED[c] for c in order if c in own), "for no stated reason")
        found[why] = found.get(why, 0) + n
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def told(reasons: Mapping[str, int]) -> str:
    """Reasons and numbers as one clause.

    Examples
    --------
    >>> told({"cut by the border": 2, "dying": 1})
    'not counted: 3 (2 cut by the border, 1 dying)'
    >>> told({})
    ''
    """
    if not reasons:
        return ""
    each = ", ".join(f"{n:,} {why}" for why, n in reasons.items())
    return f"not counted: {sum(reasons.values()):,} ({each})"


def plain(message: str) -> str:
    """A message without the syntax of protocols: settings by what they do.

    Examples
    --------
    >>> plain("Take controls and set `correction: {bleed_through: controls}`.")
    'Take controls and set the correction of bleed-through (by controls).'
    >>> plain("Correct `reading: pixel_size_um` or `nuclei: diameter_um`")
    'Correct the pixel size or the size of a nucleus'
    """
    return _QUOTED.sub(_in_words, message) if "`" in message else message


def _in_words(quoted: re.Match[str]) -> str:
    text = quoted[1].strip()
    found = _SETTING.match(text)
    if found is None:
        return f"“{text}”"
    section, key, value = found.groups()
    if section is not None and value is None and f"{section}.{key}" not in SETTINGS:
        # "role: dna" is a key with its value
        key, value, section = section, key, None
    name = next(
        (
            words
            for setting, words in SETTINGS.items()
            if setting.split(".")[1] == key and section in (None, setting.split(".")[0])
        ),
        "",
    )
    if not name:
        return f"“{text}”" if ":" not in text else f"“{key.replace('_', ' ')}”"
    if value is None or value.strip(". ") == "":
        return name
    return f"{name} ({_VALUES.get(value, value)})"
