"""Plots of any search that ranks networks: accuracy against cost, and the progress of the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compoundnet.base import format_count
from compoundnet.plots.canvas import OKABE_ITO, canvas, encode, log_axis
from compoundnet.plots.labels import PointLabel, label_points
from compoundnet.search.findings import Findings, ReportFigure
from compoundnet.search.network_plot import draw_network
from compoundnet.search.network_results import NetworkResult, front
from compoundnet.trials.measurement import outcome_of
from compoundnet.trials.settings import position

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# More labels would cover the plot.
_LABELLED = 8


def ranking_figures(findings: Findings, trials: Sequence[FrozenTrial], value: str | None) -> list[ReportFigure]:
    """Return the figures of a search that ranks networks: cost, progress, and finally the best network.

    Args:
        trials: The trials that count.
        value: The name of a trial's value; None if trials have several values: no progress is drawn then.
    """
    ranked = findings.ranking
    figures = [ReportFigure("cost", "Accuracy against cost", *draw_cost(ranked, f"Search on {findings.data}"))]
    if value is not None:
        values = [(position(trial), trial.values[0]) for trial in trials if outcome_of(trial) is not None]
        pruned = [position(trial) for trial in trials if trial.state.name == "PRUNED"]
        figures.append(ReportFigure("progress", "Progress", *draw_progress(values, pruned, value)))
    best = draw_network(ranked[0].network, f"The best: {ranked[0].point}")
    return [*figures, ReportFigure("network", "The best network", *best)]


def draw_cost(ranked: Sequence[NetworkResult], title: str) -> tuple[bytes, bytes]:
    """Draw accuracy against multiply-adds of every network, with the Pareto front, labelled by ranks: (SVG, PNG)."""
    kept = front(ranked)
    dots = [(entry.macs, 100 * entry.accuracy) for entry in kept]
    description = f"{title}: accuracy against multiply-adds of {len(ranked)} networks. The Pareto front "
    if kept:
        description += (
            f"has {len(kept)}, from {kept[0].accuracy:.1%} at {format_count(kept[0].macs)} to"
            f" {kept[-1].accuracy:.1%} at {format_count(kept[-1].macs)}."
        )
    else:
        description += "is empty, because no network has an accuracy above 0."
    with canvas(height=5.2) as surface:
        axes = surface.add_subplot()
        axes.set_title("Accuracy against cost")
        axes.set_xlabel("FLOPs (multiply-adds) of one image")
        axes.set_ylabel("top-1, %")
        rest = [entry for entry in ranked if entry not in kept]
        axes.plot(
            [entry.macs for entry in rest], [100 * entry.accuracy for entry in rest], color=OKABE_ITO["blue"],
            marker="s", markersize=5.5, linewidth=0, label="not on the front" if rest else None,
        )  # fmt: skip
        if kept:
            axes.plot(
                *zip(*dots, strict=True), color=OKABE_ITO["vermillion"], marker="o", markersize=7.5, linewidth=2,
                drawstyle="steps-post", label="Pareto front",
            )  # fmt: skip
        log_axis(axes, "x", [entry.macs for entry in ranked], format_count)
        axes.margins(y=0.12)
        axes.legend(loc="lower right", frameon=False, fontsize=10.5)
        labelled = sorted(kept, key=ranked.index)[:_LABELLED]
        labels = [PointLabel(f"no. {ranked.index(one) + 1}", one.macs, 100 * one.accuracy) for one in labelled]
        label_points(axes, labels, curve=_steps(dots))
        return encode(surface, description)


def _steps(dots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of the line through the front."""
    corners = list(dots[:1])
    for x, y in dots[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners


def draw_progress(rewards: Sequence[tuple[int, float]], pruned: Sequence[int], what: str) -> tuple[bytes, bytes]:
    """Draw each trial's value by its position, the best so far, and a mark for each pruned trial: (SVG, PNG)."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  matplotlib is imported when something is drawn

    numbers = [number + 1 for number, _ in rewards]
    values = [value for _, value in rewards]
    best = [max(values[: index + 1]) for index in range(len(values))]
    given_up = [number + 1 for number in pruned]
    last = max(numbers + given_up)
    description = (
        f"Progress: {what} of {len(values)} finished trials. The best is {best[-1]:.4f}, first reached by trial"
        f" {numbers[values.index(best[-1])]}." + (f" {len(given_up)} more were pruned." if given_up else "")
    )
    with canvas(height=4.6) as surface:
        axes = surface.add_subplot()
        axes.set_title("Progress of the search")
        axes.set_xlabel("trial")
        axes.set_ylabel(what)
        axes.plot(
            numbers, values, color=OKABE_ITO["blue"], marker="o", markersize=5.5, linewidth=0, label="a trial", zorder=2
        )
        axes.plot(
            [*numbers, last], [*best, best[-1]], color=OKABE_ITO["vermillion"], linewidth=2.2, drawstyle="steps-post",
            label="best so far", zorder=3,
        )  # fmt: skip
        if given_up:
            axes.plot(
                given_up, [0.02] * len(given_up), color="#595959", marker="|", markersize=9, linewidth=0,
                transform=axes.get_xaxis_transform(), label="pruned",
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(0.5, last + 0.5)
        axes.margins(y=0.12)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.05), frameon=False, fontsize=10.5)
        return encode(surface, description)
