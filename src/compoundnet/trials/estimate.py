"""The cost of a search: networks, multiply-adds, and hours, from a few training steps timed on this machine."""

from __future__ import annotations

import itertools
import statistics
import time
from typing import TYPE_CHECKING

import msgspec

from compoundnet.arch import cost
from compoundnet.base.machine import cores, torch_threads
from compoundnet.train.hardware import Hardware, launch
from compoundnet.train.logs import Logs
from compoundnet.train.status import Watcher
from compoundnet.trials.measurement import no_checkpoints, plan

if TYPE_CHECKING:
    from compoundnet.data import Dataset
    from compoundnet.train import Recipe, Task
    from compoundnet.trials.network_judge import NetworkSearch

# The multiply-adds of a training step divided by those of a forward pass: the backward pass costs two forward passes.
_BACKWARD = 3
_STEPS = 6


class Estimate(msgspec.Struct, frozen=True):
    """The cost of a search.

    Attributes:
        trials: Networks to train.
        networks: Different networks among them; an upper bound if a sampler chooses the networks.
        macs: Multiply-adds of all training.
        hours: The duration on this machine with the given number of workers.
        smallest: Multiply-adds of one image of the cheapest network.
        largest: Multiply-adds of one image of the most expensive network.
    """

    trials: int
    networks: int
    macs: float
    hours: float
    smallest: int
    largest: int


def estimate(search: NetworkSearch, dataset: Dataset, workers: int) -> Estimate:
    """Time a few steps of the cheapest and the most expensive network, in one thread as in a trial."""
    networks = search.networks()
    by_cost = sorted(networks, key=lambda network: cost(network).macs)
    tasks = [plan(network, dataset, search.recipe, seed=0) for network in by_cost]
    macs = [cost(task.network).macs for task in tasks]
    low, high = _seconds(tasks[0]), _seconds(tasks[-1])
    slope = (high - low) / (macs[-1] - macs[0]) if macs[-1] > macs[0] else 0.0
    steps, evaluations = _steps(search.recipe, len(tasks[0].train))
    held = tasks[0].held
    assert held is not None
    # Evaluating an image costs one forward pass, a third of training on it.
    passes = steps + evaluations * len(held) / search.recipe.batch / _BACKWARD
    mean = low + slope * (sum(macs) / len(macs) - macs[0])
    trials = search.trials()
    lanes = min(workers, cores())
    different = len({network.replace(name="n", scaling=None) for network in networks})
    return Estimate(
        trials, different if search.params() else trials,
        _BACKWARD * passes * search.recipe.batch * sum(macs) / len(macs) * trials,
        mean * passes * trials / lanes / 3600, macs[0], macs[-1],
    )  # fmt: skip


def _steps(recipe: Recipe, images: int) -> tuple[int, int]:
    """Return the steps and the evaluations of one trial."""
    epoch = max(1, images // recipe.batch)
    steps = recipe.steps or max(1, round(recipe.epochs * epoch))
    return steps, -(-steps // (epoch * recipe.evaluate_epochs))


def _seconds(task: Task) -> float:
    """Return the duration of one step in seconds: the median of a few steps, without the first."""
    from compoundnet.train.engine import Engine  # noqa: PLC0415  imports torch, which callers need not load

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
