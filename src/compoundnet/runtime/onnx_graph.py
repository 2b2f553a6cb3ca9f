"""Export of a torch module to an ONNX graph with torch's exporter: default operators only, SAME padding inside Conv."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from compoundnet import __version__
from compoundnet.base import CompoundNetError
from compoundnet.nn import ConvNet
from compoundnet.nn.units import ConvNorm

# Read by ONNX Runtime from 1.14 and OpenVINO from 2023 on (the exporter's IR version 10 by ONNX Runtime from 1.18);
# nothing newer is of use to these networks. ONNX Runtime needs 1.5 to 2 times as long for the operator Swish of opset
# 24 as for Sigmoid and Mul, which it fuses (docs/performance.md).
_OPSET = 18
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
    """
    if features:
        assert isinstance(net, ConvNet)
        net = WithFeatures(net)
    outputs = [OUTPUT, FEATURES] if features else [OUTPUT]
    model = _exported(Half(net) if half else net, outputs, channels, size, dynamic_batch, dynamic_size)
    _strip(model)
    model.metadata_props.update(properties or {})
    size_of_weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if size_of_weights <= _ONE_FILE:
        ir.save(model, path)
    elif one_file:
        raise CompoundNetError(
            f"the weights take {size_of_weights / 2**30:.1f} GiB, and an ONNX file holds 2 GiB at most; export with"
            " --precision float16, or to --format openvino or torch"
        )
    else:
        ir.save(model, path, external_data=_EXTERNAL)


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


def _exported(
    net: nn.Module, outputs: list[str], channels: int, size: int, dynamic_batch: bool, dynamic_size: bool
) -> ir.Model:
    same: list[str] = []
    if dynamic_size:
        net, same = _without_same(net)
    dynamic = {0: "batch"} if dynamic_batch else {}
    dynamic |= {2: "height", 3: "width"} if dynamic_size else {}
    example = torch.zeros(2 if dynamic_batch else 1, channels, size, size)
    with warnings.catch_warnings(), torch.inference_mode(False), torch.enable_grad():
        warnings.simplefilter("ignore")  # a warning of the exporter about its future
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            opset_version=_OPSET,
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


def _strip(model: ir.Model) -> None:
    """Remove the debugging notes of the exporter, which are as long as the graph and name files of this machine."""
    model.producer_name, model.producer_version, model.doc_string = "compoundnet", __version__, None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    values: list[Any] = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
