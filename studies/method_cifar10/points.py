"""The networks of the study: lines of scaling at equal cost, and the grid of STEP 1.

In a small network a whole layer or a step of channels is a large part of the cost, so alpha * beta^2 * gamma^2 = 2 does
not give equal costs. Here depth moves in whole layers and resolution in whole pixels, and the width takes up the rest:
it is solved so that the multiply-adds are those of the budget. The depth line, the coarsest, defines the budgets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from compoundnet.arch import Coefficients, Network, cost, fast_scaling, scale
from compoundnet.base import CompoundNetError
from compoundnet.search.study.lines import Multipliers, StudyLine, StudyLines, label, scaled

# The largest difference of costs of one budget, as a fraction.
TOLERANCE = 0.05
PAPER = Coefficients()
FAST = fast_scaling().coefficients
# Depths of STEP 1, each another number of layers of the baseline, and factors of the resolution.
DEPTHS = (1.0, 1.2, 1.3)
RESOLUTIONS = (1.0, 1.1)


class StepOne(NamedTuple):
    """The points of STEP 1. `merged`: a sentence for each point that makes the network of an earlier one."""

    points: tuple[Multipliers, ...]
    merged: tuple[str, ...]


@cache
def budgets(network: Network, wanted: tuple[float, ...]) -> tuple[tuple[Multipliers, int], ...]:
    """Return, for each multiple of the baseline's cost, the multipliers of the nearest deeper network and its cost."""
    found = []
    for times in wanted:
        target = times * cost(network).macs
        steps = [(1 + index / 100, cost(scale(network, depth=1 + index / 100)).macs) for index in range(1, 500)]
        depth, macs = min(steps, key=lambda step: (round(_error(step[1] / target), 6), step[0]))
        found.append(((depth, 1.0, 1.0), macs))
    return tuple(found)


def matched(network: Network, depth: float, resolution: float, macs: int) -> Multipliers | None:
    """Return the multipliers of this depth and resolution whose width brings the cost nearest to `macs`.

    None if that width is below 1, or the cost is outside the tolerance.
    """

    def relative(width: float) -> float:
        pixels = round(resolution * network.resolution)
        return cost(scale(network, depth=depth, width=width, resolution=pixels)).macs / macs

    low, high = 1.0, 2.0
    while relative(high) < 1:
        low, high = high, 2 * high
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if relative(middle) < 1 else (low, middle)
    # Rounded channels: a width nearby may be nearer.
    widths = {1.0, *(round(low * (0.97 + 0.004 * index), 3) for index in range(16))}
    width = min((width for width in widths if width >= 1), key=lambda width: (round(_error(relative(width)), 6), width))
    return (depth, width, resolution) if _error(relative(width)) <= math.log(1 + TOLERANCE) else None


def _error(ratio: float) -> float:
    return abs(math.log(ratio))


def at_resolution(network: Network, macs: int) -> Multipliers:
    """Return the multipliers of the baseline at the resolution whose cost is nearest to `macs`."""
    pixels = min(
        range(network.resolution, 8 * network.resolution),
        key=lambda pixels: _error(cost(network.replace(resolution=pixels)).macs / macs),
    )
    return (1.0, 1.0, pixels / network.resolution)


def compound_at(network: Network, coefficients: Coefficients, macs: int) -> Multipliers:
    """Return compound scaling by these coefficients to a cost: phi gives depth and resolution, and width the rest.

    Of all layers and pixels that phi gives, those whose cost is nearest to `macs` and whose width is nearest to the
    coefficients' own. They are judged at the smallest phi that gives them, not at the best: the finished trainings are
    those of the networks that this gives.
    """
    best: tuple[float, Multipliers] | None = None
    tried = set()
    for index in range(1, 400):
        depth, width, factor = coefficients.multipliers(index / 100)
        pixels = round(factor * network.resolution)
        repeats = tuple(stage.repeats for stage in scale(network, depth=depth).stages)
        if (repeats, pixels) in tried:
            continue
        tried.add((repeats, pixels))
        found = matched(network, depth, pixels / network.resolution, macs)
        if found is not None:
            reached = scale(network, depth=depth, width=found[1], resolution=pixels)
            # Equal costs weigh more: the comparison rests on them.
            distance = _error(found[1] / width) + 1.5 * _error(cost(reached).macs / macs)
            if best is None or distance < best[0]:
                best = distance, found
    if best is None:
        raise CompoundNetError(f"compound scaling does not reach {macs:,} multiply-adds within {TOLERANCE:.0%}")
    return best[1]


@cache
def step_one(network: Network, wanted: tuple[float, ...]) -> StepOne:
    """Return the points of STEP 1, at the lowest budget: the grid, the paper's direction, each dimension alone."""
    (depth_alone, macs), *_ = budgets(network, wanted)
    size = network.resolution
    grid = [matched(network, depth, round(size * factor) / size, macs) for depth in DEPTHS for factor in RESOLUTIONS]
    listed = [
        *(("the grid", point) for point in grid if point is not None),
        ("depth alone", depth_alone),
        ("resolution alone", at_resolution(network, macs)),
        ("the paper's coefficients", compound_at(network, PAPER, macs)),
    ]
    found: dict[str, Multipliers] = {}
    merged = []
    for origin, point in listed:
        depth, width, factor = point
        made = scale(network, depth=depth, width=width, resolution=round(factor * size))
        kept = found.setdefault(made.replace(name="network", scaling=None).dumps(), point)
        if kept is not point:
            merged.append(
                f"{label(point)} ({origin}) makes the same network as {label(kept)}: the two are one row, labelled by"
                " the latter."
            )
    return StepOne(tuple(found.values()), tuple(merged))


@cache
def lines(network: Network, wanted: tuple[float, ...], coefficients: Coefficients) -> StudyLines:
    """Return the lines of Figure 8: each dimension alone, fast scaling, the paper's coefficients, those found here."""
    at = budgets(network, wanted)
    alone = one_dimension(network, wanted)
    return StudyLines(
        "Figure 8. Ways of scaling at equal cost",
        alone.source,
        (
            *alone.lines,
            StudyLine("fast", tuple(compound_at(network, FAST, macs) for _, macs in at)),
            StudyLine("compound, the paper's", tuple(compound_at(network, PAPER, macs) for _, macs in at)),
            StudyLine("compound, found", tuple(compound_at(network, coefficients, macs) for _, macs in at)),
        ),
    )


@cache
def one_dimension(network: Network, wanted: tuple[float, ...]) -> StudyLines:
    """Return the lines of Figure 3: width, depth and resolution, each alone."""
    at = budgets(network, wanted)
    described = ", ".join(f"{macs / cost(network).macs:.2f}" for _, macs in at)
    return StudyLines(
        "Figure 3. Scaling one dimension at a time",
        f"each line at {described} times the baseline's multiply-adds, within {TOLERANCE:.0%}",
        (
            StudyLine("width", _widths(network, 1.0, 1.0, at)),
            StudyLine("depth", tuple(point for point, _ in at)),
            StudyLine("resolution", tuple(at_resolution(network, macs) for _, macs in at)),
        ),
    )


@cache
def widths_on_four_baselines(network: Network, wanted: tuple[float, ...]) -> StudyLines:
    """Return the lines of Figure 4: width at the depth and the resolution of the lowest budget, of each, of both."""
    at = budgets(network, wanted)
    (depth, _, _), macs = at[0]
    factor = at_resolution(network, macs)[2]
    lines = []
    for deep, fine in ((1.0, 1.0), (depth, 1.0), (1.0, factor), (depth, factor)):
        # The narrowest costs what its depth and resolution make it cost; wider ones are at the budgets above that.
        narrowest = (deep, 1.0, fine)
        own = cost(scaled(network, narrowest)).macs * (1 + TOLERANCE)
        above = _widths(network, deep, fine, [budget for budget in at if budget[1] > own])
        lines.append(StudyLine(f"d={deep:.3g}, r={fine:.3g}", (narrowest, *above)))
    return StudyLines("Figure 4. Scaling width on four baselines", one_dimension(network, wanted).source, tuple(lines))


def _widths(
    network: Network, depth: float, factor: float, at: Sequence[tuple[Multipliers, int]]
) -> tuple[Multipliers, ...]:
    """Return the points of this depth and resolution at the budgets, one for each: lines are compared point by point.

    Raises:
        CompoundNetError: No width costs as much as a budget.
    """
    found = []
    for _, macs in at:
        point = matched(network, depth, factor, macs)
        if point is None:
            raise CompoundNetError(
                f"no width at d={depth:.3g}, r={factor:.3g} costs {macs / cost(network).macs:.3g} times as much as the"
                f" baseline within {TOLERANCE:.0%}; leave that budget out of --budgets, or take a baseline with a"
                " smaller channel_divisor"
            )
        found.append(point)
    return tuple(found)
