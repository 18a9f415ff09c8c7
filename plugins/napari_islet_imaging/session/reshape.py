"""Outlines changed with napari's brushes: what changed, and its measurements.

The idea: napari paints into the session's label image; comparing it with the label image of the
last kept edit tells which nuclei changed, whatever tool was used.  A nucleus that fell apart
becomes several, specks are dropped, and only what changed is measured again, in a crop wide enough
that the numbers are those of the whole image.
It fails to see a change that was painted and painted back in one stroke: there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging.arrays.text_masks import encode_mask
from napari_islet_imaging.session.outlines import Region, grown_box
from napari_islet_imaging.session.remeasure import measure_region, measuring

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_islet_imaging.session.review import ReviewSession

#: pieces smaller than this share of the protocol's smallest nucleus are specks, not nuclei
_SPECK = 0.5
#: a lobe is a lobe where the waist beside it is so much narrower
_WAIST = 0.1


def commit_painting(session: ReviewSession) -> list[int]:
    """Keep what was painted since the last edit; returns the labels that changed.

    Parameters
    ----------
    session : ReviewSession
        With an open image whose ``labels`` were painted into.
    """
    open_image = session.open
    if open_image is None:
        return []
    changed = open_image.labels != open_image.committed
    rows = np.flatnonzero(changed.any(axis=1))
    if not len(rows):
        return []
    band = slice(int(rows[0]), int(rows[-1]) + 1)
    columns = np.flatnonzero(changed[band].any(axis=0))
    painted = (band, slice(int(columns[0]), int(columns[-1]) + 1))
    mask = changed[painted]
    old = {int(v) for v in np.unique(open_image.committed[painted][mask])} - {0}
    new = {int(v) for v in np.unique(open_image.labels[painted][mask])} - {0}
    region = _region_of(session, old | new, painted)
    # a nucleus that only grew was there before as well
    old |= {c for c in new if (open_image.committed[region] == c).any()}
    new |= _tidy(session, region, old | new)
    new = {c for c in old | new if (open_image.labels[region] == c).any()}
    before = [
        shape_record(open_image.committed, c, region, plain_row(session.row(c)))
        for c in sorted(old)
    ]
    rows_after = remeasure(session, sorted(new), region)
    after = [shape_record(open_image.labels, c, region, rows_after.get(c)) for c in sorted(new)]
    open_image.committed[region] = open_image.labels[region]
    if not before and not after:
        return []  # only specks
    first = (after or before)[0]
    row = first["row"] or {}
    anchor = (int(first["cell"]), float(row.get("y_px", 0.0)), float(row.get("x_px", 0.0)))
    session.reshape(before, after, anchor, region)
    return sorted(old | new)


def check_ready(session: ReviewSession) -> None:
    """Raise, before a person begins, where changed nuclei of the open image cannot be measured.

    Raises
    ------
    IsletImagingError
        If whole cells that it was measured by are gone.
    """
    if session.open is not None and session.open.scale is not None:
        measuring(session)


def merge_cells(session: ReviewSession, cells: list[int]) -> list[int]:
    """Make one nucleus of several; the first one's label stays. Gaps between them are closed."""
    open_image = session.open
    cells = [c for c in cells if session.row(c) is not None]
    if open_image is None or len(cells) < 2:
        return []
    from scipy.ndimage import binary_closing
    from scipy.ndimage import label as components

    from islet_imaging.errors import IsletImagingError

    region = _region_of(session, set(cells), None)
    part = open_image.labels[region]
    together = np.isin(part, cells)
    closed = binary_closing(np.pad(together, 4), iterations=3)[4:-4, 4:-4]
    merged = (closed & (part == 0)) | together
    if components(merged, structure=np.ones((3, 3)))[1] > 1:
        raise IsletImagingError("These nuclei do not touch: paint the gap between them instead.")
    part[merged] = cells[0]
    return commit_painting(session)


#: a part that is less than this of its nucleus is no half
_SLIVER = 0.2


def split_cell(session: ReviewSession, cell: int) -> list[int]:
    """Cut a nucleus in two at its waist (watershed of the distance from its edge)."""
    open_image = session.open
    if open_image is None or session.row(cell) is None:
        return []
    from scipy.ndimage import distance_transform_edt
    from skimage.segmentation import watershed

    region = _region_of(session, {cell}, None)
    part = open_image.labels[region]
    mask = part == cell
    distance = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    seeds = _two_seeds(distance, mask)
    if seeds is None:
        return []
    markers = np.zeros(mask.shape, np.int32)
    markers[seeds[0]], markers[seeds[1]] = 1, 2
    halves = watershed(-distance, markers, mask=mask)
    if min((halves == 1).sum(), (halves == 2).sum()) < _SLIVER * mask.sum():
        # without a waist one of the two floods all: then across, between the two
        places = np.argwhere(mask)
        away = [np.hypot(*(places - seed).T) for seed in seeds]
        halves[mask] = 1 + (away[1] < away[0])
    # the larger part stays what it was: calls and corrections made of it are of that
    smaller = 2 if (halves == 2).sum() <= (halves == 1).sum() else 1
    part[halves == smaller] = free_label(session)
    return commit_painting(session)


def delete_cells(session: ReviewSession, cells: list[int]) -> list[int]:
    """Paint nuclei out."""
    if session.open is None or not cells:
        return []
    region = _region_of(session, set(cells), None)
    part = session.open.labels[region]
    part[np.isin(part, cells)] = 0
    return commit_painting(session)


def free_label(session: ReviewSession) -> int:
    """A label that no nucleus of the open image has or had."""
    assert session.open is not None
    return max(int(session.open.labels.max(initial=0)), int(session.table["cell"].max())) + 1


def _two_seeds(
    distance: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The middles of two lobes: of the places far from the edge, the pair with the deepest waist.

    Where the nucleus has no waist, the ends of its long axis, half way to the middle.
    """
    from scipy.ndimage import gaussian_filter, maximum_filter

    ys, xs = np.nonzero(mask)
    if len(ys) < 16:
        return None
    smooth = gaussian_filter(distance, 1.0) * mask
    reach = max(3, 2 * int(smooth.max() / 2) + 1)
    peaks = np.argwhere((smooth == maximum_filter(smooth, reach)) & (smooth > smooth.max() / 3))
    best, depth = None, 0.0
    for k, one in enumerate(peaks):
        for other in peaks[:k]:
            n = int(np.hypot(*(one - other))) + 2
            line = np.rint(np.linspace(one, other, n)).astype(int)
            along = smooth[line[:, 0], line[:, 1]]
            # how much narrower the waist between two middles is than the thinner of the lobes
            waist = 1 - along.min() / min(along[0], along[-1])
            if waist > depth:
                best, depth = (one, other), float(waist)
    if best is not None and depth > _WAIST:
        return (int(best[0][0]), int(best[0][1])), (int(best[1][0]), int(best[1][1]))
    points = np.column_stack([ys, xs]).astype(float)
    middle = points.mean(axis=0)
    axis = np.linalg.svd(points - middle, full_matrices=False)[2][0]
    along = (points - middle) @ axis
    found = []
    for end in (along.min(), along.max()):
        at = points[np.argmin(np.hypot(*(points - middle - axis * end / 2).T))]
        found.append((int(at[0]), int(at[1])))
    return (found[0], found[1]) if found[0] != found[1] else None


def _region_of(session: ReviewSession, cells: set[int], painted: Region | None) -> Region:
    """A box that holds the cells whole, before and after."""
    open_image = session.open
    assert open_image is not None
    shape = open_image.labels.shape
    boxes = [b for b in (painted, session.region_of(sorted(cells))) if b is not None]
    region = grown_box(boxes, shape, 2)
    while True:  # a painted nucleus may be of any size: grow until none touches the box's edge
        inside = {
            int(v)
            for array in (open_image.labels, open_image.committed)
            for v in _frame(array[region])
        }
        grown = grown_box([region], shape, 16)
        if not inside & cells or grown == region:
            return region
        region = grown


def _frame(array: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.unique(np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]]))


def _tidy(session: ReviewSession, region: Region, cells: set[int]) -> set[int]:
    """Give the pieces of a nucleus that fell apart labels of their own; drop specks."""
    from scipy.ndimage import label as components

    open_image = session.open
    assert open_image is not None
    size = open_image.pixel_size_um
    smallest = 8.0
    if size and open_image.scale is not None:
        least, _ = session.protocol.nuclei.areas_um2(open_image.scale.nucleus_um)
        smallest = _SPECK * least / size**2
    part = open_image.labels[region]
    fresh: set[int] = set()
    for cell in cells:
        pieces, count = components(part == cell, structure=np.ones((3, 3)))
        areas = np.bincount(pieces.ravel(), minlength=count + 1)
        areas[0] = 0
        largest = int(np.argmax(areas))
        for piece in range(1, count + 1):
            if areas[piece] < smallest:
                part[pieces == piece] = 0
            elif piece != largest:
                fresh.add(free_label(session))
                part[pieces == piece] = max(fresh)
    return fresh


def plain_row(row: pd.Series[Any] | None) -> dict[str, Any] | None:
    """A row of a table as plain values that JSON can hold; NaN becomes None."""
    if row is None:
        return None
    plain: dict[str, Any] = {}
    for name, value in row.items():
        item = value.item() if isinstance(value, np.generic) else value
        plain[str(name)] = None if isinstance(item, float) and not np.isfinite(item) else item
    return plain


def remeasure(
    session: ReviewSession, cells: list[int], region: Region
) -> dict[int, dict[str, Any]]:
    """Rows of the cells table for nuclei whose outlines changed.

    Parameters
    ----------
    session : ReviewSession
        With the new outlines in the open image's ``labels``.
    cells : list of int
        What to measure.
    region : (slice, slice)
        Holds them whole.

    Returns
    -------
    dict of int to dict
        A row per cell; a call that a person made of a cell stays.
    """
    if not cells or session.open is None:
        return {}
    table = measure_region(session, session.open, region)
    table = table[table["cell"].isin(cells)]
    rows: dict[int, dict[str, Any]] = {}
    for position in range(len(table)):
        row = plain_row(table.iloc[position]) or {}
        cell = int(row["cell"])
        held = session.row(cell)
        for marker in session.protocol.markers:
            if held is not None and str(held[f"{marker}_reason"]).startswith("called by "):
                for name in ("probability", "call", "reason"):
                    row[f"{marker}_{name}"] = plain_row(held)[f"{marker}_{name}"]  # type: ignore[index]
        rows[cell] = row
    return rows


def shape_record(
    labels: NDArray[np.int32], cell: int, region: Region, row: dict[str, Any] | None
) -> dict[str, Any]:
    """One entry of a shape edit's ``before`` or ``after``."""
    mask = labels[region] == cell
    origin = (region[0].start or 0, region[1].start or 0)
    return {"cell": cell, "mask": encode_mask(mask, origin=origin), "row": row}
