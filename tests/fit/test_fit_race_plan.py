"""The plan of a race: how many start, how far each rung goes, and what is left for the winner."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import numpy as np
import pytest

from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Arrays
from compoundnet.fit import Candidate, Screened
from compoundnet.fit.race import RungJudge, RungStudy
from compoundnet.fit.race_plan import (
    RacePlan,
    by_promise,
    cheaper_first,
    effective_images,
    equals_by_size,
    estimate_all,
    larger_first,
    largest_of_equal,
    least_seconds,
    length_on_all,
    plan_in_time,
    plan_race,
    promise,
    with_raise,
)
from compoundnet.fit.trainings import EPOCHS, Trainings, held_out_alone
from compoundnet.trials.studies import OpenedStudy

# An epoch on 900 of 1,000 images, each of which takes three times as long to train on as to evaluate, with the
# evaluation on the others, over one on 800 of them; and one on all over one on 900.
ALONE = (3 * 900 + 100) / (3 * 800 + 200)
ON_ALL = 3000 / (3 * 900 + 100)


def candidate(number: int) -> Candidate:
    return Candidate("m", 32 + number, "float32", 1, 1, 1, 1)


def race(count: int, seconds: float = 1e4, workers: int = 1, length: float = 1.0) -> RacePlan | None:
    """Of so many candidates, each of which takes 10 s with a fifth of the images held out."""
    return plan_race([(candidate(number), 10.0) for number in range(12)], seconds, count, workers, length, 0.1)


def test_a_third_goes_on_and_the_last_rung_has_one() -> None:
    for count, expected in ((1, [1]), (2, [2, 1]), (3, [3, 1]), (4, [4, 2, 1]), (7, [7, 3, 1]), (9, [9, 3, 1])):
        plan = race(count)
        assert plan is not None and [many for many, _ in plan.rungs] == expected
        assert plan.entrants == tuple(candidate(number) for number in range(count))
    nine = race(9)
    # A ninth, a third and all of the schedule, but two epochs at the least.
    assert nine is not None
    assert [part for _, part in nine.rungs] == [max(2 / EPOCHS, 1 / 9), max(2 / EPOCHS, 1 / 3), 1.0]
    assert race(13) is None, "there are twelve"
    short = race(9, length=0.5)
    assert short is not None
    assert [part for _, part in short.rungs] == [2 / 5, 2 / 5, 1.0], "two epochs of five"


def test_the_seconds_of_a_race_by_hand() -> None:
    """A training takes its own time and 3 s to start, and another start for each rung."""
    one, three = race(1), race(3)
    assert one is not None and three is not None
    first = three.rungs[0][1]
    # One alone trains on more images.
    assert one.seconds == pytest.approx(10 * ALONE + 3 + 3)
    assert (one.held_out, three.held_out) == (0.1, 0.2)
    assert three.seconds == pytest.approx(3 * 13 * first + 3 * 3 + 13 * (1 - first) + 3)
    together = race(3, workers=2)
    assert together is not None
    assert together.seconds == pytest.approx(3 * 13 / 2 * first + 2 * 3 + 13 * (1 - first) + 3)
    half = race(1, length=0.5)
    assert half is not None and half.seconds == pytest.approx(5 * ALONE + 3 + 3) and half.length == 0.5


def test_a_race_takes_all_of_the_time_that_there_is_and_no_more() -> None:
    assert race(1, 10 * ALONE + 6.01) is not None and race(1, 10 * ALONE + 5.9) is None
    three = race(3)
    assert three is not None
    assert race(3, three.seconds) is not None and race(3, three.seconds - 0.1) is None


def test_what_takes_too_long_does_not_start() -> None:
    costs = [(candidate(0), 1000.0), (candidate(1), 10.0), (candidate(2), 10.0)]
    plan = plan_race(costs, 100, 1, alone=0.1)
    assert plan is not None and plan.entrants == (candidate(1),)
    assert plan_race(costs, 100, 3) is None
    # A race of 44 s alone takes 50: it starts twice.
    for cost, first in ((43.99 / ALONE, 0), (44.01 / ALONE, 1)):
        plan = plan_race([(candidate(0), cost), (candidate(1), 1.0)], 50, 1, alone=0.1)
        assert plan is not None and plan.entrants[0] == candidate(first)


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (3 + 10 * ON_ALL * 0.5 + 0.01, 0.5),
        (3 + 10 * ON_ALL * 0.5 - 0.01, None),  # less disturbs more than it teaches
        (3 + 10 * ON_ALL * 1.7, 1.7),
        (1000, 2.0),
        (0, None),
    ],
)
def test_the_winner_goes_on_for_as_long_as_there_is_time(left: float, expected: float | None) -> None:
    """The usual length takes 10 s with a tenth held out, ON_ALL times that on all, and 3 s to write."""
    assert length_on_all(10.0, 0.1, left) == (None if expected is None else pytest.approx(expected, abs=0.001))
    plan = plan_race([(candidate(0), 10.0 / ALONE)], 16.0 + left, 1, alone=0.1)
    assert plan is not None and plan.final == pytest.approx(expected or 0.0, abs=0.001)


def test_a_plan_weighs_a_better_candidate_against_a_longer_schedule() -> None:
    good, fast = candidate(0), candidate(1)
    costs = [(good, 100.0), (fast, 20.0)]

    def planned(left: float, accuracies: tuple[float, float] = (0.72, 0.70)) -> RacePlan | None:
        return plan_in_time(costs, accuracies, left, 1)

    ample = planned(1000)
    assert ample is not None
    assert (ample.entrants, ample.length, ample.final) == ((good, fast), 1.0, 2.0)
    short = planned(84, (0.80, 0.60))
    assert short is not None
    assert short.entrants == (good,) and short.final == 0
    short = planned(84)
    assert short is not None
    assert short.entrants == (fast,) and short.final > 1
    # Nothing is left for all images; and at last for nothing.
    least = planned(18)
    assert least is not None
    assert (least.entrants, least.length, least.final) == ((fast,), 0.6, 0.0)
    assert planned(5) is None
    alone = plan_in_time(costs, (0.72, 0.70), 1000, 1, most=1)
    assert alone is not None and alone.entrants == (good,)


def test_of_equal_probes_the_larger_network_is_preferred() -> None:
    small, large = Candidate("m", 32, "float32", 1, 100, 1, 1), Candidate("m", 64, "float32", 1, 400, 1, 1)
    one, other = (RacePlan((which,), (1.0,), ((1, 1.0),), 1.0, 1.0, 1.0, 0.1) for which in (small, large))
    assert promise(other, 0.7) - promise(one, 0.7) == pytest.approx(2 * 0.02)


def test_what_can_be_raised_after_training_promises_more() -> None:
    """Half of what the higher resolution promises beyond the own: of its probe, and of its multiply-adds."""

    def screened(model: str, side: int, accuracy: float) -> Screened:
        return Screened(Candidate(model, side, "float32", 1, side**2, 1, 1), 1.0, accuracy)

    low, middle, high = screened("m", 96, 0.6), screened("m", 128, 0.64), screened("m", 129, 0.9)
    other = screened("other", 120, 0.9)
    found = with_raise([other, high, middle, low])
    larger = 0.02 * math.log2((128 / 96) ** 2)
    assert found[low.candidate] == pytest.approx(0.6 + 0.5 * (0.5 * 0.04 + larger) / 0.5), "129 px are too high"
    larger = 0.02 * math.log2((129 / 128) ** 2)
    assert found[middle.candidate] == pytest.approx(0.64 + 0.5 * (0.5 * 0.26 + larger) / 0.5)
    assert (found[high.candidate], found[other.candidate]) == (0.9, 0.9)
    worse = screened("m", 128, 0.3)
    assert with_raise([low, worse])[low.candidate] == 0.6, "it need not be raised"


def test_the_order_by_promise_counts_probe_size_and_raise() -> None:
    def screened(model: str, side: int, macs: int, accuracy: float) -> Screened:
        return Screened(Candidate(model, side, "float32", 1, macs, 1, 1), 1.0, accuracy)

    one, larger = screened("a", 64, 100, 0.70), screened("b", 64, 400, 0.63)  # two doublings are worth eight points
    low, high = screened("c", 48, 100, 0.69), screened("c", 64, 178, 0.72)
    ranked = [high, one, low, larger]
    assert by_promise(ranked) == [high, low, larger, one]
    assert by_promise([one, larger, low]) == [larger, one, low], "without what it can be raised to"


def test_where_images_do_not_tell_the_largest_comes_first() -> None:
    def screened(number: int, macs: int, accuracy: float) -> Screened:
        return Screened(Candidate("m", 32 + number, "float32", 1, macs, 1, 1), 1.0, accuracy)

    # The standard error of 50 % of 100 images is five points.
    ranked = [screened(0, 10, 0.5), screened(1, 20, 0.46), screened(2, 30, 0.451), screened(3, 40, 0.449)]
    found = largest_of_equal(ranked, 100)
    assert [one.candidate.macs for one in found] == [30, 20, 10, 40]
    assert [one.accuracy for one in found] == [0.5, 0.5, 0.5, 0.449]
    assert [one.candidate.macs for one in largest_of_equal(ranked, 10_000)] == [10, 20, 30, 40]
    narrow = msgspec.structs.replace(ranked[2].candidate, width=0.5)
    ranked[2] = msgspec.structs.replace(ranked[2], candidate=narrow)
    assert [one.candidate.macs for one in largest_of_equal(ranked, 100)] == [20, 10, 30, 40]


def test_of_what_held_out_images_do_not_tell_apart_the_larger_goes_on() -> None:
    small, large, other = (Candidate("m", side, "float32", 1, side**2, 1, 1) for side in (32, 64, 128))
    narrow = msgspec.structs.replace(other, width=0.5)
    # The standard error of 88.5 % of 288 images is 1.9 points.
    scores = {small: 0.885, large: 0.882, narrow: 0.87, other: 0.865}
    assert equals_by_size(scores, 288) == ([large, small, narrow], [other])
    assert equals_by_size(scores, 10**6) == ([small], [large, narrow, other])


def test_the_mean_per_class_of_unequal_classes_tells_less() -> None:
    """Its standard error, simulated, is that of as many images as `effective_images` returns."""
    counts, right = np.array([60, 40, 28, 20, 14, 10, 7, 5, 3, 2]), 0.57
    labels = np.repeat(np.arange(len(counts)), counts)
    images = Split("held", tuple("abcdefghij"), labels, Arrays("held", np.zeros((len(labels), 1, 1, 3), np.uint8)))
    assert effective_images(images, "none") == len(labels) == 189
    drawn = np.random.default_rng(0).binomial(counts, right, (100_000, len(counts))) / counts
    error = drawn.mean(axis=1).std()
    assert effective_images(images, "loss") == pytest.approx(right * (1 - right) / error**2, rel=0.02)
    equal = images.subset(np.flatnonzero(labels < 2)[20:])  # 40 of each
    assert effective_images(equal, "loss") == pytest.approx(80)


def test_the_most_expensive_may_be_the_one_that_goes_on() -> None:
    plan = plan_race([(candidate(0), 10.0), (candidate(1), 40.0)], 1e4, 2)
    assert plan is not None
    first = plan.rungs[0][1]
    assert plan.seconds == pytest.approx((13 + 43) * first + 6 + 43 * (1 - first) + 3)
    assert plan.costs == pytest.approx((10.0, 40.0))


def test_a_plan_in_words() -> None:
    plan, one = race(3), race(1, 17)
    assert plan is not None and one is not None
    first = f"3 for {plan.rungs[0][1]:.0%} of the epochs"
    assert plan.text().startswith(
        f"3 candidates, 20% of the images held out: {first}, 1 for 100% of the epochs, about "
    )
    assert plan.text().endswith("; then the best goes on with all images")
    alone = f"{one.entrants[0]} alone, 10% of the images held out, 100% of the usual epochs, about "
    assert one.text().startswith(alone)
    assert "all images" not in one.text()


def test_one_alone_is_planned_for_all_of_the_time_and_a_little_more() -> None:
    """Where it takes as long as estimated, it is shortened."""
    costs = [(candidate(0), 10.0)]
    # The usual schedule takes 10 s times ALONE; and two starts.
    long, longer, half, less, least = (10 * ALONE * length + 6 for length in (1.2, 1.4, 0.5, 0.4, 0.3))
    for left, length in (
        (longer / 1.05 + 0.01, 1.4),  # too short to go on with all images
        (longer / 1.05 - 0.01, 1.2),
        (long / 1.05 - 0.01, 1.0),
        (half / 1.05 + 0.01, 0.5),
        (half / 1.05 - 0.01, 0.4),
        (less / 1.05 - 0.01, 0.3),
        (least / 1.05 + 0.01, 0.3),
    ):
        plan = plan_in_time(costs, [0.5], left, 1, alone=0.1)
        assert plan is not None and (plan.length, plan.final) == (length, 0), left
    assert plan_in_time(costs, [0.5], least / 1.05 - 0.01, 1, alone=0.1) is None
    assert least_seconds(10.0, 0.1) == pytest.approx(least / 1.05)


def test_a_race_keeps_some_of_the_time_in_reserve() -> None:
    """So that its winner, if it is to be trained on all images, has that time."""
    costs = [(candidate(0), 10.0)]
    plan = plan_in_time(costs, [0.5], 30, 1, alone=0.1)
    assert plan is not None and plan.final > 0.5
    assert plan.seconds + 3 + 10 * ALONE * ON_ALL * plan.final == pytest.approx(0.95 * 30)


@pytest.mark.parametrize(
    ("entrants", "length", "final", "expected"),
    [
        (1, 1.0, 0.5, 0.5 * 0.8),  # what was learned in the race counts half
        (1, 1.0, 0.0, 0.5 * 0.8 - 0.01),  # a tenth is held out of one alone
        (1, 0.7, 0.0, 0.5 * 0.8 - 0.015 - 0.01 - 0.5 * 0.015),
        (4, 1.0, 0.0, 0.5 * 0.8 - 0.02 + 2 * 0.003),
        (1, 1.0, 1.5, 0.5 * 0.8 + 0.013),
        (4, 0.5, 1.75, 0.5 * 0.8 + 0.013 + 2 * 0.003 - 0.5 * 0.03),
        (8, 0.3, 0.55, 0.5 * 0.8 - 0.015 + 3 * 0.003 - 0.5 * 0.08),
    ],
)
def test_the_promise_of_a_race_by_hand(entrants: int, length: float, final: float, expected: float) -> None:
    """Half of the probe's differences; what the last training loses; and what more candidates and epochs tell."""
    held_out = 0.1 if entrants == 1 else 0.2
    plan = RacePlan(
        tuple(map(candidate, range(entrants))), (1.0,) * entrants, ((entrants, 1.0),), 1.0, length, final, held_out
    )
    assert promise(plan, 0.8) == pytest.approx(expected)


def test_the_first_candidate_stands_for_the_race() -> None:
    """Its probe counts, which may be worse than that of another, as where the order follows the cost."""
    costs = [(candidate(0), 10.0), (candidate(1), 10.0)]
    plan = plan_in_time(costs, [0.5, 0.9], 22, 1)
    assert plan is not None and (plan.entrants, plan.length) == ((candidate(0),), 1.4)


def test_one_training_of_each_model_is_timed() -> None:
    """The others take time in proportion to their multiply-adds and epochs."""
    small, large = Candidate("a", 32, "float32", 1, 10, 1, 1), Candidate("a", 64, "float32", 1, 40, 1, 1)
    other, inherited = Candidate("b", 32, "float32", 1, 7, 1, 1), Candidate("a", 32, "float32", 1, 5, 1, 1, width=0.5)
    timed = []

    class Timed:
        fresh = frozenset({inherited.key})

        def usual(self, candidate: Candidate) -> int:
            return 30 if candidate == large else 10

        def estimate(self, candidate: Candidate) -> float:
            timed.append(candidate)
            return 5.0

    found = estimate_all(cast(Trainings, Timed()), [small, large, inherited, other])
    assert found == [(small, 5.0), (large, pytest.approx(5.0 * 4 * 3)), (inherited, 5.0), (other, 5.0)]
    assert timed == [small, inherited, other], "inherited weights are trained throughout, others not"


def test_the_order_in_which_candidates_go_on() -> None:
    """The larger of what 100 images do not tell apart; and where an accuracy suffices, the fastest that reaches it."""
    small, middle, large = (msgspec.structs.replace(candidate(number), macs=1 + number) for number in (0, 1, 2))
    scores = {small: 0.90, large: 0.89, middle: 0.5}
    assert larger_first(scores, 100) == [large, small, middle]
    assert larger_first(scores, 10**6) == [small, large, middle]
    latencies = {small: 1.0, middle: 2.0, large: 3.0}
    assert cheaper_first({small: 0.7, middle: 0.91, large: 0.99}, 0.9, latencies) == [middle, large, small]
    assert cheaper_first({small: 0.7, middle: 0.8, large: 0.75}, 0.9, latencies) == [middle, large, small]


def test_settings_of_a_rung_are_its_candidates() -> None:
    study = RungStudy("images", (), {}, (candidate(0), candidate(1)), (2, 3), 1.0, 0.2, 0, last=False)
    assert study.trials() == 2 and study.params()[1] == {"candidate": 1.0, "epochs": 3.0}


@pytest.mark.parametrize(
    ("images", "expected"), [(1000, 0.1), (999, 0.2), (500, 0.2), (499, 0.1), (10, 0.1), (4, 0.2), (50_000, 0.1)]
)
def test_what_is_held_out_of_one_alone(images: int, expected: float) -> None:
    """A tenth; a fifth where that is 100 images and a tenth is not, or where a tenth is none."""
    assert held_out_alone(images) == expected


def test_a_rung_is_trained_by_the_schedule_of_its_race(tmp_path: Path) -> None:
    """A worker of another machine knows neither the length nor the seed, nor what is held out or not mirrored."""
    theirs = Trainings(cast(Dataset, None), tmp_path, {}, frozenset(), 1, 0.0)
    settings = RungStudy("images", (), {}, (candidate(0),), (2,), 0.7, 0.1, 5, last=True, flip=False)
    found = RungJudge(theirs, cast(OpenedStudy[RungStudy], SimpleNamespace(settings=settings)))._trainings
    assert (found.length, found.held_out, found.seed, found.flip) == (0.7, 0.1, 5, False)
