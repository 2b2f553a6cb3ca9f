"""What the trials of a search have measured, network by network; their ranking, and the Pareto front among them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from compoundnet.arch import Network
from compoundnet.base import format_count
from compoundnet.trials.outcomes import outcome_of
from compoundnet.trials.settings import position
from compoundnet.trials.statistics import AccuracySample, Interval, interval, mean, percent

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class NetworkResult(msgspec.Struct, frozen=True):
    """A network with its finished trials, one for each seed.

    Attributes:
        point: The network in words.
        position: Of its first trial, which in a list of points says which one it is.
        values: Of its trials, each the mean over them.
        sample: Its accuracies without those of trainings that diverged; None where all have diverged.
        macs: Multiply-adds of one image.
        params: Parameters.
        seeds: Trials.
        diverged: How many of them diverged.
    """

    point: str
    position: int
    network: Network
    values: tuple[float, ...]
    sample: AccuracySample | None
    macs: int
    params: int
    seeds: int
    diverged: int

    @property
    def accuracy(self) -> float:
        """Mean over seeds; 0 where every training diverged."""
        return mean(self.sample.accuracies) if self.sample is not None else 0.0

    @property
    def interval(self) -> Interval | None:
        """Of the accuracy."""
        return interval(self.sample) if self.sample is not None else None


def network_results(trials: Sequence[FrozenTrial]) -> list[NetworkResult]:
    """Return the networks that at least one of the counted trials has finished, in the order of their first trials.

    A sampler may propose a network twice with one seed: that is one training.
    """
    by_network: dict[str, dict[int, FrozenTrial]] = {}
    for trial in trials:
        if outcome_of(trial) is not None:
            by_network.setdefault(trial.user_attrs["network"], {}).setdefault(trial.user_attrs["seed"], trial)
    return [_result(text, list(same.values())) for text, same in by_network.items()]


def ranking(found: Sequence[NetworkResult]) -> list[NetworkResult]:
    """Return the networks from the most accurate one down; of equally accurate ones the cheaper first."""
    return sorted(found, key=lambda result: (-result.values[0], result.macs))


def front(found: Sequence[NetworkResult]) -> list[NetworkResult]:
    """Return the Pareto front, from the cheapest network up: every cheaper one is less accurate."""
    best, kept = -1.0, []
    for result in sorted(found, key=lambda result: (result.macs, -result.accuracy)):
        if result.accuracy > best:
            best = result.accuracy
            kept.append(result)
    return kept


def cells(result: NetworkResult, reward: float | None) -> tuple[str, ...]:
    """Return a row for people: point, reward where there is one, accuracy, cost, size, seeds."""
    counts = (format_count(result.macs), format_count(result.params), str(result.seeds))
    return (
        result.point, *(() if reward is None else (f"{reward:.4f}",)), percent(result.interval) or "diverged", *counts
    )  # fmt: skip


def headings(reward: bool) -> tuple[str, ...]:
    """Return the headings of `cells`."""
    rewards = (">reward",) if reward else ()
    return ("point", *rewards, ">top-1 (95 % interval)", ">FLOPs (multiply-adds)", ">parameters", ">seeds")


def comma_separated(ranked: Sequence[NetworkResult]) -> str:
    """Return everything with all digits, as CSV."""
    kept = front(ranked)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["rank", "point", "network", "values", "accuracy", "low", "high", "macs", "params", "seeds", "pareto"]
    )
    for rank, result in enumerate(ranked, start=1):
        between = result.interval
        writer.writerow(
            [rank, result.point, result.network.name, " ".join(map(repr, result.values)), result.accuracy,
             *((between.low, between.high) if between else ("", "")), result.macs, result.params, result.seeds,
             result in kept]
        )  # fmt: skip
    return text.getvalue()


def _result(text: str, trials: list[FrozenTrial]) -> NetworkResult:
    outcomes = [outcome for trial in trials if (outcome := outcome_of(trial)) is not None]
    accuracies = tuple(one.accuracy for one in outcomes if not one.diverged)
    values = tuple(mean(column) for column in zip(*(trial.values for trial in trials), strict=True))
    return NetworkResult(
        trials[0].user_attrs["point"], position(trials[0]), Network.loads(text), values,
        AccuracySample(accuracies, outcomes[0].count) if accuracies else None,
        outcomes[0].macs, outcomes[0].params, len(trials), len(outcomes) - len(accuracies),
    )  # fmt: skip
