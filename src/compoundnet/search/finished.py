"""What the trials of a study have measured, network by network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from compoundnet.arch import Network
from compoundnet.trials.measuring import outcome_of
from compoundnet.trials.statistics import Interval, Sample, interval, mean

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class Entry(msgspec.Struct, frozen=True):
    """A network with its finished trials, one for each seed.

    point    what the search calls it
    values   what the study was told of it, each the mean over its trials
    sample   its accuracies, diverged trainings left out; None where all have diverged
    """

    point: str
    network: Network
    values: tuple[float, ...]
    sample: Sample | None
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


def entries(trials: Sequence[FrozenTrial]) -> list[Entry]:
    """The networks that at least one of the counted trials has finished, in the order of their first trials. A sampler
    may propose a network twice with one seed: that is one training."""
    by_network: dict[str, dict[int, FrozenTrial]] = {}
    for trial in trials:
        if outcome_of(trial) is not None:
            by_network.setdefault(trial.user_attrs["network"], {}).setdefault(trial.user_attrs["seed"], trial)
    return [_entry(text, list(same.values())) for text, same in by_network.items()]


def _entry(text: str, trials: list[FrozenTrial]) -> Entry:
    outcomes = [outcome for trial in trials if (outcome := outcome_of(trial)) is not None]
    accuracies = tuple(one.accuracy for one in outcomes if not one.diverged)
    values = tuple(mean(column) for column in zip(*(trial.values for trial in trials), strict=True))
    return Entry(
        trials[0].user_attrs["point"], Network.loads(text), values,
        Sample(accuracies, outcomes[0].count) if accuracies else None,
        outcomes[0].macs, outcomes[0].params, len(trials), len(outcomes) - len(accuracies),
    )  # fmt: skip
