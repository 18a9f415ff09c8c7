"""Flags of single cells: those that cannot be judged, and those that are not counted.

The idea: a cell is compared with the other cells of its own image, since size and brightness of a
healthy nucleus differ between stains and microscopes.  What makes a cell uncountable (cut by the
border, dying) is excluded only where the protocol says so, and is counted beside.
It fails in images where most nuclei are dying, or with fewer than 20 nuclei: there is then no
healthy population to compare with, and nothing but the border is flagged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.protocol import Protocol
from islet_imaging.reading.names import marks_condensed

if TYPE_CHECKING:
    import pandas as pd

#: fewer nuclei than this make no population
POPULATION = 20
#: share of clipped pixels from which a cell's level is unknown
FLAGGED_SATURATED = 0.05


def flag_cells(cells: pd.DataFrame, protocol: Protocol) -> tuple[pd.Series, pd.Series]:
    """Flag the cells of one image, and say which are counted in no fraction.

    Parameters
    ----------
    cells : DataFrame
        The measured cells of one image (see ``measure_cells``).
    protocol : Protocol
        ``nuclei.exclude_border`` and ``nuclei.exclude_pyknotic`` say what is excluded.

    Returns
    -------
    flags : Series of str
        Codes joined by ``;``: ``border``, ``pyknotic``, ``saturated``, ``autofluorescent``,
        ``out_of_focus``.
    excluded : Series of bool
        True for cells that count in no fraction.

    Examples
    --------
    >>> import pandas as pd
    >>> from islet_imaging.protocol import Channel, Protocol
    >>> protocol = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS")))
    >>> cells = pd.DataFrame({"touches_border": [True, False]})
    >>> flags, excluded = flag_cells(cells, protocol)
    >>> list(flags), list(excluded)
    (['border', ''], [True, False])
    """
    import pandas as pd

    codes: dict[str, np.ndarray] = {}
    none = np.zeros(len(cells), dtype=bool)

    def column(name: str) -> np.ndarray | None:
        return cells[name].to_numpy(dtype=float) if name in cells else None

    border = cells["touches_border"].to_numpy(dtype=bool) if "touches_border" in cells else none
    codes["border"] = border
    healthy = ~border
    if np.count_nonzero(healthy) >= POPULATION:
        codes["pyknotic"] = _pyknotic(cells, healthy)
        codes["out_of_focus"] = _blurred(cells, healthy) & ~codes["pyknotic"]
        codes["autofluorescent"] = _glowing(cells, protocol, healthy)
    saturated = none.copy()
    for marker in protocol.markers:
        share = column(f"{marker}_saturated")
        if share is not None:
            saturated |= share > FLAGGED_SATURATED
    codes["saturated"] = saturated
    text = np.array([""] * len(cells), dtype=object)
    for code in sorted(codes):
        hit = codes[code]
        text[hit] = [t + ";" + code if t else code for t in text[hit]]
    excluded = none.copy()
    if protocol.nuclei.exclude_border:
        excluded |= border
    if excludes_pyknotic(protocol) and "pyknotic" in codes:
        excluded |= codes["pyknotic"]
    return (
        pd.Series(text, index=cells.index, dtype=object, name="flags"),
        pd.Series(excluded, index=cells.index, name="excluded"),
    )


def excluded_by(flags: Iterable[object], protocol: Protocol) -> np.ndarray:
    """Which cells count in no fraction, by their flags and the protocol.

    Parameters
    ----------
    flags : iterable of str
        Codes joined by ``;``.
    protocol : Protocol
        Whether nuclei at the border and condensed ones count.

    Returns
    -------
    ndarray of bool

    Examples
    --------
    >>> from islet_imaging.protocol import Channel, Protocol
    >>> protocol = Protocol(channels=(Channel("DAPI", "dna"), Channel("INS")))
    >>> excluded_by(["saturated", "border;saturated", "left_out"], protocol).tolist()
    [False, True, True]
    """
    out = {"burned_in", "no_cell", "left_out"}
    out |= {"border"} if protocol.nuclei.exclude_border else set()
    out |= {"pyknotic"} if excludes_pyknotic(protocol) else set()
    return np.array([not out.isdisjoint(str(f).split(";")) for f in flags], dtype=bool)


def excludes_pyknotic(protocol: Protocol) -> bool:
    """Whether condensed nuclei are taken for dying ones and left out of every fraction.

    Where a channel marks dividing or dying cells its positive nuclei are condensed, and leaving
    them out would take the answer away.
    """
    stated = protocol.nuclei.exclude_pyknotic
    return not marks_condensed(protocol.markers) if stated == "auto" else stated


def _ratio(cells: pd.DataFrame, name: str, healthy: np.ndarray) -> np.ndarray | None:
    """A column over its median in uncut nuclei."""
    if name not in cells:
        return None
    values = cells[name].to_numpy(dtype=float)
    known = values[healthy & np.isfinite(values)]
    middle = float(np.median(known)) if len(known) else 0.0
    if middle <= 0:
        return None
    return np.asarray(values / middle)


def _pyknotic(cells: pd.DataFrame, healthy: np.ndarray) -> np.ndarray:
    """Small, round, and brighter or more peaked than a healthy nucleus of that size would be.

    A healthy nucleus of which the section or the focal plane holds a cap is small too; how level
    and texture go with size in the image's larger nuclei says what such a cap looks like.  Blur
    spreads a condensed nucleus until it is no brighter than others, but leaves it peaked, so the
    two stand for each other.  Limits chosen on phantoms: of true ones 56 % (blurred or coarse
    images) to 92 % are found, of others 0.5 to 2 %, 5 % where an optical section makes many caps.
    """
    area = _ratio(cells, "nucleus_area_um2", healthy)
    level = _ratio(cells, "dna_mean", healthy)
    texture = _ratio(cells, "dna_texture", healthy)
    if area is None or level is None or texture is None:
        return np.zeros(len(cells), dtype=bool)
    size, level, texture = (np.log(np.maximum(v, 0.05)) for v in (area, level, texture))
    larger = healthy & (size > np.log(0.75)) & (size < np.log(2))
    beyond = _beyond_trend(size, level, larger) + _beyond_trend(size, texture, larger)
    # without the column a nucleus is taken for as long as most are
    shape = cells.get("nucleus_eccentricity", 0.6)
    oblong = np.asarray(shape, dtype=float) - 0.5
    condensed = beyond - 0.5 * size - 0.5 * oblong > 0.7
    return np.asarray(healthy & (size < np.log(0.85)) & (level > np.log(0.6)) & condensed)


def _beyond_trend(x: np.ndarray, y: np.ndarray, among: np.ndarray) -> np.ndarray:
    """What is left of y over its line on x among some, fitted without outliers."""
    known = among & np.isfinite(x) & np.isfinite(y)
    # nuclei of one size, as drawn ones may be, have no trend
    if np.count_nonzero(known) < POPULATION // 2 or np.ptp(x[known]) < 1e-6:
        return y - float(np.median(y[among])) if among.any() else np.zeros_like(y)
    keep = known.copy()
    rest = y
    for _ in range(3):
        slope, offset = np.polyfit(x[keep], y[keep], 1)
        rest = y - offset - slope * x
        middle = np.median(rest[keep])
        spread = 1.4826 * float(np.median(np.abs(rest[keep] - middle)))
        near = known & (np.abs(rest) <= 2.5 * spread + 1e-9)
        if np.count_nonzero(near) < POPULATION // 2 or np.ptp(x[near]) < 1e-6:
            break
        keep = near
    return np.asarray(rest)


def _blurred(cells: pd.DataFrame, healthy: np.ndarray) -> np.ndarray:
    """Dim and flat against the image's nuclei: DNA far above or below the focal plane."""
    level = _ratio(cells, "dna_mean", healthy)
    texture = _ratio(cells, "dna_texture", healthy)
    if level is None or texture is None:
        return np.zeros(len(cells), dtype=bool)
    return np.asarray(healthy & (level < 0.45) & (texture < 0.6))


def _glowing(cells: pd.DataFrame, protocol: Protocol, healthy: np.ndarray) -> np.ndarray:
    """Bright in a channel where nothing was stained, or far out in every marker at once."""
    free = [c.name for c in protocol.channels if c.role == "autofluorescence"]
    if free:
        names, need = free, 6.0
    elif len(protocol.markers) >= 3:
        # three markers in one cell at extreme levels are glow sooner than a cell type
        names, need = list(protocol.markers), 8.0
    else:
        return np.zeros(len(cells), dtype=bool)
    hit = np.ones(len(cells), dtype=bool)
    for name in names:
        column = f"{name}_ring_p75"
        if column not in cells:
            return np.zeros(len(cells), dtype=bool)
        values = np.log(np.maximum(cells[column].to_numpy(dtype=float), 1e-3))
        middle = float(np.median(values[healthy]))
        spread = 1.4826 * float(np.median(np.abs(values[healthy] - middle)))
        hit &= values > middle + need * max(spread, 0.1)
    return hit
