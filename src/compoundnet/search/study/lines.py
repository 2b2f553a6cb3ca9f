"""The networks of a scaling study as lines of multipliers: those of the paper, other ones, or lines matched to a
cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from compoundnet.arch import Network, ScalingRule, cost, scale
from compoundnet.arch.scaling import MAX_RESOLUTION_FACTOR
from compoundnet.base import CompoundNetError, check, decode_toml

FigureNumber = Literal[3, 4, 8]
# (depth, width, resolution)
Multipliers = tuple[float, float, float]
# Below this step multipliers differ by less than a channel or a pixel of any network.
_FINE = 1e-4


class StudyLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The networks of one curve, as multipliers of the baseline, from the cheapest up.

    `added`: whether it is the line of a scaling rule, on which no observation depends.
    """

    name: str
    points: tuple[Multipliers, ...]
    added: bool = False

    def __post_init__(self) -> None:
        check(len(self.points) >= 1, f"the line {self.name!r} holds no point")


class StudyLines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lines that one figure compares. If no line contains the baseline (1, 1, 1), every line starts from it."""

    title: str
    source: str
    lines: tuple[StudyLine, ...]

    def __post_init__(self) -> None:
        check(len(self.lines) >= 1, "lines must hold at least one line")
        names = [line.name for line in self.lines]
        check(len(set(names)) == len(names), f"every line needs a different name, got {', '.join(names)}")


@cache
def paper_lines(figure: FigureNumber) -> StudyLines:
    """Return the lines of a figure of the paper, from figures.toml."""
    file = resources.files("compoundnet.search.study").joinpath("figures.toml")
    return decode_toml(file.read_bytes(), dict[str, StudyLines], file.name)[f"figure{figure}"]


def at_budgets(network: Network, lines: StudyLines, budgets: Sequence[float]) -> StudyLines:
    """Scale the last network of each line along its direction until it costs `budgets` times as much as the baseline.

    The direction of (d, w, r) is (d^t, w^t, r^t), as in Eq. 3. Depth grows by whole layers and width by whole steps of
    channels, so costs match the budgets only approximately.

    Raises:
        CompoundNetError: A budget is not above 1.
    """
    for budget in budgets:
        if not (math.isfinite(budget) and 1 < budget <= 1e4):
            raise CompoundNetError(f"a budget is a multiple of the baseline's cost, above 1; got {budget:g}")
    wanted = [cost(network).macs * budget for budget in sorted(set(budgets))]
    matched = tuple(
        msgspec.structs.replace(
            line, points=tuple(_nearest(network, _direction(line.points[-1]), macs) for macs in wanted)
        )
        for line in lines.lines
    )
    described = ", ".join(f"{budget:g}" for budget in sorted(set(budgets)))
    return StudyLines(
        lines.title, f"{lines.source}; multipliers matched to {described} times the baseline's cost", matched
    )


def with_rule(network: Network, lines: StudyLines, rule: ScalingRule) -> StudyLines:
    """Add the line of a scaling rule: for each point of the last line, the balanced one, the network nearest in cost.

    The observations do not depend on it, whatever it scales.

    Raises:
        CompoundNetError: The rule only shrinks, or there is a line of its name.
    """
    if rule.only_smaller:
        raise CompoundNetError(f"the rule {rule.name} only makes networks smaller, and a study compares larger ones")
    *rivals, balanced = lines.lines
    if rule.name in {line.name for line in lines.lines}:
        raise CompoundNetError(f"the study has a line named {rule.name!r} without --rule")

    def at(phi: float) -> Multipliers:
        return _rounded(rule.multipliers(phi))

    points = tuple(_nearest(network, at, cost(scaled(network, point)).macs) for point in balanced.points)
    source = f"{lines.source}; the line {rule.name}: {rule.source}, matched to the cost of the line {balanced.name}"
    return StudyLines(lines.title, source, (*rivals, StudyLine(rule.name, points, added=True), balanced))


def _direction(point: Multipliers) -> Callable[[float], Multipliers]:
    """Return the multipliers along the direction of a point, which lies at step 1."""
    return lambda step: _rounded((point[0] ** step, point[1] ** step, point[2] ** step))


def _rounded(multipliers: Multipliers) -> Multipliers:
    depth, width, resolution = (round(value, 4) for value in multipliers)
    return depth, width, resolution


def _nearest(network: Network, at: Callable[[float], Multipliers], macs: float) -> Multipliers:
    """Return the multipliers `at` a step above 0 whose cost is nearest to `macs`, by bisection."""

    def macs_at(step: float) -> int:
        return cost(scaled(network, at(step))).macs

    low, high = 0.0, 1.0
    while macs_at(high) < macs:
        if high > 64:
            raise CompoundNetError(f"scaling by {at(1)} does not reach {macs:,.0f} multiply-adds")
        low, high = high, high * 2
    while high - low > _FINE:
        middle = (low + high) / 2
        low, high = (middle, high) if macs_at(middle) <= macs else (low, middle)
    return at(min((low, high), key=lambda step: abs(math.log(macs_at(step) / macs))))


def scaled(network: Network, multipliers: Multipliers) -> Network:
    """Return the network scaled by the multipliers; the baseline itself at (1, 1, 1)."""
    depth, width, resolution = multipliers
    if multipliers == (1, 1, 1):
        return network
    pixels = resolution if resolution <= MAX_RESOLUTION_FACTOR else round(resolution * network.resolution)
    return scale(network, depth=depth, width=width, resolution=pixels)


def label(multipliers: Multipliers) -> str:
    """Return the multipliers other than 1 in words, such as `d=1.4, w=1.2, r=1.3`."""
    parts = [f"{letter}={value:.4g}" for letter, value in zip("dwr", multipliers, strict=True) if value != 1]
    return ", ".join(parts) or "baseline"
