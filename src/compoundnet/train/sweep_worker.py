"""A process of a sweep: takes a free point, trains, tells the study; until every point is finished."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from compoundnet.arch import Network
from compoundnet.base.machine import torch_threads
from compoundnet.data import Dataset
from compoundnet.data.dataset import Metric
from compoundnet.models import ModelFolder
from compoundnet.train.checkpoints import Checkpoints
from compoundnet.train.counts import count
from compoundnet.train.engine import Engine
from compoundnet.train.grid import Grid, Point, at_point
from compoundnet.train.hardware import Hardware, launch
from compoundnet.train.identity import identity
from compoundnet.train.interruptions import DivergedError
from compoundnet.train.logs import Logs
from compoundnet.train.recipe import Recipe
from compoundnet.train.status import Watcher
from compoundnet.train.task import Task, plan_task
from compoundnet.train.trials import Trials

if TYPE_CHECKING:
    from lightning.fabric import Fabric

# Seconds between looks at points that others work on.
_POLL = 0.5


class Job(NamedTuple):
    """A sweep as each of its processes is given it."""

    recipe: Recipe
    dataset: Dataset
    folder: Path
    grid: Grid
    network: Network | None
    start: ModelFolder | None
    workers: int
    accelerator: Literal["auto", "cpu", "gpu"]

    def open(self) -> Trials:
        """The finished trials."""
        task = plan_task(self.recipe, self.dataset, network=self.network, start=self.start)
        return Trials(self.folder, self.grid, identity(task), self.dataset.metric)


def work(job: Job, trials: Trials, *, watcher: Watcher | None = None, go_on: Callable[[], bool] = lambda: True) -> None:
    """Run trials until none is left. While others run the last ones it waits, in case one of them dies.

    go_on  asked before each trial
    """
    while (left := trials.left()) and go_on():
        for point in left:
            with trials.held(point) as place:
                if place is None:
                    continue
                score = _run(job, at_point(job.recipe, point, held_out=job.grid.held_out), place, watcher)
                trials.add(point, score)
                if watcher is not None:
                    watcher.notify(line(trials, point, score, len(trials.scores())))
                break
        else:
            time.sleep(_POLL)


def line(trials: Trials, point: Point, score: float | None, done: int) -> str:
    """What is said of a finished trial."""
    outcome = "diverged" if score is None else in_words(score, trials.metric)
    return f"sweep: {done} of {len(trials.grid.points())}: {point}: {outcome}"


def in_words(score: float, metric: Metric) -> str:
    """As "93.20% of held-out pictures"."""
    return f"{score:.2%} of held-out pictures" + (", mean per class" if metric == "mean_per_class" else "")


def _run(job: Job, recipe: Recipe, place: Path, watcher: Watcher | None) -> float | None:
    """The score of the weights that the recipe chooses, None where it diverges. An interrupted trial goes on."""
    task = plan_task(recipe, job.dataset, network=job.network, start=job.start)
    checkpoints = Checkpoints(place / "checkpoints", recipe.keep)
    fabric = launch(Hardware(devices=1, accelerator=job.accelerator), recipe)
    # The same score with any number of processes.
    with torch_threads(1) if fabric.device.type == "cpu" else contextlib.nullcontext():
        engine = Engine(task, fabric, checkpoints, Logs(place), workers=job.workers, watcher=watcher)
        engine.resume()
        try:
            engine.run()
            score: float | None = _judge(job, task, engine, fabric)
        except DivergedError:
            score = None
    checkpoints.clear()
    return score


def _judge(job: Job, task: Task, engine: Engine, fabric: Fabric) -> float:
    """On the held-out pictures, by the data set's metric. The engine judges epochs by top-1."""
    assert task.held is not None
    net, weights = engine.evaluable, engine.weights
    net.load_state_dict(weights)
    counts = count(net, task.held, task.preprocess, fabric, workers=job.workers)
    return counts.mean_per_class if job.dataset.metric == "mean_per_class" else counts.top1
