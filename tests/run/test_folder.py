"""The run folder's files: whole or not at all, and read back as written."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from islet_imaging.errors import IsletImagingError
from islet_imaging.run.files import (
    atomic_path,
    label_path,
    plain_text,
    safe_text,
    write_labels,
    write_table,
)
from islet_imaging.run.folder import Run, read_csv, read_labels
from islet_imaging.run.rows import ImageRow
from tests.mutations import mutated


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


@given(st.text())
def test_formulas_are_harmless_and_come_back(text: str) -> None:
    safe = safe_text(text)
    assert plain_text(safe) == text
    assert not safe.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2", "@x", "\tx", "\rx", "'=1", "''", "a'=b"])
def test_formulas_in_cells_and_headers_read_back(tmp_path: Path, text: str) -> None:
    table = pd.DataFrame({text: ["x", text], "n": [-1.5, 2.0]})
    write_table(tmp_path / "t.csv", table)
    raw = (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert "\n-1.5" not in raw.replace("x,-1.5", "")
    back = read_csv(tmp_path / "t.csv", (text,))
    pd.testing.assert_frame_equal(back, table)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\0b"])
def test_names_never_lead_out_of_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(IsletImagingError, match="no name of an image"):
        label_path(tmp_path, name or "/", "nuclei")


@given(seed=st.integers(0, 2**32), n=st.integers(1, 10))
@settings(max_examples=100)
def test_a_mutated_provenance_is_read_or_named(tmp_path: Path, seed: int, n: int) -> None:
    row = ImageRow(image="a.tif", condition="x", batch="b", files=("/f/a.tif",), key="0" * 64)
    facts = {
        "format": 2, "islet_imaging": "0.2", "folder": "/f", "files": {}, "images": [row.to_dict()],
        "inputs": {"a.tif": {"sha256": "0" * 64}}, "corrections": {"journal_sha256": ""},
    }  # fmt: skip
    path = tmp_path / "provenance.json"
    path.write_bytes(mutated(json.dumps(facts).encode(), seed, n))
    with contextlib.suppress(IsletImagingError):
        run = Run.open(tmp_path)
        for question in (
            lambda: run.summary, lambda: run.protocol, lambda: run.labels("a.tif"),
            lambda: run.read_image("a.tif"), lambda: run.pixels, lambda: run.corrections_pending,
            lambda: run.source, lambda: run.flat_fields(), lambda: run.corrected,
        ):  # fmt: skip
            with contextlib.suppress(IsletImagingError):
                question()
