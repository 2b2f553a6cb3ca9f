"""Figure 6: parameters, measured without the classifier, against the accuracies of Table 5 and those measured by the
user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from compoundnet import arch
from compoundnet.base import format_count
from compoundnet.data.catalogue import dataset_facts
from compoundnet.paper.accuracy_tables import measured_accuracy, params_without_classifier
from compoundnet.paper.digits import parse
from compoundnet.paper.printed import PrintedFigure, printed_figure, printed_table
from compoundnet.paper.reproduction import Figure, Verdict, drawn_figure
from compoundnet.paper.results import Results
from compoundnet.plots.canvas import INK, OKABE_ITO, QUIET, canvas, encode, log_axis
from compoundnet.plots.labels import PointLabel, label_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAMILY = "EfficientNet"
_WRITTEN = {5e6: "5M", 20e6: "20M", 100e6: "100M", 500e6: "500M"}


class TransferAccuracy(msgspec.Struct, frozen=True):
    """A network on a data set.

    `params` is None if the paper's network is not available here. `accuracy` is a fraction: that of the paper, or that
    measured by the user if `own` is set.
    """

    dataset: str
    model: str
    params: int | None
    accuracy: float
    own: bool = False


def transfer_accuracies(name: str, results: Results) -> Figure:
    """Figure 6: one panel for each data set."""
    printed = printed_figure(name)
    points = [*_printed_points(), *_own_points(results)]
    datasets = list(dict.fromkeys(point.dataset for point in points))
    found = _smaller(points)
    description = _describe(printed, points, found)
    with canvas(height=11.6) as surface:
        surface.suptitle(printed.title, x=0.008, ha="left", fontweight="bold", fontsize=14)
        panels = surface.subplots(len(datasets) // 2, 2, sharex=True).ravel()
        amounts = [point.params for point in points if point.params is not None]
        for axes, dataset in zip(panels, datasets, strict=True):
            _panel(axes, dataset, [point for point in points if point.dataset == dataset])
            log_axis(axes, "x", amounts, _tick)
        surface.supxlabel(
            "parameters without the classifier, measured\n"
            "circles: EfficientNets, squares: others, hollow: accuracy measured here\n"
            "dashed: the paper draws what lies between and does not print it",
            fontsize=11,
        )
        surface.supylabel("accuracy in the paper's Table 5, %", fontsize=12)
        surface.draw_without_rendering()
        surface.set_layout_engine("none")  # the layout is final; the labels of each panel must not change it again
        for axes, dataset in zip(panels, datasets, strict=True):
            _labels(axes, [point for point in points if point.dataset == dataset])
        drawing = encode(surface, description)
    verdict: Verdict = "agrees" if all(holds for _, holds in found) else "differs"
    facts = [msgspec.to_builtins(point) for point in points]
    return drawn_figure(
        name, printed, drawing, description=description, points=facts, verdict=verdict, reason=_found(found)
    )


def _printed_points() -> list[TransferAccuracy]:
    points = []
    for row in printed_table("table5").rows:
        if row.dataset is not None:
            accuracy = parse(row.printed["accuracy"])
            assert accuracy is not None
            params = params_without_classifier(row.network) if row.network is not None else None
            model = row.label.partition(": ")[2]
            points.append(TransferAccuracy(dataset_facts(row.dataset).title, model, params, round(accuracy.amount, 6)))
    return points


def _own_points(results: Results) -> list[TransferAccuracy]:
    points = []
    for dataset in dict.fromkeys(row.dataset for row in printed_table("table5").rows if row.dataset is not None):
        facts = dataset_facts(dataset)
        for network in dict.fromkeys(result.network for result in results.evaluations if result.dataset == dataset):
            accuracy, _ = measured_accuracy(results, network, facts)
            if accuracy is not None and network in arch.families().get("efficientnet", ()):
                points.append(
                    TransferAccuracy(facts.title, network, params_without_classifier(network), accuracy, own=True)
                )
    return points


def _smaller(points: list[TransferAccuracy]) -> list[tuple[str, bool]]:
    """For each other network of known size: (the point, whether a smaller EfficientNet is at least as accurate)."""
    found = []
    for other in points:
        if other.own or other.model.startswith(FAMILY) or other.params is None:
            continue
        rivals = [point for point in points if point.dataset == other.dataset and point.model.startswith(FAMILY)]
        holds = any(
            point.params is not None and point.params < other.params and point.accuracy >= other.accuracy
            for point in rivals
        )
        found.append((f"{other.model} on {other.dataset}", holds))
    return found


def _found(found: list[tuple[str, bool]]) -> str:
    missing = [name for name, holds in found if not holds]
    rest = f" There is none for {', '.join(missing)}." if missing else ""
    return (
        f"By the paper's accuracies, for {len(found) - len(missing)} of {len(found)} networks of known size there is an"
        f" EfficientNet that is smaller, as measured, and at least as accurate.{rest}"
    )


def _tick(params: float) -> str:
    """Label only half of the ticks, because all labels would overlap in panels of this width."""
    return _WRITTEN.get(params, "")


def _panel(axes: Axes, dataset: str, points: list[TransferAccuracy]) -> None:
    axes.set_title(dataset, fontsize=12)
    for point in points:
        if point.params is None:
            axes.axhline(100 * point.accuracy, color=OKABE_ITO["blue"], linewidth=1.2, linestyle=(0, (2, 2)))
        else:
            colour, marker = _look(point)
            filled = colour if not point.own else "none"
            axes.plot([point.params], [100 * point.accuracy], color=colour, marker=marker, markerfacecolor=filled,
                      markersize=8)  # fmt: skip
    ours = sorted((point.params, point.accuracy) for point in points if point.params and _is_printed_ours(point))
    axes.plot([params for params, _ in ours], [100 * accuracy for _, accuracy in ours], color=OKABE_ITO["vermillion"],
              linewidth=1.2, linestyle=(0, (4, 3)))  # fmt: skip
    low, high = min(point.accuracy for point in points), max(point.accuracy for point in points)
    room = max(high - low, 0.004)
    axes.set_ylim(100 * (low - 0.45 * room), 100 * (high + 0.45 * room))


def _labels(axes: Axes, points: list[TransferAccuracy]) -> None:
    """Called when the limits are final."""
    labels = []
    for point in points:
        colour, _ = _look(point)
        text = point.model.removeprefix(f"{FAMILY}-")
        if point.own:
            text = f"{point.model.removeprefix('efficientnet-').upper()} here"
        if point.params is None:
            axes.annotate(
                f"{text}, size not printed", (0.02, 100 * point.accuracy), xycoords=("axes fraction", "data"),
                va="bottom", fontsize=9.5, color=QUIET,
            )  # fmt: skip
        else:
            labels.append(
                PointLabel(text, point.params, 100 * point.accuracy, colour, "bold" if colour != INK else "normal")
            )
    low, high = axes.get_xlim()
    lines = [(x, 100 * point.accuracy) for point in points if point.params is None for x in (low, high)]
    label_points(axes, labels, curve=lines, drawn=True)


def _look(point: TransferAccuracy) -> tuple[str, str]:
    """(colour, marker)."""
    if point.own:
        return OKABE_ITO["green"], "D"
    return (OKABE_ITO["vermillion"], "o") if _is_printed_ours(point) else (OKABE_ITO["blue"], "s")


def _is_printed_ours(point: TransferAccuracy) -> bool:
    return point.model.startswith(FAMILY) and not point.own


def _describe(printed: PrintedFigure, points: list[TransferAccuracy], found: list[tuple[str, bool]]) -> str:
    def of(dataset: str) -> str:
        own = [point for point in points if point.dataset == dataset]
        return f"{dataset}: " + ", ".join(
            f"{point.model} {point.accuracy:.1%}{' measured here' if point.own else ''} with "
            + (format_count(point.params) if point.params is not None else "a size that is not printed")
            for point in own
        )

    datasets = list(dict.fromkeys(point.dataset for point in points))
    return (
        f"{printed.title}: accuracy as the paper prints it in Table 5 against parameters without the classifier as"
        f" measured here. {'; '.join(map(of, datasets))}. {_found(found)} The paper draws more networks without"
        " printing their accuracies, so they are missing here."
    )
