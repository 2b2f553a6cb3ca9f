"""STEP 1 of section 4: the alpha, beta, gamma of a baseline, by training each point of a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from compoundnet.arch import CompoundNetError, FoundCoefficients, Network, cost
from compoundnet.arch.blocks import check
from compoundnet.search.grid import DEFAULT_GRID, DEFAULT_TOLERANCE, Point, points
from compoundnet.search.measuring import Measured
from compoundnet.search.settings import Job
from compoundnet.search.statistics import Sample, difference, mean, standard_error
from compoundnet.train import Recipe

if TYPE_CHECKING:
    import optuna


class Ranked(msgspec.Struct, frozen=True):
    """A point with its accuracies, one a seed; `error` is the standard error of their mean."""

    point: Point
    accuracies: tuple[float, ...]
    pictures: int
    error: float
    macs: int
    params: int

    @property
    def accuracy(self) -> float:
        """The mean."""
        return mean(self.accuracies)

    @property
    def sample(self) -> Sample:
        """For comparisons."""
        return Sample(self.accuracies, self.pictures)


class CoefficientSearch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="coefficients"):
    """Every point of the grid with each of `seeds` seeds, from `seed` on.

    grid       LOW:HIGH:STEP of each of alpha, beta and gamma
    tolerance  how far alpha * beta^2 * gamma^2 may be from 2
    phi        at which the points are compared; the paper's STEP 1 fixes 1
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
    def points(self) -> tuple[Point, ...]:
        """Those that are trained, each once a seed."""
        return points(self.network, self.grid, self.tolerance, self.phi)

    def trials(self) -> int:
        return len(self.points) * self.seeds

    def networks(self) -> tuple[Network, ...]:
        return tuple(point.network for point in self.points)

    def sampler(self) -> optuna.samplers.BaseSampler:
        from optuna.samplers import RandomSampler

        return RandomSampler(self.seed)  # never asked: a trial's number says its point

    def pruner(self) -> optuna.pruners.BasePruner:
        from optuna.pruners import NopPruner

        return NopPruner()  # a point that is given up would have no place in the ranking

    def directions(self) -> list[str]:
        return ["maximize"]

    def propose(self, trial: optuna.Trial) -> Job:
        """All points with the first seed come first, so that an early look sees the whole grid."""
        seed, number = divmod(trial.number, len(self.points))
        point = self.points[number]
        return Job(point.network, self.seed + seed, point.label)

    def values(self, _: Job, measured: Measured, /) -> tuple[float, ...]:
        return (measured.accuracy,)

    def ranking(self, study: optuna.Study) -> tuple[Ranked, ...]:
        """Best first, as far as trials are finished; of equal ones the cheapest first."""
        found: dict[int, list[Measured]] = {}
        for trial in study.get_trials(deepcopy=False):
            if "measured" in trial.user_attrs:
                measured = msgspec.convert(trial.user_attrs["measured"], Measured)
                found.setdefault(trial.number % len(self.points), []).append(measured)
        ranked = [_rank(self.points[number], measured) for number, measured in found.items()]
        return tuple(sorted(ranked, key=lambda entry: (-entry.accuracy, entry.macs)))

    def verdict(self, study: optuna.Study) -> str:
        """Whether the best is better than the others, or noise, in a sentence or two."""
        ranking = self.ranking(study)
        if not ranking:
            raise CompoundNetError("no trial is finished yet, so there is nothing to rank")
        best, *others = ranking
        level = [other for other in others if difference(best.sample, other.sample).sign == 0]
        if not others:
            return f"{_percent(best)} is the only point."
        if not level:
            text = f"The best, with {_percent(best)}, is separable from all others (95 % confidence)."
        else:
            text = (
                f"The best, with {_percent(best)}, is not separable from {len(level)} of the {len(others)} others (95 %"
                f" confidence), the next being {level[0].point.label} with {_percent(level[0])}: they differ by less"
                " than the noise."
            )
        return f"{text} {_noise(best)}"

    def result(self, study: optuna.Study) -> str:
        """alpha, beta, gamma and the network they are of: what `scale --coefficients` reads."""
        verdict = self.verdict(study)
        best = self.ranking(study)[0].point.coefficients
        about = f"On {self.data}, recipe {self.recipe.name}, phi {self.phi:g}, {self.seeds} seed(s). {verdict}"
        found = FoundCoefficients(best.alpha, best.beta, best.gamma, self.network, about)
        return msgspec.toml.encode(found).decode()


def _rank(point: Point, measured: list[Measured]) -> Ranked:
    accuracies, pictures = tuple(entry.accuracy for entry in measured), measured[0].count
    costs = cost(point.network)
    error = standard_error(Sample(accuracies, pictures))
    return Ranked(point, accuracies, pictures, error, costs.macs, costs.params)


def _percent(entry: Ranked) -> str:
    return f"{entry.accuracy:.2%} ± {entry.error:.2%}"


def _noise(best: Ranked) -> str:
    if len(best.accuracies) == 1:
        return (
            f"± is the binomial standard error of one run judged on {best.pictures:,} pictures; it knows nothing of the"
            " seeds' own spread: --seeds 3 would."
        )
    return f"± is the standard error over {len(best.accuracies)} seeds, judged on {best.pictures:,} pictures."
