"""Preprocessing and probabilities as parts of an ONNX graph: from uint8[H, W, 3] of any size to the classes.

The resize is PIL's, which is antialiased: a product with a matrix along each axis, whose rows are the weights of the
filter, and whose results are rounded to 8 bits, as in PIL. ONNX's own Resize antialiases from opset 18 on only, and
gives other results than PIL. The matrices are computed from the height and width of the image, in integers that float32
holds exactly, so that the result is the same at every opset.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compoundnet.models import ExportedModel, Postprocess, Preprocess

IMAGE, PROBABILITIES = "image", "probabilities"
_PIXELS, _LOGITS = "images", "logits"
# Prefixes of the names of the added nodes and values.
_BEFORE, _AFTER = "preprocess/", "postprocess/"


def add_preprocessing(model: onnx.ModelProto, how: Preprocess, postprocess: Postprocess) -> None:
    """Extend a graph from `images` to `logits` in place, so that it reads `image` and gives `probabilities`.

    Args:
        model: A graph for one image of a fixed size.
        how: The preprocessing.
        postprocess: The function that turns logits into probabilities, and its temperature.
    """
    before, after = _Part(_BEFORE), _Part(_AFTER)
    _preprocess(before, how)
    scaled = after.value(_LOGITS) / np.float32(postprocess.temperature)
    if postprocess.multilabel:
        after.op("Sigmoid", scaled, output=PROBABILITIES)
    else:
        after.op("Softmax", scaled, output=PROBABILITIES, axis=-1)
    graph = model.graph
    classes = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    nodes = [*before.nodes, *graph.node, *after.nodes]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*before.constants.values(), *after.constants.values()])
    graph.input.append(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["height", "width", 3]))
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [1, classes]))


def load_graph(exported: ExportedModel) -> onnx.ModelProto:
    """Load an exported ONNX file; one made with preprocessing without it, from `images` to `logits`."""
    model = onnx.load(exported.file)
    if not exported.with_preprocessing:
        return model
    graph = model.graph
    nodes = [node for node in graph.node if not node.name.startswith((_BEFORE, _AFTER))]
    weights = [tensor for tensor in graph.initializer if not tensor.name.startswith((_BEFORE, _AFTER))]
    del graph.node[:], graph.initializer[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    size, network = exported.preprocess.size, exported.network
    for values, name, shape in (
        (graph.input, _PIXELS, [1, network.in_channels, size, size]),
        (graph.output, _LOGITS, [1, network.num_classes]),
    ):
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return model


_Number = int | np.float32 | NDArray[np.float32] | list[int]


class _Part:
    """Nodes that are added to a graph; their names and those of their values begin with a prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], TensorProto] = {}

    def value(self, name: str) -> _Value:
        """A value of the rest of the graph."""
        return _Value(self, name)

    def constant(self, number: _Number) -> str:
        """The name of a constant; integers are int64, and other numbers float32."""
        array = np.asarray(number)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            name = f"{self.prefix}constant_{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(array, name)
        return str(self.constants[key].name)

    def op(self, operator: str, *inputs: _Value | _Number, output: str | None = None, **attributes: Any) -> _Value:
        """Add a node with one output, and return that."""
        names = [given.name if isinstance(given, _Value) else self.constant(given) for given in inputs]
        label = f"{self.prefix}{operator}_{len(self.nodes)}"
        node = helper.make_node(operator, names, [output or label], name=label, **attributes)
        self.nodes.append(node)
        return _Value(self, output or label)


class _Value:
    """A value of a graph, with the arithmetic of Python; of integers `/` is the quotient truncated towards zero."""

    def __init__(self, part: _Part, name: str) -> None:
        self.part, self.name = part, name

    def __add__(self, other: _Value | _Number) -> _Value:
        return self.part.op("Add", self, other)

    def __sub__(self, other: _Value | _Number) -> _Value:
        return self.part.op("Sub", self, other)

    def __rsub__(self, other: _Number) -> _Value:
        return self.part.op("Sub", other, self)

    def __mul__(self, other: _Value | _Number) -> _Value:
        return self.part.op("Mul", self, other)

    def __truediv__(self, other: _Value | _Number) -> _Value:
        return self.part.op("Div", self, other)

    def __abs__(self) -> _Value:
        return self.part.op("Abs", self)

    def at_least(self, other: _Value | _Number) -> _Value:
        return self.part.op("Max", self, other)

    def at_most(self, other: _Value | _Number) -> _Value:
        return self.part.op("Min", self, other)

    def real(self) -> _Value:
        """As float32."""
        return self.part.op("Cast", self, to=TensorProto.FLOAT)

    def whole(self) -> _Value:
        """As int64, truncated towards zero."""
        return self.part.op("Cast", self, to=TensorProto.INT64)

    def rounded(self) -> _Value:
        """To 8 bits as PIL does: halves upwards, and clipped."""
        return self.part.op("Clip", self.part.op("Floor", self + np.float32(0.5)), np.float32(0), np.float32(255))


class _Axis(NamedTuple):
    """One axis of the image: its visible part, and the pixels that become of it.

    Attributes:
        start: The first visible pixel, int64[1].
        end: The first pixel behind the visible part, int64[1].
        inner: The number of pixels that the visible part becomes, int64[1].
        nearest: The pixel of that part for each pixel of the result, int64[size, 1]; of the border the nearest.
        border: 1 for each pixel of the result that is outside the image, else 0: float32[size, 1]. None without pad.
    """

    start: _Value
    end: _Value
    inner: _Value
    nearest: _Value
    border: _Value | None


def _preprocess(part: _Part, how: Preprocess) -> None:
    """Add `Preprocess.pixels`, for an image of 8 bits a value."""
    image = part.value(IMAGE)
    shape = part.op("Shape", image)
    height, width = part.op("Gather", shape, [0]), part.op("Gather", shape, [1])
    base = {
        "crop": (height.at_most(width),) * 2,
        "pad": (height.at_least(width),) * 2,
        "squash": (height, width),
    }[how.fit]
    y, x = (_axis(part, how, length, side) for length, side in zip((height, width), base, strict=True))
    starts, ends = (part.op("Concat", *pair, axis=0) for pair in ((y.start, x.start), (y.end, x.end)))
    visible = part.op("Slice", image, starts, ends, [0, 1])
    planes = part.op("Transpose", visible, perm=[2, 0, 1]).real()
    columns = part.op("Transpose", _weights(part, how, x), perm=[1, 0])
    narrow = part.op("MatMul", planes, columns).rounded()
    small = part.op("MatMul", _weights(part, how, y), narrow).rounded()
    if x.border is not None and y.border is not None:
        border = y.border.at_least(part.op("Transpose", x.border, perm=[1, 0]))
        small = small * (np.float32(1) - border) + border * _planes(how.padding)
    mean, std = (np.broadcast_to(np.asarray(values), 3) for values in (how.mean, how.std))
    part.op("Unsqueeze", small * _planes(1 / (255 * std)) + _planes(-mean / std), [0], output=_PIXELS)


def _planes(values: object) -> NDArray[np.float32]:
    """One value for each channel, float32[3, 1, 1]."""
    return np.asarray(values, np.float32)[:, None, None]


def _axis(part: _Part, how: Preprocess, length: _Value, base: _Value) -> _Axis:
    """`Preprocess.box` and `visible` for an axis of an image; its box is a fraction of the length `base`."""
    side = (base.real() * np.float32(how.crop)).whole().at_least([1])
    offset = (length - side + [1]) / [2]
    start, end = offset.at_least([0]), (offset + side).at_most(length)
    rows = part.op("Unsqueeze", part.op("Range", 0, how.size, 1), [1])
    if how.fit != "pad":
        return _Axis(start, end, part.op("Identity", [how.size]), rows, None)
    shown = ((end - start) * [how.size]).real() / side.real()
    inner = part.op("Round", shown).whole().at_least([1])
    shifted = rows - (inner * [-1] + [how.size]) / [2]
    nearest = shifted.at_least([0]).at_most(inner - [1])
    return _Axis(start, end, inner, nearest, abs((shifted - nearest).real()).at_most(np.float32(1)))


def _weights(part: _Part, how: Preprocess, axis: _Axis) -> _Value:
    """The weight of each visible pixel in each pixel of the result, float32[size, length]: PIL's ImagingResample.

    With l pixels that become n, the distance of pixel j from the centre of pixel i of the result, in units of the
    filter, is |(2j + 1) n - (2i + 1) l| / (2 max(l, n)).
    """
    length = axis.end - axis.start
    pixels = part.op("Range", 0, part.op("Squeeze", length, [0]), 1)
    apart = (pixels * [2] + [1]) * axis.inner - (axis.nearest * [2] + [1]) * length
    distance = abs(apart.real() / (length.at_least(axis.inner) * [2]).real())
    weights = _cubic(distance) if how.interpolation == "bicubic" else np.float32(1) - distance.at_most(np.float32(1))
    return weights / part.op("ReduceSum", weights, [1], keepdims=1)


def _cubic(distance: _Value) -> _Value:
    """Keys's filter with a = -1/2: (1.5 d - 2.5) d^2 + 1 up to 1, where it is 0, and -((d - 5) d + 8) d / 2 + 2 from
    there up to 2, where it is 0 again."""
    near, far = distance.at_most(np.float32(1)), distance.at_least(np.float32(1)).at_most(np.float32(2))
    inner = (near * np.float32(1.5) - np.float32(2.5)) * near * near + np.float32(1)
    outer = ((far - np.float32(5)) * far + np.float32(8)) * far * np.float32(-0.5) + np.float32(2)
    return inner + outer
