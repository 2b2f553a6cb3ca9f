"""Judging networks in trials: each is trained from scratch for a short time, unless an earlier trial has done so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec
import optuna
from optuna.trial import FrozenTrial

from compoundnet.arch import Network, cost
from compoundnet.base import CompoundNetError
from compoundnet.data import Dataset
from compoundnet.train import Recipe
from compoundnet.trials.outcomes import (
    TrainingJob,
    TrialOutcome,
    data_identity,
    fingerprint,
    measure,
    outcome_of,
    replay,
)
from compoundnet.trials.settings import Settings
from compoundnet.trials.studies import OpenedStudy

MODELS = "models"


class NetworkSearch(Settings, Protocol):
    """Settings of a search that trains networks by one recipe. The recipe's seed is replaced by the job's."""

    @property
    def data(self) -> str:
        """The data, as `open_dataset` takes it."""

    @property
    def recipe(self) -> Recipe: ...

    def networks(self) -> tuple[Network, ...]:
        """Return the networks that will be trained; where a sampler decides, some drawn at random, for the estimate."""

    def propose(self, trial: optuna.Trial) -> TrainingJob:
        """Return the job of the trial's position in a list, or of the choices that the trial suggests."""

    def values(self, outcome: TrialOutcome) -> tuple[float, ...]:
        """Return the trial's values, one for each direction."""


S = TypeVar("S", bound=NetworkSearch)


class NetworkJudge:
    """Trains and judges the networks of a study.

    Args:
        opened: The study.
        dataset: Its data.

    Raises:
        CompoundNetError: The images are not those that the study was begun with.
    """

    def __init__(self, opened: OpenedStudy[S], dataset: Dataset) -> None:
        if data_identity(dataset) != opened.data:
            raise CompoundNetError(
                f"{dataset.name} holds other images here than the study {opened.study.study_name!r} was begun with:"
                " classes, names or counts differ"
            )
        self._opened, self._dataset = opened, dataset
        self._search: NetworkSearch = opened.settings

    def values(self, trial: optuna.Trial) -> Sequence[float]:
        """Train the trial's network and return its values, or raise TrialPruned. The outcome is kept with the trial."""
        job = self._search.propose(trial)
        key = fingerprint(job.network, self._dataset, self._search.recipe, job.seed, job.judged_on)
        described = {"network": job.network.dumps(), "point": job.point, "seed": job.seed, "key": key}
        for name, value in described.items():
            trial.set_user_attr(name, value)
        outcome = self._outcome(trial, job, key)
        trial.set_user_attr("outcome", msgspec.to_builtins(outcome))
        return self._search.values(outcome)

    def describe(self, trial: FrozenTrial) -> str:
        """Return a finished trial in words."""
        outcome = outcome_of(trial)
        if outcome is None:
            said = "pruned"
        elif outcome.diverged:
            said = "diverged"
        else:
            said = f"{outcome.accuracy:.2%} of {outcome.count:,} images, {outcome.seconds:.0f} s"
        return f"{trial.user_attrs['point']}, seed {trial.user_attrs['seed']}: {said}"

    def _outcome(self, trial: optuna.Trial, job: TrainingJob, key: str) -> TrialOutcome:
        """Train, or find what an earlier trial has trained. Raises TrialPruned as the pruner decides."""
        report = _reporting(trial)
        costs = cost(job.network)

        def epoch_done(epoch: int, accuracy: float) -> None:
            # As if training ended here: pruning goes by the value that the trial would end with.
            report(epoch, self._search.values(TrialOutcome(accuracy, 0, costs.macs, costs.params, 0.0))[0])

        if "outcome" in trial.user_attrs:  # a worker was killed just before it could tell the study
            return msgspec.convert(trial.user_attrs["outcome"], TrialOutcome)
        # Complete ones first.
        same = [earlier for earlier in self._opened.counted() if earlier.user_attrs.get("key") == key]
        for earlier in sorted(same, key=lambda earlier: outcome_of(earlier) is None):
            outcome = outcome_of(earlier)
            if outcome is not None:
                replay(outcome, epoch_done)
                return outcome
            for epoch, value in sorted(earlier.intermediate_values.items()):
                report(epoch, value)
        folder = self._opened.database.folder
        return measure(
            job.network, self._dataset, self._search.recipe, seed=job.seed, judged_on=job.judged_on,
            epoch_done=epoch_done,
            keep=folder / MODELS / job.keep if folder is not None and job.keep is not None else None,
        )  # fmt: skip


def _reporting(trial: optuna.Trial) -> Callable[[int, float], None]:
    """Report a value at an epoch, once, and end the trial where the pruner says so."""
    reported: set[int] = set()

    def report(epoch: int, value: float) -> None:
        if len(trial.study.directions) > 1:  # optuna prunes by a single value
            return
        if epoch not in reported:
            reported.add(epoch)
            trial.report(value, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report
