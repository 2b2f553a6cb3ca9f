"""What a search found, as pictures: accuracy against cost, the progress of the reward, the grid of coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compoundnet.base import format_count
from compoundnet.plots.canvas import GRID, INK, OKABE_ITO, QUIET, canvas, encode, log_axis
from compoundnet.plots.labels import Label, label_points
from compoundnet.search.finished import Entry
from compoundnet.search.ranking import front

if TYPE_CHECKING:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    from compoundnet.search.grid import Point

# Labels beyond so many cover the plot.
_LABELLED = 8


def draw_cost(ranked: Sequence[Entry], title: str) -> tuple[bytes, bytes]:
    """Accuracy against multiply-adds of every network, with the Pareto front. Labels are ranks."""
    kept = front(ranked)
    dots = [(entry.macs, 100 * entry.accuracy) for entry in kept]
    description = (
        f"{title}: accuracy against multiply-adds of {len(ranked)} networks. The Pareto front has {len(kept)}, from"
        f" {kept[0].accuracy:.1%} at {format_count(kept[0].macs)} to {kept[-1].accuracy:.1%} at"
        f" {format_count(kept[-1].macs)}."
    )
    with canvas(height=5.2) as surface:
        axes = surface.add_subplot()
        axes.set_title("Accuracy against cost")
        axes.set_xlabel("FLOPs (multiply-adds) of one image")
        axes.set_ylabel("top-1, %")
        rest = [entry for entry in ranked if entry not in kept]
        axes.plot(
            [entry.macs for entry in rest], [100 * entry.accuracy for entry in rest], color=OKABE_ITO["blue"],
            marker="s", markersize=5.5, linewidth=0, label="beaten in both" if rest else None,
        )  # fmt: skip
        axes.plot(
            *zip(*dots, strict=True), color=OKABE_ITO["vermillion"], marker="o", markersize=7.5, linewidth=2,
            drawstyle="steps-post", label="Pareto front",
        )  # fmt: skip
        log_axis(axes, "x", [entry.macs for entry in ranked], format_count)
        axes.margins(y=0.12)
        axes.legend(loc="lower right", frameon=False, fontsize=10.5)
        labelled = sorted(kept, key=ranked.index)[:_LABELLED]
        labels = [Label(f"no. {ranked.index(one) + 1}", one.macs, 100 * one.accuracy) for one in labelled]
        label_points(axes, labels, curve=_steps(dots))
        return encode(surface, description)


def _steps(dots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of the line through the front."""
    corners = [dots[0]]
    for x, y in dots[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners


def draw_progress(rewards: Sequence[tuple[int, float]], pruned: Sequence[int], what: str) -> tuple[bytes, bytes]:
    """Each finished trial's value by its number, the best so far, and a mark for each pruned trial."""
    from matplotlib.ticker import MaxNLocator

    numbers = [number + 1 for number, _ in rewards]
    values = [value for _, value in rewards]
    best = [max(values[: index + 1]) for index in range(len(values))]
    given_up = [number + 1 for number in pruned]
    last = max(numbers + given_up)
    description = (
        f"Progress: {what} of {len(values)} finished trials. The best is {best[-1]:.4f}, first reached by trial"
        f" {numbers[values.index(best[-1])]}." + (f" {len(given_up)} more were given up early." if given_up else "")
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
                transform=axes.get_xaxis_transform(), label="given up early",
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(0.5, last + 0.5)
        axes.margins(y=0.12)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.05), frameon=False, fontsize=10.5)
        return encode(surface, description)


def draw_coefficients(grid: Sequence[tuple[Point, Entry]]) -> tuple[bytes, bytes]:
    """Accuracy over alpha and beta; where several gammas share a cell, the best of them, which the cell names."""
    from matplotlib.colors import Normalize

    best: dict[tuple[float, float], tuple[Point, Entry]] = {}
    for point, entry in grid:
        key = (round(point.coefficients.alpha, 6), round(point.coefficients.beta, 6))
        if key not in best or entry.accuracy > best[key][1].accuracy:
            best[key] = point, entry
    alphas, betas = (sorted({key[axis] for key in best}) for axis in (0, 1))
    accuracies = [100 * entry.accuracy for _, entry in best.values()]
    scale = Normalize(min(accuracies), max(*accuracies, min(accuracies) + 1e-9))
    top = max(best.values(), key=lambda pair: pair[1].accuracy)
    description = (
        f"Accuracy over the grid of coefficients: {len(grid)} points, from {min(accuracies):.1f} % to"
        f" {max(accuracies):.1f} %. Best: {top[0].label}."
    )
    with canvas(height=1.9 + 0.62 * len(betas)) as surface:
        axes = surface.add_subplot()
        axes.set_title("Accuracy over the grid")
        axes.grid(visible=False)
        axes.set_xlabel("alpha (depth)")
        axes.set_ylabel("beta (width)")
        colors = _ramp()
        for (alpha, beta), (point, entry) in best.items():
            share = float(scale(100 * entry.accuracy))
            column, row = alphas.index(alpha), betas.index(beta)
            chosen = point is top[0]
            edge = OKABE_ITO["vermillion"] if chosen else "white"
            axes.add_patch(_cell(column, row, colors(share), edge, 3.0 if chosen else 1.0))
            axes.text(
                column, row, f"{100 * entry.accuracy:.1f} %\nγ {point.coefficients.gamma:.4g}", ha="center",
                va="center", fontsize=9.5, color="white" if share > 0.7 else INK, zorder=4,
            )  # fmt: skip
        axes.set_xlim(-0.6, len(alphas) - 0.4)
        axes.set_ylim(-0.6, len(betas) - 0.4)
        axes.set_xticks(range(len(alphas)), [f"{alpha:.4g}" for alpha in alphas])
        axes.set_yticks(range(len(betas)), [f"{beta:.4g}" for beta in betas])
        axes.annotate(
            "In each cell: top-1, and the gamma (resolution) it is of. Framed: the best.", (0, 0), (0, -46),
            xycoords="axes fraction", textcoords="offset points", fontsize=10, color=QUIET, va="top",
        )  # fmt: skip
        return encode(surface, description)


def _ramp() -> LinearSegmentedColormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("accuracy", [GRID, OKABE_ITO["sky"], OKABE_ITO["blue"]])


def _cell(column: int, row: int, color: Any, edge: str, width: float) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (column - 0.48, row - 0.46), 0.96, 0.92, facecolor=color, edgecolor=edge, linewidth=width,
        zorder=3 if width > 1 else 2,
    )  # fmt: skip
