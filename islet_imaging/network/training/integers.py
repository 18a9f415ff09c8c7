"""Integer weights of a trained network: three times as fast on a processor, the same everywhere.

The idea: ONNX Runtime's static quantisation.  What flows between layers is kept in unsigned 8-bit
integers whose ranges are seen on crops of the training images; weights become signed integers, with
a scale for each channel, of **7 bits**: processors without dot-product instructions (x86 before
VNNI) add two products in 16 bits and saturate with 8-bit weights, so that numbers would hang on the
processor (ONNX Runtime's page on quantisation, ``reduce_range``); 255 * 64 * 2 fits.  The first and
the last convolution have few channels but carry the picture's precision and the output's, so they
stay in float32, with inputs and weights on grids so coarse that every product and every sum is a
float32 without rounding: the order of sums and fused products change nothing either
(`integer_graph.exact_weights`).  What is added to what across the network is added in float32, one
sum at a time.

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

from islet_imaging._types import Float32
from islet_imaging.errors import ModelError
from islet_imaging.network.engine import OnnxEngine, onnx_runtime
from islet_imaging.network.training.integer_graph import exact_first, exact_last, simplify
from islet_imaging.network.weights import INTEGERS, SETTINGS_KEY, Model, file_sha256, load_model

if TYPE_CHECKING:
    from islet_imaging.network.training.loop import ItemSource

log = logging.getLogger(__name__)

CROPS = 120
"""Crops that ranges are seen on."""

MAX_LOSS = 0.005
"""A taught network whose score falls by more with integers keeps float32."""

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
    exact_first(made, first, float(values.min()), float(values.max()))
    exact_last(made, last)
    simplify(made)
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data


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
