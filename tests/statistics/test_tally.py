"""Sums over cells: those of all images are the sums of some and of others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from islet_imaging.errors import IsletImagingError
from islet_imaging.statistics.tally import Tally, joined, tally
from tests.statistics.test_summary import make_cells


def assert_alike(one: Tally, two: Tally) -> None:
    pd.testing.assert_frame_equal(one.where, two.where)
    for marker, sums in one.sums.items():
        pd.testing.assert_frame_equal(sums, two.sums[marker], check_exact=True)
    assert one.classes.keys() == two.classes.keys()
    for kind, counts in one.classes.items():
        other = two.classes[kind]
        assert set(counts) == set(other)
        pd.testing.assert_frame_equal(counts, other[list(counts)])
    by = ["image", "code"]
    left = one.left_out.sort_values(by, ignore_index=True)
    pd.testing.assert_frame_equal(left, two.left_out.sort_values(by, ignore_index=True))
    assert (one.outside is None) == (two.outside is None)
    for marker, sums in (one.outside or {}).items():
        assert two.outside is not None
        pd.testing.assert_frame_equal(sums, two.outside[marker].sort_index())


@pytest.mark.parametrize("denominator", ["all", "islets", "GCG"])
def test_sums_of_images_join_to_those_of_all(denominator: str) -> None:
    cells = make_cells(3)
    cells["flags"] = np.where(cells["excluded"], "border;pyknotic", "")
    cells["phenotype"] = np.where(cells["image"].str.contains("drug"), "rare", cells["phenotype"])
    cells["region"] = np.where(cells["islet"] == 3, "outside", "A")
    parts = [tally(own, markers=["INS", "GCG"], denominator=denominator)
             for _, own in sorted(cells.groupby("image"), reverse=True)]  # fmt: skip
    # an image without a cell says nothing of phenotypes
    parts.append(tally(cells[:0], markers=["INS", "GCG"], denominator=denominator))
    whole = tally(cells, markers=["INS", "GCG"], denominator=denominator)
    assert_alike(whole, joined(parts))
    assert int(whole.where["n_cells"].sum()) == int(
        (~cells["excluded"] & (cells["region"] != "outside")).sum()
    )
    assert whole.left_out.groupby("code")["n"].sum().tolist() == [int(cells["excluded"].sum())] * 2


def test_regions_in_some_images_only() -> None:
    cells = make_cells(4)
    drawn, plain = (own for _, own in cells.groupby(cells["condition"] == "drug"))
    both = joined([
        tally(plain, markers=["INS"]), tally(drawn.assign(region="outside"), markers=["INS"])
    ])  # fmt: skip
    assert both.outside is not None
    assert set(both.outside["INS"].index) == set(drawn["image"])
    kept = both.where.groupby("image")[["n_cells", "n_kept"]].sum()
    assert (kept.loc[drawn["image"].unique(), "n_cells"] == 0).all()
    assert (kept["n_kept"] > 0).all()


def test_a_cell_that_occurs_twice_is_named() -> None:
    cells = make_cells()
    with pytest.raises(IsletImagingError, match=r"control_0_0\.tif' occurs twice"):
        tally(pd.concat([cells, cells[:1]]), markers=["INS"])
