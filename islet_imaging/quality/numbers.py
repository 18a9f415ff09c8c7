"""The few numbers of an image that quality is judged by.

The idea: every check of an image, and every comparison between images of a folder, is a rule on
a small set of numbers per channel (range, clipping, noise, background, sharpness, blockiness,
seams, a thumbnail and a digest).  They are measured once, on binned or sampled pixels, in a
fraction of a second, are cheap to send between processes, and so a folder is checked without
holding its images.
It fails where tissue is found wrongly: tissue is where the binned DNA channel stands out, so an
image without a usable DNA channel gets its numbers over the whole frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: largest values of cameras and detectors: 8, 10, 12, 14 and 16 bit
CEILINGS = (255, 1023, 4095, 16383, 65535)
#: edge of the blocks that tissue, background and structure are judged on, px
BLOCK = 8

Float = NDArray[np.float32]


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
    #: 99.5th percentile of block means
    bright: float
    #: standard deviation of pixel noise (from second differences along rows)
    noise: float
    #: variance of block means over what pixel noise alone would give
    structure: float
    #: share of empty grey levels between the 1st and 99th percentile
    comb: float
    #: mean step across 8-pixel borders over mean step elsewhere
    blockiness: float
    #: largest step along a straight line across the image, over the spread of other steps
    seam: float
    #: that step as a share of the level above the image's minimum
    seam_step: float
    #: nuclear-scale texture: see :func:`nuclear_pattern`
    pattern: tuple[float, ...]
    #: block means on a 16 x 16 grid, divided by their median
    thumbnail: Float
    #: BLAKE2 of the pixels
    digest: str


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
    sharpness_tiles: Float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and scalars, ready for JSON."""
        out = asdict(self)
        for channel in out["channels"].values():
            channel["thumbnail"] = [[round(float(v), 5) for v in r] for r in channel["thumbnail"]]
        if self.sharpness_tiles is not None:
            out["sharpness_tiles"] = self.sharpness_tiles.tolist()
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageNumbers:
        """The numbers that :meth:`to_dict` wrote."""
        channels = {
            name: ChannelNumbers(
                **{
                    **c,
                    "pattern": tuple(c["pattern"]),
                    "thumbnail": np.asarray(c["thumbnail"], dtype=np.float32),
                }
            )
            for name, c in data["channels"].items()
        }
        tiles = data["sharpness_tiles"]
        return cls(
            **{
                **data,
                "channels": channels,
                "shape": tuple(data["shape"]),
                "sharpness_tiles": None if tiles is None else np.asarray(tiles, dtype=np.float32),
            }
        )


def block_means(plane: NDArray[Any], block: int = BLOCK) -> Float:
    """Means of ``block`` x ``block`` pixels, (Y // block, X // block); rests are left out.

    Examples
    --------
    >>> block_means(np.ones((16, 24), np.uint16)).shape
    (2, 3)
    """
    rows, cols = plane.shape[0] // block, plane.shape[1] // block
    cut = plane[: rows * block, : cols * block]
    # summing rows first keeps the memory access in order
    partial = np.add.reduceat(cut, np.arange(0, rows * block, block), axis=0, dtype=np.float32)
    sums = partial.reshape(rows, cols, block).sum(axis=2)
    return np.asarray(sums / np.float32(block * block), dtype=np.float32)


def tissue_mask(dna_blocks: Float) -> NDArray[np.bool_]:
    """Blocks with tissue: where the binned DNA channel is above Otsu's cut of its log.

    Nuclei are spread by 3 blocks, so that cytoplasm and gaps count as tissue.
    """
    from skimage.filters import threshold_otsu

    if dna_blocks.size == 0 or float(np.ptp(dna_blocks)) <= 0:
        return np.ones(dna_blocks.shape, dtype=bool)
    low = float(np.percentile(dna_blocks, 1))
    spread = max(float(np.percentile(dna_blocks, 99)) - low, 1e-6)
    level = np.log(np.maximum(dna_blocks - low, 0) + 0.02 * spread)
    mask = level > threshold_otsu(level)
    grown: NDArray[np.bool_] = ndimage.binary_dilation(mask, iterations=1)
    return grown


def pixel_noise(plane: NDArray[Any]) -> float:
    """Standard deviation of pixel noise in dark parts, from second differences along rows.

    Every fourth row is used; the lower quartile over short stretches keeps structure out.
    """
    rows = np.asarray(plane[::4], dtype=np.float32)
    if rows.shape[1] < 19:
        return 0.0
    second = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])
    width = second.shape[1] // 16 * 16
    local = second[:, :width].reshape(second.shape[0], -1, 16).mean(axis=2)
    # mean |second difference| of white noise is sqrt(6) * sqrt(2 / pi) times its sd
    return float(np.percentile(local, 25) / (np.sqrt(6.0) * np.sqrt(2 / np.pi)))


def saturation(plane: NDArray[Any], tissue: NDArray[np.bool_], *, bits: int | None = None) -> float:
    """Share of tissue pixels at the ceiling; 0 where the largest value is no ceiling.

    The ceiling is that of the stated bit depth, or a detector's (255, 1023, 4095, 16383,
    65535).  Elsewhere a pile-up of at least 20 pixels at the largest value that is
    ten times what the next levels hold counts as one.

    Parameters
    ----------
    plane : ndarray, shape (Y, X)
        Pixels as stored.
    tissue : ndarray of bool
        Tissue on the grid of :func:`block_means`.
    bits : int, optional
        Significant bits that the file states.
    """
    top = plane.max()
    if not np.isfinite(top) or top <= plane.min():
        return 0.0
    at_top = plane == top
    count = int(np.count_nonzero(at_top))
    stated = bits is not None and top >= 2**bits - 1
    if not stated and top not in CEILINGS:
        step = 0.02 * float(top)
        below = int(np.count_nonzero((plane >= top - step) & ~at_top))
        # without a known ceiling only a pile-up tells clipping from one bright pixel
        if count < 20 or count < 10 * below:
            return 0.0
    if count <= 2:
        return 0.0
    y, x = np.nonzero(at_top)
    y, x = y // BLOCK, x // BLOCK
    inside = (y < tissue.shape[0]) & (x < tissue.shape[1])
    hits = int(np.count_nonzero(tissue[y[inside], x[inside]]))
    return hits / max(1, int(np.count_nonzero(tissue)) * BLOCK * BLOCK)


def comb(plane: NDArray[Any]) -> float:
    """Share of grey levels that are empty between the 1st and 99th percentile (integers only).

    Contrast stretching of stored integers leaves a regular comb of empty levels.
    """
    if plane.dtype.kind not in "ui":
        return 0.0
    sample = np.asarray(plane[::2, ::2]).ravel()
    low, high = np.percentile(sample, [1, 99])
    inside = sample[(sample >= low) & (sample <= high)]
    levels = int(high) - int(low) + 1
    # with fewer than 30 pixels per level an empty level is chance
    if levels < 12 or inside.size < 30 * levels:
        return 0.0
    filled = np.count_nonzero(np.bincount((inside - int(low)).astype(np.int64), minlength=levels))
    return 1.0 - filled / levels


def blockiness(plane: NDArray[Any]) -> float:
    """Mean absolute step across borders of 8 x 8 pixels over the mean step elsewhere (JPEG)."""
    if plane.shape[0] < 64 or plane.shape[1] < 64:
        return 1.0
    ratios = []
    for view in (plane[::4], plane.T[::4]):
        rows = np.asarray(view, dtype=np.float32)
        steps = np.abs(np.diff(rows, axis=1)).mean(axis=0)
        width = steps.size // 8 * 8
        by_phase = steps[:width].reshape(-1, 8).mean(axis=0)
        rest = float(by_phase[:7].mean())
        ratios.append(float(by_phase[7]) / rest if rest > 0 else 1.0)
    return min(ratios)


def seam(plane: NDArray[Any]) -> tuple[float, float]:
    """The sharpest straight step from edge to edge: its robust z, and its relative height.

    For each line between two columns (and rows) the median over the line of the step between
    the 4 pixels before and the 4 after is taken; tissue gives gradual steps, a seam one line.
    """
    best = (0.0, 0.0)
    if min(plane.shape) < 128:
        return best
    floor = float(plane.min())
    for view in (plane[::8], plane[:, ::8].T):
        rows = np.asarray(view, dtype=np.float32)
        total = np.cumsum(rows, axis=1)
        four = (total[:, 4:] - total[:, :-4]) / 4
        step = np.median(four[:, 4:] - four[:, :-4], axis=0)
        sharp = step - ndimage.median_filter(step, 25, mode="nearest")
        spread = 1.4826 * float(np.median(np.abs(sharp - np.median(sharp))))
        if spread <= 0:
            continue
        inner = np.abs(sharp[8:-8])
        at = int(np.argmax(inner))
        level = float(np.median(four[:, at + 8])) - floor
        found = (float(inner[at]) / spread, float(inner[at]) / max(level, 1.0))
        best = max(best, found)
    return best


def nuclear_pattern(
    plane: NDArray[Any], pixel_size_um: float, tissue: NDArray[np.bool_]
) -> tuple[float, ...]:
    """How much a channel looks like nuclei: numbers on a copy with pixels of about 1 um.

    Returns
    -------
    tuple of float
        Share of in-tissue variance at the scale of nuclei, skewness of that band, and
        coefficient of variation of the slow part: nuclei are alike and evenly spread, a
        cytoplasmic marker is patchy and dark in nuclei.
    """
    factor = max(1, round(1.0 / pixel_size_um))
    small = block_means(plane, factor)
    scale = 1.0 / (pixel_size_um * factor)
    if min(small.shape) < 24 * scale:
        return (np.nan, np.nan, np.nan)
    zoom_y = np.minimum(np.arange(small.shape[0]) * factor // BLOCK, tissue.shape[0] - 1)
    zoom_x = np.minimum(np.arange(small.shape[1]) * factor // BLOCK, tissue.shape[1] - 1)
    mask = tissue[np.ix_(zoom_y, zoom_x)]
    if np.count_nonzero(mask) < 200:
        return (np.nan, np.nan, np.nan)
    small = small - np.float32(np.percentile(small, 1))
    fine = ndimage.gaussian_filter(small, 1.5 * scale, truncate=3)
    slow = ndimage.gaussian_filter(small, 6.0 * scale, truncate=3)
    local = slow[mask]
    band = (fine - slow)[mask] / np.maximum(local, 0.1 * float(local.mean()) + 1e-6)
    sd = float(band.std())
    if sd == 0:
        return (0.0, 0.0, 0.0)
    skew = float(np.mean((band - band.mean()) ** 3)) / sd**3
    return (sd, skew, float(local.std() / max(float(local.mean()), 1e-6)))


def sharpness(
    dna: NDArray[Any], pixel_size_um: float, tissue: NDArray[np.bool_]
) -> tuple[float | None, Float | None]:
    """Power of the DNA channel at 1.8 to 3.2 um over that at 5 to 12 um, per tile and median.

    The floor of white noise, read in the corner of the spectrum, is removed first.  A Gaussian
    blur of sigma s um divides the ratio by about exp(7.4 s^2), so a drop against the batch is a
    blur in um.

    Returns
    -------
    tuple
        Median over tiles with tissue (None where there are none), and the tiles.
    """
    tile = int(2 ** np.ceil(np.log2(24.0 / pixel_size_um)))
    tile = int(np.clip(tile, 64, 512))
    rows, cols = dna.shape[0] // tile, dna.shape[1] // tile
    if rows == 0 or cols == 0 or pixel_size_um > 1.4:
        return None, None
    step = tile // BLOCK
    cut = tissue[: rows * step, : cols * step]
    share = cut.reshape(rows, step, cols, step).mean(axis=(1, 3))
    out = np.full((rows, cols), np.nan, dtype=np.float32)
    order = np.argsort(-share, axis=None, kind="stable")[:64]
    where = [divmod(int(i), cols) for i in order if share.flat[i] > 0.4]
    if not where:
        return None, out
    window = np.hanning(tile).astype(np.float32)
    stack = np.stack(
        [dna[r * tile : (r + 1) * tile, c * tile : (c + 1) * tile] for r, c in where]
    ).astype(np.float32)
    stack -= stack.mean(axis=(1, 2), keepdims=True)
    stack *= window[:, None] * window
    from scipy import fft

    power = np.abs(fft.rfft2(stack, axes=(1, 2))) ** 2
    fy, fx = np.fft.fftfreq(tile), np.fft.rfftfreq(tile)
    per_px = np.hypot(fy[:, None], fx)
    per_um = per_px / pixel_size_um
    noise = power[:, per_px > 0.55].mean(axis=1)
    fine = power[:, (per_um > 1 / 3.2) & (per_um < 1 / 1.8) & (per_px < 0.5)].mean(axis=1) - noise
    coarse = power[:, (per_um > 1 / 12) & (per_um < 1 / 5)].mean(axis=1) - noise
    for (r, c), f, b in zip(where, fine, coarse, strict=True):
        out[r, c] = max(float(f), 1e-9 * float(abs(b))) / b if b > 0 else np.nan
    good = out[np.isfinite(out)]
    return (float(np.median(good)) if good.size else None), out


def _thumbnail(blocks: Float) -> Float:
    rows = np.linspace(0, blocks.shape[0], 17).astype(int)
    cols = np.linspace(0, blocks.shape[1], 17).astype(int)
    if min(blocks.shape) < 16:
        return np.ones((16, 16), dtype=np.float32)
    sums = np.add.reduceat(np.add.reduceat(blocks, rows[:-1], axis=0), cols[:-1], axis=1)
    mean = sums / (np.diff(rows)[:, None] * np.diff(cols))
    return np.asarray(mean / max(float(np.median(mean)), 1e-6), dtype=np.float32)


def measure_quality(
    channels: Mapping[str, NDArray[Any]],
    *,
    dna: str,
    pixel_size_um: float | None,
    bits: int | None = None,
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
    shape = planes[dna].shape
    blocks = {name: block_means(plane) for name, plane in planes.items()}
    tissue = tissue_mask(blocks[dna])
    sharp, tiles = None, None
    if pixel_size_um is not None:
        sharp, tiles = sharpness(planes[dna], pixel_size_um, tissue)
    return ImageNumbers(
        channels={
            name: _channel(plane, blocks[name], tissue, bad[name], pixel_size_um, bits)
            for name, plane in planes.items()
        },
        shape=(int(shape[0]), int(shape[1])),
        pixel_size_um=pixel_size_um,
        tissue=float(tissue.mean()) if tissue.size else 0.0,
        sharpness=sharp,
        sharpness_tiles=tiles,
    )


def _channel(
    plane: NDArray[Any],
    blocks: Float,
    tissue: NDArray[np.bool_],
    not_finite: float,
    pixel_size_um: float | None,
    bits: int | None,
) -> ChannelNumbers:
    low, high = float(plane.min()), float(plane.max())
    noise = pixel_noise(plane)
    flat = blocks if blocks.size else np.zeros((1, 1), dtype=np.float32)
    inside = blocks[tissue] if np.any(tissue) else flat
    z, step = seam(plane)
    pattern: tuple[float, ...] = (np.nan, np.nan, np.nan)
    if pixel_size_um is not None and high > low:
        pattern = nuclear_pattern(plane, pixel_size_um, tissue)
    expected = noise**2 / BLOCK**2
    digest = hashlib.blake2b(np.ascontiguousarray(plane).data, digest_size=16)
    digest.update(f"{plane.shape}{plane.dtype}".encode())
    return ChannelNumbers(
        dtype=str(plane.dtype),
        minimum=low,
        maximum=high,
        not_finite=not_finite,
        saturated=saturation(plane, tissue, bits=bits),
        at_minimum=float(np.count_nonzero(plane == plane.min())) / plane.size,
        background=float(np.percentile(flat, 1)),
        tissue=float(np.median(inside)),
        bright=float(np.percentile(flat, 99.5)),
        noise=noise,
        structure=float(flat.var()) / expected if expected > 0 else np.inf,
        comb=comb(plane),
        blockiness=blockiness(plane) if plane.dtype == np.uint8 else 1.0,
        seam=z,
        seam_step=step,
        pattern=pattern,
        thumbnail=_thumbnail(flat),
        digest=digest.hexdigest(),
    )
