"""Wrappers of optuna's samplers, whose random numbers depend on the trial's position instead of on the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from compoundnet.trials.settings import position

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, TrialState


class NumberedSampler(BaseSampler):
    """A sampler that is created anew for each trial.

    Args:
        make: Returns a sampler for a seed.
        seed: Determines that seed, together with the position of the trial.
    """

    def __init__(self, make: Callable[[int], BaseSampler], *, seed: int) -> None:
        self._make, self._seed = make, seed
        self._made: tuple[int, BaseSampler] | None = None

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if self._made is None or self._made[0] != position(trial):
            drawn = np.random.SeedSequence([self._seed, position(trial)]).generate_state(1)[0]
            self._made = position(trial), self._make(int(drawn))
        return self._made[1]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # NSGA-II writes the parents of a generation into the study and later reads them in a different order. Called
        # twice, it always uses the order it reads, so an interrupted trial is drawn the same again.
        self._of(trial).sample_relative(study, trial, search_space)
        self._made = None
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._of(trial).after_trial(study, trial, state, values)
