"""What the cells of images add up to, islet by islet: all that a summary is made of.

The idea: every number of a summary is a sum over cells, so cells are added up image by image,
wherever they are, and a run of a million cells never has them in one table.  Sums of some images
and of others are put together by `joined`; nothing is lost by it but the cells.
It fails where one image is added up twice: its cells then count twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from islet_imaging.errors import IsletImagingError
from islet_imaging.statistics.composition import hormone_number
from islet_imaging.statistics.counting import SUMS, countable, weigh
from islet_imaging.terms import NOT_COUNTED, OUTSIDE

if TYPE_CHECKING:
    import pandas as pd

#: cells that are weighed at a time
AT_ONCE = 65_536


@dataclass(frozen=True)
class Tally:
    """Sums over the cells of images.

    Attributes
    ----------
    where : DataFrame
        A row for each islet of each image, and for the cells of an image outside islets (islet 0),
        in order: ``image, islet``, ``n_cells`` that count, ``n_kept`` that are not excluded, and
        ``n_excluded``.
    sums : mapping of str to DataFrame
        For each marker, a row for each of ``where``: columns `islet_imaging.statistics.counting`
        ``.SUMS``.
    classes : mapping of str to DataFrame
        For each kind of class ("phenotype", "hormones"), likewise: how many cells of each class.
    left_out : DataFrame
        ``image, code, n``: excluded cells by what is said of them.
    outside : mapping of str to DataFrame, or None
        For each marker, by image: sums over the cells outside of drawn islets; None where none
        were drawn.
    denominator : str
        What the sums are of.
    """

    where: pd.DataFrame
    sums: Mapping[str, pd.DataFrame]
    classes: Mapping[str, pd.DataFrame]
    left_out: pd.DataFrame
    outside: Mapping[str, pd.DataFrame] | None
    denominator: str


def tally(cells: pd.DataFrame, *, markers: Sequence[str], denominator: str = "all") -> Tally:
    """Add up the cells of images.

    Parameters
    ----------
    cells, markers, denominator
        As in `summarise`.

    Returns
    -------
    Tally

    Raises
    ------
    IsletImagingError
        If columns are missing, calls are not what they may be, or a cell occurs twice.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"image": "a", "islet": [1, 1, 0], "cell": [1, 2, 3],
    ...                       "excluded": False, "INS_call": ["positive", "negative", "negative"],
    ...                       "INS_probability": [0.9, 0.1, 0.1]})
    >>> found = tally(cells, markers=["INS"])
    >>> found.where["islet"].tolist(), found.sums["INS"]["n_positive"].tolist()
    ([0, 1], [0.0, 1.0])
    """
    import pandas as pd

    cells = _checked(cells)
    of = cells.groupby(["image", "islet"], sort=True, dropna=False)
    place = np.asarray(of.ngroup(), dtype=np.intp)
    where = cells.loc[~pd.Series(place).duplicated().to_numpy(), ["image", "islet"]]
    where = where.sort_values(["image", "islet"]).reset_index(drop=True)
    gone, counted = cells["excluded"].to_numpy(dtype=bool), countable(cells)

    def number(some: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(place[some], minlength=len(where)).astype(np.int64)

    where = where.assign(n_cells=number(counted), n_kept=number(~gone), n_excluded=number(gone))
    outside = None
    if "region" in cells:
        apart = cells[(cells["region"] == OUTSIDE) & ~gone].drop(columns="region")
        outside = {m: weigh(apart, m, "all").groupby(apart["image"]).sum() for m in markers}
    return Tally(
        where,
        {m: _sums(cells, m, denominator, place, len(where)) for m in markers},
        _classes(cells, counted, denominator, place, len(where)),
        _left_out(cells[gone]),
        outside,
        denominator,
    )


def joined(parts: Sequence[Tally]) -> Tally:
    """The sums over all images from those of some and of others.

    Parameters
    ----------
    parts : sequence of Tally
        At least one, each of other images, with the same markers and denominator.

    Returns
    -------
    Tally
    """
    import pandas as pd

    where = pd.concat([p.where for p in parts], ignore_index=True)
    order = np.lexsort((where["islet"], where["image"]))

    def in_order(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
        return pd.concat(tables, ignore_index=True).iloc[order].reset_index(drop=True)

    classes = {}
    for kind in dict.fromkeys(k for p in parts for k in p.classes):
        none = [pd.DataFrame(index=range(len(p.where))) for p in parts]
        of = in_order([p.classes.get(kind, n) for p, n in zip(parts, none, strict=True)])
        classes[kind] = of.fillna(0).astype(np.int64)
    drawn = [p.outside for p in parts if p.outside is not None]
    return Tally(
        where.iloc[order].reset_index(drop=True),
        {m: in_order([p.sums[m] for p in parts]) for m in parts[0].sums},
        classes,
        pd.concat([p.left_out for p in parts], ignore_index=True),
        {m: pd.concat([o[m] for o in drawn]) for m in parts[0].sums} if drawn else None,
        parts[0].denominator,
    )


def _checked(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of which each occurs once; those of an image together, in the order of their numbers.

    Sums of numbers depend on their order, in the last digit.
    """
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
    if cells["excluded"].isna().any():
        raise IsletImagingError("the column 'excluded' of the cells table has empty entries")
    # of many cells sorting is a second copy
    return cells if _together(cells) else cells.sort_values(["image", "cell"], kind="stable")


def _together(cells: pd.DataFrame) -> bool:
    """Whether the cells of each image stand together, in the order of their numbers."""
    image, cell = cells["image"].to_numpy(), cells["cell"].to_numpy()
    same = image[1:] == image[:-1]
    in_order = bool(np.all(cell[1:][same] >= cell[:-1][same]))
    return in_order and int((~same).sum()) + 1 == cells["image"].nunique()


def _sums(
    cells: pd.DataFrame, marker: str, denominator: str, place: NDArray[np.intp], n: int
) -> pd.DataFrame:
    """What the cells of each place add to the counts of a marker."""
    import pandas as pd

    sums = np.zeros((n, len(SUMS)))
    # what each cell adds is a table as wide as the cells': never of all at once
    for start in range(0, len(cells), AT_ONCE):
        there, own = np.unique(place[start : start + AT_ONCE], return_inverse=True)
        weights = weigh(cells.iloc[start : start + AT_ONCE], marker, denominator)
        for k, name in enumerate(SUMS):
            sums[there, k] += np.bincount(own, weights[name])
    return pd.DataFrame(sums, columns=list(SUMS))


def _classes(
    cells: pd.DataFrame,
    counted: NDArray[np.bool_],
    denominator: str,
    place: NDArray[np.intp],
    n: int,
) -> dict[str, pd.DataFrame]:
    """How many cells of each phenotype, and with each number of hormones, lie in each place."""
    import pandas as pd

    if denominator == "islets":
        counted = counted & (cells["islet"].to_numpy() > 0)
    kinds: dict[str, pd.Series] = {}
    if "phenotype" in cells.columns:
        named = cells["phenotype"].astype("string").fillna("").astype(object)
        kinds["phenotype"] = named.where(named != "", "not called")
    number = hormone_number(cells)
    if (number != "").any():
        kinds["hormones"] = number
    found = {}
    for kind, classes in kinds.items():
        codes, names = pd.factorize(classes[counted], sort=True)
        of = np.bincount(place[counted] * len(names) + codes, minlength=n * len(names))
        found[kind] = pd.DataFrame(of.reshape(n, len(names)), columns=list(names))
    return found


def _left_out(excluded: pd.DataFrame) -> pd.DataFrame:
    """Excluded cells by image and reason."""
    import pandas as pd

    if "flags" not in excluded:
        return pd.DataFrame({"image": [], "code": [], "n": []})
    said = excluded["flags"].fillna("").astype(str).str.split(";")
    each = pd.DataFrame({"image": excluded["image"], "code": said}).explode("code")
    each = each[each["code"].isin(NOT_COUNTED)]
    return each.groupby(["image", "code"]).size().rename("n").reset_index()
