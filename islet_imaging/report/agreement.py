"""Agreement with people, as files: the tables, and a picture of every islet.

The idea: what `islet-imaging evaluate` prints is gone with the window, so the same tables are kept
as CSV beside a picture that shows what a coefficient hides: each islet counted by people against
the calls, and their difference over the mean with its limits.
It fails to show cells: which cells people and calls disagree on is for the review.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging.report.figures import COLOURS, INK, SHAPES, SOFT, figure_of, style, svg_of
from islet_imaging.report.words import clean

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.statistics import Agreement

TABLES = ("fractions", "cells", "raters", "islets", "consensus")


def write_agreement(found: Agreement, folder: str | Path, *, marker: str) -> list[Path]:
    """Write the tables of an agreement as CSV and its picture as SVG.

    Parameters
    ----------
    found : Agreement
        Of `islet_imaging.compare_with_manual`.
    folder : str or Path
        Where to; made where it is missing.
    marker : str
        The marker that was counted, for the picture.

    Returns
    -------
    list of Path
        What was written; tables without rows are not.
    """
    from islet_imaging.run.files import write_table, write_text

    folder = Path(folder)
    written = []
    for name in TABLES:
        table: pd.DataFrame = getattr(found, name)
        path = folder / f"{name}.csv"
        if len(table):
            write_table(path, table)
            written.append(path)
        else:
            path.unlink(missing_ok=True)
    picture = folder / "agreement.svg"
    write_text(picture, agreement_figure(found, marker=marker))
    return [*written, picture]


def agreement_figure(found: Agreement, *, marker: str) -> str:
    """Every islet: counted by people against called, and the difference over the mean.

    Parameters
    ----------
    found : Agreement
        Of `islet_imaging.compare_with_manual`.
    marker : str
        The marker that was counted.

    Returns
    -------
    str
        SVG text.
    """
    islets = found.islets[found.islets["islet"] > 0]
    with style("agreement"):
        figure, (across, apart) = figure_of(6.4, 2, left_in=0.62, ratios=(1, 1))
        across.plot([0, 100], [0, 100], color=SOFT, lw=0.8)
        for k, (rater, own) in enumerate(islets.groupby("rater", sort=True)):
            x, y = (100 * own[c].to_numpy(float) for c in ("manual", "automatic"))
            look: dict[str, Any] = {
                "s": 22,
                "color": COLOURS[k % len(COLOURS)],
                "marker": SHAPES[k % len(SHAPES)],
                "linewidths": 0,
                "alpha": 0.8,
            }
            across.scatter(x, y, label=clean(rater), **look)
            apart.scatter((x + y) / 2, y - x, **look)
        across.set_xlabel(f"{clean(marker)}-positive by people, %", color=INK)
        across.set_ylabel("by the calls, %", color=INK)
        across.legend(frameon=False, fontsize=8, loc="upper left")
        rows = found.fractions[found.fractions["of"] == "islets"]
        row = rows.iloc[-1].to_dict() if len(rows) else {}
        apart.axhline(0, color=SOFT, lw=0.8)
        for key, dashes in (("bias_pp", "-"), ("loa_low_pp", "--"), ("loa_high_pp", "--")):
            value = float(row.get(key, np.nan))
            if np.isfinite(value):
                apart.axhline(value, color=INK, lw=1, ls=dashes)
        apart.set_xlabel("mean of both, %", color=INK)
        apart.set_ylabel("calls minus people, points", color=INK)
        label = (
            f"Share of {clean(marker)}-positive cells by the calls and by people, {len(islets)} "
            "islets; below, the difference with bias (line) and limits of agreement (dashes)"
        )
        return svg_of(figure, name="agreement", label=label)
