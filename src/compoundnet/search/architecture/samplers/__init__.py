"""Samplers that propose networks, by name. Their draws depend only on the seed, the position of the trial and the
finished trials, so that any worker can take over from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler

from compoundnet.search.architecture.samplers.evolution import POPULATION, TOURNAMENT, EvolutionSampler
from compoundnet.search.architecture.samplers.history import Value
from compoundnet.search.architecture.samplers.numbered import NumberedSampler
from compoundnet.search.architecture.samplers.reinforce import ReinforceSampler

SamplerName = Literal["reinforce", "evolution", "nsga2", "random"]

__all__ = ["EvolutionSampler", "NumberedSampler", "ReinforceSampler", "SamplerName", "make_sampler"]


def make_sampler(name: SamplerName, choices: Mapping[str, tuple[Value, ...]], *, seed: int, trials: int) -> BaseSampler:
    """Return a sampler for a space's `choices`, in a search of `trials` trials."""
    match name:
        case "reinforce":
            return ReinforceSampler(choices, seed=seed)
        case "evolution":
            # The first population is random: a quarter of the trials, but enough for tournaments.
            population = max(5, min(POPULATION, trials // 4))
            tournament = round(population * TOURNAMENT / POPULATION)
            return EvolutionSampler(choices, seed=seed, population=population, tournament=tournament)
        case "nsga2":
            # optuna's default population; a smaller one if there are too few trials for several generations.
            population = max(2, min(50, trials // 4))
            return NumberedSampler(lambda draw: NSGAIISampler(population_size=population, seed=draw), seed=seed)
        case "random":
            return NumberedSampler(lambda draw: RandomSampler(seed=draw), seed=seed)
