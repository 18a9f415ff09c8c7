"""Is the stated scale one that nuclei can have?

The idea: nuclei are a ruler in every image.  Where they would be smaller or larger than any
nucleus, or other than stated, the pixel size is wrong, most likely by one of a few factors.
Counts and calls do not depend on it where nothing else was stated; areas, diameters and distances
do.  It fails where a wrong size gives a nucleus that some cell has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from islet_imaging.network.scale import FoundScale
from islet_imaging.protocol import Protocol
from islet_imaging.quality.flag import Flag

#: diameters as an image shows them that no nucleus has, um
SMALLEST_UM, LARGEST_UM = 4.0, 15.0
#: times off what was stated that is worth a word, and that blocks
WORTH_A_WORD, WRONG = 1.3, 2.0
#: share of doubtful foreground above which a DNA image is unlike what the network knows; how often
#: that is a false alarm: ``benchmarks/quality/domain.py``
DOUBT = 0.38


def scale_flags(scale: FoundScale | None, protocol: Protocol) -> Iterator[Flag]:
    """What the nuclei of an image say against its stated scale.

    Parameters
    ----------
    scale : FoundScale or None
        As found; one that saw too few nuclei says nothing.
    protocol : Protocol
        Holds the stated diameter.

    Yields
    ------
    Flag
        ``nucleus_size_differs`` where a diameter is stated and the image shows another one,
        ``implausible_nuclei`` where nuclei would be below 4 or above 15 um; ``out_of_domain`` where
        the network is unsure of much of what it finds.

    Examples
    --------
    >>> from islet_imaging.protocol import Channel
    >>> protocol = Protocol(channels=(Channel("DAPI", "dna"),))
    >>> [f.severity for f in scale_flags(FoundScale(8, 8, 500, "image", 0.2), protocol)]
    ['block']
    >>> list(scale_flags(FoundScale(15, 13, 500, "usual", 0.5), protocol))
    []
    """
    if scale is not None and scale.doubt is not None and scale.doubt > DOUBT:
        yield Flag(
            "out_of_domain",
            "warning",
            f"Of {100 * scale.doubt:.0f} % of what it takes for nuclei the network is not sure "
            f"(limit {100 * DOUBT:.0f} %): the {protocol.dna} channel is unlike the nuclei that it "
            "knows. Check that it is the DNA stain and in focus, and look at the outlines before "
            "believing a count.",
            protocol.dna,
        )
    seen = None if scale is None else scale.seen_um
    if seen is None or scale is None:
        return
    stated = protocol.nuclei.diameter_um
    if stated is not None:
        off = max(seen / stated, stated / seen)
        if off > WORTH_A_WORD:
            yield Flag(
                "nucleus_size_differs",
                "block" if off > WRONG else "warning",
                f"Nuclei are {seen:.2g} um across at {scale.pixel_size_um:g} um per pixel, not the "
                f"{stated:g} um that the protocol states: {off:.2g} times off. {_cause(off)} "
                "Correct `reading: pixel_size_um` or `nuclei: diameter_um`; nuclei were searched "
                "with the stated diameter.",
                protocol.dna,
            )
        return
    if SMALLEST_UM <= seen <= LARGEST_UM:
        return
    off = SMALLEST_UM / seen if seen < SMALLEST_UM else seen / LARGEST_UM
    from_usual = max(seen / 7.5, 7.5 / seen)
    yield Flag(
        "implausible_nuclei",
        "block" if off > WRONG else "warning",
        f"Nuclei would be {seen:.2g} um across at {scale.pixel_size_um:g} um per pixel; nuclei "
        f"have {SMALLEST_UM:g} to {LARGEST_UM:g} um. {_cause(from_usual)} Correct "
        "`reading: pixel_size_um`: areas, diameters and distances are wrong; nuclei were searched "
        "with the diameter that the image shows.",
        protocol.dna,
    )


def _cause(off: float) -> str:
    """The likeliest reason for a pixel size that is wrong by a factor."""
    if off > 8:
        return "Likely another unit (nm, mm, inch) or pixels taken for um."
    if off > 3:
        return "Likely the size of another objective, or 4x4 binning that the file leaves out."
    if off > 1.6:
        return "Likely 2x2 binning that the file leaves out, or the size of another objective."
    return "Likely the size of another objective or camera adapter, or other cells."


def size_flags(members: Sequence[Mapping[str, Any]], batch: str) -> Iterator[Flag]:
    """Images of one staining run whose nuclei differ in size from the others'.

    Parameters
    ----------
    members : sequence of mapping
        ``image`` and, where known, ``scale``: what :meth:`FoundScale.to_dict` gives.
    batch : str
        Name of the run, for the message.

    Yields
    ------
    Flag
        ``nuclei_unlike_others``, of an image.
    """
    seen = {
        str(row["image"]): float(row["scale"]["seen_um"])
        for row in members
        if row.get("scale") and row["scale"].get("seen_um")
    }
    if len(seen) < 3:
        return
    middle = float(np.median(list(seen.values())))
    for image, value in seen.items():
        off = max(value / middle, middle / value)
        if off > WORTH_A_WORD:
            yield Flag(
                "nuclei_unlike_others",
                "warning",
                f"{image}: nuclei are {value:.2g} um across, those of "
                f"{'batch ' + batch if batch else 'the other images'} {middle:.2g} um. "
                f"{_cause(off)} Check its pixel size and focus.",
                image=image,
            )
