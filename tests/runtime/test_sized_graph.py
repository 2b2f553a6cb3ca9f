"""The graph at one size, made of one for all sizes, is the one that an export at that size gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from random_net import random_net

from compoundnet import arch
from compoundnet.models import Preprocess
from compoundnet.models.exported import open_exported
from compoundnet.nn import ConvNet
from compoundnet.runtime import export, session, sized_graph
from compoundnet.runtime.exports import formats
from compoundnet.runtime.onnx_graph import write_onnx
from compoundnet.runtime.session_source import find_source


def shallow(name: str) -> arch.Network:
    return arch.scale(arch.network(name), depth=0.2).replace(num_classes=4)


def trained(network: arch.Network, seed: int = 0) -> ConvNet:
    """Without biases of 0, which are left out of an export."""
    net = random_net(network, seed)
    for weights in net.parameters():
        if not weights.any():
            weights.data.normal_(0, 0.1)
    return net


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
    net = trained(shallow(name))
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


@pytest.mark.parametrize(
    ("name", "many_sizes"),
    [
        ("efficientnet-b0", True),
        ("mobilenet-v4-conv-small", False),
        pytest.param("efficientnet-lite0", False, marks=pytest.mark.slow),
        pytest.param("resnet-18", False, marks=pytest.mark.slow),
    ],
)
def test_other_weights_need_no_other_export(
    name: str, many_sizes: bool, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor another name, dropout or scaling: two trained models of one network, in folders of any name."""
    network, exports = shallow(name), []

    def counted(net: torch.nn.Module, path: Path, **given: Any) -> None:
        exports.append(path)
        write_onnx(net, path, **given)

    monkeypatch.setattr(sized_graph, "write_onnx", counted)
    files = []
    for number, one in enumerate((network, network.replace(dropout=0.5, survival=0.5, scaling=None))):
        source = dataclasses.replace(find_source(trained(one, seed=number), 64), many_sizes=many_sizes)
        assert source.module is not None
        sized_graph.write_sized(source, tmp_path / f"{number}.onnx")
        write_onnx(source.module(), tmp_path / f"plain-{number}.onnx", channels=3, size=64)
        assert described(tmp_path / f"{number}.onnx") == described(tmp_path / f"plain-{number}.onnx")
        files.append(described(tmp_path / f"{number}.onnx"))
    assert files[0][0] == files[1][0] and files[0][1] != files[1][1]
    assert len(exports) == 1
    other = network.replace(num_classes=5)
    sized_graph.write_sized(find_source(trained(other), 64), tmp_path / "other.onnx")
    assert len(exports) == 2, "another network is another graph"


def test_exported_files_share_the_graph_of_their_network(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any size, if a graph of all sizes is there; each file has its own weights and metadata."""
    exports: list[str] = []

    def counted(net: torch.nn.Module, path: Path, **given: Any) -> None:
        exports.append(path.name)
        write_onnx(net, path, **given)

    for module in (sized_graph, formats):
        monkeypatch.setattr(module, "write_onnx", counted)
    network, images = shallow("efficientnet-b0"), np.random.default_rng(0).standard_normal((1, 3, 48, 48), np.float32)
    source = find_source(trained(network), 64)
    sized_graph.write_sized(dataclasses.replace(source, many_sizes=True), tmp_path / "first.onnx")
    for seed, labels in enumerate(("abcd", "efgh")):
        net = trained(network, seed)
        how = Preprocess.authors(48)
        assert export(net, tmp_path / "net.onnx", preprocess=how, labels=labels).difference < 1e-4  # type: ignore[operator]
        assert open_exported(tmp_path / "net.onnx").labels == tuple(labels)
        expected = net(torch.from_numpy(images)).detach().numpy()
        found = session(tmp_path / "net.onnx", threads=1)(images)
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert len(exports) == 1


def test_a_network_that_was_changed_by_hand_has_a_graph_of_its_own(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another classifier or activation, a hook, a derived class: the network's description says nothing of them."""

    class Negative(ConvNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -super().forward(x)

    network = shallow("efficientnet-lite0")
    plain, other, hooked, quiet = (trained(network) for _ in range(4))
    other.classifier = torch.nn.Linear(network.classifier_features, 9)
    hooked.register_forward_hook(lambda _module, _given, logits: 2 * logits)
    quiet.get_submodule("stages.1.0.expand").act = torch.nn.Identity()
    derived = Negative(network)
    derived.load_state_dict(plain.state_dict())
    images = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    for net in (plain, other, hooked, quiet, derived.eval()):
        expected = net(torch.from_numpy(images)).detach().numpy()
        found = session(net, size=64, backend="onnxruntime", threads=1)(images)
        assert found.shape == expected.shape and np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
