"""What the nuclei network is taught to draw, from a label image.

The idea: five fields that together give instances without any search.  At full resolution the
foreground; at half resolution the offset from each pixel to the centre of its nucleus (two
fields, in units of `OFFSET_UNIT_PX`), a bump at each centre, and the distance to the nucleus's
edge.  A pixel that knows its centre belongs to one nucleus only, so touching nuclei come apart
even where no dark gap lies between them.

Channel order of the network's output (all at half resolution): 0-3 foreground logits of the 2x2
pixels (row by row), 4-5 offset y and x, 6 logit of the centre bump, 7 distance to the edge.

It fails for a nucleus whose centre lies outside of it (a strong crescent): then the centre is the
pixel deepest inside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32, Labels

OFFSET_UNIT_PX = 8.0
"""One unit of the offset and distance fields, in working pixels: a typical nucleus's radius."""

N_FIELDS = 8


def centres_of(labels: Labels) -> tuple[Labels, Float32]:
    """Find the centre of each nucleus.

    Parameters
    ----------
    labels : (Y, X) int32
        0 is background.

    Returns
    -------
    ids : (N,) int32
        Labels that occur.
    centres : (N, 2) float32
        y and x of the centroid, or of the pixel deepest inside where the centroid is outside.
    """
    from scipy import ndimage as ndi

    ids, flat, counts = np.unique(labels, return_inverse=True, return_counts=True)
    flat = flat.ravel()
    y, x = np.indices(labels.shape, dtype=np.float32)
    centres = np.stack(
        [np.bincount(flat, weights=v.ravel(), minlength=len(ids)) / counts for v in (y, x)], axis=1
    ).astype(np.float32)
    keep = ids > 0
    ids, centres = ids[keep].astype(np.int32), centres[keep]
    rounded = np.rint(centres).astype(int)
    for i in np.flatnonzero(labels[rounded[:, 0], rounded[:, 1]] != ids):
        inside = np.pad(labels == ids[i], 1)
        depth = ndi.distance_transform_edt(inside)[1:-1, 1:-1]
        centres[i] = np.unravel_index(int(depth.argmax()), depth.shape)
    return ids, centres


def make_targets(labels: Labels, ignore: NDArray[np.bool_] | None = None) -> dict[str, Float32]:
    """Draw the fields of one training crop.

    Parameters
    ----------
    labels : (Y, X) int32
        Nuclei at working resolution; Y and X even.
    ignore : (Y, X) bool, optional
        Pixels that count in no loss.

    Returns
    -------
    dict
        ``foreground`` (Y, X); ``weight`` (Y, X), which is 0 on ignored pixels and 2 along the
        border between touching nuclei; at half resolution ``offset`` (2, Y/2, X/2), ``centre``,
        ``distance`` and ``inside`` (Y/2, X/2).
    """
    from scipy import ndimage as ndi

    foreground = (labels > 0).astype(np.float32)
    weight = np.ones(labels.shape, np.float32)
    highest = ndi.maximum_filter(labels, 3)
    lowest = ndi.minimum_filter(np.where(labels > 0, labels, np.iinfo(np.int32).max), 3)
    touching = (highest != lowest) & (highest > 0) & (lowest < np.iinfo(np.int32).max)
    weight[touching] = 2.0
    half = labels[::2, ::2].copy()
    # the half-resolution pixel covers 2x2 full pixels: its label is the largest label that is
    # present at least once (a nucleus must not lose its one-pixel rim in the offset field)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        other = labels[dy::2, dx::2]
        half = np.where(half > 0, half, other)
    inside = (half > 0).astype(np.float32)
    offset = np.zeros((2, *half.shape), np.float32)
    centre = np.zeros(half.shape, np.float32)
    distance = np.zeros(half.shape, np.float32)
    if inside.any():
        ids, centres = centres_of(labels)
        lookup = np.zeros((int(labels.max()) + 1, 2), np.float32)
        lookup[ids] = centres
        radius = np.zeros(int(labels.max()) + 1, np.float32)
        areas = np.bincount(labels.ravel())
        radius[: len(areas)] = np.sqrt(areas / np.pi)
        y, x = np.indices(half.shape, dtype=np.float32)
        # centre of the 2x2 block in full-resolution pixel coordinates
        where = np.stack([2 * y + 0.5, 2 * x + 0.5])
        offset = (lookup[half].transpose(2, 0, 1) - where) * inside
        squared = (offset**2).sum(0)
        sigma = np.maximum(0.35 * radius[half], 1.5)
        centre = (np.exp(-squared / (2 * sigma**2)) * inside).astype(np.float32)
        offset = (offset / OFFSET_UNIT_PX).astype(np.float32)
        # distance to the nearest pixel of another label: borders between touching nuclei count
        interior = (labels > 0) & ~touching
        edge = ndi.distance_transform_edt(np.pad(interior, 1, mode="edge"))[1:-1, 1:-1]
        edge = edge.astype(np.float32)
        distance = edge.reshape(half.shape[0], 2, half.shape[1], 2).mean((1, 3)) / OFFSET_UNIT_PX
    if ignore is not None:
        weight[ignore] = 0.0
        inside = inside * ~(ignore[::2, ::2] & (half == 0))
    return {
        "foreground": foreground,
        "weight": weight,
        "offset": offset,
        "centre": centre,
        "distance": distance.astype(np.float32),
        "inside": inside.astype(np.float32),
    }
