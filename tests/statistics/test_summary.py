"""The tables of a run: exact columns, what counts, and what a sentence must say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.errors import IsletImagingError
from islet_imaging.statistics import Summary, summarise


def make_cells(seed: int = 0, batches: int = 3, islets: int = 4, size: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for condition, share in (("control", 0.3), ("drug", 0.5)):
        for b in range(batches):
            for image in range(2):
                for islet in range(islets):
                    p = np.clip(share + rng.normal(0, 0.1), 0.02, 0.98)
                    rows += [(condition, f"d{b}", f"{condition}_{b}_{image}.tif", islet, p)] * size
    table = pd.DataFrame(rows, columns=["condition", "batch", "image", "islet", "p"])
    table["cell"] = table.groupby("image").cumcount() + 1
    for marker in ("INS", "GCG"):
        chance = table["p"] if marker == "INS" else 0.2
        truth = rng.random(len(table)) < chance
        probability = np.clip(np.where(truth, 0.9, 0.1) + rng.normal(0, 0.05, len(table)), 0, 1)
        call = np.select([probability > 0.8, probability < 0.2], ["positive", "negative"], "unsure")
        table[f"{marker}_probability"] = probability
        table[f"{marker}_call"] = call
    table["excluded"] = rng.random(len(table)) < 0.05
    table["phenotype"] = np.where(table["INS_call"] == "positive", "INS", "other")
    return table.drop(columns="p")


def split(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    sheet = (
        table[["image", "condition", "batch"]].drop_duplicates().rename({"image": "file"}, axis=1)
    )
    return table.drop(columns=["condition", "batch"]), sheet.assign(role="sample")


def test_columns_are_those_of_the_run_folder() -> None:
    cells, sheet = split(make_cells())
    s = summarise(cells, sheet, markers=["INS", "GCG"])
    assert list(s.conditions) == (
        [
            "condition",
            "marker",
            "status",
            "n_batches",
            "n_islets",
            "n_cells",
            "n_unsure",
            "n_excluded",
            "fraction",
            "fraction_low",
            "fraction_high",
            "ci_low",
            "ci_high",
            "interval",
            "note",
        ]
    )
    assert list(s.batches) == (
        [
            "condition",
            "batch",
            "marker",
            "n_islets",
            "n_cells",
            "n_positive",
            "n_unsure",
            "fraction",
            "fraction_low",
            "fraction_high",
        ]
    )
    three = [f"{m}_fraction{e}" for m in ("INS", "GCG") for e in ("", "_low", "_high")]
    assert list(s.images) == ["image", "condition", "batch", "role", "n_cells", "n_islets", *three]
    assert list(s.islets) == ["image", "islet", "n_cells", *three]
    assert len(s.conditions) == 4
    assert len(s.batches) == 12
    # islet 0 is outside any islet
    assert (s.islets["islet"] > 0).all()
    assert s.conditions["n_islets"].tolist() == [18] * 4


def test_headline_can_be_reproduced_from_the_cells() -> None:
    table = make_cells(1)
    cells, sheet = split(table)
    s = summarise(cells, sheet, markers=["INS"])
    live = table[~table["excluded"]]
    weight = live["INS_call"].map({"positive": 1.0, "negative": 0.0, "unsure": np.nan})
    weight = weight.fillna(live["INS_probability"])
    by_batch = weight.groupby([live["condition"], live["batch"]]).mean()
    got = s.batches.set_index(["condition", "batch"])["fraction"]
    np.testing.assert_allclose(got, by_batch.loc[got.index])
    by_condition = by_batch.groupby("condition").mean()
    headline = s.conditions.set_index("condition")["fraction"]
    np.testing.assert_allclose(headline, by_condition.loc[headline.index])
    low = (live["INS_call"] == "positive").groupby([live["condition"], live["batch"]]).mean()
    np.testing.assert_allclose(s.batches["fraction_low"], low.loc[got.index])
    high = (live["INS_call"] != "negative").groupby([live["condition"], live["batch"]]).mean()
    np.testing.assert_allclose(s.batches["fraction_high"], high.loc[got.index])


def test_order_of_rows_changes_no_bit() -> None:
    cells, sheet = split(make_cells(2))
    one = summarise(cells, sheet, markers=["INS", "GCG"])
    # whole images in another order, as a sheet may have them, then any order
    by_image = pd.concat([c for _, c in sorted(cells.groupby("image"), reverse=True)])
    shuffled = cells.sample(frac=1, random_state=1)
    for other in (by_image, shuffled):
        two = summarise(other, sheet, markers=["INS", "GCG"])
        assert_same(one, two)


def test_many_cells_are_weighed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, sheet = split(make_cells(2))
    one = summarise(cells, sheet, markers=["INS"], denominator="GCG")
    monkeypatch.setattr("islet_imaging.statistics.tally.AT_ONCE", 70)
    two = summarise(cells, sheet, markers=["INS"], denominator="GCG")
    pd.testing.assert_frame_equal(one.counts, two.counts, check_exact=False, rtol=1e-12)
    assert one.conditions["n_cells"].tolist() == two.conditions["n_cells"].tolist()


def assert_same(one: Summary, two: Summary) -> None:
    for name in ("conditions", "batches", "images", "islets", "levels", "phenotypes", "counts"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name), check_exact=True)


def test_only_samples_enter_batches_but_controls_have_image_rows() -> None:
    cells, sheet = split(make_cells())
    without = summarise(cells, sheet, markers=["INS"])
    # by its name before the samples
    control = cells[cells["image"] == "control_0_0.tif"].assign(image="a_neg.tif")
    row = pd.DataFrame({"file": ["a_neg.tif"], "batch": ["d0"], "role": ["negative_control"]})
    s = summarise(pd.concat([cells, control]), pd.concat([sheet, row]), markers=["INS"])
    pd.testing.assert_frame_equal(s.conditions, without.conditions)
    pd.testing.assert_frame_equal(s.batches, without.batches)
    pd.testing.assert_frame_equal(s.phenotypes, without.phenotypes)
    pd.testing.assert_frame_equal(s.levels, without.levels)
    assert "a_neg.tif" in set(s.images["image"])


def test_intervals_say_what_they_are() -> None:
    table = make_cells(batches=3)
    cells, sheet = split(table)
    assert set(summarise(cells, sheet, markers=["INS"]).conditions["interval"]) == {"over batches"}
    one = summarise(cells, sheet.assign(batch="d0"), markers=["INS"]).conditions
    assert set(one["interval"]) == {"this batch only"}
    assert one["note"].str.contains("one batch").all()
    none = summarise(cells, markers=["INS"]).conditions
    assert none["interval"].str.contains("batches unknown").all()
    assert none["n_batches"].tolist() == [1]
    assert none["note"].str.contains("not stated").all()
    # a batch that nobody stated is no replicate
    gap = sheet.assign(batch=sheet["batch"].replace("d1", ""))
    gapped = summarise(cells, gap, markers=["INS"]).conditions
    assert gapped["interval"].str.contains("batches unknown").all()


def test_interval_over_batches_ignores_the_number_of_cells() -> None:
    cells, sheet = split(make_cells())
    many = pd.concat([cells, cells.assign(cell=cells["cell"] + 10_000)])
    a = summarise(cells, sheet, markers=["INS"]).conditions
    b = summarise(many, sheet, markers=["INS"]).conditions
    np.testing.assert_allclose(a["ci_high"] - a["ci_low"], b["ci_high"] - b["ci_low"], rtol=0.05)


def test_denominators() -> None:
    table = make_cells(3)
    cells, sheet = split(table)
    inside = summarise(cells, sheet, markers=["INS"], denominator="islets")
    expected = summarise(cells[cells["islet"] > 0], sheet, markers=["INS"])
    np.testing.assert_allclose(inside.conditions["fraction"], expected.conditions["fraction"])
    sure = cells[(cells["GCG_call"] != "unsure") & (cells["INS_call"] != "unsure")]
    of_gcg = summarise(sure, sheet, markers=["INS"], denominator="GCG")
    expected = summarise(sure[sure["GCG_call"] == "positive"], sheet, markers=["INS"])
    columns = ["n_cells", "n_positive", "fraction", "fraction_low", "fraction_high"]
    pd.testing.assert_frame_equal(of_gcg.batches[columns], expected.batches[columns])


def test_serial_sections_of_one_islet_are_one_islet() -> None:
    cells, sheet = split(make_cells(islets=2))
    named = summarise(cells, sheet.assign(islet="A"), markers=["INS"])
    assert named.batches["n_islets"].tolist() == [1] * 6
    assert summarise(cells, sheet, markers=["INS"]).batches["n_islets"].tolist() == [2] * 6


def test_cells_without_probability_widen_the_bounds_only() -> None:
    cells, sheet = split(make_cells())
    lost = cells.copy()
    lost.loc[::10, ["INS_call", "INS_probability"]] = ["unsure", np.nan]
    s = summarise(lost, sheet, markers=["INS"])
    b = s.batches
    assert (b["fraction_low"] <= b["fraction"]).all()
    assert (b["fraction"] <= b["fraction_high"]).all()
    assert s.conditions["note"].str.contains("no probability").all()


def test_marker_that_could_not_be_called_has_no_fraction() -> None:
    cells, sheet = split(make_cells())
    s = summarise(cells.assign(INS_call="unsure", INS_probability=np.nan), sheet, markers=["INS"])
    assert s.conditions["fraction"].isna().all()
    assert (s.batches["fraction_low"] == 0).all()
    assert (s.batches["fraction_high"] == 1).all()
    assert set(s.conditions["interval"]) == {"none"}


def test_weighting_by_islet_is_named_when_it_matters() -> None:
    cells = pd.DataFrame({"image": "a", "islet": [1] * 100 + [2] * 10 + [3] * 10})
    cells["cell"] = np.arange(len(cells)) + 1
    cells["excluded"] = False
    cells["INS_call"] = np.where(cells["islet"] == 1, "positive", "negative")
    cells["INS_probability"] = 0.5
    note = summarise(cells, markers=["INS"]).conditions["note"].iloc[0]
    assert "33.3 % where every islet weighs the same" in note


def test_none_seen_is_never_zero_without_a_bound() -> None:
    cells, sheet = split(make_cells())
    s = summarise(cells.assign(INS_call="negative"), sheet, markers=["INS"]).conditions
    assert (s["fraction"] == 0).all()
    assert (s["ci_high"] > 0.005).all()
    assert s["note"].str.contains("cannot be excluded").all()


def test_phenotypes_add_up() -> None:
    cells, sheet = split(make_cells())
    p = summarise(cells, sheet, markers=["INS", "GCG"]).phenotypes
    total = p.groupby(["condition", "kind"])["fraction"].sum()
    np.testing.assert_allclose(total, 1.0)
    assert set(p["kind"]) == {"phenotype", "hormones"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, s: (c.drop(columns="INS_call"), s), "INS_call"),
        (lambda c, s: (c.assign(INS_call="maybe"), s), "maybe"),
        (lambda c, s: (c.assign(INS_call="unsure", INS_probability=7.0), s), "0 to 1"),
        (lambda c, s: (c, s.iloc[1:]), "not in the sample sheet"),
        (lambda c, s: (pd.concat([c, c]), s), "twice"),
        (lambda c, s: (c, pd.concat([s, s])), "twice"),
        (lambda c, s: (c, s.drop(columns="file")), "file"),
    ],
)
def test_bad_tables_are_named(change: Any, message: str) -> None:
    cells, sheet = change(*split(make_cells()))
    with pytest.raises(IsletImagingError, match=message):
        summarise(cells, sheet, markers=["INS"])


def test_level_in_percent_is_refused() -> None:
    cells, sheet = split(make_cells())
    with pytest.raises(IsletImagingError, match="level"):
        summarise(cells, sheet, markers=["INS"], level=95)


def test_no_cells_at_all() -> None:
    cells, sheet = split(make_cells())
    s = summarise(cells.iloc[:0], sheet, markers=["INS"])
    assert s.conditions["fraction"].isna().all()
    assert s.conditions["note"].str.contains("no cell").all()
    assert len(s.images) == len(sheet)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), denominator=st.sampled_from(["all", "islets", "GCG"]))
def test_bounds_hold_at_every_level(seed: int, denominator: str) -> None:
    rng = np.random.default_rng(seed)
    cells, sheet = split(make_cells(seed, batches=2, islets=3, size=int(rng.integers(1, 6))))
    s = summarise(cells, sheet, markers=["INS"], denominator=denominator)
    for table, prefix in ((s.batches, ""), (s.images, "INS_"), (s.islets, "INS_")):
        low, mid, high = (table[f"{prefix}fraction{e}"] for e in ("_low", "", "_high"))
        ok = mid.notna()
        assert ((low <= mid + 1e-12) & (mid <= high + 1e-12))[ok].all()
        assert ((low >= 0) & (high <= 1))[ok].all()
    c = s.conditions.dropna(subset=["ci_low"])
    assert (c["ci_low"] <= c["fraction"]).all()
    assert (c["fraction"] <= c["ci_high"]).all()


def test_batches_numbered_in_a_sheet_with_gaps_are_names() -> None:
    """A column of numbers with an empty cell is read as 1.0, 2.0; that is batch "1" and "2"."""
    cells, sheet = split(make_cells())
    number = sheet["batch"].str[1:].astype(float)
    control = cells[cells["image"] == "control_0_0.tif"].assign(image="neg.tif")
    row = pd.DataFrame({"file": ["neg.tif"], "role": ["negative_control"]})
    numbered = pd.concat([sheet.assign(batch=number), row])
    s = summarise(pd.concat([cells, control]), numbered, markers=["INS"])
    assert s.batches["batch"].tolist() == ["0", "1", "2"] * 2
    assert set(s.conditions["interval"]) == {"over batches"}


def test_other_types_of_columns_give_the_same() -> None:
    cells, sheet = split(make_cells())
    plain = summarise(cells, sheet, markers=["INS"]).conditions
    typed = cells.assign(
        image=cells["image"].astype("category"), INS_call=cells["INS_call"].astype("category")
    )
    pd.testing.assert_frame_equal(summarise(typed, sheet, markers=["INS"]).conditions, plain)
