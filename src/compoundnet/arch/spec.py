"""A ConvNet as data (Eq. 1): stem, stages, head and what holds for all of them; TOML in and out."""

from __future__ import annotations

import os
import re
from typing import Any, Literal

import msgspec

from compoundnet.arch.blocks import Block, Skip, check_kernel
from compoundnet.base.files import write_whole
from compoundnet.base.values import check, decode_toml, read_toml

MIN_RESOLUTION = 32


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all parts share: frozen, and an unknown field is an error."""


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
        block: the layer type F_i of Eq. 1.
        channels: C_i, of each block's output.
        repeats: L_i, how many blocks there are.
        stride: of the first block.
        skip: whether a block whose input and output have equal shapes adds its input (`noskip` in the authors' code);
            or "pool": every block that keeps its channels adds its input max-pooled 3x3 at the block's stride
            (MnasNet's search space). BasicBlock and Bottleneck always have their own shortcut.
    """

    block: Block
    channels: int
    repeats: int = 1
    stride: int = 1
    skip: Skip = True

    def __post_init__(self) -> None:
        check(self.channels >= 1, f"channels must be at least 1, got {self.channels}")
        check(self.repeats >= 1, f"repeats must be at least 1, got {self.repeats}")
        check(1 <= self.stride <= 4, f"stride must be between 1 and 4, got {self.stride}")


class Head(_Part, frozen=True):
    """What follows the stages: a 1x1 convolution with norm and activation, and the global pool.

    Attributes:
        channels: of the convolution; 0 leaves it out.
        pool: over the whole feature map; a network without one ("none") has no classifier either.
    """

    channels: int = 0
    pool: Literal["avg", "max", "none"] = "avg"

    def __post_init__(self) -> None:
        check(self.channels >= 0, f"channels must be 0 (no convolution) or more, got {self.channels}")


class Norm(_Part, frozen=True):
    """Batch norm; `momentum` in torch's sense (TensorFlow's 0.99 is 0.01 here)."""

    eps: float = 1e-3
    momentum: float = 0.01

    def __post_init__(self) -> None:
        check(self.eps > 0, f"eps must be above 0, got {self.eps}")
        check(0 < self.momentum <= 1, f"momentum must be above 0 and at most 1, got {self.momentum}")


class Rules(_Part, frozen=True):
    """How a family rounds when it is scaled.

    The `fix_*` fields are EfficientNet-Lite's (lite/efficientnet_lite_builder.py).

    Attributes:
        channel_divisor: channels go to its nearest multiple, at least one of it, and one more where that would lose
            over 10 % (authors' round_filters).
        fix_stem: the stem keeps its channels.
        fix_head: the head keeps its channels.
        fix_end_repeats: the first and the last stage keep their repeats.
        head_grows_only: the head keeps its channels below width 1 (MobileNetV2, as its authors' code has it).
    """

    channel_divisor: int = 8
    fix_stem: bool = False
    fix_head: bool = False
    fix_end_repeats: bool = False
    head_grows_only: bool = False

    def __post_init__(self) -> None:
        check(self.channel_divisor >= 1, f"channel_divisor must be at least 1, got {self.channel_divisor}")


class Scaling(_Part, frozen=True):
    """What a scaled network was scaled from: the base's name and the multipliers applied to it."""

    base: str
    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0


class Network(_Part, frozen=True, omit_defaults=True):
    """A whole network. Everything else in this project is a function of it.

    Attributes:
        name: letters, digits and `. _ + -`.
        resolution: side of the square input, pixels.
        stem: the first convolution.
        stages: what is between stem and head.
        head: the last convolution and the global pool.
        activation: after stem, blocks and head; squeeze-excitation uses it too.
        norm: batch norm, after every convolution but squeeze-excitation's.
        padding: "same": TensorFlow's, bottom and right first; "symmetric": torch's kernel // 2. Weights need the one
            that they were trained with.
        dropout: probability, before the classifier.
        survival: stochastic depth: probability that the deepest block is kept; falls linearly from 1.
        in_channels: channels of the images.
        num_classes: length of the logits; 0 leaves the classifier out.
        rules: how the network rounds when it is scaled.
        scaling: what it was scaled from; None for a baseline.
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

    @property
    def blocks(self) -> int:
        """Number of blocks over all stages."""
        return sum(stage.repeats for stage in self.stages)

    @property
    def features(self) -> int:
        """Channels that reach the global pool and the classifier."""
        return self.head.channels or self.stages[-1].channels

    @classmethod
    def loads(cls, text: str | bytes, source: str = "<text>") -> Network:
        """Read a network from TOML text.

        Args:
            text: the document.
            source: what error messages call it.

        Raises:
            CompoundNetError: an unknown field, a wrong type or an impossible value; the message names the field.
        """
        return decode_toml(text, cls, source)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Network:
        """Read a network's TOML file; errors as `loads`'s, and for a file that cannot be read."""
        return read_toml(path, cls)

    def dumps(self) -> str:
        """Return this network as TOML, from which `Network.loads` makes an equal one."""
        return msgspec.toml.encode(self).decode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the TOML file whole or not at all."""
        write_whole(path, self.dumps().encode())
