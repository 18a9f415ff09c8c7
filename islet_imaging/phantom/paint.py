"""Cells into voxels: who owns each voxel of the section, and where nuclei are.

The idea: a depth buffer. Each cell is painted in its own bounding box; a voxel goes to the cell
at the smallest scaled distance (a multiplicatively weighted Voronoi diagram, clipped at the
cell's own reach), and nuclei are painted over it with soft edges. Only planes that the lens can
see are painted, at the camera's sampling.

How it fails: a nucleus wins over a neighbour's cytoplasm even where a real membrane would have
bent; below about 0.1 um per pixel the loop over cells becomes slow.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from islet_imaging.phantom.expression import Expression
from islet_imaging.phantom.parameters import PhantomParameters
from islet_imaging.phantom.scene import Cells
from islet_imaging.phantom.truth import VISIBLE_FRACTION

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Sampling of the painted volume; the margin keeps wrap-around out of the picture."""

    depth_um: NDArray[np.float64]
    shape: tuple[int, int]
    margin: tuple[int, int]
    pixel_um: float

    @property
    def plane_um(self) -> float:
        """Distance between planes."""
        return float(self.depth_um[1] - self.depth_um[0])

    @cached_property
    def axes_um(self) -> tuple[NDArray[np.float64], ...]:
        """Where planes, rows and columns lie; 0 is the focus and the picture's corner."""
        y, x = (np.arange(float(n)) - m for n, m in zip(self.shape, self.margin, strict=True))
        return self.depth_um, y * self.pixel_um, x * self.pixel_um

    @cached_property
    def _depths(self) -> list[float]:
        return [float(z) for z in self.depth_um]

    def planes_between(self, low: float, high: float) -> tuple[int, int]:
        """First plane deeper than ``low``, and the one after the last before ``high``."""
        return bisect_right(self._depths, low), bisect_left(self._depths, high)

    def crop(self, plane: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Cut the margin off."""
        y, x = self.margin
        return plane[y : y + shape[0], x : x + shape[1]]


@dataclass
class Painted:
    """Voxels of the section (Z, Y, X) and the outlines of nuclei as seen from above (Y, X)."""

    body: NDArray[np.int32]  # number of the cell that owns the voxel, 0 none
    nucleus: Volume  # 0..1, share of the voxel that is nucleus
    tilt: NDArray[np.float16]  # brightness of the cytoplasm by its polarity, about 1
    nuclei: NDArray[np.int32]  # visible nuclei from above
    partial: NDArray[np.int32]  # nuclei that give light but do not count, where no other counts
    footprint_px: NDArray[np.int64]  # per cell, what its outline would be were it alone


@dataclass
class _Blob:
    """One ellipsoid of a nucleus; fragmented nuclei have several."""

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    rotation: NDArray[np.float64]
    bend: float


def paint(
    rng: np.random.Generator,
    p: PhantomParameters,
    cells: Cells,
    expression: Expression,
    grid: Grid,
    weight: NDArray[np.float64],
    visible: NDArray[np.bool_],
    lumens: NDArray[np.float64],
) -> Painted:
    """Paint all cells; `weight` is the lens's share of light per plane, for the outlines."""
    size = (len(grid.depth_um), *grid.shape)
    body = np.zeros(size, np.int32)
    best = np.ones(size, np.float32)
    tilt = np.ones(size, np.float16)
    nucleus = np.zeros(size, np.float32)
    light = np.zeros(grid.shape, np.float32)
    nuclei = np.zeros(grid.shape, np.int32)
    partial_light = np.zeros(grid.shape, np.float32)
    partial = np.zeros(grid.shape, np.int32)
    footprint = np.zeros(len(cells) + 1, np.int64)

    reach = np.clip(p.cell_radius_um + rng.normal(0, 0.5, len(cells)), 4.0, 11.0)
    direction = rng.standard_normal((len(cells), 3))
    direction /= np.maximum(np.linalg.norm(direction, axis=1), 1e-9)[:, None]
    offset = direction * rng.uniform(0, 1.0, (len(cells), 1)) * p.polarity * 2.0
    for i in range(len(cells)):
        axes = cells.half_axes[i] + max(reach[i] - float(cells.half_axes[i].mean()), 1.0)
        axes = np.minimum(axes, 12.5)
        # the nucleus sits off centre, away from the pole where granules gather
        centre = cells.centre[i] + offset[i]
        box, local = _box(grid, centre, axes, cells.rotation[i])
        if box is None:
            continue
        distance = _ellipsoid(local, axes, cells.rotation[i], 0.0)
        closer = distance < best[box]
        if cells.depth_um[i] < reach[i]:
            # a cell at the surface is flattened against it
            z, y, x = local
            outward = cells.outward[i].astype(np.float32)
            along = outward[0] * z + outward[1] * y + outward[2] * x
            closer &= along < np.float32(max(cells.depth_um[i], 3.0) + 1.0)
        np.copyto(best[box], distance, where=closer)
        np.copyto(body[box], np.int32(i + 1), where=closer)
        if p.polarity > 0:
            z, y, x = local
            along = (direction[i, 0] * z + direction[i, 1] * y + direction[i, 2] * x) / reach[i]
            np.copyto(tilt[box], 1.0 + 1.6 * p.polarity * along, where=closer, casting="same_kind")
    np.maximum(tilt, np.float16(0.1), out=tilt)
    _cut_lumens(body, grid, lumens)

    edge = max(grid.pixel_um, 0.35)
    for i in range(len(cells)):
        blobs = _blobs(rng, cells, expression, i)
        own_light: list[tuple[tuple[slice, slice], NDArray[np.float32]]] = []
        for blob in blobs:
            box, local = _box(grid, blob.centre, blob.axes * 1.25 + edge, blob.rotation)
            if box is None:
                continue
            soft = _nucleus_shape(rng, p, local, blob, edge)
            target = nucleus[box]
            wins = soft > target
            np.copyto(body[box], np.int32(i + 1), where=wins & (soft > 0.5))
            np.maximum(target, soft, out=target)
            share = weight[box[0]].astype(np.float32)
            own_light.append((box[1:], np.tensordot(share, soft, 1)))
        if own_light and visible[i]:
            footprint[i + 1] = _outline(own_light, nuclei, light, i + 1)
        elif own_light:
            _outline(own_light, partial, partial_light, i + 1)
    _hide_covered(nuclei, partial, footprint)
    partial[nuclei > 0] = 0
    return Painted(body, nucleus, tilt, nuclei, partial, footprint)


def _outline(
    own: list[tuple[tuple[slice, slice], NDArray[np.float32]]],
    nuclei: NDArray[np.int32],
    light: NDArray[np.float32],
    label: int,
) -> int:
    """Give the pixels where this nucleus outshines the others; return its area were it alone."""
    peak = max(float(value.max()) for _, value in own)
    area = 0
    for box, value in own:
        # a column of 0.3 of the thickest lies at 0.95 of an ellipsoid's radius
        inside = value > 0.3 * peak
        area += int(inside.sum())
        wins = inside & (value > light[box])
        np.copyto(nuclei[box], np.int32(label), where=wins)
        np.copyto(light[box], value, where=wins)
    return area


def _hide_covered(
    nuclei: NDArray[np.int32], partial: NDArray[np.int32], footprint_px: NDArray[np.int64]
) -> None:
    """Nuclei of which others cover more than 70 % do not count: nobody could see them."""
    shown = np.bincount(nuclei.ravel(), minlength=len(footprint_px))
    covered = shown < VISIBLE_FRACTION * footprint_px
    covered[0] = False
    hidden = covered[nuclei]
    partial[hidden] = nuclei[hidden]
    nuclei[hidden] = 0


def _blobs(rng: np.random.Generator, cells: Cells, expression: Expression, i: int) -> list[_Blob]:
    centre, axes, rotation = cells.centre[i], cells.half_axes[i], cells.rotation[i]
    if expression.pyknotic[i]:
        count = int(rng.integers(1, 6)) if rng.random() < 0.5 else 1
        radius = rng.uniform(1.5, 2.5) / count ** (1 / 3)
        spread = 0.0 if count == 1 else 1.8
        return [
            _Blob(centre + spread * rng.standard_normal(3), np.full(3, radius), rotation, 0.0)
            for _ in range(count)
        ]
    if expression.mitotic[i]:
        plate = float(np.cbrt(axes.prod())) * np.array([0.4, 1.15, 1.0])
        if rng.random() < 0.4:  # two plates moving apart
            step = rotation[:, 0] * rng.uniform(1.5, 3.5)
            return [_Blob(centre + s * step, plate * 0.8, rotation, 0.0) for s in (-1, 1)]
        return [_Blob(centre, plate, rotation, 0.0)]
    return [_Blob(centre, axes, rotation, float(cells.bend[i]))]


def _box(
    grid: Grid,
    centre: NDArray[np.float64],
    axes: NDArray[np.float64],
    rotation: NDArray[np.float64],
) -> tuple[
    tuple[slice, slice, slice] | None,
    tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
]:
    """Voxels that an ellipsoid can touch, and their coordinates about its centre."""
    extent = np.sqrt((rotation * rotation) @ (axes * axes)).tolist()
    middle = centre.tolist()
    px = grid.pixel_um
    deep = extent[0] + 0.5 * grid.plane_um
    box = [slice(*grid.planes_between(middle[0] - deep, middle[0] + deep))]
    for axis in (1, 2):
        at = middle[axis] / px + grid.margin[axis - 1]
        low = max(0, math.floor(at - extent[axis] / px))
        high = min(grid.shape[axis - 1], math.ceil(at + extent[axis] / px) + 1)
        box.append(slice(low, high))
    if any(s.start >= s.stop for s in box):
        none = np.zeros((0, 0, 0), np.float32)
        return None, (none, none, none)
    z, y, x = (
        (along[s] - c).astype(np.float32)
        for along, s, c in zip(grid.axes_um, box, middle, strict=True)
    )
    return (box[0], box[1], box[2]), (z[:, None, None], y[None, :, None], x[None, None, :])


def _ellipsoid(
    local: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    axes: NDArray[np.float64],
    rotation: NDArray[np.float64],
    bend: float,
) -> NDArray[np.float32]:
    """Squared scaled distance from the centre: 1 on the surface."""
    z, y, x = local
    if bend:
        y = y - np.float32(bend) * (x * x - 4.0)
    form = ((rotation / (axes * axes)) @ rotation.T).astype(np.float32)
    flat = form[1, 1] * y * y + form[2, 2] * x * x + (2 * form[1, 2]) * y * x
    slope = (2 * form[0, 1]) * y + (2 * form[0, 2]) * x
    result: NDArray[np.float32] = flat + z * slope + form[0, 0] * z * z
    return result


def _nucleus_shape(
    rng: np.random.Generator,
    p: PhantomParameters,
    local: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    blob: _Blob,
    edge_um: float,
) -> NDArray[np.float32]:
    """Share of each voxel inside the nucleus, with an edge as wide as the sampling."""
    if p.texture == "heldout":
        distance = _superquadric(rng, local, blob)
    else:
        distance = np.sqrt(_ellipsoid(local, blob.axes, blob.rotation, blob.bend))
        distance /= _lobes(rng, p.nucleus_irregularity, local)
    thickness = np.float32(float(np.cbrt(blob.axes.prod())) / edge_um)
    soft: NDArray[np.float32] = np.clip((1.0 - distance) * thickness + 0.5, 0.0, 1.0)
    return soft


def _lobes(
    rng: np.random.Generator,
    size: float,
    local: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Factor on the radius by direction in the plane: a few low harmonics, mean 1."""
    amplitude = size * rng.normal(0, 1, 4) / np.arange(2, 6) * 2.0
    phase = rng.uniform(0, 2 * np.pi, 4)
    angle = np.arctan2(local[1], local[2])
    factor = np.ones_like(angle)
    for k in range(4):
        factor += np.float32(amplitude[k]) * np.cos((k + 2) * angle + np.float32(phase[k]))
    result: NDArray[np.float32] = np.clip(factor, 0.6, 1.4)
    return result


def _superquadric(
    rng: np.random.Generator,
    local: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    blob: _Blob,
) -> NDArray[np.float32]:
    """Held-out shape: boxy or pointed body with lobes, instead of a bent ellipsoid."""
    z, y, x = local
    power = float(rng.uniform(1.6, 3.4))
    turned = [
        (blob.rotation[0, k] * z + blob.rotation[1, k] * y + blob.rotation[2, k] * x) / blob.axes[k]
        for k in range(3)
    ]
    total = sum(np.abs(part) ** power for part in turned)
    distance = np.asarray(total, np.float32) ** np.float32(1 / power)
    angle = np.arctan2(turned[1], turned[0])
    lobes = int(rng.integers(2, 5))
    size = float(rng.uniform(0.0, 0.12))
    bumps = 1.0 + size * np.cos(lobes * angle + rng.uniform(0, 6.3)) * np.cos(1.5 * turned[2])
    shaped: NDArray[np.float32] = (distance / bumps).astype(np.float32)
    return shaped


def _cut_lumens(body: NDArray[np.int32], grid: Grid, lumens: NDArray[np.float64]) -> None:
    for y, x, radius, _ in lumens:
        size = np.array([1e3, radius, radius])
        box, (_, dy, dx) = _box(grid, np.array([0.0, y, x]), size, np.eye(3))
        if box is not None:
            body[box] *= (dy * dy + dx * dx) > radius * radius
