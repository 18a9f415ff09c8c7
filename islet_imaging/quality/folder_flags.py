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
from numpy.typing import NDArray

from islet_imaging._types import Float64
from islet_imaging.protocol import Protocol
from islet_imaging.quality.exposure import BATCH, exposure_flags
from islet_imaging.quality.flag import SEVERITIES, Flag
from islet_imaging.quality.image_flags import STAINED_SLOW
from islet_imaging.quality.numbers import ImageNumbers
from islet_imaging.quality.overlap import overlaps
from islet_imaging.quality.scale import size_flags

#: fall of brightness over the frame from which a flat field is worth its while
UNEVEN = 0.3
#: with more of another dye's light no share of a marker is given
STRONG_BLEED = 0.2


def check_folder(image_rows: Sequence[Mapping[str, Any]], *, protocol: Protocol) -> list[Flag]:
    """What the images of a folder say against each other.

    Parameters
    ----------
    image_rows : sequence of mapping
        One per readable image: ``image``, ``batch``, ``role`` (as in the sample sheet),
        ``metadata`` (mapping; settings may be one value or a mapping by channel), ``numbers``
        (an :class:`ImageNumbers`, or its ``to_dict()``) and, where known, ``scale``
        (``FoundScale.to_dict()``) and ``nuclei``: a mapping
        with arrays ``y_um``, ``x_um`` and ``light`` (of the DNA channel above the local background,
        NaN for nuclei that are cut), by which overlapping fields and uneven light are found.
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
        found += size_flags(members, name)
        found += exposure_flags(members, name, protocol)
        found += _dna_bleed(members, protocol)
        found += _bleed(stained, name, protocol)
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
                f"{name} holds the same pixels as {seen[key]}, whose cells must not count twice. "
                "Remove one of the two from the sample sheet.",
                image=name,
            )
        else:
            seen[key] = name
    yield from _near_duplicates(rows, protocol.dna)


#: how far thumbnails of the DNA channel agree where one field was saved twice as it lies, and where
#: it was turned or mirrored, which cuts other rests of blocks off
SAME_FIELD, TURNED_FIELD = 0.998, 0.9
#: share of the nuclei that must lie to their neighbours alike for a turned field to be the same
SHARED_NUCLEI = 0.7


def _near_duplicates(rows: list[dict[str, Any]], dna: str) -> Iterator[Flag]:
    """The same field saved again with another contrast or depth, turned or mirrored."""
    usable = [
        r
        for r in rows
        if dna in r["numbers"].channels and float(np.std(r["numbers"].channels[dna].thumbnail)) > 0
    ]
    if len(usable) < 2:
        return
    squares = np.stack(
        [np.asarray(r["numbers"].channels[dna].thumbnail, dtype=float) for r in usable]
    )
    squares -= squares.mean(axis=(1, 2), keepdims=True)
    squares /= np.linalg.norm(squares, axis=(1, 2), keepdims=True)
    thumbs = squares.reshape(len(squares), -1)
    for i in range(len(usable)):
        # a row at a time: all pairs at once would be the square of the images
        ways = np.stack([_turned(squares[i], way).ravel() for way in range(8)])
        alike = thumbs[:i] @ ways.T
        for j in np.flatnonzero((alike[:, 0] > SAME_FIELD) | (alike.max(axis=1) > TURNED_FIELD)):
            a, b = usable[j], usable[i]
            as_it_lies = alike[j, 0] > SAME_FIELD
            way = 0 if as_it_lies else 1 + int(np.argmax(alike[j, 1:]))
            if a["numbers"].channels[dna].digest == b["numbers"].channels[dna].digest:
                continue
            if as_it_lies or _same_when_turned(a, b, way):
                how = "perhaps" if as_it_lies else "turned or mirrored, so perhaps"
                yield Flag(
                    "near_duplicate",
                    "warning",
                    f"{b['image']} shows the same field as {a['image']} (agreement of the DNA "
                    f"channels {alike[j, way]:.4f}): {how} one field saved twice. Keep one.",
                    image=str(b["image"]),
                )
                break


def _turned(plane: NDArray[Any], way: int) -> NDArray[Any]:
    """A square in one of the eight ways it can lie."""
    return np.rot90(plane.T if way > 3 else plane, way % 4)


def _same_when_turned(a: Mapping[str, Any], b: Mapping[str, Any], way: int) -> bool:
    """Whether the nuclei of two images lie alike once the second is turned."""
    if a.get("nuclei") is None or b.get("nuclei") is None:
        return False
    first, second = (
        np.stack([r["nuclei"]["y_um"], r["nuclei"]["x_um"]], axis=1).astype(float) for r in (a, b)
    )
    y, x = (second[:, ::-1] if way > 3 else second).T
    for _ in range(way % 4):
        y, x = -x, y
    # where the turned field lies does not matter, overlaps look at differences
    together = list(overlaps([first, np.stack([y - y.min(), x - x.min()], axis=1)]))
    least = SHARED_NUCLEI * min(len(first), len(second))
    return bool(together) and together[0].shared >= least


def _overlaps(rows: list[dict[str, Any]], copies: set[str | None]) -> Iterator[Flag]:
    """Fields that share nuclei; whole copies are named already."""
    known = [r for r in rows if r.get("nuclei") is not None and str(r["image"]) not in copies]
    centres = [
        np.stack([r["nuclei"]["y_um"], r["nuclei"]["x_um"]], axis=1).astype(float) for r in known
    ]
    for pair in overlaps(centres):
        a, b = known[pair.first], known[pair.second]
        share = pair.shared / min(len(centres[pair.first]), len(centres[pair.second]))
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


def _bleed(members: list[dict[str, Any]], batch: str, protocol: Protocol) -> Iterator[Flag]:
    """One dye's light in another's channel belongs to dyes and filters: to every image of a run."""
    limit, corrected = protocol.quality.bleed_through, protocol.correction
    if corrected.bleed_through != "off" or corrected.bleed_matrix:
        return
    samples = [r for r in members if r.get("role", "sample") == "sample"]
    pairs = {(s, t) for r in samples for s, targets in r["numbers"].bleed.items() for t in targets}
    for source, target in sorted(pairs):
        if source == protocol.dna:
            continue
        slopes = {str(r["image"]): bleed_slope(r["numbers"], source, target) for r in samples}
        seen = [s for s, rarer in slopes.values() if s > limit and not rarer]
        known = [s for s, _ in slopes.values() if np.isfinite(s)]
        if not seen:
            continue
        slope = float(np.median(known))
        strong = slope > STRONG_BLEED
        for image, (own, rarer) in slopes.items():
            # where the image alone tells it is named already
            if own > limit and not rarer and not strong:
                continue
            yield Flag(
                "bleed_through",
                "block" if strong else "warning",
                f"{image}: about {100 * slope:.0f} % of the light of {source} seems to reach "
                f"{target} in the images of batch {batch or '(unnamed)'} (limit "
                f"{100 * limit:.0f} %)"
                + (f", so no share of {target} is given. " if strong else ". ")
                + "Take single-stain controls and set `correction: {bleed_through: controls}`.",
                target,
                image,
            )


def bleed_slope(numbers: ImageNumbers, source: str, target: str) -> tuple[float, bool]:
    """Share of the source's light in the target's channel, and whether the source is the rarer.

    Haze of the commoner stain lies over the rarer one wherever that is, so only light of the
    commoner can be told from it; what bled does not count as the target's own.  NaN where the
    image shows no stain in the source.
    """
    slope = numbers.bleed.get(source, {}).get(target)
    if slope is None or not numbers.channels[source].slow > STAINED_SLOW:
        return float("nan"), False
    lent = (1 + max(slope, 0.0)) * numbers.channels[source].light
    return float(slope), lent < numbers.channels[target].light


def _illumination(members: list[dict[str, Any]], batch: str, protocol: Protocol) -> Iterator[Flag]:
    """What the nuclei of all images of a run share in brightness is the lamp, not the tissue."""
    level, place, owner = _lit_nuclei(members)
    # the nuclei of an image stand together
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    images = len(first)
    if images < BATCH or level.size < 60:
        return
    y, x = place.T
    terms = np.stack([x, y, x * x, y * y, x * y], axis=1)
    keep = np.ones(level.size, dtype=bool)
    for _ in range(4):
        # the mean of each image is its own; what is left depends on the place alone
        own_level, own_terms = level.copy(), terms.copy()
        for start, end in zip(first, [*first[1:], level.size], strict=True):
            own, kept = slice(start, end), keep[start:end]
            if kept.any():
                own_level[own] -= level[own][kept].mean()
                own_terms[own] -= terms[own][kept].mean(axis=0)
        fit, *_ = np.linalg.lstsq(own_terms[keep], own_level[keep], rcond=None)
        left = own_level - own_terms @ fit
        spread = 1.4826 * float(np.median(np.abs(left[keep])))
        # dying and cut nuclei are far off in light, and few
        keep = np.abs(left) <= 2.5 * spread + 1e-9
    whole, rest = own_level[keep], left[keep]
    gain = max(float(whole @ whole - rest @ rest), 0.0) / 5
    f_ratio = gain / max(float(rest @ rest) / max(rest.size - 5 - images, 1), 1e-12)
    # where there were nuclei only: a fitted surface runs away in empty corners
    low, high = np.percentile(own_terms[keep] @ fit, [2, 98])
    fall = 1 - float(np.exp(low - high))
    if fall > UNEVEN and f_ratio > 8:
        yield Flag(
            "uneven_illumination",
            "warning",
            f"Over the {images} images of batch {batch or '(unnamed)'} nuclei in the same side or "
            f"corner are {100 * fall:.0f} % darker. Set `correction: {{flat_field: auto}}` or give "
            "a flat-field image.",
            protocol.dna,
        )


def _lit_nuclei(members: list[dict[str, Any]]) -> tuple[Float64, Float64, NDArray[np.intp]]:
    """Logarithm of the DNA light of nuclei, their place from -1 to 1, and their image."""
    levels, places, owners = [np.empty(0)], [np.empty((0, 2))], [np.empty(0, dtype=np.intp)]
    for k, row in enumerate(members):
        nuclei, numbers = row.get("nuclei"), row["numbers"]
        if nuclei is None or numbers.pixel_size_um is None:
            continue
        light = np.asarray(nuclei["light"], dtype=float)
        there = np.isfinite(light) & (light > 0)
        yx = np.stack([nuclei["y_um"], nuclei["x_um"]], axis=1).astype(float)
        edges = np.array(numbers.shape) * numbers.pixel_size_um
        levels.append(np.log(light[there]))
        places.append((2 * yx / edges - 1)[there])
        owners.append(np.full(int(there.sum()), k))
    return np.concatenate(levels), np.concatenate(places), np.concatenate(owners)
