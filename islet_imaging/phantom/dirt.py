"""What lies on a slide besides cells: specks, debris, red cells, fibres, plasma in vessels.

The idea: autofluorescence is in every channel at once, with a ratio that varies from piece to
piece; antibody aggregates are in one. Both reach the level of true positives, which is why the
high percentiles of a negative control mislead.

How it fails: everything is in focus and round or straight; bubbles, knife marks and folds are
not rendered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from islet_imaging.phantom.paint import Grid
from islet_imaging.phantom.parameters import DNA, PhantomParameters


def make_dirt(
    rng: np.random.Generator, p: PhantomParameters, grid: Grid, lumens: NDArray[np.float64]
) -> dict[str, NDArray[np.float32]]:
    """One plane of dirt per channel, in units of a typical expressing cytoplasm."""
    planes = {c: np.zeros(grid.shape, np.float32) for c in p.channels}
    field_um = np.array(grid.shape) * grid.pixel_um
    area_mm2 = float(field_um.prod()) / 1e6
    origin = -np.array(grid.margin) * grid.pixel_um
    markers = [c for c in p.channels if c != DNA]
    stained = p.control in ("none", "no_insulin", "secondary_only")

    for _ in range(rng.poisson(p.specks_per_mm2 * area_mm2)):
        # lipofuscin-like: median 1.3 um across, 90 % below 2.8 um
        radius = 0.5 * float(np.exp(rng.normal(np.log(1.3), 0.6)))
        level = p.speck_level * float(np.exp(rng.normal(-0.7, 0.8)))
        place = origin + rng.uniform(0, 1, 2) * field_um
        ratio = rng.uniform(0.5, 1.5, len(planes))
        for k, (channel, plane) in enumerate(planes.items()):
            weak = 0.15 if channel == DNA else 1.0
            _spot(plane, grid, place, radius, level * float(ratio[k]) * weak, 0.0)
    for _ in range(rng.poisson(p.debris_per_mm2 * area_mm2)):
        radius = 0.5 * float(rng.uniform(1.0, 5.0))
        level = p.speck_level * float(np.exp(rng.normal(0.2, 0.7)))
        place = origin + rng.uniform(0, 1, 2) * field_um
        chosen = int(rng.integers(0, max(1, len(markers))))
        fibre = rng.random() < 0.15
        angle = float(rng.uniform(0, np.pi))
        if not markers or not stained:
            continue
        if fibre:
            _fibre(planes[markers[chosen]], grid, place, angle, 0.3 * level)
        else:
            _spot(planes[markers[chosen]], grid, place, radius, level, 0.0)
    for _ in range(rng.poisson(p.red_cells_per_mm2 * area_mm2)):
        place = origin + rng.uniform(0, 1, 2) * field_um
        level = 8.0 * p.autofluorescence * float(rng.uniform(0.5, 1.5))
        for plane in (planes[c] for c in markers):
            _spot(plane, grid, place, float(rng.uniform(3.0, 4.0)), level, 0.5)
    for y, x, radius, filling in lumens:
        for plane in (planes[c] for c in markers):
            _spot(plane, grid, np.array([y, x]), radius, 0.3 * filling, 0.0)
    return planes


def _spot(
    plane: NDArray[np.float32],
    grid: Grid,
    place_um: NDArray[np.float64],
    radius_um: float,
    level: float,
    hollow: float,
) -> None:
    """Add a disc with a soft edge; `hollow` dims its middle, as in a red cell."""
    reach = radius_um + 2 * grid.pixel_um
    middle = place_um / grid.pixel_um + np.array(grid.margin)
    low = np.maximum(np.floor(middle - reach / grid.pixel_um).astype(int), 0)
    high = np.minimum(np.ceil(middle + reach / grid.pixel_um).astype(int) + 1, grid.shape)
    if np.any(low >= high):
        return
    y = (np.arange(low[0], high[0]) - middle[0])[:, None] * grid.pixel_um
    x = (np.arange(low[1], high[1]) - middle[1])[None, :] * grid.pixel_um
    distance = np.hypot(y, x)
    disc = np.clip((radius_um - distance) / grid.pixel_um + 0.5, 0, 1)
    if hollow:
        disc *= 1 - hollow * np.exp(-((distance / (0.5 * radius_um)) ** 2))
    plane[low[0] : high[0], low[1] : high[1]] += (level * disc).astype(np.float32)


def _fibre(
    plane: NDArray[np.float32],
    grid: Grid,
    place_um: NDArray[np.float64],
    angle: float,
    level: float,
) -> None:
    for step in np.arange(-15.0, 15.0, 0.5):
        bend = angle + 0.02 * step
        place = place_um + step * np.array([np.sin(bend), np.cos(bend)])
        _spot(plane, grid, place, 0.5, level, 0.0)
