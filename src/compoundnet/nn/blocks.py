"""One torch module for each block of `compoundnet.arch`; the layers and their names are those of `arch.unroll`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from compoundnet import arch
from compoundnet.arch.blocks import squeeze_channels
from compoundnet.arch.layers import POOLED_KERNEL, Skip
from compoundnet.nn.units import Activation, ConvNorm, SqueezeExcite, StochasticDepth, add


class Units:
    """Makes the units of one network: what holds for all its layers is said once."""

    def __init__(self, network: arch.Network) -> None:
        self.activation = network.activation
        self._eps, self._momentum = network.norm.eps, network.norm.momentum
        self._same = network.padding == "same"

    def conv(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True
    ) -> ConvNorm:
        return ConvNorm(
            in_channels,
            out_channels,
            kernel,
            stride,
            groups,
            eps=self._eps,
            momentum=self._momentum,
            same=self._same,
            act=Activation(self.activation) if act else None,
        )

    def squeeze_excite(self, channels: int, in_channels: int, se: float) -> SqueezeExcite | None:
        return SqueezeExcite(channels, squeeze_channels(in_channels, se), self.activation) if se > 0 else None

    def shortcut(self, in_channels: int, out_channels: int, stride: int) -> ConvNorm | None:
        """ResNet's projection, where the shape changes."""
        return (
            None
            if stride == 1 and in_channels == out_channels
            else self.conv(in_channels, out_channels, 1, stride, act=False)
        )


class AddingBlock(nn.Module):
    """A block that may add its input, or its pooled input, to what its branch makes of it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.depth = None if shape.added == "nothing" else StochasticDepth(shape.survival)
        pooled = shape.added == "pooled"
        self.pool = nn.MaxPool2d(POOLED_KERNEL, shape.stride, POOLED_KERNEL // 2) if pooled else None

    def branch(self, x: Tensor) -> Tensor:
        """What is added to the input: each kind of block says."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if self.depth is None:
            return self.branch(x)
        shortcut = x if self.pool is None else self.pool(x)
        return add(self.depth(self.branch(x)), shortcut)


class MBConv(AddingBlock):
    def __init__(self, units: Units, block: arch.MBConv, shape: Shape) -> None:
        super().__init__(shape)
        middle = shape.in_channels * block.expansion
        self.expand = units.conv(shape.in_channels, middle) if block.expansion > 1 else None
        self.depthwise = units.conv(middle, middle, block.kernel, shape.stride, groups=middle)
        self.se = units.squeeze_excite(middle, shape.in_channels, block.se)
        self.project = units.conv(middle, shape.out_channels, act=False)

    def branch(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.depthwise(y)
        if self.se is not None:
            y = self.se(y)
        projected: Tensor = self.project(y)
        return projected


class FusedMBConv(AddingBlock):
    def __init__(self, units: Units, block: arch.FusedMBConv, shape: Shape) -> None:
        super().__init__(shape)
        expanded = block.expansion > 1
        middle = shape.in_channels * block.expansion if expanded else shape.out_channels
        self.expand = units.conv(shape.in_channels, middle, block.kernel, shape.stride)
        self.se = units.squeeze_excite(middle, shape.in_channels, block.se)
        self.project = units.conv(middle, shape.out_channels, act=False) if expanded else None

    def branch(self, x: Tensor) -> Tensor:
        y: Tensor = self.expand(x)
        if self.se is not None:
            y = self.se(y)
        if self.project is not None:
            y = self.project(y)
        return y


class SeparableConv(AddingBlock):
    def __init__(self, units: Units, block: arch.SeparableConv, shape: Shape) -> None:
        super().__init__(shape)
        channels = shape.in_channels
        self.depthwise = units.conv(channels, channels, block.kernel, shape.stride, groups=channels)
        self.se = units.squeeze_excite(channels, channels, block.se)
        self.pointwise = units.conv(channels, shape.out_channels)

    def branch(self, x: Tensor) -> Tensor:
        y = self.depthwise(x)
        if self.se is not None:
            y = self.se(y)
        mixed: Tensor = self.pointwise(y)
        return mixed


class ConvBlock(AddingBlock):
    def __init__(self, units: Units, block: arch.ConvBlock, shape: Shape) -> None:
        super().__init__(shape)
        self.conv = units.conv(shape.in_channels, shape.out_channels, block.kernel, shape.stride)
        self.se = units.squeeze_excite(shape.out_channels, shape.in_channels, block.se)

    def branch(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y if self.se is None else self.se(y)


class BasicBlock(nn.Module):
    def __init__(self, units: Units, block: arch.BasicBlock, shape: Shape) -> None:
        super().__init__()
        self.shortcut = units.shortcut(shape.in_channels, shape.out_channels, shape.stride)
        self.first = units.conv(shape.in_channels, shape.out_channels, block.kernel, shape.stride)
        self.second = units.conv(shape.out_channels, shape.out_channels, block.kernel, act=False)
        self.depth = StochasticDepth(shape.survival)
        self.act = Activation(units.activation)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        y: Tensor = self.act(add(self.depth(self.second(self.first(x))), shortcut))
        return y


class Bottleneck(nn.Module):
    def __init__(self, units: Units, block: arch.Bottleneck, shape: Shape) -> None:
        super().__init__()
        middle = block.middle_channels(shape.out_channels)
        self.shortcut = units.shortcut(shape.in_channels, shape.out_channels, shape.stride)
        self.reduce = units.conv(shape.in_channels, middle)
        self.spatial = units.conv(middle, middle, block.kernel, shape.stride, groups=block.groups)
        self.expand = units.conv(middle, shape.out_channels, act=False)
        self.depth = StochasticDepth(shape.survival)
        self.act = Activation(units.activation)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        y: Tensor = self.act(add(self.depth(self.expand(self.spatial(self.reduce(x)))), shortcut))
        return y


class Shape:
    """Where a block stands: channels in and out, stride, what it adds of its input, how often it survives."""

    def __init__(
        self, block: arch.Block, in_channels: int, out_channels: int, stride: int, skip: Skip, survival: float
    ) -> None:
        self.in_channels, self.out_channels, self.stride, self.survival = in_channels, out_channels, stride, survival
        self.added = arch.added_input(block, in_channels, out_channels, stride, skip)


_MODULES: dict[type, Callable[..., nn.Module]] = {
    arch.MBConv: MBConv,
    arch.FusedMBConv: FusedMBConv,
    arch.SeparableConv: SeparableConv,
    arch.ConvBlock: ConvBlock,
    arch.BasicBlock: BasicBlock,
    arch.Bottleneck: Bottleneck,
}


def build_block(units: Units, block: arch.Block, shape: Shape) -> nn.Module:
    """The module of one block."""
    return _MODULES[type(block)](units, block, shape)
