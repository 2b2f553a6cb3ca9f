"""A measurement is a function of what is measured: to the bit, whatever the process did before."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import torch
from small_train import small_dataset, small_network

from compoundnet.arch import Network, cost, scale
from compoundnet.data.holdout import hold_out
from compoundnet.train import Recipe, find_recipe, override
from compoundnet.trials.measurement import TrialOutcome, fingerprint, measure, plan


def recipe(*settings: str) -> Recipe:
    return override(find_recipe("quick"), ["epochs=2", "batch=8", *settings])


@pytest.fixture(scope="module")
def measured() -> TrialOutcome:
    return measure(small_network(), small_dataset(), recipe(), seed=1)


def test_the_same_arguments_give_the_same_accuracies(measured: TrialOutcome) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(99)
    again = measure(small_network(), small_dataset(), recipe(), seed=1)
    assert (again.accuracy, again.epochs) == (measured.accuracy, measured.epochs)
    assert torch.get_num_threads() == threads


def test_the_accuracy_is_the_last_epochs_on_held_out_pictures(measured: TrialOutcome) -> None:
    assert [epoch for epoch, _ in measured.epochs] == [1, 2]
    assert measured.accuracy == measured.epochs[-1][1]
    assert measured.count == 12  # a fifth of 60
    assert measured.macs == cost(small_network()).macs


def test_every_seed_is_judged_on_the_same_pictures_that_none_is_trained_on() -> None:
    tasks = [plan(small_network(), small_dataset(), recipe(), seed) for seed in (0, 1)]
    names = [{task.held.image_name(index) for index in range(len(task.held))} for task in tasks if task.held]
    assert names[0] == names[1]
    for task in tasks:
        assert not names[0] & {task.train.image_name(index) for index in range(len(task.train))}
    held = hold_out(small_dataset().split("train"), 0.2, 0)[1]
    assert names[0] == {held.image_name(index) for index in range(len(held))}


def test_the_network_is_trained_at_its_own_resolution() -> None:
    larger = scale(small_network(), resolution=40)
    assert plan(larger, small_dataset(), recipe("resolution=32"), 0).preprocess.size == 40


def test_test_pictures_can_judge() -> None:
    assert measure(small_network(), small_dataset(), recipe("epochs=1"), seed=0, judged_on="test").count == 30


def test_a_training_that_diverges_is_worth_nothing() -> None:
    found = measure(small_network(), small_dataset(), recipe("lr=1e30", "clip_norm=0", "warmup_epochs=0"), seed=0)
    assert found.diverged and found.accuracy == 0


def test_what_epoch_done_raises_ends_the_training() -> None:
    def prune(epoch: int, accuracy: float) -> None:
        raise optuna.TrialPruned

    with pytest.raises(optuna.TrialPruned):
        measure(small_network(), small_dataset(), recipe(), seed=0, epoch_done=prune)


def test_a_cached_measurement_is_told_as_if_it_were_trained(tmp_path: Path, measured: TrialOutcome) -> None:
    told: list[tuple[int, float]] = []
    for _ in range(2):
        told.clear()
        found = measure(
            small_network().replace(name="renamed"), small_dataset(), recipe(), seed=1, cache=tmp_path,
            epoch_done=lambda epoch, accuracy: told.append((epoch, accuracy)),
        )  # fmt: skip
        assert tuple(told) == measured.epochs and found.accuracy == measured.accuracy
    assert len(list(tmp_path.iterdir())) == 1


def test_the_fingerprint_is_of_what_decides_the_result() -> None:
    network, dataset = small_network(), small_dataset()
    base = fingerprint(network, dataset, recipe(), 0, "held")
    assert fingerprint(network.replace(name="renamed"), dataset, recipe(), 0, "held") == base
    assert fingerprint(Network.loads(network.dumps()), dataset, recipe(), 0, "held") == base
    assert base not in {
        fingerprint(network.replace(resolution=40), dataset, recipe(), 0, "held"),
        fingerprint(network, small_dataset(train=61), recipe(), 0, "held"),
        fingerprint(network, dataset, recipe("lr=0.1"), 0, "held"),
        fingerprint(network, dataset, recipe(), 1, "held"),
        fingerprint(network, dataset, recipe(), 0, "test"),
    }
