"""The ranking says what a few seeds can say."""

from __future__ import annotations

import math

import msgspec
import optuna
import pytest
from small_search import small_search

from compoundnet.arch import CompoundNetError, FoundCoefficients, compound, decode_toml
from compoundnet.search import CoefficientSearch
from compoundnet.search.measuring import Measured


def study_of(search: CoefficientSearch, accuracies: dict[int, list[float]], pictures: int = 400) -> optuna.Study:
    """Finished trials: the accuracies of each point, seed by seed."""
    study = optuna.create_study(direction="maximize")
    for number in range(search.trials()):
        seed, point = divmod(number, len(search.points))
        value = accuracies.get(point, [])[seed : seed + 1]
        measured = [msgspec.to_builtins(Measured(each, pictures, 1, 1, 1.0)) for each in value]
        state = optuna.trial.TrialState.COMPLETE if value else optuna.trial.TrialState.WAITING
        study.add_trial(
            optuna.trial.create_trial(
                state=state, values=value or None, user_attrs={"measured": measured[0]} if measured else {}
            )
        )
    return study


def test_every_point_is_trained_once_with_each_seed() -> None:
    search = small_search(seeds=3)
    study = study_of(search, {})
    jobs = [search.propose(study.ask()) for _ in range(search.trials())]
    assert {(job.network, job.seed) for job in jobs} == {
        (point.network, seed) for point in search.points for seed in (0, 1, 2)
    }
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)


def test_the_best_mean_is_first_with_its_standard_error() -> None:
    search = small_search(seeds=3)
    study = study_of(search, {0: [0.7, 0.72, 0.74], 1: [0.9, 0.92, 0.94], 2: [0.5, 0.5, 0.53]})
    ranking = search.ranking(study)
    assert [entry.point for entry in ranking] == [search.points[1], search.points[0], search.points[2]]
    assert ranking[0].accuracy == pytest.approx(0.92)
    assert ranking[0].error == pytest.approx(0.02 / math.sqrt(3))


def test_it_says_that_the_best_is_separable() -> None:
    search = small_search(seeds=3)
    study = study_of(search, {0: [0.7, 0.701, 0.702], 1: [0.9, 0.901, 0.902]})
    assert "is separable from all others" in search.verdict(study)


def test_it_says_that_the_best_is_not_separable_from_the_next() -> None:
    search = small_search(seeds=3)
    study = study_of(search, {0: [0.88, 0.92, 0.9], 1: [0.91, 0.89, 0.92], 2: [0.1, 0.11, 0.12]})
    verdict = search.verdict(study)
    assert "not separable from 1 of the 2 others" in verdict
    assert search.points[0].label in verdict


def test_with_one_seed_the_error_is_the_binomial_one_and_it_is_said() -> None:
    search = small_search(seeds=1)
    study = study_of(search, {0: [0.8], 1: [0.9]}, pictures=400)
    assert search.ranking(study)[0].error == pytest.approx(math.sqrt(0.9 * 0.1 / 400), rel=0.05)
    assert "binomial" in search.verdict(study)


def test_the_result_scales_the_network_it_was_found_for() -> None:
    search = small_search()
    study = study_of(search, {0: [0.8], 3: [0.9]})
    found = decode_toml(search.result(study), FoundCoefficients, "result.toml")
    assert found.coefficients == search.points[3].coefficients
    assert found.network == search.network
    scaled = compound(found.network, search.phi, found.coefficients)
    assert scaled.stages == search.points[3].network.stages


def test_without_a_finished_trial_there_is_no_result() -> None:
    with pytest.raises(CompoundNetError, match="no trial is finished"):
        small_search().result(study_of(small_search(), {}))
