"""The graph of an integer network: exact at its ends, and without steps that only move numbers.

The idea: three rewritings of what ONNX Runtime's quantisation makes.  The first and the last
convolution get weights and inputs on grids so coarse that no sum rounds (`exact_weights`).  Skips
are added in float32.  And what only moves numbers is taken out, without another bit anywhere
(`simplify`): folding 2x2 pixels into channels becomes the stride of the first convolution,
upsampling becomes a broadcast of the sum, the 1x1 convolution at the end a product of matrices; all
of it with channels last, as ONNX Runtime's integer convolutions have them.

It fails clearly on a network of another form than `architecture.UNet`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from islet_imaging._types import Float32, Float64
from islet_imaging.errors import ModelError

INPUT_BITS = 11
"""The largest value of the input is this many bits of steps."""

_EXACT_BITS = 24
"""Integers up to this many bits are float32 without rounding."""

_NHWC, _NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


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


def exact_first(model: Any, name: str, low: float, high: float) -> None:
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


def exact_last(model: Any, name: str) -> None:
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


def simplify(model: Any) -> None:
    """Take out of the graph what only moves numbers; every output keeps its bits.

    Parameters
    ----------
    model : onnx.ModelProto
        After `exact_first` and `exact_last`; changed in place.

    Raises
    ------
    ModelError
        When the network has another form than `architecture.UNet`.
    """
    graph = model.graph
    _strided_first(graph)
    for node in [n for n in graph.node if n.op_type == "Add"]:
        _broadcast_sum(graph, node)
    _product_last(graph)
    used = {i for n in graph.node for i in n.input}
    for node in [n for n in graph.node if n.op_type == "Constant" and n.output[0] not in used]:
        graph.node.remove(node)
    for value in [i for i in graph.initializer if i.name not in used]:
        graph.initializer.remove(value)


def _strided_first(graph: Any) -> None:
    """A 3x3 convolution of 2x2 pixels in channels is one of 6x6 pixels at every second."""
    from onnx import helper

    conv = next(n for n in graph.node if n.op_type == "Conv")
    weights, bias = _parameters(graph, conv.name)
    out, folded = weights.shape[:2]
    folding = []
    source = conv.input[0]
    while source != "image_on_grid":
        folding.append(_maker(graph, source))
        source = folding[-1].input[0]
    if weights.shape[2:] != (3, 3) or folded % 4 or not folding:
        raise ModelError("the first convolution is not of 2x2 folded pixels")
    pairs = weights.reshape(out, folded // 4, 2, 2, 3, 3).transpose(0, 1, 4, 2, 5, 3)
    wide = np.ascontiguousarray(pairs.reshape(out, folded // 4, 6, 6), np.float32)
    _set_parameters(graph, conv.name, wide, bias.astype(np.float32))
    at = list(graph.node).index(conv)
    strided = helper.make_node(
        "Conv", ["image_on_grid", *conv.input[1:]], list(conv.output), name=conv.name,
        kernel_shape=[6, 6], strides=[2, 2], pads=[2, 2, 2, 2],
    )  # fmt: skip
    graph.node.remove(conv)
    graph.node.insert(at, strided)
    for node in folding:
        graph.node.remove(node)


def _broadcast_sum(graph: Any, add: Any) -> None:
    """Add a coarse level to a skip, each of its pixels to four.

    The lift gives each channel twice, side by side, for two pixels of a row; for two rows the sum
    broadcasts.  It is a Sum because ONNX Runtime fuses an Add between integers, by fused products
    on one processor, by others on the next, and by fixed-point numbers on ARM; a Sum it leaves
    alone: two float32 are added the same everywhere.
    """
    from onnx import helper, numpy_helper

    lifted, skip = add.input
    wide: list[Any] = []
    while not wide or wide[-1].op_type != "Resize":
        wide.append(_maker(graph, lifted if not wide else wide[-1].input[0]))
    coarse = wide[-1].input[0]
    lift = _maker(graph, _maker(graph, _maker(graph, coarse).input[0]).input[0])
    if lift.op_type != "Conv":
        raise ModelError("what is added to a skip is not a lifted coarser level")
    for scaled in lift.input[1:]:
        for name in _maker(graph, scaled).input:
            value = _initializer(graph, name)
            twice = np.concatenate([numpy_helper.to_array(value)] * 2)
            value.CopyFrom(numpy_helper.from_array(twice, name))
    c = len(twice) // 2
    name = add.name

    def shape(what: str, *values: int) -> str:
        key = f"{name}_{what}"
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), key))
        return key

    def node(kind: str, inputs: list[str], what: str, **more: Any) -> Any:
        made = helper.make_node(kind, inputs, [what], name=what, **more)
        steps.append(made)
        return what

    steps: list[Any] = []
    # 0 takes over a length, -1 is what is left: (1, h, w, 2c) becomes (h, 1, w, 2c)
    small = node("Transpose", [coarse], f"{name}_coarse", perm=_NHWC)
    small = node("Reshape", [small, shape("rows", -1, 1, 0, 2 * c)], f"{name}_coarse_rows")
    # (1, 2h, 2w, c) becomes (h, 2, w, 2c)
    fine = node("Transpose", [skip], f"{name}_skip", perm=_NHWC)
    fine = node("Reshape", [fine, shape("pairs", 0, 0, -1, 2 * c)], f"{name}_skip_pairs")
    fine = node("Reshape", [fine, shape("pairs_of_rows", -1, 2, 0, 2 * c)], f"{name}_skip_rows")
    both = node("Sum", [small, fine], f"{name}_sum")
    both = node("Reshape", [both, shape("all_rows", 1, -1, 0, 2 * c)], f"{name}_sum_pairs")
    both = node("Reshape", [both, shape("all", 0, 0, -1, c)], f"{name}_sum_pixels")
    node("Transpose", [both], add.output[0], perm=_NCHW)
    at = list(graph.node).index(add)
    graph.node.remove(add)
    for made in reversed(steps):
        graph.node.insert(at, made)
    for gone in wide:
        graph.node.remove(gone)


def _product_last(graph: Any) -> None:
    """A 1x1 convolution with channels last is a product of matrices."""
    from onnx import helper, numpy_helper

    conv = [n for n in graph.node if n.op_type == "Conv"][-1]
    weights, bias = _parameters(graph, conv.name)
    if weights.shape[2:] != (1, 1):
        raise ModelError("the last convolution is not of single pixels")
    product = np.ascontiguousarray(weights[:, :, 0, 0].T, np.float32)
    values = {"head_product": product, "head_bias": bias.astype(np.float32)[:, None, None]}
    for key, value in values.items():
        graph.initializer.append(numpy_helper.from_array(value, key))
    steps = [
        helper.make_node("Transpose", [conv.input[0]], ["head_pixels"], perm=_NHWC),
        helper.make_node("MatMul", ["head_pixels", "head_product"], ["head_sums"]),
        helper.make_node("Transpose", ["head_sums"], ["head_fields"], perm=_NCHW),
        helper.make_node("Add", ["head_fields", "head_bias"], [conv.output[0]]),
    ]
    at = list(graph.node).index(conv)
    graph.node.remove(conv)
    for made in reversed(steps):
        graph.node.insert(at, made)


def _maker(graph: Any, name: str) -> Any:
    """The node whose output this is."""
    found = next((n for n in graph.node if name in n.output), None)
    if found is None:
        raise ModelError("another form of network")
    return found


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
