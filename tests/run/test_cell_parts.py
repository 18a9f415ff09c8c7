"""Cells of a run in parts on disk: the same tables as from one table in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from islet_imaging.run import cell_parts
from islet_imaging.run.called import in_order
from islet_imaging.run.cell_parts import CellParts, narrow, write_part
from islet_imaging.run.files import write_parquet, write_table

#: what images may differ in: types of a column, columns, words, and whether they have cells
TABLES = (
    {"image": ["=a", "=a", "b"], "cell": [1, 2, 1], "INS_mean": [1, 2, 3], "INS_call": "=x",
     "excluded": [True, False, False], "flags": ["", "border", "late;border"], "spare": None},
    {"image": ["c"], "cell": [1], "region": [""], "INS_mean": [0.1 + 0.2], "INS_call": [None],
     "excluded": [False], "flags": ["a,b"], "spare": None, "more": [1e-30]},
    {"image": [], "cell": [], "strange": [], "excluded": []},
    {"image": ["d"] * 4, "cell": [1, 2, 3, 4], "INS_mean": [np.nan, 2.0, 7.0, -1.0],
     "INS_call": ["positive", "negative", "unsure", "'=quoted"], "excluded": False,
     "flags": ["", None, "", "x"], "spare": None, "region": ["A", "", "outside", "B"]},
)  # fmt: skip
SHEET = {"condition": {"=a": "lo", "b": "=hi", "c": "", "d": "lo"}, "well": {"=a": "A1"}}


@pytest.fixture
def made(tmp_path: Path) -> tuple[CellParts, pd.DataFrame]:
    """Parts, and the one table that they stand for."""
    frames = [pd.DataFrame(t) for t in TABLES]
    parts = [write_part(tmp_path / f"{k}.arrow", f) for k, f in enumerate(frames)]
    whole = pd.concat([f for f in frames if len(f)], ignore_index=True)
    whole["region"] = whole["region"].fillna("")
    whole = whole[in_order(whole.columns)]
    for name, of in SHEET.items():
        whole[name] = whole["image"].map(of)
    return CellParts(parts, in_order), whole


@pytest.mark.parametrize("rows", [2, 3, 65_536])
def test_tables_are_those_of_one_table(
    tmp_path: Path,
    made: tuple[CellParts, pd.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
) -> None:
    monkeypatch.setattr(cell_parts, "ROWS_AT_ONCE", rows)
    parts, whole = made
    parts.write(tmp_path / "a.parquet", tmp_path / "a.csv", SHEET)
    write_table(tmp_path / "b.csv", whole)
    write_parquet(tmp_path / "b.parquet", whole)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "a.parquet"), pd.read_parquet(tmp_path / "b.parquet")
    )
    assert len(parts) == len(whole) == 8


def test_cells_of_one_image(made: tuple[CellParts, pd.DataFrame]) -> None:
    parts, _ = made
    assert parts.of("b")["INS_mean"].tolist() == [3]
    assert parts.of("d")["cell"].tolist() == [1, 2, 3, 4]
    none = parts.of("no cells")
    assert not len(none)
    assert {"INS_call", "more"} <= set(none)


def test_a_part_of_no_cells_alone_has_its_columns(tmp_path: Path) -> None:
    parts = CellParts([write_part(tmp_path / "0.arrow", pd.DataFrame(TABLES[2]))], in_order)
    parts.write(tmp_path / "a.parquet", tmp_path / "a.csv", SHEET)
    wanted = ["image", "cell", "strange", "excluded", "condition", "well"]
    assert sorted(pd.read_csv(tmp_path / "a.csv")) == sorted(wanted)
    assert sorted(pd.read_parquet(tmp_path / "a.parquet")) == sorted(wanted)


def test_what_stays_in_memory_is_what_is_counted_by() -> None:
    cells = pd.DataFrame(TABLES[3]).assign(INS_own=1.0, INS_probability=0.5, y_px=0.0)
    kept = narrow(cells, ["INS_own"])
    assert set(cells) - set(kept) == {"INS_mean", "spare", "y_px"}
