"""One torch module for each block of `compoundnet.arch`; the layers and their names are those of `arch.unroll`.

A layer F_i of the paper (Eq. 1) is a value in `arch.blocks`, such as `MBConv`, and a module here, `MBConvLayer`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from compoundnet import arch
from compoundnet.arch.blocks import POOLED_KERNEL, BlockShape, squeeze_channels
from compoundnet.nn.units import Activation, ConvNorm, SqueezeExcite, StochasticDepth, add


class Units:
    """Factory of the units of one network, with the settings common to all its layers."""

    def __init__(self, network: arch.Network) -> None:
        self.activation = network.activation
        self._eps, self._momentum = network.norm.eps, network.norm.momentum
        self._same = network.padding == "same"

    def conv(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True
    ) -> ConvNorm:
        """Return a convolution with batch norm, and the network's activation if `act`."""
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
        """Return channel attention over `channels` for a block with `in_channels`; None if the block has none."""
        return SqueezeExcite(channels, squeeze_channels(in_channels, se), self.activation) if se > 0 else None


class SkipLayer(nn.Module):
    """A layer that may add its input, or its max-pooled input, to the output of its branch."""

    def __init__(self, block: arch.Block, shape: BlockShape, survival: float) -> None:
        super().__init__()
        skip = block.skip_kind(shape)
        self.depth = None if skip == "none" else StochasticDepth(survival)
        self.pool = nn.MaxPool2d(POOLED_KERNEL, shape.stride, POOLED_KERNEL // 2) if skip == "pooled" else None

    def branch(self, x: Tensor) -> Tensor:
        """Return the output of the branch, without the skip."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if self.depth is None:
            return self.branch(x)
        shortcut = x if self.pool is None else self.pool(x)
        return add(self.depth(self.branch(x)), shortcut)


class MBConvLayer(SkipLayer):
    """Module of `arch.MBConv`."""

    def __init__(self, units: Units, block: arch.MBConv, shape: BlockShape, survival: float) -> None:
        super().__init__(block, shape, survival)
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


class FusedMBConvLayer(SkipLayer):
    """Module of `arch.FusedMBConv`."""

    def __init__(self, units: Units, block: arch.FusedMBConv, shape: BlockShape, survival: float) -> None:
        super().__init__(block, shape, survival)
        middle = block.middle_channels(shape)
        self.expand = units.conv(shape.in_channels, middle, block.kernel, shape.stride)
        self.se = units.squeeze_excite(middle, shape.in_channels, block.se)
        self.project = units.conv(middle, shape.out_channels, act=False) if block.expansion > 1 else None

    def branch(self, x: Tensor) -> Tensor:
        y: Tensor = self.expand(x)
        if self.se is not None:
            y = self.se(y)
        if self.project is not None:
            y = self.project(y)
        return y


class UIBLayer(SkipLayer):
    """Module of `arch.UIB`."""

    def __init__(self, units: Units, block: arch.UIB, shape: BlockShape, survival: float) -> None:
        super().__init__(block, shape, survival)
        channels, middle = shape.in_channels, shape.in_channels * block.expansion
        stride = 1 if block.middle else shape.stride
        self.start = units.conv(channels, channels, block.start, stride, channels, act=False) if block.start else None
        self.expand = units.conv(channels, middle)
        self.middle = units.conv(middle, middle, block.middle, shape.stride, middle) if block.middle else None
        self.project = units.conv(middle, shape.out_channels, act=False)

    def branch(self, x: Tensor) -> Tensor:
        y = self.expand(x if self.start is None else self.start(x))
        if self.middle is not None:
            y = self.middle(y)
        projected: Tensor = self.project(y)
        return projected


class SeparableConvLayer(SkipLayer):
    """Module of `arch.SeparableConv`."""

    def __init__(self, units: Units, block: arch.SeparableConv, shape: BlockShape, survival: float) -> None:
        super().__init__(block, shape, survival)
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


class ConvBlockLayer(SkipLayer):
    """Module of `arch.ConvBlock`."""

    def __init__(self, units: Units, block: arch.ConvBlock, shape: BlockShape, survival: float) -> None:
        super().__init__(block, shape, survival)
        self.conv = units.conv(shape.in_channels, shape.out_channels, block.kernel, shape.stride)
        self.se = units.squeeze_excite(shape.out_channels, shape.in_channels, block.se)

    def branch(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y if self.se is None else self.se(y)


class ResNetLayer(nn.Module):
    """A layer with a built-in shortcut, projected if the shape changes; activation after the addition."""

    def __init__(self, units: Units, shape: BlockShape, survival: float) -> None:
        super().__init__()
        self.shortcut = (
            None if shape.preserved else units.conv(shape.in_channels, shape.out_channels, 1, shape.stride, act=False)
        )
        self.depth = StochasticDepth(survival)
        self.act = Activation(units.activation)

    def branch(self, x: Tensor) -> Tensor:
        """Return the output of the branch, without the shortcut."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        y: Tensor = self.act(add(self.depth(self.branch(x)), shortcut))
        return y


class BasicBlockLayer(ResNetLayer):
    """Module of `arch.BasicBlock`."""

    def __init__(self, units: Units, block: arch.BasicBlock, shape: BlockShape, survival: float) -> None:
        super().__init__(units, shape, survival)
        self.first = units.conv(shape.in_channels, shape.out_channels, block.kernel, shape.stride)
        self.second = units.conv(shape.out_channels, shape.out_channels, block.kernel, act=False)

    def branch(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y


class BottleneckLayer(ResNetLayer):
    """Module of `arch.Bottleneck`."""

    def __init__(self, units: Units, block: arch.Bottleneck, shape: BlockShape, survival: float) -> None:
        super().__init__(units, shape, survival)
        middle = block.middle_channels(shape.out_channels)
        self.reduce = units.conv(shape.in_channels, middle)
        self.spatial = units.conv(middle, middle, block.kernel, shape.stride, groups=block.groups)
        self.expand = units.conv(middle, shape.out_channels, act=False)

    def branch(self, x: Tensor) -> Tensor:
        y: Tensor = self.expand(self.spatial(self.reduce(x)))
        return y


_LAYERS: dict[type[arch.Block], Callable[..., nn.Module]] = {
    arch.MBConv: MBConvLayer,
    arch.FusedMBConv: FusedMBConvLayer,
    arch.UIB: UIBLayer,
    arch.SeparableConv: SeparableConvLayer,
    arch.ConvBlock: ConvBlockLayer,
    arch.BasicBlock: BasicBlockLayer,
    arch.Bottleneck: BottleneckLayer,
}


def build_block(units: Units, block: arch.Block, shape: BlockShape, survival: float) -> nn.Module:
    """Return the module of one block; `survival` is the probability that its branch is kept in training."""
    return _LAYERS[type(block)](units, block, shape, survival)
