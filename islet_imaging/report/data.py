"""What a report is made of: plain tables, arrays and mappings, nothing that computes.

The idea: whoever scored the folder fills this once; the report's parts read from it and from
nowhere else, so that equal data give an equal file, byte for byte.
It fails where a caller leaves out what only it knows: the report then says "not recorded".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.protocol import Protocol
from islet_imaging.quality.flag import Flag

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Outline:
    """The outline of one cell in a crop.

    Parameters
    ----------
    points : ndarray of float, shape (n, 2)
        Vertices ``(y, x)``, px of the crop.
    call : str
        ``positive``, ``negative``, ``unsure`` or ``excluded``.
    label : str
        Shown on hover: cell number, probability, reason.
    """

    points: NDArray[np.float64]
    call: str
    label: str = ""


@dataclass(frozen=True)
class GalleryEntry:
    """One islet, or part of an image, with its outlined calls.

    Parameters
    ----------
    image : str
        Name of the image.
    marker : str
        The marker whose calls are outlined.
    rgb : ndarray of uint8, shape (Y, X, 3)
        What is shown.
    outlines : sequence of Outline
        The cells in it.
    pixel_size_um : float
        Edge of a pixel of ``rgb``, um, for the scale bar.
    islet : int
        Number of the islet, 0 for a field.
    condition, batch, role : str
        As in the sample sheet.
    display : str
        How grey levels became colours ("INS 120 to 2400").
    """

    image: str
    marker: str
    rgb: NDArray[np.uint8]
    outlines: Sequence[Outline]
    pixel_size_um: float
    islet: int = 0
    condition: str = ""
    batch: str = ""
    role: str = "sample"
    display: str = ""


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows.

    Parameters
    ----------
    protocol : Protocol
        The protocol of the run.
    summary, batches, images, islets, cells : DataFrame
        The run's tables (design 4).
    levels : DataFrame, optional
        What was sampled, per condition.
    variance : DataFrame, optional
        Where the scatter comes from: ``variance_table`` of the statistics.
    sentences : sequence of str
        What was counted, in words: islet equivalents of whole aggregates.
    composition : DataFrame, optional
        condition, kind, class, n_batches, n_cells, fraction, ci_low, ci_high.
    comparisons : DataFrame, optional
        Comparisons of conditions over batches, one row each, any columns.
    thresholds : sequence of mapping
        One per batch and marker: ``batch, marker, feature, method, value, low, high, status,
        reason, fragile``, arrays ``control_values`` and ``sample_values`` (the feature of control
        and sample cells that count) and ``sensitivity`` (mapping with arrays ``cut`` and
        ``fraction`` and the number ``slope_pp``) where there are any.
    gallery : sequence of GalleryEntry
        Islets with outlined calls.
    flags : sequence of Flag
        Of images (with ``image`` set) and of the folder.
    provenance : mapping
        Versions, hashes, times, command; shown as it is.
    corrections : mapping
        How many decisions of people are in the numbers, e.g. ``{"cells": 12, "people": 1}``.
    validation : DataFrame, optional
        Raw fractions beside those corrected for wrong calls: ``corrected_fractions`` of the
        statistics.
    pixel_sizes_um : sequence of float
        Of the scored images, as their files or the protocol say.
    title : str
        Heading of the report.
    """

    protocol: Protocol
    summary: pd.DataFrame
    batches: pd.DataFrame
    images: pd.DataFrame
    islets: pd.DataFrame
    cells: pd.DataFrame
    levels: pd.DataFrame | None = None
    variance: pd.DataFrame | None = None
    sentences: Sequence[str] = ()
    composition: pd.DataFrame | None = None
    comparisons: pd.DataFrame | None = None
    thresholds: Sequence[Mapping[str, Any]] = ()
    gallery: Sequence[GalleryEntry] = ()
    flags: Sequence[Flag] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    corrections: Mapping[str, Any] = field(default_factory=dict)
    validation: pd.DataFrame | None = None
    pixel_sizes_um: Sequence[float] = ()
    title: str = "Stained islets: share of positive cells"
