"""The settings of STEP 1 of section 4: the alpha, beta, gamma of a baseline, by training each point of a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoundnet.arch import Network
from compoundnet.base import check
from compoundnet.search.coefficients.grid import DEFAULT_GRID, DEFAULT_TOLERANCE, CoefficientPoint, points
from compoundnet.train.recipe import Recipe
from compoundnet.trials.measurement import TrainingJob, TrialOutcome
from compoundnet.trials.settings import PointList, position

if TYPE_CHECKING:
    import optuna


class CoefficientSearch(PointList, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="coefficients"):
    """Every point of the grid, trained with each of `seeds` seeds.

    Attributes:
        network: The baseline, with the data's classes.
        data: The data set, in the form that `open_dataset` accepts.
        recipe: The recipe of every training.
        grid: LOW:HIGH:STEP of each of alpha, beta and gamma.
        tolerance: The largest distance of alpha * beta^2 * gamma^2 from 2.
        phi: The compound coefficient at which the points are compared; 1 in the paper's STEP 1.
        seeds: The number of trainings of each network.
        seed: The first seed.
    """

    network: Network
    data: str
    recipe: Recipe
    grid: str = DEFAULT_GRID
    tolerance: str = DEFAULT_TOLERANCE
    phi: float = 1.0
    seeds: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.seeds >= 1, f"seeds must be at least 1, got {self.seeds}")
        check(self.phi > 0, f"phi must be above 0, where the coefficients make a difference, got {self.phi:g}")

    @property
    def points(self) -> tuple[CoefficientPoint, ...]:
        """The points that are trained, each once with every seed."""
        return points(self.network, self.grid, self.tolerance, self.phi)

    def params(self) -> list[dict[str, float]]:
        """Return each trial's coefficients: all points with the first seed come first, so that the whole grid is
        covered early."""
        return [
            {"alpha": point.coefficients.alpha, "beta": point.coefficients.beta, "gamma": point.coefficients.gamma}
            for point in self.points * self.seeds
        ]

    def networks(self) -> tuple[Network, ...]:
        """Return the network of each point."""
        return tuple(point.network for point in self.points)

    def propose(self, trial: optuna.Trial) -> TrainingJob:
        """Return the network and seed for the position of the trial."""
        seed, number = divmod(position(trial), len(self.points))
        point = self.points[number]
        return TrainingJob(point.network, self.seed + seed, point.label)

    def values(self, outcome: TrialOutcome) -> tuple[float, ...]:
        """Return the accuracy."""
        return (outcome.accuracy,)
