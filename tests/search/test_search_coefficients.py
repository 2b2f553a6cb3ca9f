"""The ranking says what a few seeds can say."""

from __future__ import annotations

import math

import msgspec
import optuna
import pytest
from optuna.trial import FrozenTrial
from small_search import small_search

from compoundnet.arch import FoundCoefficients, compound
from compoundnet.base import CompoundNetError, decode_toml
from compoundnet.search import CoefficientSearch
from compoundnet.search.coefficients.findings import result, verdict
from compoundnet.search.network_results import network_results, ranking
from compoundnet.trials.measurement import TrialOutcome


def study_of(
    search: CoefficientSearch, accuracies: dict[int, list[float]], images: int = 400, step: int = 0
) -> list[FrozenTrial]:
    """Finished trials: the accuracies of each point, seed by seed; each point costs `step` more than the one before."""
    trials = []
    for number in range(search.trials()):
        seed, point = divmod(number, len(search.points))
        value = accuracies.get(point, [])[seed : seed + 1]
        if not value:
            continue
        outcome = TrialOutcome(value[0], images, 1000 + step * point, 1, 1.0, (), value[0] == 0)
        attributes = {
            "position": number,
            "network": search.points[point].network.dumps(),
            "point": search.points[point].label,
            "seed": seed,
            "outcome": msgspec.to_builtins(outcome),
        }
        trials.append(optuna.trial.create_trial(values=value, user_attrs=attributes))
    return trials


def test_every_point_is_trained_once_with_each_seed() -> None:
    search = small_search(seeds=3)
    study = optuna.create_study()
    jobs = [search.propose(study.ask()) for _ in range(search.trials())]
    assert {(job.network, job.seed) for job in jobs} == {
        (point.network, seed) for point in search.points for seed in (0, 1, 2)
    }
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)


def test_the_best_mean_is_first_with_its_standard_error() -> None:
    search = small_search(seeds=3)
    study = study_of(search, {0: [0.7, 0.72, 0.74], 1: [0.9, 0.92, 0.94], 2: [0.5, 0.5, 0.53]})
    ranked = ranking(network_results(study))
    assert [entry.point for entry in ranked] == [search.points[number].label for number in (1, 0, 2)]
    assert ranked[0].accuracy == pytest.approx(0.92)
    assert f"92.00% ± {0.02 / math.sqrt(3):.2%}" in verdict(search, study)


def test_it_says_that_the_best_is_separable() -> None:
    search = small_search(seeds=3)
    study = study_of(search, {0: [0.7, 0.701, 0.702], 1: [0.9, 0.901, 0.902]})
    assert "is separable from all others" in verdict(search, study)


def test_it_says_that_the_best_is_not_separable_from_the_next() -> None:
    search = small_search(seeds=3)
    study = study_of(search, {0: [0.88, 0.92, 0.9], 1: [0.91, 0.89, 0.92], 2: [0.1, 0.11, 0.12]})
    said = verdict(search, study)
    assert "not separable from 1 of the 2 others" in said
    assert search.points[0].label in said


def test_with_one_seed_the_error_is_the_binomial_one_and_it_is_said() -> None:
    search = small_search(seeds=1)
    study = study_of(search, {0: [0.8], 1: [0.9]}, images=400)
    assert f"90.00% ± {math.sqrt(0.9 * 0.1 / 400):.1%}"[:-1] in verdict(search, study)
    assert "binomial" in verdict(search, study)


def test_the_result_scales_the_network_it_was_found_for() -> None:
    search = small_search()
    study = study_of(search, {0: [0.8], 3: [0.9]})
    found = decode_toml(result(search, study), FoundCoefficients, "result.toml")
    assert found.coefficients == search.points[3].coefficients
    assert found.network == search.network
    scaled = compound(found.network, search.phi, found.coefficients)
    assert scaled.stages == search.points[3].network.stages


def test_it_says_that_points_cost_differently() -> None:
    search = small_search()
    accuracies = {0: [0.8], 1: [0.9]}
    assert "more expensive" not in verdict(search, study_of(search, accuracies, step=200))
    assert "between 1.00k and 1.50k multiply-adds" in verdict(search, study_of(search, accuracies, step=500))


def test_a_training_that_diverged_counts_as_nothing() -> None:
    search = small_search(seeds=2)
    study = study_of(search, {0: [0.9, 0.0], 1: [0.6, 0.62]})
    assert ranking(network_results(study))[0].point == search.points[1].label
    assert "diverged" not in verdict(search, study)
    half = study_of(search, {0: [0.9, 0.0], 1: [0.0, 0.0]})
    said = verdict(search, half)
    assert f"1 of 2 trainings of {search.points[0].label} diverged and counts with accuracy 0." in said
    # Two trainings that diverged are two of the same accuracy, on as many images as the others.
    assert [entry.sample.images for entry in network_results(half)] == [400, 400]
    with pytest.raises(CompoundNetError, match="every training diverged"):
        verdict(search, study_of(search, {0: [0.0, 0.0]}))


def test_without_a_finished_trial_there_is_no_result() -> None:
    with pytest.raises(CompoundNetError, match="no trial is finished"):
        result(small_search(), study_of(small_search(), {}))
