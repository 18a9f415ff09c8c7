"""Tables of truth: one row per cell, one per islet.

The idea: geometry that has a formula is computed by the formula (the share of an ellipsoid that
lies in the section), everything else is read from the painted labels.

How it fails: a bent or fragmented nucleus is treated as its ellipsoid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging.phantom.expression import Expression
from islet_imaging.phantom.optics import Lens
from islet_imaging.phantom.paint import Grid, Painted
from islet_imaging.phantom.parameters import DNA, PhantomParameters
from islet_imaging.phantom.scene import Aggregate, Cells

if TYPE_CHECKING:
    import pandas as pd

BLUR_LIMIT_UM = 3.5  # a nucleus whose blur disc is wider than this is a ghost


def _profile(
    cells: Cells, expression: Expression, half_depth: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Heights, cross-sections of each nucleus, the same were it in focus, half heights."""
    heights = np.linspace(-half_depth, half_depth, 61)
    axes = cells.half_axes.copy()
    axes[expression.pyknotic] = 2.0
    half = np.sqrt(np.einsum("nk,nk->n", cells.rotation[:, 0, :] ** 2, axes**2))
    offset = (heights[None, :] - cells.centre[:, :1]) / half[:, None]
    centred = heights[None, :] / half[:, None]
    return (
        heights,
        np.maximum(1.0 - offset * offset, 0.0),
        np.maximum(1.0 - centred * centred, 0.0),
        half,
    )


def section_share(cells: Cells, expression: Expression, half_depth: float) -> NDArray[np.float64]:
    """Share of each nucleus's volume between the faces of the section."""
    heights, area, _, half = _profile(cells, expression, half_depth)
    step = heights[1] - heights[0]
    share: NDArray[np.float64] = np.minimum(area.sum(axis=1) * step / (4.0 / 3.0 * half), 1.0)
    return share


def nucleus_visibility(
    p: PhantomParameters, cells: Cells, expression: Expression, lens: Lens, half_depth: float
) -> NDArray[np.float64]:
    """Share of each nucleus that the lens shows sharply enough to be counted.

    Widefield: of its volume. Confocal: of the light that it would give in focus.
    """
    heights, area, centred, half = _profile(cells, expression, half_depth)
    sharp = 1.0 / (1.0 + (lens.defocus_radius_um(heights) / BLUR_LIMIT_UM) ** 4)
    seen = (area * lens.weight(heights) * sharp).sum(axis=1)
    if p.modality == "confocal":
        best = (centred * lens.weight(heights)).sum(axis=1)
    else:
        best = 4.0 / 3.0 * half / (heights[1] - heights[0])
    visibility: NDArray[np.float64] = np.clip(seen / np.maximum(best, 1e-9), 0.0, 1.0)
    return visibility


def cell_table(
    p: PhantomParameters,
    grid: Grid,
    cells: Cells,
    expression: Expression,
    painted: Painted,
    visibility: NDArray[np.float64],
    half_depth: float,
) -> pd.DataFrame:
    """One row per cell whose nucleus has a part in the section and its centre in the field."""
    import pandas as pd

    height, width = p.shape
    px = p.pixel_size_um
    size = len(cells) + 1
    inside = grid.crop(painted.nuclei.astype(np.float32), p.shape).astype(np.int32)
    area = np.bincount(inside.ravel(), minlength=size)[1:]
    whole = np.bincount(painted.nuclei.ravel(), minlength=size)[1:]
    y_px, x_px = cells.centre[:, 1] / px, cells.centre[:, 2] / px
    rows, columns = np.nonzero(inside)
    owner = inside[rows, columns]
    count = np.maximum(area, 1)
    y_seen = np.bincount(owner, rows, size)[1:] / count
    x_seen = np.bincount(owner, columns, size)[1:] / count
    y_px, x_px = np.where(area > 0, y_seen, y_px), np.where(area > 0, x_seen, x_px)
    border = np.zeros(size, bool)
    for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
        border[edge] = True
    share = section_share(cells, expression, half_depth)
    in_field = (y_px >= 0) & (y_px <= height - 1) & (x_px >= 0) & (x_px <= width - 1)
    keep = np.flatnonzero((in_field & (share > 0)) | (area > 0))
    covered = 1.0 - whole / np.maximum(painted.footprint_px[1:], 1)
    covered[painted.footprint_px[1:] == 0] = np.nan
    columns_of: dict[str, NDArray[np.generic]] = {
        "cell": keep + 1,
        "islet": cells.islet[keep],
        "y_px": y_px[keep],
        "x_px": x_px[keep],
        "y_um": y_px[keep] * px,
        "x_um": x_px[keep] * px,
        "z_um": cells.centre[keep, 0],
        "type": expression.type[keep],
        "visible": (area > 0)[keep],
        "visible_fraction": visibility[keep],
        "section_share": share[keep],
        "covered_fraction": covered[keep],
        "touches_border": border[1:][keep],
        "nucleus_area_um2": area[keep] * px * px,
        "depth_um": cells.depth_um[keep],
        "relative_depth": cells.relative_depth[keep],
        "pyknotic": expression.pyknotic[keep],
        "mitotic": expression.mitotic[keep],
        "dim": expression.dim[keep],
        "uptake": expression.uptake[keep],
        "stroma": cells.stroma[keep],
    }
    for marker in (c for c in p.channels if c != DNA):
        columns_of[f"{marker}_expressed"] = expression.expressed[marker][keep]
        columns_of[f"{marker}_level"] = expression.level[marker][keep]
    return pd.DataFrame(columns_of)


def islet_table(
    p: PhantomParameters,
    aggregates: list[Aggregate],
    cells: Cells,
    expression: Expression,
    table: pd.DataFrame,
) -> pd.DataFrame:
    """Fractions per aggregate: of all its living cells, and of those that can be seen."""
    import pandas as pd

    rows = []
    for aggregate in aggregates:
        member = (cells.islet == aggregate.label) & ~expression.pyknotic
        seen = table[(table["islet"] == aggregate.label) & table["visible"] & ~table["pyknotic"]]
        volume = 4.0 / 3.0 * np.pi * aggregate.half_axes.prod(axis=1).sum()
        row: dict[str, float | int] = {
            "islet": aggregate.label,
            "y_um": float(aggregate.centres[0, 1]),
            "x_um": float(aggregate.centres[0, 2]),
            "z_um": float(aggregate.centres[0, 0]),
            "diameter_um": float(2 * np.cbrt(volume * 0.75 / np.pi)),
            "lobes": len(aggregate.centres),
            "n_cells": int(member.sum()),
            "n_visible": len(seen),
        }
        for marker in (c for c in p.channels if c != DNA):
            all_cells = expression.expressed[marker][member]
            visible = seen[f"{marker}_expressed"].to_numpy()
            # without the whole aggregate its fraction is not known
            known = p.whole_aggregates and len(all_cells) > 0
            row[f"{marker}_aggregate_fraction"] = float(all_cells.mean()) if known else np.nan
            row[f"{marker}_section_fraction"] = float(visible.mean()) if len(visible) else np.nan
        rows.append(row)
    names = ["islet", "y_um", "x_um", "z_um", "diameter_um", "lobes", "n_cells", "n_visible"]
    for marker in (c for c in p.channels if c != DNA):
        names += [f"{marker}_aggregate_fraction", f"{marker}_section_fraction"]
    return pd.DataFrame(rows, columns=names)
