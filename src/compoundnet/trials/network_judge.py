"""The judge of networks: each is trained from scratch for a short time, unless an earlier trial has already trained
it."""

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
from compoundnet.trials.measurement import (
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
    """Settings of a search that trains networks by one recipe. The seed of the job replaces that of the recipe."""

    @property
    def data(self) -> str:
        """The data set, in the form that `open_dataset` accepts."""

    @property
    def recipe(self) -> Recipe: ...

    def networks(self) -> tuple[Network, ...]:
        """Return the networks to train, for the estimate; if a sampler chooses them, some drawn at random."""

    def propose(self, trial: optuna.Trial) -> TrainingJob:
        """Return the training job of a trial, from its position in a list or from the choices that it suggests."""

    def values(self, outcome: TrialOutcome) -> tuple[float, ...]:
        """Return the values of the trial, one for each direction."""


S = TypeVar("S", bound=NetworkSearch)


class NetworkJudge:
    """Trains and judges the networks of a study.

    Args:
        opened: The opened study.
        dataset: The data set of the study.

    Raises:
        CompoundNetError: The images differ from those that the study was begun with.
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
        """Train the network, store the outcome with the trial and return its values, or raise TrialPruned."""
        job = self._search.propose(trial)
        key = fingerprint(job.network, self._dataset, self._search.recipe, job.seed, job.judged_on)
        described = {"network": job.network.dumps(), "point": job.point, "seed": job.seed, "key": key}
        for name, value in described.items():
            trial.set_user_attr(name, value)
        outcome = self._outcome(trial, job, key)
        trial.set_user_attr("outcome", msgspec.to_builtins(outcome))
        return self._search.values(outcome)

    def describe(self, trial: FrozenTrial) -> str:
        """Return a one-line description of a finished trial."""
        outcome = outcome_of(trial)
        if outcome is None:
            said = "pruned"
        elif outcome.diverged:
            said = "diverged"
        else:
            said = f"{outcome.accuracy:.2%} of {outcome.count:,} images, {outcome.seconds:.0f} s"
        return f"{trial.user_attrs['point']}, seed {trial.user_attrs['seed']}: {said}"

    def _outcome(self, trial: optuna.Trial, job: TrainingJob, key: str) -> TrialOutcome:
        """Train the network, or reuse the outcome of an earlier trial. Raise TrialPruned if the pruner decides so."""
        report = _reporting(trial)
        costs = cost(job.network)

        def epoch_done(epoch: int, accuracy: float) -> None:
            # The value as if training ended here: the pruner compares the values with which trials would end.
            report(epoch, self._search.values(TrialOutcome(accuracy, 0, costs.macs, costs.params, 0.0))[0])

        if "outcome" in trial.user_attrs:  # a worker was killed just before it stored the result in the study
            return msgspec.convert(trial.user_attrs["outcome"], TrialOutcome)
        # Complete trials first.
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
    """Report the value of an epoch, once, and end the trial if the pruner decides so."""
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
