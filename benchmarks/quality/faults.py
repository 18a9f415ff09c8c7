"""The faults that are planted in clean images, each as its cause would make it.

The idea: a fault is a function from the channels of a clean image to those of a faulty one; noise
that a change takes away is put back, so that its absence does not betray the fault.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

OFFSET = 100.0
Stack = dict[str, np.ndarray]


def noisy(plane: np.ndarray, like: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smoothed plane with the noise it lost put back."""
    lost = like.astype(float) - ndimage.gaussian_filter(like.astype(float), 1.0)
    sd = 1.4826 * float(np.median(np.abs(lost)))
    return np.clip(np.round(plane + rng.normal(0, sd, plane.shape)), 0, 65535).astype(np.uint16)


def saturate(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    top = float(np.percentile(s["INS"], 99))
    ins = OFFSET + (s["INS"] - OFFSET) * (4095 - OFFSET) / (top - OFFSET)
    return {**s, "INS": np.clip(ins, 0, 4095).astype(np.uint16)}


def empty(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    noise = rng.normal(OFFSET + 8, 6, s["INS"].shape)
    return {**s, "INS": np.clip(np.round(noise), 0, None).astype(np.uint16)}


def swap(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    return {"DAPI": s["INS"], "INS": s["DAPI"], "GCG": s["GCG"]}


def min_max(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    def scaled(p: np.ndarray) -> np.ndarray:
        low, high = float(p.min()), float(p.max())
        return np.round(255 * (p - low) / (high - low)).astype(np.uint8)

    return {c: scaled(p.astype(float)) for c, p in s.items()}


def comb(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    out = {}
    for c, p in s.items():
        top = float(np.percentile(p, 99.9))
        eight = np.clip(255 * p / (1.6 * top), 0, 255).astype(np.uint8)
        low, high = np.percentile(eight, [0.5, 99.5])
        out[c] = np.clip(255 * (eight - float(low)) / (high - low), 0, 255).astype(np.uint8)
    return out


def jpeg(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    import imagecodecs

    out = {}
    for c, p in s.items():
        top = float(np.percentile(p, 99.9))
        eight = np.clip(230 * p / top, 0, 255).astype(np.uint8)
        out[c] = imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(eight, level=70))
    return out


def half_blurred(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    out = {}
    if tissue_right(s) < 0.5:
        # the half with more tissue: a blurred half without any changes no number
        return {c: p[:, ::-1] for c, p in half_blurred(mirrored(s), um, rng).items()}
    for c, p in s.items():
        blurred = noisy(ndimage.gaussian_filter(p.astype(float), 1.6 / um), p, rng)
        half = p.shape[1] // 2
        out[c] = np.concatenate([p[:, :half], blurred[:, half:]], axis=1)
    return out


def tissue_right(s: Stack) -> float:
    """Share of the tissue that lies in the right half."""
    from islet_imaging.quality.pixels import pyramid, tissue_mask

    tissue = tissue_mask(pyramid(s["DAPI"])[-1])
    return float(tissue[:, tissue.shape[1] // 2 :].sum() / max(tissue.sum(), 1))


def mirrored(s: Stack) -> Stack:
    return {c: np.ascontiguousarray(p[:, ::-1]) for c, p in s.items()}


def blur(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    return {
        c: noisy(ndimage.gaussian_filter(p.astype(float), 1.6 / um), p, rng) for c, p in s.items()
    }


def seam(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    out = {}
    for c, p in s.items():
        copy = p.astype(float)
        copy[:, 300:] = OFFSET + 0.8 * (copy[:, 300:] - OFFSET)
        out[c] = np.round(copy).astype(np.uint16)
    return out


def bleed(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    add = 0.15 * (s["INS"].astype(float) - OFFSET)
    return {**s, "GCG": np.clip(np.round(s["GCG"] + add), 0, 65535).astype(np.uint16)}


def holes(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    out = {c: p.astype(np.float32) for c, p in s.items()}
    out["INS"][10:20, 10:40] = np.nan
    return out


def same_channel(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    return {**s, "GCG": s["INS"].copy()}


def small_field(s: Stack, um: float, rng: np.random.Generator) -> Stack:
    edge = int(50 / um)
    y, x = np.unravel_index(
        int(np.argmax(ndimage.uniform_filter(s["DAPI"].astype(float), edge))), s["DAPI"].shape
    )
    y0 = int(np.clip(y - edge // 2, 0, s["DAPI"].shape[0] - edge))
    x0 = int(np.clip(x - edge // 2, 0, s["DAPI"].shape[1] - edge))
    return {c: p[y0 : y0 + edge, x0 : x0 + edge].copy() for c, p in s.items()}


Fault = Callable[[Stack, float, np.random.Generator], Stack]

#: name, code, function, whether cells are needed
IMAGE_FAULTS: tuple[tuple[str, str, Fault, bool], ...] = (
    ("1 % of the insulin channel clipped at 4095", "saturated", saturate, False),
    ("empty insulin channel", "empty_channel", empty, False),
    ("DNA and insulin swapped", "swapped_channels", swap, False),
    ("8 bit, each channel stretched to 0..255", "display_scaled", min_max, False),
    ("8 bit, contrast stretched afterwards", "display_scaled", comb, False),
    ("JPEG, quality 70", "lossy", jpeg, False),
    ("half of the image blurred by 1.6 um", "partly_out_of_focus", half_blurred, False),
    ("tile seam of 20 %", "tile_seam", seam, False),
    ("15 % of insulin bleeds into glucagon", "bleed_through", bleed, False),
    ("NaN pixels", "not_finite", holes, False),
    ("two channels identical", "identical_channels", same_channel, False),
    ("field of 50 um", "few_cells|many_at_border", small_field, True),
)
#: name, code, parameters of the phantom, whether cells are needed
RENDERED_FAULTS = (
    ("20 % of the nuclei pyknotic", "many_pyknotic", {"pyknotic_fraction": 0.2}, True),
    ("6000 autofluorescent specks per mm2", "autofluorescence", {"specks_per_mm2": 6000.0}, False),
)


def brighter(s: Stack, factor: float) -> Stack:
    """Another exposure: more light, the same offset, noise as the light has it."""
    rng = np.random.default_rng(5)
    out = {}
    for c, p in s.items():
        light = np.maximum(p.astype(float) - OFFSET, 0) * factor
        # twice the light has twice, not four times, the variance: drop what scaling added
        smooth = ndimage.gaussian_filter(light, 0.6)
        out[c] = np.clip(np.round(OFFSET + smooth + rng.normal(0, 1, p.shape) * np.sqrt(
            2.5 * np.maximum(smooth, 0) + 60)), 0, 65535).astype(np.uint16)  # fmt: skip
    return out


def shaded(s: Stack, side: int = 0) -> Stack:
    """One side half as bright as the other; ``side`` counts quarter turns."""
    size = s["DAPI"].shape
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    field = np.rot90(1 - 0.5 * (x + 1) / 2 - 0.1 * y * y, side)
    return {
        c: np.round(OFFSET + (p - OFFSET) * field).clip(0).astype(np.uint16) for c, p in s.items()
    }
