"""Run chart of a control: is today's staining like the ones before?

The idea: the same control is stained in every run; its reading is compared with the mean and SD
of the runs before, warned of beyond 2 SD and stopped beyond 3.  It fails with few runs (below
about eight the SD is a guess, and limits widen accordingly), and it cannot see a drift that began
before the baseline did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from islet_imaging.errors import IsletImagingError

if TYPE_CHECKING:
    import pandas as pd


def control_chart(values: ArrayLike, *, baseline: int | None = None) -> pd.DataFrame:
    """Limits and verdict for a series of control readings, in order of runs.

    Parameters
    ----------
    values : array_like, shape (n_runs,)
        Reading of the control in each run, in any unit (positive fraction, p99, intensity).
    baseline : int, optional
        Number of first runs that set the limits.  By default each run is judged by all runs
        before it, so that a run never sets its own limits.

    Returns
    -------
    DataFrame
        run (from 1), value, mean, sd, low_2sd, high_2sd, low_3sd, high_3sd, status (``no limits``,
        ``in control``, ``warning``, ``out of control``).

    Notes
    -----
    "2 SD" and "3 SD" keep the false alarm rates they have for a known normal distribution (4.6 and
    0.27 %): with n runs before, the limits are the prediction interval of the next one, ``t_{n-1}
    s sqrt(1 + 1/n)``, which tends to 2 and 3 SD as runs accumulate.  Three runs are needed.

    References
    ----------
    Shewhart (1931); Montgomery, Introduction to Statistical Quality Control, on few subgroups.

    Examples
    --------
    >>> c = control_chart([41, 40, 43, 42, 40, 41, 42, 60])
    >>> c["status"].tolist()[-2:]
    ['in control', 'out of control']
    """
    import pandas as pd

    x = np.atleast_1d(np.asarray(values, dtype=float))
    if x.ndim != 1 or not np.isfinite(x).all():
        raise IsletImagingError("a control chart needs one finite reading per run")
    if baseline is not None and baseline < 3:
        raise IsletImagingError(f"baseline is {baseline}: limits need at least 3 runs")
    rows = []
    for i, value in enumerate(x):
        before = x[:i] if baseline is None else x[: min(i, baseline)]
        n = len(before)
        row: dict[str, object] = {"run": i + 1, "value": value, "status": "no limits"}
        if n >= 3:
            mean, sd = before.mean(), before.std(ddof=1)
            row |= {"mean": mean, "sd": sd}
            out = 0
            for k in (2, 3):
                half = special.stdtrit(n - 1, special.ndtr(k)) * sd * np.sqrt(1 + 1 / n)
                row |= {f"low_{k}sd": mean - half, f"high_{k}sd": mean + half}
                out = k if abs(value - mean) > half else out
            row["status"] = {0: "in control", 2: "warning", 3: "out of control"}[out]
        rows.append(row)
    columns = ["run", "value", "mean", "sd", "low_2sd", "high_2sd", "low_3sd", "high_3sd", "status"]
    return pd.DataFrame(rows, columns=columns)
