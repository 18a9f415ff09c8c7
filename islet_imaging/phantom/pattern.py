"""Where in its cytoplasm a cell keeps its product: granules, one side, near the nucleus, patches.

The idea: a weight says how much of a cell's product a voxel holds.  Directions, distance from the
nucleus and patches multiply it; then a share of the product is moved into a few bright granules,
which are dropped where that weight is high, so that granules of a polarised cell lie on its side.
The mean over a cell is 1: a pattern moves light within a cell and makes none.

How it fails: patterns are those of a cell alone (no apical face of an epithelium, no granules that
line up along a vessel), and one picture has one pattern, in all of its cells or a share of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from islet_imaging.phantom.paint import Grid
from islet_imaging.phantom.parameters import PhantomParameters
from islet_imaging.phantom.scene import Cells
from islet_imaging.phantom.texture import noise

PATTERNS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "smooth": {},
        "granular": {"granule_share": 0.85, "granules_per_cell": 25.0, "granule_size_um": 0.7},
        "few_granules": {"granule_share": 0.9, "granules_per_cell": 7.0, "granule_size_um": 0.9},
        "perinuclear": {"perinuclear_um": 1.0},
        "polarised": {"cap_share": 0.3},
        "polarised_granules": {
            "cap_share": 0.35,
            "granule_share": 0.8,
            "granules_per_cell": 15.0,
            "granule_size_um": 0.7,
        },
        "patchy": {"patch_share": 0.3, "patch_um": 2.5},
        "mixed": {
            "pattern_cells": 0.5,
            "cap_share": 0.5,
            "granule_share": 0.8,
            "granules_per_cell": 12.0,
        },
    }
)
"""Expression patterns by name, as values of `PhantomParameters`."""

#: kinds of pattern that are drawn at random, and how often
KINDS = {
    ("granules",): 0.35,
    ("cap",): 0.15,
    ("cap", "granules"): 0.25,
    ("perinuclear",): 0.05,
    ("perinuclear", "granules"): 0.1,
    ("patches",): 0.1,
}
#: the soft edge of a cap, in cosines of the angle to its axis
CAP_EDGE = 0.15
#: spread of the number of granules of a cell, and of their brightness, SD of the logarithm
GRANULE_SPREAD = 0.5
#: even the far side of a cell holds this share of the product of the near one
LEAST = 0.02


def has_pattern(p: PhantomParameters) -> bool:
    """Whether a product lies unevenly beyond what `granule_contrast` and `polarity` say."""
    uneven = p.granule_share > 0 or p.perinuclear_um > 0 or p.cap_share < 1 or p.patch_share < 1
    return uneven and p.pattern_cells > 0


def random_pattern(rng: np.random.Generator) -> dict[str, Any]:
    """Draw a pattern from the whole range, for training.

    Parameters
    ----------
    rng
        Source of chance.

    Returns
    -------
    dict
        Values of `PhantomParameters` that describe it.

    Examples
    --------
    >>> import numpy as np
    >>> from islet_imaging.phantom.pattern import random_pattern
    >>> sorted(random_pattern(np.random.default_rng(3)))
    ['granule_share', 'granule_size_um', 'granules_per_cell', 'pattern_cells']
    """

    def log_between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    kinds = list(KINDS)
    chosen = kinds[int(rng.choice(len(kinds), p=list(KINDS.values())))]
    values: dict[str, Any] = {}
    if "granules" in chosen:
        values["granule_share"] = float(rng.uniform(0.4, 1.0))
        values["granules_per_cell"] = log_between(4.0, 80.0)
        values["granule_size_um"] = log_between(0.35, 1.3)
    if "cap" in chosen:
        values["cap_share"] = float(rng.uniform(0.15, 0.6))
    if "perinuclear" in chosen:
        values["perinuclear_um"] = log_between(0.5, 2.5)
    if "patches" in chosen:
        values["patch_share"] = float(rng.uniform(0.15, 0.6))
        values["patch_um"] = float(rng.uniform(1.2, 4.0))
    mixed = rng.random() < 0.35
    values["pattern_cells"] = float(rng.uniform(0.3, 1.0)) if mixed else 1.0
    return values


def expression_pattern(
    rng: np.random.Generator,
    p: PhantomParameters,
    cells: Cells,
    grid: Grid,
    body: NDArray[np.int32],
    nucleus: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Share of each cell's product at each voxel, relative to an even spread.

    Parameters
    ----------
    rng
        Source of chance, of its own.
    p
        The pattern: ``granule_share``, ``perinuclear_um``, ``cap_share``, ``patch_share`` and what
        belongs to them.
    cells
        Whose bodies are painted; cell ``i`` owns the voxels ``body == i + 1``.
    grid
        Sampling of the volume.
    body : (Z, Y, X) int32
        Owner of each voxel.
    nucleus : (Z, Y, X) float32
        Share of each voxel that is nucleus.

    Returns
    -------
    (Z, Y, X) float32
        Mean 1 over the cytoplasm of each cell that is shown, and 1 where no cell is.
    """
    n = len(cells)
    result = np.ones(body.shape, np.float32)
    at = np.flatnonzero((body > 0) & (nucleus < 0.5))
    owner = body.ravel()[at] - 1
    weight = _weights(rng, p, cells, grid, body.shape, at, owner)
    if p.granule_share > 0:
        share = np.float32(p.granule_share)
        granules = _granules(rng, p, grid, body.shape, at, owner, weight, n)
        weight = (1 - share) * _even(weight, owner, n) + share * _even(granules, owner, n)
    plain = rng.random(n) >= p.pattern_cells
    result.ravel()[at] = np.where(plain[owner], np.float32(1), _even(weight, owner, n))
    # the nucleus is no cytoplasm: what little product it shows is the cell's mean
    return result


def _weights(
    rng: np.random.Generator,
    p: PhantomParameters,
    cells: Cells,
    grid: Grid,
    shape: tuple[int, ...],
    at: NDArray[np.intp],
    owner: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Smooth part of the pattern at the voxels ``at``."""
    n = len(cells)
    axis = rng.standard_normal((n, 3))
    # seen from above, a pole above or below the nucleus is no side: most lie in the plane
    axis[:, 0] *= 0.5
    axis /= np.maximum(np.linalg.norm(axis, axis=1), 1e-9)[:, None]
    z, rest = np.divmod(at, shape[1] * shape[2])
    y, x = np.divmod(rest, shape[2])
    away = np.stack(
        [
            grid.depth_um[z] - cells.centre[owner, 0],
            (y - grid.margin[0]) * grid.pixel_um - cells.centre[owner, 1],
            (x - grid.margin[1]) * grid.pixel_um - cells.centre[owner, 2],
        ]
    ).astype(np.float32)
    distance = np.sqrt((away * away).sum(axis=0))
    weight = np.ones(len(at), np.float32)
    if p.cap_share < 1:
        cosine = (away * axis.T[:, owner].astype(np.float32)).sum(axis=0)
        cosine /= np.maximum(distance, np.float32(1e-3))
        # a cap of a sphere holds (1 - cos) / 2 of all directions
        edge = np.float32(1 - 2 * p.cap_share)
        weight *= np.clip((cosine - edge) / np.float32(CAP_EDGE) + 0.5, LEAST, 1)
    if p.perinuclear_um > 0:
        radius = np.cbrt(cells.half_axes.prod(axis=1))[owner].astype(np.float32)
        weight *= np.exp(-np.maximum(distance - radius, 0) / np.float32(p.perinuclear_um)) + LEAST
    if p.patch_share < 1:
        sigma = 0.5 * p.patch_um / grid.pixel_um
        shared = noise(rng, (shape[1], shape[2]), sigma)
        planes = [
            np.float32(0.7) * shared + np.float32(0.714) * noise(rng, (shape[1], shape[2]), sigma)
            for _ in range(shape[0])
        ]
        field = np.stack(planes).ravel()[at]
        cut = np.quantile(field, 1 - p.patch_share)
        weight *= np.clip((field - np.float32(cut)) / np.float32(0.3) + 0.5, LEAST, 1)
    return weight


def _granules(
    rng: np.random.Generator,
    p: PhantomParameters,
    grid: Grid,
    shape: tuple[int, ...],
    at: NDArray[np.intp],
    owner: NDArray[np.int32],
    weight: NDArray[np.float32],
    n: int,
) -> NDArray[np.float32]:
    """Light of separate granules at the voxels ``at``; each cell has one at least."""
    order = np.argsort(owner, kind="stable")
    at_sorted, owner_sorted = at[order], owner[order]
    first = np.searchsorted(owner_sorted, np.arange(n))
    last = np.searchsorted(owner_sorted, np.arange(n), side="right")
    running = np.concatenate([[0.0], np.cumsum(weight[order], dtype=np.float64)])
    whole = grid.plane_um * grid.pixel_um**2 / 1500.0  # of a cytoplasm that is shown as a whole
    shown = np.clip((last - first) * whole, 0, 1)
    many = p.granules_per_cell * np.exp(GRANULE_SPREAD * rng.standard_normal(n)) * shown
    count = np.where(last > first, np.maximum(rng.poisson(many), 1), 0)
    of = np.repeat(np.arange(n), count)
    # a voxel of the granule's cell by chance, as likely as its weight
    target = running[first[of]] + rng.random(len(of)) * (running[last[of]] - running[first[of]])
    place = np.clip(np.searchsorted(running, target, side="right") - 1, first[of], last[of] - 1)
    bright = np.exp(GRANULE_SPREAD * rng.standard_normal(len(of)))
    field = np.zeros(int(np.prod(shape)), np.float32)
    np.add.at(field, at_sorted[place], bright.astype(np.float32))
    sigma = max(0.4 * p.granule_size_um / grid.pixel_um, 0.3)
    blurred = gaussian_filter(field.reshape(shape), (0, sigma, sigma), mode="wrap", truncate=3.0)
    return np.asarray(blurred.ravel()[at], np.float32)


def _even(weight: NDArray[np.float32], owner: NDArray[np.int32], n: int) -> NDArray[np.float32]:
    """Weights with mean 1 over each cell."""
    total = np.bincount(owner, weight, n)
    mean = total / np.maximum(np.bincount(owner, minlength=n), 1)
    return np.asarray(weight / np.maximum(mean, 1e-9)[owner], np.float32)
