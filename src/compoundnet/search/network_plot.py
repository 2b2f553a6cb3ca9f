"""A network as a plot of its stages, from the image at the top to the classes at the bottom."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from compoundnet.arch import Network, StageCost, cost, stage_costs
from compoundnet.base import format_count
from compoundnet.plots.canvas import OKABE_ITO, QUIET, canvas, encode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A row for each stage, in units of a row's height; its blocks are thin bars in it.
_ROW, _GAP = 1.0, 0.12
# The most bars that can be distinguished; the text always states the number of blocks.
_MOST_BARS = 12


def draw_network(network: Network, title: str) -> tuple[bytes, bytes]:
    """Draw a network as its stages: (SVG, PNG).

    Each layer is a bar. Its length shows the square root of its channels, its colour its share of the cost.
    """
    rows, whole = stage_costs(network), cost(network)
    widest = max(math.sqrt(row.channels) for row in rows)
    listed = "; ".join(f"{row.operator}, {row.channels} channels, {row.layers} layers" for row in rows)
    description = (
        f"{title}: {network.name} at {network.resolution} px, {format_count(whole.macs)} multiply-adds,"
        f" {format_count(whole.params)} parameters. {listed}."
    )
    with canvas(height=1.5 + 0.52 * len(rows)) as surface:
        axes = surface.add_subplot()
        axes.set_title(title)
        axes.set_axis_off()
        for index, row in enumerate(rows):
            _stage(axes, row, -index * (_ROW + _GAP), widest, row.macs / whole.macs)
        bottom = -len(rows) * (_ROW + _GAP)
        axes.text(
            0, bottom - 0.05,
            f"{network.resolution} px, {network.blocks} blocks, {format_count(whole.macs)} multiply-adds,"
            f" {format_count(whole.params)} parameters.\nA bar for each layer. Length: channels (square root)."
            " Colour: share of the cost.",
            fontsize=10, color=QUIET, va="top", linespacing=1.4,
        )  # fmt: skip
        axes.set_xlim(-1.02, 2.12)
        axes.set_ylim(bottom - 1.3, 0.2)
        return encode(surface, description)


def _stage(axes: Axes, row: StageCost, top: float, widest: float, share: float) -> None:
    from matplotlib.colors import to_rgb  # noqa: PLC0415  matplotlib is imported when something is drawn

    bars = min(row.layers, _MOST_BARS)
    strength = 0.25 + 0.75 * min(1.0, share / 0.4)
    color = tuple(1 - strength * (1 - channel) for channel in to_rgb(OKABE_ITO["blue"]))
    length, height = math.sqrt(row.channels) / widest, _ROW / bars
    for bar in range(bars):
        axes.barh(
            top - bar * height, length, height=-height * 0.86, left=0.5 - length / 2, align="edge", color=color
        )  # fmt: skip
    middle = top - _ROW / 2
    axes.text(-0.04, middle, row.operator, ha="right", va="center", fontsize=11)
    layers = f"{row.layers} layer{'s' * (row.layers > 1)}"
    axes.text(
        1.04, middle, f"{row.resolution} px, {row.channels} channels, {layers}, {share:.0%}", ha="left", va="center",
        fontsize=11,
    )  # fmt: skip
