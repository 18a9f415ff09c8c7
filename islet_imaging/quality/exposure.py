"""Were the images of a run taken with one setting?  From what files state, or from their light.

The idea: another exposure or gain multiplies every level of a channel, dark background, dim tissue
and bright cells alike, while biology moves some levels and leaves others.  Levels are taken above
the one at which noise would vanish, so that the camera's offset is no part of them.
An image whose every level and noise is many times that of the run's others was rescaled or saved in
another depth; one whose black level alone lies elsewhere has had a background subtracted, or is of
another camera.  Where there are controls, whose threshold is for all, such an image is left out.
It fails for changes under a factor of about 1.5 (2 where the read noise of the camera is as large
as the light of the background), in images without a dark part, and where samples and controls were
changed alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.protocol import Protocol, negative_for
from islet_imaging.quality.flag import Flag, Severity
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
#: noise and DNA light of an image that was rescaled are so many times those of the run's others
RESCALED = 2.5
#: black levels of one camera differ less than so many times the noise, and than this share of the
#: light of bright tissue; a background that was subtracted moves dark pixels by as much (to within
#: a share), and leaves the noise as it is (to within a factor)
BLACK_NOISE, BLACK_LIGHT, MOVED, SAME_NOISE = 5.0, 0.05, 0.3, 1.6
#: images of a batch that are asked how many are like them, or somewhat more
ASKED = 200
#: share of pixels at exactly 0 that were cut off
CUT = 0.2
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
    others = [*_rescaled(stained, batch, protocol)]
    for name in protocol.markers:
        others += _black_level(stained, name, batch)
    yield from others
    known = {flag.image for flag in others}
    yield from (f for f in _stain_level(stained, batch, protocol) if f.image not in known)


def _usual(alike: Callable[[int], NDArray[np.bool_]], members: Rows) -> int | None:
    """The image that most are like; samples decide where as many are like another; None for few.

    ``alike(k)`` says which are like image ``k``.  Of many images some are asked: one that most are
    like is soon found among them.
    """
    weight = np.array([1.5 if r.get("role", "sample") == "sample" else 1.0 for r in members])
    asked = range(0, len(members), max(1, len(members) // ASKED))
    usual = max(asked, key=lambda k: float(alike(k) @ weight))
    return usual if 2 * np.count_nonzero(alike(usual)) >= len(members) else None


def _severity(members: Rows) -> Severity:
    """With a control one threshold is for all images, and a strange one must not be held by it."""
    controls = any(str(r.get("role", "")).startswith("negative_control") for r in members)
    return "block" if controls else "warning"


def _rescaled(members: Rows, batch: str, protocol: Protocol) -> Iterator[Flag]:
    """Images of which every channel's noise and the DNA light are far from those of the others."""
    names = (protocol.dna, *protocol.markers)
    known = [r for r in members if all(n in r["numbers"].channels for n in names)]
    if len(known) < 2:
        return
    channels = [[r["numbers"].channels[n] for n in names] for r in known]
    levels = [[*(c.noise for c in cs), cs[0].bright - cs[0].background] for cs in channels]
    log = np.log(np.maximum(np.array(levels, dtype=float), 1e-6))

    def alike(k: int) -> NDArray[np.bool_]:
        # by how much each image is larger or smaller, in what changes least, where all go one way
        steps = log - log[k]
        one_way = (steps > 0).all(axis=1) | (steps < 0).all(axis=1)
        near: NDArray[np.bool_] = ~one_way | (np.abs(steps).min(axis=1) <= np.log(RESCALED))
        return near

    usual = _usual(alike, known)
    if usual is None:
        return
    for row, same, step in zip(known, alike(usual), log - log[usual], strict=True):
        if same:
            continue
        image, factor = str(row["image"]), float(step[-1])
        yield Flag(
            "exposure_mismatch",
            _severity(known),
            f"{image}: light and noise of all channels are about {np.exp(abs(factor)):.0f} times "
            f"{'larger' if factor > 0 else 'smaller'} than in most images of batch "
            f"{batch or '(unnamed)'}: the image was rescaled or saved in another depth, and no "
            "threshold holds for it and for them. Export it as the others were.",
            image=image,
        )


def _black_level(members: Rows, name: str, batch: str) -> Iterator[Flag]:
    """Images whose black level alone lies elsewhere than in most images of the batch."""
    known = [
        r
        for r in members
        if name in r["numbers"].channels and np.isfinite(_black(r["numbers"].channels[name]))
    ]
    if len(known) < 2:
        return
    channels = [r["numbers"].channels[name] for r in known]
    zero = np.array([_black(c) for c in channels])
    light = max(c.bright - c.background for c in channels)
    limit = np.array([max(BLACK_NOISE * c.noise, BLACK_LIGHT * light) for c in channels])

    def alike(k: int) -> NDArray[np.bool_]:
        near: NDArray[np.bool_] = np.abs(zero - zero[k]) <= np.maximum(limit, limit[k])
        return near

    usual = _usual(alike, known)
    if usual is None:
        return
    own = channels[usual]
    for row, c, same in zip(known, channels, alike(usual), strict=True):
        black = _black(c), _black(own)
        shift, dark = black[0] - black[1], c.background - own.background
        noise = max(c.noise, own.noise) / max(min(c.noise, own.noise), 1e-9)
        # where dark pixels were cut off no noise is left
        unlike = noise > SAME_NOISE and not (_cut(c) or _cut(own))
        if same or abs(shift - dark) > MOVED * abs(shift) or unlike:
            continue
        image = str(row["image"])
        yield Flag(
            "exposure_mismatch",
            _severity(known),
            f"{image}: the black level of {name} is about {black[0]:.0f}, in most images of batch "
            f"{batch or '(unnamed)'} {black[1]:.0f}, at the same gain: a background was "
            "subtracted from one and not from the other, or the camera was set otherwise. No "
            "threshold holds for both; use images that were treated alike.",
            name,
            image,
        )


def _cut(c: ChannelNumbers) -> bool:
    """Whether dark pixels were cut off at 0, as after a background was subtracted."""
    return c.minimum == 0 and c.at_minimum > CUT


def _black(c: ChannelNumbers) -> float:
    """The level of no light; that of the dark part where this was cut off."""
    return c.background if _cut(c) else c.zero


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
