"""Islets: aggregates of nuclei, their outline, size and shape.

The idea: nuclei whose edges are nearer than ``max_gap_um`` belong together; an aggregate of at
least ``min_cells`` is an islet, its outline what a disc of that width cannot enter, widened by the
cytoplasm of the outermost cells.  Worked out on a grid of about 2 um, as nothing finer matters.
It fails where islets touch (they count as one), in planar cultures and in exocrine tissue, where
nuclei lie as near to one another as in an islet: take ``method="field"`` there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from islet_imaging.errors import NotEstimableError, PixelSizeError

if TYPE_CHECKING:
    import pandas as pd

Labels = NDArray[np.int32]

#: edge of a pixel of the grid on which islets are drawn, um
GRID_UM = 2.0

#: upper bound of a diameter class, um, and the islet equivalents an islet of it counts for
RICORDI_CLASSES: tuple[tuple[float, float], ...] = (
    (50, 0.0),
    (100, 0.167),
    (150, 0.667),
    (200, 1.685),
    (250, 3.5),
    (300, 6.315),
    (350, 10.352),
    (400, 15.833),
    (np.inf, 22.75),
)


def segment_islets(
    nuclei: NDArray[Any],
    *,
    pixel_size_um: float | None,
    max_gap_um: float = 12.0,
    min_cells: int = 10,
    rim_um: float = 2.0,
    method: Literal["islets", "field"] = "islets",
) -> Labels:
    """Group nuclei into islets.

    Parameters
    ----------
    nuclei : ndarray of int, shape (Y, X)
        Label image, 0 is background.
    pixel_size_um : float
        Edge of a pixel, um.
    max_gap_um : float
        Nuclei whose edges are at most this far apart belong together, um.
    min_cells : int
        Smaller aggregates are no islets; their nuclei are outside, 0.
    rim_um : float
        Cytoplasm beyond the outermost nuclei that belongs to the outline, um.
    method : {"islets", "field"}
        "field" takes the whole image as one islet, for planar cultures.

    Returns
    -------
    ndarray of int32, shape (Y, X)
        1, 2, ... in the order of the islets' first pixels, row by row; a nucleus lies in one
        islet whole, or in none.

    Raises
    ------
    PixelSizeError
        If there is no pixel size (not needed by "field").

    Examples
    --------
    >>> nuclei = np.zeros((60, 60), np.int32)
    >>> for i, (y, x) in enumerate([(10, 10), (10, 20), (18, 15), (50, 50)]):
    ...     nuclei[y - 3 : y + 3, x - 3 : x + 3] = i + 1
    >>> islets = segment_islets(nuclei, pixel_size_um=1.0, min_cells=3)
    >>> islets.max().item(), islets[50, 50].item()
    (1, 0)
    """
    from scipy import ndimage as ndi

    labels = np.asarray(nuclei)
    if method == "field":
        return np.full(labels.shape, int(labels.any()), np.int32)
    if pixel_size_um is None:
        raise PixelSizeError("segment_islets needs pixel_size_um to turn max_gap_um into pixels")
    out = np.zeros(labels.shape, np.int32)
    flat = np.flatnonzero(labels)
    if flat.size == 0:
        return out
    block = max(1, round(GRID_UM / pixel_size_um))
    grid_um = block * pixel_size_um
    y, x = np.divmod(flat, labels.shape[1])
    # room for an outline that leaves the image, so that its border bends no outline
    pad = int(np.ceil((max_gap_um + rim_um) / grid_um)) + 2
    shape = tuple(-(-n // block) + 2 * pad for n in labels.shape)
    covered = np.bincount(
        (y // block + pad) * shape[1] + x // block + pad, minlength=shape[0] * shape[1]
    )
    seen = covered.reshape(shape) >= 0.5 * block**2
    seen |= _first_pixels(flat, labels, y // block + pad, x // block + pad, shape)

    radius = 0.5 * max_gap_um / grid_um
    grown = ndi.distance_transform_edt(~seen) <= radius + 0.5
    grown = ndi.binary_fill_holes(grown)
    groups, n_groups = ndi.label(grown, structure=np.ones((3, 3)))
    # every nucleus follows its first pixel, so that none is split
    first, home = _homes(flat, labels, groups, y // block + pad, x // block + pad)
    n_cells = np.bincount(home, minlength=n_groups + 1)
    keep = n_cells >= min_cells
    keep[0] = False
    depth = ndi.distance_transform_edt(grown) - (radius + 0.5 - rim_um / grid_um)
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    rows = np.arange(labels.shape[0]) // block + pad
    columns = np.arange(labels.shape[1]) // block + pad
    out = number[groups][rows[:, None], columns[None, :]]
    out[_resample(depth.astype(np.float32), labels.shape, block, pad) <= 0] = 0
    table = np.zeros(int(labels.max()) + 1, np.int32)
    table[first] = number[home]
    out.ravel()[flat] = table[labels.ravel()[flat]]
    return _in_raster_order(out)


def _resample(
    grid: NDArray[np.float32], shape: tuple[int, ...], block: int, pad: int
) -> NDArray[np.float32]:
    """The padded grid at every pixel of the image, linearly between the blocks' centres."""
    for axis in (0, 1):
        at = (np.arange(shape[axis], dtype=np.float32) + 0.5) / block - 0.5 + pad
        low = np.floor(at).astype(np.intp)
        weight = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        below, above = np.take(grid, low, axis), np.take(grid, low + 1, axis)
        grid = below + weight * (above - below)
    return grid


def _first_pixels(
    flat: NDArray[np.intp], labels: NDArray[Any], gy: Any, gx: Any, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Grid pixels that hold the first pixel of a nucleus, so that the smallest is not lost."""
    _, first = np.unique(labels.ravel()[flat], return_index=True)
    seen = np.zeros(shape, bool)
    seen[gy[first], gx[first]] = True
    return seen


def _homes(
    flat: NDArray[np.intp], labels: NDArray[Any], groups: NDArray[Any], gy: Any, gx: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels of the nuclei and the group that each lies in."""
    names, first = np.unique(labels.ravel()[flat], return_index=True)
    return names, groups[gy[first], gx[first]]


def _in_raster_order(labels: Labels) -> Labels:
    """Number labels by their first pixel."""
    names, first = np.unique(labels, return_index=True)
    first = first[names > 0]
    names = names[names > 0]
    table = np.zeros(int(labels.max()) + 1, np.int32)
    table[names[np.argsort(first)]] = np.arange(1, len(names) + 1)
    return table[labels]


def islets_table(
    nuclei: NDArray[Any], islets: NDArray[Any], *, pixel_size_um: float | None
) -> pd.DataFrame:
    """Position, size and shape of every islet.

    Parameters
    ----------
    nuclei, islets : ndarray of int, shape (Y, X)
        Label images of nuclei and of islets.
    pixel_size_um : float or None
        Edge of a pixel, um; without it lengths and areas are NaN.

    Returns
    -------
    pandas.DataFrame
        One row per islet: ``islet, y_um, x_um, area_um2, diameter_um`` (of the circle of equal
        area), ``hull_area_um2, circularity`` (4 pi area / perimeter^2, at most 1), ``solidity``
        (area / hull area), ``n_cells, touches_border``.

    Examples
    --------
    >>> disc = (np.hypot(*np.mgrid[-60:61, -60:61]) <= 50).astype(np.int32)
    >>> row = islets_table(disc, disc, pixel_size_um=2.0).iloc[0]
    >>> round(float(row.diameter_um)), round(float(row.circularity), 1)
    (200, 1.0)
    """
    import pandas as pd
    from skimage.measure import regionprops

    size = np.nan if pixel_size_um is None else float(pixel_size_um)
    image = np.asarray(islets)
    height, width = image.shape
    counts = np.zeros(int(image.max(initial=0)) + 1, np.int64)
    flat = np.flatnonzero(nuclei)
    _, first = np.unique(np.asarray(nuclei).ravel()[flat], return_index=True)
    counts += np.bincount(image.ravel()[flat[first]], minlength=len(counts))
    rows = []
    for region in regionprops(image):
        top, left, bottom, right = region.bbox
        around = min(1.0, 4 * np.pi * region.area / max(region.perimeter_crofton, 1e-9) ** 2)
        rows.append(
            {
                "islet": int(region.label),
                "y_um": region.centroid[0] * size,
                "x_um": region.centroid[1] * size,
                "area_um2": region.area * size**2,
                "diameter_um": float(np.sqrt(4 * region.area / np.pi)) * size,
                "hull_area_um2": float(region.area_convex) * size**2,
                "circularity": float(around),
                "solidity": float(region.solidity),
                "n_cells": int(counts[region.label]),
                "touches_border": bool(top == 0 or left == 0 or bottom == height or right == width),
            }
        )
    columns = ["islet", "y_um", "x_um", "area_um2", "diameter_um", "hull_area_um2"]
    columns += ["circularity", "solidity", "n_cells", "touches_border"]
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class IsletEquivalents:
    """Islet equivalents of whole aggregates, computed in two ways.

    Attributes
    ----------
    n : int
        Aggregates counted: those of at least 50 um.
    n_small : int
        Aggregates below 50 um, which count for nothing.
    exact : float
        Sum of (diameter / 150 um)^3.
    ricordi : float
        Sum of the factors of the classes of 50 um, which overstate small aggregates.
    """

    n: int
    n_small: int
    exact: float
    ricordi: float

    def __str__(self) -> str:
        return (
            f"{self.exact:.1f} IEQ exact (sum of (D/150 um)^3), {self.ricordi:.1f} IEQ by "
            f"Ricordi's classes, from {self.n} aggregates of at least 50 um "
            f"({self.n_small} smaller not counted)"
        )


def islet_equivalents(
    diameters_um: Sequence[float] | ArrayLike, *, preparation: str
) -> IsletEquivalents:
    """Islet equivalents: how many islets of 150 um hold the same volume.

    Parameters
    ----------
    diameters_um : array_like
        Diameters of whole aggregates, um.
    preparation : {"whole", "section", "monolayer"}
        Only whole aggregates have one; it is stated, never guessed.

    Returns
    -------
    IsletEquivalents

    Raises
    ------
    NotEstimableError
        For sections and monolayers: a section's profile is smaller than its islet, and the sum of
        cubes of profiles is no volume.
    ValueError
        If a diameter is negative or not finite.

    Notes
    -----
    Ricordi et al., Acta Diabetol Lat 27:185 (1990), for the classes.

    Examples
    --------
    >>> print(islet_equivalents([150, 150, 40], preparation="whole"))  # doctest: +ELLIPSIS
    2.0 IEQ exact (sum of (D/150 um)^3), 3.4 IEQ by Ricordi's classes, from 2 aggregates ...
    """
    if preparation != "whole":
        raise NotEstimableError(
            f"islet equivalents need whole aggregates; this preparation is {preparation!r}. A "
            "section shows profiles, not diameters: state `islets: {preparation: whole}` in the "
            "protocol only if the aggregates were imaged whole"
        )
    diameters = np.asarray(diameters_um, float).ravel()
    if not np.all(np.isfinite(diameters)) or np.any(diameters < 0):
        raise ValueError("islet_equivalents: diameters must be finite and not negative")
    counted = diameters[diameters >= 50]
    bounds = [bound for bound, _ in RICORDI_CLASSES]
    factors = np.array([factor for _, factor in RICORDI_CLASSES])
    # an islet of exactly 150 um is of the class that begins there
    classes = np.searchsorted(bounds, counted, side="right")
    return IsletEquivalents(
        n=len(counted),
        n_small=len(diameters) - len(counted),
        exact=float(((counted / 150) ** 3).sum()),
        ricordi=float(factors[classes].sum()),
    )
