"""The plan of a race: how many candidates start, and how far each rung goes, so that it fits the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from compoundnet.base.units import format_duration
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.trainings import EPOCHS, HELD_OUT, Trainings

# The part of a rung that goes on, and the epochs of the first rung at the least: the first epoch of a fine-tuning
# trains the classifier alone.
_REDUCTION = 3
LEAST_EPOCHS = 2
# Entrants at the most.
ENTRANTS = 9
# Seconds of making a session and the first batches, once for each training of a rung.
_START = 3.0
# Lengths of a schedule, as fractions of the usual one, with the accuracy that a shorter one loses, and the accuracy
# that training without the held-out images loses: about what Lite0 showed at 96 and 192 px on 10 and 100 images a class
# of CIFAR-10, in one or two runs each.
LENGTHS = {1.0: 0.0, 0.7: 0.006, 0.5: 0.012, 0.3: 0.03}
HELD_OUT_LOSES = 0.02
# What is left of the difference between two probes after fine-tuning (Lite0 at 64 to 128 px, 100 images a class).
_LEFT = 0.35
# The accuracy that twice as many candidates gain, and the part of a shorter schedule's loss that choosing by it costs.
# Neither is measured: they prefer a race that lasts long enough to tell candidates apart.
_CHOICE, _MISTAKEN = 0.003, 0.5
# The time of an epoch on all images divided by that of an epoch with images held out, on which it is evaluated (an
# image takes three times as long to train on as to evaluate); seconds to write a model; and what is planned of a time,
# since estimates are not exact.
ALL, WRITING = 3 / (3 * (1 - HELD_OUT) + HELD_OUT), 3.0
_PLANNED = 0.8


class RacePlan(NamedTuple):
    """A race that fits a time.

    Attributes:
        entrants: The candidates, in the order of the screen.
        costs: About the seconds of the training of each, of the usual length.
        rungs: For each rung the number of candidates, and the fraction of the schedule at whose end they are judged.
        seconds: About how long it takes.
        length: The length of the schedule as a fraction of the usual one.
        final: That of the training of the winner on all images; 0 if there is no time for it.
    """

    entrants: tuple[Candidate, ...]
    costs: tuple[float, ...]
    rungs: tuple[tuple[int, float], ...]
    seconds: float
    length: float
    final: float

    def text(self) -> str:
        """Return the plan in words."""
        steps = ", ".join(f"{count} for {part:.0%} of the epochs" for count, part in self.rungs)
        plural = "s" if len(self.entrants) != 1 else ""
        then = ", then the best on all images" if self.final else ""
        return f"{len(self.entrants)} candidate{plural}: {steps}, about {format_duration(self.seconds)}{then}"


def plan_race(
    costs: Sequence[tuple[Candidate, float]], available: float, workers: int = 1, length: float = 1.0, final: float = 0
) -> RacePlan | None:
    """Return the race of the most candidates that fits the time; None if not one of them can be trained in it.

    Args:
        costs: The candidates in the order of the screen, each with the seconds of its training of the usual length.
        available: The seconds that there are.
        workers: The number of trainings at a time.
        length: The length of the schedule as a fraction of the usual one.
        final: That of the training of the winner on all images.
    """

    def needed(cost: float) -> float:  # by a race of that candidate alone
        return (length + ALL * final) * cost + 2 * _START + WRITING * (final > 0)

    entrants = [(candidate, cost) for candidate, cost in costs if needed(cost) <= available][:ENTRANTS]
    for count in range(len(entrants), 0, -1):
        rungs = _rungs(count)
        candidates, whole = zip(*entrants[:count], strict=True)
        total, done = 0.0, 0.0
        for many, part in rungs:
            # At the worst the most expensive ones go on. Trainings do not share a worker's time evenly at the end.
            worst = [length * cost + _START for cost in sorted(whole, reverse=True)[:many]]
            lanes = min(workers, many)
            total += max(sum(worst) / lanes, *worst) * (part - done) + _START * -(-many // lanes)
            done = part
        if total + (final > 0) * (ALL * final * max(whole) + WRITING) <= available:
            return RacePlan(candidates, whole, rungs, total, length, final)
    return None


def _rungs(count: int) -> tuple[tuple[int, float], ...]:
    counts = [count]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // _REDUCTION))
    last = len(counts) - 1
    return tuple(
        (many, max(LEAST_EPOCHS / EPOCHS, float(_REDUCTION) ** (place - last))) for place, many in enumerate(counts)
    )


def plan_in_time(
    costs: Sequence[tuple[Candidate, float]], accuracies: Sequence[float], left: float, workers: int
) -> RacePlan | None:
    """Return the race that promises the most, with the training of its winner on all images if there is time.

    A better candidate is weighed against a longer schedule, and more candidates against a race that tells more. None if
    not even the shortest training fits the time.

    Args:
        costs: The candidates in the order of the screen, each with the seconds of its training of the usual length.
        accuracies: The accuracy of the probe of each; all the same if the order alone counts.
        left: The seconds that there are.
        workers: The number of trainings at a time.
    """
    probes = {candidate: accuracy for (candidate, _), accuracy in zip(costs, accuracies, strict=True)}
    plans = [
        plan_race(costs, _PLANNED * left, workers, length, final)
        for final in (*LENGTHS, 0.0)
        for length in LENGTHS
        if length <= final or not final
    ]
    fitting = [plan for plan in plans if plan is not None]
    if not fitting:  # the shortest without a reserve: the time would be left over
        return plan_race(costs, left, workers, min(LENGTHS))
    return max(fitting, key=lambda plan: promise(plan, probes[plan.entrants[0]]))


def promise(plan: RacePlan, accuracy: float) -> float:
    """Return what a race promises, as an accuracy up to a constant; that of its best candidate's probe is given."""
    loses = LENGTHS[plan.final] if plan.final else LENGTHS[plan.length] + HELD_OUT_LOSES
    chosen = _CHOICE * math.log2(len(plan.entrants)) - _MISTAKEN * LENGTHS[plan.length]
    return _LEFT * accuracy - loses + chosen


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
