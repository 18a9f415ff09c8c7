"""Tables and label images as they are written: in parts, and the same as whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from islet_imaging.run import files
from islet_imaging.run.files import write_labels, write_parquet, write_table


def test_a_table_written_in_parts_is_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.DataFrame(
        {
            "image": ["=a", "b", "b", "c,d", "e"],
            "value": [0.1, np.nan, 1e-30, 3.0, -2.0],
            "word": [None, None, None, "late", None],
            "nothing": pd.Series([None] * 5, dtype=object),
            "mixed": [1, "=2", None, 4.5, "x"],
            "flag": [True, False, True, False, True],
        }
    )
    write_table(tmp_path / "whole.csv", table.astype({"mixed": str}))
    write_parquet(tmp_path / "whole.parquet", table.drop(columns="mixed"))
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 2)
    write_table(tmp_path / "parts.csv", table.astype({"mixed": str}))
    write_parquet(tmp_path / "parts.parquet", table.drop(columns="mixed"))
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "whole.csv").read_text().splitlines()[1].startswith('"\'=a",0.1,,')
    parts = pd.read_parquet(tmp_path / "parts.parquet")
    pd.testing.assert_frame_equal(parts, pd.read_parquet(tmp_path / "whole.parquet"))
    assert parts["word"].tolist() == table["word"].tolist()


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    empty = pd.DataFrame({"image": pd.Series(dtype=object), "value": pd.Series(dtype=float)})
    write_table(tmp_path / "a.csv", empty)
    write_parquet(tmp_path / "a.parquet", empty)
    assert list(pd.read_csv(tmp_path / "a.csv")) == ["image", "value"]
    assert list(pd.read_parquet(tmp_path / "a.parquet")) == ["image", "value"]


@pytest.mark.parametrize("shape", [(40, 50), (600, 530)])
@pytest.mark.parametrize("largest", [300, 70_000])
@pytest.mark.parametrize("threads", [1, 3])
def test_labels_come_back(
    tmp_path: Path, shape: tuple[int, int], largest: int, threads: int
) -> None:
    labels = np.random.default_rng(0).integers(0, largest, shape, dtype=np.int32)
    write_labels(tmp_path / "a.tif", labels, 0.5, threads=threads)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.asarray(), labels)
        assert file.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
