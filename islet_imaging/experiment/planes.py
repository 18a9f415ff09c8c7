"""Whether files that are named like focal planes are: neighbouring planes of one field look alike.

The idea: what is as large as nuclei lies at the same places in neighbouring focal planes, and
anywhere in another field; noise and the outline of the tissue say nothing of it.
It fails for planes that are further apart than a cell is high.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.reading.source import Source

#: correlation of neighbouring focal planes of one field, at the least; drawn stacks of islets have
#: .8 to 1, other fields 0 to .04
ALIKE = 0.3
#: nuclei are larger than the first and smaller than a few of the second, px
_SCALES = (2.0, 8.0)


def most_alike(source: Source) -> float:
    """The largest correlation between neighbouring focal planes in the middle of a stack.

    Parameters
    ----------
    source : Source
        Of several focal planes.

    Returns
    -------
    float
        1 where a plane is empty, which says nothing.
    """
    y, x = (slice(max(0, n // 2 - 256), n // 2 + 256) for n in source.shape)
    middle = source.n_planes // 2
    near = range(max(0, middle - 2), min(source.n_planes, middle + 2))
    best = -1.0
    for c in range(len(source.channels)):
        planes = [_details(source.read(c, z, (y, x))) for z in near]
        for one, other in itertools.pairwise(planes):
            if np.ptp(one) < 1e-6 or np.ptp(other) < 1e-6:
                return 1.0
            best = max(best, float(np.corrcoef(one.ravel(), other.ravel())[0, 1]))
    return best


def _details(plane: NDArray[Any]) -> NDArray[np.float64]:
    """What is as large as nuclei: neither noise nor the outline of the tissue."""
    from scipy.ndimage import gaussian_filter

    whole = plane.astype(np.float64)
    return np.asarray(gaussian_filter(whole, _SCALES[0]) - gaussian_filter(whole, _SCALES[1]))
