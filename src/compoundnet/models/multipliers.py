"""The baselines at the depth and width of a file's tensors: multipliers from names and shapes."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from itertools import pairwise

import msgspec

from compoundnet import arch
from compoundnet.arch import Network
from compoundnet.arch.scaling import round_channels, scaled_repeats
from compoundnet.base import CompoundNetError
from compoundnet.models import layouts
from compoundnet.models.layouts import Layout
from compoundnet.models.matches import Match, compare, holds_stem, trunk_pairs
from compoundnet.models.tensors import COUNTER, Shape

_MAX_DEPTH, _MAX_WIDTH, _MAX_REPEATS = 10, 10, 60


def scaled(shapes: Mapping[str, Shape], layout: Layout) -> Iterator[Match]:
    """The baselines at the depth and width of the tensors, those of the simplest multipliers first."""
    found = []
    for base in arch.networks().values():
        if base.scaling is None and holds_stem(shapes, layout, base):
            resized = next(_resized(shapes, layout, base), None)
            match = None if resized is None else compare(shapes, layout, resized)
            found += [match] if match is not None and match.fits else []
    yield from sorted(found, key=lambda match: (match.network.scaling is None, len(match.network.name)))


def _resized(shapes: Mapping[str, Shape], layout: Layout, base: Network) -> Iterator[Network]:
    """The base with the repeats and channels of the tensors: by multipliers where they exist, otherwise stage by
    stage."""
    norms = sum(name.endswith(_norm_leaf(layout)) for name in shapes)
    for depth, repeats in (*_repeats(base, norms), *_counted(shapes, layout, base)):
        stages = tuple(
            msgspec.structs.replace(stage, repeats=count) for stage, count in zip(base.stages, repeats, strict=True)
        )
        channels = _channels(shapes, layout, base.replace(stages=stages))
        if channels is None:
            continue
        width = _width(base, *channels)
        if depth is not None and width is not None:
            yield arch.scale(base, depth=depth, width=width)
            continue
        stem, widths, head, hidden = channels
        yield base.replace(
            name=f"{base.name}-custom",
            stem=msgspec.structs.replace(base.stem, channels=stem),
            stages=tuple(
                msgspec.structs.replace(stage, channels=count) for stage, count in zip(stages, widths, strict=True)
            ),
            head=msgspec.structs.replace(base.head, channels=head, hidden=hidden),
        )


def _norm_leaf(layout: Layout) -> str:
    """The end of the names of a norm's running mean."""
    return next(leaf.theirs for leaf in layout.leaves["norm"] if leaf.ours == ".running_mean")


def _repeats(base: Network, norms: int) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Each depth multiplier, with its repeats, at which the scaled base has that many norms."""
    fixed, first, others = _norms_of(base)
    wholes = {sum(base.stages[index].repeats for index in group) for group in base.groups}
    # Between two limits no group changes its repeats.
    limits = sorted({count / whole for whole in wholes for count in range(whole * _MAX_DEPTH + 1)})

    def norms_at(depth: float) -> int:
        repeats = scaled_repeats(base, depth)
        return fixed + sum(one + (count - 1) * more for one, more, count in zip(first, others, repeats, strict=True))

    # More depth takes no repeat away, so the norms increase with it.
    begin, end = (bisect(limits, norms, lo=1, key=norms_at) for bisect in (bisect_left, bisect_right))
    for low, high in pairwise(limits[begin - 1 : end]):
        yield _simplest(low, high), scaled_repeats(base, high)


def _counted(shapes: Mapping[str, Shape], layout: Layout, base: Network) -> Iterator[tuple[None, tuple[int, ...]]]:
    """The repeats that no multiplier gives, in a layout whose names count the blocks of each stage.

    Names do not tell which blocks of a group are of which of its joined stages.
    """
    if any(stage.joined for stage in base.stages):
        return
    numbers = [int(number) for name in shapes for number in re.findall(r"\d+", name) if len(number) < 4]
    most = min(_MAX_REPEATS, max(numbers, default=0) + 2)
    many = base.replace(stages=tuple(msgspec.structs.replace(stage, repeats=most) for stage in base.stages))
    try:
        pairs = list(trunk_pairs(layout, many))
    except CompoundNetError:  # the layout has one block in some stage, always
        return
    blocks: dict[tuple[int, int], bool] = {}
    for pair in pairs:
        stage = re.match(r"stages\.(\d+)\.(\d+)\.", pair.ours)
        if stage is not None and not pair.ours.endswith(COUNTER):
            at = int(stage[1]), int(stage[2])
            blocks[at] = blocks.get(at, True) and pair.theirs in shapes
    repeats = tuple(sum(blocks[number, at] for at in range(most)) for number in range(len(base.stages)))
    if all(repeats):
        yield None, repeats


def _norms_of(base: Network) -> tuple[int, list[int], list[int]]:
    """Norms outside the stages, and for each stage those of its first block and of each further one."""
    twice = base.replace(stages=tuple(msgspec.structs.replace(stage, repeats=2) for stage in base.stages))
    names = [layer.name for layer in arch.unroll(twice) if layer.kind == "norm"]
    count = [
        [sum(name.startswith(f"stages.{stage}.{at}.") for name in names) for at in (0, 1)]
        for stage in range(len(base.stages))
    ]
    return len(names) - sum(map(sum, count)), [one for one, _ in count], [more for _, more in count]


def _simplest(low: float, high: float) -> float:
    """The number with the fewest decimals above `low` and up to `high`; 1 if it is between them."""
    if low < 1 <= high:
        return 1.0
    for digits in range(1, 6):
        value: float = round(int(high * 10.0**digits + 1e-9) / 10.0**digits, digits)
        if value > low:
            return value
    return high


def _channels(shapes: Mapping[str, Shape], layout: Layout, network: Network) -> tuple[int, list[int], int, int] | None:
    """The channels of stem, stages and head, before and after the pool, that the tensors have; None if the names are
    not those of the network, or a part has no weight of a convolution."""
    theirs = {pair.ours: pair for pair in trunk_pairs(layout, network)}
    if any(pair.theirs not in shapes for ours, pair in theirs.items() if not ours.endswith(COUNTER)):
        return None

    def out_channels(prefix: str) -> int:
        last = [name for name in theirs if name.startswith(prefix) and name.endswith(".weight") and ".se." not in name]
        convs = [name for name in last if len(shapes[theirs[name].theirs]) == 4 and "shortcut" not in name]
        return layouts.permuted(shapes[theirs[convs[-1]].theirs], theirs[convs[-1]].axes)[0] if convs else 0

    stem, stages = out_channels("stem."), [out_channels(f"stages.{index}.0.") for index in range(len(network.stages))]
    ends = (("head.", network.head.channels), ("hidden.", network.head.hidden))
    head, hidden = (out_channels(part) if there else None for part, there in ends)
    if 0 in (stem, *stages, head, hidden):
        return None
    return stem, stages, head or 0, hidden or 0


def _width(base: Network, stem: int, stages: list[int], head: int, hidden: int) -> float | None:
    """The width multiplier with the fewest decimals that gives these channels."""
    rules = base.rules

    def gives(width: float) -> bool:
        return (
            all(round_channels(s.channels, width, rules) == count for s, count in zip(base.stages, stages, strict=True))
            and round_channels(base.stem.channels, rules.stem_width(width), rules) == stem
            and round_channels(base.head.channels, rules.head_width(width), rules) == head
        )

    if hidden != base.head.hidden:
        return None

    candidates = [1.0] + [step / 10**digits for digits in (1, 2, 3) for step in range(1, _MAX_WIDTH * 10**digits + 1)]
    return next((width for width in candidates if gives(width)), None)


def scaled_note(network: Network) -> str:
    scaling = network.scaling
    if scaling is None:
        base = network.name.removesuffix("-custom")
        widths = ", ".join(f"{stage.repeats} x {stage.channels}" for stage in network.stages)
        return (
            f"no network of the catalogue has these shapes; it is {base} with other stages ({widths}), which no"
            f" multipliers give; resolution {network.resolution} px, which weights do not show, is that of {base}"
        )
    return (
        f"no network of the catalogue has these shapes; it is {scaling.base} scaled by depth {scaling.depth:g} and"
        f" width {scaling.width:g}; resolution {network.resolution} px, which weights do not show, is that of"
        f" {scaling.base}"
    )
