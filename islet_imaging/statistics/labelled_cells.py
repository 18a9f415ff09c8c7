"""Which cells people should label, and what their labels say about a run's fractions.

The idea: sensitivity and specificity are known only from cells that chance picked.  Cells are drawn
evenly from strata of probability, so that rare and doubtful ones are among them, and their labels
are weighted back to what the strata hold; the raw fraction and the one corrected for wrong calls
then stand side by side.
It fails where labels were given to cells that somebody went looking for (a review queue), or by
somebody who saw the call; neither can be told from the labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import IsletImagingError, NotEstimableError
from islet_imaging.statistics.counting import ESTIMATED, read_calls
from islet_imaging.statistics.intervals import Interval
from islet_imaging.statistics.misclassification import (
    Corrected,
    ErrorRates,
    correct_interval,
    error_rates,
)
from islet_imaging.statistics.raters import label_matrix, majority
from islet_imaging.statistics.summary import Summary
from islet_imaging.statistics.within_batch import OVER_BATCHES

if TYPE_CHECKING:
    import pandas as pd

#: limits of the strata of probability that cells are drawn from
STRATA = (0.05, 0.2, 0.8, 0.95)
#: share of the counted cells that may lie in strata without labels before it is said
UNSEEN = 0.02

CORRECTED_COLUMNS = (
    "condition",
    "marker",
    "raw_fraction",
    "raw_low",
    "raw_high",
    "fraction",
    "ci_low",
    "ci_high",
    "interval",
    "status",
    "sensitivity",
    "specificity",
    "n_labelled_positive",
    "n_labelled_negative",
    "sd_inflation",
    "note",
)


def draw_validation(
    cells: pd.DataFrame, marker: str, *, n: int = 500, denominator: str = "all", seed: int = 0
) -> pd.DataFrame:
    """Draw the cells that people should label to learn how often calls are wrong.

    Parameters
    ----------
    cells : DataFrame
        Cells of sample images as scored: ``image, islet, cell, excluded``, the marker's call and
        probability, and ``batch`` if known.
    marker : str
        The marker to label.
    n : int
        Cells wanted; 200 truly positive and 200 truly negative ones are a good aim.
    denominator : str
        ``"all"`` counted cells or ``"islets"`` for those inside islets, as in the fractions.
    seed : int
        Decides the draw.

    Returns
    -------
    DataFrame
        ``image, cell`` in an order that tells nothing, spread evenly over strata of probability
        and, within these, over batches and images.

    Raises
    ------
    IsletImagingError
        If a column is missing or there is no cell to draw.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"image": "a", "islet": 1, "cell": range(1000), "excluded": False,
    ...     "INS_call": "unsure", "INS_probability": np.linspace(0, 1, 1000) ** 4})
    >>> drawn = draw_validation(cells, "INS", n=100)
    >>> len(drawn), int((cells.loc[drawn["cell"], "INS_probability"] > 0.95).sum())
    (100, 13)
    """
    rng = np.random.default_rng(seed)
    counted = cells[_counted(cells, denominator)]
    order = [c for c in ("batch", "image", "islet", "cell") if c in counted]
    counted = counted.sort_values(order, kind="stable").reset_index(drop=True)
    stratum = _stratum(counted, marker)
    counted, stratum = counted[stratum >= 0], stratum[stratum >= 0]
    if counted.empty:
        raise IsletImagingError(f"no counted cell of a sample has a call of {marker}")
    present, sizes = np.unique(stratum, return_counts=True)
    chosen = []
    for k, take in zip(present, _even(sizes, n), strict=True):
        rows = np.flatnonzero(stratum == k)
        # every so-manieth cell from a random start: each has the same chance, all images are met
        places = (rng.random() + np.arange(take)) * len(rows) / max(take, 1)
        chosen.append(rows[np.floor(places).astype(int) % len(rows)])
    picked = rng.permutation(np.concatenate(chosen))
    return counted.iloc[picked][["image", "cell"]].reset_index(drop=True)


def corrected_fractions(
    summary: Summary, cells: pd.DataFrame, labels: pd.DataFrame
) -> pd.DataFrame:
    """Every raw fraction beside the one corrected for wrong calls.

    Parameters
    ----------
    summary : Summary
        Of the cells as scored, before human corrections.
    cells : DataFrame
        The cells of sample images that it was made of, as scored.
    labels : DataFrame
        ``image, cell, marker, label`` (``positive`` or ``negative``) and ``rater`` where there
        are several, of cells that chance picked (see `draw_validation`).  Where raters differ the
        majority counts; where they are split the cell is left out.

    Returns
    -------
    DataFrame
        One row per condition and labelled marker.  ``raw_fraction`` and its interval are those of
        ``summary.conditions``, and ``interval`` says what both intervals are over.  ``status`` is
        ``corrected``, ``below the detection limit`` or ``refused``, with the reason in ``note``.

    Notes
    -----
    Labels are weighted by stratum of probability: cells counted over cells labelled.  Sensitivity
    and specificity are taken to be the same in all conditions and batches.

    Examples
    --------
    >>> import pandas as pd
    >>> from islet_imaging.statistics import summarise
    >>> rng = np.random.default_rng(1)
    >>> cells = pd.DataFrame({"image": np.repeat(["a", "b", "c"], 400), "cell": range(1200),
    ...     "islet": rng.integers(1, 9, 1200), "excluded": False})
    >>> truth = rng.random(1200) < 0.4
    >>> called = np.where(truth, rng.random(1200) < 0.9, rng.random(1200) < 0.1)
    >>> cells["INS_call"] = np.where(called, "positive", "negative")
    >>> cells["INS_probability"] = np.where(called, 0.99, 0.01)
    >>> sheet = pd.DataFrame({"file": ["a", "b", "c"], "batch": ["1", "2", "3"]})
    >>> labels = cells[["image", "cell"]].assign(
    ...     marker="INS", label=np.where(truth, "positive", "negative"))
    >>> summary = summarise(cells, sheet, markers=["INS"])
    >>> table = corrected_fractions(summary, cells, labels.iloc[::2])
    >>> row = table.iloc[0]
    >>> print(row.status, f"{row.raw_fraction:.2f} {row.fraction:.2f}")
    corrected 0.42 0.40
    """
    import pandas as pd

    strange = set(labels["label"].dropna().astype(str)) - {"positive", "negative", ""}
    if strange:
        raise IsletImagingError(
            f"a label is {sorted(strange)[0]!r}; it must be positive, negative or empty"
        )
    rows = []
    for marker in dict.fromkeys(summary.conditions["marker"]):
        own = labels[(labels["marker"] == marker) & labels["label"].isin(["positive", "negative"])]
        if own.empty:
            continue
        joined, unseen = _labelled(cells, own, marker, summary.denominator)
        rates, refusal = _rates(joined, marker, summary.denominator)
        of_marker = summary.conditions[summary.conditions["marker"] == marker]
        rows += [
            _row(row, joined, unseen, rates, refusal, summary.level)
            for row in of_marker.to_dict("records")
        ]
    return pd.DataFrame(rows, columns=list(CORRECTED_COLUMNS))


def _counted(cells: pd.DataFrame, denominator: str) -> NDArray[np.bool_]:
    counted = ~cells["excluded"].to_numpy(dtype=bool)
    if denominator == "islets":
        counted &= cells["islet"].to_numpy() > 0
    return np.asarray(counted)


def _stratum(cells: pd.DataFrame, marker: str) -> NDArray[np.intp]:
    """Stratum of probability of each cell, -1 for cells without a call."""
    calls = read_calls(cells, marker)
    probability = cells[f"{marker}_probability"].to_numpy(dtype=float, na_value=np.nan)
    # a call without a probability stands where its kind belongs
    known = np.where(np.isfinite(probability), probability, calls.weight)
    return np.where(np.isfinite(calls.weight), np.digitize(known, STRATA), -1)


def _even(sizes: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """As even shares of n as the strata allow: what a small one cannot give, the others give."""
    take = np.zeros(len(sizes), dtype=np.int64)
    left = min(n, int(sizes.sum()))
    while left > 0:
        room = np.flatnonzero(take < sizes)
        give = max(left // len(room), 1)
        for k in room[: left if give == 1 else None]:
            more = min(give, int(sizes[k] - take[k]), left)
            take[k] += more
            left -= more
    return take


def _labelled(
    cells: pd.DataFrame, labels: pd.DataFrame, marker: str, denominator: str
) -> tuple[pd.DataFrame, float]:
    """Counted cells with the raters' label and weight; and the share of cells in unseen strata."""
    if "rater" not in labels.columns:
        labels = labels.assign(rater="")
    matrix = label_matrix(labels)
    vote = majority(matrix.to_numpy(dtype=float))
    said = matrix.index.to_frame(index=False)
    said["label"] = np.where(vote == 1, "positive", np.where(vote == 0, "negative", ""))
    counted = cells[_counted(cells, denominator)].copy(deep=False)
    counted["_stratum"] = _stratum(counted, marker)
    counted = counted[counted["_stratum"] >= 0]
    counted["image"] = counted["image"].astype(str)
    joined = counted.merge(said[said["label"] != ""], on=["image", "cell"], how="inner")
    whole = np.bincount(counted["_stratum"], minlength=len(STRATA) + 1)
    seen = np.bincount(joined["_stratum"], minlength=len(STRATA) + 1)
    joined["_weight"] = (whole / np.maximum(seen, 1))[joined["_stratum"]]
    return joined, float(whole[seen == 0].sum() / max(whole.sum(), 1))


def _rates(joined: pd.DataFrame, marker: str, denominator: str) -> tuple[ErrorRates | None, str]:
    if denominator not in ("all", "islets"):
        return None, f"shares of {denominator}-positive cells are not corrected: two markers err"
    if joined.empty:
        return None, "no labelled cell is a counted cell of a sample"
    try:
        return error_rates(joined, marker, weight="_weight"), ""
    except IsletImagingError as error:
        return None, str(error)


def _row(
    row: Mapping[str, Any],
    joined: pd.DataFrame,
    unseen: float,
    rates: ErrorRates | None,
    refusal: str,
    level: float,
) -> dict[str, object]:
    raw = Interval(row["fraction"], row["ci_low"], row["ci_high"], _units(row))
    found: Corrected | None = None
    if row["status"] != ESTIMATED:
        refusal = str(row["note"])
    elif rates is not None:
        try:
            found = correct_interval(raw, rates, level=level)
        except NotEstimableError as error:
            refusal = str(error)
    notes = [refusal] if found is None else [found.note]
    if found is not None and unseen > UNSEEN:
        notes.append(
            f"{100 * unseen:.0f} % of the cells have probabilities of which none was labelled"
        )
    unknown = float("nan")
    return {
        "condition": row["condition"],
        "marker": row["marker"],
        "raw_fraction": raw.fraction,
        "raw_low": raw.low,
        "raw_high": raw.high,
        "fraction": unknown if found is None else found.fraction,
        "ci_low": unknown if found is None else found.low,
        "ci_high": unknown if found is None else found.high,
        "interval": row["interval"],
        "status": "refused" if found is None else found.status,
        "sensitivity": unknown if rates is None else rates.sensitivity,
        "specificity": unknown if rates is None else rates.specificity,
        "n_labelled_positive": int((joined["label"] == "positive").sum()),
        "n_labelled_negative": int((joined["label"] == "negative").sum()),
        "sd_inflation": unknown if found is None else found.sd_inflation,
        "note": "; ".join(n for n in notes if n),
    }


def _units(row: Mapping[str, Any]) -> int:
    """How many units the interval of a row is over."""
    column = "n_batches" if row["interval"] == OVER_BATCHES else "n_islets"
    return max(int(row[column]), 2)
