"""Figures 1 and 5: the printed accuracies against measured size and cost."""

from __future__ import annotations

import msgspec

from compoundnet.base import format_count
from compoundnet.paper.digits import parse
from compoundnet.paper.printed import printed_figure
from compoundnet.paper.reproduction import Figure, Verdict, drawn_figure
from compoundnet.paper.results import Results
from compoundnet.paper.tables import network_table
from compoundnet.plots.canvas import INK, OKABE_ITO, canvas, count_axis, encode
from compoundnet.plots.labels import PointLabel, label_points

FAMILY = "EfficientNet"


class PlottedNetwork(msgspec.Struct, frozen=True):
    """A network of Table 2: `amount` is measured, `top1` is the paper's, a fraction."""

    model: str
    network: str | None
    resolution: int | None
    amount: float
    top1: float


def accuracy_against_size(name: str, results: Results) -> Figure:
    """Figure 1: accuracy against parameters."""
    del results  # the accuracies are the paper's
    return _draw(name, "params", "parameters", "smaller")


def accuracy_against_cost(name: str, results: Results) -> Figure:
    """Figure 5: accuracy against multiply-adds."""
    del results
    return _draw(name, "macs", "FLOPs (multiply-adds) of one image", "cheaper")


def _draw(name: str, figure: str, amount: str, less: str) -> Figure:
    printed, points = printed_figure(name), _points(figure)
    title = printed.title
    ours = [point for point in points if point.model.startswith(FAMILY)]
    others = [point for point in points if point not in ours]
    found = _beaten(less, ours, others)
    description = f"{_describe(title, amount, ours)} {found}"
    with canvas(height=5.4) as surface:
        axes = surface.add_subplot()
        axes.set_title(title)
        axes.set_xlabel(f"{amount}, measured")
        axes.set_ylabel("ImageNet top-1 in the paper, %")
        family = [(point.amount, 100 * point.top1) for point in ours]
        rest = [(point.amount, 100 * point.top1) for point in others]
        axes.plot(*zip(*family, strict=True), color=OKABE_ITO["vermillion"], marker="o", linewidth=2.2, markersize=7)
        axes.plot(*zip(*rest, strict=True), color=OKABE_ITO["blue"], marker="s", linewidth=0, markersize=6)
        axes.set_ylim(75.3, 85.1)
        count_axis(axes, "x", [point.amount for point in points])
        label_points(axes, [_label(point, first=point is ours[0]) for point in points], curve=family)
        drawing = encode(surface, description)
    holds: Verdict = "agrees" if _worse(ours, others) == others else "differs"
    facts = [msgspec.to_builtins(point) for point in points]
    return drawn_figure(name, printed, drawing, description=description, points=facts, verdict=holds, reason=found)


def _points(figure: str) -> list[PlottedNetwork]:
    """The networks of Table 2, with the measured value of `figure` and the printed top-1."""
    points: list[PlottedNetwork] = []
    for line in network_table("table2", Results()).rows:
        amount, top1 = line.cells[figure].measured, parse(line.cells["top1"].printed or "")
        if isinstance(amount, int) and top1 is not None:
            points.append(PlottedNetwork(line.label, line.network, line.resolution, amount, round(top1.amount, 6)))
    return points


def _label(point: PlottedNetwork, first: bool) -> PointLabel:
    if not point.model.startswith(FAMILY):
        return PointLabel(point.model, point.amount, 100 * point.top1, INK)
    # The first point of the curve is labelled with the name of the family, the others only with the rest of their
    # names.
    text = point.model if first else point.model.removeprefix(f"{FAMILY}-")
    return PointLabel(text, point.amount, 100 * point.top1, OKABE_ITO["vermillion"], "bold")


def _describe(title: str, amount: str, ours: list[PlottedNetwork]) -> str:
    low, high = ours[0], ours[-1]
    return (
        f"{title}: top-1 accuracy as the paper prints it against {amount} as measured here, on a logarithmic scale. "
        f"The EfficientNets rise from {low.top1:.1%} at {format_count(low.amount)} (B0) to {high.top1:.1%} at "
        f"{format_count(high.amount)} (B7)."
    )


def _beaten(less: str, ours: list[PlottedNetwork], others: list[PlottedNetwork]) -> str:
    return (
        f"For {len(_worse(ours, others))} of the {len(others)} other networks there is an EfficientNet that is {less}"
        " and at least as accurate."
    )


def _worse(ours: list[PlottedNetwork], others: list[PlottedNetwork]) -> list[PlottedNetwork]:
    """The networks for which a smaller (or cheaper) EfficientNet is at least as accurate."""
    return [
        other for other in others if any(point.top1 >= other.top1 and point.amount < other.amount for point in ours)
    ]
