"""Cells drawn for labelling, and fractions corrected by their labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from islet_imaging.errors import IsletImagingError
from islet_imaging.statistics import corrected_fractions, draw_validation, summarise
from islet_imaging.statistics.misclassification import LEAST_YOUDEN


def experiment(
    seed: int, *, batches: int = 4, share: float = 0.3, se: float = 0.9, sp: float = 0.92
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells with a hidden truth, called with known errors; and their sheet."""
    rng = np.random.default_rng(seed)
    parts = []
    for b in range(batches):
        n = 1200
        truth = rng.random(n) < share
        right = rng.random(n) < np.where(truth, se, sp)
        called = truth == right
        sure = rng.beta(12, 1, n)
        parts.append(
            pd.DataFrame(
                {
                    "image": f"b{b}.tif",
                    "islet": rng.integers(1, 11, n),
                    "cell": np.arange(1, n + 1),
                    "excluded": rng.random(n) < 0.05,
                    "INS_call": np.where(called, "positive", "negative"),
                    "INS_probability": np.where(called, sure, 1 - sure),
                    "truth": np.where(truth, "positive", "negative"),
                }
            )
        )
    sheet = pd.DataFrame({"file": [f"b{b}.tif" for b in range(batches)]})
    sheet["batch"] = [f"d{b}" for b in range(batches)]
    return pd.concat(parts, ignore_index=True), sheet


def labels_of(cells: pd.DataFrame, drawn: pd.DataFrame) -> pd.DataFrame:
    found = drawn.merge(cells[["image", "cell", "truth"]], on=["image", "cell"])
    return found.rename(columns={"truth": "label"}).assign(marker="INS")


def corrected(cells: pd.DataFrame, sheet: pd.DataFrame, labels: pd.DataFrame, **more: str) -> dict:
    summary = summarise(cells, sheet, markers=["INS"], **more)
    return corrected_fractions(summary, cells, labels).iloc[0].to_dict()


def test_the_draw_is_spread_over_strata_and_images_and_repeats() -> None:
    cells, _ = experiment(1)
    drawn = draw_validation(cells, "INS", n=400, seed=3)
    pd.testing.assert_frame_equal(drawn, draw_validation(cells, "INS", n=400, seed=3))
    assert not drawn.equals(draw_validation(cells, "INS", n=400, seed=4))
    assert len(drawn) == 400
    assert not drawn.duplicated().any()
    both = drawn.merge(cells, on=["image", "cell"])
    assert not both["excluded"].any()
    # the middle holds few cells and gives what it has; the rest is shared out evenly
    confident = (both["INS_probability"] > 0.95).sum(), (both["INS_probability"] < 0.05).sum()
    assert max(confident) - min(confident) <= 1
    assert both["image"].value_counts().min() > 60
    # an order that gives the call away would not be blind
    calls = (both["INS_call"] == "positive").to_numpy()
    assert np.count_nonzero(calls[1:] != calls[:-1]) > 100


def test_drawing_more_than_there_is_gives_every_cell_once() -> None:
    cells, _ = experiment(1, batches=1)
    drawn = draw_validation(cells, "INS", n=10**6)
    assert len(drawn) == (~cells["excluded"]).sum()
    assert not drawn.duplicated().any()
    inside = draw_validation(cells.assign(islet=[0, 1] * 600), "INS", n=10**6, denominator="islets")
    assert len(inside) == (~cells["excluded"][1::2]).sum()
    with pytest.raises(IsletImagingError, match="no counted cell"):
        draw_validation(cells.assign(excluded=True), "INS")


def test_a_stratified_draw_gives_back_the_error_rates_and_the_truth() -> None:
    found = []
    for seed in range(8):
        cells, sheet = experiment(seed)
        labels = labels_of(cells, draw_validation(cells, "INS", n=600, seed=seed))
        found.append(corrected(cells, sheet, labels))
    assert np.mean([f["sensitivity"] for f in found]) == pytest.approx(0.9, abs=0.015)
    assert np.mean([f["specificity"] for f in found]) == pytest.approx(0.92, abs=0.01)
    assert np.mean([f["raw_fraction"] for f in found]) == pytest.approx(0.326, abs=0.01)
    assert np.mean([f["fraction"] for f in found]) == pytest.approx(0.3, abs=0.012)
    assert all(f["status"] == "corrected" and f["interval"] == "over batches" for f in found)
    assert sum(f["ci_low"] <= 0.3 <= f["ci_high"] for f in found) >= 7


def test_unweighted_labels_of_doubtful_cells_would_mislead() -> None:
    """Why strata are weighted back: doubtful cells are drawn more often than they occur."""
    cells, sheet = experiment(2)
    doubtful = cells["INS_probability"].between(0.05, 0.95)
    drawn = pd.concat([cells[doubtful], cells[~doubtful].iloc[::20]])[["image", "cell"]]
    row = corrected(cells, sheet, labels_of(cells, drawn))
    assert row["sensitivity"] == pytest.approx(0.9, abs=0.05)
    assert row["fraction"] == pytest.approx(0.3, abs=0.04)


def test_one_batch_is_corrected_within_the_batch() -> None:
    cells, sheet = experiment(5, batches=1)
    row = corrected(cells, sheet, labels_of(cells, draw_validation(cells, "INS", n=500)))
    assert row["interval"] == "this batch only"
    assert row["status"] == "corrected"
    assert row["ci_low"] < row["fraction"] < row["ci_high"]
    assert row["ci_high"] - row["ci_low"] > row["raw_high"] - row["raw_low"]


def test_below_the_detection_limit_gives_an_upper_bound_only() -> None:
    cells, _ = experiment(7, share=0.0, sp=0.96)
    # the same stain on other material, where there are positive cells
    more, _ = experiment(8, share=0.5, sp=0.93)
    more["image"] = "x" + more["image"]
    whole = pd.concat([cells, more], ignore_index=True)
    sheet = pd.DataFrame({"file": whole["image"].unique()})
    sheet["batch"] = [f"d{k % 4}" for k in range(8)]
    sheet["condition"] = ["none"] * 4 + ["some"] * 4
    summary = summarise(whole, sheet, markers=["INS"])
    drawn = draw_validation(whole, "INS", n=2000)
    table = corrected_fractions(summary, whole, labels_of(whole, drawn))
    row = table.set_index("condition").loc["none"]
    assert row["status"] == "below the detection limit"
    assert row["fraction"] == row["ci_low"] == 0
    assert 0 < row["ci_high"] < 0.1


def test_refusals_say_why() -> None:
    cells, sheet = experiment(9, se=0.7, sp=0.7)
    labels = labels_of(cells, draw_validation(cells, "INS", n=500))
    row = corrected(cells, sheet, labels)
    assert row["sensitivity"] + row["specificity"] - 1 < LEAST_YOUDEN
    assert row["status"] == "refused"
    assert "carry too little" in row["note"]
    assert np.isnan(row["fraction"])
    one_kind = labels[labels["label"] == "positive"]
    assert "no labelled cell is negative" in corrected(cells, sheet, one_kind)["note"]
    stray = labels.assign(image="x" + labels["image"])
    assert "no labelled cell is a counted cell" in corrected(cells, sheet, stray)["note"]
    of_others = cells.assign(CHGA_call="positive", CHGA_probability=0.99)
    assert "CHGA" in corrected(of_others, sheet, labels, denominator="CHGA")["note"]
    one_islet = cells[cells["image"] == "b0.tif"].assign(islet=1)
    assert "no interval" in corrected(one_islet, sheet, labels)["note"]
    with pytest.raises(IsletImagingError, match="maybe"):
        corrected(cells, sheet, labels.assign(label="maybe"))


def test_raters_are_settled_by_majority() -> None:
    cells, sheet = experiment(3)
    labels = labels_of(cells, draw_validation(cells, "INS", n=500))
    flipped = labels.assign(label=np.where(labels["label"] == "positive", "negative", "positive"))
    raters = [labels.assign(rater="a"), labels.assign(rater="b"), flipped.assign(rater="c")]
    assert corrected(cells, sheet, pd.concat(raters)) == corrected(cells, sheet, labels)
    split = pd.concat([labels.assign(rater="a"), flipped.assign(rater="b")])
    assert corrected(cells, sheet, split)["status"] == "refused"


def test_unlabelled_strata_are_said() -> None:
    cells, sheet = experiment(3)
    sure = cells[(cells["INS_probability"] > 0.95) | (cells["INS_probability"] < 0.05)]
    row = corrected(cells, sheet, labels_of(cells, sure[["image", "cell"]]))
    assert "none was labelled" in row["note"]
