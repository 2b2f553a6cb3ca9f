"""The plan of a race: how many start, how far each rung goes, and what is left for the winner."""

from __future__ import annotations

from typing import cast

import msgspec
import pytest

from compoundnet.fit import Candidate, Screened
from compoundnet.fit.race import RungStudy
from compoundnet.fit.race_plan import (
    RacePlan,
    estimate_all,
    largest_of_equal,
    length_on_all,
    plan_in_time,
    plan_race,
    promise,
)
from compoundnet.fit.trainings import EPOCHS, Trainings

# An epoch on 1,000 images, each of which takes three times as long to train on as to evaluate, over one on 800 of them
# with the evaluation on the others.
ON_ALL = 3000 / (3 * 800 + 200)


def candidate(number: int) -> Candidate:
    return Candidate("m", 32 + number, "float32", 1, 1, 1, 1)


def race(count: int, seconds: float = 1e4, workers: int = 1, length: float = 1.0) -> RacePlan | None:
    """Of so many candidates, each of which takes 10 s."""
    return plan_race([(candidate(number), 10.0) for number in range(12)], seconds, count, workers, length)


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


def test_the_seconds_of_a_race_by_hand() -> None:
    """A training takes its own time and 3 s to start, and another start for each rung."""
    one, three = race(1), race(3)
    assert one is not None and three is not None
    first = three.rungs[0][1]
    assert one.seconds == pytest.approx(13 + 3)
    assert three.seconds == pytest.approx(3 * 13 * first + 3 * 3 + 13 * (1 - first) + 3)
    together = race(3, workers=2)
    assert together is not None
    assert together.seconds == pytest.approx(3 * 13 / 2 * first + 2 * 3 + 13 * (1 - first) + 3)
    half = race(1, length=0.5)
    assert half is not None and half.seconds == pytest.approx(5 + 3 + 3) and half.length == 0.5


def test_a_race_takes_all_of_the_time_that_there_is_and_no_more() -> None:
    assert race(1, 16) is not None and race(1, 15.9) is None
    three = race(3)
    assert three is not None
    assert race(3, three.seconds) is not None and race(3, three.seconds - 0.1) is None


def test_what_takes_too_long_does_not_start() -> None:
    costs = [(candidate(0), 1000.0), (candidate(1), 10.0), (candidate(2), 10.0)]
    plan = plan_race(costs, 100, 1)
    assert plan is not None and plan.entrants == (candidate(1),)
    assert plan_race(costs, 100, 3) is None
    # A race of 44 s alone takes 50: it starts twice.
    for cost, first in ((44.0, 0), (44.01, 1)):
        plan = plan_race([(candidate(0), cost), (candidate(1), 1.0)], 50, 1)
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
    """The usual length takes 10 s with images held out, ON_ALL times that on all, and 3 s to write."""
    assert length_on_all(10.0, left) == (None if expected is None else pytest.approx(expected, abs=0.001))
    plan = race(1, 16 + left)
    assert plan is not None and plan.final == pytest.approx(expected or 0.0, abs=0.001)


def test_a_plan_weighs_a_better_candidate_against_a_longer_schedule() -> None:
    good, fast = candidate(0), candidate(1)
    costs = [(good, 100.0), (fast, 20.0)]

    def planned(left: float, accuracies: tuple[float, float] = (0.72, 0.70)) -> RacePlan | None:
        return plan_in_time(costs, accuracies, left, 1)

    ample = planned(1000)
    assert ample is not None
    assert (ample.entrants, ample.length, ample.final) == ((good, fast), 1.0, 2.0)
    short = planned(100, (0.80, 0.60))
    assert short is not None
    assert short.entrants == (good,) and short.final == 0
    short = planned(100)
    assert short is not None
    assert short.entrants == (fast,) and short.final > 1
    # Nothing is left for all images; and at last for nothing.
    least = planned(21)
    assert least is not None
    assert (least.entrants, least.length, least.final) == ((fast,), 0.5, 0.0)
    assert planned(5) is None
    alone = plan_in_time(costs, (0.72, 0.70), 1000, 1, most=1)
    assert alone is not None and alone.entrants == (good,)


def test_of_equal_probes_the_larger_network_is_preferred() -> None:
    small, large = Candidate("m", 32, "float32", 1, 100, 1, 1), Candidate("m", 64, "float32", 1, 400, 1, 1)
    one, other = (RacePlan((which,), (1.0,), ((1, 1.0),), 1.0, 1.0, 1.0) for which in (small, large))
    assert promise(other, 0.7) - promise(one, 0.7) == pytest.approx(2 * 0.02)


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


def test_the_most_expensive_may_be_the_one_that_goes_on() -> None:
    plan = plan_race([(candidate(0), 10.0), (candidate(1), 40.0)], 1e4, 2)
    assert plan is not None
    first = plan.rungs[0][1]
    assert plan.seconds == pytest.approx((13 + 43) * first + 6 + 43 * (1 - first) + 3)
    assert plan.costs == (10.0, 40.0)


def test_a_plan_in_words() -> None:
    plan, one = race(3), race(1, 16)
    assert plan is not None and one is not None
    assert plan.text().startswith(
        f"3 candidates: 3 for {plan.rungs[0][1]:.0%} of the epochs, 1 for 100% of the epochs, about "
    )
    assert plan.text().endswith(", then the best goes on with all images")
    assert one.text().startswith("1 candidate: 1 for 100% of the epochs, about ") and "all images" not in one.text()


def test_a_fifth_of_the_time_is_kept_in_reserve_unless_nothing_fits_the_rest() -> None:
    costs = [(candidate(0), 10.0)]
    # Half of the usual schedule takes 5 s, the shortest, 0.3 of it, 3 s; and two starts.
    for left, length in ((11 / 0.8 + 0.01, 0.5), (11 / 0.8 - 0.01, 0.3), (9 / 0.8 - 0.01, 0.3), (9.01, 0.3)):
        plan = plan_in_time(costs, [0.5], left, 1)
        assert plan is not None and (plan.length, plan.final) == (length, 0), left
    assert plan_in_time(costs, [0.5], 8.99, 1) is None


@pytest.mark.parametrize(
    ("entrants", "length", "final", "expected"),
    [
        (1, 1.0, 0.5, 0.5 * 0.8),  # what was learned in the race counts half
        (1, 1.0, 0.0, 0.5 * 0.8 - 0.02),
        (1, 0.7, 0.0, 0.5 * 0.8 - 0.01 - 0.02 - 0.5 * 0.01),
        (1, 1.0, 1.5, 0.5 * 0.8 + 0.012),
        (4, 0.5, 1.75, 0.5 * 0.8 + 0.012 + 2 * 0.003 - 0.5 * 0.02),
        (8, 0.3, 0.55, 0.5 * 0.8 - 0.01 + 3 * 0.003 - 0.5 * 0.04),
    ],
)
def test_the_promise_of_a_race_by_hand(entrants: int, length: float, final: float, expected: float) -> None:
    """Half of the probe's differences; what the last training loses; and what more candidates and epochs tell."""
    plan = RacePlan(tuple(map(candidate, range(entrants))), (1.0,) * entrants, ((entrants, 1.0),), 1.0, length, final)
    assert promise(plan, 0.8) == pytest.approx(expected)


def test_the_first_candidate_stands_for_the_race() -> None:
    """Its probe counts, which may be worse than that of another, as where the order follows the cost."""
    costs = [(candidate(0), 10.0), (candidate(1), 10.0)]
    plan = plan_in_time(costs, [0.5, 0.9], 22, 1)
    assert plan is not None and (plan.entrants, plan.length) == ((candidate(0),), 1.0)


def test_one_training_of_each_model_is_timed() -> None:
    """The others take time in proportion to their multiply-adds and epochs."""
    small, large = Candidate("a", 32, "float32", 1, 10, 1, 1), Candidate("a", 64, "float32", 1, 40, 1, 1)
    other = Candidate("b", 32, "float32", 1, 7, 1, 1)
    timed = []

    class Timed:
        def usual(self, candidate: Candidate) -> int:
            return 30 if candidate == large else 10

        def estimate(self, candidate: Candidate) -> float:
            timed.append(candidate)
            return 5.0

    found = estimate_all(cast(Trainings, Timed()), [small, large, other])
    assert found == [(small, 5.0), (large, pytest.approx(5.0 * 4 * 3)), (other, 5.0)] and timed == [small, other]


def test_settings_of_a_rung_are_its_candidates() -> None:
    study = RungStudy((candidate(0), candidate(1)), (2, 3), last=False)
    assert study.trials() == 2 and study.params()[1] == {"candidate": 1.0, "epochs": 3.0}
