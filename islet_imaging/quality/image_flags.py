"""Checks of one image: what must be known before its numbers are believed.

The idea: each check is a rule of a few lines on the numbers of :mod:`.numbers`, on the file's
metadata and on the cells table; it says nothing when all is well.  Limits that labs may want to
move live in ``Protocol.quality``; the others are constants here, each with the reason beside it.
It fails where one image cannot tell (defocus of a whole image, exposure against the control):
those are comparisons, made by :func:`check_folder`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.protocol import Protocol
from islet_imaging.quality.flag import SEVERITIES, Flag
from islet_imaging.quality.numbers import ChannelNumbers, ImageNumbers, measure_quality
from islet_imaging.quality.scale import scale_flags

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.network.scale import FoundScale

#: variance of block means over that of pure pixel noise, below which a channel shows nothing
EMPTY_STRUCTURE = 2.0
#: share of empty grey levels that stretched integers leave
COMB = 0.15
#: step across 8-pixel borders over other steps, above which a picture was JPEG
BLOCKINESS = 1.10
#: a straight step of this many robust standard deviations is a seam
SEAM_Z = 7.5
#: a marker this many times as nuclear as the DNA channel, with this much variation at the scale of
#: nuclei, this much against the DNA channel's, beside a DNA channel this patchy, is the DNA channel
SWAPPED, NUCLEAR_BAND, BAND_RATIO, PATCHY = 0.9, 0.4, 0.9, 0.3
#: variation between cells that a stained marker shows; glow alone shows less
STAINED_SLOW = 0.38
#: thickness above which widefield light of neighbouring cells dominates errors, um
THICK_UM = 8.0
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp")


def check_image(
    channels: Mapping[str, NDArray[Any]],
    *,
    protocol: Protocol,
    metadata: Mapping[str, Any],
    cells: pd.DataFrame | None = None,
    pixel_size_um: float | None,
    numbers: ImageNumbers | None = None,
    out_of_domain: Mapping[str, float] | None = None,
    scale: FoundScale | None = None,
) -> list[Flag]:
    """Everything that one image alone can say against itself.

    Parameters
    ----------
    channels : mapping of str to ndarray, each (Y, X)
        Pixels as stored, before any correction; channels with the role ``ignore`` may be left out.
    protocol : Protocol
        Names the channels; ``protocol.quality`` holds the limits.
    metadata : mapping
        What the file and the sample sheet say: ``role``, ``significant_bits``, ``compression``,
        ``suffix``,
        ``modality``, ``section_um`` are used where present.
    cells : DataFrame, optional
        The cells table with the column ``flags`` of :func:`flag_cells`.
    pixel_size_um : float or None
        Edge of a pixel, um.
    numbers : ImageNumbers, optional
        What :func:`measure_quality` found, where it was run before.
    out_of_domain : mapping of str to float, optional
        Share of cells per marker that a network holds to be unlike its training data.
    scale : FoundScale, optional
        What the nuclei say of the pixel size.

    Returns
    -------
    list of Flag
        The most serious first.

    Examples
    --------
    >>> from islet_imaging.protocol import Channel, Protocol
    >>> protocol = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS")))
    >>> black = {"DAPI": np.zeros((64, 64), np.uint16), "INS": np.zeros((64, 64), np.uint16)}
    >>> [f.code for f in check_image(black, protocol=protocol, metadata={}, pixel_size_um=0.5)]
    ['constant_channel', 'constant_channel']
    """
    used = {
        c.name: channels[c.name]
        for c in protocol.channels
        if c.role != "ignore" and c.name in channels
    }
    if numbers is None:
        bits = metadata.get("significant_bits")
        numbers = measure_quality(
            used,
            dna=protocol.dna,
            pixel_size_um=pixel_size_um,
            bits=int(bits) if bits else None,
        )
    sizes = list(scale_flags(scale, protocol))
    found = [
        *_values(numbers, protocol),
        *_encoding(numbers, metadata),
        *_optics(numbers, protocol, metadata),
        *_shared_light(numbers, protocol),
        *_cells(cells, protocol),
        *_domain(out_of_domain),
        *sizes,
    ]
    if not any(f.severity == "block" for f in sizes):
        # what looks like nuclei is told by their size in um
        found += _identity(numbers, protocol, metadata)
    return sorted(found, key=lambda f: -SEVERITIES.index(f.severity))


def _percent(share: float) -> str:
    value = 100 * share
    return f"{value:.2g} %" if value < 1 else f"{value:.0f} %"


def _length(value: Any) -> float | None:
    """A length of the sample sheet, None where it is empty or no number."""
    try:
        length = float(value)
    except (TypeError, ValueError):
        return None
    return length if np.isfinite(length) and length > 0 else None


def _dead(c: ChannelNumbers) -> bool:
    """A channel of one value: no rule on its texture means anything."""
    return c.maximum <= c.minimum


def _values(numbers: ImageNumbers, protocol: Protocol) -> Iterator[Flag]:
    limits = protocol.quality
    for name, c in numbers.channels.items():
        if c.not_finite > 0:
            yield Flag(
                "not_finite",
                "block",
                f"{name}: {_percent(c.not_finite)} of the pixels are NaN or infinite; they were "
                "taken as 0. Export the image again, or crop the part without values.",
                name,
            )
        if _dead(c):
            yield Flag(
                "constant_channel",
                "block",
                f"{name}: every pixel has the value {c.minimum:g}; there is no image in this "
                "channel. Check the export and which channel of the file is meant.",
                name,
            )
            continue
        if c.structure < EMPTY_STRUCTURE:
            is_dna = name == protocol.dna
            yield Flag(
                "empty_channel",
                "block" if is_dna else "warning",
                f"{name}: nothing but noise is seen (variation {c.structure:.1f} times that of "
                "pixel noise). "
                + (
                    "No nuclei can be found; check the channel order."
                    if is_dna
                    else "A fraction of 0 % here may be a failed stain or a closed shutter; "
                    "compare with a positive control."
                ),
                name,
            )
        if c.saturated > limits.saturated_fraction:
            block = c.saturated > limits.saturated_fraction_block
            yield Flag(
                "saturated",
                "block" if block else "warning",
                f"{name}: {_percent(c.saturated)} of the tissue is clipped at {c.maximum:g} "
                f"(limit {_percent(limits.saturated_fraction)}). "
                + (
                    "Do not report intensities of this channel; calls of bright cells still hold. "
                    if block
                    else "Intensities of the brightest cells are too low. "
                )
                + "Expose less next time, with the same setting for samples and controls.",
                name,
            )
        if c.at_minimum > 0.2 and c.minimum == 0:
            yield Flag(
                "painted_out",
                "info",
                f"{name}: {_percent(c.at_minimum)} of the pixels are exactly 0: the background "
                "was clipped or painted out, so background and noise cannot be judged.",
                name,
            )


def _encoding(numbers: ImageNumbers, metadata: Mapping[str, Any]) -> Iterator[Flag]:
    live = {n: c for n, c in numbers.channels.items() if not _dead(c)}
    suffix = str(metadata.get("suffix", "")).lower()
    compression = str(metadata.get("compression", "")).lower()
    blocky = [n for n, c in live.items() if c.blockiness > BLOCKINESS]
    if metadata.get("lossy") or suffix in LOSSY_SUFFIXES or "jpeg" in compression or blocky:
        stated = metadata.get("lossy") or suffix in LOSSY_SUFFIXES or "jpeg" in compression
        how = (
            "the file's own encoding"
            if stated
            else f"blocks of 8 x 8 pixels show in {', '.join(blocky)}"
        )
        yield Flag(
            "lossy",
            "warning",
            f"The picture was compressed with loss ({how}): dim signal and texture are altered. "
            "Score the microscope's own file instead.",
        )
    stretched = [n for n, c in live.items() if c.comb > COMB]
    full = [
        n for n, c in live.items() if c.minimum == 0 and c.maximum == 255 and c.dtype == "uint8"
    ]
    if stretched:
        worst = max(stretched, key=lambda n: live[n].comb)
        yield Flag(
            "display_scaled",
            "warning",
            f"{', '.join(stretched)}: contrast was stretched before saving ("
            f"{_percent(live[worst].comb)} of the grey levels are never used). Intensities cannot "
            "be compared with other images or with a control. Export without auto-contrast.",
            worst,
        )
    elif live and len(full) == len(live) and len(live) > 1:
        yield Flag(
            "display_scaled",
            "warning",
            "Every channel runs exactly from 0 to 255 in 8 bits, as after auto-contrast. If so, "
            "intensities cannot be compared with other images or with a control. Export the "
            "original bit depth without contrast changes.",
        )
    names = list(live)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if live[a].digest == live[b].digest:
                yield Flag(
                    "identical_channels",
                    "block",
                    f"{a} and {b} hold identical pixels: one of them is not what its name says, "
                    "or the picture is grey saved as colour. Check the channel mapping.",
                    b,
                )


def _optics(
    numbers: ImageNumbers, protocol: Protocol, metadata: Mapping[str, Any]
) -> Iterator[Flag]:
    thickness = _length(metadata.get("section_um")) or protocol.acquisition.section_um
    modality = str(metadata.get("modality") or protocol.acquisition.modality)
    if thickness is not None and thickness >= THICK_UM and modality in ("widefield", "scanner"):
        yield Flag(
            "thick_section",
            "warning",
            f"A section of {thickness:g} um seen in {modality}: light of neighbouring "
            "cells falls on negative ones, so the risk of spill-over is high. Compare the "
            "corrected with the uncorrected fraction; cut 3 to 5 um or use a confocal next time.",
        )
    if numbers.sharpness is not None:
        if numbers.sharpness < protocol.quality.min_focus:
            yield Flag(
                "out_of_focus",
                "warning",
                f"The DNA channel's sharpness is {numbers.sharpness:.2g} (limit "
                f"{protocol.quality.min_focus:.2g}): the image looks out of focus. Look at it "
                "and exclude or repeat it.",
                protocol.dna,
            )
        elif numbers.sharpness_tiles is not None:
            tiles = numbers.sharpness_tiles[np.isfinite(numbers.sharpness_tiles)]
            if tiles.size >= 6:
                # a seventh of what the image's own good tiles show: about 0.5 um more blur; of
                # the tiles of sharp phantoms up to 4 % are that soft
                soft = tiles < 0.15 * np.percentile(tiles, 80)
                if soft.mean() > 0.12 and np.count_nonzero(soft) >= 2:
                    yield Flag(
                        "partly_out_of_focus",
                        "warning",
                        f"{_percent(float(soft.mean()))} of the tissue is much less sharp than "
                        "the rest (tilt, fold or thick part). Look at it and paint out what "
                        "cannot be judged.",
                        protocol.dna,
                    )
    if numbers.seam > SEAM_Z:
        yield Flag(
            "tile_seam",
            "warning",
            "Brightness jumps along a straight line from edge to edge "
            f"({numbers.seam:.0f} times chance), as between tiles. Stitch with shading "
            "correction, and do not compare intensities across the line.",
        )


def _identity(
    numbers: ImageNumbers, protocol: Protocol, metadata: Mapping[str, Any]
) -> Iterator[Flag]:
    dna = numbers.channels.get(protocol.dna)
    if dna is None or _dead(dna) or str(metadata.get("role", "")).startswith("single_stain"):
        # a single stain has no DNA dye, or no marker
        return
    for name in protocol.markers:
        c = numbers.channels.get(name)
        if c is None or _dead(c) or protocol.channel(name).compartment == "nucleus":
            continue
        likeness = nuclear_likeness(c, dna)
        if (
            likeness > SWAPPED
            and c.band > max(NUCLEAR_BAND, BAND_RATIO * dna.band)
            and dna.slow > PATCHY
        ):
            yield Flag(
                "swapped_channels",
                "block",
                f"{name} looks like nuclei and {protocol.dna} does not ({likeness:.1f} times as "
                "nuclear): the two channels seem swapped. Check the channel order of the file "
                "and `source` in the protocol.",
                name,
            )


def nuclear_likeness(c: ChannelNumbers, dna: ChannelNumbers) -> float:
    """How many times as nuclear as the DNA channel another channel looks; NaN if not known.

    Nuclei vary much at their own scale (bright on dark) and little beyond it (alike and evenly
    spread); a cytoplasmic marker the other way round, since cells differ in expression.
    """
    if not (dna.band > 0 and c.slow > 0):
        return float("nan")
    return (c.band / dna.band) * (dna.slow / c.slow)


def _shared_light(numbers: ImageNumbers, protocol: Protocol) -> Iterator[Flag]:
    limits = protocol.quality
    if numbers.specks is not None and numbers.specks > limits.specks_per_mm2:
        yield Flag(
            "autofluorescence",
            "warning",
            f"{numbers.specks:.0f} small spots per mm2 glow in all hormone channels at once (limit "
            f"{limits.specks_per_mm2:.0f}): lipofuscin or red cells rather than hormone. Look at "
            "double-positive cells before believing them; quench, or take an unstained channel.",
        )
    for source, targets in numbers.bleed.items():
        # nuclei lie where tissue, and so haze, is dense; only a control can tell (folder)
        if source == protocol.dna or not numbers.channels[source].slow > STAINED_SLOW:
            continue
        for target, slope in targets.items():
            # haze of the commoner stain lies over the rarer one wherever that is: only the light
            # of the commoner one can be told from it, and what bled is not the target's own
            lent = (1 + max(slope, 0.0)) * numbers.channels[source].light
            rarer = lent < numbers.channels[target].light
            if slope > limits.bleed_through and not rarer:
                yield Flag(
                    "bleed_through",
                    "warning",
                    f"{_percent(slope)} of the light of {source} seems to reach {target} (limit "
                    f"{_percent(limits.bleed_through)}): even the dimmest {target} values rise "
                    f"with {source}. Take single-stain controls and set `correction: "
                    "{bleed_through: controls}`.",
                    target,
                )


def _cells(cells: pd.DataFrame | None, protocol: Protocol) -> Iterator[Flag]:
    if cells is None:
        return
    limits = protocol.quality
    count = len(cells)
    if count == 0:
        yield Flag(
            "no_nuclei",
            "block",
            "No nucleus was found: nothing can be counted. Look at the DNA channel, and check "
            "pixel size and channel order.",
            protocol.dna,
        )
    elif count < limits.min_cells:
        few = count < limits.min_cells / 4
        yield Flag(
            "few_cells",
            "warning" if few else "info",
            f"{count} nuclei were found (asked for: {limits.min_cells}): the image's own fraction "
            "is uncertain. Score more fields of this islet or batch.",
        )
    if count < 20:
        return
    codes = cells["flags"].fillna("").astype(str).str.split(";") if "flags" in cells else None
    if codes is None:
        return

    def share(code: str) -> float:
        return float(codes.map(lambda found: code in found).mean())

    border, dying, bright = share("border"), share("pyknotic"), share("autofluorescent")
    if border > limits.border_fraction:
        yield Flag(
            "many_at_border",
            "warning",
            f"{_percent(border)} of the nuclei touch the image border (limit "
            f"{_percent(limits.border_fraction)}) and are not counted. Take larger fields, or "
            "fields centred on the islet.",
        )
    # nuclei cut by the border are not judged; a share of few scatters, so it must be beyond the
    # limit by a standard deviation
    uncut = max(1, round(count * (1 - border)))
    dying *= count / uncut
    scatter = float(np.sqrt(limits.pyknotic_fraction * (1 - limits.pyknotic_fraction) / uncut))
    if dying > limits.pyknotic_fraction + scatter:
        yield Flag(
            "many_pyknotic",
            # the share of a few dozen nuclei is too uncertain to warn of
            "warning" if uncut >= limits.min_cells else "info",
            f"{_percent(dying)} of the nuclei are small, bright and condensed (limit "
            f"{_percent(limits.pyknotic_fraction)}): dying cells, which take up stain. They are "
            "counted beside, not in the fraction. Report this share.",
        )
    if bright > limits.autofluorescent_fraction:
        yield Flag(
            "autofluorescence",
            "warning",
            f"{_percent(bright)} of the cells glow in every channel (limit "
            f"{_percent(limits.autofluorescent_fraction)}): lipofuscin, red cells or debris. Look "
            "at them before believing double-positive cells.",
        )


def _domain(out_of_domain: Mapping[str, float] | None) -> Iterator[Flag]:
    for marker, share in (out_of_domain or {}).items():
        if share > 0.2:
            yield Flag(
                "out_of_domain",
                "warning",
                f"{marker}: {_percent(share)} of the cells look unlike anything the network was "
                "trained on. Compare with the control threshold and correct some cells by hand.",
                marker,
            )
