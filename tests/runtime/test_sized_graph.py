"""The graph at one size, made of one for all sizes, is the one that an export at that size gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper

from compoundnet import arch, nn
from compoundnet.runtime import sized_graph
from compoundnet.runtime.onnx_graph import write_onnx
from compoundnet.runtime.session_source import find_source


def shallow(name: str) -> arch.Network:
    return arch.scale(arch.network(name), depth=0.2).replace(num_classes=4)


def described(file: Path) -> tuple[list[object], list[bytes]]:
    """The nodes with their attributes, and the weights in the order in which nodes read them."""
    model = onnx.load(file)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [
        (node.op_type, sorted((one.name, str(onnx.helper.get_attribute_value(one))) for one in node.attribute))
        for node in model.graph.node
    ]
    read = [weights[name].tobytes() for node in model.graph.node for name in node.input if name in weights]
    return list(nodes), read


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-b0"])
def test_it_is_the_graph_of_an_export_at_the_size(
    name: str, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.build(shallow(name)).eval()
    exports: list[Path] = []

    def counted(net: torch.nn.Module, path: Path, **given: Any) -> None:
        exports.append(path)
        write_onnx(net, path, **given)

    monkeypatch.setattr(sized_graph, "write_onnx", counted)
    for size in (32, 75):
        source = find_source(net, size)
        assert source.module is not None
        sized_graph.write_sized(dataclasses.replace(source, many_sizes=True), tmp_path / "sized.onnx")
        write_onnx(source.module(), tmp_path / "plain.onnx", channels=3, size=size)
        assert described(tmp_path / "sized.onnx") == described(tmp_path / "plain.onnx")
        shape = onnx.load(tmp_path / "sized.onnx").graph.input[0].type.tensor_type.shape
        assert [dim.dim_value for dim in shape.dim] == [1, 3, size, size]
    assert len(exports) == 1, "exported once for both sizes"


def test_other_weights_are_another_graph(tmp_path: Path, empty_cache: Path) -> None:
    network = shallow("efficientnet-lite0")
    for number in range(2):
        source = dataclasses.replace(find_source(nn.build(network).eval(), 64), many_sizes=True)
        sized_graph.write_sized(source, tmp_path / f"{number}.onnx")
    first, second = (described(tmp_path / f"{number}.onnx") for number in range(2))
    assert first[0] == second[0] and first[1] != second[1]
