"""Which layer and which channels of a source network each layer of a scaled one takes its weights from.

Works on the traced layers of both networks, so it holds for every block: layers whose outputs are added, multiplied or
passed on channel by channel (residual paths, squeeze-excitation, depthwise convolutions) share one channel space, and a
space has one map (the groups of Fang et al. 2023, DepGraph, arXiv:2301.12900).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from compoundnet.arch import Layer, Network, unroll
from compoundnet.base import CompoundNetError

IMAGE = -1  # the space of the image's channels
_BLOCK = re.compile(r"stages\.(\d+)\.(\d+)\.(.*)")


class LayerPair(msgspec.Struct, frozen=True):
    """A layer of the scaled network and the layer that it inherits from.

    Attributes:
        layer: The layer.
        source: The layer of the source network; None if there is none, and the weights are new.
        added: Whether the layer belongs to a block that the source has not: a copy of the stage's last one.
        inputs: The spaces of its inputs.
        space: The space of its output.
    """

    layer: Layer
    source: Layer | None
    added: bool
    inputs: tuple[int, ...]
    space: int

    @property
    def mixes(self) -> bool:
        """Whether every output channel depends on several input channels: a convolution or fully connected layer."""
        return self.layer.kind in ("conv", "linear") and not _is_depthwise(self.layer, self.source)


class ChannelSpace(msgspec.Struct, frozen=True):
    """Channels that several layers share.

    Attributes:
        size: Their number in the scaled network.
        source_size: Their number in the source.
        groups: The groups of a grouped convolution that reads or writes them; 1 otherwise.
        writers: The pairs that write them: convolutions, norms.
        readers: The convolutions and fully connected layers that read them.
    """

    size: int
    source_size: int
    groups: int
    writers: tuple[LayerPair, ...]
    readers: tuple[LayerPair, ...]


def paired(source: Network, target: Network) -> list[LayerPair]:
    """Pair the layers of a scaled network with those of its source.

    Raises:
        CompoundNetError: The networks differ in more than depth, width, resolution and the rules for them.
    """
    _check(source, target)
    theirs = {layer.name: layer for layer in unroll(source)}
    order = list(theirs)
    layers = unroll(target)
    parents = list(range(len(layers)))

    def root(index: int) -> int:
        while index != IMAGE and parents[index] != index:
            index = parents[index]
        return index

    spaces: list[int] = []
    sources: list[tuple[Layer | None, bool]] = []
    for index, layer in enumerate(layers):
        name, added = _source_name(layer.name, source)
        found = theirs.get(name) if name is not None else None
        sources.append((found, added))
        passes = layer.kind not in ("conv", "linear") or _is_depthwise(layer, found)
        if passes:
            first = layer.inputs[0]
            if first == IMAGE:
                spaces.append(IMAGE)
                continue
            parents[index] = root(first)
            if len(layer.inputs) > 1 and (_same_inputs(layer, found, layers, order) if found else added):
                one, other = root(index), root(layer.inputs[1])
                parents[max(one, other)] = min(one, other)
        spaces.append(index)

    def space_of(index: int) -> int:
        return IMAGE if index == IMAGE or spaces[index] == IMAGE else root(index)

    return [
        LayerPair(layer, found, added, tuple(space_of(one) for one in layer.inputs), space_of(index))
        for index, (layer, (found, added)) in enumerate(zip(layers, sources, strict=True))
    ]


def spaces_of(pairs: Sequence[LayerPair]) -> dict[int, ChannelSpace]:
    """Return the spaces that have a source, by their numbers."""
    found: dict[int, ChannelSpace] = {}
    for number in {pair.space for pair in pairs}:
        writers = tuple(pair for pair in pairs if pair.space == number and pair.source is not None)
        readers = tuple(pair for pair in pairs if pair.mixes and pair.inputs[0] == number and pair.source is not None)
        if not writers:
            continue
        first = writers[0]
        assert first.source is not None
        grouped = [pair.layer.groups for pair in (*writers, *readers) if pair.mixes and pair.layer.groups > 1]
        found[number] = ChannelSpace(
            first.layer.out_channels, first.source.out_channels, max(grouped, default=1), writers, readers
        )
    return found


def channel_map(space: ChannelSpace, scores: Sequence[float]) -> list[int]:
    """Return the source channel of each channel of a space.

    A smaller space keeps the channels with the highest scores, in their order; a larger one keeps all, and repeats
    those with the highest scores (Net2WiderNet, Chen et al. 2016, arXiv:1511.05641). In groups, each group does so.
    """
    size, source_size = space.size // space.groups, space.source_size // space.groups
    chosen: list[int] = []
    for group in range(space.groups):
        start = group * source_size
        ranked = sorted(range(start, start + source_size), key=lambda channel: -scores[channel])
        if size <= source_size:
            chosen += sorted(ranked[:size])
        else:
            chosen += range(start, start + source_size)
            chosen += [ranked[extra % source_size] for extra in range(size - source_size)]
    return chosen


def changed_skips(source: Network, pairs: Sequence[LayerPair]) -> int:
    """Return how many blocks add another shortcut than in the source: rounded channels decide whether shapes agree."""
    names = {pair.layer.name: pair for pair in pairs}
    theirs = {layer.name: layer for layer in unroll(source)}
    changed = {pair.layer.name for pair in pairs if pair.layer.kind == "add" and pair.source is None and not pair.added}
    for name, layer in theirs.items():
        block = name.rpartition(".")[0]
        if layer.kind == "add" and name not in names and any(other.startswith(f"{block}.") for other in names):
            changed.add(name)
    projected = {name for name in {*theirs} ^ {*names} if ".shortcut." in name and name.endswith("conv")}
    changed |= {name for name in projected if _BLOCK.fullmatch(name) and _in_both(name, theirs, names)}
    return len(changed)


def _in_both(name: str, one: Iterable[str], other: Iterable[str]) -> bool:
    block = ".".join(name.split(".")[:3]) + "."
    return all(any(entry.startswith(block) for entry in names) for names in (one, other))


def _check(source: Network, target: Network) -> None:
    for field in ("activation", "norm", "padding", "in_channels", "num_classes"):
        ours, theirs = getattr(target, field), getattr(source, field)
        if ours != theirs:
            raise CompoundNetError(
                f"{target.name} cannot inherit from {source.name}: its {field} is {_plain(ours)}, there"
                f" {_plain(theirs)}"
            )
    if len(source.stages) != len(target.stages):
        raise CompoundNetError(
            f"{target.name} cannot inherit from {source.name}: it has {len(target.stages)} stages, there"
            f" {len(source.stages)}"
        )
    parts = [("stem", source.stem, target.stem), ("head", source.head, target.head)]
    parts += [
        (f"stage {number}", theirs, ours)
        for number, (theirs, ours) in enumerate(zip(source.stages, target.stages, strict=True), 1)
    ]
    for name, theirs, ours in parts:
        for field in theirs.__struct_fields__:
            if field in ("channels", "repeats"):
                continue
            if getattr(theirs, field) != getattr(ours, field):
                raise CompoundNetError(
                    f"{target.name} cannot inherit from {source.name}: {name} has {field}"
                    f" {_plain(getattr(ours, field))}, there {_plain(getattr(theirs, field))}"
                )
    if bool(source.head.channels) != bool(target.head.channels):
        raise CompoundNetError(f"{target.name} cannot inherit from {source.name}: only one of them has a head")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else str(getattr(value, "title", value))


def _source_name(name: str, source: Network) -> tuple[str | None, bool]:
    """Return the name of the layer that a layer inherits from, and whether its block is added."""
    found = _BLOCK.fullmatch(name)
    if found is None:
        return name, False
    stage, position, rest = int(found[1]), int(found[2]), found[3]
    repeats = source.stages[stage].repeats
    if position < repeats:
        return name, False
    if repeats == 1:  # the only block changes the resolution or the channels: a new one has other shapes
        before = source.stages[stage - 1].channels if stage else source.stem.channels
        if source.stages[stage].stride != 1 or before != source.stages[stage].channels:
            return None, True
    return f"stages.{stage}.{repeats - 1}.{rest}", True


def _is_depthwise(layer: Layer, source: Layer | None) -> bool:
    """Return whether a layer convolves each channel alone in both networks (with one channel it has no groups)."""
    known = (layer,) if source is None else (layer, source)
    alone = all(one.groups == one.in_channels == one.out_channels for one in known)
    return alone and max(one.groups for one in known) > 1


def _same_inputs(layer: Layer, source: Layer, layers: Sequence[Layer], order: Sequence[str]) -> bool:
    """Return whether the second input comes from the same block in both networks, or from the one before in both.

    A residual block that changes its shape projects its shortcut; at another width it may not have to.
    """

    def own_block(name: str, other: str) -> bool:
        one, two = _BLOCK.fullmatch(name), _BLOCK.fullmatch(other)
        return one is not None and two is not None and one.group(1, 2) == two.group(1, 2)

    return own_block(layer.name, layers[layer.inputs[1]].name) == own_block(source.name, order[source.inputs[1]])
