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


def stated(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per image with what columns of the cells table say of it, in place of a sheet.

    Raises
    ------
    IsletImagingError
        If the cells of one image say different things.
    """
    known = [c for c in DESIGN if c in cells.columns]
    images = cells[["image", *known]].astype({"image": str}).drop_duplicates()
    images = images.sort_values("image", kind="stable").reset_index(drop=True)
    if images["image"].duplicated().any():
        name = images.loc[images["image"].duplicated(), "image"].iloc[0]
        raise IsletImagingError(f"image {name!r} has more than one condition, batch or role")
    return images


def lay_over(where: pd.DataFrame, images: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Say of places and images what condition and batch they belong to.

    Parameters
    ----------
    where : DataFrame
        `islet_imaging.statistics.tally.Tally.where`.
    images : DataFrame
        Of `stated`, or of `of_sheet`.

    Returns
    -------
    tuple of DataFrame
        ``where`` with ``condition, batch, role``, ``unit``, which names the physical islet, or the
        image for cells outside islets, and ``islet_key``, the same but empty there; and one row
        per image: ``image, condition, batch, role`` and the sheet's other columns.  Batches nobody
        stated are empty text.

    Raises
    ------
    IsletImagingError
        If an image is not in the sheet.

    Examples
    --------
    >>> import pandas as pd
    >>> images = pd.DataFrame({"image": ["a"], "batch": "d1"})
    >>> where = pd.DataFrame({"image": "a", "islet": [0, 1]})
    >>> lay_over(where, images)[0][["batch", "unit", "islet_key"]].values.tolist()
    [['d1', 'a', ''], ['d1', 'a#1', 'a#1']]
    """
    import pandas as pd

    stray = sorted(set(where["image"]) - set(images["image"]))
    if stray:
        raise IsletImagingError(
            f"{len(stray)} scored image(s) are not in the sample sheet, first {stray[0]!r}: "
            "add a row, with `file` as the path relative to the scored folder"
        )
    images, where = images.copy(), where.copy()
    for column, default in zip(DESIGN, (ONE_CONDITION, UNKNOWN_BATCH, "sample"), strict=True):
        value = text(images[column]) if column in images else pd.Series("", index=images.index)
        images[column] = value.where(value != "", default)
    rest = [c for c in images.columns if c not in ("image", *DESIGN)]
    images = images[["image", *DESIGN, *rest]]
    by_image = images.set_index("image")
    for column in DESIGN:
        where[column] = where["image"].map(by_image[column])
    own = where["image"] + "#" + where["islet"].astype(str)
    if "islet" in rest:
        # the sheet names a physical islet that several images (serial sections) may show
        named = where["image"].map(text(by_image["islet"]))
        own = own.where(named == "", where["batch"] + "/" + named)
    inside = (where["islet"] > 0).to_numpy()
    where["unit"] = np.where(inside, own, where["image"])
    where["islet_key"] = np.where(inside, own, "")
    return where, images


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


def of_sheet(samples: pd.DataFrame) -> pd.DataFrame:
    """The rows of a sample sheet by image, names as in the tables."""
    if "file" not in samples.columns:
        raise IsletImagingError("the sample sheet has no column 'file'")
    images = samples.rename(columns={"file": "image"}).reset_index(drop=True)
    images["image"] = text(images["image"]).str.replace("\\", "/").str.removeprefix("./")
    if images["image"].duplicated().any():
        name = images.loc[images["image"].duplicated(), "image"].iloc[0]
        raise IsletImagingError(f"the sample sheet names {name!r} twice")
    return images
