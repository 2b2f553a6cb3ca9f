"""Regularised evolution (Real et al. 2019, Algorithm 1): the winner of a tournament is mutated, the oldest die."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from compoundnet.search.architecture.samplers.history import HistorySampler, Value

# The best values of the paper were 100 and 25 for 20,000 trials; these were selected for hundreds (docs/search.md).
POPULATION = 25
TOURNAMENT = 10


class EvolutionSampler(HistorySampler):
    """Regularised evolution of the last finished trials by position; draws are random until there are enough of
    them."""

    def __init__(
        self,
        choices: Mapping[str, tuple[Value, ...]],
        *,
        seed: int,
        population: int = POPULATION,
        tournament: int = TOURNAMENT,
    ) -> None:
        super().__init__(choices, seed=seed)
        if not 1 <= tournament <= population:
            raise ValueError(f"a tournament holds 1 to population ({population}) members, got {tournament}")
        self._population, self._tournament = population, tournament

    def drawer(
        self, picks: NDArray[np.int64], rewards: NDArray[np.float64]
    ) -> Callable[[np.random.Generator], NDArray[np.int64]]:
        if len(picks) < self._population:
            return lambda random: random.integers(self.options)
        alive = picks[-self._population :]
        # A pruned trial loses against any other.
        fitness = np.nan_to_num(rewards[-self._population :], nan=-np.inf)

        def draw(random: np.random.Generator) -> NDArray[np.int64]:
            rivals = random.choice(self._population, self._tournament, replace=False)
            child: NDArray[np.int64] = alive[rivals[fitness[rivals].argmax()]].copy()
            mutated = random.integers(len(child))
            child[mutated] = (child[mutated] + random.integers(1, self.options[mutated])) % self.options[mutated]
            return child

        return draw
