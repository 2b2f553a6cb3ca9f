"""Squeeze-excitation without layout changes, for ONNX Runtime on a CPU.

ONNX Runtime keeps feature maps in channel blocks (NCHWc) between convolutions. It cannot multiply a blocked map
by one number per channel, so around each squeeze-excitation it converts the map to NCHW and back. For one image,
however, this product is a depthwise 1x1 convolution whose weight is the gate, which ONNX Runtime supports in blocks: a
blocked [1, C, 1, 1] is C numbers in order, as is a depthwise weight. `pad_squeezed`, before the optimisation by ONNX
Runtime, and `keep_blocked`, after it, rewrite the graph accordingly.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import onnx

_BLOCKED = "com.microsoft.nchwc"
# Blocks are of 8 channels with AVX2 and of 16 with AVX-512: a multiple of both has no padding in either.
_MULTIPLE = 16


class _Graph:
    """The producer and the consumers of each value."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.maker = {name: node for node in graph.node for name in node.output}
        self.readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.readers[name].append(node)
        self.rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}

    def only_reader(self, name: str, operator: str) -> onnx.NodeProto | None:
        found = self.readers[name]
        return found[0] if len(found) == 1 and found[0].op_type == operator else None

    def channels(self, name: str) -> int | None:
        """The number of channels of the blocked result of a convolution, including the padding of its last block."""
        maker = self.maker.get(name)
        return self.rows.get(maker.input[1]) if maker is not None and maker.op_type == "Conv" else None


def pad_squeezed(model: onnx.ModelProto) -> None:
    """Pad the squeezed channels with zeros to a multiple of the block, in place: same results, no layout changes.

    A zero weight row gives 0, which SiLU, ReLU and ReLU6 keep at 0, and which is again multiplied by zero weights.
    """
    from onnx import numpy_helper  # noqa: PLC0415  only what the cache lacks needs it

    graph = _Graph(model.graph)
    weights = {tensor.name: tensor for tensor in model.graph.initializer if not tensor.external_data}

    def widen(name: str, axis: int, by: int) -> None:
        array = numpy_helper.to_array(weights[name])
        width = [(0, by if index == axis else 0) for index in range(array.ndim)]
        weights[name].CopyFrom(numpy_helper.from_array(np.pad(array, width), name))

    for node in model.graph.node:
        reduce = graph.only_reader(node.output[0], "Conv") if node.op_type == "GlobalAveragePool" else None
        expand = None if reduce is None else _next_conv(graph, reduce.output[0])
        if reduce is None or expand is None or not {*reduce.input[1:], expand.input[1]} <= weights.keys():
            continue
        by = -weights[reduce.input[1]].dims[0] % _MULTIPLE
        for name in reduce.input[1:]:
            widen(name, 0, by)
        widen(expand.input[1], 1, by)
    del model.graph.value_info[:]  # shapes that no longer hold


def _next_conv(graph: _Graph, name: str) -> onnx.NodeProto | None:
    """The convolution after the activation that reads this value (ReLU, Clip, or Sigmoid and Mul)."""
    acted = next((node for node in graph.readers[name] if node.op_type in ("Relu", "Clip", "Mul")), None)
    return None if acted is None else graph.only_reader(acted.output[0], "Conv")


def keep_blocked(model: onnx.ModelProto) -> int:
    """Rewrite the squeeze-excitations of a graph optimised by ONNX Runtime, in place; return their number.

    This works only for one image at a time: the gate becomes a weight, which is the same for all images of a batch.
    """
    graph = _Graph(model.graph)
    # A node is known by the name of its first output.
    replaced: dict[str, list[onnx.NodeProto]] = {}
    count = 0
    for node in model.graph.node:
        found = _rewritten(graph, node, f"blocked_{count}") if node.op_type == "Mul" else None
        if found is not None:
            replaced |= found.nodes
            model.graph.initializer.append(found.shape)
            count += 1
    nodes = [new for node in model.graph.node for new in replaced.get(node.output[0], [node])]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    return count


class _Rewritten(NamedTuple):
    nodes: dict[str, list[onnx.NodeProto]]
    shape: onnx.TensorProto


def _rewritten(graph: _Graph, product: onnx.NodeProto, name: str) -> _Rewritten | None:
    """The new and the replaced nodes of one squeeze-excitation; None if this product is not part of one.

    x -> GlobalAveragePool -> ... -> gate -> ReorderOutput
     `-> ReorderOutput -> Mul with it -> ReorderInput

    Where channels leave a part of their last block empty, the pool is not blocked either:

    x -> ReorderOutput -> GlobalAveragePool -> ReorderInput -> ... -> gate -> ReorderOutput
                      `-> Mul with it -> ReorderInput
    """
    from onnx import helper, numpy_helper  # noqa: PLC0415  only what the cache lacks needs it

    out, gate_out = (graph.maker.get(value) for value in product.input)
    back = graph.only_reader(product.output[0], "ReorderInput")
    if out is None or gate_out is None or back is None or out.op_type != "ReorderOutput":
        return None
    if gate_out.op_type != "ReorderOutput" or len(graph.readers[gate_out.output[0]]) != 1:
        return None
    blocked, gate = out.input[0], gate_out.input[0]
    channels = graph.channels(gate)
    pool = next((node for node in graph.readers[out.output[0]] if node.op_type == "GlobalAveragePool"), None)
    pool_back = None if pool is None else graph.only_reader(pool.output[0], "ReorderInput")
    if len(graph.readers[out.output[0]]) != 1 + (pool_back is not None) or channels is None:
        return None
    weight = helper.make_node("Reshape", [gate, f"{name}_shape"], [f"{name}_weight"])
    scale = helper.make_node(
        "Conv",
        [blocked, f"{name}_weight"],
        [back.output[0]],
        domain=_BLOCKED,
        group=channels,
        kernel_shape=[1, 1],
        strides=[1, 1],
        pads=[0, 0, 0, 0],
        dilations=[1, 1],
    )
    dropped = [node.output[0] for node in (out, gate_out, product)]
    nodes = {back.output[0]: [weight, scale], **{value: [] for value in dropped}}
    if pool is not None and pool_back is not None:
        blocked_pool = helper.make_node("GlobalAveragePool", [blocked], [pool_back.output[0]], domain=_BLOCKED)
        nodes |= {pool.output[0]: [blocked_pool], pool_back.output[0]: []}
    return _Rewritten(nodes, numpy_helper.from_array(np.array([channels, 1, 1, 1]), f"{name}_shape"))
