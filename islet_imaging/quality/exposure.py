"""Were the images of a run taken with one setting?  From what files state, or from their light.

The idea: another exposure or gain multiplies every level of a channel, dark background, dim tissue
and bright cells alike, while biology moves some levels and leaves others.  Levels are taken above
the one at which noise would vanish, so that the camera's offset is no part of them.
It fails for changes under a factor of about 1.5 (2 where the read noise of the camera is as large
as the light of the background), in images without a dark part, and where samples and controls were
changed alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from islet_imaging.protocol import Protocol, negative_for
from islet_imaging.quality.flag import Flag
from islet_imaging.quality.numbers import ChannelNumbers

Rows = list[dict[str, Any]]

#: metadata that must agree between a sample and its control, and how people call it
SETTINGS = {
    "exposure_s": "exposure time",
    "exposure_ms": "exposure time",
    "gain": "gain",
    "laser_power": "laser power",
    "binning": "binning",
}
#: fewer images than this are no batch to compare with
BATCH = 4
#: nuclei of one run differ less than this between images taken with one setting
STAIN_RATIO = 2.2
#: factors by which all levels of an image must differ from the batch's others, up and down; those
#: of one setting stay under 1.19 and 1.07 on phantoms from 4 to 70 % insulin
ALL_UP, ALL_DOWN = 1.25, 1.18
#: the same for the dark part against the negative control's, where haze of the stain comes on top
CONTROL_UP, CONTROL_DOWN = 1.4, 1.18
#: share of tissue above which an image has no background
FULL = 0.5


def exposure_flags(members: Rows, batch: str, protocol: Protocol) -> Iterator[Flag]:
    """Images of one batch that were taken otherwise than its controls or its other images.

    Parameters
    ----------
    members : list of dict
        The batch's rows of :func:`islet_imaging.quality.check_folder`, ``numbers`` unpacked.
    batch : str
        Its name.
    protocol : Protocol
        Names the channels and holds the limits.

    Yields
    ------
    Flag
        ``exposure_mismatch``: block where the files state it, else warning.
    """
    yield from _settings(members, protocol)
    # single stains show one dye only, so nothing of the other channels can be compared
    stained = [r for r in members if not str(r.get("role", "")).startswith("single_stain")]
    for name in (protocol.dna, *protocol.markers):
        if not any(_setting(r, key, name) is not None for r in members for key in SETTINGS):
            yield from _levels(stained, name, batch)
    yield from _stain_level(stained, batch, protocol)


def _setting(row: Mapping[str, Any], key: str, channel: str) -> float | None:
    value = (row.get("metadata") or {}).get(key)
    if isinstance(value, Mapping):
        value = value.get(channel)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _settings(members: Rows, protocol: Protocol) -> Iterator[Flag]:
    """Exposure, gain and power against the controls, where files state them."""
    for marker in protocol.markers:
        controls = [r for r in members if negative_for(str(r.get("role")), marker)]
        reference, whom = (controls, "its negative control") if controls else (members, "the batch")
        for key, word in SETTINGS.items():
            known = [v for r in reference if (v := _setting(r, key, marker)) is not None]
            if not known:
                continue
            usual = float(np.median(known))
            for row in members:
                own = _setting(row, key, marker)
                if own is None or own == usual or usual <= 0 or own <= 0:
                    continue
                ratio = max(own / usual, usual / own)
                if ratio > protocol.quality.exposure_ratio:
                    name = str(row["image"])
                    yield Flag(
                        "exposure_mismatch",
                        "block",
                        f"{name}: {marker} was taken with {word} {own:g}, {whom} with {usual:g}. "
                        "A threshold from that control does not hold for this image; use "
                        "images of one setting.",
                        marker,
                        name,
                    )


def _levels(members: Rows, name: str, batch: str) -> Iterator[Flag]:
    """Levels against the batch's other samples and the controls, where files state no setting."""
    known = [(r, c) for r in members if (c := r["numbers"].channels.get(name)) is not None]
    zeros = [c.zero for _, c in known if np.isfinite(c.zero)]
    if not zeros:
        return
    # one camera has one zero; a single image's is uncertain where little of it is smooth
    zero = float(np.median(zeros))
    samples = [
        (str(r["image"]), c)
        for r, c in known
        if r.get("role", "sample") == "sample" and r["numbers"].tissue <= FULL
    ]
    dark = [c.background - zero for r, c in known if negative_for(str(r.get("role")), name)]
    usual = float(np.median(dark)) if dark else float("nan")
    shifts = _shifts([c for _, c in samples], zero) if len(samples) >= BATCH else None
    for k, (image, c) in enumerate(samples):
        if shifts is not None:
            everywhere = shifts[k]
            if everywhere.min() > np.log(ALL_UP) or everywhere.max() < -np.log(ALL_DOWN):
                # the background's share of read noise hides part of the change
                factor = float(np.exp(np.mean(everywhere[1:])))
                word = "brighter" if factor > 1 else "dimmer"
                yield Flag(
                    "exposure_mismatch",
                    "warning",
                    f"{image}: {name} is about {max(factor, 1 / factor):.1f} times {word} than in "
                    f"the other images of batch {batch or '(unnamed)'}, dark background, dim "
                    "tissue and bright cells alike, as after another exposure or gain. Check the "
                    "settings; with different ones no threshold holds for both.",
                    name,
                    image,
                )
                continue
        ratio = (c.background - zero) / usual if usual > 0 else float("nan")
        if ratio > CONTROL_UP or ratio < 1 / CONTROL_DOWN:
            yield Flag(
                "exposure_mismatch",
                "warning",
                f"{image}: the dark background of {name} is "
                f"{max(ratio, 1 / max(ratio, 0.05)):.1f} times "
                f"{'brighter' if ratio > 1 else 'dimmer'} than in its negative control, as after "
                "another exposure or gain. Check the settings; with different ones the control's "
                "threshold does not hold.",
                name,
                image,
            )


def _shifts(channels: list[ChannelNumbers], zero: float) -> np.ndarray:
    """Logarithms of background, dim and bright tissue over the batch's median of each."""
    light = np.array([(c.background, c.dim, c.bright) for c in channels]) - zero
    light[~(light > 0)] = np.nan
    with np.errstate(invalid="ignore"):
        found: np.ndarray = np.log(light / np.nanmedian(light, axis=0))
    # an image without one of the levels says nothing
    return np.where(np.isfinite(found).all(axis=1, keepdims=True), found, 0.0)


def _stain_level(members: Rows, batch: str, protocol: Protocol) -> Iterator[Flag]:
    """Nuclei far brighter or dimmer than those of the run's other images: another exposure."""
    name = protocol.dna
    known = [r for r in members if name in r["numbers"].channels]
    levels = np.array(
        [max(c.tissue - c.background, 1e-6) for c in (r["numbers"].channels[name] for r in known)]
    )
    if len(known) < BATCH:
        return
    usual = float(np.median(levels))
    for row, level in zip(known, levels, strict=True):
        ratio = float(max(level / usual, usual / level))
        if ratio > STAIN_RATIO:
            image = str(row["image"])
            yield Flag(
                "exposure_mismatch",
                "warning",
                f"{image}: tissue in {name} is {ratio:.1f} times "
                f"{'brighter' if level > usual else 'dimmer'} than in the other images of batch "
                f"{batch or '(unnamed)'}, as after another exposure, gain or stain. Check the "
                "settings of all channels before one threshold is used for both.",
                name,
                image,
            )
