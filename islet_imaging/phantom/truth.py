"""What is known about a phantom: outlines, cells, islets, light.

The idea: the truth of a count is the set of cells whose nucleus can be seen; the truth of an
aggregate is all its cells, cut or not. The two fractions differ, and both are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging.phantom.parameters import PhantomParameters

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.image import IsletImage

VISIBLE_FRACTION = 0.3


@dataclass(frozen=True)
class PhantomTruth:
    """Complete truth of a phantom. Label images are int32 (Y, X), 0 is background.

    Attributes
    ----------
    nuclei : outlines of visible nuclei, pixel value = ``cell``.
    partial_nuclei : outlines of nuclei that give light but do not count (mere caps of nuclei,
        ghosts out of focus, nuclei under others), pixel value = ``cell``. A method that finds
        them, or not, is neither right nor wrong: ignore them when scoring.
    bodies : outline of the cell that is nearest to focus, visible cells only.
    islets : pixel value = ``islet``.
    cells : one row per cell whose nucleus is at least partly in the section; ``visible`` says
        whether it counts.
    islet_table : one row per aggregate with its fractions over all cells
        (``<marker>_aggregate_fraction``) and over visible cells (``<marker>_section_fraction``).
    clean : (C, Y, X) float32, each dye alone, without noise, offset, bleed or vignetting, in
        camera units. Expected pixel = offset + flat_field * (bleed @ clean).
    bleed : (C, C), seen = bleed @ clean.
    flat_field : (Y, X), 1 at its brightest.
    """

    nuclei: NDArray[np.int32]
    partial_nuclei: NDArray[np.int32]
    bodies: NDArray[np.int32]
    islets: NDArray[np.int32]
    cells: pd.DataFrame
    islet_table: pd.DataFrame
    clean: NDArray[np.float32]
    bleed: NDArray[np.float64]
    flat_field: NDArray[np.float32]


@dataclass(frozen=True)
class Phantom:
    """A synthetic stained picture, its truth, and what made it."""

    image: IsletImage
    truth: PhantomTruth
    parameters: PhantomParameters
    seed: int

    @property
    def array(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """All channels as one array (C, Y, X)."""
        image = self.image
        stack: NDArray[np.uint8] | NDArray[np.uint16] = np.stack(
            [image.channel(name) for name in image.channel_names]
        )
        return stack
