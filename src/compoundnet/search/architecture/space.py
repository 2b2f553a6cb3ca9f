"""Search spaces as data: a base network, and the choices for each of its blocks (MnasNet, section 4.1)."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from compoundnet.arch import Block, Network, Stage, scale
from compoundnet.arch.blocks import check_kernel, check_se
from compoundnet.arch.scaling import round_channels
from compoundnet.arch.segments import block_group, block_shapes, head_group, segments, stem_group
from compoundnet.base import CompoundNetError, check, decode_toml, did_you_mean, read_toml

Value = str | int | float
Choices = Mapping[str, Value]
_SKIPS: dict[str, bool | Literal["pool"]] = {"none": False, "identity": True, "pool": "pool"}


class BlockChoices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The choices for one block, i.e. a sequence of equal layers: a stage of the network.

    Attributes:
        operators: Names of `operators` of the space.
        kernels: Sides of the kernels in pixels.
        se: Squeeze-excitation ratios; 0 is none.
        skips: As `Stage.skip`, by name.
        filters: Factors on the channels of the base, rounded by the rules of the base.
        layers: Numbers added to the repeats of the base.
    """

    operators: tuple[str, ...]
    kernels: tuple[int, ...]
    se: tuple[float, ...]
    skips: tuple[Literal["none", "identity", "pool"], ...]
    filters: tuple[float, ...]
    layers: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            options = getattr(self, name)
            check(len(options) > 0, f"{name} must hold at least one choice")
            check(len(set(options)) == len(options), f"{name} holds a choice twice: {list(options)}")
        for kernel in self.kernels:
            check_kernel(kernel)
        for ratio in self.se:
            check_se(ratio)
        for factor in self.filters:
            check(0 < factor <= 64, f"filters are factors above 0 and at most 64, got {factor:g}")


class Space(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A set of networks, which differ from a base network in the choices for their blocks.

    Attributes:
        name: The name of the space.
        source: Where the choices come from.
        base: The network with the stem, head, strides, and the channels and repeats that `filters` and `layers` are
            relative to. The type of its blocks has no effect.
        operators: Layer types by name, with one kernel each. Kernels and squeeze-excitation ratios are choices.
        blocks: The choices for each stage of the base.
    """

    name: str
    source: str
    base: Network
    operators: dict[str, Block]
    blocks: tuple[BlockChoices, ...]

    def __post_init__(self) -> None:
        stages = self.base.stages
        check(
            len(self.blocks) == len(stages),
            f"blocks has {len(self.blocks)} entries; the base has {len(stages)} stages, each of which needs one",
        )
        for index, (block, stage) in enumerate(zip(self.blocks, stages, strict=True)):
            where = f"blocks[{index}]"
            for name in block.operators:
                check(
                    name in self.operators,
                    f"{where}.operators: there is no operator named {name!r}{did_you_mean(name, self.operators)}",
                )
                operator, kind = self.operators[name], type(self.operators[name]).__name__
                check(
                    hasattr(operator, "kernel"),
                    f"{where}.operators: {name} ({kind}) has no field kernel, which a space chooses; take another type"
                    " of block",
                )
                check(
                    hasattr(operator, "se") or not any(block.se),
                    f"{where}.se must be [0.0]: {name} ({kind}) has no squeeze-excitation",
                )
            fewest = stage.repeats + min(block.layers)
            check(
                fewest >= 1,
                f"{where}.layers leaves {fewest} layers of the base's {stage.repeats}; at least 1 is needed",
            )

    def choices(self) -> dict[str, tuple[Value, ...]]:
        """Return the options of every choice, by names such as `block1.operator`. Blocks are counted from 1."""
        return {name: options for name, options in self._options() if len(options) > 1}

    def size(self) -> int:
        """Return the number of combinations. Some give the same network, since channels are rounded and a skip may be
        impossible."""
        return math.prod(len(options) for options in self.choices().values())

    def network(self, choices: Choices, *, num_classes: int | None = None, resolution: int | None = None) -> Network:
        """Return the network for a set of choices. Its name contains its digest, so equal networks have equal names.

        Args:
            choices: An option for each of `choices()`.
            num_classes: By default the number of the base.
            resolution: In pixels; by default that of the base.

        Raises:
            CompoundNetError: A choice is missing, unknown, or not among the options.
        """
        chosen = self._complete(choices)
        channels, stages = self.base.stem.channels, []
        for index in range(len(self.blocks)):
            stages.append(self._stage(index, chosen, channels))
            channels = stages[-1].channels
        network = self.base.replace(
            stages=tuple(stages),
            num_classes=self.base.num_classes if num_classes is None else num_classes,
            resolution=resolution or self.base.resolution,
        )
        digest = hashlib.blake2b(msgspec.json.encode(network), digest_size=4).hexdigest()
        return network.replace(name=f"{self.name}-{digest}")

    def fitted(self, *, num_classes: int | None = None, resolution: int | None = None, width: float = 1.0) -> Space:
        """Return the space for other classes, at another resolution (pixels), with all channels times `width`."""
        base = scale(self.base, width=width, resolution=resolution or self.base.resolution, name=self.base.name)
        base = base.replace(scaling=None, num_classes=self.base.num_classes if num_classes is None else num_classes)
        return msgspec.structs.replace(self, base=base)

    def smallest(self) -> Network:
        """Return the network with the fewest multiply-adds: the cheapest way to each channel count, block by block."""
        stem = stem_group(self.base.stem, self.base.in_channels, self.base.resolution)
        size = stem.layers[-1].out_size
        # Channels so far -> the cheapest way there.
        ways: dict[int, tuple[int, dict[str, Value]]] = {self.base.stem.channels: (stem.macs, {})}
        for index in range(len(self.blocks)):
            reached: dict[int, tuple[int, dict[str, Value]]] = {}
            for channels, (macs, before) in ways.items():
                for here in self._block_options(index):
                    stage = self._stage(index, here, channels)
                    cost = macs + _macs(stage, channels, size)
                    if stage.channels not in reached or cost < reached[stage.channels][0]:
                        reached[stage.channels] = cost, before | here
            ways, size = reached, -(-size // self.base.stages[index].stride)
        ends = {
            channels: macs + head_group(self.base.head, channels, self.base.num_classes, size).macs
            for channels, (macs, _) in ways.items()
        }
        chosen = ways[min(ends, key=lambda channels: ends[channels])][1]
        return self.network({name: value for name, value in chosen.items() if name in self.choices()})

    def _options(self) -> Iterator[tuple[str, tuple[Value, ...]]]:
        for number, block in enumerate(self.blocks, start=1):
            for field in block.__struct_fields__:
                yield f"block{number}.{_SINGULAR.get(field, field)}", getattr(block, field)

    def _complete(self, choices: Choices) -> dict[str, Value]:
        known = self.choices()
        for name in choices:
            if name not in known:
                raise CompoundNetError(f"{self.name} has no choice named {name!r}{did_you_mean(name, known)}")
        chosen: dict[str, Value] = {}
        for name, options in self._options():
            if name in known and name not in choices:
                raise CompoundNetError(f"{self.name}: {name} has to be chosen, one of {list(options)}")
            value = choices.get(name, options[0])
            if value not in options:
                raise CompoundNetError(f"{self.name}: {name} must be one of {list(options)}, got {value!r}")
            chosen[name] = value
        return chosen

    def _block_options(self, index: int) -> Iterator[dict[str, Value]]:
        """Yield every way to choose one block, except for its skip, which costs no multiply-adds."""
        prefix = f"block{index + 1}."
        names, options = zip(*((name, all_) for name, all_ in self._options() if name.startswith(prefix)), strict=True)
        for values in itertools.product(
            *(all_[:1] if name.endswith(".skip") else all_ for name, all_ in zip(names, options, strict=True))
        ):
            yield dict(zip(names, values, strict=True))

    def _stage(self, index: int, chosen: Mapping[str, Value], in_channels: int) -> Stage:
        base = self.base.stages[index]
        at = {
            field: chosen[f"block{index + 1}.{field}"]
            for field in ("operator", "kernel", "se", "skip", "filters", "layers")
        }
        operator = self.operators[str(at["operator"])]
        inner = {"kernel": at["kernel"]} | ({"se": at["se"]} if hasattr(operator, "se") else {})
        stage = Stage(
            block=msgspec.structs.replace(operator, **inner),
            channels=round_channels(base.channels, float(at["filters"]), self.base.rules),
            repeats=base.repeats + int(at["layers"]),
            stride=base.stride,
            skip=_SKIPS[str(at["skip"])],
        )
        # A skip without effect becomes no skip, so that networks that compute the same are equal.
        return stage if _adds(stage, in_channels) else msgspec.structs.replace(stage, skip=False)


_SINGULAR = {"operators": "operator", "kernels": "kernel", "skips": "skip"}


def _adds(stage: Stage, in_channels: int) -> bool:
    """Whether any block of a stage has a skip connection."""
    first, rest = (stage.block.skip_kind(shape) for shape in block_shapes(stage, in_channels))
    return first != "none" or (stage.repeats > 1 and rest != "none")


def _macs(stage: Stage, in_channels: int, size: int) -> int:
    first, rest = block_shapes(stage, in_channels)
    macs = block_group(stage.block, first, size).macs
    return macs + (stage.repeats - 1) * block_group(stage.block, rest, -(-size // stage.stride)).macs


def macs(network: Network) -> int:
    """Return the multiply-adds of one image, faster than `arch.cost`: samplers call this thousands of times."""
    return sum(run.repeats * run.group.macs for run in segments(network))


@cache
def spaces() -> dict[str, Space]:
    """Return the included spaces, by name."""
    folder = resources.files("compoundnet.search.architecture").joinpath("spaces")
    read = [decode_toml(file.read_bytes(), Space, file.name) for file in folder.iterdir()]
    return {space.name: space for space in sorted(read, key=lambda space: space.name)}


def find_space(name: str) -> Space:
    """Return a space by name, or from a TOML file."""
    if name.endswith(".toml") or "/" in name:
        return read_toml(name, Space)
    if name not in spaces():
        raise CompoundNetError(f"there is no search space named {name!r}{did_you_mean(name, spaces())}")
    return spaces()[name]
