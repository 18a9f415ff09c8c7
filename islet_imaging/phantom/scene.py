"""Where cells are: aggregates, surrounding tissue and the cells' shapes, in micrometres.

The idea: an aggregate is an ellipsoid with a rough surface, cut by the plane z = 0 at a random
height. Nuclear centres are hard-core random points (random sequential addition, then a few
steps of repulsion), which gives the nearest-neighbour distances of packed tissue. Each cell has
an ellipsoidal nucleus and a larger ellipsoid around it that bounds its body; bodies meet where
their scaled distances are equal.

How it fails: cells do not adapt their shape to their neighbours, so there is no epithelium with
a lumen, no acinus and no tube. Ducts are holes with stretched nuclei around them, no more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from islet_imaging.phantom.parameters import PhantomParameters

Points = NDArray[np.float64]
Inside = Callable[[Points], NDArray[np.bool_]]

BODY_REACH_UM = 13.0  # no cell body or nucleus reaches further than this from its centre


@dataclass
class Aggregate:
    """One islet: up to two rough ellipsoids that have fused."""

    label: int
    centres: Points  # (lobes, 3) z, y, x
    half_axes: Points  # (lobes, 3)
    waves: Points  # (6, 5): wave vector z, y, x, phase, amplitude

    def depth(self, points: Points) -> NDArray[np.float64]:
        """Depth below the surface in um (negative outside), the deeper of the lobes."""
        best = np.full(len(points), -np.inf)
        for centre, axes in zip(self.centres, self.half_axes, strict=True):
            offset = (points - centre) / axes
            radius = np.linalg.norm(offset, axis=1)
            direction = offset / np.maximum(radius, 1e-9)[:, None]
            phase = direction @ self.waves[:, :3].T + self.waves[:, 3]
            surface = 1.0 + np.sin(phase) @ self.waves[:, 4]
            best = np.maximum(best, (surface - radius) * axes.mean())
        return best

    def outward(self, points: Points, depth: NDArray[np.float64]) -> Points:
        """Unit vectors towards the surface, by differences of the depth."""
        steps = np.eye(3)
        slope = np.stack([depth - self.depth(points + step) for step in steps], axis=1)
        length = np.maximum(np.linalg.norm(slope, axis=1), 1e-9)
        unit: Points = slope / length[:, None]
        return unit


@dataclass
class Cells:
    """Arrays with one entry per cell, in the order of their number (first cell is 1)."""

    centre: Points  # (n, 3) z, y, x in um
    islet: NDArray[np.int32]  # 0: tissue between islets
    depth_um: NDArray[np.float64]  # below the surface of the aggregate, or nan
    relative_depth: NDArray[np.float64]  # 0 surface to 1 centre
    outward: Points  # (n, 3) direction from the cell to the nearest surface, 0 in tissue
    half_axes: Points  # (n, 3) of the nucleus
    rotation: Points  # (n, 3, 3), columns are the axes of the nucleus
    bend: NDArray[np.float64]  # curvature of the nucleus, 1/um
    stroma: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.centre)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Cells:
        """Return the chosen cells."""
        return Cells(**{name: value[index] for name, value in vars(self).items()})


@dataclass
class Scene:
    """Everything solid on the slide."""

    aggregates: list[Aggregate]
    cells: Cells
    lumens: Points  # (n, 4) y, x, radius um, filling (0 empty .. 1 plasma)


def hard_core_points(
    rng: np.random.Generator,
    inside: Inside,
    low: Points,
    high: Points,
    density_per_um3: float,
    min_distance_um: float,
) -> Points:
    """Random points in a region, none nearer to another than `min_distance_um`.

    Random sequential addition in rounds: of the candidates of a round that clash, the earlier
    one stays. Above a packing fraction of about 0.35 the density asked for is not reached.
    """
    volume = float(np.prod(high - low))
    target = round(volume * density_per_um3)
    accepted = np.zeros((0, 3))
    for _ in range(14):
        missing = target - len(accepted)
        if missing <= max(1, 0.01 * target):
            break
        candidates = rng.uniform(low, high, size=(max(8, int(1.3 * missing)), 3))
        if len(accepted):
            distance, _ = _tree(accepted).query(candidates, distance_upper_bound=min_distance_um)
            candidates = candidates[~np.isfinite(distance)]
        pairs = _tree(candidates).query_pairs(min_distance_um, output_type="ndarray")
        keep = np.ones(len(candidates), dtype=bool)
        keep[pairs.max(axis=1)] = False
        candidates = candidates[keep][: max(missing, 1)]
        # the whole box is filled, so that the region's edge is as dense as its middle
        accepted = np.concatenate([accepted, candidates])
    accepted = _spread(accepted, min_distance_um * 1.25)
    return accepted[inside(accepted)] if len(accepted) else accepted


def _tree(points: Points) -> cKDTree:
    """A tree that is quick to make: each is asked once."""
    return cKDTree(points, compact_nodes=False, balanced_tree=False)


def _spread(points: Points, reach_um: float) -> Points:
    """Push near points apart a little: evens out the gaps that random addition leaves."""
    points = points.copy()
    for _ in range(3):
        if len(points) < 2:
            break
        pairs = cKDTree(points).query_pairs(reach_um, output_type="ndarray")
        if len(pairs) == 0:
            break
        first, second = pairs.T
        delta = points[first] - points[second]
        length = np.maximum(np.linalg.norm(delta, axis=1), 1e-6)
        push = delta * (0.25 * (reach_um - length) / length)[:, None]
        for axis in range(3):
            points[:, axis] += np.bincount(first, push[:, axis], len(points))
            points[:, axis] -= np.bincount(second, push[:, axis], len(points))
    return points


def make_scene(rng: np.random.Generator, p: PhantomParameters, half_depth_um: float) -> Scene:
    """Place aggregates, tissue and holes; `half_depth_um` is how deep the lens sees."""
    field = np.array(p.shape) * p.pixel_size_um
    aggregates = _place_aggregates(rng, p, field) if p.scene != "empty" else []
    lumens = _place_lumens(rng, p, field)
    deep = half_depth_um + BODY_REACH_UM
    parts: list[tuple[Points, NDArray[np.int32], NDArray[np.float64], NDArray[np.float64], Points]]
    parts = []
    for aggregate in aggregates:
        points = _aggregate_points(rng, p, aggregate, field, deep)
        depth = aggregate.depth(points)
        mean_radius = float(aggregate.half_axes.mean())
        relative = np.clip(depth / mean_radius, 0.0, 1.0)
        label = np.full(len(points), aggregate.label, np.int32)
        parts.append((points, label, depth, relative, aggregate.outward(points, depth)))
    if p.scene == "tissue":
        points = _tissue_points(rng, p, aggregates, lumens, field, deep)
        nothing = np.full(len(points), np.nan)
        label = np.zeros(len(points), np.int32)
        parts.append((points, label, nothing, nothing, np.zeros_like(points)))
    empty = np.zeros((0, 3))
    parts.append((empty, np.zeros(0, np.int32), np.zeros(0), np.zeros(0), empty))
    centre, islet, depth, relative, outward = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    axes, rotation, bend, stroma = _shape_nuclei(rng, p, centre, islet, lumens)
    cells = Cells(centre, islet, depth, relative, outward, axes, rotation, bend, stroma)
    return Scene(aggregates, cells, lumens)


def _place_aggregates(
    rng: np.random.Generator, p: PhantomParameters, field: NDArray[np.float64]
) -> list[Aggregate]:
    spread = np.sqrt(np.log(1 + (p.islet_diameter_sd_um / p.islet_diameter_um) ** 2))
    median = p.islet_diameter_um * np.exp(-(spread**2) / 2)
    aggregates: list[Aggregate] = []
    discs: list[tuple[float, float, float]] = []
    for _ in range(p.n_islets):
        radius = 0.5 * float(np.clip(median * np.exp(spread * rng.standard_normal()), 25, 500))
        ratio = rng.uniform(1.0, p.islet_axis_ratio, size=2)
        axes = np.array([1.0, ratio[0], 1.0 / ratio[1]])
        axes = radius * rng.permutation(axes / np.cbrt(axes.prod()))
        height = 0.0 if p.equatorial else float(rng.uniform(-0.75, 0.75)) * axes[0]
        reach = radius * float(np.sqrt(max(0.1, 1 - (height / axes[0]) ** 2)))
        for _ in range(60):
            margin = np.minimum(0.8 * reach, 0.45 * field)
            place = rng.uniform(margin, field - margin)
            clear = [np.hypot(place[0] - y, place[1] - x) > reach + r + 8 for y, x, r in discs]
            if all(clear):
                break
        else:
            continue
        waves = np.zeros((6, 5))
        waves[:, :3] = rng.normal(size=(6, 3)) * rng.uniform(1.5, 5.0, size=(6, 1))
        waves[:, 3] = rng.uniform(0, 2 * np.pi, 6)
        waves[:, 4] = p.roughness * rng.uniform(0.3, 1.0, 6)
        centres = np.array([[height, place[0], place[1]]])
        half_axes = axes[None]
        if rng.random() < p.fused_fraction:
            angle = rng.uniform(0, 2 * np.pi)
            scale = rng.uniform(0.5, 0.9)
            step = 0.8 * (1 + scale) * radius * np.array([0.0, np.sin(angle), np.cos(angle)])
            centres = np.concatenate([centres, centres + step])
            half_axes = np.concatenate([half_axes, half_axes * scale])
            reach *= 1 + scale
        discs.append((place[0], place[1], reach))
        aggregates.append(Aggregate(len(aggregates) + 1, centres, half_axes, waves))
    return aggregates


def _place_lumens(
    rng: np.random.Generator, p: PhantomParameters, field: NDArray[np.float64]
) -> Points:
    count = rng.poisson(p.lumens_per_mm2 * field.prod() / 1e6)
    lumens = np.empty((count, 4))
    lumens[:, :2] = rng.uniform(0, field, size=(count, 2))
    lumens[:, 2] = np.exp(rng.normal(np.log(6.0), 0.5, count))
    lumens[:, 3] = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0.3, 1.0, count))
    return lumens


def _outside_lumens(points: Points, lumens: Points) -> NDArray[np.bool_]:
    keep = np.ones(len(points), dtype=bool)
    for y, x, radius, _ in lumens:
        keep &= np.hypot(points[:, 1] - y, points[:, 2] - x) > radius + 3.0
    return keep


def _aggregate_points(
    rng: np.random.Generator,
    p: PhantomParameters,
    aggregate: Aggregate,
    field: NDArray[np.float64],
    deep: float,
) -> Points:
    reach = aggregate.half_axes.max(axis=1) * (1 + 3 * p.roughness) + 2
    low = (aggregate.centres - reach[:, None]).min(axis=0)
    high = (aggregate.centres + reach[:, None]).max(axis=0)
    if not p.whole_aggregates:
        # a crop for training: only what the section and the field can show
        low = np.maximum(low, [-deep, -BODY_REACH_UM, -BODY_REACH_UM])
        high = np.minimum(high, [deep, field[0] + BODY_REACH_UM, field[1] + BODY_REACH_UM])
        if np.any(high <= low):
            return np.zeros((0, 3))
    return hard_core_points(
        rng,
        lambda points: aggregate.depth(points) > 2.0,
        low,
        high,
        p.cell_density_per_1000um3 / 1000,
        p.min_distance_um,
    )


def _tissue_points(
    rng: np.random.Generator,
    p: PhantomParameters,
    aggregates: list[Aggregate],
    lumens: Points,
    field: NDArray[np.float64],
    deep: float,
) -> Points:
    def between(points: Points) -> NDArray[np.bool_]:
        keep = _outside_lumens(points, lumens)
        for aggregate in aggregates:
            keep &= aggregate.depth(points) < -3.0
        return keep

    low = np.array([-deep, -BODY_REACH_UM, -BODY_REACH_UM])
    high = np.array([deep, field[0] + BODY_REACH_UM, field[1] + BODY_REACH_UM])
    density = p.tissue_density_per_1000um3 / 1000
    return hard_core_points(rng, between, low, high, density, p.min_distance_um)


def _shape_nuclei(
    rng: np.random.Generator,
    p: PhantomParameters,
    centre: Points,
    islet: NDArray[np.int32],
    lumens: Points,
) -> tuple[Points, Points, NDArray[np.float64], NDArray[np.bool_]]:
    """Half axes, rotation, bend of each nucleus, and which are elongated stroma."""
    n = len(centre)
    stroma = (islet == 0) & (rng.random(n) < p.stroma_fraction)
    for y, x, radius, _ in lumens:
        # cells that line a vessel or duct are stretched around it
        stroma |= np.hypot(centre[:, 1] - y, centre[:, 2] - x) < radius + 7.0
    radius = 0.5 * p.nucleus_diameter_um * np.exp(p.nucleus_cv * rng.standard_normal(n))
    ratio = rng.uniform(1.0, max(1.0, p.nucleus_axis_ratio), size=(n, 2))
    axes = np.stack([np.ones(n), ratio[:, 0], 1.0 / ratio[:, 1]], axis=1)
    long = rng.uniform(2.0, 3.8, n)
    axes[stroma] = np.stack([np.ones(n), long, np.full(n, 0.8)], axis=1)[stroma]
    axes *= (radius / np.cbrt(axes.prod(axis=1)))[:, None]
    rotation = _random_rotations(rng, n)
    if stroma.any():
        # neighbouring fibroblasts lie along the same smooth direction, in the plane
        angle = 2.0 * np.sin(centre[:, 1] / 37.0 + rng.uniform(0, 6)) + 2.0 * np.cos(
            centre[:, 2] / 41.0 + rng.uniform(0, 6)
        )
        for y, x, size, _ in lumens:
            near = np.hypot(centre[:, 1] - y, centre[:, 2] - x) < size + 7.0
            angle[near] = np.arctan2(-(centre[near, 2] - x), centre[near, 1] - y) + np.pi
        angle += rng.normal(0, 0.25, n)
        zero, one = np.zeros(n), np.ones(n)
        along = np.stack([zero, np.cos(angle), np.sin(angle)], axis=1)
        across = np.stack([zero, -np.sin(angle), np.cos(angle)], axis=1)
        flat = np.stack([across, along, np.stack([one, zero, zero], axis=1)], axis=2)
        rotation[stroma] = flat[stroma]
    bend = rng.normal(0.0, 0.03, n)
    return axes, rotation, bend, stroma


def _random_rotations(rng: np.random.Generator, n: int) -> Points:
    """Uniform random rotations, from unit quaternions."""
    q = rng.standard_normal((n, 4))
    q /= np.maximum(np.linalg.norm(q, axis=1), 1e-9)[:, None]
    w, x, y, z = q.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0).reshape(n, 3, 3)
