"""Figures 3, 4 and 8 as a study has measured them: accuracy against cost, one curve a line, intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from compoundnet.arch import Network
from compoundnet.base import format_count
from compoundnet.plots.canvas import INK, OKABE_ITO, QUIET, canvas, encode, log_axis
from compoundnet.search.finished import Entry
from compoundnet.search.statistics import CONFIDENCE
from compoundnet.search.study_points import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compoundnet.search.study_figures import Place, ScalingStudy

# The last line of a figure is the one that the paper recommends.
_LAST = OKABE_ITO["vermillion"]
_COLORS = tuple(OKABE_ITO[name] for name in ("blue", "orange", "green", "purple", "sky", "black"))
_MARKERS = ("s", "D", "^", "v", "P", "X")
# Networks of one cost are drawn side by side: factors on a logarithmic axis.
_APART = 1.025


class Curve(NamedTuple):
    """What is drawn of a line: its finished networks, from the cheapest up."""

    name: str
    color: str
    marker: str
    dots: list[tuple[Place, Entry]]


def draw_study(study: ScalingStudy, found: Mapping[Network, Entry]) -> tuple[bytes, bytes]:
    """(SVG, PNG) of the networks that are finished, of which there must be at least one."""
    curves = [curve for curve in _curves(study, found) if curve.dots]
    description = _describe(study, curves)
    with canvas(height=5.6) as surface:
        axes = surface.add_subplot()
        axes.set_title(f"{study.lines.title}")
        axes.set_xlabel("FLOPs (multiply-adds) of one image")
        seeds = f"mean of {study.seeds} seeds" if study.seeds > 1 else "one seed"
        axes.set_ylabel(f"test top-1, %, {seeds}")
        costs = [entry.macs for curve in curves for _, entry in curve.dots]
        for index, curve in enumerate(curves):
            _draw(axes, curve, _APART ** (index - (len(curves) - 1) / 2))
        _draw_baseline(axes, curves)
        log_axis(axes, "x", costs, format_count)
        axes.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=10.5, title=_legend_title(study),
            title_fontsize=10.5, alignment="left",
        )  # fmt: skip
        bars = "Student's t over seeds" if study.seeds > 1 else "binomial, of the test pictures"
        axes.annotate(
            f"{study.network.name} on {_data_name(study)}. Bars: {CONFIDENCE:.0%} confidence, {bars}.",
            (0, 0), (0, -48), xycoords="axes fraction", textcoords="offset points", fontsize=10, color=QUIET, va="top",
        )  # fmt: skip
        return encode(surface, description)


def _curves(study: ScalingStudy, found: Mapping[Network, Entry]) -> list[Curve]:
    curves = []
    last = len(study.lines.lines) - 1
    for index, line in enumerate(study.lines.lines):
        places = [place for place in study.curve(line.name) if place.network in found]
        dots = [(place, found[place.network]) for place in places if found[place.network].sample is not None]
        dots.sort(key=lambda dot: dot[1].macs)
        highlighted = index == last and study.figure != 3
        color = _LAST if highlighted else _COLORS[index % len(_COLORS)]
        curves.append(Curve(line.name, color, "o" if highlighted else _MARKERS[index % len(_MARKERS)], dots))
    return curves


def _draw(axes: Axes, curve: Curve, shift: float) -> None:
    """The curve through the means. What all curves start at is drawn by `_draw_baseline`."""
    width, order = (2.4, 3) if curve.color == _LAST else (1.8, 2)
    own = [dot for dot in curve.dots if dot[0].line]
    through = [(entry.macs * (shift if place.line else 1), 100 * entry.accuracy) for place, entry in curve.dots]
    axes.plot(*zip(*through, strict=True), color=curve.color, linewidth=width, zorder=order)
    if own:
        _bars(axes, [entry for _, entry in own], shift, curve.color, curve.marker, curve.name, order)


def _bars(axes: Axes, entries: Sequence[Entry], shift: float, color: str, marker: str, name: str, order: int) -> None:
    intervals = [entry.interval for entry in entries]
    means = [100 * one.mean for one in intervals if one is not None]
    below = [100 * (one.mean - one.low) for one in intervals if one is not None]
    above = [100 * (one.high - one.mean) for one in intervals if one is not None]
    axes.errorbar(
        [entry.macs * shift for entry in entries], means, yerr=[below, above], color=color, marker=marker, markersize=7,
        linewidth=0, elinewidth=1.3, capsize=3.5, label=name, zorder=order,
    )  # fmt: skip


def _draw_baseline(axes: Axes, curves: Sequence[Curve]) -> None:
    shared = next((entry for curve in curves for place, entry in curve.dots if not place.line), None)
    if shared is not None:
        _bars(axes, [shared], 1, INK, "o", "baseline", 4)


def _legend_title(study: ScalingStudy) -> str:
    return "width, from" if study.figure == 4 else "scaled by"


def _data_name(study: ScalingStudy) -> str:
    return study.data.rstrip("/").rpartition("/")[2]


def _describe(study: ScalingStudy, curves: Sequence[Curve]) -> str:
    parts = []
    for curve in curves:
        ends = [curve.dots[0], curve.dots[-1]]
        told = " to ".join(
            f"{entry.accuracy:.1%} at {format_count(entry.macs)} ({label(place.multipliers)})" for place, entry in ends
        )
        parts.append(f"{curve.name}: {told}")
    return (
        f"{study.lines.title}: {study.network.name} on {_data_name(study)}. Test accuracy against multiply-adds on a"
        f" logarithmic scale, one curve for each way of scaling. {'; '.join(parts)}."
    )
