"""The axis that histogram and scatter share: round values on a scale that a few cells do not fill.

The idea: intensities are shown on asinh, nearly linear around the negative cells and logarithmic
above, over the range that nearly all cells lie in; what lies far beyond the others is gathered at
the end.
It fails to tell how far beyond the end a single cell lies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: percentiles between which the axis lies at least
_MOST = (0.5, 99.0)
#: how far it goes on beyond them, as a share of what lies between, where there are cells
_BEYOND = 0.25


class AsinhScale:
    """``asinh((x - zero) / soft)``, fitted to where most values lie."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        finite = values[np.isfinite(values)]
        if finite.size:
            low, middle = np.percentile(finite, [1, 50])
        else:
            low, middle = 0.0, 1.0
        self.zero = float(low)
        self.soft = float(max(middle - low, 1e-3 * max(abs(middle), 1e-6)))

    def forward(self, x: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Values to positions."""
        position: NDArray[np.float64] = np.arcsinh((np.asarray(x, float) - self.zero) / self.soft)
        return position

    def back(self, t: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Positions to values."""
        values: NDArray[np.float64] = self.zero + self.soft * np.sinh(np.asarray(t, float))
        return values


def shown_range(position: NDArray[np.float64]) -> tuple[float, float]:
    """The range of an axis: where nearly all positions lie, whatever the others are.

    Examples
    --------
    >>> many = np.linspace(0, 1, 101)
    >>> low, high = shown_range(np.append(many, 40.0))
    >>> bool(low <= 0.01 and 0.99 <= high < 1.5)
    True
    """
    if not position.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(position, _MOST))
    more = _BEYOND * max(high - low, 1e-6)
    low, high = max(float(position.min()), low - more), min(float(position.max()), high + more)
    return low, max(high, low + 1e-6)


def nice_ticks(low: float, high: float) -> list[float]:
    """Round values (1, 2, 5 times a power of ten, and 0) within a range."""
    if not (np.isfinite(low) and np.isfinite(high)) or high <= low:
        return []
    top = int(np.floor(np.log10(max(abs(low), abs(high), 1e-9))))
    steps = [m * 10.0**e for e in range(top - 3, top + 1) for m in (1, 2, 5)]
    return sorted(v for v in {0.0, *steps, *(-s for s in steps)} if low <= v <= high)
