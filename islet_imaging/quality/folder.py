"""Checks between the images of a folder: what no image can say alone.

The idea: images of one staining run share stain, microscope and setting, so each is compared with
the run's others (sharpness, pixel size, bit depth) and the samples with their controls (exposure,
gain, background); two images with the same pixels are one image.
It fails with fewer than 4 images in a run, where "the others" is nobody, and it cannot see a
setting that was changed for samples and controls alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from islet_imaging.protocol import Protocol
from islet_imaging.quality.flag import SEVERITIES, Flag
from islet_imaging.quality.numbers import ImageNumbers
from islet_imaging.quality.overlap import overlaps

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
#: share of tissue above which an image has no background
FULL = 0.5
#: fall of brightness over the frame from which a flat field is worth its while
UNEVEN = 0.3


def check_folder(image_rows: Sequence[Mapping[str, Any]], *, protocol: Protocol) -> list[Flag]:
    """What the images of a folder say against each other.

    Parameters
    ----------
    image_rows : sequence of mapping
        One per readable image: ``image``, ``batch``, ``role`` (as in the sample sheet),
        ``metadata`` (mapping; settings may be one value or a mapping by channel), ``numbers``
        (an :class:`ImageNumbers`, or its ``to_dict()``) and, where known, ``nuclei_um`` (centres
        ``(y, x)`` of the nuclei, um), by which overlapping fields are found.
    protocol : Protocol
        Names the channels; ``protocol.quality`` holds the limits.

    Returns
    -------
    list of Flag
        Each with the ``image`` it concerns, or None for the folder; the most serious first.

    Examples
    --------
    >>> from islet_imaging.protocol import Channel
    >>> check_folder([], protocol=Protocol(channels=(Channel("DAPI", "dna"),)))
    []
    """
    rows = []
    for row in image_rows:
        numbers = row["numbers"]
        if not isinstance(numbers, ImageNumbers):
            numbers = ImageNumbers.from_dict(numbers)
        rows.append({**row, "numbers": numbers})
    batches: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        batches[str(row.get("batch") or "")].append(row)
    copies = list(_duplicates(rows, protocol))
    found = [*copies, *_overlaps(rows, {f.image for f in copies})]
    for name, members in batches.items():
        # single stains show one dye only, so nothing of the other channels can be compared
        stained = [r for r in members if not str(r.get("role", "")).startswith("single_stain")]
        found += _focus(stained, name, protocol)
        found += _geometry(members, name)
        found += _settings(members, protocol)
        found += _levels(members, protocol)
        found += _dna_bleed(members, protocol)
        found += _stain_level(stained, name, protocol)
        found += _illumination(stained, name, protocol)
    return sorted(found, key=lambda f: -SEVERITIES.index(f.severity))


def _duplicates(rows: list[dict[str, Any]], protocol: Protocol) -> Iterator[Flag]:
    seen: dict[tuple[str, ...], str] = {}
    for row in rows:
        channels = row["numbers"].channels
        if all(c.maximum <= c.minimum for c in channels.values()):
            continue
        key = tuple(sorted(c.digest for c in channels.values()))
        name = str(row["image"])
        if key in seen:
            yield Flag(
                "duplicate",
                "block",
                f"{name} holds the same pixels as {seen[key]}: its cells are counted twice. "
                "Remove one of the two from the sample sheet.",
                image=name,
            )
        else:
            seen[key] = name
    yield from _near_duplicates(rows, protocol.dna)


def _near_duplicates(rows: list[dict[str, Any]], dna: str) -> Iterator[Flag]:
    """The same field saved again with another contrast or depth: thumbnails that agree."""
    usable = [
        r
        for r in rows
        if dna in r["numbers"].channels and float(np.std(r["numbers"].channels[dna].thumbnail)) > 0
    ]
    if len(usable) < 2:
        return
    thumbs = np.stack(
        [np.asarray(r["numbers"].channels[dna].thumbnail, dtype=float).ravel() for r in usable]
    )
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    thumbs /= np.linalg.norm(thumbs, axis=1, keepdims=True)
    alike = thumbs @ thumbs.T
    for i in range(len(usable)):
        for j in range(i):
            a, b = usable[j], usable[i]
            same = a["numbers"].channels[dna].digest == b["numbers"].channels[dna].digest
            if alike[i, j] > 0.998 and not same:
                yield Flag(
                    "near_duplicate",
                    "warning",
                    f"{b['image']} shows the same field as {a['image']} (agreement of the DNA "
                    f"channels {alike[i, j]:.4f}): perhaps one field saved twice. Keep one.",
                    image=str(b["image"]),
                )
                break


def _overlaps(rows: list[dict[str, Any]], copies: set[str | None]) -> Iterator[Flag]:
    """Fields that share nuclei; whole copies are named already."""
    known = [r for r in rows if r.get("nuclei_um") is not None and str(r["image"]) not in copies]
    for pair in overlaps([np.asarray(r["nuclei_um"], dtype=float) for r in known]):
        a, b = known[pair.first], known[pair.second]
        share = pair.shared / min(len(a["nuclei_um"]), len(b["nuclei_um"]))
        yield Flag(
            "overlapping_fields",
            "warning",
            f"{b['image']} shows {pair.shared} nuclei that {a['image']} shows too "
            f"({100 * share:.0f} % of those of the smaller field): they are counted twice. Stitch "
            "the fields, take fields that do not overlap, or keep one of the two.",
            image=str(b["image"]),
        )


def _focus(members: list[dict[str, Any]], batch: str, protocol: Protocol) -> Iterator[Flag]:
    sharp = [
        (str(r["image"]), float(np.log(r["numbers"].sharpness)))
        for r in members
        if r["numbers"].sharpness is not None and r["numbers"].sharpness > 0
    ]
    if len(sharp) < BATCH:
        return
    values = np.array([v for _, v in sharp])
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    limit = max(3.5 * spread, 1.2)
    for name, value in sharp:
        if value < middle - limit:
            blur = np.sqrt((middle - value) / 7.4)
            yield Flag(
                "out_of_focus",
                "warning",
                f"{name}: out of focus against the other images of batch {batch or '(unnamed)'}, "
                f"by a blur of about {blur:.1f} um. Look at it, and exclude or repeat it.",
                protocol.dna,
                name,
            )


def _geometry(members: list[dict[str, Any]], batch: str) -> Iterator[Flag]:
    for what, get in (
        ("pixel size", lambda n: n.pixel_size_um and round(n.pixel_size_um, 3)),
        ("pixel type", lambda n: "/".join(sorted({c.dtype for c in n.channels.values()}))),
    ):
        values: dict[Any, list[str]] = defaultdict(list)
        for row in members:
            values[get(row["numbers"])].append(str(row["image"]))
        if len(values) < 2:
            continue
        usual = max(values, key=lambda v: len(values[v]))
        for value, names in values.items():
            if value == usual:
                continue
            unit = " um" if what == "pixel size" else ""
            for name in names:
                yield Flag(
                    "mixed_acquisition",
                    "warning",
                    f"{name}: {what} is {value}{unit}, in most images of batch "
                    f"{batch or '(unnamed)'} it is {usual}{unit}. One threshold for both is "
                    "doubtful; check whether they belong together.",
                    image=name,
                )


def _setting(row: Mapping[str, Any], key: str, channel: str) -> float | None:
    value = (row.get("metadata") or {}).get(key)
    if isinstance(value, Mapping):
        value = value.get(channel)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _settings(members: list[dict[str, Any]], protocol: Protocol) -> Iterator[Flag]:
    """Exposure, gain and power against the controls, where files state them."""
    controls = [r for r in members if r.get("role") == "negative_control"]
    reference, whom = (controls, "its negative control") if controls else (members, "the batch")
    for marker in protocol.markers:
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


def _levels(members: list[dict[str, Any]], protocol: Protocol) -> Iterator[Flag]:
    """Background and noise against the controls, where files state no setting.

    Gain and exposure move the level and the noise of the darkest part of the image alike; halo
    around stained tissue moves the level alone.
    """
    controls = [r for r in members if r.get("role") == "negative_control"]
    samples = [r for r in members if r.get("role") == "sample"]
    if not controls:
        return
    for marker in protocol.markers:
        stated = any(_setting(r, key, marker) is not None for r in members for key in SETTINGS)
        if stated:
            continue
        base = [r["numbers"].channels[marker] for r in controls if marker in r["numbers"].channels]
        base = [c for c in base if c.noise > 0]
        if not base:
            continue
        noise = float(np.median([c.noise for c in base]))
        level = float(np.median([c.background for c in base]))
        for row in samples:
            c = row["numbers"].channels.get(marker)
            # where tissue fills the frame there is no dark part to compare
            if c is None or c.noise <= 0 or row["numbers"].tissue > FULL:
                continue
            if c.noise > 1.35 * noise and c.background > 1.25 * level:
                word = "higher"
            elif c.noise < noise / 1.35 and c.background < level / 1.25:
                word = "lower"
            else:
                continue
            name = str(row["image"])
            yield Flag(
                "exposure_mismatch",
                "warning",
                f"{name}: {marker} has a {word} background ({c.background:.0f} against "
                f"{level:.0f}) and noise ({c.noise:.1f} against {noise:.1f}) than its negative "
                "control, as after another exposure or gain. Check the settings; with different "
                "ones the control's threshold does not hold.",
                marker,
                name,
            )


def _dna_bleed(members: list[dict[str, Any]], protocol: Protocol) -> Iterator[Flag]:
    """Where nothing was stained, light that follows the DNA dye comes from it."""
    for row in members:
        if row.get("role") != "negative_control":
            continue
        for target, slope in row["numbers"].bleed.get(protocol.dna, {}).items():
            if slope > protocol.quality.bleed_through:
                yield Flag(
                    "bleed_through",
                    "warning",
                    f"{row['image']}: {100 * slope:.0f} % of the light of {protocol.dna} seems to "
                    f"reach {target} in a negative control. Take single-stain controls and set "
                    "`correction: {bleed_through: controls}`.",
                    target,
                    str(row["image"]),
                )


def _illumination(members: list[dict[str, Any]], batch: str, protocol: Protocol) -> Iterator[Flag]:
    """What the nuclei of all images of a run share in brightness is the lamp, not the tissue."""
    name = protocol.dna
    values, places, owners = [], [], []
    for k, row in enumerate(members):
        grid = np.asarray(row["numbers"].lamp, dtype=float)
        there = np.isfinite(grid) & (grid > 0)
        values.append(np.log(grid[there]))
        places.append(np.argwhere(there) * 2 / (grid.shape[0] - 1) - 1)
        owners.append(np.full(int(there.sum()), k))
    if len(values) < BATCH or sum(v.size for v in values) < 60:
        return
    level, place, owner = np.concatenate(values), np.concatenate(places), np.concatenate(owners)
    y, x = place.T
    # the mean of each image is its own; what is left depends on the place alone
    shape = np.stack([x, y, x * x, y * y, x * y], axis=1)
    for k in np.unique(owner):
        own = owner == k
        level[own] -= level[own].mean()
        shape[own] -= shape[own].mean(axis=0)
    fit, *_ = np.linalg.lstsq(shape, level, rcond=None)
    left = level - shape @ fit
    gain = max(float(level @ level - left @ left), 0.0) / 5
    f_ratio = gain / max(float(left @ left) / max(level.size - 5 - len(values), 1), 1e-12)
    # where there were nuclei only: a fitted surface runs away in empty corners
    low, high = np.percentile(shape @ fit, [2, 98])
    fall = 1 - float(np.exp(low - high))
    if fall > UNEVEN and f_ratio > 8:
        yield Flag(
            "uneven_illumination",
            "warning",
            f"Over the {len(values)} images of batch {batch or '(unnamed)'} nuclei in the same "
            f"side or corner are {100 * fall:.0f} % darker. Set `correction: {{flat_field: auto}}` "
            "or give a flat-field image.",
            name,
        )


def _stain_level(members: list[dict[str, Any]], batch: str, protocol: Protocol) -> Iterator[Flag]:
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
