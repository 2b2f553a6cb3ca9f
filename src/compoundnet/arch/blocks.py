"""The layer types F_i that a stage repeats (Eq. 1), as tagged values with named fields.

A block defines its type, its layers and its title in the stage table, but not its width: channels, stride and repeats
belong to the stage. A new block needs a class here, listed in `Block`, and a torch module in `compoundnet.nn.blocks`.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import msgspec

from compoundnet.arch.layers import Trace
from compoundnet.base.values import check

Skip = bool | Literal["pool"]  # Stage.skip
POOLED_KERNEL = 3  # of a pooled skip


class BlockShape(NamedTuple):
    """The position of a block in its network: shapes of its input and output, and whether its stage requests a skip."""

    in_channels: int
    out_channels: int
    stride: int = 1
    skip: Skip = True

    @property
    def preserved(self) -> bool:
        """Whether output and input have the same shape."""
        return self.stride == 1 and self.in_channels == self.out_channels


class _Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """The base of all blocks: frozen, strict, distinguished by `type`, with an optional skip around the block."""

    own_shortcut: ClassVar[bool] = False  # True: the stage's skip does not apply

    @property
    def title(self) -> str:
        """The block in the paper's notation: `MBConv6, k3x3`."""
        raise NotImplementedError

    def skip_kind(self, shape: BlockShape) -> Literal["none", "identity", "pooled"]:
        """Return the kind of skip added to the branch: none, the input, or the max-pooled input."""
        if self.own_shortcut or not shape.skip or shape.in_channels != shape.out_channels:
            return "none"
        if shape.skip == "pool":
            return "pooled"
        return "identity" if shape.stride == 1 else "none"

    def check_stride(self, stride: int) -> None:
        """Raise CompoundNetError if the block has no layer for this stride."""

    def trace(self, trace: Trace, shape: BlockShape) -> None:
        """Record every layer of the block, in execution order."""
        skip = self.skip_kind(shape)
        shortcut = trace.maxpool("pool", -1, POOLED_KERNEL, shape.stride) if skip == "pooled" else -1
        branch = self._trace_branch(trace, shape)
        if skip != "none":
            trace.add("add", branch, shortcut)

    def _trace_branch(self, trace: Trace, shape: BlockShape) -> int:
        """Record the layers beside the skip; return the index of the last one."""
        raise NotImplementedError


class MBConv(_Block, frozen=True, tag="MBConv"):
    """Mobile inverted bottleneck (MobileNetV2; with squeeze-excitation: MnasNet, EfficientNet Table 1).

    1x1 expansion to `expansion` times the input (omitted at 1), depthwise `kernel`, squeeze-excitation,
    linear 1x1 projection. `se` is the squeeze width as a fraction of the block's *input* channels, before
    expansion (tensorflow/tpu#616); 0 omits it.
    """

    kernel: int = 3
    expansion: int = 6
    se: float = 0.25

    def __post_init__(self) -> None:
        check_kernel(self.kernel)
        _check_expansion(self.expansion)
        check_se(self.se)

    @property
    def title(self) -> str:
        """`MBConv6, k3x3`, as in Table 1: squeeze-excitation is the default, so only its absence is written."""
        return f"MBConv{self.expansion}, {_side(self.kernel)}" + ("" if self.se else ", no SE")

    def _trace_branch(self, trace: Trace, shape: BlockShape) -> int:
        middle = shape.in_channels * self.expansion
        x = -1 if self.expansion == 1 else trace.conv_norm("expand", -1, middle)
        x = trace.conv_norm("depthwise", x, middle, self.kernel, shape.stride, groups=middle)
        x = trace.squeeze_excite("se", x, squeeze_channels(shape.in_channels, self.se))
        return trace.conv_norm("project", x, shape.out_channels, activation=False)


class FusedMBConv(_Block, frozen=True, tag="FusedMBConv"):
    """MBConv whose expansion and depthwise convolution are one full convolution (EfficientNet-EdgeTPU, V2).

    At `expansion` 1 the block is that convolution alone, with its activation and without a projection. `expands` says
    of which channels the full convolution has a multiple: of the block's "input"; or of its "output", as in the first
    block of EfficientNet-EdgeTPU, whose string in efficientnet_edgetpu_builder.py expands 24 of the stem's 32 channels.
    """

    kernel: int = 3
    expansion: int = 4
    se: float = 0.0
    expands: Literal["input", "output"] = "input"

    def __post_init__(self) -> None:
        check_kernel(self.kernel)
        _check_expansion(self.expansion)
        check_se(self.se)

    @property
    def title(self) -> str:
        """`FusedMBConv4, k3x3`, with `, SE` if it has squeeze-excitation."""
        return f"FusedMBConv{self.expansion}, {_side(self.kernel)}{_with_se(self.se)}"

    def middle_channels(self, shape: BlockShape) -> int:
        """Return the channels of the full convolution."""
        expanded = self.expansion > 1 and self.expands == "input"
        return (shape.in_channels if expanded else shape.out_channels) * self.expansion

    def _trace_branch(self, trace: Trace, shape: BlockShape) -> int:
        x = trace.conv_norm("expand", -1, self.middle_channels(shape), self.kernel, shape.stride)
        x = trace.squeeze_excite("se", x, squeeze_channels(shape.in_channels, self.se))
        return trace.conv_norm("project", x, shape.out_channels, activation=False) if self.expansion > 1 else x


class UIB(_Block, frozen=True, tag="UIB"):
    """Universal inverted bottleneck (MobileNetV4, Qin et al. 2024, section 4): two optional depthwise convolutions.

    Depthwise `start` with norm but no activation, 1x1 expansion to `expansion` times the input, depthwise `middle`,
    linear 1x1 projection; a kernel of 0 omits a depthwise convolution. The middle one has the stride, or the first one
    if there is none in the middle (tensorflow/models, official/vision/modeling/layers/nn_blocks.py).
    """

    start: int = 0
    middle: int = 3
    expansion: int = 4

    def __post_init__(self) -> None:
        for name, kernel in (("start", self.start), ("middle", self.middle)):
            even = kernel % 2 == 0 and kernel != 0
            check(0 <= kernel <= 31 and not even, f"{name} must be 0 (none), or odd and at most 31, got {kernel}")
        _check_expansion(self.expansion)

    @property
    def title(self) -> str:
        """`UIB4 ExtraDW, k3x3 k5x5`: the paper's names of its four forms are ExtraDW, ConvNext, IB and FFN."""
        forms = {(True, True): "ExtraDW", (True, False): "ConvNext", (False, True): "IB", (False, False): "FFN"}
        kernels = " ".join(_side(kernel) for kernel in (self.start, self.middle) if kernel)
        return f"UIB{self.expansion} {forms[self.start > 0, self.middle > 0]}" + (f", {kernels}" if kernels else "")

    def check_stride(self, stride: int) -> None:
        """Raise CompoundNetError if there is no depthwise convolution that could have this stride."""
        check(
            stride == 1 or self.start > 0 or self.middle > 0,
            f"a UIB without depthwise convolutions cannot have stride {stride}; give it start or middle",
        )

    def _trace_branch(self, trace: Trace, shape: BlockShape) -> int:
        x, middle = -1, shape.in_channels * self.expansion
        if self.start:
            stride = 1 if self.middle else shape.stride
            x = trace.conv_norm(
                "start", x, shape.in_channels, self.start, stride, groups=shape.in_channels, activation=False
            )
        x = trace.conv_norm("expand", x, middle)
        if self.middle:
            x = trace.conv_norm("middle", x, middle, self.middle, shape.stride, groups=middle)
        return trace.conv_norm("project", x, shape.out_channels, activation=False)


class SeparableConv(_Block, frozen=True, tag="SeparableConv"):
    """Depthwise convolution and 1x1 convolution, each with norm and activation (MobileNetV1).

    Squeeze-excitation (MnasNet's search space has it on every operator) is placed between the two, as in MBConv.
    """

    kernel: int = 3
    se: float = 0.0

    def __post_init__(self) -> None:
        check_kernel(self.kernel)
        check_se(self.se)

    @property
    def title(self) -> str:
        """`SeparableConv, k3x3`, with `, SE` if it has squeeze-excitation."""
        return f"SeparableConv, {_side(self.kernel)}{_with_se(self.se)}"

    def _trace_branch(self, trace: Trace, shape: BlockShape) -> int:
        channels = shape.in_channels
        x = trace.conv_norm("depthwise", -1, channels, self.kernel, shape.stride, groups=channels)
        x = trace.squeeze_excite("se", x, squeeze_channels(channels, self.se))
        return trace.conv_norm("pointwise", x, shape.out_channels)


class ConvBlock(_Block, frozen=True, tag="ConvBlock"):
    """One full convolution with norm and activation, followed by squeeze-excitation."""

    kernel: int = 3
    se: float = 0.0

    def __post_init__(self) -> None:
        check_kernel(self.kernel)
        check_se(self.se)

    @property
    def title(self) -> str:
        """`Conv, k3x3`, with `, SE` if it has squeeze-excitation."""
        return f"Conv, {_side(self.kernel)}{_with_se(self.se)}"

    def _trace_branch(self, trace: Trace, shape: BlockShape) -> int:
        x = trace.conv_norm("conv", -1, shape.out_channels, self.kernel, shape.stride)
        return trace.squeeze_excite("se", x, squeeze_channels(shape.in_channels, self.se))


class _ResNetBlock(_Block, frozen=True):
    """A block with a built-in shortcut, projected by a 1x1 convolution if the shape changes (He et al. 2016).

    An activation follows the addition.
    """

    own_shortcut: ClassVar[bool] = True

    def trace(self, trace: Trace, shape: BlockShape) -> None:
        """Record every layer of the block, in execution order."""
        shortcut = -1
        if not shape.preserved:
            shortcut = trace.conv_norm("shortcut", -1, shape.out_channels, 1, shape.stride, activation=False)
        branch = self._trace_branch(trace, shape)
        trace.activation("act", trace.add("add", branch, shortcut))


class BasicBlock(_ResNetBlock, frozen=True, tag="BasicBlock"):
    """Two full convolutions around a shortcut (ResNet-18 and -34); activation after the addition."""

    kernel: int = 3

    def __post_init__(self) -> None:
        check_kernel(self.kernel)

    @property
    def title(self) -> str:
        """`BasicBlock, k3x3`."""
        return f"BasicBlock, {_side(self.kernel)}"

    def _trace_branch(self, trace: Trace, shape: BlockShape) -> int:
        x = trace.conv_norm("first", -1, shape.out_channels, self.kernel, shape.stride)
        return trace.conv_norm("second", x, shape.out_channels, self.kernel, activation=False)


class Bottleneck(_ResNetBlock, frozen=True, tag="Bottleneck"):
    """1x1, `kernel`, 1x1 around a shortcut (ResNet-50 and up); stride in the middle, activation after the addition.

    The middle has `ratio` times the block's output channels, in `groups` groups: 1/4 and 1 are ResNet, 1/2 and 1
    WideResNet-50-2, 1/2 and 32 ResNeXt 32x4d, 1 and 64 ResNeXt 64x4d.
    """

    kernel: int = 3
    ratio: float = 0.25
    groups: int = 1

    def __post_init__(self) -> None:
        check_kernel(self.kernel)
        check(0 < self.ratio <= 4, f"ratio must be above 0 and at most 4, got {self.ratio}")
        check(self.groups >= 1, f"groups must be at least 1, got {self.groups}")

    @property
    def title(self) -> str:
        """`Bottleneck, k3x3`, with the number of groups if there is more than one."""
        return f"Bottleneck, {_side(self.kernel)}" + (f", {self.groups} groups" if self.groups > 1 else "")

    def middle_channels(self, out_channels: int) -> int:
        """Return the channels of the middle convolution: the nearest multiple of `groups`, at least one per group."""
        return max(1, round(out_channels * self.ratio / self.groups)) * self.groups

    def _trace_branch(self, trace: Trace, shape: BlockShape) -> int:
        middle = self.middle_channels(shape.out_channels)
        x = trace.conv_norm("reduce", -1, middle)
        x = trace.conv_norm("spatial", x, middle, self.kernel, shape.stride, groups=self.groups)
        return trace.conv_norm("expand", x, shape.out_channels, activation=False)


Block = MBConv | FusedMBConv | UIB | SeparableConv | ConvBlock | BasicBlock | Bottleneck


def squeeze_channels(in_channels: int, se: float) -> int:
    """Return the squeeze width for a block's input channels, as the authors' code does; 0 is none."""
    return max(1, int(in_channels * se)) if se > 0 else 0


def check_kernel(kernel: int) -> None:
    """Raise CompoundNetError unless the kernel's side is odd and between 1 and 31 pixels."""
    check(1 <= kernel <= 31 and kernel % 2 == 1, f"kernel must be odd and between 1 and 31, got {kernel}")


def check_se(se: float) -> None:
    """Raise CompoundNetError unless the squeeze ratio is between 0 and 1."""
    check(0 <= se <= 1, f"se is a ratio from 0 (none) to 1, got {se}")


def _check_expansion(expansion: int) -> None:
    check(1 <= expansion <= 64, f"expansion must be between 1 and 64, got {expansion}")


def _side(kernel: int) -> str:
    return f"k{kernel}x{kernel}"


def _with_se(se: float) -> str:
    return ", SE" if se else ""
