"""Figure 2: the ways of scaling a network, drawn from the networks of Table 7."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from compoundnet.arch import Network, cost, network, scale
from compoundnet.base import format_count
from compoundnet.paper.printed import PrintedRow, printed_figure, printed_table
from compoundnet.paper.reproduction import Figure, Verdict, drawn_figure
from compoundnet.paper.results import Results
from compoundnet.plots.canvas import OKABE_ITO, QUIET, canvas, encode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Table 7's rows in the order of the figure: baseline, width, depth, resolution, compound.
ORDER = (0, 2, 1, 3, 4)
NAMES = ("baseline", "width", "depth", "resolution", "compound")
COLORS = (QUIET, OKABE_ITO["blue"], OKABE_ITO["orange"], OKABE_ITO["green"], OKABE_ITO["vermillion"])
GAP, STAGE_GAP = 1.0, 4.0  # between blocks and between stages, in the units of `thickness`


class BlockBar(NamedTuple):
    """One block: `width` is its channels, `height` the square root of its output's side, `bottom` its position in the
    stack."""

    stage: int
    width: float
    height: float
    bottom: float


def ways_of_scaling(name: str, results: Results) -> Figure:
    """Figure 2: five stacks of blocks, the image below and the classifier above."""
    del results  # it has no accuracies
    rows = [printed_table("table7").rows[position] for position in ORDER]
    networks = [_scaled(row) for row in rows]
    stacks = [list(_bars(each)) for each in networks]
    widest = max(bar.width for stack in stacks for bar in stack)
    highest = max(bar.bottom + bar.height for stack in stacks for bar in stack)
    printed = printed_figure(name)
    description = _describe(printed.title, networks)
    with canvas(height=6.2) as surface:
        surface.suptitle(printed.title, x=0.008, ha="left", fontweight="bold", fontsize=14)
        panels = surface.subplots(1, len(rows), sharey=True)
        for position, axes in enumerate(panels):
            _panel(axes, position, rows[position], networks[position], stacks[position])
            axes.set_xlim(-widest * 0.52, widest * 0.52)
            axes.set_ylim(-highest * 0.2, highest * 1.01)
            axes.axhline(stacks[0][-1].bottom + stacks[0][-1].height, color=QUIET, linewidth=1, linestyle=(0, (2, 3)))
        _key(panels[0], networks[0], stacks[0])
        surface.supxlabel(
            "One bar per block, the image below. Length: channels. Thickness: square root of the resolution.\n"
            "d, w, r: multipliers of depth, width, resolution. Dotted: the height of the baseline.",
            fontsize=10.5,
            color=QUIET,
        )
        drawing = encode(surface, description)
    points = [
        {
            "way": NAMES[position],
            "depth": row.depth,
            "width": row.width,
            "resolution": each.resolution,
            "blocks": each.blocks,
            "channels": [stage.channels for stage in each.stages],
            "repeats": [stage.repeats for stage in each.stages],
            "macs": cost(each).macs,
        }
        for position, (row, each) in enumerate(zip(rows, networks, strict=True))
    ]
    verdict, reason = _judge(networks)
    return drawn_figure(name, printed, drawing, description=description, points=points, verdict=verdict, reason=reason)


def _judge(networks: list[Network]) -> tuple[Verdict, str]:
    """Whether each way changes its own dimension and no other, and compound scaling all three."""
    base, width, depth, resolution, compound = (
        ([stage.channels for stage in each.stages], [stage.repeats for stage in each.stages], each.resolution)
        for each in networks
    )
    changed = [[own != of_base for own, of_base in zip(each, base, strict=True)] for each in
               (width, depth, resolution, compound)]  # fmt: skip
    alone = [[position == way for position in range(3)] for way in range(3)]
    if changed == [*alone, [True] * 3]:
        return "agrees", "The channels, repeats and resolution of each network differ from B0's as claimed."
    return "differs", "A scaled network differs from B0 in other dimensions than its way of scaling names."


def _scaled(row: PrintedRow) -> Network:
    assert row.network is not None
    return scale(network(row.network), depth=row.depth, width=row.width, resolution=row.resolution)


def _bars(each: Network) -> Iterator[BlockBar]:
    """All blocks of a network, starting at the image."""
    size, bottom = -(-each.resolution // each.stem.stride), 0.0
    for position, stage in enumerate(each.stages):
        size = -(-size // stage.stride)
        for _ in range(stage.repeats):
            yield BlockBar(position, stage.channels, math.sqrt(size), bottom)
            bottom += math.sqrt(size) + GAP
        bottom += STAGE_GAP - GAP


def _panel(axes: Axes, position: int, row: PrintedRow, each: Network, stack: list[BlockBar]) -> None:
    from matplotlib.colors import to_rgb  # noqa: PLC0415  matplotlib is imported when something is drawn

    base = to_rgb(COLORS[position])
    for bar in stack:
        strength = 0.55 + 0.45 * (bar.stage % 2)  # stages alternate, so that they can be counted
        color = tuple(1 - strength * (1 - channel) for channel in base)
        axes.barh(bar.bottom, bar.width, height=bar.height, left=-bar.width / 2, align="edge", color=color)
    axes.set_axis_off()
    axes.set_title(f"({'abcde'[position]}) {NAMES[position]}", loc="center", fontsize=12.5, fontweight="normal")
    changed = [f"{letter} = {value:g}" for letter, value in _multipliers(row) if value != 1]
    facts = [
        "B0" if not changed else ", ".join(changed) if len(changed) == 1 else ", ".join(changed).replace(" = ", "="),
        f"{each.resolution} px",
        f"{each.blocks} blocks",
        f"{format_count(cost(each).macs)} FLOPs",
    ]
    axes.text(0, -5, "\n".join(facts), ha="center", va="top", fontsize=10.5, linespacing=1.35)


def _multipliers(row: PrintedRow) -> tuple[tuple[str, float], ...]:
    return ("d", row.depth), ("w", row.width), ("r", row.resolution)


def _key(axes: Axes, each: Network, stack: list[BlockBar]) -> None:
    """Label the baseline's first and last bar."""
    first, last = stack[0], stack[-1]
    side = each.resolution // each.stem.stride
    axes.annotate(
        f"{each.stages[-1].channels} channels\n{round(last.height**2)} px",
        (0, last.bottom + last.height + 2),
        ha="center",
        va="bottom",
        fontsize=10,
        color=QUIET,
    )
    axes.annotate(
        f"{each.stages[0].channels} channels\n{side} px",
        (first.width / 2 + 36, first.bottom),
        ha="left",
        va="bottom",
        fontsize=10,
        color=QUIET,
    )


def _describe(title: str, networks: list[Network]) -> str:
    parts = [
        f"{name}: {each.blocks} blocks, widest stage {each.stages[-1].channels} channels, {each.resolution} px, "
        f"{format_count(cost(each).macs)} multiply-adds"
        for name, each in zip(NAMES, networks, strict=True)
    ]
    return f"{title}, as stacks of blocks with the image below. {'; '.join(parts)}."
