"""What was sampled: batches, images, islets, cells.

The idea: no fraction without this table beside it, because "n = 4200" means nothing until it is
said of what.  It fails where the sheet does not say which images show the same islet: then serial
sections of one islet count as several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.statistics.design import UNKNOWN_BATCH, text

if TYPE_CHECKING:
    import pandas as pd

#: columns of a sample sheet that are levels of their own, with the name of their count
FURTHER = {"line": "n_lines", "donor": "n_donors", "well": "n_wells"}
#: those whose names begin anew with every batch
WITHIN_BATCH = ("well",)


LEVEL_COLUMNS = (
    "condition",
    "n_batches",
    "n_images",
    "n_islets",
    "n_cells",
    "n_excluded",
    "cells_per_islet",
)


def levels_table(where: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Numbers at every level, per condition, for images of role ``sample``.

    Parameters
    ----------
    where, images : DataFrame
        Of `islet_imaging.statistics.design.lay_over`.

    Returns
    -------
    DataFrame
        condition, n_batches (stated ones), then n_lines, n_donors, n_wells where the sheet has
        such columns, n_images, n_islets, n_cells (counted), n_excluded, cells_per_islet (median).

    Examples
    --------
    >>> import pandas as pd
    >>> from islet_imaging.statistics.design import lay_over
    >>> where = pd.DataFrame({"image": "a", "islet": [1, 2], "n_cells": [2, 0],
    ...                       "n_excluded": [0, 1]})
    >>> levels = levels_table(*lay_over(where, pd.DataFrame({"image": ["a"], "batch": "d1"})))
    >>> levels[["n_batches", "n_islets", "n_cells"]].values.tolist()
    [[1, 1, 2]]
    """
    import pandas as pd

    rows = []
    sample = images[images["role"] == "sample"]
    where = where[where["role"] == "sample"]
    further = {column: name for column, name in FURTHER.items() if column in images.columns}
    for condition in dict.fromkeys(sample["condition"]):
        own = sample[sample["condition"] == condition]
        here = where[where["condition"] == condition]
        inside = here[(here["islet_key"] != "") & (here["n_cells"] > 0)]
        per_islet = inside.groupby("islet_key")["n_cells"].sum()
        row: dict[str, object] = {
            "condition": condition,
            "n_batches": own.loc[own["batch"] != UNKNOWN_BATCH, "batch"].nunique(),
        }
        for column, name in further.items():
            stated = text(own[column])
            # a well "A1" of another batch is another well; a line or donor is the same one
            named = own["batch"] + "/" + stated if column in WITHIN_BATCH else stated
            row[name] = named[stated != ""].nunique()
        row["n_images"] = len(own)
        row["n_islets"] = len(per_islet)
        row["n_cells"] = int(here["n_cells"].sum())
        row["n_excluded"] = int(here["n_excluded"].sum())
        row["cells_per_islet"] = float(per_islet.median()) if len(per_islet) else np.nan
        rows.append(row)
    first, rest = LEVEL_COLUMNS[:2], LEVEL_COLUMNS[2:]
    return pd.DataFrame(rows, columns=[*first, *further.values(), *rest])
