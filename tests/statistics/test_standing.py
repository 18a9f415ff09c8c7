"""No number without standing: nothing prints a single % from cells that are mostly unsure."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.protocol import Channel, Protocol
from islet_imaging.report.data import ReportData
from islet_imaging.report.result import headline
from islet_imaging.statistics import compare_conditions, summarise, variance_table
from islet_imaging.statistics.counting import OPEN_WIDTH, enough

PROTOCOL = Protocol((Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")))


def table_of(
    seed: int, shares: dict[tuple[str, str], float], positive: float, islets: int = 3
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells of batches with a stated share of unsure ones, which may lack a probability."""
    rng = np.random.default_rng(seed)
    parts = []
    for (condition, batch), unsure in shares.items():
        n = int(rng.integers(30, 120))
        kind = rng.random(n)
        call = np.where(kind < unsure, "unsure", "negative").astype(object)
        sure = call != "unsure"
        call[sure] = np.where(rng.random(sure.sum()) < positive, "positive", "negative")
        probability = np.select([call == "positive", call == "negative"], [0.95, 0.05], 0.5)
        if rng.random() < 0.5:
            probability[call == "unsure"] = np.nan
        part = {
            "INS_call": call,
            "INS_probability": probability,
            "islet": rng.integers(0, islets, n),
        }
        part |= {"GCG_call": "negative", "GCG_probability": 0.05}
        parts.append(pd.DataFrame(part).assign(image=f"{condition}{batch}", cell=np.arange(n) + 1))
    cells = pd.concat(parts, ignore_index=True)
    cells["excluded"] = rng.random(len(cells)) < 0.05
    cells["flags"] = np.where(cells["excluded"], "border", "")
    ins = cells["INS_call"].map({"positive": "INS+", "negative": "negative", "unsure": "unsure"})
    sheet = pd.DataFrame(
        [{"file": f"{c}{b}", "condition": c, "batch": b} for c, b in shares], dtype=object
    )
    return cells.assign(phenotype=ins), sheet


def printed(summary: Any) -> str:
    """What shell and report say of a summary's rows."""
    from islet_imaging.cli import score

    lines: list[str] = []
    images = pd.DataFrame({"image": [], "status": [], "message": []})
    run = SimpleNamespace(summary=summary.conditions, images=images, path=SimpleNamespace())
    run.path = type("P", (), {"__truediv__": lambda self, other: other})()
    keep, score.say = score.say, lines.append
    try:
        score.tell_result(run)
    finally:
        score.say = keep
    data = ReportData(
        protocol=PROTOCOL, summary=summary.conditions, batches=summary.batches,
        images=summary.images, islets=summary.islets, cells=pd.DataFrame(),
    )  # fmt: skip
    return "\n".join(lines) + re.sub(r"<svg.*?</svg>|<[^>]*>", " ", headline(data), flags=re.S)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    open_shares=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=4),
    positive=st.floats(0.0, 1.0),
)
def test_no_path_gives_one_number_for_open_cells(
    seed: int, open_shares: list[float], positive: float
) -> None:
    shares = {("a", f"d{k}"): s for k, s in enumerate(open_shares)}
    shares |= {("b", f"d{k}"): 0.0 for k in range(2)}
    cells, sheet = table_of(seed, shares, positive)
    s = summarise(cells, sheet, markers=["INS", "GCG"])
    live = cells[~cells["excluded"]]
    unsure = (live["INS_call"] == "unsure").groupby(live["image"]).mean()
    for table, prefix in ((s.batches, ""), (s.images, "INS_"), (s.islets, "INS_")):
        width = table[f"{prefix}fraction_high"] - table[f"{prefix}fraction_low"]
        known = table[f"{prefix}fraction"].notna()
        assert (width[known] <= OPEN_WIDTH + 1e-6).all()
        low, high = (table.loc[known, f"{prefix}fraction_{k}"] for k in ("low", "high"))
        assert table.loc[known, f"{prefix}fraction"].between(low - 1e-9, high + 1e-9).all()
    of_a = unsure[[f"a{b}" for (c, b) in shares if c == "a"]]
    row = s.conditions.set_index(["condition", "marker"]).loc[("a", "INS")]
    standing = enough(int((of_a <= OPEN_WIDTH + 1e-9).sum()), len(of_a))
    assert (row["status"] == "estimated") == standing
    assert np.isfinite(row["fraction"]) == standing
    if not standing:
        assert not np.isfinite(row["ci_low"])
        found = compare_conditions(s, markers=["INS"]).iloc[0]
        assert "refused" in found["note"]
        assert not np.isfinite(found["effect_pp"])
        assert not np.isfinite(found["p"])
        assert "not estimable" in row["note"]
        text = printed(s)
        assert "a: INS not estimable (between" in text
        assert re.search(r"In\s+a\s*, the share of INS-positive cells is\s+not estimable", text)
        assert not re.search(r"a: INS \d", text)
    if (live.loc[live["image"].str.startswith("a"), "INS_call"] == "unsure").mean() > OPEN_WIDTH:
        kinds = s.phenotypes[(s.phenotypes["condition"] == "a")]
        kinds = kinds[(kinds["kind"] == "phenotype") & (kinds["class"] != "unsure")]
        assert kinds["fraction"].isna().all()


def test_a_batch_that_is_open_is_left_out_with_a_word() -> None:
    shares = {("a", "d0"): 0.0, ("a", "d1"): 0.05, ("a", "d2"): 0.9}
    cells, sheet = table_of(3, shares, 0.4)
    s = summarise(cells, sheet, markers=["INS"])
    row = s.conditions.iloc[0]
    assert row["status"] == "estimated"
    assert row["n_batches"] == 2
    assert "batch d2 is left out: not estimable" in row["note"]
    assert set(s.counts["batch"]) == {"d0", "d1"}
    assert variance_table(s).iloc[0]["n_batches"] == 2
    assert row["fraction"] == pytest.approx(s.batches["fraction"].mean())


def test_what_is_left_out_is_counted_with_the_reason() -> None:
    cells, sheet = table_of(4, {("a", "d0"): 0.0, ("a", "d1"): 0.0}, 0.4)
    cells.loc[cells.index[:5], ["excluded", "flags"]] = [True, "pyknotic;saturated"]
    row = summarise(cells, sheet, markers=["INS"]).conditions.iloc[0]
    n = int(cells["excluded"].sum())
    assert row["n_excluded"] == n
    assert f"left out of all counts: {n} nuclei" in row["note"]
    assert "5 dying" in row["note"]
    assert "cut by the border" in row["note"]


def test_only_unsure_and_no_cells_are_different_things() -> None:
    cells, sheet = table_of(5, {("a", "d0"): 1.0}, 0.4)
    assert summarise(cells, sheet, markers=["INS"]).conditions["status"].tolist() == [
        "not_estimable"
    ]
    gone = cells.assign(excluded=True)
    row = summarise(gone, sheet, markers=["INS"]).conditions.iloc[0]
    assert (row["status"], row["n_cells"]) == ("no_cells", 0)


@pytest.mark.parametrize("unsure", [0.0, 0.1, 0.5, 1.0])
def test_the_window_counts_as_the_tables_do(unsure: float) -> None:
    from napari_islet_imaging.session.tally import tally

    cells, sheet = table_of(6, {("a", "d0"): unsure}, 0.4)
    s = summarise(cells, sheet, markers=["INS"])
    counted = tally(cells, "INS", "all")
    image = s.images.iloc[0]
    assert counted.fraction == pytest.approx(image["INS_fraction"], nan_ok=True)
    assert counted.low == pytest.approx(image["INS_fraction_low"])
    assert counted.high == pytest.approx(image["INS_fraction_high"])
