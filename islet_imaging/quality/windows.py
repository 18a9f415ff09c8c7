"""Quality numbers of an image that is too large to be looked at whole.

The idea: the windows with most nuclei are measured as images of their own, and each number becomes
the one that says most (the range of all, the darkest background, the worst seam) or the middle
one.  A thumbnail and a digest, for comparing images, come from small patches spread evenly.
It fails for faults that lie outside of the windows, such as one folded corner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32, ReadChannel, Region, Spread, View
from islet_imaging.quality.numbers import GRID, ChannelNumbers, ImageNumbers, measure_quality

#: edge of a window, px, and how many are measured
WINDOW_PX = 2048
WINDOWS = 6
#: edge of a patch of the thumbnail, px
PATCH_PX = 128


def measure_quality_windows(
    read: ReadChannel,
    shape: tuple[int, int],
    names: Sequence[str],
    *,
    dna: str,
    pixel_size_um: float | None,
    bits: int | None = None,
    threads: int = 1,
    centres: NDArray[np.float64],
    spread: Spread | None = None,
) -> tuple[ImageNumbers, dict[str, Any]]:
    """Measure what :func:`measure_quality` does, in a few windows of an image.

    Parameters
    ----------
    read : callable
        ``read(name, region)`` gives pixels as stored.
    shape : tuple of int
        Of the image, px.
    names : sequence of str
        The channels.
    dna, pixel_size_um, bits, threads
        As in :func:`measure_quality`.
    centres : ndarray of float, shape (N, 2)
        Centres of the nuclei, px.
    spread : callable, optional
        Measures windows and patches elsewhere; changes no number.

    Returns
    -------
    numbers : ImageNumbers
        Of the image as a whole, as far as the windows tell.
    record : dict
        Where the windows lie, for the provenance.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> image = rng.poisson(50, (256, 256)).astype(np.uint16)
    >>> numbers, record = measure_quality_windows(
    ...     lambda name, region: image[region], (256, 256), ["DAPI"], dna="DAPI",
    ...     pixel_size_um=0.5, centres=np.empty((0, 2)))
    >>> record["windows_px"], numbers.channels["DAPI"].noise > 5
    ([[0, 0]], True)
    """
    corners = _corners(shape, centres)
    windows = [
        (slice(y, min(y + WINDOW_PX, shape[0])), slice(x, min(x + WINDOW_PX, shape[1])))
        for y, x in corners
    ]
    how: dict[str, Any] = {"dna": dna, "pixel_size_um": pixel_size_um, "bits": bits}
    if spread is None:
        found = [
            measure_quality({name: read(name, region) for name in names}, threads=threads, **how)
            for region in windows
        ]
        patches = {name: _patches(read, name, shape) for name in names}
    else:
        measured = spread(numbers_of_window, [(region, tuple(names), how) for region in windows])
        levels = spread(patches_of_channel, [(name, shape) for name in names])
        found, patches = list(measured), dict(zip(names, levels, strict=True))
    tiles = [n.sharpness_tiles for n in found if n.sharpness_tiles is not None]
    same = tiles and len({t.shape[1] for t in tiles}) == 1
    sources = found[0].bleed
    numbers = ImageNumbers(
        channels={
            name: _together([n.channels[name] for n in found], *patches[name]) for name in names
        },
        shape=shape,
        pixel_size_um=pixel_size_um,
        tissue=_middle([n.tissue for n in found], np.mean),
        sharpness=_known([n.sharpness for n in found]),
        sharpness_tiles=np.concatenate(tiles) if same else None,
        seam=max(n.seam for n in found),
        specks=_known([n.specks for n in found]),
        bleed={
            source: {
                target: _middle([n.bleed[source][target] for n in found])
                for target in sources[source]
            }
            for source in sources
        },
    )
    record = {
        "of": "windows with most nuclei, not the whole image",
        "window_px": WINDOW_PX,
        "windows_px": [list(c) for c in corners],
    }
    return numbers, record


def numbers_of_window(
    view: View, region: Region, names: Sequence[str], how: Mapping[str, Any]
) -> ImageNumbers:
    """Measure one window, in any process."""
    return measure_quality({name: view.stored(name, region) for name in names}, **how)


def patches_of_channel(view: View, name: str, shape: tuple[int, int]) -> tuple[Float32, str]:
    """Thumbnail and digest of one channel, in any process."""
    return _patches(view.stored, name, shape)


def _corners(shape: tuple[int, int], centres: NDArray[np.float64]) -> list[tuple[int, int]]:
    """First pixels of the windows of a regular grid that hold most nuclei, in raster order."""
    starts = []
    for n in shape:
        count = max(1, n // WINDOW_PX)
        starts.append(np.linspace(0, max(0, n - WINDOW_PX), count).astype(int))
    rows, columns = (
        np.searchsorted(s, centres[:, axis], side="right") - 1 for axis, s in enumerate(starts)
    )
    width = len(starts[1])
    counts = np.bincount(rows * width + columns, minlength=len(starts[0]) * width)
    best = np.argsort(-counts, kind="stable")[:WINDOWS]
    best = np.sort(best[counts[best] > 0]) if counts.any() else best[:1]
    return [(int(starts[0][k // width]), int(starts[1][k % width])) for k in best]


def _middle(values: Sequence[float], how: Callable[..., Any] = np.median) -> float:
    """The middle of the values that are known; NaN if none is."""
    known = [v for v in values if np.isfinite(v)]
    return float(how(known)) if known else float("nan")


def _known(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return _middle(known) if known else None


def _together(parts: Sequence[ChannelNumbers], thumbnail: Float32, digest: str) -> ChannelNumbers:
    def middle(name: str) -> float:
        return _middle([getattr(p, name) for p in parts])

    return ChannelNumbers(
        dtype=parts[0].dtype,
        minimum=min(p.minimum for p in parts),
        maximum=max(p.maximum for p in parts),
        not_finite=max(p.not_finite for p in parts),
        saturated=_middle([p.saturated for p in parts], np.mean),
        at_minimum=_middle([p.at_minimum for p in parts], np.mean),
        background=min(p.background for p in parts),
        tissue=middle("tissue"),
        light=_middle([p.light for p in parts], np.mean),
        noise=middle("noise"),
        # one window that shows something is enough
        structure=max(p.structure for p in parts),
        comb=middle("comb"),
        blockiness=middle("blockiness"),
        band=middle("band"),
        slow=middle("slow"),
        thumbnail=thumbnail,
        digest=digest,
        dim=middle("dim"),
        bright=middle("bright"),
        zero=middle("zero"),
    )


def _patches(read: ReadChannel, name: str, shape: tuple[int, int]) -> tuple[Float32, str]:
    """Levels of patches spread over the image, over their median; and a digest of their pixels."""
    level = np.ones((GRID, GRID), np.float32)
    digest = hashlib.blake2b(f"{shape}".encode(), digest_size=16)
    edges = [np.linspace(0, n, GRID + 1).astype(int) for n in shape]
    for i, j in np.ndindex(GRID, GRID):
        spans = []
        for k, e in ((i, edges[0]), (j, edges[1])):
            middle, half = (e[k] + e[k + 1]) // 2, min(PATCH_PX, e[k + 1] - e[k]) // 2
            spans.append(slice(int(middle - half), int(max(middle + half, middle - half + 1))))
        patch = read(name, (spans[0], spans[1]))
        level[i, j] = patch.mean()
        digest.update(np.ascontiguousarray(patch).data)
    return level / np.float32(max(float(np.median(level)), 1e-6)), digest.hexdigest()
