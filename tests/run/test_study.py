"""Runs joined to a study: what one run of all images says, and refusals of what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow.dataset
import pytest
from typer.testing import CliRunner

from islet_imaging import Channel, Protocol, Run, combine_runs
from islet_imaging.cli import app
from islet_imaging.errors import IsletImagingError
from islet_imaging.protocol import Nuclei, Statistics
from islet_imaging.run.folder import read_csv
from islet_imaging.run.proof import hash_file
from islet_imaging.scoring.folder import score_folder
from tests.stainings import staining, write

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")),
    nuclei=Nuclei(method="classical"),
    statistics=Statistics(reference="a"),
)
TABLES = ("summary", "batches", "comparisons", "composition", "variance", "levels")


def sheet_of(root: Path, batches: str) -> Path:
    lines = ["file,condition,batch,role,donor"]
    for b in batches:
        lines += [f"{b}_{c}.tif,{c},d{b},sample,H{b}" for c in "ab"]
        lines.append(f"{b}_neg.tif,,d{b},negative_control,")
    path = root / f"sheet{batches}.csv"
    path.write_text("\n".join(lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three batches: each a run of its own, and all of them one run."""
    root = tmp_path_factory.mktemp("study")
    for k, b in enumerate("123"):
        for j, (name, share) in enumerate((("a", 0.3), ("b", 0.6), ("neg", 0.0))):
            write(root / "images" / f"{b}_{name}.tif", staining(10 * k + j, share, (140, 140)))
    for batches in ("1", "2", "3", "123"):
        score_folder(
            root / "images", root / "runs" / f"run{batches}", protocol=PROTOCOL,
            samples=sheet_of(root, batches), workers=1,
        )  # fmt: skip
    return root


def parts(root: Path) -> list[Path]:
    return [root / "runs" / f"run{b}" for b in "123"]


def test_a_study_says_what_one_run_of_all_images_says(scored: Path, tmp_path: Path) -> None:
    whole = Run.open(scored / "runs" / "run123")
    before = {p: hash_file(p) for run in parts(scored) for p in run.glob("*.*") if p.is_file()}
    study = combine_runs(parts(scored), tmp_path / "study")
    for name in TABLES:
        written = read_csv(tmp_path / "study" / f"{name}.csv")
        pd.testing.assert_frame_equal(written, whole.table(name), obj=name)
    assert (study["summary"]["n_batches"] == 3).all()
    assert study["comparisons"]["condition"].tolist() == ["b"]
    images = study["images"]
    assert images["run"].tolist() == [f"run{b}" for b in "123" for _ in range(3)]
    plain = images.drop(columns="run").sort_values("image", ignore_index=True)
    pd.testing.assert_frame_equal(plain, whole.images.sort_values("image", ignore_index=True))
    assert {p: hash_file(p) for p in before} == before


def test_all_cells_are_one_data_set_of_parts(scored: Path, tmp_path: Path) -> None:
    combine_runs(parts(scored), tmp_path / "study")
    folder = tmp_path / "study" / "cells.parquet"
    each = {p.name: Run.open(p).cells for p in parts(scored)}
    read = pd.read_parquet(folder)
    assert len(read) == sum(map(len, each.values())) > 100
    for name, cells in each.items():
        part = read[read["run"] == name].drop(columns="run").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, cells)
    data = pyarrow.dataset.dataset(folder, partitioning="hive")
    one = data.to_table(filter=pyarrow.dataset.field("run") == "run2", columns=["INS_call"])
    assert len(one) == len(each["run2"])


def test_parts_of_other_columns_are_brought_to_one_schema(scored: Path, tmp_path: Path) -> None:
    """A run of another sheet has another column; one without flags a column of nothing."""
    sheet = sheet_of(tmp_path, "2")
    text = sheet.read_text("utf-8").splitlines()
    more = [text[0] + ",day", *(f"{line},{k}" for k, line in enumerate(text[1:]))]
    sheet.write_text("\n".join(more), "utf-8")
    other = tmp_path / "day=2, 50% fixed"
    score_folder(scored / "images", other, protocol=PROTOCOL, samples=sheet, workers=1)
    study = combine_runs([parts(scored)[0], other], tmp_path / "study")
    read = pd.read_parquet(tmp_path / "study" / "cells.parquet")
    assert set(read.loc[read["run"] == other.name, "day"]) == {"0", "1", "2"}
    assert read.loc[read["run"] == "run1", "day"].isna().all()
    assert study["summary"]["n_batches"].tolist() == [2, 2]


def test_what_a_run_says_of_its_images_is_said_of_the_study(scored: Path, tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, "2")
    sheet.write_text(sheet.read_text("utf-8") + "\ngone.tif,a,d2,sample,H2", "utf-8")
    run = score_folder(
        scored / "images", tmp_path / "lost", protocol=PROTOCOL, samples=sheet, workers=1
    )
    (said,) = {n for note in run.summary["note"] for n in note.split("; ") if "failed" in n}
    study = combine_runs([parts(scored)[0], run], tmp_path / "study")
    notes = study["summary"].set_index("condition")["note"]
    assert f"{said} (run lost)" in notes["a"]
    assert said not in notes["b"]


def test_what_is_no_study_is_refused(scored: Path, tmp_path: Path) -> None:
    one, two, _ = parts(scored)
    out = tmp_path / "study"
    for given, why in (
        ([one], "at least two"),
        ([one, one], "given twice"),
        ([one, scored / "runs" / "run123"], r"shows the pixels of 1_a\.tif of run run1"),
        ([one, tmp_path], "not a run folder"),
    ):
        with pytest.raises(IsletImagingError, match=why):
            combine_runs(given, out)
    other = tmp_path / "other"
    changed = PROTOCOL.replace(statistics=Statistics(reference="b"))
    score_folder(
        scored / "images", other, protocol=changed, samples=sheet_of(tmp_path, "2"), workers=1
    )
    with pytest.raises(IsletImagingError, match=r"different protocols \(statistics\)"):
        combine_runs([one, other], out)
    facts = json.loads((other / "provenance.json").read_text("utf-8"))
    facts["islet_imaging"] = "0.0.1"
    (other / "provenance.json").write_text(json.dumps(facts), "utf-8")
    with pytest.raises(IsletImagingError, match="different version"):
        combine_runs([one, other], out)
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(IsletImagingError, match="no study"):
        combine_runs([one, two], out)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".study")] == []


def test_the_verb_prints_what_score_prints_and_replaces_its_own(
    scored: Path, tmp_path: Path
) -> None:
    words = ["combine", *map(str, parts(scored)), "--out", str(tmp_path / "study")]
    for more in ([], ["--reference", "b"]):
        result = CliRunner().invoke(app, [*words, *more], catch_exceptions=False)
        assert result.exit_code == 0
        assert "a: INS " in result.output
        assert "3 batches" in result.output
        assert "3 runs: 9 of 9 images scored." in result.output
    assert "INS: a against b" in result.output
    facts = json.loads((tmp_path / "study" / "study.json").read_text("utf-8"))
    assert list(facts["runs"]) == ["run1", "run2", "run3"]
    assert Protocol.load(tmp_path / "study" / "protocol.yaml").statistics.reference == "b"
