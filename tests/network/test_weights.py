"""Shipped networks are found, checked and what they say they are."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from islet_imaging.errors import ModelError
from islet_imaging.network.engine import OnnxEngine
from islet_imaging.network.weights import load_model

SHIPPED = ("islet-nuclei", "islet-positivity")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_network_is_found_and_gives_its_test_output(name):
    model = load_model(name)
    image = np.load(model.folder / "test_input.npy")
    wanted = np.load(model.folder / "test_output.npy")
    assert np.allclose(OnnxEngine(model.onnx_path).run(image), wanted, atol=1e-4)
    assert sum(p.stat().st_size for p in model.folder.iterdir()) < 10e6


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
def test_description_is_valid_bioimageio(name):
    spec = pytest.importorskip("bioimageio.spec", reason="needs bioimageio.spec")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of that library's own dependencies
        found = spec.load_description(load_model(name).folder / "bioimageio.yaml")
    assert found.validation_summary.status in ("valid-format", "passed"), (
        found.validation_summary.format()
    )
