"""The example of one's own baseline: complete, and good for everything a catalogue network is good for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compoundnet import arch, build

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_own_net.toml"


@pytest.fixture(scope="module")
def own() -> arch.Network:
    return arch.network(str(EXAMPLE))


def test_it_uses_six_blocks(own: arch.Network) -> None:
    names = [type(stage.block).__name__ for stage in own.stages]
    assert names == ["ConvBlock", "SeparableConv", "MBConv", "UIB", "BasicBlock", "Bottleneck"]


def test_it_is_described_stage_by_stage(own: arch.Network) -> None:
    rows = arch.stage_costs(own)
    assert len(rows) == len(own.stages) + 2
    assert sum(row.params for row in rows) == arch.cost(own).params
    assert sum(row.macs for row in rows) == arch.cost(own).macs


def test_it_scales(own: arch.Network) -> None:
    larger = arch.compound(own, 2)
    assert larger.resolution > own.resolution
    assert all(new.repeats > old.repeats for new, old in zip(larger.stages, own.stages, strict=True))
    assert all(new.channels > old.channels for new, old in zip(larger.stages, own.stages, strict=True))
    assert arch.cost(larger).macs == pytest.approx(4 * arch.cost(own).macs, rel=0.2)  # few, short stages round up


def test_it_fits_a_budget(own: arch.Network) -> None:
    found = arch.plan(own, max_macs=1e9)
    assert 0.9e9 < found.macs <= 1e9


def test_it_builds_as_it_was_counted_and_takes_a_training_step(own: arch.Network) -> None:
    torch.manual_seed(0)
    network = arch.compound(own, 0.5)
    net = build(network)
    assert sum(parameter.numel() for parameter in net.parameters()) == arch.cost(network).params
    images, labels = torch.randn(4, 3, network.resolution, network.resolution), torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
