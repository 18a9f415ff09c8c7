"""Compare automatic calls with manual counts or labels, rater by rater.

The idea: people either label single cells or count islets; both end as fractions of the same
islets, measured twice.  Where single cells were labelled, the automatic fraction is taken over
exactly these cells, so that a difference is one of calling, not of sampling.  Cells outside islets
are no islet: they are compared in a row of their own.
It fails when raters saw the automatic call, and when islets were picked because they looked good.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.statistics.agreement import (
    ALL_RATERS,
    Agreement,
    bland_altman,
    concordance,
    icc_2_1,
)
from islet_imaging.statistics.counting import fractions, read_calls, weigh
from islet_imaging.statistics.design import text
from islet_imaging.statistics.intervals import check_level
from islet_imaging.statistics.raters import cohen_kappa, dawid_skene, label_matrix, majority

if TYPE_CHECKING:
    import pandas as pd

#: compared cells below which an islet's fraction is counting noise and left out of the agreement
LEAST_CELLS = 5
_ISLETS = ("image", "islet", "rater", "batch", "n_cells", "automatic", "manual")


def compare_with_manual(
    cells: pd.DataFrame, manual: pd.DataFrame, *, marker: str, level: float = 0.95
) -> Agreement:
    """Agreement of the calls of a marker with people's labels or counts.

    Parameters
    ----------
    cells : DataFrame
        Cells table: ``image, islet, cell, excluded``, the marker's call and probability, and
        ``batch`` if known.
    manual : DataFrame
        One row per labelled cell and rater: ``image, cell, label`` (``positive`` or
        ``negative``), ``rater`` optional.  Or one row per counted islet and rater: ``image,
        islet`` and either ``fraction`` (0 to 1) or ``n_positive`` and ``n_cells``.
    marker : str
        Name of the marker.
    level : float
        Confidence level.

    Returns
    -------
    Agreement

    Raises
    ------
    IsletImagingError
        If columns are missing or nothing matches the cells table.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"image": "a", "islet": [1, 1, 2, 2, 3, 3] * 3, "cell": range(18),
    ...     "excluded": False, "INS_probability": 0.9, "INS_call":
    ...     ["positive", "negative", "positive", "positive", "negative", "negative"] * 3})
    >>> counts = pd.DataFrame({"image": "a", "islet": [1, 2, 3], "fraction": [0.4, 0.9, 0.0]})
    >>> a = compare_with_manual(cells, counts, marker="INS")
    >>> print(f"{a.fractions['bias_pp'].iloc[0]:.2f}")
    6.67
    """
    import pandas as pd

    check_level(level)
    manual = manual.copy()
    for name in ("image", "rater"):
        if name not in manual.columns:
            if name == "image":
                raise IsletImagingError("the manual table has no column 'image'")
            manual["rater"] = "manual"
        manual[name] = text(manual[name])
    if (manual["rater"] == ALL_RATERS).any():
        raise IsletImagingError(f"no rater may be called {ALL_RATERS!r}")
    cells = cells.copy(deep=False)
    cells["image"] = cells["image"].astype(str)
    cells = cells[~cells["excluded"].to_numpy(dtype=bool)].reset_index(drop=True)
    empty = pd.DataFrame()
    if {"cell", "label"} <= set(manual.columns):
        matrix = label_matrix(manual).dropna(how="all")
        cells = cells.set_index(["image", "cell"], drop=False)
        cells.index.names = ["_image", "_cell"]
        shared = cells.index.intersection(matrix.index)
        if shared.empty:
            raise IsletImagingError("no labelled cell is a counted cell of the cells table")
        cells, matrix = cells.loc[shared], matrix.loc[shared]
        islets = _islets_from_labels(cells, matrix, marker)
        by_cell, consensus = _cells(cells, matrix, marker, level)
        raters = _raters(cells, matrix, level)
    else:
        islets = _islets_from_counts(cells, manual, marker)
        by_cell, raters, consensus = empty, empty, empty
    return Agreement(
        islets=islets,
        fractions=_fractions(islets, level),
        cells=by_cell,
        raters=raters,
        consensus=consensus,
    )


def _automatic(cells: pd.DataFrame, marker: str) -> pd.DataFrame:
    """Automatic fraction, and batch, of each islet."""
    sums = weigh(cells, marker, "all").groupby([cells["image"], cells["islet"]]).sum()
    out = fractions(sums)[["fraction"]].rename(columns={"fraction": "automatic"})
    out["n_cells"] = sums["n_cells"].astype(np.int64)
    if "batch" in cells.columns:
        out["batch"] = text(cells["batch"]).groupby([cells["image"], cells["islet"]]).first()
    else:
        out["batch"] = ""
    return out


def _islets_from_labels(cells: pd.DataFrame, matrix: pd.DataFrame, marker: str) -> pd.DataFrame:
    """Each rater against the automatic fraction of exactly the cells that rater labelled."""
    import pandas as pd

    parts = []
    for rater in matrix.columns:
        label = matrix[rater].to_numpy(dtype=float)
        mine = np.isfinite(label)
        own = cells[mine].reset_index(drop=True)
        if own.empty:
            continue
        table = _automatic(own, marker)
        table["manual"] = pd.Series(label[mine]).groupby([own["image"], own["islet"]]).mean()
        parts.append(table.reset_index().assign(rater=str(rater)))
    return pd.concat(parts, ignore_index=True)[list(_ISLETS)]


def _islets_from_counts(cells: pd.DataFrame, manual: pd.DataFrame, marker: str) -> pd.DataFrame:
    if "islet" not in manual.columns:
        raise IsletImagingError(
            "the manual table needs `cell` and `label`, or `islet` and `fraction` "
            "(or `n_positive` and `n_cells`)"
        )
    if "fraction" in manual.columns:
        share = manual["fraction"].astype(float)
    elif {"n_positive", "n_cells"} <= set(manual.columns):
        share = manual["n_positive"].astype(float) / manual["n_cells"].astype(float)
    else:
        raise IsletImagingError("the manual table has neither `fraction` nor `n_positive, n_cells`")
    if ((share < 0) | (share > 1)).any():
        raise IsletImagingError("manual fractions must lie in 0 to 1 (0.45, not 45)")
    if manual.duplicated(["image", "islet", "rater"]).any():
        raise IsletImagingError("a rater counted the same islet twice; keep one count of each")
    table = manual[["image", "islet", "rater"]].assign(manual=share)
    out = table.merge(_automatic(cells, marker).reset_index(), on=["image", "islet"], how="inner")
    if out.empty:
        raise IsletImagingError("no counted islet is in the cells table; compare image and islet")
    out = out.sort_values(["rater", "image", "islet"], ignore_index=True)
    return out[list(_ISLETS)]


def _fractions(islets: pd.DataFrame, level: float) -> pd.DataFrame:
    import pandas as pd

    groups = [(str(name), table) for name, table in islets.groupby("rater", sort=True)]
    if len(groups) > 1:
        keys = ["image", "islet", "batch"]
        mean = islets.groupby(keys, as_index=False)[["automatic", "manual", "n_cells"]].mean()
        groups.append((ALL_RATERS, mean))
    rows = []
    for rater, table in groups:
        inside = table[table["islet"] > 0]
        enough = inside[inside["n_cells"] >= LEAST_CELLS]
        row: dict[str, object] = {"rater": rater, "of": "islets", "n_islets": len(enough)}
        few = len(inside) - len(enough)
        row["note"] = f"{few} islet(s) of fewer than {LEAST_CELLS} cells left out" if few else ""
        try:
            found = _fraction_row(enough, level)
            found["note"] = "; ".join(str(n) for n in (row["note"], found["note"]) if n)
            row |= found
        except NotEstimableError as error:
            row["note"] = "; ".join(str(n) for n in (row["note"], error) if n)
        rows.append(row)
        outside = table[table["islet"] <= 0]
        if len(outside):
            rows.append(_outside_row(rater, outside))
    return pd.DataFrame(rows)


def _outside_row(rater: str, outside: pd.DataFrame) -> dict[str, object]:
    """Cells outside islets: one difference, weighted by cells, and no interval."""
    weight = outside["n_cells"].to_numpy(float)
    gap = (outside["automatic"] - outside["manual"]).to_numpy(float)
    known = np.isfinite(gap) & (weight > 0)
    bias = float(np.average(gap[known], weights=weight[known])) if known.any() else np.nan
    return {
        "rater": rater,
        "of": "outside islets",
        "n_islets": 0,
        "bias_pp": 100 * bias,
        "note": f"{weight.sum():.0f} cells outside islets in {len(outside)} image(s): no interval",
    }


def _fraction_row(table: pd.DataFrame, level: float) -> dict[str, object]:
    x, y = table["automatic"].to_numpy(dtype=float), table["manual"].to_numpy(dtype=float)
    known = (table["batch"] != "").all()
    b = bland_altman(100 * x, 100 * y, table["batch"] if known else None, level=level)
    ccc = concordance(x, y, level=level)
    icc = icc_2_1(np.column_stack([x, y]), level=level)
    return {
        "n_batches": b.n_batches,
        "bias_pp": b.bias,
        "bias_low_pp": b.bias_low,
        "bias_high_pp": b.bias_high,
        "loa_low_pp": b.low,
        "loa_high_pp": b.high,
        "loa_low_outer_pp": b.low_outer,
        "loa_high_outer_pp": b.high_outer,
        "sd_batch_pp": b.sd_batch,
        "sd_islet_pp": b.sd_islet,
        "ccc": ccc.value,
        "ccc_low": ccc.low,
        "ccc_high": ccc.high,
        "icc": icc.value,
        "icc_low": icc.low,
        "icc_high": icc.high,
        "note": "" if known else "batches unknown: islets are taken as independent",
    }


def _cells(
    cells: pd.DataFrame, matrix: pd.DataFrame, marker: str, level: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Automatic calls against each rater and the consensus; unsure goes to the likelier side."""
    import pandas as pd

    weight = read_calls(cells, marker).weight
    places = _places(cells)
    call = np.where(np.isfinite(weight), (weight >= 0.5).astype(float), np.nan)
    columns = {str(r): matrix[r].to_numpy(dtype=float) for r in matrix.columns}
    consensus = pd.DataFrame()
    if matrix.shape[1] > 1:
        fit = dawid_skene(matrix)
        vote = majority(matrix)
        columns[ALL_RATERS] = np.where(np.isfinite(vote), vote, (fit.probability > 0.5) * 1.0)
        consensus = matrix.index.to_frame(index=False)
        consensus.columns = pd.Index(["image", "cell"])
        consensus["majority"] = vote
        consensus["probability"] = fit.probability
    rows = []
    for rater, label in columns.items():
        for where, here in places.items():
            both = np.isfinite(label) & np.isfinite(call) & here
            if not both.any():
                continue
            k = cohen_kappa(call[both], label[both], _clusters(cells)[both], level=level)
            yes, no = both & (label > 0.5), both & (label <= 0.5)
            outside = where == "outside islets"
            rows.append(
                {
                    "rater": rater,
                    "of": where,
                    "n_cells": k.n,
                    "n_islets": 0 if outside else k.n_islets,
                    "kappa": k.kappa,
                    "kappa_low": np.nan if outside else k.low,
                    "kappa_high": np.nan if outside else k.high,
                    "agreement": k.agreement,
                    "sensitivity": call[yes].mean() if yes.any() else np.nan,
                    "specificity": 1 - call[no].mean() if no.any() else np.nan,
                    "note": "no interval: these cells lie in no islet" if outside else k.note,
                }
            )
    return pd.DataFrame(rows), consensus


def _clusters(cells: pd.DataFrame) -> np.ndarray:
    """Islet of each cell; cells outside islets are one group per image."""
    return (cells["image"].astype(str) + "#" + cells["islet"].astype(str)).to_numpy(dtype=str)


def _places(cells: pd.DataFrame) -> dict[str, np.ndarray]:
    inside = cells["islet"].to_numpy() > 0
    return {"islets": inside, "outside islets": ~inside}


def _raters(cells: pd.DataFrame, matrix: pd.DataFrame, level: float) -> pd.DataFrame:
    import pandas as pd

    if matrix.shape[1] < 2:
        return pd.DataFrame()
    fit = dawid_skene(matrix)
    names = [str(r) for r in matrix.columns]
    rows = []
    for i, j in itertools.combinations(range(len(names)), 2):
        row: dict[str, object] = {"rater": names[i], "other": names[j]}
        try:
            k = cohen_kappa(matrix.iloc[:, i], matrix.iloc[:, j], _clusters(cells), level=level)
        except NotEstimableError:
            row |= {"n_cells": 0}
        else:
            row |= {"n_cells": k.n, "kappa": k.kappa, "kappa_low": k.low, "kappa_high": k.high}
            row |= {"n_islets": k.n_islets, "note": k.note}
        row |= {"sensitivity": fit.sensitivity[i], "specificity": fit.specificity[i]}
        row |= {"other_sensitivity": fit.sensitivity[j], "other_specificity": fit.specificity[j]}
        rows.append(row)
    return pd.DataFrame(rows)
