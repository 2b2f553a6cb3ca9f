"""Figures 3 and 4: B0 scaled by one dimension, and by width on four baselines.

The paper plots the accuracy of each of these networks, but prints only those of Table 7. These figures therefore show
the measured FLOPs of all networks, the printed accuracies, and below them a study of the user with all accuracies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from compoundnet import arch
from compoundnet.paper.digits import parse
from compoundnet.paper.printed import PrintedFigure, printed_figure, printed_table
from compoundnet.paper.reproduction import Figure, drawn_figure
from compoundnet.paper.results import Results
from compoundnet.paper.study_panels import HEIGHT, draw_panel, judge, study_points
from compoundnet.plots.canvas import INK, QUIET, canvas, count_axis, encode
from compoundnet.plots.labels import PointLabel, label_points
from compoundnet.search.study.lines import Multipliers, paper_lines, scaled
from compoundnet.search.study.plot import LineStyle, line_styles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes


NETWORK = "efficientnet-b0"
BASELINE = (1.0, 1.0, 1.0)


class CurveDot(NamedTuple):
    """A network of a line: measured `macs`, and printed `top1`, a fraction; None if not printed.

    `listed`: whether it is a point of the figure itself; the others are only in Table 7.
    """

    line: str
    multipliers: Multipliers
    macs: int
    top1: float | None
    listed: bool


def one_dimension(name: str, results: Results) -> Figure:
    """Figure 3: B0 scaled by one dimension."""
    return _draw(name, 3, results)


def four_baselines(name: str, results: Results) -> Figure:
    """Figure 4: width scaled on four baselines."""
    return _draw(name, 4, results)


def printed_accuracies() -> dict[Multipliers, float]:
    """Return (depth, width, resolution) -> top-1 of the networks of Table 7."""
    found: dict[Multipliers, float] = {}
    for row in printed_table("table7").rows:
        top1 = parse(row.printed["top1"])
        assert top1 is not None
        found[row.depth, row.width, row.resolution] = round(top1.amount, 6)
    return found


def _draw(name: str, number: Literal[3, 4], results: Results) -> Figure:
    printed, studies = printed_figure(name), results.of_figure(number)
    lines = _lines(number)
    description = _describe(printed, lines)
    with canvas(height=6.4 + HEIGHT * len(studies)) as surface:
        surface.suptitle(printed.title, x=0.008, ha="left", fontweight="bold", fontsize=14)
        above, below, *own = surface.subplots(2 + len(studies), 1, height_ratios=[3.6, 2.4, *[HEIGHT] * len(studies)])
        above.sharex(below)
        above.tick_params(axis="x", labelbottom=False)
        styles = line_styles(number, len(lines))
        _accuracies(above, printed, lines, styles)
        _costs(below, lines, styles)
        count_axis(below, "x", [dot.macs for dots in lines.values() for dot in dots])
        below.set_xlabel("FLOPs (multiply-adds) of one image, measured")
        for axes, study in zip(own, studies, strict=True):
            draw_panel(axes, study)
        _label_accuracies(above, lines)
        drawing = encode(surface, description)
    verdict, reason = judge(number, studies)
    points = [
        {"line": dot.line, "depth": depth, "width": width, "resolution": resolution, "macs": dot.macs, "top1": dot.top1}
        for dots in lines.values()
        for dot in dots
        for depth, width, resolution in [dot.multipliers]
    ]
    own_points = [point for study in studies for point in study_points(study)]
    return drawn_figure(
        name, printed, drawing, description=description, points=points + own_points, verdict=verdict, reason=reason
    )


def _lines(number: Literal[3, 4]) -> dict[str, list[CurveDot]]:
    """The networks of each line, smallest first, with the baseline and the line's networks in Table 7."""
    base, known = arch.network(NETWORK), printed_accuracies()
    found: dict[str, list[CurveDot]] = {}
    for line in paper_lines(number).lines:
        multipliers = set(line.points) | ({BASELINE} if number == 3 else set())
        alone = [place for place in known if place != BASELINE and _on(line.name, place, number)]
        found[line.name] = [
            CurveDot(line.name, each, arch.cost(scaled(base, each)).macs, known.get(each), each in multipliers)
            for each in sorted(multipliers | set(alone))
        ]
    return found


def _on(line: str, multipliers: Multipliers, number: Literal[3, 4]) -> bool:
    """Whether a network of Table 7 lies on a line, even if it is not a point of the figure."""
    changed = [value != 1 for value in multipliers]
    if number == 3:
        return changed == [way == line for way in ("depth", "width", "resolution")]
    return line == "d=1, r=1" and changed == [False, True, False]


def _accuracies(
    axes: Axes, printed: PrintedFigure, lines: dict[str, list[CurveDot]], styles: Sequence[LineStyle]
) -> None:
    """The printed values: accuracies of Table 7, and the level at which the curves flatten according to the paper."""
    for dots, style in zip(lines.values(), styles, strict=True):
        known = [(dot.macs, 100 * dot.top1) for dot in dots if dot.top1 is not None]
        scaled = [(dot.macs, 100 * dot.top1) for dot in dots if dot.top1 is not None and dot.multipliers != BASELINE]
        if scaled:
            axes.plot(*zip(*known, strict=True), color=style.colour, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.plot(*zip(*scaled, strict=True), color=style.colour, marker=style.marker, markersize=8, linewidth=0)
    if printed.saturation is not None:
        axes.axhline(100 * printed.saturation, color=QUIET, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.annotate(
            "near here the paper's curves flatten",
            (0.99, 100 * printed.saturation),
            xycoords=("axes fraction", "data"),
            ha="right", va="bottom", fontsize=10.5, color=QUIET,
        )  # fmt: skip
    baseline = next(dot for dots in lines.values() for dot in dots if dot.multipliers == BASELINE)
    axes.plot([baseline.macs], [100 * (baseline.top1 or 0.0)], color=QUIET, marker="o", markersize=9)
    axes.text(
        0.01,
        0.98,
        "The paper draws the other networks' accuracies\nand does not print them.",
        transform=axes.transAxes, va="top", fontsize=10.5, color=QUIET,
    )  # fmt: skip
    axes.set_ylim(76.6, 80.9)
    axes.set_ylabel("ImageNet top-1 in\nthe paper's Table 7, %")


def _label_accuracies(axes: Axes, lines: dict[str, list[CurveDot]]) -> None:
    """Called when all limits are final."""
    known = {dot.multipliers: dot for dots in lines.values() for dot in dots if dot.top1 is not None}
    label_points(
        axes,
        [PointLabel(f"{_name(at)}: {dot.top1:.1%}", dot.macs, 100 * (dot.top1 or 0.0)) for at, dot in known.items()],
    )


def _costs(axes: Axes, lines: dict[str, list[CurveDot]], styles: Sequence[LineStyle]) -> None:
    """A row of networks per line, each with its multiplier."""
    axes.set_ylim(len(lines) - 0.45, -0.6)
    axes.set_yticks(range(len(lines)), list(lines))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    for row, (all_dots, style) in enumerate(zip(lines.values(), styles, strict=True)):
        dots = [dot for dot in all_dots if dot.listed]
        axes.plot(
            [dot.macs for dot in dots],
            [row] * len(dots),
            color=style.colour,
            marker=style.marker,
            markersize=7,
            linewidth=1.2,
        )
        for dot in dots:
            axes.annotate(
                _short(dot), (dot.macs, row), xytext=(0, 7), textcoords="offset points", ha="center",
                va="bottom", fontsize=9.5, color=INK,
            )  # fmt: skip


def _short(dot: CurveDot) -> str:
    """The multiplier that varies along the line of a dot; width if lines are baselines."""
    depth, width, resolution = dot.multipliers
    return f"{({'depth': depth, 'resolution': resolution}).get(dot.line, width):g}"


def _name(multipliers: Multipliers) -> str:
    parts = [f"{letter} = {value:g}" for letter, value in zip("dwr", multipliers, strict=True) if value != 1]
    return ", ".join(parts) or "B0"


def _describe(printed: PrintedFigure, lines: dict[str, list[CurveDot]]) -> str:
    known = {dot.multipliers: dot for dots in lines.values() for dot in dots if dot.top1 is not None}
    counts = "; ".join(
        f"{name} from {_billions(dots[0].macs)} to {_billions(max(dot.macs for dot in dots))}"
        for name, dots in lines.items()
    )
    accuracies = ", ".join(f"{_name(dot.multipliers)} {dot.top1:.1%}" for dot in known.values())
    return (
        f"{printed.title}. Below, the multiply-adds of every network of the figure as measured here: {counts}. Above,"
        f" the ImageNet top-1 accuracies that the paper prints, in Table 7: {accuracies}. The paper draws the others"
        " without printing them, so they are missing here."
    )


def _billions(macs: int) -> str:
    return f"{macs / 1e9:.2f}B"
