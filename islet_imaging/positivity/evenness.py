"""Is a marker's product spread evenly through the cytoplasm of the cells that make it?

The idea: a low quantile of the sectors round a nucleus is what a neighbour's light cannot fake, and
what a product in few granules or on one side of the nucleus does not reach.  Which of the two a
staining run has to fear is seen on its bright cells: where the weak sectors of an evenly filled
cell hold four fifths of the ring's mean light, those of a granular or one-sided one hold half or
less.  So the level is read from `sector_p25` in the first case and from `sector_blend` in the
second, for the whole staining run alike.
It fails where hardly a cell is bright: then the product is taken to be even.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

#: feature of a marker of the cytoplasm by default, and where its product is uneven
EVEN, UNEVEN = "sector_p25", "sector_blend"
#: weak sectors over ring mean, both above dark cells, below which a product is uneven: evenly
#: filled and perinuclear phantoms have 0.80 to 0.88, all others at most 0.74
LEAST_EVEN = 0.77
#: bright cells that are needed for an answer
FEW_BRIGHT = 20
#: and how far above the spread of the dark cells their level must lie
CLEAR = 10.0


def evenness(cells: pd.DataFrame, marker: str) -> float | None:
    """How much of a bright cell's light its weak sectors hold.

    Parameters
    ----------
    cells : DataFrame
        Measured cells of all samples of one staining run.
    marker : str
        Channel name.

    Returns
    -------
    float or None
        Median over the bright cells of ``sector_p25`` over ``ring_mean``, both above the run's
        dark cells; None with fewer than 20 bright cells.

    Examples
    --------
    >>> import pandas as pd
    >>> dark = pd.DataFrame({"INS_ring_mean": [100.0, 100.5] * 50})
    >>> dark["INS_sector_p25"] = dark["INS_ring_mean"]
    >>> lit = pd.DataFrame({"INS_ring_mean": [500.0] * 40, "INS_sector_p25": [180.0] * 40})
    >>> round(evenness(pd.concat([dark, lit]), "INS"), 2)
    0.2
    >>> evenness(dark, "INS") is None
    True
    """
    from islet_imaging.positivity.levels import counted

    mean = cells[f"{marker}_ring_mean"].to_numpy(dtype=np.float64)
    weak = cells[f"{marker}_{EVEN}"].to_numpy(dtype=np.float64)
    use = counted(cells) & np.isfinite(mean) & np.isfinite(weak)
    if use.sum() < FEW_BRIGHT:
        return None
    low, up = np.percentile(mean[use], [3, 15])
    zero = float(np.percentile(weak[use], 5))
    mean, weak = mean[use] - zero, weak[use] - zero
    # half of the light comes from cells above this: deaf to many slightly lit ones
    lit = np.sort(np.maximum(mean, 0.0))
    light = np.cumsum(lit)
    level = float(lit[min(np.searchsorted(light, 0.5 * light[-1]), lit.size - 1)])
    bright = mean > 0.5 * level
    if bright.sum() < FEW_BRIGHT or level < CLEAR * max(up - low, 1e-3 * abs(low)):
        return None
    return float(np.median(weak[bright] / mean[bright]))


def level_column(cells: pd.DataFrame, marker: str) -> str:
    """Column that levels of a marker of the cytoplasm are read from in one staining run.

    Parameters
    ----------
    cells : DataFrame
        Measured cells of all samples of the run.
    marker : str
        Channel name.

    Returns
    -------
    str
        ``<marker>_sector_blend`` where the product is uneven and the table has that column, else
        ``<marker>_sector_p25``.

    Examples
    --------
    >>> import pandas as pd
    >>> level_column(pd.DataFrame(columns=["INS_ring_mean", "INS_sector_p25"], dtype=float), "INS")
    'INS_sector_p25'
    """
    names = [f"{marker}_{feature}" for feature in ("ring_mean", EVEN, UNEVEN)]
    if all(name in cells.columns for name in names):
        found = evenness(cells, marker)
        if found is not None and found < LEAST_EVEN:
            return f"{marker}_{UNEVEN}"
    return f"{marker}_{EVEN}"
