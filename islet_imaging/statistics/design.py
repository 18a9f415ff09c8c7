"""The design of the experiment: which cell belongs to which islet, image, batch and condition.

The idea: the sample sheet is joined to the cells once, the physical islet (not the image) becomes
the unit within a batch, and what is not stated is marked as unknown rather than guessed: an image
without a batch makes its condition descriptive.  It fails where the sheet is wrong; no statistics
can see two wells of one differentiation entered as two batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from islet_imaging.errors import IsletImagingError

if TYPE_CHECKING:
    import pandas as pd

#: condition, and batch, of images for which nobody stated one
ONE_CONDITION = ""
UNKNOWN_BATCH = ""
DESIGN = ("condition", "batch", "role")


def text(column: pd.Series) -> pd.Series:
    """A column as stripped text, missing entries empty."""
    import pandas as pd

    if column.dtype.kind == "f":
        # a column of batch numbers with a gap is read as float; 1.0 is batch "1"
        column = column.map(lambda v: "" if pd.isna(v) else f"{v:g}")
    return column.astype("string").fillna("").str.strip().astype(object)


def join(cells: pd.DataFrame, samples: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells with ``condition, batch, role, unit``, and the table of images.

    Parameters
    ----------
    cells : DataFrame
        Cells table; columns ``image``, ``islet``, ``cell`` and ``excluded`` are needed.
    samples : DataFrame or None
        Sample sheet with ``file`` and any of ``condition, batch, role`` and more columns.  With
        None, columns of these names in ``cells`` are used, if there are any.

    Returns
    -------
    tuple of DataFrame
        The cells, ordered by image and cell, with the columns above (``unit`` names the physical
        islet, or the image for cells outside islets), ``islet_key`` (empty outside islets) and
        ``place``, a number for each islet of each image, and for the cells of an image outside
        islets; and one row per image: ``image, condition, batch, role`` and the sheet's other
        columns.  Batches nobody stated are empty text.

    Raises
    ------
    IsletImagingError
        If columns are missing, a cell occurs twice, or an image is not in the sheet.
    """
    import pandas as pd

    missing = [c for c in ("image", "islet", "cell", "excluded") if c not in cells.columns]
    if missing:
        raise IsletImagingError(f"the cells table has no column {missing[0]!r}")
    cells = cells.copy(deep=False)
    cells["image"] = cells["image"].astype(str)
    twice = cells.duplicated(["image", "cell"])
    if twice.any():
        first = cells.loc[twice].iloc[0]
        raise IsletImagingError(
            f"cell {first['cell']} of image {first['image']!r} occurs twice in the cells table; "
            "each image may be scored once only"
        )
    if not _sorted(cells):
        cells = cells.sort_values(["image", "cell"], kind="stable")
    cells = cells.reset_index(drop=True)
    if cells["excluded"].isna().any():
        raise IsletImagingError("the column 'excluded' of the cells table has empty entries")

    if samples is None:
        known = [c for c in DESIGN if c in cells.columns]
        images = cells[["image", *known]].drop_duplicates().reset_index(drop=True)
        if images["image"].duplicated().any():
            name = images.loc[images["image"].duplicated(), "image"].iloc[0]
            raise IsletImagingError(f"image {name!r} has more than one condition, batch or role")
    else:
        images = _sheet(samples)
        stray = sorted(set(cells["image"]) - set(images["image"]))
        if stray:
            raise IsletImagingError(
                f"{len(stray)} scored image(s) are not in the sample sheet, first {stray[0]!r}: "
                "add a row, with `file` as the path relative to the scored folder"
            )
    for column, default in zip(DESIGN, (ONE_CONDITION, UNKNOWN_BATCH, "sample"), strict=True):
        value = text(images[column]) if column in images else pd.Series("", index=images.index)
        images[column] = value.where(value != "", default)
    rest = [c for c in images.columns if c not in ("image", *DESIGN)]
    images = images[["image", *DESIGN, *rest]]

    by_image = images.set_index("image")
    for column in DESIGN:
        cells[column] = cells["image"].map(by_image[column])
    inside = cells["islet"].to_numpy() > 0
    # a word for each islet, not for each cell: a run has few of the one and many of the other
    place = cells[["image", "islet"]]
    each = place.drop_duplicates()
    words = (each["image"] + "#" + each["islet"].astype(str)).to_numpy()
    number = place.groupby(["image", "islet"], sort=False, dropna=False).ngroup()
    own = pd.Series(words[number.to_numpy()], index=cells.index)
    if "islet" in rest:
        # the sheet names a physical islet that several images (serial sections) may show
        named = text(by_image["islet"])
        stated = cells["image"].map(named)
        own = own.where(stated == "", cells["batch"] + "/" + stated)
    cells["islet_key"] = np.where(inside, own, "")
    cells["unit"] = np.where(inside, own, cells["image"])
    cells["place"] = number.to_numpy()
    return cells, images


def places(cells: pd.DataFrame) -> pd.DataFrame:
    """One row for each place of cells that `join` returned, in the order of its number.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"image": "a", "islet": [1, 1, 0], "cell": [1, 2, 3],
    ...                       "excluded": False})
    >>> places(join(cells, None)[0])[["islet", "islet_key"]].values.tolist()
    [[1, 'a#1'], [0, '']]
    """
    names = ["image", "islet", *DESIGN, "unit", "islet_key", "place"]
    found = cells.loc[~cells["place"].duplicated().to_numpy(), names]
    return found.sort_values("place").reset_index(drop=True).drop(columns="place")


def _sorted(cells: pd.DataFrame) -> bool:
    """Whether cells stand in the order of image and cell: of many, sorting is a second copy."""
    image, cell = cells["image"].to_numpy(), cells["cell"].to_numpy()
    same = image[1:] == image[:-1]
    return bool(np.all(np.where(same, cell[1:] >= cell[:-1], image[1:] > image[:-1])))


def sheet_by_batch(images: pd.DataFrame) -> pd.DataFrame:
    """What the sample sheet says of each batch: ``condition, batch`` and the further columns.

    A column counts for a batch where all its sample images agree on it, else it is empty text.

    Examples
    --------
    >>> import pandas as pd
    >>> images = pd.DataFrame({"image": ["a", "b"], "condition": "", "batch": "d1",
    ...                        "role": "sample", "line": "H1", "well": ["A1", "A2"]})
    >>> sheet_by_batch(images).to_dict("records")
    [{'condition': '', 'batch': 'd1', 'line': 'H1', 'well': ''}]
    """
    rest = [c for c in images.columns if c not in ("image", *DESIGN)]
    sample = images.loc[images["role"] == "sample", ["condition", "batch", *rest]].copy()
    for column in rest:
        sample[column] = text(sample[column])
    keys = [sample["condition"], sample["batch"]]
    for column in rest:
        agreed = sample.groupby(keys)[column].transform("nunique") == 1
        sample[column] = sample[column].where(agreed, "")
    return sample.drop_duplicates(["condition", "batch"], ignore_index=True)


def _sheet(samples: pd.DataFrame) -> pd.DataFrame:
    if "file" not in samples.columns:
        raise IsletImagingError("the sample sheet has no column 'file'")
    images = samples.rename(columns={"file": "image"}).reset_index(drop=True)
    images["image"] = text(images["image"]).str.replace("\\", "/").str.removeprefix("./")
    if images["image"].duplicated().any():
        name = images.loc[images["image"].duplicated(), "image"].iloc[0]
        raise IsletImagingError(f"the sample sheet names {name!r} twice")
    return images
