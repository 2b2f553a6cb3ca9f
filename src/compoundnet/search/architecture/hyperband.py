"""Hyperband (Li et al. 2018) for searches that are interrupted, and for samplers that learn from all trials."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner, HyperbandPruner
from optuna.trial import FrozenTrial, TrialState

from compoundnet.trials.settings import position

if TYPE_CHECKING:
    from optuna import Study

# No bracket holds a failed trial: another one takes its position.
_NONE = -1


class PositionHyperband(BasePruner):
    """optuna's Hyperband, with the bracket of a trial decided by its position.

    It is no `HyperbandPruner` itself, because optuna shows a sampler only the trials of one bracket if the study's
    pruner is one. Samplers here learn from all trials.

    Args:
        epochs: The epochs of a training to its end.
    """

    def __init__(self, epochs: int) -> None:
        self._brackets = _Brackets(min_resource=1, max_resource=epochs)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial is behind those of its bracket."""
        return self._brackets.prune(study, trial)


class _Brackets(HyperbandPruner):
    """Brackets by position. optuna's go by the number of the trial, and a repeated trial has another number."""

    def _get_bracket_id(self, study: Study, trial: FrozenTrial) -> int:
        if trial.state == TrialState.FAIL:
            return _NONE
        placed = copy.copy(trial)
        placed.number = position(trial)
        return super()._get_bracket_id(study, placed)
