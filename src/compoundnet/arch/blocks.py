"""The layer types F_i that a stage repeats (Eq. 1), as tagged values with named fields.

A block says what it is, not how wide it is: channels, stride and repeats belong to the stage.
"""

from __future__ import annotations

import msgspec


def check(condition: bool, message: str) -> None:
    """Refuse an impossible value; while reading TOML, msgspec adds the field's path to the message."""
    if not condition:
        raise ValueError(message)


def check_kernel(kernel: int) -> None:
    check(1 <= kernel <= 31 and kernel % 2 == 1, f"kernel must be odd and between 1 and 31, got {kernel}")


def check_se(se: float) -> None:
    check(0 <= se <= 1, f"se is a ratio from 0 (none) to 1, got {se}")


class _Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """What all blocks share: frozen, strict, told apart by `type`."""


class MBConv(_Block, frozen=True, tag="MBConv"):
    """Mobile inverted bottleneck (MobileNetV2; with squeeze-excitation: MnasNet, EfficientNet Table 1).

    1x1 expansion to `expansion` times the input (left out at 1), depthwise `kernel`, squeeze-excitation,
    linear 1x1 projection. `se` is the squeeze width as a fraction of the block's *input* channels, before
    expansion (tensorflow/tpu#616); 0 leaves it out.
    """

    kernel: int = 3
    expansion: int = 6
    se: float = 0.25

    def __post_init__(self) -> None:
        check_kernel(self.kernel)
        check(1 <= self.expansion <= 64, f"expansion must be between 1 and 64, got {self.expansion}")
        check_se(self.se)


class FusedMBConv(_Block, frozen=True, tag="FusedMBConv"):
    """MBConv whose expansion and depthwise convolution are one full convolution (EfficientNet-EdgeTPU, V2).

    At `expansion` 1 the block is that convolution alone, with its activation and without a projection.
    """

    kernel: int = 3
    expansion: int = 4
    se: float = 0.0

    def __post_init__(self) -> None:
        check_kernel(self.kernel)
        check(1 <= self.expansion <= 64, f"expansion must be between 1 and 64, got {self.expansion}")
        check_se(self.se)


class SeparableConv(_Block, frozen=True, tag="SeparableConv"):
    """Depthwise convolution and 1x1 convolution, each with norm and activation (MobileNetV1).

    Squeeze-excitation (MnasNet's search space has it on every operator) stands between the two, as in MBConv.
    """

    kernel: int = 3
    se: float = 0.0

    def __post_init__(self) -> None:
        check_kernel(self.kernel)
        check_se(self.se)


class ConvBlock(_Block, frozen=True, tag="ConvBlock"):
    """One full convolution with norm and activation, and after it squeeze-excitation."""

    kernel: int = 3
    se: float = 0.0

    def __post_init__(self) -> None:
        check_kernel(self.kernel)
        check_se(self.se)


class BasicBlock(_Block, frozen=True, tag="BasicBlock"):
    """Two full convolutions around a shortcut (ResNet-18 and -34); activation after the addition."""

    kernel: int = 3

    def __post_init__(self) -> None:
        check_kernel(self.kernel)


class Bottleneck(_Block, frozen=True, tag="Bottleneck"):
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

    def middle_channels(self, out_channels: int) -> int:
        """Channels of the middle convolution: the nearest multiple of `groups`, at least one channel a group."""
        return max(1, round(out_channels * self.ratio / self.groups)) * self.groups


Block = MBConv | FusedMBConv | SeparableConv | ConvBlock | BasicBlock | Bottleneck


def squeeze_channels(in_channels: int, se: float) -> int:
    """Squeeze width from the block's input channels, as in the authors' code: max(1, int(in * se)); 0 is none."""
    return max(1, int(in_channels * se)) if se > 0 else 0
