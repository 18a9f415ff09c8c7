"""The run folder's files: whole or not at all, and read back as written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from islet_imaging.errors import IsletImagingError
from islet_imaging.run.folder import (
    Run,
    atomic_path,
    label_path,
    read_csv,
    read_labels,
    write_labels,
    write_table,
)


def test_a_broken_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("old")

    def stop_halfway() -> None:
        with atomic_path(path) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_halfway()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    words=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
)
def test_tables_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], words: str
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.csv"
    table = pd.DataFrame({"x": values, "word, quoted": words})
    write_table(path, table)
    back = read_csv(path, ("word, quoted",))
    back["x"] = back["x"].astype(float)
    pd.testing.assert_frame_equal(back, table, check_exact=True)


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [0.1, np.nan], "b": ["x", None], "c": [None, None]})
    hashes = set()
    for name in ("one.csv", "two.csv"):
        write_table(tmp_path / name, table)
        hashes.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(hashes) == 1


@given(arrays(np.int32, (9, 7), elements=st.integers(0, 200_000)))
def test_labels_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray
) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_labels(label_path(folder, "sub/a.tif", "nuclei"), labels, 0.325)
    back = read_labels(folder, "sub/a.tif")
    assert back.dtype == np.int32
    assert np.array_equal(back, labels)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsletImagingError, match=tmp_path.name):
        Run.open(tmp_path)
