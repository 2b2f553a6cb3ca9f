"""The results of a coefficient search: the ranking of its points, whether the best one is significantly better, and
result.toml."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from compoundnet.arch import FoundCoefficients
from compoundnet.base import CompoundNetError, format_count
from compoundnet.search.coefficients.grid import CoefficientPoint
from compoundnet.search.coefficients.grid_plot import draw_coefficients
from compoundnet.search.coefficients.settings import CoefficientSearch
from compoundnet.search.findings import Findings, ReportFigure, ranked_findings
from compoundnet.search.network_results import NetworkResult, network_results, ranking
from compoundnet.search.plots import ranking_figures
from compoundnet.trials.statistics import difference, standard_error

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# The largest ratio of multiply-adds that points on opposite edges of the tolerance (1.9 and 2.1) can explain.
_UNEVEN = 1.25


def find(settings: CoefficientSearch, trials: Sequence[FrozenTrial]) -> Findings:
    """Return the findings of the counted trials."""
    ranked = ranking(network_results(trials))
    if not ranked:
        said = ""
    elif all(result.reached is None for result in ranked):
        said = "Every training diverged, so there is nothing to rank."
    else:
        said = verdict(settings, trials)
    notes = [point.note for point in settings.points] + [result.note for result in ranked]
    return ranked_findings(settings, trials, ranked, verdict=said, notes=[note for note in notes if note])


def figures(settings: CoefficientSearch, trials: Sequence[FrozenTrial], findings: Findings) -> list[ReportFigure]:
    """Return the figures of the report: accuracy against cost, progress, the grid, the best network."""
    *before, network = ranking_figures(findings, trials, "top-1, a fraction")
    grid = [(point_of(settings, result), result) for result in findings.ranking]
    return [*before, ReportFigure("coefficients", "Grid", *draw_coefficients(grid)), network]


def point_of(settings: CoefficientSearch, result: NetworkResult) -> CoefficientPoint:
    """Return the point to which the network of a result belongs."""
    return settings.points[result.position % len(settings.points)]


def verdict(settings: CoefficientSearch, trials: Sequence[FrozenTrial]) -> str:
    """Return, in a sentence or two, whether the best point is better than the others.

    Raises:
        CompoundNetError: No trial is finished, or every training diverged.
    """
    ranked = ranking(network_results(trials))
    if not ranked:
        raise CompoundNetError("no trial is finished yet, so there is nothing to rank")
    best, *others = ranked
    if best.reached is None:
        raise CompoundNetError(
            f"every training diverged, so there is nothing to rank; give a lower learning rate"
            f" (--set lr={settings.recipe.lr / 3:.2g}) and another output (-o)"
        )
    level = [other for other in others if difference(best.sample, other.sample).sign == 0]
    if not others:
        return f"{best.point} with {_percent(best)} is the only point. {_noise(best)}"
    if not level:
        text = f"The best, {best.point} with {_percent(best)}, is separable from all others (95 % confidence)."
    else:
        which = "the other point" if len(others) == 1 else f"{len(level)} of the {len(others)} others"
        text = (
            f"The best, {best.point} with {_percent(best)}, is not separable from {which}"
            f" (95 % confidence); the next is {level[0].point} with {_percent(level[0])}. The difference may be"
            " noise."
        )
    diverged = f"{best.note}." if best.note else ""
    return " ".join(part for part in (text, _noise(best), diverged, _uneven(ranked)) if part)


def result(settings: CoefficientSearch, trials: Sequence[FrozenTrial]) -> str:
    """Return result.toml: alpha, beta, gamma and their baseline network, as `scale --coefficients` reads it."""
    said = verdict(settings, trials)
    best = point_of(settings, ranking(network_results(trials))[0]).coefficients
    about = f"On {settings.data}, recipe {settings.recipe.name}, phi {settings.phi:g}, {settings.seeds} seed(s). {said}"
    found = FoundCoefficients(best.alpha, best.beta, best.gamma, settings.network, about)
    return msgspec.toml.encode(found).decode()


def _percent(result: NetworkResult) -> str:
    return f"{result.accuracy:.2%} ± {standard_error(result.sample):.2%}"


def _uneven(ranked: list[NetworkResult]) -> str:
    """Rounding in a small network defeats the purpose of the constraint, equal cost."""
    costs = [result.macs for result in ranked]
    if max(costs) <= _UNEVEN * min(costs):
        return ""
    return (
        f"Because of rounding the points cost between {format_count(min(costs))} and {format_count(max(costs))}"
        " multiply-adds, so a better one may only be a more expensive one."
    )


def _noise(best: NetworkResult) -> str:
    judged = f"judged on {best.sample.images:,} images"
    if best.seeds == 1:
        return (
            f"± is the binomial standard error of one run {judged}; it excludes the variance between seeds, which"
            " --seeds 3 would show."
        )
    return f"± is the standard error over {best.seeds} seeds, {judged}."
