"""A network as runs of equal blocks, which gives its cost in closed form; `unroll` lists every layer of every block."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from compoundnet.arch.blocks import Block, BlockShape
from compoundnet.arch.layers import Group, Layer, Trace
from compoundnet.arch.spec import Head, Network, Stage, Stem


class Segment(NamedTuple):
    """A run of `repeats` equal groups: the stem, one kind of block, or the head.

    Attributes:
        stage: Index into `network.stages`; -1 is the stem, `len(network.stages)` the head.
        group: The layers of one of the groups.
        repeats: The number of groups.
        first: Position of the first one in its stage.
    """

    stage: int
    group: Group
    repeats: int
    first: int


def segments(network: Network) -> tuple[Segment, ...]:
    """Return the network as runs of equal groups, in order. The first block of a stage is a run of its own."""
    stem = stem_group(network.stem, network.in_channels, network.resolution)
    found = [Segment(-1, stem, 1, 0)]
    channels, size = stem.layers[-1].out_channels, stem.layers[-1].out_size
    for index, stage in enumerate(network.stages):
        first, rest = block_shapes(stage, channels)
        group = block_group(stage.block, first, size)
        found.append(Segment(index, group, 1, 0))
        channels, size = stage.channels, group.layers[-1].out_size
        if stage.repeats > 1:
            found.append(Segment(index, block_group(stage.block, rest, size), stage.repeats - 1, 1))
    head = head_group(network.head, channels, network.num_classes, size)
    if head.layers:
        found.append(Segment(len(network.stages), head, 1, 0))
    return tuple(found)


def unroll(network: Network) -> tuple[Layer, ...]:
    """Return every layer in execution order, under its name in the built module (`stages.2.0.depthwise.conv`).

    Raises:
        CompoundNetError: The network is larger than any that can be built (`Network.check_size`).
    """
    network.check_size()
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


def block_shapes(stage: Stage, in_channels: int) -> tuple[BlockShape, BlockShape]:
    """Return the shape of a stage's first block, and that of every other one."""
    first = BlockShape(in_channels, stage.channels, stage.stride, stage.skip)
    return first, BlockShape(stage.channels, stage.channels, 1, stage.skip)


@lru_cache(maxsize=4096)
def block_group(block: Block, shape: BlockShape, size: int) -> Group:
    """Return the layers of one block for an input of `size` pixels a side."""
    trace = Trace(shape.in_channels, size)
    block.trace(trace, shape)
    return Group(trace.layers)


@lru_cache(maxsize=256)
def stem_group(stem: Stem, in_channels: int, size: int) -> Group:
    """Return the layers of the stem for an image of `size` pixels a side."""
    trace = Trace(in_channels, size)
    index = trace.conv_norm("stem", -1, stem.channels, stem.kernel, stem.stride)
    if stem.pool == "max":
        trace.maxpool("pool", index, 3, 2)
    return Group(trace.layers)


@lru_cache(maxsize=256)
def head_group(head: Head, in_channels: int, num_classes: int, size: int) -> Group:
    """Return the layers from the last block to the logits: convolution, global pool, convolution, classifier."""
    trace = Trace(in_channels, size)
    index = trace.conv_norm("head", -1, head.channels) if head.channels else -1
    match head.pool:
        case "avg":
            index = trace.mean("mean", index)
        case "max":
            index = trace.globalmax("max", index)
    if head.hidden:
        index = trace.conv_norm("hidden", index, head.hidden)
    if num_classes:
        trace.linear("classifier", index, num_classes)
    return Group(trace.layers)
