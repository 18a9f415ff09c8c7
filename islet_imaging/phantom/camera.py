"""From light to numbers in a file: bleed, uneven light, photons, read-out, and abuse.

The idea: the expected picture is exact and kept as truth; chance enters only here. Signal in
camera units is mixed by the bleed matrix, multiplied by the flat field, counted in photons
(Poisson), read with Gaussian noise, and cut to the bit depth. Abuse (stretch to 8 bit, gamma,
JPEG) comes last.

How it fails: no column pattern, no dark current, no per-pixel gain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from islet_imaging.phantom.parameters import DNA, PhantomParameters

Stack = NDArray[np.float32]


def bleed_matrix(p: PhantomParameters) -> NDArray[np.float64]:
    """Mixing of the channels: seen = matrix @ true, ones on the diagonal."""
    n = len(p.channels)
    matrix = np.eye(n)
    for source in range(n):
        if source + 1 < n:
            forward = p.bleed_dna if p.channels[source] == DNA else p.bleed_next
            matrix[source + 1, source] = forward
        if source > 0 and p.channels[source - 1] != DNA:
            matrix[source - 1, source] = p.bleed_back
    return matrix


def flat_field(p: PhantomParameters) -> NDArray[np.float32]:
    """Relative illumination (Y, X), 1 at its brightest: vignetting, tile seams, bleaching."""
    rng = np.random.default_rng(p.camera_seed)
    height, width = p.shape
    centre = rng.uniform(0.4, 0.6, 2)
    y = (np.arange(height) / height - centre[0])[:, None]
    x = (np.arange(width) / width - centre[1])[None, :]
    flat = 1.0 - p.vignetting * (y * y + x * x) / 0.5
    steps = p.seam * rng.uniform(-1, 1, 4)
    order = np.linspace(0.0, 1.0, 4) * p.bleaching
    tile = 0
    for rows in (slice(0, height // 2), slice(height // 2, height)):
        for columns in (slice(0, width // 2), slice(width // 2, width)):
            flat[rows, columns] *= (1.0 + steps[tile]) * (1.0 - order[tile])
            tile += 1
    result: NDArray[np.float32] = (flat / flat.max()).astype(np.float32)
    return result


def units_per_light(p: PhantomParameters) -> NDArray[np.float64]:
    """Camera units that one unit of light gives, per channel."""
    photons = [p.dna_photons if c == DNA else p.photons for c in p.channels]
    return p.gain * np.array(photons)


def expose(
    rng: np.random.Generator,
    p: PhantomParameters,
    clean: Stack,
    bleed: NDArray[np.float64],
    flat: NDArray[np.float32],
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Take the picture (C, Y, X) of clean signals given in camera units above the offset."""
    mixed = np.tensordot(bleed.astype(np.float32), clean, 1) * flat
    electrons = rng.poisson(np.maximum(mixed / p.gain, 0.0)).astype(np.float32)
    noise = rng.standard_normal(clean.shape, dtype=np.float32) * np.float32(p.read_noise)
    counts = p.offset + p.gain * (electrons + noise)
    hot = rng.poisson(p.hot_pixels * counts[0].size)
    place = rng.integers(0, counts[0].size, hot)
    counts.reshape(len(counts), -1)[:, place] += 1500.0  # the same pixels in every channel
    if p.rescale_8bit:
        return _abuse(p, np.clip(counts, 0, 4095 if p.bits == 12 else 65535))
    if p.bits == 8:
        low: NDArray[np.uint8] = np.clip(np.rint(counts / 16.0), 0, 255).astype(np.uint8)
        return low
    top = 4095 if p.bits == 12 else 65535
    full: NDArray[np.uint16] = np.clip(np.rint(counts), 0, top).astype(np.uint16)
    return full


def _abuse(p: PhantomParameters, counts: Stack) -> NDArray[np.uint8]:
    """Stretch each channel to 8 bit for display, bend its gamma, compress it."""
    out = np.empty(counts.shape, np.uint8)
    for k, plane in enumerate(counts):
        low = float(plane.min())
        high = float(np.quantile(plane, 1.0 - p.clip_fraction))
        unit = np.clip((plane - low) / max(high - low, 1.0), 0, 1) ** p.gamma
        out[k] = np.rint(255 * unit).astype(np.uint8)
        if p.jpeg_quality:
            import imagecodecs

            packed = imagecodecs.jpeg8_encode(out[k], level=p.jpeg_quality)
            out[k] = imagecodecs.jpeg8_decode(packed)
    return out
