"""What a search costs is known before it starts."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import NamedTuple, cast

import msgspec
import pytest
import torch
from small_search import small_search
from small_train import small_dataset, small_network

from compoundnet.arch import Network, cost, scale
from compoundnet.search import CoefficientSearch
from compoundnet.train import Recipe, override
from compoundnet.trials.estimate import estimate
from compoundnet.trials.measurement import plan


def test_networks_and_multiply_adds_are_exact() -> None:
    search = small_search(seeds=2, epochs=2)
    found = estimate(search, small_dataset(), workers=1)
    assert (found.trials, found.networks) == (10, 5)
    macs = [cost(network).macs for network in search.networks()]
    assert (found.smallest, found.largest) == (min(macs), max(macs))
    # Two epochs of 48 pictures, of which a step takes three passes' worth, and 12 held-out ones judged after each.
    assert found.macs == pytest.approx(2 * sum(macs) * 2 * (3 * 48 + 12))


def test_hours_are_shared_by_workers_as_far_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[estimate.__module__], "_seconds", lambda _: 0.5)
    monkeypatch.setattr(sys.modules[estimate.__module__], "cores", lambda: 2)
    hours = [estimate(small_search(), small_dataset(), workers).hours for workers in (1, 2, 8)]
    # 12 steps and 2 x 12 / 8 / 3 steps' worth of judging, five times.
    assert hours[0] == pytest.approx(5 * 13 * 0.5 / 3600)
    assert hours[1] == hours[2] == pytest.approx(hours[0] / 2)


def test_a_recipe_in_steps_is_counted_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[estimate.__module__], "_seconds", lambda _: 1.0)
    search = small_search()
    fields = search.recipe.fields() | {"epochs": 0, "steps": 9}
    search = msgspec.structs.replace(search, recipe=msgspec.convert(fields, type(search.recipe)))
    # Evaluations after steps 6 and 9.
    assert estimate(search, small_dataset(), 1).hours == pytest.approx(5 * (9 + 1) / 3600)


def test_a_network_takes_time_in_proportion_to_its_multiply_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the cheapest and the most expensive one it is measured; the others lie on the line between them."""
    monkeypatch.setattr(sys.modules[estimate.__module__], "_seconds", lambda task: cost(task.network).macs * 1e-6)
    search = small_search()
    macs = [cost(network).macs for network in search.networks()]
    mean = sum(macs) / len(macs) * 1e-6
    assert estimate(search, small_dataset(), 1).hours == pytest.approx(5 * 13 * mean / 3600)


class _Search(NamedTuple):
    """A search of given networks."""

    recipe: Recipe
    found: tuple[Network, ...]

    def networks(self) -> tuple[Network, ...]:
        return self.found

    def trials(self) -> int:
        return len(self.found)

    def params(self) -> tuple[()]:
        return ()


def hours(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, *networks: Network) -> float:
    """The estimate if a step of each network takes a second for every million multiply-adds."""
    monkeypatch.setattr(sys.modules[estimate.__module__], "_seconds", lambda task: cost(task.network).macs / 1e6)
    search = cast(CoefficientSearch, _Search(recipe, networks))
    return estimate(search, small_dataset(), 1).hours


def test_two_networks_and_two_of_equal_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, small = small_search().recipe, small_network()
    large = scale(small, width=2)
    seconds = [cost(network).macs / 1e6 for network in (small, large)]
    assert hours(monkeypatch, recipe, small, large) == pytest.approx(13 * sum(seconds) / 3600)
    assert hours(monkeypatch, recipe, small, small) == pytest.approx(13 * 2 * seconds[0] / 3600)


@pytest.mark.parametrize(
    ("settings", "steps", "evaluations"),
    [
        (["batch=7"], 12, 2),  # 48 training images: six whole batches in an epoch
        (["batch=64"], 2, 2),  # one step in each of two epochs
        (["epochs=0.01"], 1, 1),
        (["epochs=4", "evaluate_epochs=2"], 24, 2),
        (["epochs=5", "evaluate_epochs=2"], 30, 3),
    ],
)
def test_steps_and_evaluations_by_hand(
    monkeypatch: pytest.MonkeyPatch, settings: list[str], steps: int, evaluations: int
) -> None:
    recipe, small = override(small_search().recipe, settings), small_network()
    passes = steps + evaluations * 12 / recipe.batch / 3
    assert hours(monkeypatch, recipe, small) == pytest.approx(passes * cost(small).macs / 1e6 / 3600)


def test_a_step_takes_the_time_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    times, threads = iter([100.0, 101.0, 103.0, 107.0, 115.0, 123.0]), set()
    module = sys.modules[estimate.__module__]
    search, data = small_search(), small_dataset()
    task = plan(next(iter(search.networks())), data, search.recipe, seed=0)

    def now() -> float:
        threads.add(torch.get_num_threads())
        return next(times)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=now))
    assert module._seconds(task) == 4.0, "the median of the times between six steps"
    assert threads == {1}, "as many as a trial has"
