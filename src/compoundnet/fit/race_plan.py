"""The plan of a race: how many candidates start, and how far each rung goes, so that it fits the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from compoundnet.base.units import format_duration
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.trainings import EPOCHS, Trainings

# The part of a rung that goes on, and the epochs of the first rung at the least: the first epoch of a fine-tuning
# trains the classifier alone.
_REDUCTION = 3
LEAST_EPOCHS = 2
# Entrants at the most.
ENTRANTS = 9
# Seconds of making a session and the first batches, once for each training of a rung.
_START = 3.0
# The shorter schedules, where the time is too short for the usual one, as fractions of its epochs.
SHORTER = (0.5, 0.3)
# The part of the time that a race may take: the rest is for training the winner on all images. What may
# be used where nothing is left for that.
_RACE, _ALONE = 0.6, 0.95


class RacePlan(NamedTuple):
    """A race that fits a time.

    Attributes:
        entrants: The candidates, in the order of the screen.
        costs: About the seconds of the whole training of each.
        rungs: For each rung the number of candidates, and the fraction of the schedule at whose end they are judged.
        seconds: About how long it takes.
        length: The length of the schedule as a fraction of the usual one.
    """

    entrants: tuple[Candidate, ...]
    costs: tuple[float, ...]
    rungs: tuple[tuple[int, float], ...]
    seconds: float
    length: float = 1.0

    def text(self) -> str:
        """Return the plan in words."""
        steps = ", ".join(f"{count} for {part:.0%} of the epochs" for count, part in self.rungs)
        plural = "s" if len(self.entrants) != 1 else ""
        return f"{len(self.entrants)} candidate{plural}: {steps}, about {format_duration(self.seconds)}"


def plan_race(seconds: Sequence[tuple[Candidate, float]], available: float, workers: int = 1) -> RacePlan | None:
    """Return the race of the most candidates that fits the time; None if not one of them can be trained in it.

    Args:
        seconds: The candidates in the order of the screen, each with the seconds of its whole training.
        available: The seconds that there are.
        workers: The number of trainings at a time.
    """
    entrants = [(candidate, cost) for candidate, cost in seconds if cost + _START <= available][:ENTRANTS]
    for count in range(len(entrants), 0, -1):
        rungs = _rungs(count)
        candidates, costs = zip(*entrants[:count], strict=True)
        total, done = 0.0, 0.0
        for many, part in rungs:
            # At the worst the most expensive ones go on. Trainings do not share a worker's time evenly at the end.
            worst = [cost + _START for cost in sorted(costs, reverse=True)[:many]]
            lanes = min(workers, many)
            total += max(sum(worst) / lanes, *worst) * (part - done) + _START * -(-many // lanes)
            done = part
        if total <= available:
            return RacePlan(candidates, costs, rungs, total)
    return None


def _rungs(count: int) -> tuple[tuple[int, float], ...]:
    counts = [count]
    while counts[-1] > 1 and len(counts) < 3:
        counts.append(-(-counts[-1] // _REDUCTION))
    counts[-1] = 1
    last = len(counts) - 1
    return tuple(
        (many, max(LEAST_EPOCHS / EPOCHS, float(_REDUCTION) ** (place - last))) for place, many in enumerate(counts)
    )


def plan_in_time(costs: Sequence[tuple[Candidate, float]], left: float, workers: int) -> RacePlan | None:
    """Return a race that leaves time for training the winner on all images, or else one training: of fewer epochs if
    need be. None if not even that fits the time.

    Args:
        costs: The candidates in the order of the screen, each with the seconds of its whole training.
        left: The seconds that there are.
        workers: The number of trainings at a time.
    """
    for part in (_RACE, _ALONE):
        for length in (1.0, *SHORTER):
            entrants = [(candidate, length * cost) for candidate, cost in costs]
            plan = plan_race(entrants if part == _RACE or length < 1 else entrants[:1], part * left, workers)
            if plan is not None:
                return plan._replace(length=length)
    return None


def estimate_all(trainings: Trainings, entrants: Sequence[Candidate]) -> list[tuple[Candidate, float]]:
    """Return about how many seconds each training takes: measured once for each model, the others in proportion."""
    rates: dict[str, float] = {}
    found = []
    for candidate in entrants:
        whole = candidate.macs * trainings.epochs(candidate)
        if candidate.model not in rates:
            rates[candidate.model] = trainings.estimate(candidate) / whole
        found.append((candidate, rates[candidate.model] * whole))
    return found
