"""Teaching the positivity network from calls made by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stainings import staining, write

torch = pytest.importorskip("torch", reason="training needs the extra: pip install .[train]")

from islet_imaging.arrays.text_masks import encode_mask  # noqa: E402
from islet_imaging.errors import ModelError, NotEstimableError, ProtocolError  # noqa: E402
from islet_imaging.network.training import positivity_finetune as finetune  # noqa: E402
from islet_imaging.network.training.integers import MAX_LOSS  # noqa: E402
from islet_imaging.network.weights import INTEGERS, keep_model, load_model, model_names  # noqa: E402
from islet_imaging.protocol import Channel, Nuclei, Positivity, Protocol  # noqa: E402
from islet_imaging.review.journal import Edit, Journal  # noqa: E402
from islet_imaging.run.folder import Run  # noqa: E402
from islet_imaging.scoring.folder import score_folder  # noqa: E402
from islet_imaging.scoring.results import resummarise  # noqa: E402

PROTOCOL = Protocol(
    channels=(Channel("DAPI", "dna"), Channel("INS"), Channel("PDX1", compartment="nucleus")),
    nuclei=Nuclei(method="classical"),
)


def correct(run: Run, cells: pd.DataFrame, call: str) -> None:
    journal = Journal(run.corrections)
    for row in cells.itertuples():
        edit = Edit("ana", row.image, "call", row.cell, row.y_px, row.x_px, "INS", "unsure", call)
        journal.append(edit)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("stainings")
    for name, seed, positive in (("a", 1, 0.5), ("b", 2, 0.5), ("c", 3, 0.0)):
        stack = staining(seed, positive)
        other = staining(seed + 10, positive)[1]
        write(root / f"{name}.ome.tif", np.stack([*stack, other]), ["DAPI", "INS", "PDX1"])
    sheet = pd.DataFrame(
        {
            "file": ["a.ome.tif", "b.ome.tif", "c.ome.tif"],
            "condition": "day 30",
            "batch": "1",
            "role": ["sample", "sample", "negative_control"],
        }
    )
    sheet.to_csv(root / "samples.csv", index=False)
    out = root / "run"
    return score_folder(root, out, protocol=PROTOCOL, samples=root / "samples.csv", workers=1)


def test_too_few_calls_are_refused_with_their_number(run: Run, tmp_path: Path) -> None:
    with pytest.raises(NotEstimableError, match="found 0 of INS"):
        finetune.finetune_positivity(run.path, tmp_path, name="mine")
    with pytest.raises(ProtocolError, match="PDX1"):
        finetune.finetune_positivity(run.path, tmp_path, name="mine", marker="PDX1")


def test_teaching_compares_before_it_replaces(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISLET_IMAGING_MODELS", str(tmp_path / "kept"))
    monkeypatch.setattr(finetune, "REHEARSED", range(100_000, 100_002))
    monkeypatch.setattr(finetune, "REFERENCE", range(100_100, 100_101))
    monkeypatch.setattr(finetune, "SIDE_PX", 128)
    samples = run.cells[run.cells["image"] != "c.ome.tif"]
    for call in ("positive", "negative"):
        correct(run, samples[samples["INS_call"] == call], call)
    shipped = load_model("islet-positivity").sha256
    result = finetune.finetune_positivity(run.path, tmp_path / "out", name="mine", steps=4)
    assert load_model("islet-positivity").sha256 == shipped
    assert load_model(result.model).sha256 != shipped
    assert load_model(result.model).name == "mine"
    assert result.marker == "INS"
    assert len(result.held_out) == 1
    for score in (result.before, result.after):
        assert score["n"] >= 10
        assert score["balanced_accuracy"] > 0.8
    assert result.old_before["n"] == result.old_after["n"] > 0
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["marker"] == "INS"
    assert "held-out islets" in (result.model / "README.md").read_text()
    whole = load_model(result.model).processor_weights == INTEGERS
    assert result.weights.startswith("integer" if whole else "float32")
    lost = result.after_float32["balanced_accuracy"] - result.after["balanced_accuracy"]
    assert lost <= MAX_LOSS

    with pytest.raises(ProtocolError, match="another folder"):
        finetune.finetune_positivity(run.path, tmp_path / "out", name="mine", steps=4, seed=1)
    kept = keep_model(result.model, "mine")
    assert kept.is_relative_to(tmp_path / "kept")
    assert "mine" in model_names()
    with pytest.raises(ModelError, match="already"):
        keep_model(result.model, "mine")
    with pytest.raises(ModelError, match="cannot name"):
        keep_model(result.model, "../mine")
    taught = PROTOCOL.replace(positivity={"INS": Positivity(method="network", model="mine")})
    again = score_folder(
        run.source, tmp_path / "again", protocol=taught, samples=run.source / "samples.csv",
        workers=1,
    )  # fmt: skip
    assert again.provenance["models"] == {"mine": load_model("mine").sha256}
    assert again.cells["INS_network_odds"].notna().all()


def test_split_nuclei_are_taught_also_after_the_tables_were_made_anew(
    run: Run, tmp_path: Path
) -> None:
    own = Run.open(shutil.copytree(run.path, tmp_path / "run"))
    samples = own.cells[own.cells["image"] != "c.ome.tif"]
    first = samples.iloc[0]
    image, cell = str(first["image"]), int(first["cell"])
    labels = own.labels(image)
    mask = labels == cell
    upper = mask & (np.arange(len(mask))[:, None] < round(float(first["y_px"])))
    fresh = int(labels.max()) + 1
    halves = {cell: upper, fresh: mask & ~upper}
    before = [{"cell": cell, "mask": encode_mask(mask), "row": None}]
    after = []
    for number, half in halves.items():
        y, x = (float(np.mean(n)) for n in np.nonzero(half))
        row = {**json.loads(first.to_json()), "cell": number, "y_px": y, "x_px": x}
        after.append({"cell": number, "mask": encode_mask(half), "row": row})
    anchor = (cell, float(first["y_px"]), float(first["x_px"]))
    Journal(own.corrections).append(
        Edit("ana", image, "shape", *anchor, before=before, after=after)
    )
    for call in ("positive", "negative"):
        correct(own, samples[(samples["INS_call"] == call) & (samples["cell"] != cell)], call)

    def taught() -> tuple[list[int], np.ndarray]:
        cells, _ = finetune._taught_cells(own, own.protocol, "INS", 0.3, 0)
        pictures = finetune._pictures(own, own.protocol, cells)
        picture = next(p for p in pictures if p.image == image)
        return sorted(picture.cells.loc[picture.cells["taught"], "cell"]), picture.nuclei

    cells, nuclei = taught()
    assert (nuclei == fresh).sum() == halves[fresh].sum() > 0
    own = resummarise(own)
    again, same = taught()
    assert again == cells
    np.testing.assert_array_equal(same, nuclei)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=4, max_size=60).filter(
        lambda cells: len({g for g, _ in cells}) > 1
    ),
    st.integers(0, 3),
)
def test_whole_groups_are_held_out_and_never_all(cells: list[tuple[int, bool]], seed: int) -> None:
    groups = np.array([str(g) for g, _ in cells])
    truth = np.array([t for _, t in cells])
    out = finetune.held_out_groups(groups, truth, 0.25, seed)
    assert out.any()
    assert not out.all()
    assert not set(groups[out]) & set(groups[~out])
    assert np.array_equal(out, finetune.held_out_groups(groups, truth, 0.25, seed))
