"""Layouts: how another library names, orders and shapes the tensors of a network, as data.

For each of our modules (`stages.2.0.depthwise.conv`) a layout holds the library's name (`blocks.2.0.conv_dw`) and the
kind of module; for each kind, `Leaf`s hold the names of its tensors and the order of their axes. `convert` does the
rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from compoundnet.arch import BasicBlock, Block, Bottleneck, Network, Norm
from compoundnet.base import CompoundNetError

Kind = Literal["conv", "depthwise", "norm", "squeeze", "dense"]
"""conv: without bias; depthwise: the same, one group per channel; squeeze: a 1x1 conv with bias; dense: the
classifier."""


class Module(NamedTuple):
    """One module, with our name and the library's name."""

    ours: str
    theirs: str
    kind: Kind


class Leaf(NamedTuple):
    """One tensor of a module: the suffix of the module's name in our and in their state, and the order of axes.

    `theirs` includes the separator (`.weight`, `/kernel`). `axes`: ours is theirs.permute(axes); None leaves them.
    """

    ours: str
    theirs: str
    axes: tuple[int, ...] | None = None


class Pair(NamedTuple):
    """One tensor, with our name and the library's name; ours is theirs.permute(axes)."""

    ours: str
    theirs: str
    axes: tuple[int, ...] | None = None


Leaves = Mapping[Kind, tuple[Leaf, ...]]

_WEIGHT, _BIAS = Leaf(".weight", ".weight"), Leaf(".bias", ".bias")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")

TORCH_LEAVES: Leaves = MappingProxyType[Kind, tuple[Leaf, ...]](
    {
        "conv": (_WEIGHT,),
        "depthwise": (_WEIGHT,),
        "norm": (_WEIGHT, _BIAS, *(Leaf(f".{name}", f".{name}") for name in _BUFFERS)),
        "squeeze": (_WEIGHT, _BIAS),
        "dense": (_WEIGHT, _BIAS),
    }
)


class Layout(msgspec.Struct, frozen=True):
    """The weight layout of one library.

    Attributes:
        name: The name, as users type it.
        library: The library, for messages.
        adapt: Returns the network with the padding and norm of that library.
        modules: Returns every module with tensors of an adapted network; raises `unsupported` if the library lacks it.
        leaves: The tensors of each kind of module.
        ignored: Regular expression (full match) for tensors of the library that are not part of the network.
        version: Version of the library's module class, for torch modules that reject a state without one.
        hidden_head: Whether the library has networks with a convolution after the pool.
        bodies: What stands before the names of all but the classifier, where the library has that part as a model of
            its own, whose names lack it.
    """

    name: str
    library: str
    adapt: Callable[[Network], Network]
    modules: Callable[[Network], Iterable[Module]]
    leaves: Leaves = TORCH_LEAVES
    ignored: str = ""
    version: int | None = None
    hidden_head: bool = False
    bodies: tuple[str, ...] = ()

    def pairs(self, network: Network) -> tuple[Pair, ...]:
        """Return every tensor of an adapted network under both names."""
        return tuple(self.each_pair(network))

    def each_pair(self, network: Network) -> Iterator[Pair]:
        """`pairs` one by one, for who may need only the first; `unsupported` is raised at the block that is."""
        if any(stage.skip == "pool" for stage in network.stages):
            raise unsupported(self.library, network, "pooled skip")
        if network.head.hidden and not self.hidden_head:
            raise unsupported(self.library, network, "such network with a convolution after the pool")
        for module in self.modules(network):
            for leaf in self.leaves[module.kind]:
                yield Pair(module.ours + leaf.ours, module.theirs + leaf.theirs, leaf.axes)


def unsupported(library: str, network: Network, what: str) -> CompoundNetError:
    """The error for a network that a library lacks."""
    return CompoundNetError(f"{network.name} cannot be laid out as {library} does: {library} has no {what}")


def conventions(padding: Literal["same", "symmetric"], norm: Norm) -> Callable[[Network], Network]:
    """An `adapt` for a library with one padding and one norm."""
    return lambda network: network.replace(padding=padding, norm=norm)


class Position(msgspec.Struct, frozen=True):
    """A block and its position.

    Attributes:
        ours: Its name in our state.
        block: The block.
        stage: Index of its stage.
        repeat: Its index in the stage.
        group: Index of its group of joined stages.
        place: Its index in the group.
        index: Its index in the network.
        in_channels: Channels of its input.
        out_channels: Channels of its output.
        stride: Its stride.
    """

    ours: str
    block: Block
    stage: int
    repeat: int
    group: int
    place: int
    index: int
    in_channels: int
    out_channels: int
    stride: int

    @property
    def has_shortcut(self) -> bool:
        """Whether this is a ResNet block whose shortcut is a convolution."""
        reshapes = self.stride != 1 or self.in_channels != self.out_channels
        return isinstance(self.block, BasicBlock | Bottleneck) and reshapes


def positions(network: Network) -> Iterator[Position]:
    """The blocks in execution order."""
    channels, index = network.stem.channels, 0
    for group, members in enumerate(network.groups):
        place = 0
        for number in members:
            stage = network.stages[number]
            for repeat in range(stage.repeats):
                yield Position(
                    f"stages.{number}.{repeat}", stage.block, number, repeat, group, place, index, channels,
                    stage.channels, stage.stride if repeat == 0 else 1,
                )  # fmt: skip
                channels, index, place = stage.channels, index + 1, place + 1


def conv_norm(ours: str, conv: str, norm: str, kind: Literal["conv", "depthwise"] = "conv") -> tuple[Module, Module]:
    """Our ConvNorm `ours` under their two names."""
    return Module(f"{ours}.conv", conv, kind), Module(f"{ours}.norm", norm, "norm")


def squeeze_excite(ours: str, reduce: str, expand: str) -> tuple[Module, Module]:
    """Our SqueezeExcite `ours` under their two names."""
    return Module(f"{ours}.reduce", reduce, "squeeze"), Module(f"{ours}.expand", expand, "squeeze")
