"""Very Deep PolyNet (Zhang et al. 2017): Inception-ResNet-v2 with polynomials of its residual blocks; polynet.toml."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compoundnet.arch import Norm
from compoundnet.zoo.operations import batch_norm


class Conv(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Convolution, batch norm, ReLU. `valid`: without padding."""

    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False


Branch = tuple[Conv, ...] | Literal["max-pool"]


class Mix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Branches side by side, concatenated."""

    branches: tuple[Branch, ...]


class PolyStage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`modules` in turn, `repeats` times, all of one kind of residual block; then the reduction, if there is one."""

    repeats: int
    modules: tuple[Literal["2-way", "poly-3"], ...]
    block: tuple[tuple[Conv, ...], ...]
    reduction: tuple[Branch, ...] = ()


class Fall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that falls linearly from the first module to the last."""

    first: float
    last: float


class Design(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of polynet.toml."""

    norm: Norm
    dropout: float
    residual_scale: Fall
    stem: tuple[Mix, ...]
    stages: tuple[PolyStage, ...]


@cache
def design() -> Design:
    """Return the contents of polynet.toml."""
    file = resources.files("compoundnet.zoo").joinpath("polynet.toml")
    return msgspec.toml.decode(file.read_bytes(), type=Design)


class Unit(nn.Module):
    """A convolution shared by `orders` passes, each with a separate batch norm; then ReLU."""

    def __init__(self, in_channels: int, conv: Conv, norm: Norm, orders: int) -> None:
        super().__init__()
        padding = (0, 0) if conv.valid else (conv.kernel[0] // 2, conv.kernel[1] // 2)
        self.conv = nn.Conv2d(in_channels, conv.channels, conv.kernel, conv.stride, padding, bias=False)
        self.norms = nn.ModuleList(batch_norm(conv.channels, norm) for _ in range(orders))

    def forward(self, x: Tensor, order: int) -> Tensor:
        normed: Tensor = self.norms[order](self.conv(x))
        return normed.relu_()


class Chain(nn.Module):
    """Convolutions in sequence; a branch without any is the 3x3 max pool at stride 2."""

    def __init__(self, in_channels: int, branch: Branch, norm: Norm, orders: int) -> None:
        super().__init__()
        self.units = nn.ModuleList()
        self.channels = in_channels
        for conv in () if branch == "max-pool" else branch:
            self.units.append(Unit(self.channels, conv, norm, orders))
            self.channels = conv.channels

    def forward(self, x: Tensor, order: int) -> Tensor:
        if not self.units:
            return F.max_pool2d(x, 3, 2)
        for unit in self.units:
            x = unit(x, order)
        return x


class Branches(nn.Module):
    """Branches that run on one input; their outputs are concatenated."""

    def __init__(self, in_channels: int, branches: tuple[Branch, ...], norm: Norm, orders: int = 1) -> None:
        super().__init__()
        chains = [Chain(in_channels, branch, norm, orders) for branch in branches]
        self.branches = nn.ModuleList(chains)
        self.channels = sum(chain.channels for chain in chains)

    def forward(self, x: Tensor, order: int = 0) -> Tensor:
        return torch.cat([branch(x, order) for branch in self.branches], dim=1)


class Residual(nn.Module):
    """An Inception residual block F, up to the sum: branches, then a 1x1 convolution back to the input's channels."""

    def __init__(self, channels: int, stage: PolyStage, norm: Norm, orders: int = 1) -> None:
        super().__init__()
        self.branches = Branches(channels, stage.block, norm, orders)
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(self.branches.channels, channels, 1, bias=False), batch_norm(channels, norm))
            for _ in range(orders)
        )

    def forward(self, x: Tensor, order: int = 0) -> Tensor:
        residual: Tensor = self.projections[order](self.branches(x, order))
        return residual


class TwoWay(nn.Module):
    """I + F + G, both scaled, then ReLU."""

    def __init__(self, channels: int, stage: PolyStage, norm: Norm, scale: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual(channels, stage, norm) for _ in range(2))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for block in self.blocks:
            total = total + self.scale * block(x)
        return total.relu()


class PolyThree(nn.Module):
    """I + F + F^2 + F^3, each scaled, then ReLU; each further order is computed from the ReLU of the previous one."""

    def __init__(self, channels: int, stage: PolyStage, norm: Norm, scale: float) -> None:
        super().__init__()
        self.block = Residual(channels, stage, norm, orders=3)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for order in range(3):
            power = self.block(x, order)
            total = total + self.scale * power
            x = power.relu()
        return total.relu()


class PolyNet(nn.Module):
    """float[N, 3, H, W] with sides of at least 75 px to logits float[N, num_classes]."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        plan = design()
        norm = plan.norm
        self.stem = nn.Sequential()
        channels = 3
        for mix in plan.stem:
            branches = Branches(channels, mix.branches, norm)
            self.stem.append(branches)
            channels = branches.channels
        self.stages = nn.ModuleList()
        total = sum(stage.repeats * len(stage.modules) for stage in plan.stages)
        fall = plan.residual_scale
        position = 0
        for stage in plan.stages:
            modules = nn.Sequential()
            for name in stage.modules * stage.repeats:
                scale = fall.first + (fall.last - fall.first) * position / (total - 1)
                modules.append((TwoWay if name == "2-way" else PolyThree)(channels, stage, norm, scale))
                position += 1
            if stage.reduction:
                reduction = Branches(channels, stage.reduction, norm)
                modules.append(reduction)
                channels = reduction.channels
            self.stages.append(modules)
        self.dropout = nn.Dropout(plan.dropout)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.classifier(self.dropout(x.mean((2, 3))))
        return logits
