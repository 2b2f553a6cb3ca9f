"""The results of an architecture search: its networks by reward, and the best one as result.toml."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compoundnet.base import CompoundNetError, format_count
from compoundnet.search.architecture.settings import ArchitectureSearch
from compoundnet.search.findings import Findings, ReportFigure, ranked_findings
from compoundnet.search.network_results import NetworkResult, front, network_results
from compoundnet.search.plots import ranking_figures

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def find(settings: ArchitectureSearch, trials: Sequence[FrozenTrial]) -> Findings:
    """Return the findings of the counted trials."""
    ranked = ranking(settings, trials)
    return ranked_findings(settings, trials, ranked, rewards=[reward(settings, result) for result in ranked])


def figures(settings: ArchitectureSearch, trials: Sequence[FrozenTrial], findings: Findings) -> list[ReportFigure]:
    """Return the figures of the report: accuracy against cost, progress, the best network."""
    return ranking_figures(findings, trials, None if settings.pareto else "reward")


def ranking(settings: ArchitectureSearch, trials: Sequence[FrozenTrial]) -> list[NetworkResult]:
    """Return the networks by reward, best first; among equal rewards the cheapest first. A Pareto search is ranked the
    same way."""
    return sorted(network_results(trials), key=lambda result: (-reward(settings, result), result.macs))


def reward(settings: ArchitectureSearch, result: NetworkResult) -> float:
    """Return the reward of a network whose training was completed."""
    return settings.objective.reward(result.accuracy, result.macs)


def result(settings: ArchitectureSearch, trials: Sequence[FrozenTrial]) -> str:
    """Return result.toml: the best network by reward, readable as NETWORK, with its measurements as comments.

    Raises:
        CompoundNetError: No network's training was completed.
    """
    found = ranking(settings, trials)
    if not found or found[0].reached is None:
        raise CompoundNetError(
            f"none of the {settings.proposals} proposed networks was trained to its end, so there is no best one: give"
            " another recipe, or --pruner none"
        )
    target = f"{format_count(settings.objective.target_macs)})^{settings.objective.exponent:g}"
    lines = [
        f"Found by compoundnet search architecture on {settings.data}, space {settings.space.name}, recipe"
        f" {settings.recipe.name}, sampler {settings.sampling}, {settings.proposals} trials, seed {settings.seed}.",
        f"Reward: accuracy * (multiply-adds / {target}. Accuracy on held-out training images.",
        _line(settings, found[0]),
    ]
    if settings.pareto:
        lines.append("Networks that no other beats in accuracy and multiply-adds:")
        lines += [_line(settings, result) for result in front(found)]
    return "".join(f"# {' '.join(line.split())}\n" for line in lines) + found[0].network.dumps()


def _line(settings: ArchitectureSearch, result: NetworkResult) -> str:
    return (
        f"{result.network.name}: accuracy {result.accuracy:.2%} of {result.sample.images:,} images,"
        f" {format_count(result.macs)} multiply-adds, {format_count(result.params)} parameters, reward"
        f" {reward(settings, result):.4f}"
    )
