"""What was sampled: batches, images, islets, cells.

The idea: no fraction without this table beside it, because "n = 4200" means nothing until it is
said of what.  It fails where the sheet does not say which images show the same islet: then serial
sections of one islet count as several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.statistics.counting import countable
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


def levels_table(cells: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Numbers at every level, per condition, for images of role ``sample``.

    Parameters
    ----------
    cells, images : DataFrame
        As `islet_imaging.statistics.design.join` returns them.

    Returns
    -------
    DataFrame
        condition, n_batches (stated ones), then n_lines, n_donors, n_wells where the sheet has
        such columns, n_images, n_islets, n_cells (counted), n_excluded, cells_per_islet (median).

    Examples
    --------
    >>> import pandas as pd
    >>> from islet_imaging.statistics.design import join
    >>> cells = pd.DataFrame({"image": "a", "islet": [1, 1, 2], "cell": [1, 2, 3],
    ...                       "excluded": [False, False, True], "batch": "d1"})
    >>> levels_table(*join(cells, None))[["n_batches", "n_islets", "n_cells"]].values.tolist()
    [[1, 1, 2]]
    """
    import pandas as pd

    rows = []
    sample = images[images["role"] == "sample"]
    cells = cells[cells["role"] == "sample"]
    excluded, live = cells["excluded"].to_numpy(dtype=bool), countable(cells)
    further = {column: name for column, name in FURTHER.items() if column in images.columns}
    for condition in dict.fromkeys(sample["condition"]):
        own = sample[sample["condition"] == condition]
        here = (cells["condition"] == condition).to_numpy()
        counted = cells[here & live]
        per_islet = counted[counted["islet_key"] != ""].groupby("islet_key").size()
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
        row["n_cells"] = len(counted)
        row["n_excluded"] = int((here & excluded).sum())
        row["cells_per_islet"] = float(per_islet.median()) if len(per_islet) else np.nan
        rows.append(row)
    first, rest = LEVEL_COLUMNS[:2], LEVEL_COLUMNS[2:]
    return pd.DataFrame(rows, columns=[*first, *further.values(), *rest])
