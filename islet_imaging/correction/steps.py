"""Correction of pixels before anything is measured.

The idea: what the camera adds (offset), what the optics bend (flat field), what lies under the
tissue (local background) and what leaks from one channel into another (bleed-through) are undone in
this order, each only if the protocol says so, each with a record of the numbers used.
It fails where its premise does: a flat field fitted to few or alike images holds their content, a
local background narrower than an islet eats insulin, and single-stain controls of another exposure
give wrong slopes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32
from islet_imaging.arrays.label_statistics import group_quantiles
from islet_imaging.errors import ChannelError, NotEstimableError

Matrix = dict[str, dict[str, float]]

#: a bleed-through matrix worse than this makes noise into signal
MAX_CONDITION = 10.0
#: percentile taken for dark pixels
DARK_PERCENTILE = 0.1


def estimate_offset(image: NDArray[Any]) -> float:
    """Camera offset, counts, from the darkest pixels.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Raw pixels.

    Returns
    -------
    float
        The 0.1 percentile: an upper bound of the offset, exact where some pixels see no light.

    Examples
    --------
    >>> estimate_offset(np.array([[100, 100], [100, 900]]))
    100.0
    """
    if image.size == 0:
        return 0.0
    return float(np.percentile(_thinned(image), DARK_PERCENTILE))


def fit_flat_field(images: Sequence[NDArray[Any]], *, degree: int = 4) -> Float32:
    """Fit the smooth gain that several images of one channel share.

    Parameters
    ----------
    images : sequence of ndarray, shape (Y, X)
        At least 5 images of different places, offset removed, all of one shape.
    degree : int
        Of the polynomial in y and x.

    Returns
    -------
    ndarray of float32, shape (Y, X)
        Gain with mean 1; divide by it.

    Raises
    ------
    NotEstimableError
        With fewer than 5 images, images of several shapes, or no light.

    Notes
    -----
    Each image is a scene times one shared field.  As in BaSiC (Peng et al., Nat Commun 8:14836,
    2017) what images do not share is treated as outliers; here with a median over images of the
    block medians of each, and a polynomial of the logarithm instead of a sparse Fourier series.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shade = 1 - 0.3 * np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]) ** 2
    >>> field = fit_flat_field([shade * rng.uniform(80, 120, (64, 64)) for _ in range(8)])
    >>> bool(np.abs(field / (shade / shade.mean()) - 1).max() < 0.05)
    True
    """
    shapes = {np.shape(image) for image in images}
    if len(images) < 5 or len(shapes) != 1:
        raise NotEstimableError(
            f"a flat field needs at least 5 images of one shape; these are {len(images)} of "
            f"{sorted(shapes)}. Give a flat-field image instead, or `flat_field: off`"
        )
    (shape,) = shapes
    n = [min(32, length) for length in shape]
    edges = [np.linspace(0, length, k + 1).astype(int) for length, k in zip(shape, n, strict=True)]
    grids = []
    for image in images:
        pixels = np.asarray(image)
        grid = np.empty(n)
        for i, j in np.ndindex(*n):
            rows, columns = slice(*edges[0][i : i + 2]), slice(*edges[1][j : j + 2])
            grid[i, j] = np.median(pixels[rows, columns])
        grids.append(grid)
    stack = np.maximum(np.array(grids), 0)
    level = np.median(stack, axis=(1, 2))
    stack, level = stack[level > 0], level[level > 0]
    if len(stack) < 5:
        raise NotEstimableError("a flat field needs at least 5 images that are not dark")
    shared = np.ones(n)
    for _ in range(5):
        shared = np.median(stack / level[:, None, None], axis=0)
        shared /= shared.mean()
        level = np.median(stack / np.maximum(shared, 1e-3), axis=(1, 2))
    centres = [
        (e[:-1] + e[1:]) / 2 / length * 2 - 1 for e, length in zip(edges, shape, strict=True)
    ]
    target = np.log(np.maximum(shared, 1e-3))
    terms = [(a, b) for a in range(degree + 1) for b in range(degree + 1 - a)]
    design = np.stack([np.outer(centres[0] ** a, centres[1] ** b).ravel() for a, b in terms], 1)
    weight = np.ones(target.size)
    for _ in range(5):
        fit = np.linalg.lstsq(design * weight[:, None], target.ravel() * weight, rcond=None)[0]
        residual = np.abs(target.ravel() - design @ fit)
        weight = np.sqrt(1 / (1 + (residual / max(1.5 * float(np.median(residual)), 1e-6)) ** 2))
    y, x = ((np.arange(length) + 0.5) / length * 2 - 1 for length in shape)
    coefficients = np.zeros((degree + 1, degree + 1))
    for (a, b), value in zip(terms, fit, strict=True):
        coefficients[a, b] = value
    return normalised_gain(np.exp(np.polynomial.polynomial.polygrid2d(y, x, coefficients)))


def local_background(image: NDArray[Any], *, window_px: float, percentile: float = 5.0) -> Float32:
    """Smooth level under the structures of an image.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        One channel.
    window_px : float
        Structures narrower than this stand above the background; take at least 3 cell diameters,
        more than the largest solid block of positive cells.
    percentile : float
        Of the pixels in each block of a quarter of the window.

    Returns
    -------
    ndarray of float32, shape (Y, X)

    Notes
    -----
    A grey opening on a grid of blocks' low percentiles, smoothed, as cheap stand-in for
    Sternberg's rolling ball, IEEE Computer 16:22 (1983).

    Examples
    --------
    >>> image = np.full((90, 90), 20.0)
    >>> image[40:50, 40:50] = 500
    >>> bool(np.allclose(local_background(image, window_px=60), 20))
    True
    """
    height, width = image.shape
    if image.size == 0:
        return np.zeros(image.shape, np.float32)
    n, step, _ = background_blocks((height, width), window_px)
    low = low_of_blocks(image, 0, (0, n[0]), (height, width), n, step, percentile)
    places = np.arange(height), np.arange(width)
    return stretched(smooth_blocks(low), (height, width), places)


def background_blocks(
    shape: tuple[int, int], window_px: float
) -> tuple[tuple[int, int], int, NDArray[np.int64]]:
    """Number of blocks along each axis, how pixels are thinned, and first row of each block."""
    rows, columns = (max(1, round(4 * length / max(window_px, 4.0))) for length in shape)
    starts = -(-np.arange(rows) * shape[0] // rows)
    return (rows, columns), max(1, int(window_px // 64)), starts


def low_of_blocks(
    image: NDArray[Any],
    top: int,
    blocks: tuple[int, int],
    shape: tuple[int, int],
    n: tuple[int, int],
    step: int,
    percentile: float = 5.0,
) -> NDArray[np.float64]:
    """Low percentile of rows of blocks, from the rows of an image of ``shape`` from ``top`` on."""
    first = -(-top // step) * step
    rows = np.arange(first, top + image.shape[0], step)
    columns = np.arange(0, shape[1], step)
    row_of = rows * n[0] // shape[0] - blocks[0]
    group = row_of[:, None] * n[1] + (columns * n[1] // shape[1])[None, :]
    values = np.ascontiguousarray(image[first - top :: step, ::step], dtype=np.float32).ravel()
    count = blocks[1] - blocks[0]
    low = group_quantiles(values, group.ravel(), count * n[1], [percentile / 100])
    return np.asarray(low[0].reshape(count, n[1]))


def smooth_blocks(low: NDArray[Any]) -> Float32:
    """The level under structures, on the grid of blocks."""
    from scipy import ndimage as ndi

    # blocks are a quarter of the window: 5 across hold any structure narrower than it
    grid = ndi.grey_opening(low, size=(5, 5), mode="nearest")
    return np.asarray(ndi.gaussian_filter(grid, 1.0, mode="nearest"), np.float32)


def fit_bleed_through(
    controls: Mapping[str, Sequence[Mapping[str, NDArray[Any]]]],
    *,
    min_pixels: int = 200,
) -> Matrix:
    """Fit what each dye leaves in the other channels, from single-stain controls.

    Parameters
    ----------
    controls : mapping of str to sequence of mapping of str to ndarray
        For each stained channel its images, each with all channels, offset removed.
    min_pixels : int
        Pixels above the noise that a slope needs at least.

    Returns
    -------
    dict
        ``{source: {destination: fraction}}`` with ``0 <= fraction``; only what is above 0.

    Raises
    ------
    NotEstimableError
        If a control has too little signal, or the matrix's condition number is 10 or more.
    ChannelError
        If a control lacks its own channel.

    Notes
    -----
    Per destination the slope of a line through the origin with the least absolute deviation,
    the median of the ratios weighted by the source, on pixels more than ten noise widths above the
    background of the source.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = np.zeros((64, 64))
    >>> signal[16:48, 16:48] = 1000
    >>> control = {"AF488": signal + rng.normal(0, 2, signal.shape),
    ...            "AF568": 0.06 * signal + rng.normal(0, 2, signal.shape)}
    >>> round(fit_bleed_through({"AF488": [control]})["AF488"]["AF568"], 3)
    0.06
    """
    matrix: Matrix = {}
    names: list[str] = []
    for source, images in controls.items():
        names += [n for image in images for n in image if n not in names]
        pairs: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
        for image in images:
            if source not in image:
                raise ChannelError(f"the single-stain control of {source!r} has no such channel")
            from_level, from_noise = _dark(image[source])
            x = np.asarray(image[source], np.float32) - from_level
            bright = x > 10 * max(from_noise, 1e-6)
            for name in image:
                if name != source:
                    y = np.asarray(image[name], np.float32) - _dark(image[name])[0]
                    pairs.setdefault(name, []).append((x[bright], y[bright]))
        row = {}
        for name, parts in pairs.items():
            x, y = (np.concatenate(side) for side in zip(*parts, strict=True))
            if len(x) < min_pixels:
                raise NotEstimableError(
                    f"the single-stain control of {source!r} has {len(x)} pixels above the noise, "
                    f"fewer than {min_pixels}: no bleed-through can be fitted from it"
                )
            slope = _weighted_median(y / x, x)
            if slope > 0:
                row[name] = slope
        matrix[source] = row
    _inverse(matrix, names)
    return matrix


def remove_bleed_through(
    channels: Mapping[str, NDArray[Any]], matrix: Mapping[str, Mapping[str, float]]
) -> tuple[dict[str, NDArray[Any]], float]:
    """Undo bleed-through: the inverse of the mixing matrix, clipped at 0.

    Parameters
    ----------
    channels : mapping of str to ndarray, shape (Y, X)
        Observed pixels, offset removed.
    matrix : mapping
        ``{source: {destination: fraction}}``: observed destination = own + fraction x source.

    Returns
    -------
    channels : dict of str to ndarray
        float32 for the channels that the matrix names, the rest untouched.
    condition : float
        Condition number of the matrix.

    Raises
    ------
    NotEstimableError
        If the condition number is 10 or more.
    ChannelError
        If the matrix names a channel that is not there.

    Examples
    --------
    >>> seen = {"A": np.full((2, 2), 100.0), "B": np.full((2, 2), 25.0)}
    >>> remove_bleed_through(seen, {"A": {"B": 0.05}})[0]["B"][0, 0].item()
    20.0
    """
    out: dict[str, NDArray[Any]] = dict(channels)
    named = list(matrix) + [name for row in matrix.values() for name in row]
    missing = sorted({name for name in named if name not in channels})
    if missing:
        raise ChannelError(f"the bleed-through matrix names {missing}; there are {list(channels)}")
    names = [name for name in channels if name in named]
    inverse, condition = _inverse(matrix, names)
    for column, name in enumerate(names):
        total = np.zeros(np.shape(channels[name]), np.float32)
        for row, source in enumerate(names):
            if inverse[row, column] != 0:
                total += np.asarray(channels[source]) * np.float32(inverse[row, column])
        out[name] = np.maximum(total, 0, out=total)
    return out, condition


def _inverse(
    matrix: Mapping[str, Mapping[str, float]], names: Sequence[str]
) -> tuple[NDArray[np.float64], float]:
    mixing = np.eye(len(names))
    for source, row in matrix.items():
        for name, fraction in row.items():
            mixing[names.index(source), names.index(name)] += fraction
    condition = float(np.linalg.cond(mixing)) if len(names) else 1.0
    if not condition < MAX_CONDITION:
        raise NotEstimableError(
            f"the bleed-through matrix has condition number {condition:.1f}, over "
            f"{MAX_CONDITION:.0f}: channels {list(names)} cannot be told apart"
        )
    return np.asarray(np.linalg.inv(mixing), np.float64), condition


def _dark(image: NDArray[Any]) -> tuple[float, float]:
    """Level and noise of the background: median and deviation, structures clipped away."""
    values = _thinned(image).astype(np.float64).ravel()
    for _ in range(10):
        centre = float(np.median(values))
        noise = 1.4826 * float(np.median(np.abs(values - centre)))
        kept = values[values <= centre + 3 * noise]
        if len(kept) == len(values):
            break
        values = kept
    return centre, noise


def _weighted_median(values: NDArray[Any], weights: NDArray[Any]) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order], dtype=np.float64)
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def thinning(shape: tuple[int, ...], limit: int = 1_000_000) -> int:
    """Every how many pixels one is taken, so that about ``limit`` are left."""
    return max(1, int(np.ceil(np.sqrt(np.prod(shape, dtype=float) / limit))))


def _thinned(image: NDArray[Any]) -> NDArray[Any]:
    step = thinning(image.shape)
    return image[::step, ::step]


def normalised_gain(field: NDArray[Any]) -> Float32:
    """A flat field with mean 1; refused where it is not finite and positive."""
    gain = np.asarray(field, np.float32)
    mean = float(gain.mean()) if gain.size else 0.0
    if not (np.isfinite(mean) and mean > 0 and float(gain.min()) > 0.01 * mean):
        raise NotEstimableError("a flat field must be finite and positive everywhere")
    return gain / np.float32(mean)


def stretched(
    grid: Float32, shape: tuple[int, int], places: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> Float32:
    """A grid of block values at rows and columns of an image, linearly between block centres."""
    for axis in (0, 1):
        n = grid.shape[axis]
        at = np.clip((places[axis] + 0.5) * n / shape[axis] - 0.5, 0, n - 1)
        low = np.minimum(at.astype(np.intp), max(n - 2, 0))
        weight = (at - low).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        below, above = np.take(grid, low, axis), np.take(grid, np.minimum(low + 1, n - 1), axis)
        grid = below + weight * (above - below)
    return grid
