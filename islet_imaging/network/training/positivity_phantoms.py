"""Rendered staining runs: what the positivity network learns from.

The idea: a run is what a laboratory stains in one day: three sections of different composition and
two negative controls, under one lens, exposure and camera.  Everything is drawn over the widest
ranges (``phantom.random_parameters``), so that a network that has seen them all need not guess.
A share of the runs shows a product that lies in granules, on one side, in patches or near the
nucleus (``phantom.random_pattern``).
The truth of a cell is whether it expresses the marker, and the light that is its own, in the units
of the file.

It fails where the renderer does: what it does not draw is not learned from it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from islet_imaging.phantom import Phantom

log = logging.getLogger(__name__)

MARKERS = ("INS", "GCG")
"""Cytoplasmic markers of a rendered run; to the network each is just "the marker"."""

SAMPLES = 3
CONTROLS = 2
SEED = 700_000
"""Seeds from here on are for training; benchmarks use others."""

COMPOSITION = (
    "insulin_fraction",
    "glucagon_fraction",
    "somatostatin_fraction",
    "bihormonal_fraction",
    "enterochromaffin_fraction",
    "arrangement",
    "arrangement_strength",
)


@dataclass(frozen=True)
class StainedImage:
    """One image of a run with its truth.

    Attributes
    ----------
    name : str
        ``<run>-s<k>`` for samples, ``<run>-c<k>`` for controls.
    role : str
        "sample", or the kind of control.
    pixel_size_um : float
    channels : (C, Y, X)
        DNA, then `MARKERS`, as in the file.
    nuclei, partial : (Y, X) int32
        Nuclei that count as cells, and those that are neither right nor wrong.
    cells : (N,) int32
        Labels of cells that count: visible, alive, not cut by the border.
    expressed : (M, N) bool
        Whether each is stained because it expresses the marker.
    own : (M, N) float32
        Its own light in the ring around its nucleus, in units of the file; NaN where the file's
        grey values are not proportional to light.
    """

    name: str
    role: str
    pixel_size_um: float
    channels: NDArray[Any]
    nuclei: NDArray[np.int32]
    partial: NDArray[np.int32]
    cells: NDArray[np.int32]
    expressed: NDArray[np.bool_]
    own: NDArray[np.float32]


def staining_run(
    run: int, cache: Path, *, side_px: int = 400, pattern_share: float = 0.0
) -> list[StainedImage]:
    """Render a staining run, or read it if it was rendered before.

    Parameters
    ----------
    run : int
        Its number fixes it.
    cache : Path
        Folder of ``run_<number>.npz``, and of ``run_<number>_pattern.npz`` for runs with a pattern.
    side_px : int
        Height and width of the images.
    pattern_share : float
        Share of all runs whose product is spread by a random pattern; else a run is what it is
        with none.

    Returns
    -------
    list of StainedImage
        `SAMPLES` samples, then `CONTROLS` controls.
    """
    pattern = _pattern(run, pattern_share)
    path = cache / f"run_{run}{'_pattern' if pattern else ''}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {}
        for k, made in enumerate(_render(run, side_px, pattern)):
            arrays |= {f"{key}_{k}": value for key, value in _truth(made).items()}
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, **arrays)
        part.replace(path)
    with np.load(path) as stored:
        return [_read(stored, run, k) for k in range(SAMPLES + CONTROLS)]


def _read(stored: Mapping[str, Any], run: int, k: int) -> StainedImage:
    role = str(stored[f"role_{k}"])
    expressed = stored[f"expressed_{k}"]
    if role == "secondary_only":
        # the cells express what they express, but nothing of it is stained
        expressed = np.zeros_like(expressed)
    return StainedImage(
        name=f"{run}-{'s' if k < SAMPLES else 'c'}{k}",
        role=role,
        pixel_size_um=float(stored[f"pixel_size_um_{k}"]),
        expressed=expressed,
        **{key: stored[f"{key}_{k}"] for key in ("channels", "nuclei", "partial", "cells", "own")},
    )


def _pattern(run: int, share: float) -> dict[str, Any]:
    """Pattern of a run; a stream of its own, so that all else of the run stays as it is."""
    from islet_imaging.phantom import random_pattern

    rng = np.random.default_rng((SEED, run))
    return random_pattern(rng) if rng.random() < share else {}


def _render(run: int, side_px: int, pattern: Mapping[str, Any]) -> list[Phantom]:
    from islet_imaging.phantom import phantom, random_parameters

    rng = np.random.default_rng(SEED + run)
    drawn = random_parameters(rng, shape=(side_px, side_px), channels=("DAPI", *MARKERS))
    base = replace(drawn, measure_light=True, **pattern)
    slides = []
    for _ in range(SAMPLES):
        other = random_parameters(rng)
        slides.append(replace(base, **{name: getattr(other, name) for name in COMPOSITION}))
    slides += CONTROLS * [replace(base, control=("secondary_only", "no_insulin")[run % 2])]
    first = SEED + 100_000 + 10 * run
    return [phantom(slide, seed=first + k) for k, slide in enumerate(slides)]


def _truth(made: Phantom) -> dict[str, Any]:
    truth, p = made.truth, made.parameters
    table = truth.cells
    table = table[table["visible"] & ~table["pyknotic"] & ~table["touches_border"]]
    own = np.stack([table[f"{m}_own_light"].to_numpy(np.float64) for m in MARKERS])
    own = np.nan_to_num(own, nan=0.0) * _file_units(made)[:, None]
    return {
        "role": np.array("sample" if p.control == "none" else p.control),
        "pixel_size_um": np.array(p.pixel_size_um),
        "channels": made.array,
        "nuclei": truth.nuclei.astype(np.int32),
        "partial": truth.partial_nuclei.astype(np.int32),
        "cells": table["cell"].to_numpy(np.int32),
        "expressed": np.stack([table[f"{m}_expressed"].to_numpy(bool) for m in MARKERS]),
        "own": own.astype(np.float32),
    }


def _file_units(made: Phantom) -> NDArray[np.float64]:
    """Grey values of the file per camera unit, for each marker; NaN for a bent scale."""
    p = made.parameters
    if p.gamma != 1.0:
        return np.full(len(MARKERS), np.nan)
    if not p.rescale_8bit:
        return np.full(len(MARKERS), 1 / 16.0 if p.bits == 8 else 1.0)
    expected = np.tensordot(made.truth.bleed, made.truth.clean, 1) * made.truth.flat_field
    slopes = []
    for seen, light in zip(made.array[1:], expected[1:], strict=True):
        # clipped pixels say nothing of the scale
        use = (seen > 0) & (seen < 255)
        x, y = light[use].astype(np.float64), seen[use].astype(np.float64)
        spread = float(np.var(x)) if x.size > 100 else 0.0
        slopes.append(np.cov(x, y)[0, 1] / spread if spread > 0 else np.nan)
    return np.array(slopes)
