"""What the positivity network is shown, and how its answer is read.

The idea: DNA as the nuclei network sees it, and the marker twice, on a coarse and on a fine
compressive scale, so that dim cells beside bright ones are not lost.  Zero and one of the marker
are percentiles of its pixels on nuclei, which do not depend on how much empty glass is in the
picture.  The network answers, at half resolution, four numbers: a low, a middle and a high guess
of the cell's own light (quantiles 0.1, 0.5, 0.9, on the fine scale), and the log odds that the cell
expresses the marker, judged from this picture alone.  A cell's numbers are the means over its
nucleus.  Own light goes back to grey values of the file, so gain and offset cancel.

It fails where hardly a nucleus was found: then the percentiles rest on a few pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32
from islet_imaging.network.normalise import compress, steady_curve

WORKING_PIXEL_UM = 7.5 / 16
"""Edge of a pixel of the working image: a nucleus of an islet is then 16 px across."""

QUANTILES = (0.1, 0.5, 0.9)
"""Of a cell's own light, in the order of the network's first three fields."""

N_FIELDS = 4
COARSE, FINE = 3.0, 30.0
LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.0


def marker_limits(on_nuclei: NDArray[np.generic]) -> tuple[float, float]:
    """Zero and one of a marker from its pixels on nuclei.

    Parameters
    ----------
    on_nuclei : (N,) any dtype
        Pixels, or a regular subsample of them.

    Returns
    -------
    low, high : float
        ``high`` is above ``low`` whatever is given.

    Examples
    --------
    >>> marker_limits(np.arange(101.0))
    (1.0, 99.0)
    """
    values = on_nuclei[np.isfinite(on_nuclei)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, [LOW_PERCENTILE, HIGH_PERCENTILE]))
    # a constant channel: one grey value is one unit
    return low, max(high, low + 1e-3 * max(abs(low), 1.0))


def network_input(dna: Float32, marker: Float32) -> Float32:
    """Stack what the network is shown.

    Parameters
    ----------
    dna : (Y, X) float32
        Linear, black 0 and white 1 (``normalise.grey_limits``), working scale.
    marker : (Y, X) float32
        Linear, 0 and 1 at `marker_limits`.

    Returns
    -------
    (3, Y, X) float32
    """
    return np.stack(
        [
            compress(np.clip(dna, -0.1, 10.0)),
            steady_curve(marker, COARSE),
            steady_curve(marker, FINE),
        ]
    )


def curve(x: NDArray[np.floating], compression: float = FINE) -> Float32:
    """Compressive scale: odd, 0 at 0, 1 at 1."""
    return np.asarray(np.arcsinh(compression * x) / np.arcsinh(compression), np.float32)


def uncurve(v: NDArray[np.floating], compression: float = FINE) -> NDArray[np.float64]:
    """Inverse of `curve`."""
    return np.asarray(np.sinh(np.float64(np.arcsinh(compression)) * v) / compression, np.float64)
