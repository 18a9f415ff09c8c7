"""The few numbers of an image that quality is judged by.

The idea: every check of an image, and every comparison between images of a folder, is a rule on
a small set of numbers per channel (range, clipping, noise, background, sharpness, seams, a
thumbnail and a digest).  They are measured once, are cheap to send between processes, and so a
folder is checked without holding its images.
It fails where tissue is found wrongly: tissue is where the binned DNA channel stands out, so an
image without a usable DNA channel gets its numbers over the whole frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32, side_by_side
from islet_imaging.arrays.pixel_hash import pixel_hash
from islet_imaging.quality import pixels, texture
from islet_imaging.quality.pixels import BLOCK

#: cells of the thumbnail along an edge
GRID = 16


@dataclass(frozen=True)
class ChannelNumbers:
    """What quality rules need to know of one channel; counts are in the file's own units."""

    dtype: str
    minimum: float
    maximum: float
    #: share of pixels that are NaN or infinite
    not_finite: float
    #: share of tissue pixels at the largest value, where that is a ceiling
    saturated: float
    #: share of pixels at the smallest value
    at_minimum: float
    #: level of the darkest part of the image (1st percentile of block means)
    background: float
    #: median of block means in tissue
    tissue: float
    #: mean of block means in tissue above that background: how much of a stain there is
    light: float
    #: standard deviation of pixel noise in dark parts (from second differences along rows)
    noise: float
    #: variance of block means over what pixel noise alone would give
    structure: float
    #: share of grey levels that are never used between well-filled ones
    comb: float
    #: mean step across borders of 8 x 8 pixels over mean step elsewhere
    blockiness: float
    #: relative variation at the scale of nuclei, and beyond it
    band: float
    slow: float
    #: block means on a 16 x 16 grid, divided by their median
    thumbnail: Float32
    #: which pixels they are: `islet_imaging.arrays.pixel_hash`, of a large image of patches only
    digest: str
    #: 5th and 98th percentile of block means in tissue
    dim: float = float("nan")
    bright: float = float("nan")
    #: level at which noise would vanish: the offset, less what read noise looks like
    zero: float = float("nan")


@dataclass(frozen=True)
class ImageNumbers:
    """The numbers of all channels of an image, and of the image as a whole."""

    channels: Mapping[str, ChannelNumbers]
    shape: tuple[int, int]
    pixel_size_um: float | None
    #: share of the frame that is tissue
    tissue: float
    #: power at 1.8 to 3.2 um over power at 5 to 12 um in the DNA channel, noise removed
    sharpness: float | None
    #: the same per tile, (rows, columns), NaN outside tissue
    sharpness_tiles: Float32 | None
    #: robust z of the sharpest straight step from edge to edge, all channels together
    seam: float
    #: spots per mm2 that glow in all markers of different dyes
    specks: float | None
    #: ``{source: {target: slope}}``, how far the floor of one channel follows another
    bleed: Mapping[str, Mapping[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and scalars, ready for strict JSON: None where a number is not known."""
        plain: dict[str, Any] = _plain(self)
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageNumbers:
        """The numbers that :meth:`to_dict` wrote; what it does not know of is left out."""
        unknown = float("nan")
        channels = {}
        names = {f.name for f in fields(ChannelNumbers)}
        for name, given in data["channels"].items():
            c: dict[str, Any] = {
                k: unknown if v is None else v for k, v in given.items() if k in names
            }
            c["thumbnail"] = np.asarray(c["thumbnail"], dtype=np.float32)
            channels[name] = ChannelNumbers(**c)
        tiles = data["sharpness_tiles"]
        return cls(
            **{
                **{f.name: data[f.name] for f in fields(cls)},
                "channels": channels,
                "shape": tuple(data["shape"]),
                "sharpness_tiles": None if tiles is None else np.asarray(tiles, dtype=np.float32),
                "bleed": {
                    source: {t: unknown if v is None else v for t, v in targets.items()}
                    for source, targets in data["bleed"].items()
                },
            }
        )


def _plain(value: Any) -> Any:
    """Lists for arrays, five digits for their numbers, None for what JSON does not know."""
    if isinstance(value, ImageNumbers | ChannelNumbers):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _five_digits(value.tolist())
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _five_digits(values: list[Any]) -> list[Any]:
    """Nested lists of numbers; as lists they are ten times as quick as pixel by pixel."""
    return [
        _five_digits(v) if isinstance(v, list) else float(f"{v:.5g}") if math.isfinite(v) else None
        for v in values
    ]


def measure_quality(
    channels: Mapping[str, NDArray[Any]],
    *,
    dna: str,
    pixel_size_um: float | None,
    bits: int | None = None,
    threads: int = 1,
) -> ImageNumbers:
    """Measure what the rules of :func:`check_image` and :func:`check_folder` act on.

    Parameters
    ----------
    channels : mapping of str to ndarray, each (Y, X)
        Pixels as stored in the file, before any correction.
    dna : str
        Name of the DNA channel.
    pixel_size_um : float or None
        Edge of a pixel, um; without it sharpness and nuclear pattern are left out.
    bits : int, optional
        Significant bits of a pixel that the file states.
    threads : int
        Numbers measured at the same time; changes nothing but the time.

    Returns
    -------
    ImageNumbers

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> image = {"DAPI": rng.poisson(50, (256, 256)).astype(np.uint16)}
    >>> measure_quality(image, dna="DAPI", pixel_size_um=0.5).channels["DAPI"].noise > 5
    True
    """
    planes: dict[str, NDArray[Any]] = {}
    bad: dict[str, float] = {}
    for name, given in channels.items():
        plane = np.asarray(given)
        bad[name] = 0.0
        if plane.dtype.kind == "f":
            finite = np.isfinite(plane)
            bad[name] = 1.0 - float(finite.mean()) if plane.size else 0.0
            if bad[name] > 0:
                plane = np.where(finite, plane, 0)
        planes[name] = plane
    pyramids = side_by_side(pixels.pyramid, planes.values(), threads)
    binned = dict(zip(planes, pyramids, strict=True))
    tissue = pixels.tissue_mask(binned[dna][-1])
    live = [p for p in planes.values() if p.size and p.max() > p.min()]
    apart = independent_markers(list(planes))

    def specks() -> float | None:
        if pixel_size_um is None:
            return None
        return texture.glowing_specks({n: [planes[n], *binned[n]] for n in apart}, pixel_size_um)

    def sharpness() -> tuple[float | None, Float32 | None]:
        if pixel_size_um is None:
            return None, None
        return texture.sharpness(planes[dna], pixel_size_um, tissue)

    def one(name: str) -> ChannelNumbers:
        return _channel(planes[name], binned[name], tissue, bad[name], pixel_size_um, bits)

    # the longest first, so that no thread is left with it at the end
    parts: list[Callable[[], Any]] = [specks, *(partial(one, name) for name in planes)]
    parts += [sharpness, *(partial(pixels.line_steps, plane) for plane in live)]
    glow, *done = side_by_side(lambda part: part(), parts, threads)
    n = len(planes)
    of_channels, (sharp, tiles), steps = done[:n], done[n], done[n + 1 :]
    shape = planes[dna].shape
    return ImageNumbers(
        channels=dict(zip(planes, of_channels, strict=True)),
        shape=(int(shape[0]), int(shape[1])),
        pixel_size_um=pixel_size_um,
        tissue=float(tissue.mean()) if tissue.size else 0.0,
        sharpness=sharp,
        sharpness_tiles=tiles,
        seam=pixels.seam(steps),
        specks=glow,
        bleed={
            source: {
                target: texture.shared_floor(binned[source][-1], binned[target][-1], tissue)
                for target in apart
                if target != source
            }
            for source in dict.fromkeys([dna, *apart])
        },
    )


def independent_markers(names: Sequence[str]) -> list[str]:
    """One channel per hormone: cells that make two are rare, so what channels share is not cells.

    Insulin and C-peptide are one hormone.  Channels that are no hormone are left out: nobody can
    tell their bleed-through from cells that have both.

    Examples
    --------
    >>> independent_markers(["DAPI", "INS", "C-peptide", "GCG", "NKX6.1"])
    ['INS', 'GCG']
    """
    from islet_imaging.positivity.phenotype import hormone_of

    found: dict[str, str] = {}
    for name in names:
        hormone = hormone_of(name)
        if hormone is not None:
            found.setdefault("insulin" if hormone == "c-peptide" else hormone, name)
    return list(found.values())


def _channel(
    plane: NDArray[Any],
    binned: list[Float32],
    tissue: NDArray[np.bool_],
    not_finite: float,
    pixel_size_um: float | None,
    bits: int | None,
) -> ChannelNumbers:
    low, high = float(plane.min()), float(plane.max())
    noise = pixels.pixel_noise(plane)
    blocks = binned[-1] if binned[-1].size else np.zeros((1, 1), dtype=np.float32)
    inside = binned[-1][tissue] if np.any(tissue) else blocks
    band, slow = float("nan"), float("nan")
    if pixel_size_um is not None and high > low:
        band, slow = texture.nuclear_pattern([plane, *binned], pixel_size_um, tissue)
    expected = noise**2 / BLOCK**2
    return ChannelNumbers(
        dtype=str(plane.dtype),
        minimum=low,
        maximum=high,
        not_finite=not_finite,
        saturated=pixels.saturation(plane, tissue, bits=bits),
        at_minimum=float(np.mean(plane[::2, ::2] == plane.min())),
        background=float(np.percentile(blocks, 1)),
        tissue=float(np.median(inside)),
        light=float(inside.mean() - np.percentile(blocks, 1)),
        noise=noise,
        structure=float(blocks.var()) / expected if expected > 0 else float("inf"),
        comb=pixels.comb(plane),
        blockiness=pixels.blockiness(plane) if plane.dtype == np.uint8 else 1.0,
        band=band,
        slow=slow,
        thumbnail=_thumbnail(blocks),
        digest=pixel_hash([plane], (plane.shape[0], plane.shape[1])),
        dim=float(np.percentile(inside, 5)),
        bright=float(np.percentile(inside, 98)),
        zero=pixels.dark_level(plane),
    )


def _thumbnail(blocks: Float32) -> Float32:
    if min(blocks.shape) < GRID:
        return np.ones((GRID, GRID), dtype=np.float32)
    rows, cols = (np.linspace(0, n, GRID + 1).astype(int) for n in blocks.shape)
    sums = np.add.reduceat(np.add.reduceat(blocks, rows[:-1], axis=0), cols[:-1], axis=1)
    mean = sums / (np.diff(rows)[:, None] * np.diff(cols))
    return np.asarray(mean / max(float(np.median(mean)), 1e-6), dtype=np.float32)
