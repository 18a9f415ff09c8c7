"""What is known of one image before and after its cells are called.

The idea: two frozen records that travel between the steps, the writers and napari; whoever measures
fills the first, whoever calls makes the second of it.
They fail to say how a number came about beyond their `record`; that is the report's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.protocol import Protocol

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.positivity import Threshold
    from islet_imaging.quality import Flag, ImageNumbers

#: called with the share done (0 to 1) and what is being done
Progress = Callable[[float, str], None]
#: asked between steps; True stops the work
CancelCheck = Callable[[], bool]


@dataclass(frozen=True)
class MeasuredImage:
    """What the pixels of one image say, before any threshold.

    Parameters
    ----------
    image : str
        The image's name.
    pixel_size_um : float
        Edge of a pixel, um.
    nuclei, islets : ndarray of int32, shape (Y, X)
        Label images; 0 is background.
    cells : DataFrame
        One row per nucleus (design: cells table), without calls.
    pairs : DataFrame
        Touching cells: ``cell_a, cell_b, shared_border_px``.
    islet_table : DataFrame
        One row per islet.
    flags : list of Flag
        What was noticed in the image.
    numbers : ImageNumbers
        What images of a folder are held against each other by.
    record : mapping
        What was done to the pixels, and the facts of the acquisition.
    """

    image: str
    pixel_size_um: float
    nuclei: NDArray[np.int32]
    islets: NDArray[np.int32]
    cells: pd.DataFrame
    pairs: pd.DataFrame
    islet_table: pd.DataFrame
    flags: list[Flag]
    numbers: ImageNumbers
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredImage:
    """One image with every cell called; `MeasuredImage` plus thresholds."""

    image_name: str
    pixel_size_um: float
    nuclei: NDArray[np.int32]
    islets: NDArray[np.int32]
    cells: pd.DataFrame
    islet_table: pd.DataFrame
    flags: list[Flag]
    thresholds: Mapping[str, Threshold]
    protocol: Protocol
