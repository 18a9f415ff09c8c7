"""The gallery: islets as they look, with the outline and call of every cell.

The idea: nobody should believe a fraction without having seen the cells.  Crops are shown as
pictures with outlines drawn over them as vectors: positive solid and thick, negative thin, unsure
dashed, excluded dotted, so that the call is told by the line as well as by its colour.
It fails where contrast misleads: the grey levels that became black and white are printed below
each picture, and are the same for all pictures of a marker and batch if the caller gives them.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging import terms
from islet_imaging._types import Float64
from islet_imaging.report.data import GalleryEntry, Outline
from islet_imaging.report.words import clean, esc, missing

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.image import IsletImage

#: call, words
CALLS = (
    ("positive", "positive: solid"),
    ("negative", "negative: thin"),
    ("unsure", "unsure: dashed"),
    ("excluded", "not counted: dotted"),
)
#: longest edge of a picture in the report, px
MAX_EDGE = 640
#: longest edge of what a picture shows, px; more cells than that hold cannot be told apart
MAX_SHOWN = 4096
#: of JPEG: 2 of 256 grey levels off in the mean, on pictures full of noise
QUALITY = 92
#: patches along an edge, and their own edge, that grey levels of a slide are taken from
PATCHES, PATCH_PX = 12, 256


def _scaled(plane: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.float32]:
    low, high = limits
    out = (np.asarray(plane, dtype=np.float32) - low) / max(high - low, 1e-6)
    return np.asarray(np.clip(out, 0, 1), dtype=np.float32)


def display_limits(plane: NDArray[Any]) -> tuple[float, float]:
    """Grey levels shown as black and as full colour: 1st and 99.7th percentile.

    Examples
    --------
    >>> display_limits(np.full((8, 8), 5.0))[0]
    5.0
    """
    sample = np.asarray(plane)[::2, ::2]
    low, high = np.percentile(sample[np.isfinite(sample)], [1, 99.7])
    return float(low), float(max(high, low + 1e-6))


def gallery_entry(
    *,
    image: str,
    marker: str,
    dna: NDArray[Any],
    marker_plane: NDArray[Any],
    nuclei: NDArray[np.int32],
    cells: pd.DataFrame,
    pixel_size_um: float,
    islet: int = 0,
    region: tuple[slice, slice] | None = None,
    dna_limits: tuple[float, float] | None = None,
    marker_limits: tuple[float, float] | None = None,
    condition: str = "",
    batch: str = "",
    role: str = "sample",
) -> GalleryEntry:
    """Crop an islet out of an image, colour it and outline its nuclei with their calls.

    Parameters
    ----------
    image, marker : str
        Names.
    dna, marker_plane : ndarray, shape (Y, X)
        The two channels, as stored or corrected.
    nuclei : ndarray of int32, shape (Y, X)
        Label image of the nuclei.
    cells : DataFrame
        Cells of this image with ``cell, islet, y_px, x_px, excluded, <marker>_call`` and, where
        present, ``<marker>_probability`` and ``<marker>_reason``.
    pixel_size_um : float
        Edge of a pixel, um.
    islet : int
        The islet to show; 0 shows ``region``, or the whole image without one.
    region : pair of slice, optional
        Rows and columns to show instead.
    dna_limits, marker_limits : pair of float, optional
        Grey levels for black and full colour; by default of the whole plane.
    condition, batch, role : str
        For the caption.

    Returns
    -------
    GalleryEntry

    Examples
    --------
    >>> import pandas as pd
    >>> labels = np.zeros((40, 40), np.int32)
    >>> labels[10:20, 10:20] = 1
    >>> cells = pd.DataFrame({"cell": [1], "islet": [0], "y_px": [14.5], "x_px": [14.5],
    ...                       "excluded": [False], "INS_call": ["positive"]})
    >>> entry = gallery_entry(image="a.tif", marker="INS", dna=labels, marker_plane=labels,
    ...                       nuclei=labels, cells=cells, pixel_size_um=0.5)
    >>> entry.outlines[0].call
    'positive'
    """
    if region is None:
        region = shown_region(cells, islet, nuclei.shape, pixel_size_um)
    dna_limits = dna_limits or display_limits(dna)
    marker_limits = marker_limits or display_limits(marker_plane)
    crop = nuclei[region]
    step = max(1, -(-max(crop.shape) // MAX_EDGE))
    blue = _scaled(dna[region], dna_limits)
    green = _scaled(marker_plane[region], marker_limits)
    # marker bright and near white-green, DNA a dim blue: neither red nor green must be told apart
    rgb = np.stack([0.55 * green, 0.95 * green + 0.18 * blue, 0.35 * green + 0.85 * blue], axis=-1)
    if step > 1:
        rows, cols = crop.shape[0] // step, crop.shape[1] // step
        rgb = rgb[: rows * step, : cols * step].reshape(rows, step, cols, step, 3).mean(axis=(1, 3))
    shown = np.round(255 * np.clip(rgb, 0, 1)).astype(np.uint8)
    return GalleryEntry(
        image=image,
        marker=marker,
        rgb=shown,
        outlines=_outlines(crop, cells, marker, step),
        pixel_size_um=pixel_size_um * step,
        islet=islet,
        condition=condition,
        batch=batch,
        role=role,
        display=f"{marker} {marker_limits[0]:.0f} to {marker_limits[1]:.0f}, "
        f"DNA {dna_limits[0]:.0f} to {dna_limits[1]:.0f}",
    )


def shown_region(
    cells: pd.DataFrame, islet: int, shape: tuple[int, ...], pixel_size_um: float
) -> tuple[slice, slice]:
    """Rows and columns of an islet with a margin, or of the image; the middle of large ones."""
    own = cells[cells["islet"] == islet] if islet else cells
    pad = 12.0 / pixel_size_um
    spans = []
    for column, length in zip(("y_px", "x_px"), shape, strict=True):
        start, stop = 0, length
        if islet and len(own):
            start = max(0, int(own[column].min() - pad))
            stop = min(length, int(own[column].max() + pad) + 1)
        if stop - start > MAX_SHOWN:
            middle = int(own[column].median()) if len(own) else (start + stop) // 2
            start = min(max(start, middle - MAX_SHOWN // 2), stop - MAX_SHOWN)
            stop = start + MAX_SHOWN
        spans.append(slice(start, stop))
    return spans[0], spans[1]


def image_limits(image: IsletImage, channel: str) -> tuple[float, float]:
    """`display_limits` of a channel; of a slide from patches spread evenly over it."""
    from islet_imaging.image import WHOLE_PX

    if image.shape[0] * image.shape[1] <= WHOLE_PX:
        return display_limits(image.channel(channel))
    starts = [np.linspace(0, max(0, n - PATCH_PX), PATCHES).astype(int) for n in image.shape]
    patches = [
        image.channel(channel, (slice(y, y + PATCH_PX), slice(x, x + PATCH_PX)))
        for y in starts[0].tolist()
        for x in starts[1].tolist()
    ]
    return display_limits(np.concatenate(patches))


def _outlines(
    labels: NDArray[np.int32], cells: pd.DataFrame, marker: str, step: int
) -> list[Outline]:
    from scipy import ndimage
    from skimage.measure import find_contours

    here = cells[cells["cell"].isin(np.unique(labels))]
    known = {int(row["cell"]): row for row in here.to_dict("records")}
    out = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None or label not in known:
            continue
        row = known[label]
        mask = np.pad(labels[box] == label, 1).astype(float)
        contours = find_contours(mask, 0.5)
        if not contours:
            continue
        points = max(contours, key=len) - 1 + [box[0].start, box[1].start]
        points = simplified(points, 0.6)
        call = "excluded" if bool(row["excluded"]) else clean(row[f"{marker}_call"])
        why = list(terms.not_counted([row.get("flags", "")])) if call == "excluded" else []
        words = [f"cell {label}", f"not counted: {why[0]}" if why else call]
        if not missing(row.get(f"{marker}_probability")) and call != "excluded":
            words.append(f"probability {float(row[f'{marker}_probability']):.2f}")
        if f"{marker}_reason" in row:
            words.append(clean(row[f"{marker}_reason"]))
        out.append(Outline((points + 0.5) / step, call, ", ".join(w for w in words if w)))
    return out


def simplified(points: Float64, tolerance: float) -> Float64:
    """A line with no more points than needed to stay within a tolerance of it.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 2)
        Points of the line; closed if the last is the first.
    tolerance : float
        In units of the points.

    Returns
    -------
    ndarray of float64, shape (m, 2)

    Notes
    -----
    Douglas and Peucker, Cartographica 10:112 (1973), as `skimage.measure.approximate_polygon`, but
    without arrays: outlines of nuclei are short.

    Examples
    --------
    >>> simplified(np.array([[0, 0], [0.1, 1], [0, 2], [2, 2]], float), 0.5).tolist()
    [[0.0, 0.0], [0.0, 2.0], [2.0, 2.0]]
    """
    # what is farthest from a chord is never within a straight piece: its ends are enough
    steps = np.diff(points, axis=0)
    bends = np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) + 1
    points = points[[0, *bends.tolist(), len(points) - 1]]
    line = points.tolist()
    kept = {0, len(line) - 1}
    todo = [(0, len(line) - 1)]
    while todo:
        start, end = todo.pop()
        (y0, x0), (y1, x1) = line[start], line[end]
        dy, dx = y1 - y0, x1 - x0
        length = math.hypot(dy, dx)
        farthest, at = tolerance, 0
        for k in range(start + 1, end):
            y, x = line[k]
            if (y - y0) * dy + (x - x0) * dx > 0 and (y1 - y) * dy + (x1 - x) * dx > 0:
                away = abs((y - y0) * dx - (x - x0) * dy) / length
            else:
                away = min(math.hypot(y - y0, x - x0), math.hypot(y1 - y, x1 - x))
            if away > farthest:
                farthest, at = away, k
        if at:
            kept.add(at)
            todo += [(start, at), (at, end)]
    return points[sorted(kept)]


def jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """A JPEG of an (Y, X, 3) uint8 array, a quarter of a PNG; colours as fine as brightness."""
    import imagecodecs

    return bytes(
        imagecodecs.jpeg_encode(np.ascontiguousarray(rgb), level=QUALITY, subsampling="444")
    )


def _scale_bar(entry: GalleryEntry) -> str:
    height, width = entry.rgb.shape[:2]
    for length in (200, 100, 50, 20, 10, 5):
        if length / entry.pixel_size_um <= 0.4 * width:
            break
    long = length / entry.pixel_size_um
    thick = max(2.0, height / 120)
    y, x = height - 4 * thick, width - long - 4 * thick
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{long:.1f}" height="{thick:.1f}" fill="#fff"/>'
        f'<text x="{x + long / 2:.1f}" y="{y - thick:.1f}" font-size="{max(9, width / 24):.0f}" '
        f'fill="#fff" text-anchor="middle">{length} µm</text>'
    )


def entry_html(entry: GalleryEntry) -> str:
    """One picture with outlines, scale bar and caption."""
    height, width = entry.rgb.shape[:2]
    data = base64.b64encode(jpeg(entry.rgb)).decode("ascii")
    known = {c for c, _ in CALLS}
    paths = []
    # negatives first, so that no positive is hidden
    rank = {"excluded": 0, "negative": 1, "unsure": 2, "positive": 3}
    for line in sorted(entry.outlines, key=lambda o: rank.get(o.call, 0)):
        points = " ".join(f"{x:.1f},{y:.1f}" for y, x in np.asarray(line.points, dtype=float))
        kind = line.call if line.call in known else "excluded"
        paths.append(
            f'<polygon class="o-{kind}" points="{points}">'
            f"<title>{esc(line.label)}</title></polygon>"
        )
    calls = [o.call for o in entry.outlines]
    tally = ", ".join(f"{calls.count(c)} {c}" for c, _ in CALLS if calls.count(c))
    where = f"islet {entry.islet}" if entry.islet else "field"
    group = ", ".join(
        esc(w) for w in (entry.condition, entry.batch, entry.role.replace("_", " ")) if w
    )
    label = f"{entry.marker} in {entry.image}, {where}: {tally}"
    return (
        f'<figure class="shot"><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{esc(label)}"><image href="data:image/jpeg;base64,{data}" width="{width}" '
        f'height="{height}"/><g class="outlines">{"".join(paths)}</g>{_scale_bar(entry)}</svg>'
        f"<figcaption><b>{esc(entry.marker)}</b> · {esc(entry.image)}, {where}<br>{group}<br>"
        f"{tally or 'no cells'}<br><small>shown: {esc(entry.display)}</small></figcaption></figure>"
    )


def gallery_html(entries: Sequence[GalleryEntry]) -> str:
    """All pictures, with a switch for the outlines that needs no script."""
    key = "".join(
        f'<span class="key"><svg viewBox="0 0 30 12" aria-hidden="true"><rect width="30" '
        f'height="12" fill="#10141a"/><line x1="3" y1="6" x2="27" y2="6" class="o-{call}"/></svg>'
        f"{esc(words)}</span>"
        for call, words in CALLS
    )
    return (
        '<input type="checkbox" id="show-outlines" checked>'
        '<label for="show-outlines">show outlines</label>'
        f'<p class="keys">{key}</p>'
        f'<div class="shots">{"".join(entry_html(e) for e in entries)}</div>'
    )
