"""Shipped networks are found, checked and what they say they are."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging.errors import ModelError
from islet_imaging.network.engine import OnnxEngine, make_engine, shared_engine
from islet_imaging.network.weights import load_model
from tests.mutations import mutated

SHIPPED = ("islet-nuclei", "islet-positivity")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_network_is_found_and_gives_its_test_output(name):
    model = load_model(name)
    image = np.load(model.folder / "test_input.npy")
    wanted = np.load(model.folder / "test_output.npy")
    assert np.allclose(OnnxEngine(model.onnx_path).run(image), wanted, atol=1e-4)
    assert sum(p.stat().st_size for p in model.folder.iterdir()) < 12e6


@pytest.mark.parametrize("name", SHIPPED)
def test_torch_gives_the_same_as_onnx(name):
    torch = pytest.importorskip("torch", reason="needs the extra: pip install .[train]")
    model = load_model(name)
    image = np.load(model.folder / "test_input.npy")
    with torch.no_grad():
        got = model.torch_module()(torch.from_numpy(image)).numpy()
    assert np.allclose(got, np.load(model.folder / "test_output.npy"), atol=1e-3)


def test_a_changed_file_is_an_error(tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(load_model("islet-nuclei").folder, folder)
    assert load_model(folder).name == "islet-nuclei"
    data = bytearray((folder / "weights.onnx").read_bytes())
    data[1000] ^= 1
    (folder / "weights.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"weights\.onnx.*sha256"):
        load_model(folder)
    (folder / "weights.onnx").unlink()
    with pytest.raises(ModelError, match="missing"):
        load_model(folder)


def test_unknown_names_say_what_there_is(tmp_path):
    with pytest.raises(ModelError, match="islet-nuclei"):
        load_model("no-such-network")
    (tmp_path / "bioimageio.yaml").write_text("type: model\n")
    with pytest.raises(ModelError, match="not a network"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_folder_named_like_a_shipped_network_does_not_take_its_place(
    name, tmp_path, monkeypatch, caplog
):
    shipped = load_model(name)
    shutil.copytree(shipped.folder, tmp_path / name)
    path = tmp_path / name / "bioimageio.yaml"
    path.write_text(path.read_text("utf-8") + "# another one\n", "utf-8")
    assert not caplog.records
    monkeypatch.chdir(tmp_path)
    assert load_model(name).folder == shipped.folder
    assert f"write ./{name} for that" in caplog.text
    for own in (f"./{name}", tmp_path / name, Path(name)):
        assert load_model(own).package_sha256 != shipped.package_sha256


@pytest.mark.parametrize("name", SHIPPED)
def test_description_is_valid_bioimageio(name):
    spec = pytest.importorskip("bioimageio.spec", reason="needs bioimageio.spec")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of that library's own dependencies
        found = spec.load_description(load_model(name).folder / "bioimageio.yaml")
    assert found.validation_summary.status in ("valid-format", "passed"), (
        found.validation_summary.format()
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("sha256"), "sha256"),
        (lambda s: s["sha256"].update({"weights_int8.onnx": "0" * 64}), "int8.*sha256 differs"),
        (lambda s: s["sha256"].pop("weights.onnx"), r"weights\.onnx is not in the list"),
        (lambda s: s["sha256"].update({"../x": "0" * 64}), "no file of this folder"),
        (lambda s: s["sha256"].update({"weights.onnx": 7}), "64 hex"),
        (lambda s: s.update(sha256=["weights.onnx"]), "sha256"),
        (lambda s: s.pop("architecture"), "architecture"),
        (lambda s: s.update(architecture={"in_channels": "two"}), "in_channels"),
        (lambda s: s.update(postprocess={"foreground": float("nan")}), "foreground"),
        (lambda s: s.update(postprocess=3), "postprocess"),
        (lambda s: s.update(postprocess={"magic": 3}), "magic"),
    ],
)
def test_a_malformed_description_is_named(change, named, tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(load_model("islet-nuclei").folder, folder)
    description = yaml.safe_load((folder / "bioimageio.yaml").read_text())
    change(description["config"]["islet_imaging"])
    (folder / "bioimageio.yaml").write_text(yaml.safe_dump(description))
    with pytest.raises(ModelError, match=named):
        load_model(folder)


@given(seed=st.integers(0, 2**32), n=st.integers(1, 6))
@settings(max_examples=15)
def test_a_mutated_description_loads_or_is_named(seed, n, tmp_path):
    shipped = load_model("islet-nuclei").folder
    folder = tmp_path / "net"
    if not folder.is_dir():
        shutil.copytree(shipped, folder)
    whole = (shipped / "bioimageio.yaml").read_bytes()
    (folder / "bioimageio.yaml").write_bytes(mutated(whole, seed, n))
    with contextlib.suppress(ModelError):
        engine = make_engine(str(folder), "cpu")
        assert engine.settings["sha256"] == load_model(folder).settings["sha256"]


def test_weights_that_are_no_network_are_named(tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(load_model("islet-nuclei").folder, folder)
    _exchange(folder, b"not a network")
    with pytest.raises(ModelError, match="cannot be run"):
        make_engine(str(folder), "cpu")


def test_an_engine_is_kept_for_the_same_files_only(tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(load_model("islet-nuclei").folder, folder)
    first = shared_engine(str(folder), "cpu")
    assert shared_engine(str(folder), "cpu") is first
    _exchange(folder, (folder / "weights_int8.onnx").read_bytes() + b"\x00")
    with pytest.raises(ModelError):  # the new bytes are run, not the kept engine
        shared_engine(str(folder), "cpu")


def _exchange(folder, data):
    """Other weights under the same name, with their hash: an exchange in place."""
    (folder / "weights_int8.onnx").write_bytes(data)
    description = yaml.safe_load((folder / "bioimageio.yaml").read_text())
    listed = description["config"]["islet_imaging"]["sha256"]
    listed["weights_int8.onnx"] = hashlib.sha256(data).hexdigest()
    (folder / "bioimageio.yaml").write_text(yaml.safe_dump(description))
