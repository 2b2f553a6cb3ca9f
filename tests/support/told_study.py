"""Studies whose trials are told made-up accuracies: what is shown of a search, without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from compoundnet.arch import cost
from compoundnet.search.measuring import Measured
from compoundnet.search.settings import Job, Search
from compoundnet.search.storage import Opened, create_study


class Numbered(NamedTuple):
    """All that a listed search asks of a trial."""

    number: int


def told_trials(search: Search, accuracy: Callable[[Job], float]) -> list[FrozenTrial]:
    """Every trial of a listed search, finished. An accuracy below 0 is a training that diverged."""
    trials = []
    for number in range(search.trials()):
        trial: Any = Numbered(number)
        attributes, values = _told(search, search.propose(trial), accuracy)
        trials.append(create_trial(values=values, user_attrs=attributes))
    return trials


def told_study(
    search: Search, folder: Path, accuracy: Callable[[Job], float], *, trials: int | None = None, pruned: int = 0
) -> Opened:
    """In a folder: the first `trials` (all, by default) finished, the last `pruned` of them before their end."""
    opened = create_study(search, "made-up", folder)
    count = search.trials() if trials is None else trials
    for number in range(count):
        opened.study.sampler = search.sampler()
        trial: optuna.Trial = opened.study.ask()
        attributes, values = _told(search, search.propose(trial), accuracy)
        given_up = number >= count - pruned
        for name, value in attributes.items():
            if name != "measured" or not given_up:
                trial.set_user_attr(name, value)
        opened.study.tell(trial, None if given_up else values, TrialState.PRUNED if given_up else None)
    return opened


def _told(search: Search, job: Job, accuracy: Callable[[Job], float]) -> tuple[dict[str, Any], list[float]]:
    value, costs = accuracy(job), cost(job.network)
    measured = Measured(max(0.0, value), 1000, costs.macs, costs.params, 1.0, diverged=value < 0)
    attributes = {
        "network": job.network.dumps(), "point": job.point, "seed": job.seed, "measured": msgspec.to_builtins(measured)
    }  # fmt: skip
    return attributes, list(search.values(job, measured))
