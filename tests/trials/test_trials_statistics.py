"""Intervals against scipy's own tests, and what one seed can say."""

from __future__ import annotations

import pytest
from scipy import stats

from compoundnet.trials.statistics import (
    AccuracySample,
    Interval,
    combination,
    difference,
    interval,
    percent,
    points,
    standard_error,
)

FIRST = AccuracySample((0.61, 0.63, 0.60), 1000)
SECOND = AccuracySample((0.58, 0.59, 0.55, 0.57), 1000)


def test_the_interval_of_a_mean_is_students() -> None:
    found = interval(FIRST)
    low, high = stats.t.interval(0.95, 2, loc=found.mean, scale=stats.sem(FIRST.accuracies))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.error == standard_error(FIRST) == pytest.approx(stats.sem(FIRST.accuracies))


def test_the_interval_of_a_difference_is_welchs() -> None:
    theirs = stats.ttest_ind(FIRST.accuracies, SECOND.accuracies, equal_var=False).confidence_interval(0.95)
    found = difference(FIRST, SECOND)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert found.sign == 1
    assert difference(SECOND, FIRST).sign == -1


def test_a_difference_smaller_than_the_spread_is_noise() -> None:
    assert difference(FIRST, AccuracySample((0.60, 0.62, 0.61), 1000)).sign == 0


def test_one_seed_has_the_binomial_noise_of_its_pictures() -> None:
    one = AccuracySample((0.6,), 1000)
    assert standard_error(one) == pytest.approx((0.6 * 0.4 / 1000) ** 0.5, rel=1e-3)
    assert difference(one, AccuracySample((0.61,), 1000)).sign == 0
    assert difference(one, AccuracySample((0.70,), 1000)).sign == -1


def test_seeds_that_agree_are_not_held_for_certain() -> None:
    assert standard_error(AccuracySample((0.6, 0.6, 0.6), 1000)) == pytest.approx(
        standard_error(AccuracySample((0.6,), 1000))
    )


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_an_accuracy_at_the_end_of_its_range_keeps_an_interval_within_it(accuracy: float) -> None:
    found = interval(AccuracySample((accuracy,), 50))
    assert 0 <= found.low < found.high <= 1


def test_a_combination_with_half_weights_is_the_difference_of_means_of_two() -> None:
    pairs = combination((0.5, FIRST), (0.5, FIRST), (-0.5, SECOND), (-0.5, SECOND))
    assert pairs.mean == pytest.approx(difference(FIRST, SECOND).mean)
    # Taken as four independent samples, two of each are half as noisy in variance.
    assert pairs.error == pytest.approx(difference(FIRST, SECOND).error / 2**0.5)


@pytest.mark.parametrize("values", [((), 10), ((0.5,), 0)])
def test_a_sample_of_nothing_is_refused(values: tuple[tuple[float, ...], int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        AccuracySample(*values)


def test_intervals_in_words() -> None:
    assert percent(Interval(0.612, 0.001, 0.6091, 0.6149)) == "61.20% (60.91 to 61.49)"
    assert points(Interval(0.012, 0.001, 0.0081, -0.0161)) == "+1.20 (+0.81 to -1.61)"
    assert percent(None) == points(None) == ""


def test_an_interval_that_touches_zero_says_nothing() -> None:
    assert [Interval(0, 1, low, high).sign for low, high in ((0, 1), (-1, 0), (0.1, 1), (-1, -0.1))] == [0, 0, 1, -1]


def test_one_seed_has_wilsons_interval() -> None:
    found = interval(AccuracySample((0.6,), 50))
    low, high = stats.binomtest(30, 50).proportion_ci(0.95, "wilson")
    assert (found.low, found.high) == pytest.approx((low, high))
    # Agresti and Coull: two hits and two misses are added.
    assert found.error == pytest.approx((32 / 54 * 22 / 54 / 50) ** 0.5)


def test_two_seeds_have_a_spread_and_wide_intervals_end_at_0_and_1() -> None:
    found = interval(AccuracySample((0.1, 0.9), 1000))
    assert found.error == pytest.approx(0.4) and (found.low, found.high) == (0.0, 1.0)


def test_one_image_is_a_sample() -> None:
    assert AccuracySample((1.0,), 1).images == 1
