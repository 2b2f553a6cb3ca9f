"""The graph of a network that is written here is the one that torch's exporter gives, and what is not, it writes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from random_net import random_net, small_network

from compoundnet import arch, nn
from compoundnet.nn import ConvNet
from compoundnet.runtime import onnx_graph
from compoundnet.runtime.graph_operations import UnknownOperationError
from compoundnet.runtime.onnx_graph import write_onnx

Described = tuple[list[object], list[bytes], list[object]]


def shallow(name: str, **fields: Any) -> arch.Network:
    return arch.scale(arch.network(name), depth=0.2).replace(num_classes=4, **fields)


def fused(network: arch.Network) -> ConvNet:
    """Without biases of 0, which the exporter leaves out."""
    net = random_net(network)
    for weights in net.parameters():
        if not weights.any():
            weights.data.normal_(0, 0.1)
    return net.fuse()


def described(file: Path) -> Described:
    """The nodes with their attributes, the weights in the order in which nodes read them, input and outputs."""
    onnx.checker.check_model(file, full_check=True)
    model = onnx.load(file)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [
        (node.op_type, sorted((one.name, str(onnx.helper.get_attribute_value(one))) for one in node.attribute))
        for node in model.graph.node
    ]
    read = [weights[name].tobytes() for node in model.graph.node for name in node.input if name in weights]
    ends = [
        (one.name, one.type.tensor_type.elem_type, [dim.dim_param or dim.dim_value for dim in dims[:2]])
        for one in (*model.graph.input, *model.graph.output)
        for dims in [one.type.tensor_type.shape.dim]
    ]
    return list(nodes), read, list(ends)


def exporter_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UnknownOperationError

    monkeypatch.setattr(onnx_graph, "network_graph", refuse)


def writer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the exporter of torch was called")

    monkeypatch.setattr(onnx_graph, "_exported", refuse)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        pytest.param("efficientnet-b0", {"size": 75}, marks=pytest.mark.slow),
        ("resnet-18", {"size": 64, "dynamic_batch": True, "half": True, "opset": 13}),
        pytest.param(
            "mobilenet-v4-conv-small",
            {"size": 64, "features": True, "dynamic_batch": True, "dynamic_size": True},
            marks=pytest.mark.slow,
        ),
        *(
            pytest.param(name, {"size": size, "dynamic_size": dynamic, "half": half}, marks=pytest.mark.slow)
            for name in ("efficientnet-b0", "efficientnet-lite0", "efficientnetv2-s", "resnet-50", "mobilenet-v1")
            for size, dynamic, half in ((64, False, False), (75, False, True), (64, True, False))
        ),
    ],
)
def test_it_is_the_graph_of_the_exporter(
    name: str, how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = fused(shallow(name))
    with monkeypatch.context() as patch:
        writer_alone(patch)
        write_onnx(net, tmp_path / "written.onnx", channels=3, **how)
    with monkeypatch.context() as patch:
        exporter_alone(patch)
        write_onnx(net, tmp_path / "exported.onnx", channels=3, **how)
    assert described(tmp_path / "written.onnx") == described(tmp_path / "exported.onnx")


@pytest.mark.parametrize("name", arch.networks())
def test_every_network_is_written_here_and_gives_its_logits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer_alone(monkeypatch)
    net = fused(arch.scale(arch.network(name), width=0.25, depth=0.2).replace(num_classes=4))
    write_onnx(net, tmp_path / "net.onnx", channels=net.spec.in_channels, size=45, dynamic_size=True)
    assert_same(net, tmp_path / "net.onnx", 45, 70)


def assert_same(net: torch.nn.Module, file: Path, *sides: int, channels: int = 3) -> None:
    images = np.random.default_rng(0).standard_normal((1, channels, *sides), dtype=np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(images)).numpy()
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": images})[0]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    "fields",
    [{"in_channels": 1}, {"num_classes": 0}, {"pool": "max"}, {"pool": "none", "num_classes": 0}, {"hidden": 16}],
    ids=str,
)
def test_the_forms_of_its_ends(fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey images, no classifier, another pool, a convolution after the pool."""
    writer_alone(monkeypatch)
    network = small_network()
    head = msgspec.structs.replace(
        network.head, **{name: fields[name] for name in ("pool", "hidden") if name in fields}
    )
    others = {name: value for name, value in fields.items() if name not in ("pool", "hidden")}
    net = fused(network.replace(head=head, **others))
    write_onnx(net, tmp_path / "net.onnx", channels=net.spec.in_channels, size=50, opset=13)
    assert_same(net, tmp_path / "net.onnx", 50, 50, channels=net.spec.in_channels)
    (logits,) = onnx.load(tmp_path / "net.onnx").graph.output
    with torch.inference_mode():
        shape = net(torch.zeros(1, net.spec.in_channels, 50, 50)).shape
    assert [dim.dim_value for dim in logits.type.tensor_type.shape.dim] == list(shape)


class Gate(torch.nn.Module):
    """A product whose first factor is the smaller one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3), keepdim=True) * x


class Negative(ConvNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -super().forward(x)


class Flat(ConvNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_features(x).flatten(1)


class Bright(ConvNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.mean() > 0 else super().forward(2 * x)


def derived(kind: type[ConvNet]) -> Callable[[ConvNet], ConvNet]:
    def change(net: ConvNet) -> ConvNet:
        made = kind(net.spec).fuse()
        made.load_state_dict(net.state_dict())
        return made

    return change


def doubled(net: ConvNet) -> ConvNet:
    net.register_forward_hook(lambda _module, _given, logits: 2 * logits)
    return net


def hooked_layer(net: ConvNet) -> ConvNet:
    net.get_submodule("head.conv").register_forward_hook(lambda _module, _given, maps: 2 * maps)
    return net


def replaced(place: str, module: torch.nn.Module) -> Callable[[ConvNet], ConvNet]:
    def change(net: ConvNet) -> ConvNet:
        net.set_submodule(place, module)
        return net

    return change


@pytest.mark.parametrize(
    "change",
    [
        derived(Negative),
        pytest.param(derived(Flat), marks=pytest.mark.slow),
        doubled,
        pytest.param(hooked_layer, marks=pytest.mark.slow),
        replaced("head.act", torch.nn.GELU()),
        replaced("head.act", torch.nn.Identity()),
        replaced("stem.act", Gate()),
        lambda net: net.to(memory_format=torch.channels_last),
        pytest.param(
            replaced("head.act", torch.nn.Conv2d(32, 32, 3, padding="same", padding_mode="reflect")),
            marks=pytest.mark.slow,
        ),
        replaced("classifier", torch.nn.Sequential(torch.nn.Linear(32, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))),
    ],
    ids=[
        "derived",
        "flat",
        "hook",
        "hook of a layer",
        "gelu",
        "identity",
        "gate",
        "channels last",
        "padding",
        "classifier",
    ],
)
@pytest.mark.parametrize("dynamic_size", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_a_user_put_in_is_in_the_graph(
    change: Callable[[ConvNet], ConvNet], dynamic_size: bool, tmp_path: Path
) -> None:
    """By the exporter where it is no operation of networks."""
    network = small_network()
    net = change(fused(network.replace(head=arch.Head(channels=32))))
    write_onnx(net, tmp_path / "net.onnx", channels=3, size=64, dynamic_size=dynamic_size)
    assert_same(net, tmp_path / "net.onnx", 64, 80 if dynamic_size else 64)


def test_that_the_exporter_writes_it_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = fused(small_network())
    with caplog.at_level(logging.INFO):
        write_onnx(net, tmp_path / "plain.onnx", channels=3, size=64)
        assert not caplog.records
        write_onnx(doubled(net), tmp_path / "hooked.onnx", channels=3, size=64)
    said = [record.message for record in caplog.records if record.name.startswith("compoundnet")]
    assert len(said) == 1 and "torch's exporter writes the ONNX graph, which takes seconds" in said[0]


def test_a_choice_that_depends_on_the_image_is_refused_by_the_exporter(tmp_path: Path) -> None:
    """As before: the writer leaves it to the exporter, which says what it cannot do."""
    with pytest.raises(Exception, match=r"data-dependent|Failed to export"):
        write_onnx(Bright(small_network()).fuse(), tmp_path / "net.onnx", channels=3, size=64)
    assert not (tmp_path / "net.onnx").exists()


def test_two_networks_at_once_in_threads(tmp_path: Path) -> None:
    """A worker that runs a network while another is exported is not disturbed."""
    import threading

    net, images = nn.build(small_network()).eval(), torch.zeros(1, 3, 64, 64)
    expected, failed, ended = net(images), [], threading.Event()

    def run() -> None:
        while not ended.is_set():
            try:
                assert torch.equal(net(images), expected)
            except Exception as error:
                failed.append(error)
                return

    worker = threading.Thread(target=run)
    worker.start()
    try:
        for number in range(10):
            write_onnx(fused(small_network()), tmp_path / f"{number}.onnx", channels=3, size=64)
    finally:
        ended.set()
        worker.join()
    assert not failed
