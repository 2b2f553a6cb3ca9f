"""The history from which samplers learn: the finished trials of a study as numbers, in order of position."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from compoundnet.trials.positions import counted
from compoundnet.trials.settings import position

if TYPE_CHECKING:
    from optuna import Study

Value = str | int | float
# How often a sampler draws again after drawing a known network, from which it could not learn anything.
_REDRAWS = 20


class HistorySampler(BaseSampler, abc.ABC):
    """A sampler that draws all choices at once, with `drawer`, based on the finished trials that did not fail.

    Args:
        choices: The options of each choice.
        seed: Determines the random numbers, together with the position of the trial.
    """

    def __init__(self, choices: Mapping[str, tuple[Value, ...]], *, seed: int) -> None:
        self._choices = dict(choices)
        self._seed = seed
        self._space: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(options) for name, options in choices.items()
        }
        self._positions = [
            (name, {option: position for position, option in enumerate(options)}) for name, options in choices.items()
        ]
        self.options = np.array([len(options) for options in choices.values()], dtype=np.int64)

    @abc.abstractmethod
    def drawer(
        self, picks: NDArray[np.int64], rewards: NDArray[np.float64]
    ) -> Callable[[np.random.Generator], NDArray[np.int64]]:
        """Return a function that draws proposals, each int[choices].

        Args:
            picks: int[trials, choices], of the finished trials: the index of each choice's option.
            rewards: float[trials], higher is better; nan for a pruned trial.
        """

    def propose(
        self, picks: NDArray[np.int64], rewards: NDArray[np.float64], random: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw a proposal; while it is already known, draw again, each time with more choices made at random."""
        draw = self.drawer(picks, rewards)
        known = set(map(tuple, picks.tolist()))
        for again in range(_REDRAWS):
            at_random = random.random(len(self.options)) < again / _REDRAWS
            drawn = np.where(at_random, random.integers(self.options), draw(random))
            if tuple(drawn.tolist()) not in known:
                break
        return drawn

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002  # optuna's signature, as below
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        if len(study.directions) != 1:
            raise ValueError(f"{type(self).__name__} maximises one value; this study has {len(study.directions)}")
        picks, rewards = self._history(study)
        drawn = self.propose(picks, rewards, np.random.default_rng([self._seed, position(trial)]))
        return {name: options[pick] for (name, options), pick in zip(self._choices.items(), drawn, strict=True)}

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002
    ) -> Any:
        raise ValueError(f"{param_name} is none of the sampler's choices, or has other options there")

    def _history(self, study: Study) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        picks: list[list[int]] = []
        rewards: list[float] = []
        for trial in counted(study.get_trials(deepcopy=False)):
            params = trial.params
            try:
                picks.append([positions[params[name]] for name, positions in self._positions])
            except KeyError:  # a trial of another program, with other choices
                continue
            complete = trial.state == TrialState.COMPLETE
            rewards.append(sign * trial.value if complete and trial.value is not None else np.nan)
        shape = (len(picks), len(self.options))
        return np.array(picks, dtype=np.int64).reshape(shape), np.array(rewards, dtype=np.float64)
