"""Every primitive layer of a network, once: `unroll`. Cost, stage table, memory and receptive field are sums over it.

`compoundnet.nn` builds the same layers under the same names; a property test holds the two together.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from compoundnet.arch.blocks import (
    BasicBlock,
    Block,
    Bottleneck,
    ConvBlock,
    FusedMBConv,
    MBConv,
    SeparableConv,
    squeeze_channels,
)
from compoundnet.arch.spec import Head, Network, Stem

Skip = bool | Literal["pool"]  # Stage.skip
POOLED_KERNEL = 3  # of a pooled skip

Kind = Literal["conv", "linear", "norm", "activation", "gate", "multiply", "add", "maxpool", "mean"]


class Layer(NamedTuple):
    """One primitive operation. Sizes are sides in pixels; `inputs` index the layers it reads, -1 is the image."""

    name: str
    kind: Kind
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    groups: int
    bias: bool
    in_size: int
    out_size: int
    inputs: tuple[int, ...]

    @property
    def params(self) -> int:
        """Trainable parameters: weights, biases, batch norm's scale and shift."""
        if self.kind in ("conv", "linear"):
            weights = self.out_channels * (self.in_channels // self.groups) * self.kernel**2
            return weights + (self.out_channels if self.bias else 0)
        return 2 * self.out_channels if self.kind == "norm" else 0

    @property
    def macs(self) -> int:
        """Multiply-adds for one image; convolutions and fully connected layers have them (the paper's FLOPS)."""
        if self.kind not in ("conv", "linear"):
            return 0
        return self.out_size**2 * self.out_channels * (self.in_channels // self.groups) * self.kernel**2

    @property
    def outputs(self) -> int:
        """Elements of the output for one image."""
        return self.out_channels * self.out_size**2


class Trace:
    """Writes layers down in the order they run. Each method returns the index of the layer it added."""

    def __init__(self, channels: int, size: int) -> None:
        self.layers: list[Layer] = []
        self._shapes: dict[int, tuple[int, int]] = {-1: (channels, size)}

    def _add(
        self,
        name: str,
        kind: Kind,
        inputs: tuple[int, ...],
        out_channels: int | None = None,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        out_size: int | None = None,
    ) -> int:
        channels, size = self._shapes[inputs[0]]
        out_channels = channels if out_channels is None else out_channels
        out_size = -(-size // stride) if out_size is None else out_size  # odd kernels: both paddings give the ceiling
        index = len(self.layers)
        self.layers.append(
            Layer(name, kind, channels, out_channels, kernel, stride, groups, bias, size, out_size, inputs)
        )
        self._shapes[index] = (out_channels, out_size)
        return index

    def conv_norm(
        self,
        name: str,
        source: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> int:
        """Convolution without bias, batch norm, and the network's activation."""
        index = self._add(f"{name}.conv", "conv", (source,), out_channels, kernel, stride, groups)
        index = self._add(f"{name}.norm", "norm", (index,))
        return self.activation(f"{name}.act", index) if activation else index

    def activation(self, name: str, source: int) -> int:
        return self._add(name, "activation", (source,))

    def squeeze_excite(self, name: str, source: int, squeezed: int) -> int:
        """Global mean, two 1x1 convolutions with bias, sigmoid, and the product with the input."""
        channels, _ = self._shapes[source]
        index = self.mean(f"{name}.mean", source)
        index = self._add(f"{name}.reduce", "conv", (index,), squeezed, bias=True)
        index = self.activation(f"{name}.act", index)
        index = self._add(f"{name}.expand", "conv", (index,), channels, bias=True)
        index = self._add(f"{name}.gate", "gate", (index,))
        return self._add(f"{name}.scale", "multiply", (source, index))

    def add(self, name: str, source: int, shortcut: int) -> int:
        return self._add(name, "add", (source, shortcut))

    def maxpool(self, name: str, source: int, kernel: int, stride: int) -> int:
        return self._add(name, "maxpool", (source,), kernel=kernel, stride=stride)

    def mean(self, name: str, source: int) -> int:
        return self._add(name, "mean", (source,), out_size=1)

    def linear(self, name: str, source: int, out_channels: int) -> int:
        return self._add(name, "linear", (source,), out_channels, bias=True)


class Group:
    """The layers of a stem, a block or a head, with names and indices relative to it; -1 is the group's input.

    Equal groups are one object (the functions below are cached), so figures derived from one are cached by identity.
    """

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = tuple(layers)
        self.params = sum(layer.params for layer in layers)
        self.macs = sum(layer.macs for layer in layers)
        self.activations = sum(layer.outputs for layer in layers if layer.kind in ("conv", "linear"))


@lru_cache(maxsize=4096)
def block_group(block: Block, in_channels: int, out_channels: int, stride: int, skip: Skip, size: int) -> Group:
    """One block of a stage."""
    trace = Trace(in_channels, size)
    same_shape = stride == 1 and in_channels == out_channels
    added = added_input(block, in_channels, out_channels, stride, skip)
    pooled = trace.maxpool("pool", -1, POOLED_KERNEL, stride) if added == "pooled" else -1
    match block:
        case MBConv():
            middle = in_channels * block.expansion
            x = -1 if block.expansion == 1 else trace.conv_norm("expand", -1, middle)
            x = trace.conv_norm("depthwise", x, middle, block.kernel, stride, groups=middle)
            if block.se > 0:
                x = trace.squeeze_excite("se", x, squeeze_channels(in_channels, block.se))
            x = trace.conv_norm("project", x, out_channels, activation=False)
        case FusedMBConv():
            expanded = block.expansion > 1
            middle = in_channels * block.expansion if expanded else out_channels
            x = trace.conv_norm("expand", -1, middle, block.kernel, stride)
            if block.se > 0:
                x = trace.squeeze_excite("se", x, squeeze_channels(in_channels, block.se))
            if expanded:
                x = trace.conv_norm("project", x, out_channels, activation=False)
        case SeparableConv():
            x = trace.conv_norm("depthwise", -1, in_channels, block.kernel, stride, groups=in_channels)
            if block.se > 0:
                x = trace.squeeze_excite("se", x, squeeze_channels(in_channels, block.se))
            x = trace.conv_norm("pointwise", x, out_channels)
        case ConvBlock():
            x = trace.conv_norm("conv", -1, out_channels, block.kernel, stride)
            if block.se > 0:
                x = trace.squeeze_excite("se", x, squeeze_channels(in_channels, block.se))
        case BasicBlock():
            shortcut = -1 if same_shape else trace.conv_norm("shortcut", -1, out_channels, 1, stride, activation=False)
            x = trace.conv_norm("first", -1, out_channels, block.kernel, stride)
            x = trace.conv_norm("second", x, out_channels, block.kernel, activation=False)
            trace.activation("act", trace.add("add", x, shortcut))
        case Bottleneck():
            middle = block.middle_channels(out_channels)
            shortcut = -1 if same_shape else trace.conv_norm("shortcut", -1, out_channels, 1, stride, activation=False)
            x = trace.conv_norm("reduce", -1, middle)
            x = trace.conv_norm("spatial", x, middle, block.kernel, stride, groups=block.groups)
            x = trace.conv_norm("expand", x, out_channels, activation=False)
            trace.activation("act", trace.add("add", x, shortcut))
    if added != "nothing":
        trace.add("add", x, pooled)
    return Group(trace.layers)


def added_input(
    block: Block, in_channels: int, out_channels: int, stride: int, skip: Skip
) -> Literal["nothing", "unchanged", "pooled"]:
    """What a block adds of its input at its end; the ResNet blocks bring their own shortcut."""
    if not skip or in_channels != out_channels or isinstance(block, (BasicBlock, Bottleneck)):
        return "nothing"
    if skip == "pool":
        return "pooled"
    return "unchanged" if stride == 1 else "nothing"


@lru_cache(maxsize=256)
def stem_group(stem: Stem, in_channels: int, size: int) -> Group:
    trace = Trace(in_channels, size)
    index = trace.conv_norm("stem", -1, stem.channels, stem.kernel, stem.stride)
    if stem.pool == "max":
        trace.maxpool("pool", index, 3, 2)
    return Group(trace.layers)


@lru_cache(maxsize=256)
def head_group(head: Head, in_channels: int, num_classes: int, size: int) -> Group:
    trace = Trace(in_channels, size)
    index = trace.conv_norm("head", -1, head.channels) if head.channels else -1
    index = trace.mean("mean", index)
    if num_classes:
        trace.linear("classifier", index, num_classes)
    return Group(trace.layers)


class Segment(NamedTuple):
    """A run of `repeats` equal groups: the stem, one kind of block, or the head."""

    stage: int  # index into network.stages; -1 the stem, len(stages) the head
    group: Group
    repeats: int
    first: int  # position of the first of them in its stage


def segments(network: Network) -> tuple[Segment, ...]:
    """The network as runs of equal blocks: what makes cost closed-form. The first block of a stage is its own run."""
    stem = stem_group(network.stem, network.in_channels, network.resolution)
    found = [Segment(-1, stem, 1, 0)]
    channels, size = stem.layers[-1].out_channels, stem.layers[-1].out_size
    for index, stage in enumerate(network.stages):
        first = block_group(stage.block, channels, stage.channels, stage.stride, stage.skip, size)
        found.append(Segment(index, first, 1, 0))
        channels, size = stage.channels, first.layers[-1].out_size
        if stage.repeats > 1:
            rest = block_group(stage.block, channels, channels, 1, stage.skip, size)
            found.append(Segment(index, rest, stage.repeats - 1, 1))
    head = head_group(network.head, channels, network.num_classes, size)
    found.append(Segment(len(network.stages), head, 1, 0))
    return tuple(found)


def unroll(network: Network) -> tuple[Layer, ...]:
    """Every layer in the order it runs, under the name the built module has (`stages.2.0.depthwise.conv`)."""
    layers: list[Layer] = []
    for run in segments(network):
        for position in range(run.first, run.first + run.repeats):
            prefix = f"stages.{run.stage}.{position}." if 0 <= run.stage < len(network.stages) else ""
            # An index of -1 in a group is the group's input: the layer before it, or the image (-1) at the start.
            offset = len(layers)
            layers += [
                layer._replace(name=prefix + layer.name, inputs=tuple(offset + index for index in layer.inputs))
                for layer in run.group.layers
            ]
    return tuple(layers)
