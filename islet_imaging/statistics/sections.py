"""What a section does to a count: tall nuclei are cut more often, and the middle shows more core.

The idea: a nucleus of height h is seen in a section of thickness T if its centre lies within
T + h, so taller nuclei are over-counted; that biases a fraction only if the two kinds of cells
have nuclei of different height.  And a section through the centre of a round aggregate shows the
core in proportion to area, not volume; weighting a cell by its distance from the centre undoes
that.  Both are offered as sensitivity analyses: Abercrombie ignores caps too thin to be seen, and
radial weights hold for sections through the middle of round aggregates only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from islet_imaging.errors import IsletImagingError

Array = NDArray[np.float64]


def abercrombie(count: ArrayLike, *, section_um: float, height_um: float) -> Array:
    """Nuclei whose centre lies in the section, from nuclei (or parts) seen in it.

    Parameters
    ----------
    count : array_like
        Nuclear profiles counted.
    section_um : float
        Thickness T of the section, um.
    height_um : float
        Mean height h of a nucleus across the section, um.

    Returns
    -------
    ndarray of float64
        ``count * T / (T + h)``.

    References
    ----------
    Abercrombie, Anat Rec 94:239 (1946).

    Examples
    --------
    >>> abercrombie(300, section_um=5, height_um=7.5).item()
    120.0
    """
    _check(section_um, height_um)
    return np.asarray(np.asarray(count, dtype=float) * section_um / (section_um + height_um))


def abercrombie_fraction(
    fraction: ArrayLike,
    *,
    section_um: float,
    positive_height_um: float,
    negative_height_um: float,
) -> Array:
    """Fraction corrected for a different nuclear height of positive and negative cells.

    Examples
    --------
    >>> p = abercrombie_fraction(0.471, section_um=5, positive_height_um=7, negative_height_um=8.5)
    >>> round(p.item(), 3)
    0.5
    """
    p = np.asarray(fraction, dtype=float)
    k = abercrombie(p, section_um=section_um, height_um=positive_height_um)
    rest = abercrombie(1 - p, section_um=section_um, height_um=negative_height_um)
    return np.asarray(k / (k + rest))


def apparent_fraction(
    fraction: ArrayLike,
    *,
    section_um: float,
    positive_height_um: float,
    negative_height_um: float,
) -> Array:
    """The fraction a section shows of a true one: the inverse of `abercrombie_fraction`.

    Examples
    --------
    >>> p = apparent_fraction(0.5, section_um=3, positive_height_um=7, negative_height_um=8.5)
    >>> round(p.item(), 3)
    0.465
    """
    _check(section_um, positive_height_um)
    _check(section_um, negative_height_um)
    p = np.asarray(fraction, dtype=float)
    k = p * (section_um + positive_height_um)
    rest = (1 - p) * (section_um + negative_height_um)
    return np.asarray(k / (k + rest))


def radial_weights(distance_um: ArrayLike, *, radius_um: float) -> Array:
    """Weights that turn cells of a section through the centre into cells of the whole aggregate.

    Parameters
    ----------
    distance_um : array_like
        Distance of each cell from the centre of its aggregate, um.
    radius_um : float
        Radius of the aggregate, um; only sets the scale, so that a cell at the rim weighs 1.

    Returns
    -------
    ndarray of float64
        ``distance / radius``: a ring of the section holds cells in proportion to r, the shell it
        stands for in proportion to r squared.

    Examples
    --------
    A core (to 0.7 of the radius) with 20 % positive cells under a mantle with 60 %: 40 % in the
    section, 46 % in the aggregate.

    >>> import numpy as np
    >>> r = np.sqrt(np.linspace(0, 1, 100_001)) * 75
    >>> share = np.where(r < 0.7 * 75, 0.2, 0.6)
    >>> w = radial_weights(r, radius_um=75)
    >>> round(share.mean().item(), 3), round(np.average(share, weights=w).item(), 3)
    (0.404, 0.463)
    """
    r = np.asarray(distance_um, dtype=float)
    if not radius_um > 0 or np.any(r < 0):
        raise IsletImagingError("radial weights need a radius above 0 and distances not below 0")
    return np.asarray(r / radius_um)


def _check(section_um: float, height_um: float) -> None:
    if not section_um > 0 or not height_um >= 0:
        raise IsletImagingError(
            f"section_um is {section_um}, height of nuclei {height_um} um: a thickness is above 0"
        )
