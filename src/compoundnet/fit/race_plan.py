"""The plan of a race: how many candidates start, and how far each rung goes, so that it fits the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from compoundnet.base.units import format_duration
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.screen import Screened
from compoundnet.fit.trainings import EPOCHS, HELD_OUT, Trainings

# The part of a rung that goes on, and the epochs of the first rung at the least: the first epoch of a fine-tuning
# trains the classifier alone.
_REDUCTION = 3
LEAST_EPOCHS = 2
# Entrants at the most.
ENTRANTS = 9
# Seconds of making a session and the first batches, once for each training of a rung.
_START = 3.0
# Lengths of a schedule that are tried, as fractions of the usual one.
LENGTHS = (1.0, 0.7, 0.5, 0.3)
# The accuracy that a schedule of some length loses to the usual one: about what Lite0 showed at 64, 96 and 192 px on 10
# and 100 images a class of CIFAR-10, in one or two runs each; and what training without the held-out images loses.
_LOSES = {0.3: 0.04, 0.5: 0.02, 0.7: 0.01, 1.0: 0.0, 2.0: -0.012}
_HELD_OUT_LOSES = 0.02
# The winner goes on from where the race ended, now on all images. Half of the usual length at the least, since less
# disturbs more than it teaches, and twice as much at the most. What it learned in the race counts half. Lite0 at 64 px
# on 100 images a class: 71.1 % after ten epochs with images held out; then 70.2, 70.8, 72.2 and 73.8 % after 2, 3, 5
# and 10 epochs on all; from the start on all, 73.0 % after 10 and 74.3 % after 20.
_SHORTEST, _LONGEST, _COUNTS = 0.5, 2.0, 0.5
# What is left of the difference between two probes after fine-tuning, and what twice the multiply-adds gain besides.
# Lite0 on 100 images a class with a fifth held out: 71.1, 77.4 and 80.8 % at 64, 96 and 128 px (10, 10 and 5 epochs),
# where the probes have 59, 68.5 and 70.2 %.
_LEFT, _LARGER = 0.5, 0.02
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
        final: That of the training of the winner on all images that is expected; 0 if there is no time for it.
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
        then = ", then the best goes on with all images" if self.final else ""
        return f"{len(self.entrants)} candidate{plural}: {steps}, about {format_duration(self.seconds)}{then}"


def plan_race(
    costs: Sequence[tuple[Candidate, float]], available: float, count: int, workers: int = 1, length: float = 1.0
) -> RacePlan | None:
    """Return a race of so many candidates that fits the time; None if there is none.

    Args:
        costs: The candidates in the order of the screen, each with the seconds of its training of the usual length.
        available: The seconds that there are. What the race leaves is for the winner.
        count: The number of candidates that start: the first of those that can be trained in the time.
        workers: The number of trainings at a time.
        length: The length of the schedule as a fraction of the usual one.
    """
    entrants = [(candidate, cost) for candidate, cost in costs if length * cost + 2 * _START <= available][:count]
    if len(entrants) < count:
        return None
    rungs = _rungs(count)
    candidates, whole = zip(*entrants, strict=True)
    total, done = 0.0, 0.0
    for many, part in rungs:
        # At the worst the most expensive ones go on. Trainings do not share a worker's time evenly at the end.
        worst = [length * cost + _START for cost in sorted(whole, reverse=True)[:many]]
        lanes = min(workers, many)
        total += max(sum(worst) / lanes, *worst) * (part - done) + _START * -(-many // lanes)
        done = part
    if total > available:
        return None
    return RacePlan(candidates, whole, rungs, total, length, length_on_all(max(whole), available - total) or 0.0)


def length_on_all(cost: float, left: float) -> float | None:
    """Return for how long the winner can go on with all images, as a fraction of the usual length; None if not at all.

    Args:
        cost: The seconds of its training of the usual length.
        left: The seconds that there are.
    """
    length = min(_LONGEST, (left - WRITING) / (ALL * cost))
    return length if length >= _SHORTEST else None


def _rungs(count: int) -> tuple[tuple[int, float], ...]:
    counts = [count]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // _REDUCTION))
    last = len(counts) - 1
    return tuple(
        (many, max(LEAST_EPOCHS / EPOCHS, float(_REDUCTION) ** (place - last))) for place, many in enumerate(counts)
    )


def plan_in_time(
    costs: Sequence[tuple[Candidate, float]],
    accuracies: Sequence[float],
    left: float,
    workers: int,
    most: int = ENTRANTS,
) -> RacePlan | None:
    """Return the race that promises the most, what its winner gains afterwards on all images included.

    A better candidate is weighed against a longer schedule, and more candidates against a race that tells more. None if
    not even the shortest training fits the time.

    Args:
        costs: The candidates in the order of the screen, each with the seconds of its training of the usual length.
        accuracies: The accuracy of the probe of each; all the same if the order alone counts.
        left: The seconds that there are.
        workers: The number of trainings at a time.
        most: Candidates at the most.
    """
    probes = {candidate: accuracy for (candidate, _), accuracy in zip(costs, accuracies, strict=True)}
    plans = [
        plan_race(costs, _PLANNED * left, count, workers, length)
        for length in LENGTHS
        for count in range(min(most, len(costs)), 0, -1)
    ]
    fitting = [plan for plan in plans if plan is not None]
    if not fitting:  # the shortest without a reserve: the time would be left over
        return plan_race(costs, left, 1, workers, min(LENGTHS))
    return max(fitting, key=lambda plan: promise(plan, probes[plan.entrants[0]]))


def promise(plan: RacePlan, accuracy: float) -> float:
    """Return what a race promises, as an accuracy up to a constant; that of its best candidate's probe is given."""
    loses = _loses(_COUNTS * plan.length + plan.final) if plan.final else _loses(plan.length) + _HELD_OUT_LOSES
    chosen = _CHOICE * math.log2(len(plan.entrants)) - _MISTAKEN * _loses(plan.length)
    return _LEFT * accuracy + _LARGER * math.log2(plan.entrants[0].macs) - loses + chosen


def _loses(length: float) -> float:
    return float(np.interp(length, list(_LOSES), list(_LOSES.values())))


def largest_of_equal(ranked: Sequence[Screened], images: int) -> list[Screened]:
    """Return what the screen ranked with its order changed where its images do not tell: of the candidates within one
    standard error of the best, the one with the most multiply-adds first, and those with inherited weights last.

    Args:
        ranked: The candidates, the best first.
        images: The images that their probes were judged on.
    """
    best = ranked[0].accuracy or 0.0
    least = best - math.sqrt(best * (1 - best) / images)
    equal = [one for one in ranked if (one.accuracy or 0.0) >= least]
    largest = sorted(equal, key=lambda one: (one.candidate.scaled, -one.candidate.macs))
    return [*(msgspec.structs.replace(one, accuracy=best) for one in largest), *ranked[len(equal) :]]


def estimate_all(trainings: Trainings, entrants: Sequence[Candidate]) -> list[tuple[Candidate, float]]:
    """Return about how many seconds each training takes: measured once for each model, the others in proportion."""
    rates: dict[str, float] = {}
    found = []
    for candidate in entrants:
        whole = candidate.macs * trainings.usual(candidate)
        if candidate.model not in rates:
            rates[candidate.model] = trainings.estimate(candidate) / whole
        found.append((candidate, rates[candidate.model] * whole))
    return found
