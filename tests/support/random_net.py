"""Networks in memory whose batch norms have work to do, so that folding them wrongly would show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoundnet import arch

if TYPE_CHECKING:
    from compoundnet.nn import ConvNet


def small_network() -> arch.Network:
    """Four blocks with squeeze-excitation and uneven padding; ten classes, 64 px."""
    stages = (
        arch.Stage(arch.MBConv(expansion=1), 16),
        arch.Stage(arch.MBConv(kernel=5), 24, repeats=2, stride=2),
        arch.Stage(arch.MBConv(), 32, stride=2),
    )
    return arch.Network("small", 64, arch.Stem(16), stages, arch.Head(64), num_classes=10)


def reduced(name: str) -> arch.Network:
    """A catalogue network, narrow and shallow; ten classes, 64 px."""
    return arch.scale(arch.network(name), width=0.25, depth=0.25, resolution=64).replace(num_classes=10)


def random_net(network: arch.Network, seed: int = 0) -> ConvNet:
    """Eval mode, random weights and running statistics."""
    import torch

    from compoundnet.nn import build

    torch.manual_seed(seed)
    net = build(network)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]  # they are tracked
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.normal_(0, 0.2)
    return net.eval()
