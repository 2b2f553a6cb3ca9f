"""Plots of a benchmark: accuracy and FLOPs against the latency of networks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compoundnet.base import format_count, json_document, make_folder, write_whole
from compoundnet.plots.canvas import INK, OKABE_ITO, Plot, canvas, count_axis, encode, log_axis
from compoundnet.plots.fonts import legible
from compoundnet.plots.labels import PointLabel, label_points
from compoundnet.runtime.timing.benchmark import OWN, Benchmark

if TYPE_CHECKING:
    from collections.abc import Mapping


class PlottedLatency(msgspec.Struct, frozen=True):
    """A point of the plots: one network on one backend.

    Attributes:
        network: The name of the network.
        label: The name shown in the plot.
        backend: The backend that ran it.
        precision: The precision of the weights.
        milliseconds: The median latency.
        macs: Multiply-adds of one image.
        top1: ImageNet accuracy, a fraction; None if it is not known.
    """

    network: str
    label: str
    backend: str
    precision: str
    milliseconds: float
    macs: int
    top1: float | None


def latency_plots(done: Benchmark, top1: Mapping[str, float]) -> tuple[Plot, ...]:
    """Draw `accuracy-latency`, with the networks whose accuracy is known, and `flops-latency`, with all.

    A plot with fewer than two networks is omitted.

    Args:
        done: The benchmark.
        top1: ImageNet accuracies of networks in float32, fractions: the paper's are `paper.printed_top1()`.
    """
    points = _points(done, top1)
    known = [point for point in points if point.top1 is not None]
    where = f"{done.setting.threads} thread(s) of {done.setting.processor}, batch {done.setting.batch}"
    plots = []
    if len({point.label for point in known}) > 1:
        heights = [100 * (point.top1 or 0.0) for point in known]
        title, label = "ImageNet accuracy and latency", "ImageNet top-1 in the paper, %"
        plots.append(_draw("accuracy-latency", title, label, where, known, heights))
    if len({point.label for point in points}) > 1:
        heights = [float(point.macs) for point in points]
        title, label = "FLOPs and latency", "FLOPs (multiply-adds) of one image"
        plots.append(_draw("flops-latency", title, label, where, points, heights, logarithmic=True))
    return tuple(plots)


def write_benchmark(done: Benchmark, folder: str | os.PathLike[str], top1: Mapping[str, float]) -> list[Path]:
    """Write `benchmark.json` and the plots of `latency_plots` as SVG and PNG; return the files.

    Raises:
        UnwritableError: The folder or a file cannot be written.
    """
    target = make_folder(folder)
    contents = {"benchmark.json": json_document(done)}
    for plot in latency_plots(done, top1):
        contents |= {f"{plot.name}.svg": plot.svg, f"{plot.name}.png": plot.png}
    for name, content in contents.items():
        write_whole(target / name, content)
    return [target / name for name in contents]


def _points(done: Benchmark, top1: Mapping[str, float]) -> list[PlottedLatency]:
    return [
        PlottedLatency(
            found.network,
            found.label if found.precision == "float32" else f"{found.label}, {found.precision}",
            found.backend,
            found.precision,
            found.latency.median,
            found.macs,
            top1.get(found.network) if found.precision == "float32" else None,
        )
        for found in done.measurements
        if found.library == OWN
    ]


def _draw(
    name: str,
    title: str,
    height: str,
    where: str,
    points: list[PlottedLatency],
    heights: list[float],
    *,
    logarithmic: bool = False,
) -> Plot:
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
    names = legible(
        [point.label for point in points], [f"model {number + 1}" for number in range(len(points))], "models"
    )
    with canvas(height=5.4, texts=names) as surface:
        axes = surface.add_subplot()
        axes.set_title(title)
        axes.set_xlabel("latency, milliseconds, median")
        axes.set_ylabel(height)
        colours = [OKABE_ITO[colour] for colour in ("vermillion", "blue", "green", "purple")]
        curve: list[tuple[float, float]] = []
        for backend, colour in zip(backends, colours, strict=False):
            for index, line in enumerate(_lines(points, heights, backend)):
                curve = curve or line  # objects that labels must not overlap
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
            PointLabel(shown, point.milliseconds, value, INK)
            for shown, point, value in zip(names, points, heights, strict=True)
            if point.backend == backends[0]
        ]
        label_points(axes, labels, curve=curve)
        if len(backends) > 1:
            axes.legend(frameon=False)
        svg, png = encode(surface, description)
    facts = [msgspec.to_builtins(point) for point in points]
    return Plot(name=name, title=title, description=description, points=facts, svg=svg, png=png)


def _lines(points: list[PlottedLatency], heights: list[float], backend: str) -> list[list[tuple[float, float]]]:
    """(milliseconds, height) of each family on a backend, by time.

    A family consists of networks with the same name before the last `-` and the same precision.
    """
    families: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for point, height in zip(points, heights, strict=True):
        if point.backend == backend:
            family = point.network.rpartition("-")[0], point.precision
            families.setdefault(family, []).append((point.milliseconds, height))
    return [sorted(line) for line in families.values()]
