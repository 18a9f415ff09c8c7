"""The design of the experiment: which cell belongs to which islet, image, batch and condition.

The idea: the sample sheet is joined to the cells once, the physical islet (not the image) becomes
the unit within a batch, and what is not stated is marked as unknown rather than guessed: an image
without a batch makes its condition descriptive.  It fails where the sheet is wrong; no statistics
can see two wells of one differentiation entered as two batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Design:
    """Cells, and where each of them belongs.

    Attributes
    ----------
    cells : DataFrame
        The cells of each image together, in the order of their numbers.
    place : ndarray of int, shape (cells,)
        Each cell's row of ``where``.
    where : DataFrame
        A row for each islet of each image, and for the cells of an image outside islets (islet 0),
        in order: ``image, islet, condition, batch, role``, ``unit``, which names the physical
        islet, or the image for cells outside islets, and ``islet_key``, the same but empty there.
    images : DataFrame
        One row per image: ``image, condition, batch, role`` and the sheet's other columns.
        Batches nobody stated are empty text.
    """

    cells: pd.DataFrame
    place: NDArray[np.intp]
    where: pd.DataFrame
    images: pd.DataFrame

    def of_samples(self) -> NDArray[np.bool_]:
        """Which cells are of images of role ``sample``, shape (cells,)."""
        sample: NDArray[np.bool_] = (self.where["role"] == "sample").to_numpy(dtype=bool)
        return sample[self.place]


def join(cells: pd.DataFrame, samples: pd.DataFrame | None) -> Design:
    """Lay the sample sheet over the cells.

    Parameters
    ----------
    cells : DataFrame
        Cells table; columns ``image``, ``islet``, ``cell`` and ``excluded`` are needed.
    samples : DataFrame or None
        Sample sheet with ``file`` and any of ``condition, batch, role`` and more columns.  With
        None, columns of these names in ``cells`` are used, if there are any.

    Returns
    -------
    Design

    Raises
    ------
    IsletImagingError
        If columns are missing, a cell occurs twice, or an image is not in the sheet.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"image": "a", "islet": [1, 1, 0], "cell": [1, 2, 3],
    ...                       "excluded": False})
    >>> design = join(cells, None)
    >>> design.where[["islet", "islet_key"]].values.tolist(), design.place.tolist()
    ([[0, ''], [1, 'a#1']], [1, 1, 0])
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
    # of many cells sorting is a second copy
    if not _together(cells):
        cells = cells.sort_values(["image", "cell"], kind="stable")
    if cells["excluded"].isna().any():
        raise IsletImagingError("the column 'excluded' of the cells table has empty entries")

    if samples is None:
        known = [c for c in DESIGN if c in cells.columns]
        images = cells[["image", *known]].drop_duplicates()
        images = images.sort_values("image", kind="stable").reset_index(drop=True)
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

    of = cells.groupby(["image", "islet"], sort=True, dropna=False)
    place = np.asarray(of.ngroup(), dtype=np.intp)
    where = cells.loc[~pd.Series(place).duplicated().to_numpy(), ["image", "islet"]]
    where = where.sort_values(["image", "islet"]).reset_index(drop=True)
    by_image = images.set_index("image")
    for column in DESIGN:
        where[column] = where["image"].map(by_image[column])
    own = where["image"] + "#" + where["islet"].astype(str)
    if "islet" in rest:
        # the sheet names a physical islet that several images (serial sections) may show
        stated = where["image"].map(text(by_image["islet"]))
        own = own.where(stated == "", where["batch"] + "/" + stated)
    inside = (where["islet"] > 0).to_numpy()
    where["unit"] = np.where(inside, own, where["image"])
    where["islet_key"] = np.where(inside, own, "")
    return Design(cells, place, where, images)


def _together(cells: pd.DataFrame) -> bool:
    """Whether the cells of each image stand together, in the order of their numbers."""
    image, cell = cells["image"].to_numpy(), cells["cell"].to_numpy()
    same = image[1:] == image[:-1]
    in_order = bool(np.all(cell[1:][same] >= cell[:-1][same]))
    return in_order and int((~same).sum()) + 1 == cells["image"].nunique()


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
