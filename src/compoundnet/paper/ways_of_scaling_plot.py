"""Figure 8: B0 scaled by width, depth, resolution and by all three, as printed in Table 7, and a study of the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from compoundnet import arch
from compoundnet.paper.digits import parse
from compoundnet.paper.printed import PrintedFigure, printed_figure, printed_table
from compoundnet.paper.reproduction import Figure, drawn_figure
from compoundnet.paper.results import Results
from compoundnet.paper.study_panels import HEIGHT, draw_panel, judge, study_points
from compoundnet.plots.canvas import QUIET, canvas, count_axis, encode
from compoundnet.search.study.plot import line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Table 7's rows in the order of the figure's lines: width, depth, resolution, compound. Row 0 is the baseline.
ORDER = (2, 1, 3, 4)


class Table7Dot(NamedTuple):
    """A row of Table 7: measured and printed multiply-adds, and printed top-1, a fraction."""

    label: str
    macs: int
    printed_macs: float
    top1: float


def ways_at_equal_cost(name: str, results: Results) -> Figure:
    """Figure 8."""
    printed, studies, dots = printed_figure(name), results.of_figure(8), _dots()
    description = _describe(printed, dots)
    with canvas(height=5.6 + HEIGHT * len(studies)) as surface:
        surface.suptitle(printed.title, x=0.008, ha="left", fontweight="bold", fontsize=14)
        panels = surface.subplots(1 + len(studies), 1, height_ratios=[5.2, *[HEIGHT] * len(studies)], squeeze=False)
        for axes, study in zip(panels[1:, 0], studies, strict=True):
            draw_panel(axes, study)
        _paper(panels[0, 0], dots)
        drawing = encode(surface, description)
    verdict, reason = judge(8, studies)
    points = [dot._asdict() for dot in dots] + [point for study in studies for point in study_points(study)]
    return drawn_figure(name, printed, drawing, description=description, points=points, verdict=verdict, reason=reason)


def _dots() -> list[Table7Dot]:
    dots = []
    for row in printed_table("table7").rows:
        top1, macs = parse(row.printed["top1"]), parse(row.printed["macs"])
        assert row.network is not None and top1 is not None and macs is not None
        network = arch.scale(arch.network(row.network), depth=row.depth, width=row.width, resolution=row.resolution)
        dots.append(Table7Dot(row.label, arch.cost(network).macs, macs.amount, round(top1.amount, 6)))
    return dots


def _paper(axes: Axes, dots: list[Table7Dot]) -> None:
    base, scaled = dots[0], [dots[position] for position in ORDER]
    for dot, (colour, marker, _) in zip(scaled, line_styles(8, len(scaled)), strict=True):
        top1 = 100 * dot.top1
        axes.plot([base.macs, dot.macs], [100 * base.top1, top1], color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.plot([dot.macs, dot.printed_macs], [top1, top1], color=colour, linewidth=0.8)
        axes.plot([dot.printed_macs], [top1], marker=marker, markersize=8, markerfacecolor="none", color=colour)
        axes.plot([dot.macs], [top1], color=colour, marker=marker, markersize=9, linewidth=0, label=_name(dot))
    axes.plot([base.macs], [100 * base.top1], color=QUIET, marker="o", markersize=9, linewidth=0, label=_name(base))
    axes.set_ylim(76.6, 81.8)
    axes.set_ylabel("ImageNet top-1 in the paper's Table 7, %")
    axes.set_xlabel("FLOPs (multiply-adds) of one image; filled: measured, hollow: as printed")
    count_axis(axes, "x", [amount for dot in dots for amount in (dot.macs, dot.printed_macs)])
    # The points of the three single dimensions are too close together for separate labels.
    handles, labels = axes.get_legend_handles_labels()
    ordered = sorted(zip(labels, handles, strict=True), key=lambda entry: entry[0], reverse=True)  # by accuracy
    axes.legend([handle for _, handle in ordered], [label for label, _ in ordered], frameon=False, loc="upper left")
    axes.text(
        0.99, 0.03, "dashed: the paper draws what lies between\nand does not print it", transform=axes.transAxes,
        ha="right", va="bottom", fontsize=10.5, color=QUIET,
    )  # fmt: skip


def _name(dot: Table7Dot) -> str:
    return f"{dot.top1:.1%}  {dot.label}"


def _describe(printed: PrintedFigure, dots: list[Table7Dot]) -> str:
    rows = "; ".join(
        f"{dot.label} {dot.top1:.1%} at {dot.macs / 1e9:.2f}B (printed {dot.printed_macs / 1e9:g}B)" for dot in dots
    )
    best = max(dot.top1 for dot in dots[1:-1])
    return (
        f"{printed.title}: the ImageNet top-1 accuracies of Table 7 against multiply-adds as measured here and as"
        f" printed: {rows}. Compound scaling is {100 * (dots[-1].top1 - best):.1f} points above the best single"
        " dimension. The points in between are drawn in the paper and not printed, so they are missing here."
    )
