"""Integer weights of a trained network: three times as fast on a processor, the same everywhere.

The idea: ONNX Runtime's static quantisation.  What flows between layers is kept in unsigned 8-bit
integers whose ranges are seen on crops of the training images; weights become signed integers, with
a scale for each channel, of **7 bits**: processors without dot-product instructions (x86 before
VNNI) add two products in 16 bits and saturate with 8-bit weights, so that numbers would hang on the
processor (ONNX Runtime's page on quantisation, ``reduce_range``); 255 * 64 * 2 fits.  The first and
the last convolution have few channels but carry the picture's precision and the output's, so they
stay in float32, with inputs and weights on grids so coarse that every product and every sum is a
float32 without rounding: the order of sums and fused products change nothing either
(`exact_weights`).  What is added to what across the network is added in float32, one sum at a time.

Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only
inference, CVPR 2018.

It fails where a picture holds what no crop did: values beyond the ranges seen are clipped to them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from islet_imaging._types import Float32, Float64
from islet_imaging.errors import ModelError
from islet_imaging.network.engine import OnnxEngine, onnx_runtime
from islet_imaging.network.weights import INTEGERS, SETTINGS_KEY, Model, file_sha256, load_model

if TYPE_CHECKING:
    from islet_imaging.network.training.loop import ItemSource

log = logging.getLogger(__name__)

CROPS = 120
"""Crops that ranges are seen on."""

MAX_LOSS = 0.005
"""A taught network whose score falls by more with integers keeps float32."""

INPUT_BITS = 11
"""The largest value of the input is this many bits of steps."""

_EXACT_BITS = 24
"""Integers up to this many bits are float32 without rounding."""

_MISSING = "integer weights need the extra: pip install 'islet-imaging[train]'"


def add_integers(folder: Path, images: Sequence[Float32]) -> Model:
    """Add integer weights to a network's folder and to its description.

    Parameters
    ----------
    folder : Path
        Network with ``weights.onnx``; integer weights that are there are replaced.
    images : sequence of (C, Y, X) float32
        Crops as the network is shown them, all of one shape, of images that it was trained on.

    Returns
    -------
    Model
        The network, read again.

    Raises
    ------
    ModelError
        Without the library ``onnx``, or when the network has another form than ours.
    """
    model = load_model(folder)
    data = quantise(model.weights("weights.onnx"), images)
    output = OnnxEngine(data).run(np.load(folder / "test_input.npy"))
    path = folder / INTEGERS
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)
    about = {
        "crops": len(images),
        "ranges": "smallest and largest",
        "weight_bits": 7,
        # the same on every processor, which a test holds it to
        "test_output_sha256": hashlib.sha256(np.ascontiguousarray(output).tobytes()).hexdigest(),
    }
    _describe(folder, file_sha256(path), about)
    return load_model(folder)


def drop_integers(folder: Path) -> Model:
    """Take integer weights out of a network's folder and description again."""
    _describe(folder, None, None)
    (folder / INTEGERS).unlink(missing_ok=True)
    return load_model(folder)


def _describe(folder: Path, sha256: str | None, about: dict[str, Any] | None) -> None:
    path = folder / "bioimageio.yaml"
    description: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings = description["config"][SETTINGS_KEY]
    others = [a for a in description["attachments"] if a["source"] != INTEGERS]
    settings["sha256"].pop(INTEGERS, None)
    settings.pop("integers", None)
    if sha256 is not None:
        others.append({"source": INTEGERS, "sha256": sha256})
        settings["sha256"][INTEGERS] = sha256
        settings["integers"] = about
    description["attachments"] = others
    part = path.with_suffix(".part")
    part.write_text(
        yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=100),
        encoding="utf-8",
    )
    part.replace(path)


def quantise(model: bytes, images: Sequence[Float32]) -> bytes:
    """Make an integer network of a float32 one.

    Parameters
    ----------
    model : bytes
        ONNX graph of `architecture.UNet`, batch norms folded.
    images : sequence of (C, Y, X) float32
        What ranges are seen on.

    Returns
    -------
    bytes
        ONNX graph with the same input and output.
    """
    onnx_runtime()  # first, so that its telemetry is off
    try:
        import onnx
        from onnxruntime import quantization as q
    except ImportError as error:
        raise ModelError(_MISSING) from error

    class Crops(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, Float32] | None:
            image = next(self._left, None)
            return None if image is None else {"image": np.asarray(image[None], np.float32)}

    graph = onnx.load_from_string(model)
    convolutions = [n.name for n in graph.graph.node if n.op_type == "Conv"]
    if len(convolutions) < 3:
        raise ModelError("integer weights are for networks of several convolutions")
    first, last = convolutions[0], convolutions[-1]
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        out = Path(scratch) / "integers.onnx"
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it warns through the root logger
        try:
            q.quantize_static(
                graph,
                out,
                Crops(),
                quant_format=q.QuantFormat.QDQ,
                # ReLU too: it then vanishes into the range, which begins at 0
                op_types_to_quantize=["Conv", "Relu", "MaxPool", "Resize", "Add"],
                nodes_to_exclude=[first, last],
                activation_type=q.QuantType.QUInt8,
                weight_type=q.QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
                # percentiles of 99.999 and 99.9999 lie further from float32
                calibrate_method=q.CalibrationMethod.MinMax,
            )
        finally:
            logging.getLogger().setLevel(level)
        made = onnx.load(str(out))
    values = np.stack([np.asarray(i, np.float32) for i in images])
    _exact_first(made, first, float(values.min()), float(values.max()))
    _exact_last(made, last)
    _float_sums(made)
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data


def exact_weights(
    weights: NDArray[np.floating], bias: NDArray[np.floating], bound: float
) -> tuple[Float32, Float32]:
    """Round a convolution so that no sum of it rounds, for inputs that are integers.

    Parameters
    ----------
    weights : (O, I, Y, X)
        For integer inputs.
    bias : (O,)
    bound : float
        The largest absolute input.

    Returns
    -------
    weights, bias : float32
        Multiples of a power of two of their own for each output channel, so that every partial
        sum, in whatever order, is such a multiple of less than 25 bits.

    Examples
    --------
    >>> w, b = exact_weights(np.full((1, 2, 1, 1), 1 / 3), np.array([0.1]), 255)
    >>> np.log2(np.gcd.reduce((w.ravel() * 2**20).astype(int))) >= 20 - 15
    np.True_
    """
    w, b = np.asarray(weights, np.float64), np.asarray(bias, np.float64)
    rounded_w, rounded_b = np.empty_like(w), np.empty_like(b)
    for k in range(len(w)):
        reach = float(np.abs(w[k]).sum() * bound + abs(b[k]))
        bits = _EXACT_BITS - int(np.ceil(np.log2(max(reach, 1e-30))))
        while True:
            step = 2.0**-bits
            rounded_w[k], rounded_b[k] = np.rint(w[k] / step), np.rint(b[k] / step)
            if np.abs(rounded_w[k]).sum() * bound + abs(rounded_b[k]) <= 2**_EXACT_BITS:
                break
            bits -= 1  # rounding went up
        rounded_w[k] *= step
        rounded_b[k] *= step
    return rounded_w.astype(np.float32), rounded_b.astype(np.float32)


def _exact_first(model: Any, name: str, low: float, high: float) -> None:
    """Put the input on a grid and the first convolution on one that fits it."""
    from onnx import helper, numpy_helper

    graph = model.graph
    steps = 2.0 ** (INPUT_BITS - int(np.ceil(np.log2(max(abs(low), abs(high), 1e-30)))))
    ends = np.rint([low * steps, high * steps]).astype(np.float32)
    weights, bias = _parameters(graph, name)
    _set_parameters(graph, name, *exact_weights(weights / steps, bias, float(np.abs(ends).max())))
    for key, value in (("input_steps", np.float32(steps)), ("input_low", ends[0]),
                       ("input_high", ends[1])):  # fmt: skip
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), key))
    for node in graph.node:
        for i, source in enumerate(node.input):
            if source == "image":
                node.input[i] = "image_on_grid"
    for node in reversed(
        [
            helper.make_node("Mul", ["image", "input_steps"], ["image_scaled"]),
            helper.make_node("Round", ["image_scaled"], ["image_rounded"]),
            helper.make_node("Clip", ["image_rounded", "input_low", "input_high"],
                             ["image_on_grid"]),
        ]
    ):  # fmt: skip
        graph.node.insert(0, node)


def _float_sums(model: Any) -> None:
    """Let skips be added in float32, where one addition is the same everywhere.

    ONNX Runtime fuses an Add between integers, and does it by fused products on one processor, by
    others on the next, and by fixed-point numbers on ARM; a Sum it leaves alone.
    """
    for node in model.graph.node:
        if node.op_type == "Add":
            node.op_type = "Sum"


def _exact_last(model: Any, name: str) -> None:
    """Let the last convolution see integers 0 to 255; their scale goes into its weights."""
    from onnx import numpy_helper

    graph = model.graph
    conv = next(n for n in graph.node if n.name == name)
    before = next(n for n in graph.node if n.output[0] == conv.input[0])
    if before.op_type != "DequantizeLinear":
        raise ModelError("the last convolution does not see integers: another form of network")
    scale = numpy_helper.to_array(_initializer(graph, before.input[1]))
    graph.initializer.append(numpy_helper.from_array(np.ones((), np.float32), "output_unit"))
    before.input[1] = "output_unit"
    weights, bias = _parameters(graph, name)
    _set_parameters(graph, name, *exact_weights(weights * np.float64(scale), bias, 255))


def _initializer(graph: Any, name: str) -> Any:
    return next(i for i in graph.initializer if i.name == name)


def _parameters(graph: Any, name: str) -> tuple[Float64, Float64]:
    """Weights and bias of a convolution, by its name."""
    from onnx import numpy_helper

    conv = next(n for n in graph.node if n.name == name)
    w, b = (numpy_helper.to_array(_initializer(graph, i)) for i in conv.input[1:3])
    return np.asarray(w, np.float64), np.asarray(b, np.float64)


def _set_parameters(graph: Any, name: str, weights: Float32, bias: Float32) -> None:
    from onnx import numpy_helper

    conv = next(n for n in graph.node if n.name == name)
    for key, value in zip(conv.input[1:3], (weights, bias), strict=True):
        _initializer(graph, key).CopyFrom(numpy_helper.from_array(value, key))


@dataclass(frozen=True)
class Chosen:
    """What a taught network was kept as.

    Attributes
    ----------
    scores, float32 : tuple of dict
        Of the network as it is kept, and of its float32 weights.
    note : str
        Which weights run on a processor, and why.
    """

    scores: tuple[dict[str, float], ...]
    float32: tuple[dict[str, float], ...]
    note: str


def choose_weights(
    folder: Path,
    source: ItemSource,
    score: Callable[[], tuple[dict[str, float], ...]],
    key: str,
) -> Chosen:
    """Give a taught network integer weights, unless they lose what it was taught.

    Parameters
    ----------
    folder : Path
        The new network, without integers.
    source : ItemSource
        The crops that it was taught with.
    score : callable
        Scores the folder's network on what was held out; called once for each kind of weights.
    key : str
        The score that may fall by `MAX_LOSS` at most, in each of the sets.

    Returns
    -------
    Chosen
    """
    single = score()
    try:
        add_integers(folder, [source.crop(i)["image"] for i in range(CROPS)])
    except ModelError as error:
        note = f"float32 weights are kept: {error}"
        log.warning("%s", note)
        return Chosen(single, single, note)
    whole = score()
    lost = max(a[key] - b[key] for a, b in zip(single, whole, strict=True))
    if lost > MAX_LOSS:
        drop_integers(folder)
        note = f"float32 weights are kept: with integers {key} falls by {lost:.3f}"
        log.warning("%s", note)
        return Chosen(single, single, note)
    return Chosen(whole, single, "integer weights run on a processor")


def calibration_crops(
    model: Model, data_dir: Path | None, cache: Path, *, n: int = CROPS
) -> list[Float32]:
    """Crops of the images that a released network was trained on.

    Parameters
    ----------
    model : Model
        Its description says how it was trained.
    data_dir : Path, optional
        The public images, for a network that was trained on them.
    cache : Path
        Folder for rendered images; the first few of the training's are rendered again.
    n : int
        How many crops.

    Returns
    -------
    list of (C, Y, X) float32

    Raises
    ------
    ModelError
        When the description does not say what it was trained on.
    """
    about: dict[str, Any] = model.settings.get("training", {})
    if "config" not in about:
        raise ModelError(
            f"{model.folder}: does not say which images it was trained on; networks that were "
            "fine-tuned get integer weights when they are made"
        )
    values: dict[str, Any] = {
        str(k): tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()
    }
    source: Callable[[int], dict[str, Any]]
    if about.get("network") == "positivity":
        from islet_imaging.network.training.positivity_training import (
            PositivityTrainingConfig,
            training_crops,
        )

        values["runs"] = min(12, values["runs"])
        source = training_crops(PositivityTrainingConfig(**values), cache).crop
    else:
        from islet_imaging.network.training.nuclei_training import (
            NucleiTrainingConfig,
            crop_source,
            training_sources,
        )

        values["phantom_images"] = min(30, values["phantom_images"])
        nuclei = NucleiTrainingConfig(**values)
        source = crop_source(nuclei, training_sources(nuclei, data_dir, cache)).crop
    return [source(i)["image"] for i in range(n)]
