"""Studies whose trials have made-up accuracies: what is shown of a search, without training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import optuna
from optuna.trial import FrozenTrial, create_trial

from compoundnet.arch import cost
from compoundnet.search import Search
from compoundnet.trials import OpenedStudy, TrainingJob, TrialOutcome, create_study, work

Accuracy = Callable[[TrainingJob], float]


class Numbered(NamedTuple):
    """All that a search of a list asks of a trial."""

    number: int

    @property
    def user_attrs(self) -> dict[str, Any]:
        return {}


class ToldJudge:
    """Sets made-up accuracies, one below 0 being a training that diverged; prunes from a position on."""

    def __init__(self, search: Search, accuracy: Accuracy, complete: int) -> None:
        self._search, self._accuracy, self._complete = search, accuracy, complete

    def values(self, trial: optuna.Trial) -> Sequence[float]:
        attributes, values = _told(self._search, self._search.propose(trial), self._accuracy)
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        if trial.number >= self._complete:
            raise optuna.TrialPruned
        return values

    def describe(self, trial: FrozenTrial) -> str:
        return str(trial.number)


def told_trials(search: Search, accuracy: Accuracy) -> list[FrozenTrial]:
    """Every trial of a search of a list, finished."""
    trials = []
    for number in range(search.trials()):
        trial: Any = Numbered(number)
        attributes, values = _told(search, search.propose(trial), accuracy)
        trials.append(create_trial(values=values, user_attrs=attributes))
    return trials


def told_study(
    search: Search, folder: Path, accuracy: Accuracy, *, trials: int | None = None, pruned: int = 0
) -> OpenedStudy[Search]:
    """In a folder: the first `trials` (all, by default) finished, the last `pruned` of them before their end."""
    opened = create_study(search, "made-up", folder)
    count = search.trials() if trials is None else trials
    left = iter(range(count))
    work(opened, ToldJudge(search, accuracy, count - pruned), go_on=lambda: next(left, None) is not None)
    return opened


def _told(search: Search, job: TrainingJob, accuracy: Accuracy) -> tuple[dict[str, Any], list[float]]:
    value, costs = accuracy(job), cost(job.network)
    outcome = TrialOutcome(max(0.0, value), 1000, costs.macs, costs.params, 1.0, diverged=value < 0)
    attributes = {
        "network": job.network.dumps(), "point": job.point, "seed": job.seed, "outcome": msgspec.to_builtins(outcome)
    }  # fmt: skip
    return attributes, list(search.values(outcome))
