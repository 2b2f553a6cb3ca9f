"""A ConvNet as data (Eq. 1): stem, stages, head and their common settings; read from and written to TOML."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from compoundnet.arch.blocks import Block, Skip, check_kernel
from compoundnet.base import limits
from compoundnet.base.values import TomlStruct, check

MIN_RESOLUTION = 32


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of all parts: frozen, and an unknown field is an error."""


class Stem(_Part, frozen=True):
    """First convolution, with norm and activation; `pool` is ResNet's 3x3 stride-2 max pool after it."""

    channels: int = 32
    kernel: int = 3
    stride: int = 2
    pool: Literal["none", "max"] = "none"

    def __post_init__(self) -> None:
        check(self.channels >= 1, f"channels must be at least 1, got {self.channels}")
        check_kernel(self.kernel)
        check(1 <= self.stride <= 4, f"stride must be between 1 and 4, got {self.stride}")


class Stage(_Part, frozen=True):
    """A run of blocks of one type; only the first has the stride and changes the channels.

    Attributes:
        block: The layer type F_i of Eq. 1.
        channels: C_i, the channels of each block's output.
        repeats: L_i, the number of blocks.
        stride: Stride of the first block.
        skip: Whether a block whose input and output have equal shapes adds its input (`noskip` in the authors' code);
            or "pool": every block that keeps its channels adds its input max-pooled 3x3 at the block's stride
            (MnasNet's search space). BasicBlock and Bottleneck always have a shortcut.
        joined: Whether the stage is of one group with the stage before it, at the same resolution: depth multiplies the
            repeats of a group, not those of each stage (MobileNetV4, whose stages are of unlike blocks).
    """

    block: Block
    channels: int
    repeats: int = 1
    stride: int = 1
    skip: Skip = True
    joined: bool = False

    def __post_init__(self) -> None:
        check(self.channels >= 1, f"channels must be at least 1, got {self.channels}")
        check(self.repeats >= 1, f"repeats must be at least 1, got {self.repeats}")
        check(1 <= self.stride <= 4, f"stride must be between 1 and 4, got {self.stride}")
        check(not self.joined or self.stride == 1, f"a joined stage must have stride 1, got {self.stride}")
        self.block.check_stride(self.stride)


class Head(_Part, frozen=True):
    """The layers after the stages: 1x1 convolution, global pool, 1x1 convolution; both have norm and activation.

    Attributes:
        channels: Channels of the convolution before the pool; 0 omits it.
        pool: Pool over the whole feature map; a network without it ("none") has no classifier either.
        hidden: Channels of the convolution after the pool, which scaling does not change; 0 omits it (MobileNetV4).
    """

    channels: int = 0
    pool: Literal["avg", "max", "none"] = "avg"
    hidden: int = 0

    def __post_init__(self) -> None:
        check(self.channels >= 0, f"channels must be 0 (no convolution) or more, got {self.channels}")
        check(self.hidden >= 0, f"hidden must be 0 (no convolution) or more, got {self.hidden}")


class Norm(_Part, frozen=True):
    """Batch norm; `momentum` in torch's sense (TensorFlow's 0.99 is 0.01 here)."""

    eps: float = 1e-3
    momentum: float = 0.01

    def __post_init__(self) -> None:
        check(self.eps > 0, f"eps must be above 0, got {self.eps}")
        check(0 < self.momentum <= 1, f"momentum must be above 0 and at most 1, got {self.momentum}")


class Rules(_Part, frozen=True):
    """The rounding rules of a family when it is scaled.

    The `fix_*` fields are those of EfficientNet-Lite (lite/efficientnet_lite_builder.py).

    Attributes:
        channel_divisor: Channels are rounded to its nearest multiple, at least one.
        max_channel_loss: The part of the channels that rounding down may lose; where it would lose more, the next
            multiple is taken. 0.1 in the authors' round_filters; 1 never takes the next one (EfficientNetV2,
            automl/efficientnetv2/effnetv2_model.py).
        depth_rounding: Repeats are rounded "up" (authors' round_repeats), or to the "nearest" whole number, at least
            one (TinyNet).
        fix_stem: Whether the stem keeps its channels.
        fix_head: Whether the head keeps its channels.
        fix_end_repeats: Whether the first and the last stage, or group of stages, keep their repeats.
        stem_grows_only: Whether the stem keeps its channels below width 1 (MobileNetV4, as in timm).
        head_grows_only: Whether the head keeps its channels below width 1 (MobileNetV2, as in its authors' code).
    """

    channel_divisor: int = 8
    max_channel_loss: float = 0.1
    depth_rounding: Literal["up", "nearest"] = "up"
    fix_stem: bool = False
    fix_head: bool = False
    fix_end_repeats: bool = False
    stem_grows_only: bool = False
    head_grows_only: bool = False

    def __post_init__(self) -> None:
        check(self.channel_divisor >= 1, f"channel_divisor must be at least 1, got {self.channel_divisor}")
        check(
            0 <= self.max_channel_loss <= 1,
            f"max_channel_loss is a part of the channels, from 0 to 1, got {self.max_channel_loss}",
        )

    def stem_width(self, width: float) -> float:
        """Return the width multiplier of the stem, for that of the network."""
        return 1.0 if self.fix_stem else max(1.0, width) if self.stem_grows_only else width

    def head_width(self, width: float) -> float:
        """Return the width multiplier of the head, for that of the network."""
        return 1.0 if self.fix_head else max(1.0, width) if self.head_grows_only else width


class Scaling(_Part, frozen=True):
    """The origin of a scaled network: the name of the base and the applied multipliers."""

    base: str
    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0


class Network(_Part, TomlStruct, frozen=True, omit_defaults=True):
    """A whole network. Everything else in this project is computed from it.

    Attributes:
        name: Letters, digits and `. _ + -`.
        resolution: Side of the square input, pixels.
        stem: The first convolution.
        stages: The stages between stem and head.
        head: The last convolution and the global pool.
        activation: The activation after stem, blocks and head, also used in squeeze-excitation.
        norm: Batch norm after every convolution except those of squeeze-excitation.
        padding: "same": TensorFlow's, bottom and right first; "symmetric": torch's kernel // 2. Weights
            need the padding with which they were trained.
        dropout: Probability, before the classifier.
        survival: Stochastic depth: probability that the deepest block is kept; falls linearly from 1.
        in_channels: Channels of the images.
        num_classes: Length of the logits; 0 omits the classifier.
        rules: The rounding rules for scaling.
        scaling: The network and multipliers from which it was scaled; None for a baseline.
    """

    name: str
    resolution: int
    stem: Stem
    stages: tuple[Stage, ...]
    head: Head = Head()
    activation: Literal["silu", "relu", "relu6"] = "silu"
    norm: Norm = Norm()
    padding: Literal["same", "symmetric"] = "same"
    dropout: float = 0.0
    survival: float = 1.0
    in_channels: int = 3
    num_classes: int = 1000
    rules: Rules = Rules()
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        check(
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", self.name) is not None,
            f"name may hold letters, digits and . _ + -, got {self.name!r}",
        )
        check(
            self.resolution >= MIN_RESOLUTION,
            f"resolution must be at least {MIN_RESOLUTION} px, got {self.resolution}",
        )
        check(len(self.stages) >= 1, "stages must hold at least one stage")
        check(not self.stages[0].joined, "the first stage cannot be joined: there is none before it")
        check(0 <= self.dropout < 1, f"dropout must be at least 0 and below 1, got {self.dropout}")
        check(0 < self.survival <= 1, f"survival must be above 0 and at most 1, got {self.survival}")
        check(self.in_channels >= 1, f"in_channels must be at least 1, got {self.in_channels}")
        check(self.num_classes >= 0, f"num_classes must be 0 (no classifier) or more, got {self.num_classes}")
        check(
            self.num_classes == 0 or self.head.pool != "none",
            f"a classifier reads pooled features: without a global pool num_classes must be 0, got {self.num_classes}",
        )

    def replace(self, **fields: Any) -> Network:
        """Return this network with other values in some fields.

        Raises:
            CompoundNetError: an impossible value.
        """
        changed = msgspec.structs.replace(self, **fields)
        changed.__post_init__()  # structs.replace does not run it
        return changed

    def check_size(self) -> None:
        """Raise CompoundNetError if there are more layers, channels or pixels than in any network that can be built.

        Costs of larger networks are still computed, since they are a formula.
        """
        limit = limits.BLOCKS
        check(self.blocks <= limit, f"{self.name} has {self.blocks:,} blocks, and {limit:,} are the limit")
        most = max(
            self.stem.channels, self.head.channels, self.in_channels, self.num_classes,
            *(max(stage.channels, getattr(stage.block, "groups", 1)) for stage in self.stages),
        )  # fmt: skip
        limit = limits.CHANNELS
        check(most <= limit, f"{self.name} has a layer of {most:,} channels, and {limit:,} are the limit")

    @property
    def blocks(self) -> int:
        """Number of blocks over all stages."""
        return sum(stage.repeats for stage in self.stages)

    @property
    def features(self) -> int:
        """Channels of the last feature map, which reach the global pool."""
        return self.head.channels or self.stages[-1].channels

    @property
    def classifier_features(self) -> int:
        """Inputs of the classifier: the channels after the pool."""
        return self.head.hidden or self.features

    @property
    def has_linear_head(self) -> bool:
        """Whether the logits are linear in the last feature map: an average pool, and the classifier after it.

        Class activation maps are exact for these networks.
        """
        return self.head.pool == "avg" and not self.head.hidden and self.num_classes > 0

    @property
    def groups(self) -> tuple[range, ...]:
        """The indices of the stages of each group, in order: a stage and those that are joined to it."""
        starts = [index for index, stage in enumerate(self.stages) if not stage.joined]
        return tuple(range(*ends) for ends in zip(starts, [*starts[1:], len(self.stages)], strict=True))
