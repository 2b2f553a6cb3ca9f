"""STEP 1 of section 4: the alpha, beta, gamma of a baseline, by training each point of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from compoundnet.arch import FoundCoefficients, Network
from compoundnet.base import CompoundNetError, check, format_count
from compoundnet.search.finished import Entry, entries
from compoundnet.search.grid import DEFAULT_GRID, DEFAULT_TOLERANCE, Point, points
from compoundnet.search.ranking import ranking
from compoundnet.train import Recipe
from compoundnet.trials.measuring import TrainingJob, TrialOutcome
from compoundnet.trials.settings import PointList, position
from compoundnet.trials.statistics import Sample, difference, standard_error

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

# Beyond this ratio of multiply-adds, points on one side of the tolerance and the other (1.9 and 2.1) do not explain it.
_UNEVEN = 1.25


class CoefficientSearch(PointList, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="coefficients"):
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

    def params(self) -> list[dict[str, float]]:
        """All points with the first seed come first, so that an early look sees the whole grid."""
        return [
            {"alpha": point.coefficients.alpha, "beta": point.coefficients.beta, "gamma": point.coefficients.gamma}
            for point in self.points * self.seeds
        ]

    def networks(self) -> tuple[Network, ...]:
        return tuple(point.network for point in self.points)

    def propose(self, trial: optuna.Trial) -> TrainingJob:
        seed, number = divmod(position(trial), len(self.points))
        point = self.points[number]
        return TrainingJob(point.network, self.seed + seed, point.label)

    def values(self, outcome: TrialOutcome) -> tuple[float, ...]:
        return (outcome.accuracy,)

    def ranking(self, trials: Sequence[FrozenTrial]) -> list[Entry]:
        """Networks with their accuracies, the best mean first, as far as trials are finished."""
        return ranking(entries(trials), self.directions())

    def verdict(self, trials: Sequence[FrozenTrial]) -> str:
        """Whether the best is better than the others, or noise, in a sentence or two."""
        ranked = self.ranking(trials)
        if not ranked:
            raise CompoundNetError("no trial is finished yet, so there is nothing to rank")
        best, *others = ranked
        if best.sample is None:
            raise CompoundNetError(
                f"every training diverged, so there is nothing to rank; give a lower learning rate"
                f" (--set lr={self.recipe.lr / 3:.2g}) and another output (-o)"
            )
        level = [other for other in others if difference(_sample(best), _sample(other)).sign == 0]
        if not others:
            return f"{best.point} with {_percent(best)} is the only point. {_noise(best)}"
        if not level:
            text = f"The best, {best.point} with {_percent(best)}, is separable from all others (95 % confidence)."
        else:
            text = (
                f"The best, {best.point} with {_percent(best)}, is not separable from {len(level)} of the {len(others)}"
                f" others (95 % confidence), the next being {level[0].point} with {_percent(level[0])}: they differ by"
                " no more than noise would."
            )
        return " ".join(part for part in (text, _noise(best), _uneven(ranked)) if part)

    def result(self, trials: Sequence[FrozenTrial]) -> str:
        """alpha, beta, gamma and the network they are of: what `scale --coefficients` reads."""
        verdict = self.verdict(trials)
        first = self.ranking(trials)[0].point
        best = next(point.coefficients for point in self.points if point.label == first)
        about = f"On {self.data}, recipe {self.recipe.name}, phi {self.phi:g}, {self.seeds} seed(s). {verdict}"
        found = FoundCoefficients(best.alpha, best.beta, best.gamma, self.network, about)
        return msgspec.toml.encode(found).decode()


def _sample(entry: Entry) -> Sample:
    """Its accuracies, with 0 for trainings that diverged."""
    reached = entry.sample or Sample((0.0,), 1)
    return Sample((*reached.accuracies, *[0.0] * entry.diverged), reached.pictures)


def _percent(entry: Entry) -> str:
    return f"{entry.values[0]:.2%} ± {standard_error(_sample(entry)):.2%}"


def _uneven(ranked: list[Entry]) -> str:
    """A small network's rounding undoes what the constraint is for: equal cost."""
    costs = [entry.macs for entry in ranked]
    if max(costs) <= _UNEVEN * min(costs):
        return ""
    return (
        f"Rounding leaves the points between {format_count(min(costs))} and {format_count(max(costs))} multiply-adds,"
        " so a better one may only be a dearer one."
    )


def _noise(best: Entry) -> str:
    judged = f"judged on {_sample(best).pictures:,} pictures"
    if best.seeds == 1:
        return (
            f"± is the binomial standard error of one run {judged}; it knows nothing of the"
            " seeds' own spread: --seeds 3 would."
        )
    return f"± is the standard error over {best.seeds} seeds, {judged}."
