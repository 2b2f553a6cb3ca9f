"""The grid of a coefficient search as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compoundnet.plots.canvas import GRID, INK, OKABE_ITO, QUIET, canvas, encode
from compoundnet.search.coefficients.grid import CoefficientPoint
from compoundnet.search.network_results import NetworkResult

if TYPE_CHECKING:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle


def draw_coefficients(grid: Sequence[tuple[CoefficientPoint, NetworkResult]]) -> tuple[bytes, bytes]:
    """Draw the accuracy over alpha and beta, in each cell the best gamma and its accuracy: (SVG, PNG)."""
    from matplotlib.colors import Normalize  # noqa: PLC0415  matplotlib is imported when something is drawn

    best: dict[tuple[float, float], tuple[CoefficientPoint, NetworkResult]] = {}
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
            "Each cell: top-1 and its gamma (resolution). Framed: the best.", (0, 0), (0, -46),
            xycoords="axes fraction", textcoords="offset points", fontsize=10, color=QUIET, va="top",
        )  # fmt: skip
        return encode(surface, description)


def _ramp() -> LinearSegmentedColormap:
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415  matplotlib is slow to import

    return LinearSegmentedColormap.from_list("accuracy", [GRID, OKABE_ITO["sky"], OKABE_ITO["blue"]])


def _cell(column: int, row: int, color: Any, edge: str, width: float) -> Rectangle:
    from matplotlib.patches import Rectangle  # noqa: PLC0415  matplotlib is imported when something is drawn

    return Rectangle(
        (column - 0.48, row - 0.46), 0.96, 0.92, facecolor=color, edgecolor=edge, linewidth=width,
        zorder=3 if width > 1 else 2,
    )  # fmt: skip
