"""Islets: aggregates of nuclei, their outline, size and shape.

The idea: nuclei whose edges are nearer than ``max_gap_um`` belong together; an aggregate of at
least ``min_cells`` is an islet, its outline what a disc of that width cannot enter, widened by the
cytoplasm of the outermost cells.  Worked out on a grid of about 2 um, as nothing finer matters.
It fails where islets touch (they count as one), in planar cultures and in exocrine tissue, where
nuclei lie as near to one another as in an islet: take ``method="field"`` there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from islet_imaging._types import Labels, Region
from islet_imaging.errors import NotEstimableError, PixelSizeError
from islet_imaging.segmentation.islet_grid import IsletGrid

if TYPE_CHECKING:
    import pandas as pd

#: cytoplasm beyond the outermost nuclei that belongs to an islet's outline, um
RIM_UM = 2.0
#: an islet whose box holds more pixels than this has its shape measured on a thinned copy
SHAPE_PX = 16_000_000

#: nor is more than a pixel per this length of use, um
SHAPE_UM = 1.0

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
    rim_um: float = RIM_UM,
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
    labels = np.asarray(nuclei)
    if method == "field":
        return np.full(labels.shape, int(labels.any()), np.int32)
    if pixel_size_um is None:
        raise PixelSizeError("segment_islets needs pixel_size_um to turn max_gap_um into pixels")
    if not labels.any():
        return np.zeros(labels.shape, np.int32)
    grid = IsletGrid(
        (labels.shape[0], labels.shape[1]),
        pixel_size_um=pixel_size_um,
        max_gap_um=max_gap_um,
        min_cells=min_cells,
        rim_um=rim_um,
    )
    grid.add(0, labels)
    grid.close()
    return grid.draw(0, labels)


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
    from scipy import ndimage as ndi

    image = np.asarray(islets)
    labels = np.asarray(nuclei)
    flat = np.flatnonzero(labels)
    home = np.full(int(labels.max(initial=0)) + 1, -1, np.int64)
    # written from the last pixel to the first, so that the islet under the first one stays
    home[labels.ravel()[flat[::-1]]] = image.ravel()[flat[::-1]]
    counts = np.bincount(home[home >= 0], minlength=int(image.max(initial=0)) + 1)
    return shapes_table(
        lambda region: image[region],
        (image.shape[0], image.shape[1]),
        dict(enumerate(ndi.find_objects(image), start=1)),
        counts,
        pixel_size_um=pixel_size_um,
    )


def shapes_table(
    read: Callable[[Region], NDArray[Any]],
    shape: tuple[int, int],
    boxes: Mapping[int, Region | None],
    n_cells: NDArray[Any],
    *,
    pixel_size_um: float | None,
) -> pd.DataFrame:
    """The table of :func:`islets_table` from islets that are read one by one.

    Parameters
    ----------
    read : callable
        ``read(region)`` gives that part of the label image of islets.
    shape : tuple of int
        Of the whole image.
    boxes : mapping of int to region
        Where each islet lies; None for a number without pixels.
    n_cells : ndarray of int
        Nuclei of each islet, by its number.
    pixel_size_um : float or None
        Edge of a pixel, um.

    Returns
    -------
    pandas.DataFrame
        As of :func:`islets_table`.  Large islets are measured on every second, third ... pixel,
        as long as they are 100 such pixels across.
    """
    import pandas as pd
    from skimage.measure import regionprops

    size = np.nan if pixel_size_um is None else float(pixel_size_um)
    rows = []
    for islet, box in boxes.items():
        if box is None:
            continue
        top, left = box[0].start, box[1].start
        bottom, right = box[0].stop, box[1].stop
        step = int(np.ceil(np.sqrt((bottom - top) * (right - left) / SHAPE_PX)))
        if size < SHAPE_UM:
            # 100 px across are enough for the shape of an islet
            step = max(step, min(int(SHAPE_UM / size), min(bottom - top, right - left) // 100))
        mask = [
            np.asarray(read((slice(y, min(y + 1024 * step, bottom)), box[1])))[::step, ::step]
            for y in range(top, bottom, 1024 * step)
        ]
        found = regionprops((np.concatenate(mask) == islet).astype(np.uint8))
        if not found:
            continue
        region, edge = found[0], size * step
        around = min(1.0, 4 * np.pi * region.area / max(region.perimeter_crofton, 1e-9) ** 2)
        middle = (step - 1) / 2
        rows.append(
            {
                "islet": int(islet),
                "y_um": (region.centroid[0] * step + middle + top) * size,
                "x_um": (region.centroid[1] * step + middle + left) * size,
                "area_um2": region.area * edge**2,
                "diameter_um": float(np.sqrt(4 * region.area / np.pi)) * edge,
                "hull_area_um2": float(region.area_convex) * edge**2,
                "circularity": float(around),
                "solidity": float(region.solidity),
                "n_cells": int(n_cells[islet]),
                "touches_border": bool(
                    top == 0 or left == 0 or bottom == shape[0] or right == shape[1]
                ),
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
