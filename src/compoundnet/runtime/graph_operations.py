"""The operations of a ConvNet as nodes of an ONNX graph.

While the network runs, a Value stands in for each tensor: torch passes the calls of its functions to the Value, which
adds a node to the graph. No global state changes, so other threads may run networks at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx_ir as ir
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Sides: TypeAlias = tuple[int, ...]  # height and width
_MAP = (2, 3)  # the axes of a feature map
_NO_PADS = (0, 0, 0, 0)


class UnknownOperationError(Exception):
    """The network has an operation that is not written here."""


class InputShape(NamedTuple):
    """The shape of a graph's input, float32[N, channels, H, W].

    Attributes:
        channels: Its channels.
        size: H and W, an example if `dynamic_size`.
        dynamic_batch: Whether N is arbitrary; otherwise it is 1.
        dynamic_size: Whether H and W are arbitrary.
    """

    channels: int
    size: int
    dynamic_batch: bool
    dynamic_size: bool

    @property
    def dims(self) -> tuple[int | str, ...]:
        """The four dimensions, by name where they are arbitrary."""
        sides = ("height", "width") if self.dynamic_size else (self.size, self.size)
        return ("batch" if self.dynamic_batch else 1, self.channels, *sides)


class Nodes:
    """The nodes of a graph, and the weights that they read.

    Attributes:
        nodes: In the order of their operations.
        weights: By their names.
    """

    def __init__(self, names: Mapping[Any, str], any_size: Collection[Tensor], half: bool) -> None:
        """Begin a graph.

        Args:
            names: The name of each weight.
            any_size: The weights of the convolutions that have TensorFlow's padding at any size.
            half: Whether weights and arithmetic are float16.
        """
        self.nodes: list[ir.Node] = []
        self.weights: dict[str, ir.Value] = {}
        self.any_size = any_size
        self._names, self._half = names, half

    def add(self, kind: str, inputs: list[ir.Value], shape: Sides, **attributes: Any) -> Value:
        """Add a node and return its output."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        node = ir.node(kind, inputs, attributes, name=f"node_{name}", outputs=[ir.Value(name=name)])
        self.nodes.append(node)
        return Value(self, node.outputs[0], shape)

    def weight(self, tensor: Tensor) -> ir.Value:
        """Return the initializer of a weight of the network."""
        if tensor not in self._names:
            raise UnknownOperationError("a weight that is computed")
        return self.constant(self._names[tensor], tensor.detach().numpy())

    def constant(self, name: str, array: NDArray[np.float32]) -> ir.Value:
        """Return the initializer of this name, which is written once."""
        if name not in self.weights:
            tensor = ir.tensor(array.astype(np.float16) if self._half else array, name=name)
            self.weights[name] = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
            )
        return self.weights[name]

    def converted(self, given: Value, half: bool) -> Value:
        """Return a value in float16 or in float32; unchanged if the whole graph is in float32."""
        if not self._half:
            return given
        return self.add("Cast", [given.value], given.shape, to=int(ir.DataType.FLOAT16 if half else ir.DataType.FLOAT))


class Value:
    """A stand-in for a tensor of a network in eval mode with gradients on; operations on it add nodes.

    Attributes:
        nodes: The graph that nodes are added to.
        value: The output of a node, or the input of the graph.
        shape: As of a tensor; of an example where the graph is for any size.
        pads: Zeros on the left, right, top and bottom, which are left to the convolution that follows.
    """

    def __init__(self, nodes: Nodes, value: ir.Value, shape: Sides, pads: Sides = _NO_PADS) -> None:
        self.nodes, self.value, self.shape, self.pads = nodes, value, shape, pads

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], _: object, given: tuple[Any, ...], named: dict[str, Any] | None = None
    ) -> Value:
        """Write a function of torch, by the protocol of torch.overrides."""
        if function not in _FUNCTIONS:
            raise UnknownOperationError(str(function))
        return _FUNCTIONS[function](*given, **(named or {}))

    @property
    def ndim(self) -> int:
        """The number of axes, as of a tensor."""
        return len(self.shape)

    @property
    def padded(self) -> bool:
        """Whether zeros are still to be added."""
        return self.pads != _NO_PADS

    def sigmoid(self) -> Value:
        return self.then("Sigmoid")

    def mean(self, axes: Sides, keepdim: bool) -> Value:
        return self._pooled("GlobalAveragePool", axes, keepdim)

    def amax(self, axes: Sides, keepdim: bool) -> Value:
        return self._pooled("GlobalMaxPool", axes, keepdim)

    def flatten(self, start: int) -> Value:
        if start != 1 or any(side != 1 for side in self.shape[2:]):  # whose length depends on the size
            raise UnknownOperationError("a map that is flattened")
        return self.then("Flatten", shape=self.shape[:2])

    def __add__(self, other: Value) -> Value:
        return self.then("Add", other, shape=np.broadcast_shapes(self.shape, other.shape))

    def __mul__(self, other: Value) -> Value:
        return self.then("Mul", other, shape=np.broadcast_shapes(self.shape, other.shape))

    def then(self, kind: str, *others: Value | ir.Value, shape: Sides | None = None, **attributes: Any) -> Value:
        """Return the output of a node that reads this value and others."""
        if any(isinstance(one, Value) and one.padded for one in (self, *others)):
            raise UnknownOperationError(f"{kind} of a padded map")
        values = [other.value if isinstance(other, Value) else other for other in others]
        return self.nodes.add(kind, [self.value, *values], shape or self.shape, **attributes)

    def _pooled(self, kind: str, axes: Sides, keepdim: bool) -> Value:
        """A pool over the whole map: a node of its own, because a mean has its axes elsewhere before opset 18."""
        if axes != _MAP:
            raise UnknownOperationError(f"{kind} over {axes}")
        pooled = self.then(kind, shape=(*self.shape[:2], 1, 1))
        return pooled if keepdim else pooled.flatten(1)


def _relu(x: Value, inplace: bool = False) -> Value:
    del inplace  # the same values
    return x.then("Relu")


def _relu6(x: Value, inplace: bool = False) -> Value:
    del inplace
    limits = [x.nodes.constant(f"limit.{limit}", np.array(limit, np.float32)) for limit in (0, 6)]
    return x.then("Clip", *limits)


def _silu(x: Value, inplace: bool = False) -> Value:
    del inplace
    return x.then("Mul", x.sigmoid())


def _dropout(x: Value, p: float, training: bool, inplace: bool) -> Value:
    del p, inplace
    if training:
        raise UnknownOperationError("dropout in training")
    return x


def _pad(x: Value, pads: Sides, mode: str, value: float | None) -> Value:
    if len(pads) != len(_NO_PADS) or x.padded or mode != "constant" or value:
        raise UnknownOperationError(f"padding by {pads}")
    return Value(x.nodes, x.value, x.shape, pads)


def _conv2d(
    x: Value,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sides,
    padding: Sides | int,
    dilation: Sides,
    groups: int,
) -> Value:
    left, right, top, bottom = x.pads
    high, wide = (padding, padding) if isinstance(padding, int) else padding
    kernel, pads = tuple(weight.shape[2:]), (top + high, left + wide, bottom + high, right + wide)
    weights = [x.nodes.weight(one) for one in (weight, bias) if one is not None]
    return Value(x.nodes, x.value, x.shape).then(
        "Conv",
        *weights,
        shape=(x.shape[0], weight.shape[0], *_windows(x.shape[2:], kernel, stride, pads, dilation)),
        group=groups,
        kernel_shape=kernel,
        strides=stride,
        dilations=dilation,
        # TensorFlow's padding: in numbers for a given size, and by its name, which is the same at any, otherwise.
        **{"auto_pad": "SAME_UPPER"} if weight in x.nodes.any_size else {"auto_pad": "NOTSET", "pads": pads},
    )


def _max_pool2d(
    x: Value, kernel: int, *, stride: int, padding: int, dilation: int, ceil_mode: bool, return_indices: bool
) -> Value:
    if ceil_mode or return_indices:
        raise UnknownOperationError("another pool")
    windows, steps, extents = (kernel, kernel), (stride, stride), (dilation, dilation)
    pads = (padding, padding, padding, padding)
    return x.then(
        "MaxPool",
        shape=(*x.shape[:2], *_windows(x.shape[2:], windows, steps, pads, extents)),
        auto_pad="NOTSET",
        ceil_mode=0,
        dilations=extents,
        kernel_shape=windows,
        pads=pads,
        storage_order=0,
        strides=steps,
    )


def _windows(sides: Sides, kernel: Sides, stride: Sides, pads: Sides, dilation: Sides) -> Sides:
    """The number of windows along each side; the paddings come before each, then after each."""
    return tuple(
        (side + before + after - extent * (length - 1) - 1) // step + 1
        for side, length, step, before, after, extent in zip(
            sides, kernel, stride, pads[:2], pads[2:], dilation, strict=True
        )
    )


def _linear(x: Value, weight: Tensor, bias: Tensor | None) -> Value:
    if x.ndim != 2:
        raise UnknownOperationError("a linear layer over a map")
    weights = [x.nodes.weight(one) for one in (weight, bias) if one is not None]
    shape = (x.shape[0], weight.shape[0])
    return x.then("Gemm", *weights, shape=shape, alpha=1.0, beta=1.0, transA=0, transB=1)


_FUNCTIONS: dict[Callable[..., Any], Callable[..., Value]] = {
    F.conv2d: _conv2d,
    F.dropout: _dropout,
    F.linear: _linear,
    F.pad: _pad,
    F.relu: _relu,
    F.relu6: _relu6,
    F.silu: _silu,
    F.max_pool2d: _max_pool2d,
}
