"""What must not be counted is not counted, and is named: controls, copies, other dyes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from islet_imaging.cli.score import exit_status
from islet_imaging.protocol import Channel, Nuclei, Protocol, Quality
from islet_imaging.run.folder import Run
from islet_imaging.scoring.folder import score_folder
from tests.stainings import staining, write

SHAPE = (260, 260)
PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS")), nuclei=Nuclei(method="classical")
)
Rows = list[tuple[str, str, str, str]]


def scored(root: Path, rows: Rows, protocol: Protocol = PROTOCOL, **extra: list[str]) -> Run:
    sheet = pd.DataFrame(rows, columns=["file", "condition", "batch", "role"]).assign(**extra)
    sheet.to_csv(root / "samples.csv", index=False)
    return score_folder(
        root, root / "run", protocol=protocol, samples=root / "samples.csv", workers=1
    )


@pytest.mark.parametrize("positive", [0.2, 0.35, 0.5])
def test_a_control_that_holds_positive_cells_blocks_the_threshold(
    tmp_path: Path, positive: float
) -> None:
    for name, seed, share in (
        ("a", 1, 0.3),
        ("b", 2, 0.5),
        ("neg", 3, 0.0),
        ("wrong", 4, positive),
    ):
        write(tmp_path / f"{name}.tif", staining(seed, share, SHAPE))
    rows = [("a.tif", "x", "d1", "sample"), ("b.tif", "x", "d1", "sample")]
    rows += [(f"{n}.tif", "", "d1", "negative_control") for n in ("neg", "wrong")]
    run = scored(tmp_path, rows)
    row = run.summary.iloc[0]
    assert row["status"] == "not_estimable"
    assert np.isnan(row["fraction"])
    assert "wrong.tif" in row["note"]
    assert "not negative" in row["note"]
    flags = run.images.set_index("image")["flags"]
    assert "control_not_negative" in flags["wrong.tif"]
    assert "control_not_negative" not in flags["neg.tif"]
    assert "No check raised a flag" not in (run.path / "report.html").read_text("utf-8")
    assert exit_status(run) == 3


def test_a_clean_control_is_believed(tmp_path: Path) -> None:
    for name, seed, share in (("a", 1, 0.3), ("n1", 3, 0.0), ("n2", 4, 0.0)):
        write(tmp_path / f"{name}.tif", staining(seed, share, SHAPE))
    rows = [("a.tif", "x", "d1", "sample")]
    rows += [(f"{n}.tif", "", "d1", "negative_control") for n in ("n1", "n2")]
    run = scored(tmp_path, rows)
    assert run.summary.iloc[0]["status"] == "estimated"
    assert exit_status(run) == 0


def test_a_control_of_another_brightness_is_not_used_and_named(tmp_path: Path) -> None:
    for name, seed, share, more in (("a", 1, 0.3, 0), ("b", 2, 0.5, 300), ("neg", 3, 0.0, 250)):
        stack = staining(seed, share, SHAPE)
        stack[1] += more
        write(tmp_path / f"{name}.tif", stack)
    rows = [("a.tif", "x", "d1", "sample"), ("b.tif", "x", "d1", "sample")]
    run = scored(tmp_path, [*rows, ("neg.tif", "", "d1", "negative_control")])
    row = run.summary.iloc[0]
    cells = run.cells[~run.cells["excluded"]]
    drawn = cells[cells["image"] != "neg.tif"]
    assert row["status"] == "estimated"
    assert row["fraction"] == (drawn["INS_call"] == "positive").mean()
    assert "negative controls not used" in row["note"]
    assert "neg.tif" in row["note"]
    flags = run.images.set_index("image")["flags"]
    assert "control_not_used" in flags["neg.tif"]
    assert "control_not_used" not in f"{flags['a.tif']}{flags['b.tif']}"
    # read by its own background and the samples' levels: it holds no positive cell
    assert not (cells.loc[cells["image"] == "neg.tif", "INS_call"] == "positive").any()


def test_one_copy_of_a_duplicate_counts_unless_asked_otherwise(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", staining(1, 0.5, SHAPE))
    write(tmp_path / "b.tif", staining(1, 0.5, SHAPE))
    for k in (1, 2):
        write(tmp_path / f"neg{k}.tif", staining(2 + k, 0.0, SHAPE))
    rows = [("a.tif", "x", "d1", "sample"), ("b.tif", "x", "d2", "sample")]
    rows += [(f"neg{k}.tif", "", f"d{k}", "negative_control") for k in (1, 2)]
    run = scored(tmp_path, rows)
    status = run.images.set_index("image")["status"]
    assert status.to_dict() == {
        "a.tif": "scored", "b.tif": "skipped", "neg1.tif": "scored", "neg2.tif": "scored",
    }  # fmt: skip
    row = run.summary.iloc[0]
    assert row["n_batches"] == 1
    assert "1 image is left out (duplicate)" in row["note"]
    assert set(run.cells["image"]) == {"a.tif", "neg1.tif", "neg2.tif"}
    assert exit_status(run) == 1
    keep = PROTOCOL.replace(quality=Quality(blocked="keep"))
    kept = scored(tmp_path, rows, keep)
    assert kept.summary.iloc[0]["n_batches"] == 2
    assert exit_status(kept) == 0


def test_one_control_filed_with_two_batches_serves_both(tmp_path: Path) -> None:
    rows: Rows = []
    for k in (1, 2):
        write(tmp_path / f"s{k}.tif", staining(k, 0.4, SHAPE))
        write(tmp_path / f"n{k}.tif", staining(9, 0.0, SHAPE))
        rows += [(f"s{k}.tif", "x", f"d{k}", "sample")]
        rows += [(f"n{k}.tif", "", f"d{k}", "negative_control")]
    run = scored(tmp_path, rows)
    assert set(run.images["status"]) == {"scored"}
    assert run.summary.iloc[0]["n_batches"] == 2


def test_an_image_without_nuclei_is_left_out_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", staining(1, 0.5, SHAPE))
    rng = np.random.default_rng(0)
    write(tmp_path / "empty.tif", rng.poisson(100.0, (2, *SHAPE)).astype(np.uint16))
    for k in (1, 2):
        write(tmp_path / f"neg{k}.tif", staining(2 + k, 0.0, SHAPE))
    rows = [("a.tif", "x", "d1", "sample"), ("empty.tif", "y", "d1", "sample")]
    rows += [(f"neg{k}.tif", "", "d1", "negative_control") for k in (1, 2)]
    run = scored(tmp_path, rows)
    by = run.summary.set_index("condition")
    assert by.loc["x", "status"] == "estimated"
    # a condition of which nothing is left is not forgotten
    assert by.loc["y", "status"] == "no_cells"
    assert "left out" in by.loc["y", "note"]
    assert exit_status(run) == 1


def test_a_protocol_without_a_marker_is_no_success(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", staining(1, 0.5, SHAPE))
    only = PROTOCOL.replace(channels=(Channel("DAPI", "dna"),))
    assert exit_status(score_folder(tmp_path, tmp_path / "run", protocol=only, workers=1)) == 3


def test_a_control_of_one_channel_is_no_control_of_another(tmp_path: Path) -> None:
    two = PROTOCOL.replace(channels=(Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")))

    def both(seed: int, ins: float, gcg: float) -> np.ndarray:
        one, other = staining(seed, ins, SHAPE), staining(seed, gcg, SHAPE)
        return np.stack([one[0], one[1], other[1]])

    names = ["DAPI", "INS", "GCG"]
    write(tmp_path / "s.tif", both(1, 0.4, 0.3), names)
    # without insulin there is glucagon
    for k in (1, 2):
        write(tmp_path / f"noins{k}.tif", both(4 + k, 0.0, 0.5), names)
    rows = [("s.tif", "x", "d1", "sample")]
    of_one = rows + [(f"noins{k}.tif", "", "d1", "negative_control:INS") for k in (1, 2)]
    found = scored(tmp_path, of_one, two).summary.set_index("marker")
    assert found.loc["INS", "status"] == "estimated"
    assert "not negative" not in found.loc["GCG", "note"]
    of_all = rows + [(f"noins{k}.tif", "", "d1", "negative_control") for k in (1, 2)]
    found = scored(tmp_path, of_all, two).summary.set_index("marker")
    assert "not negative" in found.loc["GCG", "note"]


def test_what_was_stained_together_is_what_the_sheet_says(tmp_path: Path) -> None:
    rows: Rows = []
    for k in (1, 2, 3):
        write(tmp_path / f"s{k}.tif", staining(k, 0.4, SHAPE))
        rows.append((f"s{k}.tif", "x", f"d{k}", "sample"))
    for k in (1, 2):
        write(tmp_path / f"n{k}.tif", staining(9 + k, 0.0, SHAPE))
        rows.append((f"n{k}.tif", "", "d1", "negative_control"))
    run = scored(tmp_path, rows, staining=["one", "one", "", "one", "one"])
    fitted = run.protocol.fitted
    assert set(fitted) == {"one", "d3"}
    assert fitted["one"]["INS"]["used"]["control_images"] == 2
    assert fitted["d3"]["INS"]["used"]["control_images"] == 0


def test_strong_light_of_another_dye_leaves_no_share(tmp_path: Path) -> None:
    two = PROTOCOL.replace(channels=(Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")))
    rows: Rows = []
    for k, leak in ((1, 0.3), (2, 0.3), (3, 0.0), (4, 0.0)):
        one, other = staining(k, 0.3 if k < 3 else 0.0, SHAPE), staining(50 + k, 0.4, SHAPE)
        gcg = other[1] if k < 3 else one[1]
        leaked = one[1] + (leak * (gcg - 120.0)).clip(0)
        stack = np.stack([one[0], leaked, gcg]).astype(np.uint16)
        write(tmp_path / f"i{k}.tif", stack, ["DAPI", "INS", "GCG"])
        rows.append((f"i{k}.tif", "x", "d1", "sample" if k < 3 else "negative_control"))
    run = scored(tmp_path, rows, two)
    found = run.summary.set_index("marker")
    assert found.loc["INS", "status"] == "not_estimable"
    assert "another dye" in found.loc["INS", "note"]
    assert found.loc["GCG", "status"] == "estimated"
    flags = run.images.set_index("image")["flags"]
    assert all("bleed_through" in flags[f"i{k}.tif"] for k in (1, 2))
    stated = dataclasses.replace(two.correction, bleed_matrix={"GCG": {"INS": 0.3}})
    again = scored(tmp_path, rows, two.replace(correction=stated)).summary.set_index("marker")
    assert again.loc["INS", "status"] == "estimated"
    assert again.loc["INS", "fraction"] == pytest.approx(0.3, abs=0.12)
