"""Scene to picture with truth: the one call that makes a phantom.

The idea: draw the scene, keep the cells that the section can show, paint them once, then go
through the planes: each channel's emission is transformed, blurred by the lens for that depth
and added up. Every random step has a generator of its own, derived from the seed, so that
changing the camera does not move a cell.

How it fails: a picture is one section or one optical plane; stacks are not rendered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from islet_imaging.image import IsletImage
from islet_imaging.phantom.camera import bleed_matrix, expose, flat_field, units_per_light
from islet_imaging.phantom.dirt import make_dirt
from islet_imaging.phantom.expression import Expression, express
from islet_imaging.phantom.light import RingLight
from islet_imaging.phantom.optics import (
    Lens,
    gaussian_transfer,
    halo_transfer,
    make_lens,
    plane_depths_um,
)
from islet_imaging.phantom.paint import Grid, Painted, paint
from islet_imaging.phantom.parameters import DNA, NUCLEAR, PhantomParameters
from islet_imaging.phantom.pattern import expression_pattern, has_pattern
from islet_imaging.phantom.presets import get_preset
from islet_imaging.phantom.scene import Cells, make_scene
from islet_imaging.phantom.tables import cell_table, islet_table, nucleus_visibility
from islet_imaging.phantom.texture import borders, clefts, noise, textures, tissue_glow
from islet_imaging.phantom.truth import VISIBLE_FRACTION, Phantom, PhantomTruth

MARGIN_UM = 10.0
RING_UM = 2.0
# chosen by eye beside sections of human islets; none is measured
#: spread and grain (um) of the glow of tissue, and how much more of it a nucleus gives
GLOW_PATCHES, GLOW_GRAIN_UM, GLOW_OF_NUCLEUS = 0.25, 2.5, 0.4
#: most that a cleft between cells takes of their light
DARKEST_CLEFT = 0.9
#: chromatin is no finer than this, px
FINEST_CHROMATIN_PX = 0.6
#: reach of product that pools between cells, um
POOLING_UM = 4.0


def phantom(
    preset: str | PhantomParameters = "ffpe20x", *, seed: int = 0, **changes: Any
) -> Phantom:
    """Render a synthetic stained islet section whose truth is known.

    Parameters
    ----------
    preset
        Name of a preset (``PRESETS``) or a `PhantomParameters`.
    seed
        Decides everything random; the same parameters and seed give the same bits.
    **changes
        Values of `PhantomParameters` that replace the preset's, such as ``shape=(512, 512)``,
        ``channels=("DAPI", "INS", "CPEP")``, ``insulin_fraction=0.0``, ``texture="heldout"``.

    Returns
    -------
    Phantom
        ``.image`` (channels in the order asked for), ``.truth`` and ``.parameters``.

    Raises
    ------
    IsletImagingError
        For an unknown preset, parameter or marker, or a value outside its range.

    Notes
    -----
    Ranges follow published protocols and public stainings. Accuracy on phantoms is accuracy on
    synthetic images, never on real stainings.

    Examples
    --------
    >>> from islet_imaging.phantom import phantom
    >>> p = phantom("ffpe20x", seed=1, shape=(256, 256), n_islets=1)
    >>> p.image.channel_names
    ('DAPI', 'INS', 'GCG')
    >>> bool(p.truth.cells["visible"].any())
    True
    """
    base = get_preset(preset) if isinstance(preset, str) else preset
    p = base.with_changes(**changes)
    # one stream per step: a change in one leaves the draws of the others alone
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(8)]
    scene_rng, type_rng, lens_rng, paint_rng, texture_rng, dirt_rng, camera_rng, place_rng = streams

    lenses = {c: make_lens(lens_rng, p, k) for k, c in enumerate(p.channels)}
    first = lenses[p.channels[0]]
    depths = plane_depths_um(p, first)
    grid = _grid(p, depths)
    half_depth = float(depths[-1]) + 0.5 * grid.plane_um

    scene = make_scene(scene_rng, p, half_depth)
    expression = express(type_rng, p, scene.cells)
    everyone = (scene.cells, expression)
    beta = expression.expressed["INS"]
    scene.cells.half_axes[beta] *= p.beta_nucleus_scale
    shown = _shown(scene.cells, p, half_depth)
    cells, drawn = scene.cells.take(shown), _take(expression, shown)

    visibility = nucleus_visibility(p, cells, drawn, first, half_depth)
    painted = paint(
        paint_rng, p, cells, drawn, grid, first.weight(depths),
        visibility >= VISIBLE_FRACTION, scene.lumens,
    )  # fmt: skip
    where = None
    if has_pattern(p):
        where = expression_pattern(place_rng, p, cells, grid, painted.body, painted.nucleus)
    dirt = make_dirt(dirt_rng, p, grid, scene.lumens)
    rings = ring_labels(painted.nuclei, grid.pixel_um) if p.measure_light else None
    light, cell_light, ring_light = _render(
        texture_rng, p, grid, painted, drawn, where, dirt, lenses, rings
    )

    units = units_per_light(p)
    clean = np.stack([grid.crop(light[c], p.shape) * units[k] for k, c in enumerate(p.channels)])
    clean = np.maximum(clean, 0.0).astype(np.float32)
    bleed = bleed_matrix(p)
    flat = flat_field(p)
    array = expose(camera_rng, p, clean, bleed, flat)

    table = cell_table(p, grid, cells, drawn, painted, visibility, half_depth)
    for k, channel in enumerate(p.channels):
        if rings is not None and ring_light is not None and channel in cell_light:
            _add_light(table, channel, painted, rings, ring_light, cell_light[channel], units[k])
    nuclei = _crop_labels(grid, painted.nuclei, p.shape)
    bodies, islets = _seen_from_above(p, grid, painted, cells, depths)
    truth = PhantomTruth(
        nuclei=nuclei,
        partial_nuclei=_crop_labels(grid, painted.partial, p.shape),
        bodies=bodies,
        islets=islets,
        cells=table,
        islet_table=islet_table(p, scene.aggregates, *everyone, table),
        clean=clean,
        bleed=bleed,
        flat_field=flat,
    )
    name = f"phantom-{preset if isinstance(preset, str) else 'custom'}-{seed}"
    image = IsletImage.from_array(array, p.channels, p.pixel_size_um, name=name)
    return Phantom(image, truth, p, seed)


def _grid(p: PhantomParameters, depths: NDArray[np.float64]) -> Grid:
    least = int(np.ceil(MARGIN_UM / p.pixel_size_um))
    shape, margin = [], []
    for length in p.shape:
        full = int(scipy.fft.next_fast_len(length + 2 * least, real=True))
        shape.append(full)
        margin.append((full - length) // 2)
    return Grid(depths, (shape[0], shape[1]), (margin[0], margin[1]), p.pixel_size_um)


def _shown(cells: Cells, p: PhantomParameters, half_depth: float) -> NDArray[np.int64]:
    """Indices of cells that can reach a voxel of the section in the (padded) field."""
    reach = p.cell_radius_um + 5.0
    field = np.array(p.shape) * p.pixel_size_um
    z, y, x = cells.centre.T
    near = np.abs(z) < half_depth + reach
    near &= (y > -MARGIN_UM - reach) & (y < field[0] + MARGIN_UM + reach)
    near &= (x > -MARGIN_UM - reach) & (x < field[1] + MARGIN_UM + reach)
    return np.flatnonzero(near)


def _take(e: Expression, index: NDArray[np.int64]) -> Expression:
    values: dict[str, Any] = {}
    for name, value in vars(e).items():
        if isinstance(value, dict):
            values[name] = {key: array[index] for key, array in value.items()}
        else:
            values[name] = value[index]
    return Expression(**values)


def ring_labels(nuclei: NDArray[np.int32], pixel_um: float) -> NDArray[np.int32]:
    """Pixels within 2 um of a visible nucleus, each given to the nearest one."""
    from skimage.segmentation import expand_labels

    grown: NDArray[np.int32] = expand_labels(nuclei, RING_UM / pixel_um).astype(np.int32)
    grown[nuclei > 0] = 0
    return grown


def _render(
    rng: np.random.Generator,
    p: PhantomParameters,
    grid: Grid,
    painted: Painted,
    cells: Expression,
    where: NDArray[np.float32] | None,
    dirt: dict[str, NDArray[np.float32]],
    lenses: dict[str, Lens],
    rings: NDArray[np.int32] | None,
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]], RingLight | None]:
    """Light per channel; light of the cells' stain alone; own light per ring."""
    first = lenses[p.channels[0]]
    thickness = max(float(first.weight(grid.depth_um).sum()), 1e-6)
    ring_light = None
    if rings is not None:
        labels = np.unique(rings)[1:] if rings.any() else np.zeros(0, np.int32)
        centres = _centres(painted.nuclei, labels)
        ring_light = RingLight(rings, labels, centres, len(cells.dna), grid)
    half = (grid.shape[0], grid.shape[1] // 2 + 1)
    stain = {c: np.zeros(half, np.complex64) for c in p.channels}
    other = {c: np.zeros(half, np.complex64) for c in p.channels}
    table = {c: _lookup(cells.dna if c == DNA else cells.stain[c]) for c in p.channels}
    products = {c: _lookup(cells.product[c]) for c in p.channels if c != DNA}
    glow_of = {c: p.dna_background if c == DNA else p.autofluorescence for c in p.channels}
    shared = noise(rng, grid.shape, max(0.5 * p.chromatin_um / grid.pixel_um, FINEST_CHROMATIN_PX))
    patches = 1.0 + GLOW_PATCHES * noise(rng, grid.shape, GLOW_GRAIN_UM / grid.pixel_um)
    ghost = _lookup(tissue_glow(rng, cells))
    gap = np.float32(min(DARKEST_CLEFT, 0.5 * p.gap_um / grid.pixel_um))
    focus = int(np.argmin(np.abs(grid.depth_um - first.focus_um)))

    for k, z in enumerate(grid.depth_um):
        body, nucleus = painted.body[k], painted.nucleus[k]
        granules, chromatin = textures(rng, p, grid, shared)
        inner = 1.0 - borders(body) * gap
        shape_of = {"cytoplasm": granules * painted.tilt[k] * inner, "nucleus": chromatin}
        shape_of["cytoplasm"] *= 1.0 - np.float32(1.0 - p.nuclear_ratio) * nucleus
        shape_of["nucleus"] *= nucleus
        glow = ghost[body] * (1.0 + GLOW_OF_NUCLEUS * nucleus) * patches
        glow_spectrum = scipy.fft.rfft2(glow)
        emissions: dict[str, NDArray[np.float32]] = {}
        for channel in p.channels:
            place = "nucleus" if channel == DNA or channel in NUCLEAR else "cytoplasm"
            amount = table[channel][body]
            if where is not None and place == "cytoplasm":
                amount = amount + products[channel][body] * (where[k] - 1)
            emission = amount * shape_of[place] * np.float32(1 / thickness)
            transfer = lenses[channel].transfer(float(z), grid.shape, grid.pixel_um)
            stain[channel] += scipy.fft.rfft2(emission) * transfer
            other[channel] += glow_spectrum * transfer * np.float32(glow_of[channel] / thickness)
            if k == focus:
                sharp = transfer / max(float(lenses[channel].weight(np.array([z]))[0]), 1e-6)
                other[channel] += scipy.fft.rfft2(dirt[channel]) * sharp
            if channel != DNA:
                emissions[channel] = emission
        if ring_light is not None:
            ring_light.add_plane(body, emissions, lenses, float(z))

    light, cell_light = {}, {}
    halo = p.halo * halo_transfer(grid.shape, grid.pixel_um, p.halo_um)
    network = clefts(rng, p, grid, painted.nucleus)
    near = gaussian_transfer(grid.shape, grid.pixel_um, POOLING_UM)
    for channel in p.channels:
        secreted = channel != DNA and channel not in NUCLEAR
        if secreted and p.halo > 0:
            stain[channel] *= 1.0 + halo
        own = scipy.fft.irfft2(stain[channel], s=grid.shape)
        if secreted and p.pooling > 0:
            own += network * scipy.fft.irfft2(stain[channel] * near, s=grid.shape)
        rest = scipy.fft.irfft2(other[channel], s=grid.shape, overwrite_x=True)
        if channel != DNA:
            cell_light[channel] = own
        light[channel] = own + rest + np.float32(p.background)
    return light, cell_light, ring_light


def _lookup(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.concatenate([[0.0], values]).astype(np.float32)


def _centres(nuclei: NDArray[np.int32], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Centroids (y, x) in px of the padded grid."""
    flat = nuclei.ravel()
    where = np.flatnonzero(flat)
    owner = flat[where]
    y, x = np.divmod(where, nuclei.shape[1])
    size = int(max(labels.max(initial=0), flat.max(initial=0))) + 1
    area = np.maximum(np.bincount(owner, minlength=size), 1)
    centres = np.stack([np.bincount(owner, c, size) / area for c in (y, x)], axis=1)
    return centres[labels]


def _add_light(
    table: Any,
    channel: str,
    painted: Painted,
    rings: NDArray[np.int32],
    ring_light: RingLight,
    light: NDArray[np.float32],
    units: float,
) -> None:
    """Own and neighbours' light per ring pixel, camera units, into the cell table."""
    size = len(painted.footprint_px)
    area = np.bincount(rings.ravel(), minlength=size)
    total = np.bincount(rings.ravel(), light.ravel(), size) / np.maximum(area, 1) * units
    own = np.zeros(size)
    labels = np.flatnonzero(area)
    labels = labels[labels > 0]
    own[labels] = ring_light.own(channel) * units
    index = table["cell"].to_numpy()
    neighbour = np.maximum(total - own, 0.0)[index]
    own = own[index]
    none = area[index] == 0
    table[f"{channel}_own_light"] = np.where(none, np.nan, own)
    table[f"{channel}_neighbour_light"] = np.where(none, np.nan, neighbour)
    share = neighbour / np.maximum(own + neighbour, 1e-9)
    table[f"{channel}_spill_fraction"] = np.where(none, np.nan, share)


def _crop_labels(
    grid: Grid, labels: NDArray[np.int32], shape: tuple[int, int]
) -> NDArray[np.int32]:
    y, x = grid.margin
    return labels[y : y + shape[0], x : x + shape[1]].copy()


def _seen_from_above(
    p: PhantomParameters,
    grid: Grid,
    painted: Painted,
    cells: Cells,
    depths: NDArray[np.float64],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Outlines of visible cells and of islets: the owner nearest to focus at each pixel."""
    from skimage.segmentation import expand_labels

    top = np.zeros(grid.shape, np.int32)
    for k in np.argsort(np.abs(depths), kind="stable"):
        top = np.where(top == 0, painted.body[k], top)
    top = np.where(painted.nuclei > 0, painted.nuclei, top)
    islet = np.concatenate([[0], cells.islet]).astype(np.int32)[top]
    islet = expand_labels(islet, 1.5 / grid.pixel_um).astype(np.int32)
    visible = np.zeros(len(cells) + 1, bool)
    visible[np.unique(painted.nuclei)] = True
    visible[0] = False
    bodies = np.where(visible[top], top, 0).astype(np.int32)
    return _crop_labels(grid, bodies, p.shape), _crop_labels(grid, islet, p.shape)
