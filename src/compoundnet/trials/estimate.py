"""What a search will cost, before it starts: networks, multiply-adds, and hours by steps that are timed here."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from compoundnet.arch import Network, cost
from compoundnet.base.machine import torch_threads

if TYPE_CHECKING:
    from compoundnet.data import Dataset
    from compoundnet.train import Recipe, Task
    from compoundnet.trials.judging import NetworkSearch

# A step's multiply-adds over those of a forward pass: the backward pass takes two more of them.
_BACKWARD = 3
_STEPS = 6


class Estimate(msgspec.Struct, frozen=True):
    """trials, networks  to be trained, and different networks among them (where a sampler decides: at most that many)
    macs               multiply-adds of all training
    hours              on this machine with the workers that were asked for
    smallest, largest  multiply-adds an image of the networks
    """

    trials: int
    networks: int
    macs: float
    hours: float
    smallest: int
    largest: int


def estimate(search: NetworkSearch, dataset: Dataset, workers: int) -> Estimate:
    """Times a few steps of the cheapest and of the dearest network, in one thread, as trials run."""
    networks = search.networks()
    by_cost = sorted(networks, key=lambda network: cost(network).macs)
    tasks = [_task(network, dataset, search.recipe) for network in by_cost]
    macs = [cost(task.network).macs for task in tasks]
    low, high = _seconds(tasks[0]), _seconds(tasks[-1])
    slope = (high - low) / (macs[-1] - macs[0]) if macs[-1] > macs[0] else 0.0
    steps, evaluations = _steps(search.recipe, len(tasks[0].train))
    held = tasks[0].held
    assert held is not None
    # An evaluated picture costs a forward pass, a third of a trained one.
    passes = steps + evaluations * len(held) / search.recipe.batch / _BACKWARD
    mean = low + slope * (sum(macs) / len(macs) - macs[0])
    trials = search.trials()
    lanes = min(workers, os.cpu_count() or 1)
    different = len({network.replace(name="n", scaling=None) for network in networks})
    return Estimate(
        trials, different if search.params() else trials,
        _BACKWARD * passes * search.recipe.batch * sum(macs) / len(macs) * trials,
        mean * passes * trials / lanes / 3600, macs[0], macs[-1],
    )  # fmt: skip


def _task(network: Network, dataset: Dataset, recipe: Recipe) -> Task:
    from compoundnet.trials.measuring import plan

    return plan(network, dataset, recipe, seed=0)


def _steps(recipe: Recipe, pictures: int) -> tuple[int, int]:
    """Steps, and evaluations, of one trial."""
    epoch = max(1, pictures // recipe.batch)
    steps = recipe.steps or max(1, round(recipe.epochs * epoch))
    return steps, -(-steps // (epoch * recipe.evaluate_epochs))


def _seconds(task: Task) -> float:
    """Of one step: the median of a few, the first left out."""
    import itertools
    import statistics

    from compoundnet.train.engine import Engine
    from compoundnet.train.hardware import Hardware, launch
    from compoundnet.train.logs import Logs
    from compoundnet.train.status import Watcher
    from compoundnet.trials.measuring import no_checkpoints

    times: list[float] = []

    class Clock(Watcher):
        def stepped(self, *_: object) -> None:
            times.append(time.monotonic())

    short = msgspec.convert(task.recipe.fields() | {"epochs": 0, "steps": _STEPS, "lr": 1e-6}, type(task.recipe))
    probe = msgspec.structs.replace(task, recipe=short, held=None, test=None)
    with torch_threads(1):
        engine = Engine(probe, launch(Hardware(devices=1), short), no_checkpoints(), Logs(None), watcher=Clock())
        engine.run()
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(times))
