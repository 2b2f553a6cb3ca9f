"""The settings of the search for a baseline (section 4): networks of a space, proposed by a sampler, each trained for a
short time, and rated by the multi-objective reward, or by accuracy and cost separately."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from compoundnet.arch import Network
from compoundnet.base import check
from compoundnet.search.architecture.objective import Objective
from compoundnet.search.architecture.space import Space
from compoundnet.train.recipe import Recipe
from compoundnet.trials.measurement import TrainingJob, TrialOutcome

if TYPE_CHECKING:
    import optuna

# Networks drawn for the estimate of a search's cost.
_DRAWN = 20
# The median pruner prunes nothing before so many trials are finished, nor in the first part of the epochs.
_STARTUP_TRIALS, _WARMUP = 5, 1 / 3


class ArchitectureSearch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="architecture"):
    """A search for a baseline.

    Attributes:
        space: The networks to choose from, with the data's classes in its base.
        data: The data set, in the form that `open_dataset` accepts.
        recipe: The recipe of every training.
        objective: The reward.
        proposals: The number of trials. A network that is proposed again counts, with its earlier value.
        sampling: The sampler that proposes networks.
        pruning: "median" stops the training of a network whose reward is below the median at its epoch; "hyperband":
            Li et al. 2018, with brackets by position.
        pareto: Two values, accuracy and multiply-adds, instead of the reward. The result is still the network with the
            best reward.
        seed: The seed of the sampler, and of the weights of every network.
    """

    space: Space
    data: str
    recipe: Recipe
    objective: Objective
    proposals: int = 100
    sampling: Literal["reinforce", "evolution", "nsga2", "random"] = "reinforce"
    pruning: Literal["median", "hyperband", "none"] = "median"
    pareto: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.proposals >= 1, f"trials must be at least 1, got {self.proposals}")
        check(self.seed >= 0, f"seed must not be negative, got {self.seed}")
        check(self.space.size() > 1, f"the space {self.space.name} holds one network: there is nothing to choose")
        if self.pareto:
            check(
                self.sampling in ("nsga2", "random"),
                f"{self.sampling} maximises one reward; a Pareto search needs the sampler nsga2 or random",
            )
            check(self.pruning == "none", "a Pareto search has no single value to prune by; give the pruner none")
        check(
            self.pruning == "none" or self.recipe.epochs > 0,
            f"the pruner {self.pruning} compares networks epoch by epoch, and the recipe gives steps; set epochs, or"
            " give the pruner none",
        )
        self.objective.check_meets(self.space)

    def trials(self) -> int:
        """Return the number of proposals."""
        return self.proposals

    def params(self) -> list[dict[str, float]]:
        """Return nothing: the sampler draws the choices."""
        return []

    def networks(self) -> tuple[Network, ...]:
        """Return some networks, drawn at random, for the estimate."""
        drawn = random.Random(self.seed)
        choices = self.space.choices()
        return tuple(
            self.space.network({name: drawn.choice(options) for name, options in choices.items()})
            for _ in range(min(_DRAWN, self.proposals))
        )

    def sampler(self) -> optuna.samplers.BaseSampler:
        """Return a new sampler."""
        from compoundnet.search.architecture.samplers import make_sampler  # noqa: PLC0415  imports optuna: slow

        return make_sampler(self.sampling, self.space.choices(), seed=self.seed, trials=self.proposals)

    def pruner(self) -> optuna.pruners.BasePruner:
        """Return the pruner."""
        from optuna.pruners import MedianPruner, NopPruner  # noqa: PLC0415  optuna, as above

        from compoundnet.search.architecture.hyperband import PositionHyperband  # noqa: PLC0415  optuna, as above

        epochs = max(1, round(self.recipe.epochs))
        match self.pruning:
            case "median":
                return MedianPruner(_STARTUP_TRIALS, n_warmup_steps=int(epochs * _WARMUP) + 1)
            case "hyperband":
                return PositionHyperband(epochs)
            case "none":
                return NopPruner()

    def directions(self) -> list[str]:
        """Return the direction of the reward, or of accuracy and multiply-adds."""
        return ["maximize", "minimize"] if self.pareto else ["maximize"]

    def propose(self, trial: optuna.Trial) -> TrainingJob:
        """Return the network of the choices that the trial suggests."""
        choices = self.space.choices()
        drawn: dict[str, Any] = {name: trial.suggest_categorical(name, choices[name]) for name in choices}
        network = self.space.network(drawn)
        return TrainingJob(network, self.seed, network.name)

    def values(self, outcome: TrialOutcome) -> tuple[float, ...]:
        """Return the reward, or accuracy and multiply-adds."""
        if self.pareto:
            return outcome.accuracy, float(outcome.macs)
        return (self.objective.reward(outcome.accuracy, outcome.macs),)
