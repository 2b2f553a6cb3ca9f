"""Samplers draw by seed, trial number and finished trials alone, and find good networks with far fewer trials than
random search."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState, create_trial

from compoundnet.search.architecture.samplers import EvolutionSampler, ReinforceSampler, SamplerName, make_sampler
from compoundnet.search.architecture.samplers.history import HistorySampler

CHOICES = {
    "operator": ("conv", "mbconv3", "mbconv6"),
    "kernel": (3, 5),
    "se": (0.0, 0.25),
    "filters": (0.75, 1.0, 1.25),
}
NAMES: list[Any] = list(get_args(SamplerName))
LEARNING: list[Any] = [ReinforceSampler, EvolutionSampler]


def value(params: dict[str, Any]) -> float:
    """Best at mbconv6, 5, 0.25, 1.0, with an interaction."""
    return float(
        (params["operator"] == "mbconv6")
        + (params["kernel"] == 5) * (params["se"] == 0.25)
        - (params["filters"] - 1) ** 2
    )


def asked(study: optuna.Study) -> tuple[optuna.Trial, dict[str, Any]]:
    trial = study.ask()
    return trial, {name: trial.suggest_categorical(name, options) for name, options in CHOICES.items()}


def run(
    sampler: Callable[[], optuna.samplers.BaseSampler], trials: int, study: optuna.Study | None = None
) -> optuna.Study:
    """With a new sampler for each trial, as if each had a worker of its own."""
    study = study or optuna.create_study(direction="maximize")
    for _ in range(trials):
        study.sampler = sampler()
        trial, params = asked(study)
        study.tell(trial, value(params))
    return study


def params(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


def finished(
    found: list[tuple[dict[str, Any], float | None]], direction: Literal["maximize", "minimize"] = "maximize"
) -> optuna.Study:
    """A study of these trials; None is pruned, nan has failed."""
    study = optuna.create_study(direction=direction)
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(options) for name, options in CHOICES.items()
    }
    for drawn, reward in found:
        state = TrialState.PRUNED if reward is None else TrialState.FAIL if np.isnan(reward) else TrialState.COMPLETE
        study.add_trial(
            create_trial(
                state=state,
                values=[reward] if state == TrialState.COMPLETE and reward is not None else None,
                params=drawn,
                distributions=distributions,
            )
        )
    return study


def policy(study: optuna.Study, **settings: Any) -> dict[str, dict[Any, float]]:
    """How likely each option is."""
    sampler = ReinforceSampler(CHOICES, seed=0, **settings)
    likely = sampler.policy(*sampler._history(study))
    return {
        name: dict(zip(options, row.tolist(), strict=False))
        for (name, options), row in zip(CHOICES.items(), likely, strict=True)
    }


GOOD: dict[str, Any] = {"operator": "mbconv6", "kernel": 5, "se": 0.25, "filters": 1.0}
BAD: dict[str, Any] = {"operator": "conv", "kernel": 3, "se": 0.0, "filters": 0.75}


@pytest.mark.parametrize("name", NAMES)
def test_a_search_that_is_interrupted_draws_what_an_uninterrupted_one_does(name: SamplerName) -> None:
    def sampler() -> optuna.samplers.BaseSampler:
        return make_sampler(name, CHOICES, seed=3, trials=30)

    whole = run(sampler, 30)
    np.random.seed(0)  # what a process's generators have drawn must not matter
    parted = run(sampler, 13)
    kept = optuna.create_study(direction="maximize")
    kept.add_trials(parted.trials)
    assert params(run(sampler, 17, kept)) == params(whole)
    assert params(run(lambda: make_sampler(name, CHOICES, seed=4, trials=30), 30)) != params(whole)


@pytest.mark.parametrize("name", NAMES)
def test_trials_that_run_at_once_are_drawn_apart(name: SamplerName) -> None:
    study = optuna.create_study(direction="maximize", sampler=make_sampler(name, CHOICES, seed=0, trials=30))
    together = [asked(study) for _ in range(8)]
    assert len({tuple(drawn.values()) for _, drawn in together}) > 4
    for trial, drawn in reversed(together):
        study.tell(trial, value(drawn))
    assert set(asked(study)[1]) == set(CHOICES)


@pytest.mark.parametrize("sampler", LEARNING)
def test_the_order_in_which_trials_end_does_not_matter(sampler: type[HistorySampler]) -> None:
    found = []
    for order in (1, -1):
        study = optuna.create_study(direction="maximize", sampler=sampler(CHOICES, seed=0))
        together = [asked(study) for _ in range(30)]
        for trial, drawn in together[::order]:
            study.tell(trial, value(drawn))
        found.append(asked(study)[1])
    assert found[0] == found[1]


@pytest.mark.parametrize("sampler", LEARNING)
def test_a_failed_trial_teaches_nothing(sampler: type[HistorySampler]) -> None:
    known = [(drawn.params, drawn.value) for drawn in run(lambda: sampler(CHOICES, seed=1), 28).trials]
    after = []
    for history in (known, [*known, (GOOD, np.nan)]):
        picks, rewards = (made := sampler(CHOICES, seed=1))._history(finished(history))
        after.append(made.propose(picks, rewards, np.random.default_rng(0)).tolist())
    assert after[0] == after[1]


@pytest.mark.parametrize("sampler", LEARNING)
def test_what_is_known_is_not_proposed_again(sampler: type[HistorySampler]) -> None:
    study = run(lambda: sampler(CHOICES, seed=0), 25)
    assert len({tuple(drawn.values()) for drawn in params(study)}) == 25


@pytest.mark.parametrize("sampler", LEARNING)
def test_a_space_that_is_used_up_is_proposed_again(sampler: type[HistorySampler]) -> None:
    assert len(run(lambda: sampler(CHOICES, seed=0), 40).trials) == 40  # of 36 there are


def test_without_trials_all_options_are_equally_likely() -> None:
    assert policy(finished([]))["operator"] == pytest.approx({"conv": 1 / 3, "mbconv3": 1 / 3, "mbconv6": 1 / 3})
    assert policy(finished([]))["kernel"] == pytest.approx({3: 1 / 2, 5: 1 / 2})


def test_the_policy_goes_to_what_is_rewarded() -> None:
    likely = policy(finished([(GOOD, 0.9), (BAD, 0.1)] * 5))
    assert likely["kernel"][5] > 0.9
    assert likely["operator"]["mbconv6"] > 0.8


def test_a_study_that_minimises_is_minimised() -> None:
    likely = policy(finished([(GOOD, 0.1), (BAD, 0.9)] * 5, "minimize"))
    assert likely["kernel"][5] > 0.9


def test_the_policy_leaves_what_is_pruned() -> None:
    likely = policy(finished([(GOOD, 0.5), (BAD, None)] * 5))
    assert likely["kernel"][3] < 0.1
    assert policy(finished([(BAD, None)] * 5))["kernel"][3] < 0.5  # nothing but pruned trials


def test_a_batch_counts_when_it_is_full() -> None:
    assert policy(finished([(GOOD, 0.9), (BAD, 0.1)] * 2), batch=5) == policy(finished([]), batch=5)


def test_equal_rewards_move_nothing_but_entropy() -> None:
    likely = policy(finished([(GOOD, 0.5)] * 10))
    assert likely["kernel"] == pytest.approx({3: 0.5, 5: 0.5})


def test_entropy_keeps_options_open() -> None:
    history = finished([(GOOD, 0.9), (BAD, 0.1)] * 5)
    assert policy(history, entropy=0.5)["kernel"][3] > 1.5 * policy(history, entropy=0.0)["kernel"][3]


def test_a_child_is_the_tournaments_best_but_for_one_choice() -> None:
    sampler = EvolutionSampler(CHOICES, seed=0, population=4, tournament=4)
    picks = np.array([[0, 0, 0, 0], [2, 1, 1, 1], [1, 0, 0, 2], [0, 1, 0, 0]])
    for seed in range(20):
        child = sampler.drawer(picks, np.array([0.1, 0.9, np.nan, 0.3]))(np.random.default_rng(seed))
        assert (child != picks[1]).sum() == 1
        assert all(0 <= pick < len(options) for pick, options in zip(child, CHOICES.values(), strict=True))


def test_the_oldest_die_however_good() -> None:
    sampler = EvolutionSampler(CHOICES, seed=0, population=3, tournament=3)
    picks = np.array([[2, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    child = sampler.drawer(picks, np.array([0.9, 0.1, 0.1, 0.1]))(np.random.default_rng(0))
    assert (child != 0).sum() == 1


def test_a_tournament_larger_than_the_population() -> None:
    with pytest.raises(ValueError, match=r"1 to population \(5\) members, got 6"):
        EvolutionSampler(CHOICES, seed=0, population=5, tournament=6)


@pytest.mark.parametrize("sampler", LEARNING)
def test_two_values_are_not_for_one_reward(sampler: type[HistorySampler]) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler(CHOICES, seed=0))
    with pytest.raises(ValueError, match="maximises one value; this study has 2"):
        asked(study)


def test_nsga2_takes_two_values() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    for _ in range(24):
        study.sampler = make_sampler("nsga2", CHOICES, seed=0, trials=24)
        trial, drawn = asked(study)
        study.tell(trial, [value(drawn), drawn["filters"]])
    generations = {trial.system_attrs["NSGAIISampler:generation"] for trial in study.trials}
    assert generations == {0, 1, 2, 3}


def benchmark() -> Any:
    """benchmarks/bench_search.py as a module."""
    folder = Path(__file__).parents[2] / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("bench_search", folder / "bench_search.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


@pytest.mark.slow
def test_they_need_a_third_of_the_trials_that_random_search_does() -> None:
    bench = benchmark()
    needed: dict[str, list[int]] = {"reinforce": [], "evolution": []}
    for seed in range(100, 105):
        landscape = bench.Landscape(seed)
        assert landscape.rewards.size == landscape.space.size() == 5_308_416
        for name, counts in needed.items():
            sampler = bench.SAMPLERS[name](landscape.space.choices(), seed=seed)
            counts.append(bench.trials_to_top(landscape, sampler, seed, most=2000))
    # Random search's number is geometric: its median is ln 2 / 0.0005.
    assert {name: statistics.median(counts) <= 1386 / 3 for name, counts in needed.items()} == {
        "reinforce": True, "evolution": True,
    }, needed  # fmt: skip


def test_the_landscapes_costs_are_those_of_its_networks() -> None:
    bench = benchmark()
    landscape = bench.Landscape(0)
    from compoundnet.arch import cost

    costs = sys.modules["landscape"].multiply_adds(landscape.space)
    choices = landscape.space.choices()
    random = np.random.default_rng(0)
    for _ in range(20):
        picks = random.integers(landscape.options)
        chosen = {name: options[pick] for (name, options), pick in zip(choices.items(), picks, strict=True)}
        assert (
            costs.flat[np.ravel_multi_index(tuple(picks), landscape.options)]
            == cost(landscape.space.network(chosen)).macs
        )
