"""Integer weights: what they are, that they give every processor the same bits, and which bits."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from islet_imaging._types import Work
from islet_imaging.errors import ModelError
from islet_imaging.network.blocks import make_grid
from islet_imaging.network.engine import OnnxEngine, make_engine
from islet_imaging.network.nuclei import segment_nuclei_network
from islet_imaging.network.positivity import network_logits
from islet_imaging.network.stain import WORKING_PIXEL_UM
from islet_imaging.network.training.integer_graph import exact_weights
from islet_imaging.network.training.integers import choose_weights, drop_integers, quantise
from islet_imaging.network.weights import INTEGERS, load_model, weights_used

SHIPPED = ("islet-nuclei", "islet-positivity")

#: a rendered image (preset ffpe20x, DAPI and INS, 8 bits), kept so that no renderer comes between
PICTURE = Path(__file__).parent / "ffpe20x_8bit.npz"


@pytest.mark.parametrize("name", SHIPPED)
def test_integers_run_on_the_processor_and_say_so(name):
    engine = make_engine(name, "cpu")
    assert "8-bit integers" in engine.name
    assert weights_used([name], "cpu") == {name: INTEGERS}
    model = load_model(name)
    image = np.load(model.folder / "test_input.npy")
    wanted = np.load(model.folder / "test_output.npy")
    spread = wanted.std(axis=(0, 2, 3))
    error = np.sqrt(((engine.run(image) - wanted) ** 2).mean(axis=(0, 2, 3)))
    assert (error < 0.12 * spread).all()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_processor_gives_the_recorded_bits(name):
    """What integers give for the test input: no processor and no release may change a bit."""
    model = load_model(name)
    image = np.load(model.folder / "test_input.npy")
    output = make_engine(name, "cpu").run(image)
    found = hashlib.sha256(np.ascontiguousarray(output).tobytes()).hexdigest()
    assert found == model.settings["integers"]["test_output_sha256"]


@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_in_the_graph_hangs_on_the_processor(name):
    """7 bits: two products of a pair of channels fit 16 bits on processors without VNNI.

    An Add between integers is fused into fixed-point numbers on ARM, into fused products elsewhere.
    """
    onnx = pytest.importorskip("onnx", reason="needs the extra: pip install .[train]")
    graph = onnx.load_from_string(load_model(name).weights(INTEGERS)).graph
    values = [onnx.numpy_helper.to_array(i) for i in graph.initializer]
    weights = [v for v in values if v.dtype == np.int8 and v.ndim == 4]
    assert len(weights) == 16
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) <= 64
    assert 2 * 255 * 64 < 2**15
    assert {n.op_type for n in graph.node} <= {
        "Add", "Clip", "Conv", "DequantizeLinear", "MatMul", "MaxPool", "Mul", "QuantizeLinear",
        "Relu", "Reshape", "Round", "Sum", "Transpose",
    }  # fmt: skip
    # the one that is left adds the bias of the last layer, where no sum rounds
    assert [list(n.output) for n in graph.node if n.op_type == "Add"] == [["fields"]]


@given(
    seed=st.integers(0, 2**32),
    channels=st.integers(1, 60),
    bound=st.integers(1, 2048),
    size=st.floats(1e-4, 1e4),
)
@settings(max_examples=60)
def test_exact_weights_sum_without_rounding_in_any_order(seed, channels, bound, size):
    rng = np.random.default_rng(seed)
    raw = size * rng.normal(size=(3, channels, 1, 1))
    bias = size * rng.normal(size=3)
    w, b = exact_weights(raw, bias, bound)
    assert np.allclose(w, raw, atol=size * channels * bound / 2**20)
    x = rng.integers(-bound, bound + 1, channels)
    for k in range(3):
        terms = [*(w[k, :, 0, 0] * x.astype(np.float32)), b[k]]
        exact = float(np.sum(w[k, :, 0, 0].astype(np.float64) * x) + float(b[k]))
        for _ in range(4):
            total = np.float32(0)
            for i in rng.permutation(len(terms)):
                total += terms[i]
            assert float(total) == exact


def test_without_integers_float32_runs(tmp_path):
    folder = tmp_path / "net"
    shutil.copytree(load_model("islet-nuclei").folder, folder)
    before = load_model(folder)
    model = drop_integers(folder)
    assert not (folder / INTEGERS).exists()
    assert model.package_sha256 != before.package_sha256  # other numbers, other keys of a run
    assert model.sha256 == before.sha256
    assert "float32" in make_engine(str(folder), "cpu").name


@pytest.mark.parametrize(
    ("whole", "problem", "note", "runs"),
    [
        (0.899, None, "integer weights run", INTEGERS),
        (0.88, None, "f1 falls by 0.020", "weights.onnx"),
        (0.9, ModelError("integer weights need the extra"), "need the extra", "weights.onnx"),
    ],
)
def test_a_taught_network_gets_integers_unless_they_lose(
    whole, problem, note, runs, tmp_path, monkeypatch
):
    folder = tmp_path / "net"
    shutil.copytree(load_model("islet-nuclei").folder, folder)
    data = load_model(folder).weights(INTEGERS)
    drop_integers(folder)

    class Crops:
        def crop(self, number):
            return {"image": np.full((1, 32, 32), number / 100, np.float32)}

    def made(model, images):
        if problem is not None:
            raise problem
        assert len(images) == 120
        return data

    def score():
        with_integers = load_model(folder).processor_weights == INTEGERS
        return {"f1": whole if with_integers else 0.9}, {"f1": 1.0}

    monkeypatch.setattr("islet_imaging.network.training.integers.quantise", made)
    chosen = choose_weights(folder, Crops(), score, "f1")
    assert note in chosen.note
    assert load_model(folder).processor_weights == runs
    assert chosen.float32[0] == {"f1": 0.9}
    assert chosen.scores[0] == {"f1": whole if runs == INTEGERS else 0.9}


def test_integers_clip_what_no_crop_held():
    onnx = pytest.importorskip("onnx", reason="needs the extra: pip install .[train]")
    assert onnx
    crops = [0.3 * np.random.default_rng(0).random((1, 64, 64), dtype=np.float32)] * 2
    engine = OnnxEngine(quantise(load_model("islet-nuclei").weights("weights.onnx"), crops))
    top = np.full((1, 1, 64, 64), crops[0].max(), np.float32)
    assert np.array_equal(engine.run(top), engine.run(top + 1))


def test_a_simpler_graph_gives_the_same_bits(monkeypatch):
    onnx = pytest.importorskip("onnx", reason="needs the extra: pip install .[train]")
    rng = np.random.default_rng(0)
    crops = [rng.random((3, 64, 64), dtype=np.float32)] * 2
    weights = load_model("islet-positivity").weights("weights.onnx")
    simple = quantise(weights, crops)

    def sums_in_float32(model):
        for node in model.graph.node:
            if node.op_type == "Add":
                node.op_type = "Sum"

    monkeypatch.setattr("islet_imaging.network.training.integers.simplify", sums_in_float32)
    whole = quantise(weights, crops)
    kinds = [{n.op_type for n in onnx.load_from_string(g).graph.node} for g in (simple, whole)]
    assert "Resize" in kinds[1] - kinds[0]
    for shape in ((16, 16), (64, 96), (160, 48)):
        image = rng.random((1, 3, *shape), dtype=np.float32)
        assert np.array_equal(OnnxEngine(simple).run(image), OnnxEngine(whole).run(image))


def test_a_graph_of_another_form_is_named():
    onnx = pytest.importorskip("onnx", reason="needs the extra: pip install .[train]")
    helper = onnx.helper
    image, fields = (
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 1, 8, 8])
        for n in ("image", "fields")
    )
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["fields"])], "one", [image], [fields]
    )
    with pytest.raises(ModelError, match="several convolutions"):
        quantise(helper.make_model(graph).SerializeToString(), [np.zeros((1, 8, 8), np.float32)])


@pytest.fixture(scope="module")
def kept():
    with np.load(PICTURE) as stored:
        return stored["DAPI"], stored["INS"]


@given(threads=st.integers(1, 5), tile=st.integers(17, 400), block=st.sampled_from([96, 128]))
@settings(max_examples=6)
def test_the_same_bits_for_any_threads_and_tiles(kept, threads, tile, block):
    dna, marker = kept
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("islet_imaging.network.blocks.make_grid", lambda s: make_grid(s, block))
        patch.setattr("islet_imaging.network.positivity.BLOCK_PX", block)
        one, other = (
            segment_nuclei_network(dna, diameter_px=13.0, work=w)
            for w in (Work(threads=1), Work(threads=threads, tile_px=tile))
        )
        assert np.array_equal(one, other)
        first, second = (
            network_logits(dna, {"INS": marker}, one, pixel_size_um=0.5, work=Work(threads=n))
            for n in (1, threads)
        )
        for a, b in zip(first["INS"], second["INS"], strict=True):
            assert np.array_equal(a, b, equal_nan=True)


def test_labels_and_calls_of_a_kept_image_are_the_recorded_ones(kept):
    """A release of any library that changes results is seen here, on whatever processor."""
    dna, marker = kept
    labels = segment_nuclei_network(dna, diameter_px=16.0)
    found = hashlib.sha256(labels.astype("<i4").tobytes()).hexdigest()
    assert (int(labels.max()), found) == RECORDED_LABELS
    said = network_logits(dna, {"INS": marker}, labels, pixel_size_um=WORKING_PIXEL_UM)["INS"]
    assert np.allclose(said.odds[: len(RECORDED_ODDS)], RECORDED_ODDS, atol=1e-6)


RECORDED_LABELS = (46, "8cc01d906df09f1b1f4228428ec6a100dddf744d145935ca9785276975e8117c")
#: of the first nuclei
RECORDED_ODDS = [
    -0.234971, 1.206275, -2.400216, 0.637080, -3.993593, 4.066901,
    2.426458, -3.340355, 2.258028, 3.428524, -3.738554, 2.521407,
]  # fmt: skip
