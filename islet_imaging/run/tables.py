"""The tables of a run, from its called cells.

The idea: each table is made from the summary and the image rows by one function; the writers only
write them.
They fail to say why a number is missing; that stands in the notes and flags.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from islet_imaging.run.called import CalledRun
from islet_imaging.run.measurements import load_work
from islet_imaging.run.rows import ImageRow

if TYPE_CHECKING:
    import pandas as pd

    from islet_imaging.statistics import Summary
    from islet_imaging.statistics.tally import Tally

CONDITIONS = (
    "condition marker status n_batches n_islets n_cells n_unsure n_excluded "
    "fraction fraction_low fraction_high ci_low ci_high interval note"
)
BATCHES = (
    "condition batch marker n_islets n_cells n_positive n_unsure "
    "fraction fraction_low fraction_high"
)


def images_table(rows: Sequence[ImageRow], summary: Summary | None) -> pd.DataFrame:
    """``images.csv``: one row per image, failed ones with their message."""
    import pandas as pd

    from islet_imaging.quality import join_codes

    table = pd.DataFrame(
        {
            "image": [r.image for r in rows],
            "condition": [r.condition for r in rows],
            "batch": [r.batch for r in rows],
            "role": [r.role for r in rows],
            "status": [r.status for r in rows],
            "message": [r.message for r in rows],
        },
        dtype=object,
    )
    if summary is not None:
        counted = summary.images.drop(columns=["condition", "batch", "role"])
        table = table.merge(counted, on="image", how="left")
        whole = ["n_cells", "n_islets"]
        table[whole] = table[whole].fillna(0).astype("int64")
    else:
        table["n_cells"] = table["n_islets"] = 0
    table["flags"] = [join_codes(r.flags) for r in rows]
    return table


def with_outside(images: pd.DataFrame, counted: Tally | None) -> pd.DataFrame:
    """``images.csv`` with what lies outside of drawn islets, where regions were drawn.

    Parameters
    ----------
    images : DataFrame
        From `images_table`.
    counted : Tally or None
        Of the cells; without any outside of drawn islets nothing is added.

    Returns
    -------
    DataFrame
        With ``n_outside``, cells outside of the drawn islets, which count apart, and
        ``<marker>_outside_fraction``, the share of positive ones among them.
    """
    from islet_imaging.statistics.counting import fractions

    if counted is None or counted.outside is None:
        return images
    where = counted.where
    outside = (where["n_kept"] - where["n_cells"]).groupby(where["image"]).sum()
    at = list(images.columns).index("flags")
    images = images.copy()
    images.insert(at, "n_outside", images["image"].map(outside).fillna(0).astype("int64"))
    for k, (marker, sums) in enumerate(counted.outside.items(), start=1):
        share = fractions(sums)["fraction"]
        images.insert(at + k, f"{marker}_outside_fraction", images["image"].map(share))
    return images


def islets_rows(run: Path, rows: Sequence[ImageRow], summary: Summary | None) -> pd.DataFrame:
    """``islets.csv``: geometry and fractions, one row per islet."""
    import pandas as pd

    parts = [load_work(run, r, "islets") for r in rows if r.status == "scored"]
    parts = [p for p in parts if len(p)]
    if not parts or summary is None:
        names = ("image", "islet", "y_um", "x_um", "area_um2", "diameter_um", "circularity")
        return pd.DataFrame({c: [] for c in (*names, "n_cells", "flags")})
    table = pd.concat(parts, ignore_index=True).drop(columns=["n_cells"], errors="ignore")
    if "region" in table:  # drawn in some of the images
        table["region"] = table["region"].fillna("").astype(object)
    table = table.merge(summary.islets, on=["image", "islet"], how="left")
    # an islet of which people took every cell out has no fraction and no cells
    table["n_cells"] = table["n_cells"].fillna(0).astype("int64")
    flags = table.pop("flags") if "flags" in table else ""
    table["flags"] = flags
    return table


def sheet_table(rows: Sequence[ImageRow]) -> pd.DataFrame:
    """The sample sheet as the statistics want it: scored images only, names as in the tables."""
    import pandas as pd

    scored = [r for r in rows if r.status == "scored"]
    extra = list(dict.fromkeys(k for r in scored for k in r.extra))
    return pd.DataFrame(
        {
            "file": [r.image for r in scored],
            "condition": [r.condition for r in scored],
            "batch": [r.batch for r in scored],
            "role": [r.role for r in scored],
            **{k: [r.extra.get(k, "") for r in scored] for k in extra},
        },
        dtype=object,
    )


def summaries(called: CalledRun, rows: Sequence[ImageRow]) -> tuple[Summary | None, Summary | None]:
    """Counts of a run after and before its corrections; None where no cell was found."""
    from islet_imaging.statistics.design import of_sheet
    from islet_imaging.statistics.summary import summary_of

    if called.tallies is None or not len(called.tallies[1].where):
        return None, None
    sheet, level = of_sheet(sheet_table(rows)), called.protocol.statistics.level
    before, after = called.tallies
    now = summary_of(after, sheet, level=level)
    if called.corrected is called.raw:
        return now, now
    return now, summary_of(before, sheet, level=level)


def empty_table(names: str) -> pd.DataFrame:
    """An empty table, for a run in which no cell was found."""
    import pandas as pd

    return pd.DataFrame({c: [] for c in names.split()})
