"""Estimated memory against torch's own accounting of the built module's tensors."""

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker

import compoundnet as cn
from compoundnet import arch

slow = pytest.mark.slow


def peak(tracker: MemTracker) -> int:
    return max(device["Total"] for device in tracker.get_tracker_snapshot("peak").values())


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(
    "name",
    [
        "efficientnet-b0",
        pytest.param("efficientnet-b3", marks=slow),
        "resnet-18",
        "mobilenet-v2",
        "mobilenet-v4-conv-small",
    ],
)
def test_inference(name: str, batch: int) -> None:
    network = arch.network(name)
    net = cn.build(network).eval()
    images = torch.randn(batch, 3, network.resolution, network.resolution)
    tracker = MemTracker()
    tracker.track_external(net, images)
    with torch.no_grad(), tracker:
        net(images)
    assert arch.cost(network, batch=batch).memory_bytes == pytest.approx(peak(tracker), rel=0.15)


@pytest.mark.parametrize(
    "name",
    [
        "resnet-18",
        "mobilenet-v4-conv-small",
        *(pytest.param(f"efficientnet-{name}", marks=slow) for name in ("b0", "b3", "lite0")),
    ],
)
def test_training_step(name: str) -> None:
    network = arch.network(name)
    net = cn.build(network)
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-6, momentum=0.9)
    images = torch.randn(2, 3, network.resolution, network.resolution)
    labels = torch.arange(2)

    def step() -> None:
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # makes the optimiser's state
    tracker = MemTracker()
    tracker.track_external(net, optimizer, images, labels)
    with tracker:
        step()
    assert arch.cost(network, batch=2).training_memory_bytes == pytest.approx(peak(tracker), rel=0.15)
