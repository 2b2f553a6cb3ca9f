"""Export of a torch module to an ONNX graph: default operators only, SAME padding inside Conv, GlobalAveragePool for
means over a map, and the lowest versions of opset and IR that are asked for. network_graph
writes a ConvNet; torch's exporter any other module, and a ConvNet to which a user has added operations."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from compoundnet import __version__
from compoundnet.base import CompoundNetError
from compoundnet.nn import ConvNet
from compoundnet.nn.units import ConvNorm
from compoundnet.runtime.graph_operations import InputShape, UnknownOperationError
from compoundnet.runtime.network_graph import network_graph
from compoundnet.runtime.session_source import SessionSource

_LOG = logging.getLogger(__name__)
# The opset that torch's exporter writes, with IR version 8: read by ONNX Runtime from 1.14 and OpenVINO from 2023 on.
# Nothing newer is of use to these networks. ONNX Runtime needs 1.5 to 2 times as long for the operator Swish of opset
# 24 as for Sigmoid and Mul, which it fuses (docs/performance.md).
OPSET = 18
# 13 has QuantizeLinear for each channel, as int8 needs; no runtime needs more than 21.
OPSETS = range(13, 22)
INPUT, OUTPUT, FEATURES = "images", "logits", "features"
# An ONNX file with its weights inside is one protobuf message, which holds 2 GiB at most.
_ONE_FILE = 2**31 - 2**24
_EXTERNAL = "weights.bin"


def write_onnx(
    net: nn.Module,
    path: Path,
    *,
    channels: int,
    size: int,
    dynamic_batch: bool = False,
    dynamic_size: bool = False,
    half: bool = False,
    features: bool = False,
    properties: Mapping[str, str] | None = None,
    one_file: bool = True,
    opset: int = OPSET,
) -> None:
    """Write the graph of a module in eval mode. Input: `images` float32[N, channels, H, W]; output: `logits` float32[N,
    K].

    Args:
        net: The module.
        path: The file to write.
        channels: Channels of the input.
        size: H and W, unless `dynamic_size`.
        dynamic_batch: Whether N is arbitrary; otherwise it is 1.
        dynamic_size: Whether H and W are arbitrary.
        half: Whether weights and arithmetic are float16.
        features: Whether to add a second output of that name: the last feature map float32[N, C, h, w] of a ConvNet.
        properties: The file's metadata.
        one_file: Whether weights over 2 GB are an error; otherwise they go into weights.bin beside the file.
        opset: One of OPSETS. The file has the lowest IR version that it allows.
    """
    if features:
        assert isinstance(net, ConvNet)
        net = WithFeatures(net)
    outputs = [OUTPUT, FEATURES] if features else [OUTPUT]
    shape = InputShape(channels, size, dynamic_batch, dynamic_size)
    model = _graph(net, outputs, shape, half)
    model.producer_name, model.producer_version = "compoundnet", __version__
    _set_opset(model, opset)
    model.metadata_props.update(properties or {})
    size_of_weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if size_of_weights <= _ONE_FILE:
        ir.save(model, path)
    elif one_file:
        smaller = "" if half else "with --precision float16, or in float32 "
        raise CompoundNetError(
            f"the weights take {size_of_weights / 2**30:.1f} GiB, and an ONNX file holds 2 GiB at most; export"
            f" {smaller}to --format openvino or torch"
        )
    else:
        ir.save(model, path, external_data=_EXTERNAL)


def write_source(source: SessionSource, path: Path) -> None:
    """Write the graph of a source that is no exported file, at its size, for one image at a time.

    Weights of more than 2 GB go into weights.bin beside the file.
    """
    assert source.module is not None and source.size is not None
    write_onnx(source.module(), path, channels=source.channels, size=source.size, one_file=False)


class Half(nn.Module):
    """A float16 copy of a module, with float32 input and output."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).half()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = self.net(x.half())
        return found.float() if isinstance(found, Tensor) else tuple(one.float() for one in found)


class WithFeatures(nn.Module):
    """A ConvNet that returns its last feature map besides the logits."""

    def __init__(self, net: ConvNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net.forward_features(x)
        return self.net.forward_head(features), features


def _graph(net: nn.Module, outputs: list[str], shape: InputShape, half: bool) -> ir.Model:
    if isinstance(net, ConvNet | WithFeatures):
        try:
            return network_graph(net, (INPUT, outputs), shape, half=half, opset=OPSET)
        except UnknownOperationError as error:
            _LOG.info("torch's exporter writes the ONNX graph, which takes seconds: the network has %s", error)
    model = _exported(Half(net) if half else net, outputs, shape)
    _simplify(model)
    _strip(model)
    return model


def _exported(net: nn.Module, outputs: list[str], shape: InputShape) -> ir.Model:
    same: list[str] = []
    if shape.dynamic_size:
        net, same = _without_same(net)
    dynamic = {axis: name for axis, name in enumerate(shape.dims) if isinstance(name, str)}
    example = torch.zeros(2 if shape.dynamic_batch else 1, shape.channels, shape.size, shape.size)
    with warnings.catch_warnings(), torch.inference_mode(False), torch.enable_grad():
        warnings.simplefilter("ignore")  # a warning of the exporter about its future
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=outputs,
            dynamic_shapes=(dynamic,) if dynamic else None,
            verbose=False,
        )
    assert program is not None
    _set_same(program.model, same)
    return program.model


def _without_same(net: nn.Module) -> tuple[nn.Module, list[str]]:
    """A copy with only symmetric padding, and the weight names of convolutions that need TensorFlow's padding.

    The output's size is the same either way: ceil(input / stride).
    """
    net = copy.deepcopy(net)
    changed = []
    for name, module in net.named_modules():
        if isinstance(module, ConvNorm) and module.pad_same:
            module.pad_same = False
            changed.append(f"{name}.conv.weight")
    return net, changed


def _set_same(model: ir.Model, weights: list[str]) -> None:
    """Set SAME_UPPER of ONNX, which equals SAME of TensorFlow at any input size, on the convolutions with these
    weights."""
    missing = set(weights)
    for node in model.graph:
        weight = node.inputs[1].name if node.op_type == "Conv" and node.inputs[1] is not None else None
        if weight in missing:
            node.attributes.pop("pads")
            node.attributes["auto_pad"] = ir.AttrString("auto_pad", "SAME_UPPER")
            missing.remove(weight)
    assert not missing, missing


def _simplify(model: ir.Model) -> None:
    """Replace operators whose meaning depends on the opset: a mean over height and width by GlobalAveragePool, and the
    reshape of a map of one pixel by Flatten.

    ReduceMean has its axes as an attribute before opset 18 and as an input from then on, which TensorRT 8 and RKNN do
    not read; Reshape has no attribute allowzero before opset 14.
    """
    for node in tuple(model.graph):
        if node.op_type not in ("ReduceMean", "Reshape"):
            continue
        image, numbers = node.inputs
        assert numbers is not None and numbers.const_value is not None, node
        values = numbers.const_value.numpy().tolist()
        if node.op_type == "Reshape":
            assert len(values) == 2, node
            new = [ir.node("Flatten", [image])]
        else:
            assert sorted(values) in ([-2, -1], [2, 3]), node
            pool = ir.node("GlobalAveragePool", [image])
            kept = node.attributes.get_int("keepdims", 1)
            new = [pool] if kept else [pool, ir.node("Flatten", pool.outputs)]
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], new, node.outputs, new[-1].outputs)
        if not numbers.uses():
            model.graph.initializers.pop(str(numbers.name), None)


def _set_opset(model: ir.Model, opset: int) -> None:
    """Declare an opset, and the lowest IR version for it.

    The operators of these networks mean the same in all OPSETS, except that later ones have more attributes: those are
    left out where they hold their default.

    Raises:
        CompoundNetError: The network needs an operator, or an attribute of one, that the opset does not have.
    """
    for node in model.graph:
        known = _attributes(node.op_type, opset)
        for name in node.attributes.keys() - known.keys():
            written = _attributes(node.op_type, OPSET)[name]
            if node.attributes[name].value != written:
                raise CompoundNetError(
                    f"opset {opset} is too low for this network: its {node.op_type} has no {name};"
                    f" --opset {OPSET} has it"
                )
            node.attributes.pop(name)
    model.graph.opset_imports[""] = opset
    model.ir_version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])


def _attributes(operator: str, opset: int) -> dict[str, object]:
    """The attributes of an operator in an opset, with their defaults."""
    try:
        schema = onnx.defs.get_schema(operator, opset)
    except onnx.defs.SchemaError as error:
        raise CompoundNetError(f"opset {opset} is too low for this network: it has no {operator}") from error
    return {
        name: onnx.helper.get_attribute_value(attribute.default_value) if attribute.default_value.name else None
        for name, attribute in schema.attributes.items()
    }


def _strip(model: ir.Model) -> None:
    """Remove the debugging notes of the exporter, which are as long as the graph and name files of this machine."""
    model.doc_string = None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    values: list[Any] = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
