"""A scaling study as a plot: accuracy against cost, one curve for each line, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from compoundnet.base import format_count
from compoundnet.plots.canvas import INK, OKABE_ITO, QUIET, canvas, count_axis, encode
from compoundnet.plots.fonts import legible
from compoundnet.search.study.lines import label
from compoundnet.trials.statistics import CONFIDENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compoundnet.search.study.lines import Multipliers
    from compoundnet.search.study.settings import ScalingStudy
    from compoundnet.search.study.summary import StudyRow, StudySummary
    from compoundnet.trials.statistics import Interval

_COLOURS = tuple(OKABE_ITO[name] for name in ("blue", "orange", "green", "purple", "sky", "black"))
_MARKERS = ("s", "D", "^", "v", "P", "X")
# Networks of equal cost are drawn side by side: factors on a logarithmic axis.
_APART = 1.025


class LineStyle(NamedTuple):
    """How a line of networks is drawn. `width` is in points."""

    colour: str
    marker: str
    width: float = 1.8


# The line that the paper recommends.
_RECOMMENDED = LineStyle(OKABE_ITO["vermillion"], "o", 2.4)


class StudyDot(NamedTuple):
    """A finished network of a study. `shared` marks the baseline from which all lines start."""

    multipliers: Multipliers
    macs: int
    accuracy: Interval
    shared: bool


class StudyCurve(NamedTuple):
    """The finished networks of a line, from the cheapest up."""

    name: str
    style: LineStyle
    dots: list[StudyDot]


def line_styles(figure: int, count: int) -> list[LineStyle]:
    """The styles of a figure's lines. The last line of Figures 4 and 8 is the one that the paper recommends."""
    styles = [LineStyle(_COLOURS[index % 6], _MARKERS[index % 6]) for index in range(count)]
    return styles if figure == 3 else [*styles[:-1], _RECOMMENDED]


def draw_study(study: ScalingStudy, summary: StudySummary) -> tuple[bytes, bytes]:
    """Draw the finished networks, of which there must be at least one: (SVG, PNG)."""
    (shown,) = legible([f"{study.network.name} on {data_name(study)}"], [study.network.name], "data")
    with canvas(height=5.6, texts=[shown]) as surface:
        axes = surface.add_subplot()
        curves = draw_curves(axes, study, summary)
        axes.set_title(study.lines.title)
        axes.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=10.5, title=_legend_title(study),
            title_fontsize=10.5, alignment="left",
        )  # fmt: skip
        bars = "Student's t over seeds" if study.seeds > 1 else "binomial, of the test images"
        axes.annotate(
            f"{shown}. Bars: {CONFIDENCE:.0%} confidence, {bars}.",
            (0, 0), (0, -48), xycoords="axes fraction", textcoords="offset points", fontsize=10, color=QUIET, va="top",
        )  # fmt: skip
        return encode(surface, _describe(study, curves))


def draw_curves(axes: Axes, study: ScalingStudy, summary: StudySummary | None) -> list[StudyCurve]:
    """Draw the finished networks onto `axes`, without a title or legend, and return the drawn curves.

    If no network is finished, the axes state it. `summary` is None for a study that has not ended.
    """
    curves = [curve for curve in _curves(study, summary.rows if summary is not None else ()) if curve.dots]
    axes.set_xlabel("FLOPs (multiply-adds) of one image")
    axes.set_ylabel(f"test top-1, %, {f'mean of {study.seeds} seeds' if study.seeds > 1 else 'one seed'}")
    for index, curve in enumerate(curves):
        _draw(axes, curve, _APART ** (index - (len(curves) - 1) / 2))
    baseline = next((dot for curve in curves for dot in curve.dots if dot.shared), None)
    if baseline is not None:
        _bars(axes, [baseline], 1, LineStyle(INK, "o"), "baseline", 4)
    if curves:
        count_axis(axes, "x", [dot.macs for curve in curves for dot in curve.dots])
    else:
        axes.text(0.5, 0.5, "no training is finished", transform=axes.transAxes, ha="center", color=INK)
    return curves


def data_name(study: ScalingStudy) -> str:
    """The data set's name without its path."""
    name, _, folder = study.data.partition(":")
    return name if folder and "/" not in name else name.rstrip("/").rpartition("/")[2]


def _curves(study: ScalingStudy, rows: Sequence[StudyRow]) -> list[StudyCurve]:
    measured = {row.multipliers: (row.macs, row.accuracy) for row in rows}
    curves = []
    for line, style in zip(study.lines.lines, line_styles(study.figure, len(study.lines.lines)), strict=True):
        dots = []
        for place in study.curve(line.name):
            macs, accuracy = measured.get(place.multipliers, (None, None))
            if macs is not None and accuracy is not None:
                dots.append(StudyDot(place.multipliers, macs, accuracy, shared=not place.line))
        curves.append(StudyCurve(line.name, style, sorted(dots, key=lambda dot: dot.macs)))
    return curves


def _draw(axes: Axes, curve: StudyCurve, shift: float) -> None:
    """Draw the curve through the means, and the error bars of the networks that only this curve contains."""
    order = 3 if curve.style == _RECOMMENDED else 2
    through = [(dot.macs * (1 if dot.shared else shift), 100 * dot.accuracy.mean) for dot in curve.dots]
    axes.plot(*zip(*through, strict=True), color=curve.style.colour, linewidth=curve.style.width, zorder=order)
    own = [dot for dot in curve.dots if not dot.shared]
    if own:
        _bars(axes, own, shift, curve.style, curve.name, order)


def _bars(axes: Axes, dots: Sequence[StudyDot], shift: float, style: LineStyle, name: str, order: int) -> None:
    intervals = [dot.accuracy for dot in dots]
    below = [100 * (one.mean - one.low) for one in intervals]
    above = [100 * (one.high - one.mean) for one in intervals]
    axes.errorbar(
        [dot.macs * shift for dot in dots], [100 * one.mean for one in intervals], yerr=[below, above],
        color=style.colour, marker=style.marker, markersize=7, linewidth=0, elinewidth=1.3, capsize=3.5, label=name,
        zorder=order,
    )  # fmt: skip


def _legend_title(study: ScalingStudy) -> str:
    return "width, from" if study.figure == 4 else "scaled by"


def _describe(study: ScalingStudy, curves: Sequence[StudyCurve]) -> str:
    parts = []
    for curve in curves:
        ends = " to ".join(
            f"{dot.accuracy.mean:.1%} at {format_count(dot.macs)} ({label(dot.multipliers)})"
            for dot in (curve.dots[0], curve.dots[-1])
        )
        parts.append(f"{curve.name}: {ends}")
    return (
        f"{study.lines.title}: {study.network.name} on {data_name(study)}. Test accuracy against multiply-adds on a"
        f" logarithmic scale, one curve for each way of scaling. {'; '.join(parts)}."
    )
