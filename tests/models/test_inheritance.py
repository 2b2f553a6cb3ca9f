"""Inherited weights: outputs that stay the same, channels kept consistently, statistics, and the folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_net import random_net, reduced, small_network
from strategies import networks

from compoundnet import arch
from compoundnet.base import CompoundNetError
from compoundnet.models import read_folder, write_folder
from compoundnet.models.inheritance import Inherited, estimate_norms, inherit, scale_model
from compoundnet.models.preprocess import default_preprocess
from compoundnet.nn import ConvNet


def images(network: arch.Network, count: int = 4) -> list[torch.Tensor]:
    made = torch.randn(count, network.in_channels, network.resolution, network.resolution, dtype=torch.float64)
    return list(made)


def outputs(net: ConvNet, batch: Sequence[torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = net(torch.stack(list(batch)))
    return found


def same(source: ConvNet, found: Inherited, batch: Sequence[torch.Tensor]) -> bool:
    return torch.allclose(outputs(source, batch), outputs(found.net, batch), rtol=1e-5, atol=1e-5)


FAMILIES = ["efficientnet-b0", "efficientnet-lite0", "mobilenet-v2", "resnet-18", "resnet-50", "resnext-101-32x4d",
            "efficientnetv2-s"]  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_a_wider_and_deeper_network_computes_the_same(name: str) -> None:
    network = reduced(name)
    source, batch = random_net(network).double(), images(network)
    found = inherit(source, arch.scale(network, width=1.6, depth=2))
    assert found.same_outputs and same(source, found, batch)
    assert arch.cost(found.net.spec).params > 1.5 * arch.cost(network).params


def test_a_stage_without_skips_cannot_grow_unchanged_and_says_so() -> None:
    network = reduced("mobilenet-v1")
    source = random_net(network).double()
    wider = inherit(source, arch.scale(network, width=1.5))
    assert wider.same_outputs and same(source, wider, images(network))
    deeper = inherit(source, arch.scale(network, depth=3))
    assert not deeper.same_outputs and any("not all of them identities" in note for note in deeper.notes)


@settings(max_examples=60, deadline=None)
@given(networks, st.floats(1, 2.5), st.floats(1, 3))
def test_what_is_called_the_same_is_the_same_for_any_network(network: arch.Network, width: float, depth: float) -> None:
    source = random_net(network).double()
    found = inherit(source, arch.scale(network, width=width, depth=depth))
    batch = images(network, 2)
    ours, theirs = outputs(found.net, batch), outputs(source, batch)
    assert ours.shape[0] == theirs.shape[0]
    if found.same_outputs and network.num_classes:
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max() + 1))


@settings(max_examples=60, deadline=None)
@given(networks, st.floats(0.2, 1), st.floats(0.2, 1.5))
def test_any_network_can_shrink(network: arch.Network, width: float, depth: float) -> None:
    source = random_net(network).double()
    target = arch.scale(network, width=width, depth=depth)
    batch = images(network, 2)
    found = inherit(source, target, batch)
    assert torch.isfinite(outputs(found.net, batch)).all()
    assert found.net.spec == target


def test_worthless_channels_are_cut_first() -> None:
    network = small_network().replace(rules=arch.Rules(channel_divisor=1))
    source = random_net(network).double()
    block = source.stages[1][1]  # type: ignore[index]  # a block with a skip
    middle = block.project.conv.weight.shape[1]
    worthless = torch.arange(middle) % 2 == 1
    with torch.no_grad():
        block.project.conv.weight[:, worthless] = 0
        block.se.reduce.weight[:, worthless] = 0
    target = network.replace(
        stages=tuple(
            arch.Stage(arch.MBConv(kernel=5, expansion=3), 24, repeats=2, stride=2) if index == 1 else stage
            for index, stage in enumerate(network.stages)
        )
    )
    with pytest.raises(CompoundNetError, match=r"stage 2 has block MBConv3, k5x5, there MBConv6, k5x5"):
        inherit(source, target)
    narrow = inherit(source, arch.scale(network, width=0.5), images(network))
    assert narrow.net.stages[1][1].project.conv.weight.shape[1] == middle // 2  # type: ignore[index]
    kept = narrow.net.stages[1][1].project.conv.weight  # type: ignore[index]
    assert (kept.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_channels_read_by_a_full_convolution_with_a_stride_are_chosen_by_the_images(padding: str) -> None:
    """Shifted far below 0, half of them are always 0 after ReLU; their batch norm alone calls them the largest."""
    stages = (arch.Stage(arch.ConvBlock(), 8, skip=False), arch.Stage(arch.FusedMBConv(), 8, stride=2))
    network = arch.Network(
        "fused", 32, arch.Stem(8), stages, arch.Head(16), num_classes=4, activation="relu",
        rules=arch.Rules(channel_divisor=1),
    ).replace(padding=padding)  # fmt: skip
    source = random_net(network).double()
    bias = source.stages[0][0].conv.norm.bias  # type: ignore[index]
    with torch.no_grad():
        bias[1::2] = -100
    narrow = inherit(source, arch.scale(network, width=0.5), images(network))
    kept = narrow.net.stages[0][0].conv.norm.bias  # type: ignore[index]
    assert torch.equal(kept, bias[::2])


def test_the_choice_of_channels_depends_on_what_batch_norms_compute_not_on_how_it_is_split_into_variance_and_eps() -> (
    None
):
    network = small_network().replace(norm=arch.Norm(eps=1e-3), rules=arch.Rules(channel_divisor=1))
    source = random_net(network).double()
    with torch.no_grad():
        for module in source.modules():
            if isinstance(module, torch.nn.BatchNorm2d) and module.running_var is not None:
                module.running_var.copy_(1e-3 * torch.rand_like(module.running_var) ** 4)
    other = random_net(network.replace(norm=arch.Norm(eps=1e-5))).double()
    state = source.state_dict()
    for name in state:
        if name.endswith("running_var"):
            state[name] = state[name] + 1e-3 - 1e-5
    other.load_state_dict(state)
    batch = images(network)
    assert torch.allclose(outputs(source, batch), outputs(other, batch))
    half = [inherit(one, arch.scale(one.spec, width=0.5)).net for one in (source, other)]
    assert all(
        torch.equal(mine, theirs) for mine, theirs in zip(half[0].parameters(), half[1].parameters(), strict=True)
    )


def test_statistics_are_those_of_the_images() -> None:
    network = small_network()
    source = random_net(network).double()
    batch = images(network, 40)
    found = inherit(source, arch.scale(network, width=0.5), batch)
    norm = found.net.stem.norm
    with torch.no_grad():
        seen = torch.cat([found.net.stem.conv(torch.stack(batch[:32])), found.net.stem.conv(torch.stack(batch[32:]))])
    assert isinstance(norm, torch.nn.BatchNorm2d) and norm.running_mean is not None
    assert torch.allclose(norm.running_mean, seen.mean((0, 2, 3)), atol=0.05)
    assert norm.momentum == network.norm.momentum and not found.net.training
    # Without images the statistics no longer fit, and that is said.
    assert any("give images" in note for note in inherit(source, arch.scale(network, width=0.5)).notes)


def test_estimating_keeps_the_mode() -> None:
    net = random_net(small_network()).train()
    estimate_norms(net, [torch.randn(3, 64, 64) for _ in range(4)])
    assert net.training and all(module.training for module in net.modules())


def test_statistics_on_a_map_of_one_pixel_need_two_images() -> None:
    """A last batch of one image would have none there: 33 images are 16 and 17."""
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.BatchNorm2d(3))
    seen = [torch.randn(3, 8, 8) for _ in range(33)]
    estimate_norms(net, seen)
    means = torch.stack(seen).mean((2, 3))
    assert torch.allclose(net.get_buffer("1.running_mean"), (means[:16].mean(0) + means[16:].mean(0)) / 2, atol=1e-6)
    with pytest.raises(CompoundNetError, match="give two images or more"):
        estimate_norms(net, seen[:1])
    assert net.training, "as before"


def test_another_network_is_refused() -> None:
    source = random_net(small_network())
    for change, message in (
        ({"activation": "relu"}, "its activation is relu, there silu"),
        ({"num_classes": 3}, "its num_classes is 3, there 10"),
        ({"stages": small_network().stages[:2]}, "it has 2 stages, there 3"),
    ):
        with pytest.raises(CompoundNetError, match=message):
            inherit(source, small_network().replace(**change))


def test_a_scaled_model_is_a_folder(tmp_path: Path) -> None:
    network = small_network()
    source = random_net(network)
    labels = tuple(f"class {index}" for index in range(10))
    write_folder(
        tmp_path / "old", network, source.state_dict(), default_preprocess(network), labels=labels, readme="old\n"
    )
    larger = arch.scale(network, width=1.5, resolution=96)
    written, found = scale_model(tmp_path / "old", larger, tmp_path / "new")
    again = read_folder(tmp_path / "new")
    assert again.network == written.network == larger and again.labels == labels
    assert again.preprocess.size == 96 and found.same_outputs
    readme = (tmp_path / "new" / "README.md").read_text()
    assert (
        "inherited from old. On equal inputs it computes what its source does; at 96 px accuracy is another" in readme
    )
