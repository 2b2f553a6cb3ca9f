"""The measurements of a search for each network, the ranking of the networks, and their Pareto front."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from compoundnet.arch import Network
from compoundnet.base import format_count
from compoundnet.trials.measurement import outcome_of
from compoundnet.trials.settings import position
from compoundnet.trials.statistics import AccuracySample, Interval, interval, mean, percent

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class NetworkResult(msgspec.Struct, frozen=True):
    """A network with its finished trials, one for each seed.

    Attributes:
        point: A description of the network.
        position: The position of its first trial, which identifies its point in a list of points.
        values: The values of its trials, each averaged over the trials.
        sample: Its accuracies, with 0 for each training that diverged. They decide its place in a ranking.
        reached: Its accuracies without those of diverged trainings, which a scaling study compares; None if all have
            diverged.
        macs: Multiply-adds of one image.
        params: Parameters.
        seeds: The number of trials, one for each seed.
        diverged: The number of trials that diverged.
    """

    point: str
    position: int
    network: Network
    values: tuple[float, ...]
    sample: AccuracySample
    reached: AccuracySample | None
    macs: int
    params: int
    seeds: int
    diverged: int

    @property
    def accuracy(self) -> float:
        """The mean accuracy over seeds; a training that diverged counts as 0."""
        return mean(self.sample.accuracies)

    @property
    def interval(self) -> Interval | None:
        """The confidence interval of the accuracy; None if every training diverged."""
        return interval(self.sample) if self.reached is not None else None

    @property
    def note(self) -> str:
        """How many of its trainings diverged, in words; empty if none or all did, which its accuracy shows."""
        if not self.diverged or self.reached is None:
            return ""
        counts = "count" if self.diverged > 1 else "counts"
        return f"{self.diverged} of {self.seeds} trainings of {self.point} diverged and {counts} with accuracy 0"


def network_results(trials: Sequence[FrozenTrial]) -> list[NetworkResult]:
    """Return the networks with at least one counted trial, in the order of their first trials.

    If a sampler proposes a network twice with the same seed, this counts as one training.
    """
    by_network: dict[str, dict[int, FrozenTrial]] = {}
    for trial in trials:
        if outcome_of(trial) is not None:
            by_network.setdefault(trial.user_attrs["network"], {}).setdefault(trial.user_attrs["seed"], trial)
    return [_result(text, list(same.values())) for text, same in by_network.items()]


def ranking(found: Sequence[NetworkResult]) -> list[NetworkResult]:
    """Return the networks in order of decreasing accuracy; among equally accurate ones the cheaper first."""
    return sorted(found, key=lambda result: (-result.accuracy, result.macs))


def front(found: Sequence[NetworkResult]) -> list[NetworkResult]:
    """Return the Pareto front, the networks than which no cheaper one is as accurate, from the cheapest up.

    A network without a correct prediction, such as one whose training diverged, is never on it.
    """
    best, kept = 0.0, []
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
    """Return all results with all digits, as CSV."""
    kept = front(ranked)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "rank",
            "point",
            "network",
            "values",
            "accuracy",
            "low",
            "high",
            "macs",
            "params",
            "seeds",
            "diverged",
            "pareto",
        ]
    )
    for rank, result in enumerate(ranked, start=1):
        between = result.interval
        writer.writerow(
            [rank, result.point, result.network.name, " ".join(map(repr, result.values)), result.accuracy,
             *((between.low, between.high) if between else ("", "")), result.macs, result.params, result.seeds,
             result.diverged, result in kept]
        )  # fmt: skip
    return text.getvalue()


def _result(text: str, trials: list[FrozenTrial]) -> NetworkResult:
    outcomes = [outcome for trial in trials if (outcome := outcome_of(trial)) is not None]
    # An outcome of a diverged training has accuracy 0.
    sample = AccuracySample(tuple(one.accuracy for one in outcomes), outcomes[0].count)
    reached = tuple(one.accuracy for one in outcomes if not one.diverged)
    values = tuple(mean(column) for column in zip(*(trial.values for trial in trials), strict=True))
    return NetworkResult(
        trials[0].user_attrs["point"], position(trials[0]), Network.loads(text), values,
        sample, AccuracySample(reached, sample.images) if reached else None,
        outcomes[0].macs, outcomes[0].params, len(trials), len(outcomes) - len(reached),
    )  # fmt: skip
