"""Intervals against scipy's own tests, and what one seed can say."""

from __future__ import annotations

import pytest
from scipy import stats

from compoundnet.trials.statistics import AccuracySample, combination, difference, interval, standard_error

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
