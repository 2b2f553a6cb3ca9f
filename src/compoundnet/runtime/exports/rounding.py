"""Weights rounded to int8 so that the outputs of a layer change least, instead of each to the nearest step.

OPTQ (Frantar et al. 2023, "OPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
arXiv:2210.17323, also called GPTQ), for convolutions: the weights of an output channel are rounded one after the other,
and what each loses is made up for by those that are still to be rounded, as far as the layer's inputs go together on
the given images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from math import sqrt
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from compoundnet.arch.layers import same_padding

Floats = NDArray[np.float64]
Maps = NDArray[np.float32]

# Of an image about this many positions of a map, if it has more: neighbours say nearly the same. Fewer for a depthwise
# layer, whose channels have a few weights each.
_POSITIONS, _DEPTHWISE = 256, 64
# Added to the squares of the inputs, as a fraction of their mean, since few images do not say how the weights of a
# large layer go together: 0.001 and 0.1 were no better.
_DAMPING = 0.01
# Columns that are rounded before the others are corrected at once, in one matrix product.
_BLOCK = 64
# Bytes of the squares of the inputs that are held at once. Those of all layers take 55 MB in Lite0 and 1.3 GB in B7.
_AT_ONCE = 2**30


def rounded_weights(
    model: onnx.ModelProto, nodes: Collection[str], images: Collection[Maps], steps: int
) -> dict[str, Maps]:
    """Return the weights of layers on the steps of their output channels, in float32.

    The steps of a channel are those of a quantiser without zero point: its largest weight divided by their number. That
    weight stays, so that the same steps are found again.

    Args:
        model: The graph in float32, with one input for images.
        nodes: The names of nodes, of which `Conv` and `Gemm` have weights.
        images: Images like those in use, each float32[C, H, W]. They run once for each `_AT_ONCE` of squares.
        steps: The steps from 0 to the largest weight.

    Returns:
        The weights by the names of their initializers. Those that the graph computes are not among them.
    """
    stored = ((one.name, onnx.numpy_helper.to_array(one)) for one in model.graph.initializer)
    weights = {name: weight for name, weight in stored if weight.ndim in (2, 4)}  # of images or vectors, no sequences
    layers: dict[str, list[onnx.NodeProto]] = {}  # by their weights, which several may share
    for node in model.graph.node:
        if node.name in nodes and _multiplies(node) and node.input[1] in weights:
            layers.setdefault(node.input[1], []).append(node)
    rounded: dict[str, Maps] = {}
    for names in _parts({name: _bytes_of_squares(weights[name], those[0]) for name, those in layers.items()}):
        squares = _squares(model, [node for name in names for node in layers[name]], weights, images)
        while squares:
            name, square = squares.popitem()
            rows = weights[name].reshape(len(square), -1, square.shape[1])
            found = round_rows(rows, square.astype(np.float64), steps)
            rounded[name] = found.reshape(weights[name].shape).astype(np.float32)
    return rounded


def _parts(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield names in order, as many at a time as take `_AT_ONCE` bytes together, or one."""
    part: list[str] = []
    for name in sizes:
        if part and sum(sizes[one] for one in (*part, name)) > _AT_ONCE:
            yield part
            part = []
        part.append(name)
    if part:
        yield part


def _bytes_of_squares(weight: NDArray[Any], layer: onnx.NodeProto) -> int:
    groups: int = next((one.i for one in layer.attribute if one.name == "group"), 1)
    columns: int = weight[0].size
    return 4 * groups * columns * columns


def _squares(
    model: onnx.ModelProto,
    layers: Collection[onnx.NodeProto],
    weights: Mapping[str, NDArray[Any]],
    images: Iterable[Maps],
) -> dict[str, Maps]:
    """The sums over images of the outer products of the layers' inputs with themselves, by the names of weights."""
    squares: dict[str, Maps] = {}
    for inputs in _inputs(model, layers, images):
        for layer in layers:
            own = _columns(inputs[layer.input[0]], layer, weights[layer.input[1]].shape[2:])
            square = own @ own.swapaxes(1, 2)
            if layer.input[1] in squares:
                squares[layer.input[1]] += square
            else:
                squares[layer.input[1]] = square
    return squares


def _multiplies(node: onnx.NodeProto) -> bool:
    """Whether a node has weights with a row for each output channel."""
    rows_first = any(one.name == "transB" and one.i for one in node.attribute)
    return node.op_type == "Conv" or (node.op_type == "Gemm" and rows_first)


def round_rows(weights: NDArray[Any], squares: Floats, steps: int) -> Floats:
    """Return weights on steps of their rows.

    Args:
        weights: float[G, rows, columns], those of each group of a layer.
        squares: float64[G, columns, columns], the sum of the outer products of the group's inputs with themselves.
        steps: The steps from 0 to the largest weight of a row.
    """
    left, width = weights.astype(np.float64), weights.shape[2]
    largest = np.abs(left).max(axis=2)
    step = np.where(largest > 0, largest / steps, 1.0)
    ends = np.where(np.abs(left) == largest[:, :, None], np.sign(left) * steps, 0.0)
    # The inputs with the most to say first, while there are others to make up for them.
    powers = np.einsum("gii->gi", squares)
    order = np.argsort(-powers, axis=1)
    left, ends = (np.take_along_axis(one, order[:, None], 2) for one in (left, ends))
    inverse = _inverse_factor(squares, powers, order)
    rounded = np.empty_like(left)
    for start in range(0, width, _BLOCK):
        end = min(width, start + _BLOCK)
        errors = np.empty((*left.shape[:2], end - start))
        for column in range(start, end):
            now, end_of = left[:, :, column], ends[:, :, column]
            rounded[:, :, column] = step * np.where(end_of, end_of, np.clip(np.round(now / step), -steps, steps))
            error = (now - rounded[:, :, column]) / inverse[:, column, column, None]
            left[:, :, column:end] -= error[:, :, None] * inverse[:, None, column, column:end]
            errors[:, :, column - start] = error
        left[:, :, end:] -= errors @ inverse[:, start:end, end:]
    return np.take_along_axis(rounded, np.argsort(order, axis=1)[:, None], 2)


def _inverse_factor(squares: Floats, powers: Floats, order: NDArray[np.int64]) -> Floats:
    """The upper Cholesky factor of the inverse of the damped squares, in an order of the columns: float64[G, n, n]."""
    damping = _DAMPING * powers.mean(axis=1)
    damped = squares + np.where(damping > 0, damping, 1.0)[:, None, None] * np.eye(squares.shape[1])
    ordered = np.take_along_axis(np.take_along_axis(damped, order[:, :, None], 1), order[:, None], 2)
    return np.linalg.cholesky(np.linalg.inv(ordered)).swapaxes(1, 2)


def _inputs(
    model: onnx.ModelProto, layers: Iterable[onnx.NodeProto], images: Iterable[Maps]
) -> Iterator[dict[str, Maps]]:
    """Run the graph on images, and yield the inputs of layers for each, by their names."""
    import onnxruntime  # noqa: PLC0415  takes 0.2 s to import, and only int8 needs it

    (given,) = (one.name for one in model.graph.input)
    names = sorted({layer.input[0] for layer in layers} - {given})
    widened = onnx.ModelProto()
    widened.CopyFrom(model)
    present = {one.name for one in widened.graph.output}
    widened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    options = onnxruntime.SessionOptions()
    # Its threads would wait busily between two images, where NumPy multiplies on all cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(widened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for image in images:
        found = session.run(names, {given: image[None]}) if names else []  # without names it would return all outputs
        yield {given: image[None], **dict(zip(names, found, strict=True))}


def _columns(maps: Maps, layer: onnx.NodeProto, kernel: tuple[int, ...]) -> Maps:
    """What the weights of a layer are multiplied by, for an image: float32[groups, columns, positions]."""
    if layer.op_type == "Gemm":
        return maps.T[None]
    named: dict[str, Any] = {"dilations": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0), "group": 1}
    named |= {one.name: onnx.helper.get_attribute_value(one) for one in layer.attribute}
    (down, across), strides = named["dilations"], named["strides"]
    extent = (down * (kernel[0] - 1) + 1, across * (kernel[1] - 1) + 1)
    if named.get("auto_pad") == b"SAME_UPPER":
        (top, bottom), (left, right) = map(same_padding, maps.shape[2:], extent, strides)
    else:
        top, left, bottom, right = named["pads"]
    padded = np.pad(maps[0], ((0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1], ::down, ::across]
    most = _DEPTHWISE if named["group"] == len(padded) else _POSITIONS
    apart = max(1, round(sqrt(windows.shape[1] * windows.shape[2] / most)))
    windows = windows[:, ::apart, ::apart].reshape(len(padded), -1, kernel[0] * kernel[1])
    return np.ascontiguousarray(windows.swapaxes(1, 2)).reshape(named["group"], -1, windows.shape[1])
