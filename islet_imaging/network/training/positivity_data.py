"""Training crops of the positivity network: from stained images to batches.

The idea: each image and marker of the rendered runs is brought to the working scale once; a crop is
a turned, flipped, slightly zoomed view of it.  Then stain, microscope and camera are varied once
more (`vary`), so that the renderer's own texture, noise and background are not what is learned.
Crop number i of a run depends on the seed and i alone.

It fails for cells at a crop's border, whose neighbours are not seen: they count in no loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from islet_imaging._types import Float32
from islet_imaging.arrays.resample import resample_region, resampled_length
from islet_imaging.network.normalise import grey_limits
from islet_imaging.network.stain import WORKING_PIXEL_UM, curve, marker_limits, network_input
from islet_imaging.network.training.augmentation import smooth_noise
from islet_imaging.network.training.positivity_phantoms import MARKERS, StainedImage, staining_run

MAX_CELLS = 320
"""Cells of a crop that count at most; more than a crop can hold."""

STICKY_SHARE = 0.25
"""Share of varied crops in which every cell holds antibody that says nothing of expression."""

BORDER_PX = 12
MIN_NUCLEUS_PX = 5


@dataclass(frozen=True)
class StainedSample:
    """One marker of one image at working scale.

    Attributes
    ----------
    name : str
    dna, marker : (Y, X) float16
        Linear, in units of their limits.
    nuclei : (Y, X) int16
        0 is background; row of the cell in `expressed` and `own` plus 1, or -1 where a nucleus
        counts for nothing.
    expressed : (N,) float32
        1 or 0.
    own : (N,) float32
        Own light in units of the marker's limits; NaN where not known.
    """

    name: str
    dna: NDArray[np.float16] = field(repr=False)
    marker: NDArray[np.float16] = field(repr=False)
    nuclei: NDArray[np.int16] = field(repr=False)
    expressed: Float32 = field(repr=False)
    own: Float32 = field(repr=False)


def make_stained_sample(
    name: str,
    dna: NDArray[Any],
    marker: NDArray[Any],
    nuclei: NDArray[np.int32],
    *,
    pixel_size_um: float,
    cells: NDArray[np.integer],
    expressed: NDArray[Any],
    own: NDArray[Any] | None = None,
) -> StainedSample | None:
    """Bring one marker of one image to the working scale.

    Parameters
    ----------
    name : str
    dna, marker : (Y, X)
        Channels of the file.
    nuclei : (Y, X) int32
        Label image; labels that are not among `cells` count for nothing.
    pixel_size_um : float
    cells : (N,) int
        Labels whose truth is known.
    expressed : (N,) bool
    own : (N,) float, optional
        Own light in grey values.

    Returns
    -------
    StainedSample or None
        None without a single cell.
    """
    zoom = pixel_size_um / WORKING_PIXEL_UM
    if not len(cells):
        return None
    shape = (resampled_length(dna.shape[0], zoom), resampled_length(dna.shape[1], zoom))
    low, high = marker_limits(marker[nuclei > 0])
    d_low, d_high = grey_limits(lambda y, x: dna[y, x], (dna.shape[0], dna.shape[1]))
    spans = ((0, shape[0]), (0, shape[1]))
    index = np.full(int(nuclei.max()) + 1, -1, np.int16)
    index[0] = 0
    index[cells] = np.arange(1, len(cells) + 1)
    at = [
        np.clip(((np.arange(n) + 0.5) / zoom).astype(int), 0, m - 1)
        for n, m in zip(shape, dna.shape, strict=True)
    ]
    light = np.full(len(cells), np.nan) if own is None else own / (high - low)
    return StainedSample(
        name=name,
        dna=((resample_region(dna, *spans, zoom) - d_low) / (d_high - d_low)).astype(np.float16),
        marker=np.clip((resample_region(marker, *spans, zoom) - low) / (high - low), -100, 1000)
        .astype(np.float16),
        nuclei=index[nuclei[np.ix_(*at)]],
        expressed=np.asarray(expressed, np.float32),
        own=np.asarray(light, np.float32),
    )  # fmt: skip


def run_samples(
    runs: Iterable[int], cache: Path, *, side_px: int = 400, pattern_share: float = 0.0
) -> list[StainedSample]:
    """Render staining runs, or read those rendered before, as samples of an image and marker."""
    made = []
    for run in runs:
        for image in staining_run(run, cache, side_px=side_px, pattern_share=pattern_share):
            made += image_samples(image)
    return made


def image_samples(image: StainedImage) -> list[StainedSample]:
    """Samples of one rendered image, one per marker."""
    samples = []
    for k, marker in enumerate(MARKERS):
        sample = make_stained_sample(
            f"{image.name}-{marker}",
            image.channels[0],
            image.channels[k + 1],
            image.nuclei,
            pixel_size_um=image.pixel_size_um,
            cells=image.cells,
            expressed=image.expressed[k],
            own=image.own[k],
        )
        if sample is not None:
            samples.append(sample)
    return samples


@dataclass
class StainCropSource:
    """Endless numbered training crops of stained images.

    Parameters
    ----------
    samples : list of StainedSample
        Where crops come from.
    size_px : int
        Height and width of a crop at working scale.
    seed : int
        With the crop's number it fixes the crop.
    preferred : list of StainedSample
        A user's own images; `preferred_share` of the crops come from them.
    preferred_share : float
        Share of crops from `preferred`.
    plain_share : float
        Share of crops that are turned, flipped and zoomed, but not varied: they come as a whole
        image comes when cells are called.
    """

    samples: Sequence[StainedSample]
    size_px: int = 160
    seed: int = 0
    preferred: Sequence[StainedSample] = ()
    preferred_share: float = 0.0
    plain_share: float = 0.0

    def __post_init__(self) -> None:
        self._chance = _by_cells(self.samples)
        self._preferred_chance = _by_cells(self.preferred)

    def crop(self, number: int) -> dict[str, NDArray[Any]]:
        """Make crop `number`: ``image`` (3, Y, X), ``cell`` (Y/2, X/2) and truth per cell."""
        rng = np.random.default_rng((self.seed, number))
        if self.preferred and rng.random() < self.preferred_share:
            sample = self.preferred[int(rng.choice(len(self.preferred), p=self._preferred_chance))]
        else:
            sample = self.samples[int(rng.choice(len(self.samples), p=self._chance))]
        dna, marker, nuclei = _view(sample, self.size_px, rng)
        own = sample.own
        if not self.plain_share or rng.random() >= self.plain_share:
            if rng.random() < STICKY_SHARE:
                marker = marker + sticky_light(nuclei, rng)
            dna, marker, factor = vary(dna, marker, rng)
            own = own * np.float32(factor)
        nuclei = _jitter(nuclei, rng)
        half = nuclei[::2, ::2]
        count = np.bincount(np.maximum(half, 0).ravel(), minlength=len(own) + 1)
        inner = np.zeros_like(count)
        b = BORDER_PX // 2
        middle = half[b:-b, b:-b]
        inner[: len(count)] = np.bincount(np.maximum(middle, 0).ravel(), minlength=len(count))
        use = (count >= MIN_NUCLEUS_PX) & (inner >= 0.9 * count)
        use[0] = False
        rows = np.flatnonzero(use)[:MAX_CELLS]
        new = np.zeros(len(count), np.int64)
        new[rows] = np.arange(1, len(rows) + 1)
        truth = np.zeros((3, MAX_CELLS), np.float32)
        n = len(rows)
        truth[0, :n] = sample.expressed[rows - 1]
        light = curve(own[rows - 1])
        truth[1, :n] = np.nan_to_num(light)
        truth[2, :n] = np.isfinite(light)
        weight = np.zeros(MAX_CELLS, np.float32)
        weight[:n] = 1.0
        return {
            "image": network_input(dna, marker),
            "cell": new[np.maximum(half, 0)],
            "expressed": truth[0],
            "own": truth[1],
            "own_known": truth[2],
            "weight": weight,
        }


def _by_cells(samples: Sequence[StainedSample]) -> NDArray[np.float64]:
    """An image counts by the root of its number of cells."""
    root = np.sqrt([float(len(s.expressed)) for s in samples])
    return np.asarray(root / max(root.sum(), 1e-9), np.float64)


def _view(
    sample: StainedSample, size: int, rng: np.random.Generator
) -> tuple[Float32, Float32, NDArray[np.int64]]:
    """Turn, flip, zoom and cut."""
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else rng.integers(4) * np.pi / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(rng.choice([-1, 1], 2)) / np.exp(rng.uniform(-0.22, 0.22))
    shape = sample.nuclei.shape
    where = np.flatnonzero(sample.nuclei > 0)
    focus = np.array(np.unravel_index(where[rng.integers(where.size)], shape), float)
    focus += matrix @ rng.uniform(-0.3, 0.3, 2) * size
    extent = np.abs(matrix).sum(1) * size / 2
    for axis, length in enumerate(shape):
        inside = 2 * extent[axis] <= length
        focus[axis] = (
            np.clip(focus[axis], extent[axis], length - extent[axis]) if inside else length / 2
        )
    grid = np.indices((size, size), dtype=np.float32).reshape(2, -1) - (size - 1) / 2
    at = (matrix @ grid + focus[:, None]).reshape(2, size, size)
    planes = [
        ndi.map_coordinates(p.astype(np.float32), at, order=1, mode="mirror")
        for p in (sample.dna, sample.marker)
    ]
    nuclei = ndi.map_coordinates(sample.nuclei, at, order=0, mode="constant", cval=0)
    return planes[0], planes[1], nuclei.astype(np.int64)


def vary(dna: Float32, marker: Float32, rng: np.random.Generator) -> tuple[Float32, Float32, float]:
    """Vary stain, microscope and camera of a crop.

    Parameters
    ----------
    dna, marker : (Y, X) float32
        Linear.
    rng : numpy.random.Generator
        Source of all chance.

    Returns
    -------
    dna, marker : (Y, X) float32
    factor : float
        What own light is to be multiplied by; NaN where grey values are no longer linear.
    """
    shape = (dna.shape[0], dna.shape[1])

    def chance(p: float) -> bool:
        return bool(rng.random() < p)

    def soft(image: Float32, low: float, high: float) -> Float32:
        return np.asarray(ndi.gaussian_filter(image, float(rng.uniform(low, high))), np.float32)

    factor = 1.0
    if chance(0.3):  # granules and unevenness that the renderer does not draw
        texture = smooth_noise(shape, float(rng.uniform(2, 9)), rng)
        marker = marker * np.exp(np.float32(rng.uniform(0.05, 0.35)) * texture)
    if chance(0.25):  # haze
        marker = marker + np.float32(rng.uniform(0.05, 0.6)) * soft(marker, 8, 35)
    if chance(0.3):  # autofluorescent ground
        ground = np.clip(smooth_noise(shape, float(rng.uniform(4, 60)), rng) + 1, 0, None)
        marker = marker + np.float32(10 ** rng.uniform(-2.5, -0.7)) * ground
    if chance(0.25):  # DNA dye seen in the marker's channel
        marker = marker + np.float32(10 ** rng.uniform(-2, -0.4)) * np.clip(dna, 0, None)
    if chance(0.2):  # specks
        n = int(rng.integers(1, 25))
        specks = np.zeros(shape, np.float32)
        specks[rng.integers(0, shape[0], n), rng.integers(0, shape[1], n)] = rng.uniform(0.2, 3, n)
        width = float(rng.uniform(0.5, 1.6))
        blobs = ndi.gaussian_filter(specks, width) * np.float32(2 * np.pi * width**2)
        marker = marker + blobs
        if chance(0.5):
            dna = dna + np.float32(rng.uniform(0, 0.5)) * blobs
    if chance(0.25):
        marker = soft(marker, 0.3, 1.3)
    if chance(0.25):
        dna = soft(dna, 0.3, 1.3)
    if chance(0.35):
        marker = marker + np.float32(10 ** rng.uniform(-2.5, -0.8)) * rng.standard_normal(
            shape, dtype=np.float32
        )
    if chance(0.25):
        dna = dna + np.float32(rng.uniform(0.01, 0.12)) * rng.standard_normal(
            shape, dtype=np.float32
        )
    if chance(0.12):  # bent for display
        bent = float(rng.uniform(0.5, 1.5))
        marker, factor = np.clip(marker, 0, None) ** np.float32(bent), np.nan
    if chance(0.15):  # clipped
        marker = np.minimum(marker, np.float32(np.quantile(marker, rng.uniform(0.85, 1.0))))
    # limits of a part of an image, or of one with other content
    gain = float(np.exp(rng.normal(0, 0.35)))
    shift = float(rng.normal(0, 0.03))
    marker = np.asarray(gain * marker + shift, np.float32)
    dna = np.asarray(np.exp(rng.normal(0, 0.25)) * dna + rng.normal(0, 0.02), np.float32)
    return dna, marker, gain * factor


def sticky_light(nuclei: NDArray[np.int64], rng: np.random.Generator) -> Float32:
    """Light of antibody that sticks to cells whether they express the marker or not.

    Parameters
    ----------
    nuclei : (Y, X) int
        Nuclei; 0 is background, -1 nuclei that count for nothing.
    rng : numpy.random.Generator
        Source of all chance.

    Returns
    -------
    (Y, X) float32
        To be added to the marker; no cell's own light.
    """
    if not nuclei.any():
        return np.zeros(nuclei.shape, np.float32)
    away, nearest = ndi.distance_transform_edt(nuclei == 0, return_indices=True)
    owner = nuclei[tuple(nearest)] + 1
    level = np.exp(rng.uniform(np.log(0.03), np.log(0.5)))
    amount = level * np.exp(rng.uniform(0.1, 0.7) * rng.standard_normal(int(owner.max()) + 1))
    body = amount[owner] * (away <= rng.uniform(2.5, 8.0))
    body[nuclei != 0] *= rng.uniform(0.2, 1.2)
    return np.asarray(ndi.gaussian_filter(body, float(rng.uniform(0.6, 1.5))), np.float32)


def _jitter(nuclei: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw nuclei a little too small, too large or beside, as a segmentation does."""
    kind = rng.random()
    if kind < 0.25:
        low = ndi.minimum_filter(np.maximum(nuclei, 0), 3)
        return np.where((low == nuclei) & (nuclei > 0), nuclei, np.minimum(nuclei, 0))
    if kind < 0.5:
        grown = ndi.maximum_filter(nuclei, 3)
        return np.where(nuclei == 0, grown, nuclei)
    if kind < 0.75:
        return np.roll(nuclei, rng.integers(-2, 3, 2), axis=(0, 1))
    return nuclei
