"""`train --sweep`: learning rate and weight decay chosen on held-out training images, as Kornblith et al. 2019 do."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import optuna
from optuna.trial import FrozenTrial

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.base.machine import torch_threads
from compoundnet.data import Dataset
from compoundnet.models import ModelFolder
from compoundnet.search.sweep.learning_rates import Sweep, SweepGrid, SweepPoint, at_point, published_grid
from compoundnet.train.checkpoints import Checkpoints
from compoundnet.train.counts import Tolerance, count
from compoundnet.train.engine import Engine
from compoundnet.train.hardware import Hardware, launch, process_counts
from compoundnet.train.identity import identity
from compoundnet.train.interruptions import DivergedError, InterruptedRunError
from compoundnet.train.logs import Logs
from compoundnet.train.recipe import Recipe
from compoundnet.train.run import run_folder
from compoundnet.train.status import Watcher
from compoundnet.train.task import plan_task
from compoundnet.trials.local_workers import work_together
from compoundnet.trials.measurement import check_one_class, data_identity
from compoundnet.trials.settings import position
from compoundnet.trials.studies import OpenedStudy, create_study
from compoundnet.trials.worker import work

_DIVERGED = "diverged"


def sweep(
    recipe: Recipe,
    dataset: Dataset,
    output: Path,
    *,
    network: Network | None = None,
    start: ModelFolder | None = None,
    grid: SweepGrid | None = None,
    processes: int = 1,
    workers: int = 0,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    watcher: Watcher | None = None,
) -> Recipe:
    """Return the recipe with the best values of the grid, by the metric of the data set. Its held-out fraction stays.

    The study lies in `run_folder(output)`/sweep. Another call continues the sweep, each training from
    its last checkpoint.

    Args:
        grid: The points; Kornblith's unless given.
        processes: Number of trainings at a time, each on one device: GPUs are used in turn, and on a CPU each trains in
            one thread. The scores do not depend on this number.
        workers: Number of worker processes that decode images, for each training.

    Raises:
        InterruptedRunError: This process was asked to stop. Finished work is kept.
        CompoundNetError: The folder holds another sweep, every process has failed, or every training diverges.
    """
    check_one_class(dataset)
    watcher = watcher or Watcher()
    folder = run_folder(output) / "sweep"
    trainings = SweepTrainings(recipe, dataset, folder, grid or published_grid(), network, start, workers, accelerator)
    opened = trainings.open()
    try:
        left = opened.settings.trials() - len(opened.counted())
        if left:
            _check_alone()
            watcher.notify(f"sweep: {left} of {opened.settings.trials()} points of the grid are to be tried")
            _work(trainings, opened, min(processes, left), watcher)
        scores = {_point(opened, trial): _score(trial) for trial in opened.counted()}
    finally:
        opened.close()
    # The first among equally good points, in the order of the grid.
    best = max(scores, key=lambda point: -1.0 if scores[point] is None else scores[point] or 0.0)
    score = scores[best]
    if score is None:
        raise CompoundNetError("training diverged at every point of the grid: look at the data, or give other settings")
    watcher.notify(f"sweep: the best is {best}: {_in_words(opened, score)}")
    return at_point(recipe, best, held_out=recipe.minival)


class SweepTrainings(NamedTuple):
    """The trainings of a sweep, in the form passed to each of its processes."""

    recipe: Recipe
    dataset: Dataset
    folder: Path
    grid: SweepGrid
    network: Network | None
    start: ModelFolder | None
    workers: int
    accelerator: Literal["auto", "cpu", "gpu"]

    def open(self) -> OpenedStudy[Sweep]:
        """Create the study or continue it."""
        task = plan_task(self.recipe, self.dataset, network=self.network, start=self.start)
        settings = Sweep(self.grid, self.dataset.metric, msgspec.json.decode(identity(task)))
        return create_study(settings, data_identity(self.dataset), self.folder)


class SweepJudge:
    """Trains with the values of a point, with checkpoints, and judges by the data set's metric on the held-out
    images."""

    def __init__(self, trainings: SweepTrainings, opened: OpenedStudy[Sweep], watcher: Watcher | None = None) -> None:
        self._trainings, self._opened, self._watcher = trainings, opened, watcher

    def values(self, trial: optuna.Trial) -> Sequence[float]:
        """Return the score. An interrupted training is continued; one that diverges counts as 0, and is marked."""
        given, point = self._trainings, _point(self._opened, trial)
        recipe = at_point(given.recipe, point, held_out=given.grid.held_out)
        task = plan_task(recipe, given.dataset, network=given.network, start=given.start)
        place = given.folder / f"lr={point.lr:.4g},decay={point.lr * point.decay_ratio:.4g}"
        checkpoints = Checkpoints(place / "checkpoints", recipe.keep)
        fabric = launch(Hardware(devices=1, accelerator=given.accelerator), recipe)
        # One thread on a CPU: the same score with any number of processes.
        with torch_threads(1) if fabric.device.type == "cpu" else contextlib.nullcontext():
            engine = Engine(task, fabric, checkpoints, Logs(place), workers=given.workers, watcher=self._watcher)
            engine.resume()
            try:
                engine.run()
                # The training engine evaluates epochs by top-1; this is the metric of the data set.
                assert task.held is not None
                net = engine.evaluation_net()
                net.load_state_dict(engine.selected_weights())
                tolerance = Tolerance(recipe.max_bad, "held-out", engine.noted)
                counts = count(net, task.held, task.preprocess, fabric, workers=given.workers, tolerance=tolerance)
                score = counts.mean_per_class if given.dataset.metric == "mean_per_class" else counts.top1
            except DivergedError:
                score = 0.0
                trial.set_user_attr(_DIVERGED, True)
        checkpoints.clear()
        return (score,)

    def describe(self, trial: FrozenTrial) -> str:
        """Return a one-line description of a finished trial."""
        score = _score(trial)
        return f"{_point(self._opened, trial)}: {'diverged' if score is None else _in_words(self._opened, score)}"


def _work(trainings: SweepTrainings, opened: OpenedStudy[Sweep], processes: int, watcher: Watcher) -> None:
    def notify(text: str) -> None:
        watcher.notify(f"sweep: {text}")

    judge = SweepJudge(trainings, opened, watcher)
    try:
        if processes == 1:
            work(opened, judge, notify=notify)
        else:
            work_together(opened, functools.partial(_join, trainings), judge, processes, notify)
    except InterruptedRunError as error:
        raise InterruptedRunError("the sweep was stopped; the same command continues") from error


def _join(trainings: SweepTrainings, go_on: Callable[[], bool]) -> None:
    """Work on the sweep in a separate process."""
    opened = trainings.open()
    work(opened, SweepJudge(trainings, opened), go_on=go_on)


def _check_alone() -> None:
    if math.prod(process_counts(Hardware(devices=1))) > 1:
        raise CompoundNetError(
            "a sweep is started once, not by torchrun or SLURM for each GPU: start it alone with as many"
            " --sweep-workers as GPUs; the same command under torchrun then trains with what it has chosen"
        )


def _point(opened: OpenedStudy[Sweep], trial: optuna.Trial | FrozenTrial) -> SweepPoint:
    return opened.settings.grid.points()[position(trial)]


def _score(trial: FrozenTrial) -> float | None:
    """The score of a trial; None if training diverged."""
    return None if _DIVERGED in trial.user_attrs else trial.values[0]


def _in_words(opened: OpenedStudy[Sweep], score: float) -> str:
    """As "93.20% of held-out images"."""
    return f"{score:.2%} of held-out images" + (
        ", mean per class" if opened.settings.metric == "mean_per_class" else ""
    )
