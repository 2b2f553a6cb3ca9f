"""The ONNX graph of a ConvNet, recorded by running the network on a stand-in for its input.

torch's exporter traces a network three times, which takes seconds; a ConvNet has a dozen kinds of operations, each of
which is one or two of ONNX. A network to which a user has added any other operation is left to the exporter. Both give
the same nodes and weights, except that the exporter leaves out biases that are all 0.
"""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch import nn

from compoundnet.nn.units import ConvNorm
from compoundnet.runtime.graph_operations import InputShape, Nodes, UnknownOperationError, Value

_IR_VERSION = 8
_FLOAT = ir.TensorType(ir.DataType.FLOAT)


def network_graph(
    net: nn.Module,
    names: tuple[str, list[str]],
    shape: InputShape,
    *,
    half: bool,
    opset: int,
) -> ir.Model:
    """Return the graph of a network in eval mode, with folded batch norms.

    Args:
        net: A ConvNet, or a module that calls one.
        names: The name of the input, and those of the outputs.
        shape: The shape of the input.
        half: Whether weights and arithmetic are float16; input and outputs are float32 all the same.
        opset: The opset to declare.

    Raises:
        UnknownOperationError: The exporter of torch must write it.
    """
    same = {part.conv.weight for part in net.modules() if isinstance(part, ConvNorm) and part.pad_same}
    weights = {tensor: name for name, tensor in net.named_parameters()}
    nodes = Nodes(weights, same if shape.dynamic_size else (), half)
    given, outputs = names
    images = ir.Value(name=given, type=_FLOAT, shape=ir.Shape(shape.dims))
    example = Value(nodes, images, (1, shape.channels, shape.size, shape.size))
    try:
        with torch.inference_mode(False), torch.enable_grad():  # without gradients, networks use in-place forms
            found = net(nodes.converted(example, half))
    except Exception as error:  # a user's code may do anything with what stands for a tensor
        raise UnknownOperationError(f"an operation of its own ({error})") from error
    made = found if isinstance(found, tuple) else (found,)
    if any(not isinstance(one, Value) or one.padded or one is example for one in made):
        raise UnknownOperationError("an output that no operation makes")
    ended = [nodes.converted(one, False) for one in made]
    values = [one.value for one in ended]
    if len(set(values)) != len(outputs):
        raise UnknownOperationError("an output that is another one too")

    for name, one in zip(outputs, ended, strict=True):
        sides = tuple(None if shape.dynamic_size else side for side in one.shape[2:])
        dims = ir.Shape((shape.dims[0], one.shape[1], *sides))
        one.value.name, one.value.type, one.value.shape = name, _FLOAT, dims
    initializers = list(nodes.weights.values())
    graph = ir.Graph(
        [images], values, nodes=nodes.nodes, initializers=initializers, opset_imports={"": opset}, name="main_graph"
    )
    return ir.Model(graph, ir_version=_IR_VERSION)
