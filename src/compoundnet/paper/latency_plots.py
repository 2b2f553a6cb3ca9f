"""Accuracy against latency, and FLOPs against latency, of the networks of a benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from compoundnet.base import format_count
from compoundnet.paper.digits import parse
from compoundnet.paper.figures import Figure
from compoundnet.paper.printed import printed_table
from compoundnet.plots.canvas import INK, OKABE_ITO, canvas, count_axis, encode, log_axis
from compoundnet.plots.labels import Label, label_points

if TYPE_CHECKING:
    from compoundnet.runtime.benchmark import Benchmark

OWN = "compoundnet"


class Point(msgspec.Struct, frozen=True):
    """One network on one backend: `milliseconds`, the median; `macs` of an image.

    label  the network's name as the plot shows it
    top1   of the paper, a fraction; it is of float32, and other precisions have none
    """

    network: str
    label: str
    backend: str
    precision: str
    milliseconds: float
    macs: int
    top1: float | None


def latency_plots(done: Benchmark) -> tuple[Figure, ...]:
    """`accuracy-latency`, of the networks whose accuracy the paper's Table 2 prints, and `flops-latency`, of all.

    A figure with fewer than two networks is left out.
    """
    points = _points(done)
    known = [point for point in points if point.top1 is not None]
    where = f"{done.setting.threads} thread(s) of {done.setting.processor}, batch {done.setting.batch}"
    figures = []
    if len({point.label for point in known}) > 1:
        heights = [100 * (point.top1 or 0.0) for point in known]
        title, label = "ImageNet accuracy and latency", "ImageNet top-1 in the paper, %"
        figures.append(_draw("accuracy-latency", title, label, where, known, heights))
    if len({point.label for point in points}) > 1:
        heights = [float(point.macs) for point in points]
        title, label = "FLOPs and latency", "FLOPs (multiply-adds) of one image"
        figures.append(_draw("flops-latency", title, label, where, points, heights, logarithmic=True))
    return tuple(figures)


def _points(done: Benchmark) -> list[Point]:
    printed = {row.network: parse(row.printed.get("top1", "")) for row in printed_table("table2").rows}
    return [
        Point(
            found.network,
            found.label if found.precision == "float32" else f"{found.label}, {found.precision}",
            found.backend,
            found.precision,
            found.latency.median,
            found.macs,
            round(top1.amount, 6)
            if found.precision == "float32" and (top1 := printed.get(found.network)) is not None
            else None,
        )
        for found in done.measurements
        if found.library == OWN
    ]


def _draw(
    name: str,
    title: str,
    height: str,
    where: str,
    points: list[Point],
    heights: list[float],
    *,
    logarithmic: bool = False,
) -> Figure:
    description = (
        f"{title}: {height} against the median latency in milliseconds on {where}. "
        + "; ".join(
            f"{point.label} on {point.backend} {point.milliseconds:.3g} ms, "
            + (format_count(value) if logarithmic else f"{value:.3g}")
            for point, value in zip(points, heights, strict=True)
        )
        + "."
    )
    backends = list(dict.fromkeys(point.backend for point in points))
    with canvas(height=5.4) as surface:
        axes = surface.add_subplot()
        axes.set_title(title)
        axes.set_xlabel("latency, milliseconds, median")
        axes.set_ylabel(height)
        colours = [OKABE_ITO[colour] for colour in ("vermillion", "blue", "green", "purple")]
        curve: list[tuple[float, float]] = []
        for backend, colour in zip(backends, colours, strict=False):
            for index, line in enumerate(_lines(points, heights, backend)):
                curve = curve or line  # what labels stay clear of
                axes.plot(
                    *zip(*line, strict=True),
                    color=colour,
                    marker="o",
                    linewidth=2.0,
                    markersize=6,
                    label=backend if index == 0 else None,
                )
        if logarithmic:
            count_axis(axes, "y", heights)
        log_axis(axes, "x", [point.milliseconds for point in points], "{:g}".format)
        labels = [
            Label(point.label, point.milliseconds, value, INK)
            for point, value in zip(points, heights, strict=True)
            if point.backend == backends[0]
        ]
        label_points(axes, labels, curve=curve)
        if len(backends) > 1:
            axes.legend(frameon=False)
        svg, png = encode(surface, description)
    source = "measured here; accuracies from Tan & Le 2019, Table 2"
    return Figure(name, title, source, description, [msgspec.to_builtins(point) for point in points], svg, png)


def _lines(points: list[Point], heights: list[float], backend: str) -> list[list[tuple[float, float]]]:
    """Of each family on a backend, (milliseconds, height) by time.

    A family is of one precision, and what names share before the last `-`.
    """
    families: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for point, height in zip(points, heights, strict=True):
        if point.backend == backend:
            family = point.network.rpartition("-")[0], point.precision
            families.setdefault(family, []).append((point.milliseconds, height))
    return [sorted(line) for line in families.values()]
