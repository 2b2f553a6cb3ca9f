"""The ONNX graph of a network for one image of one size, exported once for all weights that the network may have.

torch's exporter takes seconds for each graph, and up to twice as long for one of all sizes. The graph depends on the
network alone: it is kept without weights, and those of a model are put in, which takes milliseconds. Where several
sizes are wanted, a graph for all is exported, and the size set: padding is then written as for that size. Both ways the
graph is the one that an export of the model at the size gives, but for biases that are all 0, which torch leaves out.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper

from compoundnet.arch import Network, cost
from compoundnet.base.machine import installed_version
from compoundnet.nn.units import StochasticDepth
from compoundnet.runtime.cache import location, stored
from compoundnet.runtime.onnx_graph import write_onnx
from compoundnet.runtime.session_source import SessionSource

_KIND, _GRAPH = "graph", "graph.onnx"
# Side of the image with which a graph for all sizes is exported: the last map has more than one pixel, since sides of
# one would be taken for constant.
_EXAMPLE = 224
# Larger networks have their weights beside the graph, and are exported each time.
_MOST_BYTES = 2**30


def write_sized(
    source: SessionSource, file: Path, *, properties: Mapping[str, str] | None = None, one_file: bool = False
) -> None:
    """Write the graph of a source that is no exported file, at its size, for one image at a time.

    Args:
        source: The source.
        file: The ONNX file to write.
        properties: The file's metadata.
        one_file: Whether weights of more than 2 GB are an error; otherwise they go into weights.bin beside the file.

    Raises:
        CompoundNetError: The weights do not fit one file.
    """
    network = source.network
    assert source.module is not None and source.size is not None
    module = source.module()
    if network is None or source.identity is None or 4 * cost(network).params > _MOST_BYTES:
        write_onnx(
            module,
            file,
            channels=source.channels,
            size=source.size,
            properties=properties,
            one_file=one_file,
        )
        return
    any_size = _identity(network, module, None)
    size = None if source.many_sizes or location(_KIND, network.name, any_size).exists() else source.size
    make, identity = partial(_export, module, source.channels, size), _identity(network, module, size)
    with stored(_KIND, network.name, identity, make, "exporting to ONNX") as folder:
        model = onnx.load(folder / _GRAPH)
    _set_weights(model, module)
    if size is None:
        for axis, length in enumerate((1, source.channels, source.size, source.size)):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = length
        model = _with_explicit_padding(model)
    onnx.helper.set_model_props(model, dict(properties or {}))
    onnx.save_model(model, file)


def _identity(network: Network, module: torch.nn.Module, size: int | None) -> dict[str, str]:
    """What the graph depends on: the network without what only training and people look at, the size, and the versions
    of what exports it; and the layers that the module has, since a user may have replaced some."""
    plain = network.replace(name="network", resolution=_EXAMPLE, scaling=None, dropout=0.0, survival=1.0)
    packages = {package: installed_version(package) or "" for package in ("compoundnet", "onnx", "torch")}
    layers = [
        f"{name} {type(part).__name__} {part.extra_repr()}"
        for name, part in module.named_modules()
        if not isinstance(part, torch.nn.Dropout | StochasticDepth)  # only training has them
    ]
    shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in module.state_dict().items()]
    digest = hashlib.sha256("\n".join([*layers, *shapes]).encode()).hexdigest()
    return {**packages, "network": plain.dumps(), "layers": digest, "size": "any" if size is None else str(size)}


def _export(module: torch.nn.Module, channels: int, size: int | None, folder: Path) -> None:
    """Export for a size, or for all (None), and leave out the weights."""
    module = copy.deepcopy(module)
    state = module.state_dict()
    random = torch.Generator().manual_seed(0)
    for tensor in state.values():  # equal weights, such as biases of 0, would be written once for all
        tensor.copy_(torch.randn(tensor.shape, generator=random))
    file = folder / _GRAPH
    write_onnx(module, file, channels=channels, size=size or _EXAMPLE, dynamic_size=size is None)
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if tensor.name in state:
            tensor.ClearField("raw_data")
    onnx.save_model(model, file)


def _set_weights(model: onnx.ModelProto, module: torch.nn.Module) -> None:
    """Put the weights of a module, all of them, into a graph of its network."""
    state = dict(module.state_dict())
    for tensor in model.graph.initializer:
        if tensor.name in state:
            weights = state.pop(tensor.name)
            assert tuple(tensor.dims) == tuple(weights.shape), tensor.name
            tensor.CopyFrom(numpy_helper.from_array(weights.detach().numpy(), tensor.name))
    assert not state, f"the graph lacks {', '.join(state)}"


def _with_explicit_padding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph of a fixed input size with the numbers of SAME_UPPER's padding in place of its name."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.value_info)
    }
    for node in model.graph.node:
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if given.get("auto_pad") != b"SAME_UPPER":
            continue
        pads = [
            max((-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
            for side, stride, kernel, dilation in zip(
                shapes[node.input[0]][2:], given["strides"], given["kernel_shape"], given["dilations"], strict=True
            )
        ]
        del node.attribute[:]
        given |= {"auto_pad": "NOTSET", "pads": [pad // 2 for pad in pads] + [pad - pad // 2 for pad in pads]}
        node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in sorted(given.items()))
    return model
