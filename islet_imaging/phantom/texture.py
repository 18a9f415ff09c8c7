"""Grain of the picture: granules, chromatin, glow of tissue, gaps and clefts between cells.

The idea: textures are smooth random fields on the camera's grid, not objects. Below 0.3 um per
pixel granules would be separate dots; here they become puncta of a log-normal field.

How it fails: chromatin has no nucleoli and no membrane, and the network of clefts ignores where
cells are. The held-out texture uses other fields, so that a method that has learned these ones is
found out.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from islet_imaging.phantom.expression import Expression
from islet_imaging.phantom.paint import Grid
from islet_imaging.phantom.parameters import PhantomParameters


def noise(rng: np.random.Generator, shape: tuple[int, int], sigma_px: float) -> NDArray[np.float32]:
    """Smooth noise of mean 0 and SD 1."""
    smooth = blurred(rng.standard_normal(shape, dtype=np.float32), sigma_px)
    smooth -= smooth.mean()
    smooth /= max(float(smooth.std()), 1e-6)
    return smooth


def blurred(field: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """A field blurred by a Gaussian of 3 SD reach that wraps; its cost grows with no width."""
    spectrum = scipy.fft.rfft2(field)
    spectrum *= _kernel_transfer(field.shape[0], sigma_px)[:, None]
    spectrum *= _kernel_transfer(field.shape[1], sigma_px)[: spectrum.shape[1]]
    smooth: NDArray[np.float32] = scipy.fft.irfft2(spectrum, s=field.shape, overwrite_x=True)
    return smooth


def _kernel_transfer(n: int, sigma_px: float) -> NDArray[np.float32]:
    """What a sampled Gaussian does to each of the ``n`` frequencies of an axis."""
    reach = int(3.0 * sigma_px + 0.5)
    at = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (at / sigma_px) ** 2)
    line = np.bincount(at % n, kernel / kernel.sum(), minlength=n)
    result: NDArray[np.float32] = scipy.fft.fft(line).real.astype(np.float32)
    return result


def textures(
    rng: np.random.Generator, p: PhantomParameters, grid: Grid, shared: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Granules of the cytoplasm (mean 1) and chromatin (mean 1) of one plane.

    Clumps of chromatin are partly `shared` by the planes, or projection would average them away.
    """
    fine = noise(rng, grid.shape, max(0.5 * p.granule_um / grid.pixel_um, 0.5))
    coarse = noise(rng, grid.shape, max(0.5 * p.chromatin_um / grid.pixel_um, 0.6))
    coarse = np.float32(0.8) * coarse + np.float32(0.6) * shared
    contrast = np.float32(p.granule_contrast)
    if p.texture == "heldout":
        # vesicles and voids: a gamma-like field instead of a log-normal one
        granules = (0.35 + np.abs(fine + 0.5 * coarse)) ** 2
        granules = 1.0 + contrast * (granules / granules.mean() - 1.0)
        ridges = np.abs(np.roll(coarse, (57, 131), (0, 1)))
        chromatin = 1.0 + np.float32(p.chromatin_contrast) * (0.8 - ridges)
    else:
        granules = np.exp(contrast * fine - 0.5 * contrast * contrast)
        foci = np.maximum(np.roll(coarse, (71, 173), (0, 1)) - 1.2, 0.0)
        chromatin = 1.0 + np.float32(p.chromatin_contrast) * (0.5 * coarse + foci - 0.06)
    return np.maximum(granules, 0.0), np.maximum(chromatin, 0.05)


def borders(body: NDArray[np.int32]) -> NDArray[np.float32]:
    """1 where the next pixel belongs to another cell."""
    edge = np.zeros(body.shape, np.float32)
    down, right = body[1:] != body[:-1], body[:, 1:] != body[:, :-1]
    edge[1:][down] = 1
    edge[:-1][down] = 1
    edge[:, 1:][right] = 1
    edge[:, :-1][right] = 1
    return edge


def clefts(
    rng: np.random.Generator, p: PhantomParameters, grid: Grid, nucleus: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Patchy network of clefts and capillaries between nuclei, seen from above."""
    if p.pooling == 0:
        return np.zeros(grid.shape, np.float32)
    px = grid.pixel_um
    # ridges of a coarse field frayed by a finer one, here and there
    ridge = np.abs(noise(rng, grid.shape, 7.0 / px) + 0.4 * noise(rng, grid.shape, 1.5 / px))
    patch = np.clip(0.4 + noise(rng, grid.shape, 12.0 / px), 0.0, 1.5)
    result: NDArray[np.float32] = patch * np.clip(1.0 - ridge / 0.7, 0.0, 1.0)
    result *= np.float32(2.0 * p.pooling) * (1.0 - nucleus.max(axis=0))
    return blurred(result, 0.7 / px)


def tissue_glow(rng: np.random.Generator, cells: Expression) -> NDArray[np.float64]:
    """Relative autofluorescence of each cell, about 1; dead cells glow more."""
    n = len(cells.dna)
    glow = np.exp(0.25 * rng.standard_normal(n))
    result: NDArray[np.float64] = glow * np.where(cells.pyknotic, rng.uniform(1.5, 4.0, n), 1.0)
    return result
