"""The ONNX graph of a network at one resolution, made of one that is exported once for all resolutions.

torch's exporter takes seconds for each graph, and up to twice as long for one of all sizes; to set the size of that one
takes milliseconds. Padding is then written as for that size: the graph is the one that an export at the size gives.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import onnx

from compoundnet.arch import cost
from compoundnet.runtime.cache import stored
from compoundnet.runtime.onnx_graph import write_onnx
from compoundnet.runtime.session_source import SessionSource

_GRAPH = "graph.onnx"
# Side of the image with which a graph for all sizes is exported: the last map has more than one pixel, since sides of
# one would be taken for constant.
_EXAMPLE = 224
# Larger networks have their weights beside the graph, and are exported at each size.
_MOST_BYTES = 2**30


def write_sized(source: SessionSource, file: Path) -> None:
    """Write the graph of a source that is no exported file, at its size, for one image at a time.

    Args:
        source: The source.
        file: The ONNX file to write; weights of more than 2 GB go into weights.bin beside it.
    """
    network, identity = source.network, source.identified("compoundnet", "onnx", "torch")
    assert source.module is not None and source.size is not None
    if not source.many_sizes or network is None or identity is None or 4 * cost(network).params > _MOST_BYTES:
        write_onnx(source.module(), file, channels=source.channels, size=source.size, one_file=False)
        return
    identity |= {"network": network.replace(resolution=_EXAMPLE).dumps(), "size": "any"}
    with stored("graph", source.name, identity, partial(_export, source), "exporting to ONNX") as folder:
        model = onnx.load(folder / _GRAPH)
    for axis, length in enumerate((1, source.channels, source.size, source.size)):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = length
    onnx.save_model(_with_explicit_padding(model), file)


def _export(source: SessionSource, folder: Path) -> None:
    assert source.module is not None
    write_onnx(source.module(), folder / _GRAPH, channels=source.channels, size=_EXAMPLE, dynamic_size=True)


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
