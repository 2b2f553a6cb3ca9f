"""The plan of a race: how many candidates start, and how far each rung goes, so that it fits the time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from compoundnet.base.units import format_duration
from compoundnet.data import Split
from compoundnet.fit.candidates import HIGHEST, Candidate
from compoundnet.fit.screen import Screened
from compoundnet.fit.trainings import EPOCHS, HELD_OUT, Trainings
from compoundnet.train.logistic import Balance

# The part of a rung that goes on, and the epochs of the first rung at the least: the first epoch of a fine-tuning
# trains the classifier alone.
_REDUCTION = 3
LEAST_EPOCHS = 2
# Entrants at the most.
ENTRANTS = 9
# Seconds of making a session and the first batches, once for each training of a rung.
_START = 3.0
# Lengths of a schedule that are tried, as fractions of the usual one of ten epochs.
LENGTHS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
# Those of one candidate alone, with nothing after it: longer where there is time, but not for more.
_LENGTHS_ALONE = (1.4, 1.2, *LENGTHS)
# The accuracy that a schedule of some length loses to the usual one, and that training without the held-out images
# loses, as a fraction of these. Lite0 at 64 px on 100 images a class of CIFAR-10: 71.8, 73.0 and 74.3 % after 8, 10 and
# 20 epochs on all; 70.7 % after 8 with a tenth held out, 71.1 and 62.7 % after 10 and 3 with a fifth. The loss at 0.5
# and 0.7 is what 96 and 192 px showed, in one or two runs each.
_LOSES = {0.3: 0.08, 0.5: 0.03, 0.7: 0.015, 1.0: 0.0, 2.0: -0.013}
_HELD_OUT_LOSES = 0.1
# The winner goes on from where the race ended, now on all images. Half of the usual length at the least, since less
# disturbs more than it teaches, and twice as much at the most. What it learned in the race counts half. Lite0 at 64 px
# on 100 images a class: 71.1 % after ten epochs with images held out; then 70.2, 70.8, 72.2 and 73.8 % after 2, 3, 5
# and 10 epochs on all; from the start on all, 73.0 % after 10 and 74.3 % after 20.
_SHORTEST, LONGEST, _COUNTS = 0.5, 2.0, 0.5
# What is left of the difference between two probes after fine-tuning, and what twice the multiply-adds gain besides.
# Lite0 on 100 images a class with a fifth held out: 71.1, 77.4 and 80.8 % at 64, 96 and 128 px (10, 10 and 5 epochs),
# where the probes have 59, 68.5 and 70.2 %.
_LEFT, _LARGER = 0.5, 0.02
# What a network gains that is raised to a resolution after training, as a fraction of what training there gains. 100
# images a class: Lite0 has 72.6, 77.4 and 68.4, 72.6 % trained at 64 and 80, and at 48 and 64 px, raised from the
# lower 76.2 and 69.2 %; Lite1 78.0 and 81.8 % at 80 and 96 px, raised 80.2 %.
_RAISED = 0.5
# The accuracy that twice as many candidates gain, and the part of a shorter schedule's loss that choosing by it costs.
# Neither is measured: they prefer a race that lasts long enough to tell candidates apart.
_CHOICE, _MISTAKEN = 0.003, 0.5
# How many times as long an image takes to train on as to evaluate.
_TRAINING = 3
# Seconds to write a model; and what is planned of a time, since estimates are not exact. One candidate alone,
# with nothing after it, is planned for all of the time: it is shortened where it takes longer, and estimates are rather
# too high.
WRITING, PLANNED, _PLANNED_ALONE = 3.0, 0.95, 1.05


class RacePlan(NamedTuple):
    """A race that fits a time.

    Attributes:
        entrants: The candidates, in the order of the screen.
        costs: About the seconds of the training of each, of the usual length.
        rungs: For each rung the number of candidates, and the fraction of the schedule at whose end they are judged.
        seconds: About how long it takes.
        length: The length of the schedule as a fraction of the usual one.
        final: That of the training of the winner on all images that is expected; 0 if there is no time for it.
        held_out: The fraction of the training images that is held out.
    """

    entrants: tuple[Candidate, ...]
    costs: tuple[float, ...]
    rungs: tuple[tuple[int, float], ...]
    seconds: float
    length: float
    final: float
    held_out: float = HELD_OUT

    def text(self) -> str:
        """Return the plan in words."""
        steps = ", ".join(f"{count} for {part:.0%} of the epochs" for count, part in self.rungs)
        held = f"{self.held_out:.0%} of the images held out"
        then = "; then the best goes on with all images" if self.final else ""
        what = f"{len(self.entrants)} candidates, {held}: {steps}"
        if len(self.entrants) == 1:
            what = f"{self.entrants[0]} alone, {held}, {self.length:.0%} of the usual epochs"
        return f"{what}, about {format_duration(self.seconds)}{then}"


def plan_race(
    costs: Sequence[tuple[Candidate, float]],
    available: float,
    count: int,
    workers: int = 1,
    length: float = 1.0,
    alone: float = HELD_OUT,
) -> RacePlan | None:
    """Return a race of so many candidates that fits the time; None if there is none.

    Args:
        costs: The candidates in the order of the screen, each with the seconds of its training of the usual length with
            a fifth of the images held out.
        available: The seconds that there are. What the race leaves is for the winner.
        count: The number of candidates that start: the first of those that can be trained in the time.
        workers: The number of trainings at a time.
        length: The length of the schedule as a fraction of the usual one.
        alone: The fraction of the images that is held out where one candidate is trained alone.
    """
    held_out = alone if count == 1 else HELD_OUT
    costs = [(candidate, cost * epoch_by(held_out) / epoch_by(HELD_OUT)) for candidate, cost in costs]
    entrants = [(candidate, cost) for candidate, cost in costs if length * cost + 2 * _START <= available][:count]
    if len(entrants) < count:
        return None
    rungs = _rungs(count, length)
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
    final = length_on_all(max(whole), held_out, available - total) or 0.0
    return RacePlan(candidates, whole, rungs, total, length, final, held_out)


def epoch_by(held_out: float) -> float:
    """Return the time of an epoch with a fraction held out and evaluated, divided by that of one on all images."""
    return 1 - held_out + held_out / _TRAINING


def length_on_all(cost: float, held_out: float, left: float) -> float | None:
    """Return for how long the winner can go on with all images, as a fraction of the usual length; None if not at all.

    Args:
        cost: The seconds of its training of the usual length.
        held_out: The fraction of the images that was held out of that.
        left: The seconds that there are.
    """
    length = min(LONGEST, (left - WRITING) * epoch_by(held_out) / cost)
    return length if length >= _SHORTEST else None


def least_seconds(cost: float, alone: float) -> float:
    """Return the seconds that there must be for the shortest race, that of one candidate.

    Args:
        cost: The seconds of its training of the usual length with a fifth of the images held out.
        alone: As for `plan_race`.
    """
    return (min(LENGTHS) * cost * epoch_by(alone) / epoch_by(HELD_OUT) + 2 * _START) / _PLANNED_ALONE


def _rungs(count: int, length: float) -> tuple[tuple[int, float], ...]:
    counts = [count]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // _REDUCTION))
    last, least = len(counts) - 1, LEAST_EPOCHS / round(length * EPOCHS)
    return tuple((many, min(1.0, max(least, float(_REDUCTION) ** (place - last)))) for place, many in enumerate(counts))


def plan_in_time(
    costs: Sequence[tuple[Candidate, float]],
    accuracies: Sequence[float],
    left: float,
    workers: int,
    most: int = ENTRANTS,
    alone: float = HELD_OUT,
) -> RacePlan | None:
    """Return the race that promises the most, what its winner gains afterwards on all images included.

    A better candidate is weighed against a longer schedule, and more candidates against a race that tells more. None if
    not even the shortest training fits the time.

    Args:
        costs: The candidates in the order of the screen, each with the seconds of its training of the usual length.
        accuracies: The accuracy of the probe of each, as `with_raise` returns it; all the same if the order alone
            counts.
        left: The seconds that there are.
        workers: The number of trainings at a time.
        most: Candidates at the most.
        alone: As for `plan_race`.
    """
    probes = {candidate: accuracy for (candidate, _), accuracy in zip(costs, accuracies, strict=True)}
    plans = [
        plan_race(costs, PLANNED * left, count, workers, length, alone)
        for length in LENGTHS
        for count in range(min(most, len(costs)), 0, -1)
    ]
    whole = [plan_race(costs, _PLANNED_ALONE * left, 1, workers, length, alone) for length in _LENGTHS_ALONE]
    plans += [plan._replace(final=0.0) for plan in whole if plan is not None]
    fitting = [plan for plan in plans if plan is not None]
    return max(fitting, key=lambda plan: promise(plan, probes[plan.entrants[0]]), default=None)


def promise(plan: RacePlan, accuracy: float) -> float:
    """Return what a race promises, as an accuracy up to a constant; that of its best candidate's probe is given."""
    held_out = _HELD_OUT_LOSES * plan.held_out
    loses = _loses(_COUNTS * plan.length + plan.final) if plan.final else _loses(plan.length) + held_out
    chosen = _CHOICE * math.log2(len(plan.entrants)) - _MISTAKEN * _loses(plan.length)
    return _worth(plan.entrants[0], accuracy) - loses + chosen


def _loses(length: float) -> float:
    return float(np.interp(length, list(_LOSES), list(_LOSES.values())))


def with_raise(ranked: Sequence[Screened]) -> dict[Candidate, float]:
    """Return the accuracy of the probe of each candidate, increased by what raising its resolution after training may
    gain, as far as another of the candidates is the same network at such a resolution."""
    accuracies = dict[Candidate, float]()
    for one in ranked:
        own = one.candidate
        higher = [
            other
            for other in ranked
            if other.candidate.shape == own.shape
            and own.resolution < other.candidate.resolution <= HIGHEST * own.resolution
        ]
        accuracy = one.accuracy or 0.0
        gains = [_worth(other.candidate, other.accuracy or 0.0) - _worth(own, accuracy) for other in higher]
        accuracies[own] = accuracy + _RAISED * max([0.0, *gains]) / _LEFT
    return accuracies


def by_promise(ranked: Sequence[Screened]) -> list[Screened]:
    """Return candidates in the order of what they promise if all are trained for as many epochs, the best first."""
    raised = with_raise(ranked)
    return sorted(ranked, key=lambda one: -_worth(one.candidate, raised[one.candidate]))


def _worth(candidate: Candidate, accuracy: float) -> float:
    """What a candidate promises by its probe and its size when it is trained for the usual length, up to a constant."""
    return _LEFT * accuracy + _LARGER * math.log2(candidate.macs)


def largest_of_equal(ranked: Sequence[Screened], images: float) -> list[Screened]:
    """Return what the screen ranked with its order changed where its images do not tell: of the candidates within one
    standard error of the best, the one with the most multiply-adds first, and those with inherited weights last.

    Args:
        ranked: The candidates, the best first.
        images: The images that their probes were judged on, as `effective_images` counts them.
    """
    screened = {one.candidate: one for one in ranked}
    equal, rest = equals_by_size({one.candidate: one.accuracy or 0.0 for one in ranked}, images)
    best = ranked[0].accuracy
    return [
        *(msgspec.structs.replace(screened[one], accuracy=best) for one in equal),
        *(screened[one] for one in rest),
    ]


def larger_first(scores: Mapping[Candidate, float], images: float) -> list[Candidate]:
    """Return candidates in the order in which they go on: the best first, and of those that the images do not tell from
    it the larger; arguments as for `equals_by_size`."""
    ranked = sorted(scores, key=lambda one: -scores[one])  # of equally good ones that which the screen preferred
    equal, rest = equals_by_size({one: scores[one] for one in ranked}, images)
    return equal + rest


def cheaper_first(
    scores: Mapping[Candidate, float], enough: float, latencies: Mapping[Candidate, float]
) -> list[Candidate]:
    """Return candidates in the order in which they go on where an accuracy suffices.

    Those that reach it come first, the fastest before the others; then the rest, the best first.

    Args:
        scores: The accuracy of each, a fraction.
        enough: The accuracy that suffices.
        latencies: Milliseconds of each.
    """
    return sorted(scores, key=lambda one: (0.0, latencies[one]) if scores[one] >= enough else (1.0, -scores[one]))


def equals_by_size(scores: Mapping[Candidate, float], images: float) -> tuple[list[Candidate], list[Candidate]]:
    """Return the candidates that images do not tell from the best, being within one standard error of it, and the rest.

    Of these, that with the most multiply-adds comes first, which has more to gain from further training; those with
    inherited weights, which have more to learn, come last.

    Args:
        scores: The accuracy of each, a fraction, the best first.
        images: The images that they were judged on, as `effective_images` counts them.
    """
    best = max(scores.values())
    least = best - math.sqrt(best * (1 - best) / images)
    equal = [one for one, score in scores.items() if score >= least]
    rest = [one for one in scores if one not in equal]
    return sorted(equal, key=lambda one: (one.scaled, -one.macs)), rest


def effective_images(images: Split, balance: Balance) -> float:
    """Return how many images tell as much, by the fraction of them that is right, as these do by what candidates are
    compared by.

    Without balance that is their number. The mean per class of unequal classes tells less: its standard error is that
    of C^2 / (1/n_1 + ... + 1/n_C) images. 189 held-out ones, of which ten classes have 60 to 2, tell as much as 67.
    Lite0 at 40, 48 and 56 px and Lite1 at 40 px, after two epochs with four seeds, had means from 44.7 to 60.4 % on
    these; the standard deviation over the seeds was 4.5 points, the standard error of a fraction of 189 images is 3.6,
    and that of 67 images 6.0.

    Args:
        images: What candidates are judged on.
        balance: How classes of unequal size are balanced.
    """
    if balance == "none":
        return len(images)
    counts = images.counts()
    counts = counts[counts > 0]
    return float(len(counts) ** 2 / (1 / counts).sum())


def estimate_all(trainings: Trainings, entrants: Sequence[Candidate]) -> list[tuple[Candidate, float]]:
    """Return about how many seconds each training takes: measured once for each model, and once more for its candidates
    that are trained throughout; the others in proportion."""
    rates: dict[tuple[str, bool], float] = {}
    found = []
    for candidate in entrants:
        whole = candidate.macs * trainings.usual(candidate)
        alike = (candidate.model, candidate.key in trainings.fresh)
        if alike not in rates:
            rates[alike] = trainings.estimate(candidate) / whole
        found.append((candidate, rates[alike] * whole))
    return found
