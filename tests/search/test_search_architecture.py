"""An architecture search trains no network twice, ends the same after an interruption, and gives a network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import optuna
import pytest
from command import run as command
from optuna.trial import TrialState
from small_space import small_space
from small_train import class_folders, small_dataset

from compoundnet.arch import Network, cost, network, scale
from compoundnet.base import CompoundNetError
from compoundnet.search import run
from compoundnet.search.architecture.findings import result, reward
from compoundnet.search.architecture.objective import Objective
from compoundnet.search.architecture.samplers import EvolutionSampler
from compoundnet.search.architecture.settings import ArchitectureSearch
from compoundnet.search.kinds import decode
from compoundnet.search.network_results import network_results
from compoundnet.train import find_recipe, override
from compoundnet.trials import network_judge
from compoundnet.trials.measurement import TrialOutcome, data_identity
from compoundnet.trials.studies import OpenedStudy, create_study
from compoundnet.trials.worker import work as work_with

DATA = small_dataset()
STEPS = override(find_recipe("proxy"), ["steps=2000"])


def search(**fields: Any) -> ArchitectureSearch:
    """Of 24 networks at a target that they all miss a little."""
    recipe = override(find_recipe("proxy"), ["epochs=2", "batch=8"])
    settings: dict[str, Any] = {"recipe": recipe, "objective": Objective(2e5), "proposals": 6, "pruning": "none"}
    return ArchitectureSearch(small_space(), "greys", **(settings | fields))


def created(made: ArchitectureSearch, folder: Path) -> OpenedStudy[ArchitectureSearch]:
    return create_study(made, data_identity(DATA), folder)


def work(opened: OpenedStudy[ArchitectureSearch], go_on: Callable[[], bool] = lambda: True) -> int:
    return work_with(opened, network_judge.NetworkJudge(opened, DATA), go_on=go_on)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Network]:
    """The networks that were trained, in order; training takes no time, and larger networks are better."""
    networks: list[Network] = []

    def measured(given: Network, *_: object, epoch_done: Any, **__: object) -> TrialOutcome:
        networks.append(given)
        costs = cost(given)
        accuracy = min(0.99, 0.5 + costs.params / 1e5)
        epoch_done(1, accuracy / 2)
        epoch_done(2, accuracy)
        return TrialOutcome(accuracy, 100, costs.macs, costs.params, 0.1, ((1, accuracy / 2), (2, accuracy)))

    monkeypatch.setattr(network_judge, "measure", measured)
    return networks


def test_settings_are_read_back() -> None:
    made = search(sampling="evolution", pruning="hyperband", seed=4)
    assert decode(msgspec.json.encode(made)) == made


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pareto": True}, "reinforce maximises one reward; a Pareto search needs the sampler nsga2 or random"),
        (
            {"pareto": True, "sampling": "nsga2", "pruning": "median"},
            "no single value to prune by; give the pruner none",
        ),
        ({"objective": Objective(1000.0)}, "no network of the space tiny meets the target"),
        ({"proposals": 0}, "trials must be at least 1, got 0"),
        ({"seed": -1}, "seed must not be negative"),
        ({"pruning": "median", "recipe": STEPS}, "the pruner median compares networks epoch by epoch, and the recipe"),
        ({"pruning": "hyperband", "recipe": STEPS}, "set epochs, or give the pruner none"),
    ],
)
def test_settings_that_contradict_each_other(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search(**fields)


def test_a_recipe_of_steps_needs_no_epochs_where_nothing_is_pruned() -> None:
    assert search(recipe=STEPS).recipe.steps == 2000


def test_a_space_of_one_network_is_no_search() -> None:
    space = small_space()
    single = tuple(
        msgspec.structs.replace(block, operators=block.operators[:1], kernels=(3,), skips=("none",))
        for block in space.blocks
    )
    with pytest.raises(ValueError, match="holds one network: there is nothing to choose"):
        msgspec.structs.replace(search(), space=msgspec.structs.replace(space, blocks=single)).__post_init__()


def test_every_network_has_the_same_seed_for_its_weights() -> None:
    study = optuna.create_study(sampler=search().sampler())
    jobs = [search(seed=7).propose(study.ask()) for _ in range(6)]
    assert {job.seed for job in jobs} == {7}
    assert len({job.network for job in jobs}) > 2
    assert all(job.point == job.network.name for job in jobs)


def test_the_reward_weighs_accuracy_with_cost(tmp_path: Path, trained: list[Network]) -> None:
    made = search()
    opened = created(made, tmp_path / "study")
    work(opened)
    assert trained
    for trial in opened.study.trials:
        given = Network.loads(trial.user_attrs["network"])
        accuracy = trial.user_attrs["outcome"]["accuracy"]
        reward = accuracy * (cost(given).macs / 2e5) ** -0.07
        assert trial.value == pytest.approx(reward)
        # What is pruned by is the same value, epoch by epoch.
        assert trial.intermediate_values == pytest.approx({1: reward / 2, 2: reward})


def test_no_network_is_trained_twice(tmp_path: Path, trained: list[Network]) -> None:
    made = search(proposals=30)
    opened = created(made, tmp_path / "study")
    assert work(opened) == 30
    trials = opened.study.trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 30
    assert len(trained) == len({given.replace(name="same") for given in trained}) <= 24
    by_point: dict[str, set[float | None]] = {}
    for trial in trials:
        by_point.setdefault(trial.user_attrs["point"], set()).add(trial.value)
    assert all(len(values) == 1 for values in by_point.values())
    assert len(by_point) == len(trained)
    assert {entry.seeds for entry in network_results(trials)} == {1}


def test_hopeless_networks_are_given_up(tmp_path: Path, trained: list[Network]) -> None:
    opened = created(search(proposals=14, pruning="median", sampling="random"), tmp_path / "study")
    work(opened)
    states = [trial.state for trial in opened.study.trials]
    assert states[:5] == [TrialState.COMPLETE] * 5
    assert 0 < states.count(TrialState.PRUNED) < 9
    pruned = [trial for trial in opened.study.trials if trial.state == TrialState.PRUNED]
    complete = [trial.value for trial in opened.study.trials if trial.value is not None]
    assert all(max(trial.intermediate_values.values()) < max(complete) for trial in pruned)


def test_hyperband_gives_networks_up_too(tmp_path: Path, trained: list[Network]) -> None:
    opened = created(search(proposals=8, pruning="hyperband", sampling="random"), tmp_path / "study")
    work(opened)
    assert trained
    assert {trial.state for trial in opened.study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.parametrize("sampling", ["reinforce", pytest.param("nsga2", marks=pytest.mark.slow)])
def test_a_search_that_is_continued_ends_as_an_uninterrupted_one(
    tmp_path: Path, trained: list[Network], sampling: str
) -> None:
    made = search(sampling=sampling, proposals=12, pruning="median")
    whole = created(made, tmp_path / "whole")
    work(whole)
    for _ in range(2):
        left = iter([True] * 6)
        work(created(made, tmp_path / "parted"), go_on=partial(next, left, False))
    parted = created(made, tmp_path / "parted").study.trials
    assert [(trial.params, trial.value, trial.state) for trial in parted] == [
        (trial.params, trial.value, trial.state) for trial in whole.study.trials
    ]


def test_a_search_that_is_interrupted_in_its_trials_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each interrupted trial is repeated with another number, after the pruner has judged its first epochs."""
    recipe = override(find_recipe("proxy"), ["epochs=5", "batch=8"])
    made = msgspec.structs.replace(search(proposals=9, pruning="hyperband"), recipe=recipe)
    trainings = {"left": 1_000_000}

    def measured(given: Network, *_: object, epoch_done: Any, **__: object) -> TrialOutcome:
        costs = cost(given)
        accuracies = [(epoch, epoch / 5 * (0.2 + costs.params % 97 / 200)) for epoch in range(1, 6)]
        trainings["left"] -= 1
        for epoch, accuracy in accuracies:
            epoch_done(epoch, accuracy)
            if epoch == 4 and trainings["left"] < 0:
                raise CompoundNetError("interrupted")
        return TrialOutcome(accuracies[-1][1], 100, costs.macs, costs.params, 0.1, tuple(accuracies))

    monkeypatch.setattr(network_judge, "measure", measured)

    def ended(opened: OpenedStudy[ArchitectureSearch]) -> list[tuple[Any, ...]]:
        return [(trial.params, trial.values, trial.state) for trial in opened.counted()]

    whole, parted = created(made, tmp_path / "whole"), created(made, tmp_path / "parted")
    work(whole)
    assert {state for *_, state in ended(whole)} == {TrialState.COMPLETE, TrialState.PRUNED}
    for count in (1, 2, 1_000_000):
        trainings["left"] = count
        parted.study.pruner = made.pruner()  # that of another process
        with contextlib.suppress(CompoundNetError):
            work(parted)
    assert TrialState.FAIL in {trial.state for trial in parted.study.trials}
    assert ended(parted) == ended(whole)


def test_samplers_learn_from_all_trials_of_hyperband(tmp_path: Path, trained: list[Network]) -> None:
    made = search(proposals=6, pruning="hyperband", sampling="evolution")
    opened = created(msgspec.structs.replace(made, recipe=made.recipe.replace(epochs=5)), tmp_path / "study")
    seen: list[int] = []
    learn = EvolutionSampler.drawer

    def drawer(self: EvolutionSampler, picks: Any, rewards: Any) -> Any:
        seen.append(len(picks))
        return learn(self, picks, rewards)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EvolutionSampler, "drawer", drawer)
        work(opened)
    assert trained and seen == list(range(6))


def test_a_failed_trial_does_not_compete_in_hyperband() -> None:
    """Its position is repeated, and a value in it would count twice."""
    study = optuna.create_study(direction="maximize", pruner=search(pruning="hyperband").pruner())
    for state, value in ((TrialState.COMPLETE, 0.3), (TrialState.FAIL, 0.9)):
        study.add_trial(
            optuna.trial.create_trial(
                state=state, value=value if state == TrialState.COMPLETE else None,
                system_attrs={"completed_rung_0": value},
            )
        )  # fmt: skip
    trial = study.ask()
    trial.report(0.5, 1)
    assert not trial.should_prune()
    worse = study.ask()
    worse.report(0.4, 1)
    assert worse.should_prune()


def test_the_winner_is_a_network(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    opened = run(search(proposals=3), DATA, folder)
    best = network(str(folder / "result.toml"))
    assert best == Network.loads(opened.study.best_trial.user_attrs["network"])
    assert scale(best, width=2.0).num_classes == 3
    first, second, third = (folder / "result.toml").read_text().splitlines()[:3]
    assert first.startswith("# Found by compoundnet search architecture on greys, space tiny, recipe proxy")
    assert second.startswith("# Reward: accuracy * (multiply-adds / 200k)^-0.07")
    assert f"reward {opened.study.best_value:.4f}" in third


def test_a_pareto_search_has_two_values_and_one_answer(tmp_path: Path, trained: list[Network]) -> None:
    made = search(sampling="nsga2", pareto=True, proposals=12)
    opened = created(made, tmp_path / "study")
    work(opened)
    assert made.directions() == ["maximize", "minimize"]
    assert trained
    for trial in opened.study.trials:
        measured = trial.user_attrs["outcome"]
        assert trial.values == [measured["accuracy"], measured["macs"]]
    found = network_results(opened.study.trials)
    text = result(made, opened.counted())
    best = max(found, key=lambda one: reward(made, one))
    assert Network.loads(text) == best.network
    listed = text.partition("Networks that no other beats")[2].partition("\nname =")[0]
    assert {entry.network.name for entry in found if entry.network.name in listed} == {
        trial.user_attrs["point"] for trial in opened.study.best_trials
    }


def test_a_search_that_trained_nothing_has_no_result() -> None:
    with pytest.raises(CompoundNetError, match="none of the 6 proposed networks was trained to its end"):
        result(search(), [])


@pytest.mark.slow
def test_the_command_finds_a_network(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", {"dark": 12, "light": 12})
    space = tmp_path / "mine.toml"
    space.write_bytes(msgspec.toml.encode(small_space()))
    arguments: list[str | Path] = [
        "search", "architecture", data, "--space", space, "--set", "epochs=1", "--set", "batch=4",
        "-o", tmp_path / "study",
    ]  # fmt: skip
    impossible = command(*arguments, "--target-macs", "1k", "--yes")
    assert impossible.returncode == 1
    assert "no network of the space tiny meets the target of 1.00k multiply-adds" in impossible.stderr
    assert not (tmp_path / "study").exists()
    contrary = command(*arguments, "--target-macs", "1M", "--pareto", "--sampler", "evolution", "--yes")
    assert contrary.returncode == 1
    assert "a Pareto search needs the sampler nsga2 or random" in contrary.stderr
    done = command(*arguments, "--target-macs", "200k", "--trials", "2", "--yes")
    assert done.returncode == 0, done.stderr
    described = command("describe", tmp_path / "study" / "result.toml")
    assert described.returncode == 0, described.stderr
    assert "tiny-" in described.stdout
