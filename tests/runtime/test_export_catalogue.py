"""Every network that people use, whole: exported logits within 1e-4 of torch's largest."""

from pathlib import Path

import onnx
import pytest
from random_net import random_net

from compoundnet import arch, runtime

NAMES = [
    *(f"efficientnet-b{index}" for index in range(5)),
    *(f"efficientnet-lite{index}" for index in range(5)),
    *arch.families()["mobilenet"],
    *arch.families()["mobilenet-v4"],
    *arch.families()["tinynet"],
    *arch.families()["efficientnet-edgetpu"],
    "efficientnetv2-b0",
    "mnasnet-a1",
    "resnet-50",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_exported_logits_are_torchs(name: str, tmp_path: Path) -> None:
    done = runtime.export(random_net(arch.network(name)), tmp_path / "net.onnx")
    assert done.difference is not None
    assert done.difference <= 1e-4
    assert {node.domain for node in onnx.load(tmp_path / "net.onnx").graph.node} == {""}
