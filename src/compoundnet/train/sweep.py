"""`--sweep`: learning rate and weight decay chosen on held-out training pictures, as Kornblith et al. 2019 do."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Literal, NamedTuple

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.data import Dataset
from compoundnet.models import ModelFolder
from compoundnet.train.grid import Grid, Point, at_point, published_grid
from compoundnet.train.hardware import Hardware, one_gpu, process_counts
from compoundnet.train.interruptions import InterruptedRunError, Stop
from compoundnet.train.recipe import Recipe
from compoundnet.train.run import run_folder
from compoundnet.train.status import Watcher
from compoundnet.train.sweep_worker import Job, in_words, line, work
from compoundnet.train.trials import Trials

# Seconds between looks at what is finished.
_POLL = 1.0


def sweep(
    recipe: Recipe,
    dataset: Dataset,
    output: Path,
    *,
    network: Network | None = None,
    start: ModelFolder | None = None,
    grid: Grid | None = None,
    processes: int = 1,
    workers: int = 0,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    watcher: Watcher | None = None,
) -> Recipe:
    """The recipe with the best values of the grid, by the data set's metric; it holds out what it held out before.

    Trials are kept in `run_folder(output)/sweep.db`. Called again it goes on, each trial from its own last checkpoint.
    processes  trials at a time, each on one device: GPUs are taken in turn, and on a CPU each trains in one thread.
               The scores do not depend on it
    workers    processes that decode pictures, for each trial

    Raises InterruptedRunError when it is asked to stop; CompoundNetError where the folder holds another sweep, or
    every process has failed. Both leave what is finished.
    """
    watcher = watcher or Watcher()
    job = Job(recipe, dataset, run_folder(output), grid or published_grid(), network, start, workers, accelerator)
    trials = job.open()
    points, left = job.grid.points(), trials.left()
    if left:
        if math.prod(process_counts(Hardware(devices=1))) > 1:
            raise CompoundNetError(
                "a sweep is started once, not by torchrun or SLURM for each GPU: start it alone with as many"
                " --sweep-workers as GPUs; the same command under torchrun then trains with what it has chosen"
            )
        watcher.notify(f"sweep: {len(left)} of {len(points)} points of the grid are to be tried")
        try:
            if processes == 1:
                work(job, trials, watcher=watcher)
            else:
                _work_together(job, trials, min(processes, len(left)), watcher)
        except InterruptedRunError as error:
            raise InterruptedRunError("the sweep was stopped, as asked; the same command goes on") from error
    best = trials.best()
    score = trials.scores()[best]
    if score is None:
        raise CompoundNetError("training diverged at every point of the grid: look at the data, or give other settings")
    watcher.notify(f"sweep: the best is {best}: {in_words(score, trials.metric)}")
    return at_point(recipe, best, held_out=recipe.minival)


class _Worker(NamedTuple):
    process: SpawnProcess
    failure: Connection

    def reason(self) -> str | None:
        """In a line, why it ended before the work was done; None where it did not."""
        code = self.process.exitcode
        if code is None or code == 0:
            return None
        if self.failure.poll():
            try:
                return str(self.failure.recv())
            except EOFError:  # it had no time to say
                pass
        if code < 0:
            hint = " (too little memory for so many?)" if code == -9 else ""
            return f"it was killed by signal {-code}{hint}"
        return f"it ended with exit code {code}"


def _work_together(job: Job, trials: Trials, count: int, watcher: Watcher) -> None:
    """Processes that share the points. They end by themselves, or after their trial if this one is killed."""
    workers = [_start(job, number) for number in range(count)]
    told = set(trials.scores())
    reasons: dict[int, str] = {}
    try:
        with Stop() as stop:
            while True:
                running = [worker.process.sentinel for worker in workers if worker.process.is_alive()]
                told = _tell_of_new(trials, told, watcher)
                for number, worker in enumerate(workers):
                    if number not in reasons and (reason := worker.reason()):
                        reasons[number] = reason
                        watcher.notify(f"sweep: one of {count} processes is gone: {reason}")
                if stop.asked:
                    raise InterruptedRunError("stopped, as asked")
                if not running:
                    break
                wait(running, timeout=_POLL)
    finally:
        for worker in workers:
            worker.process.terminate()  # it saves its trial
        for worker in workers:
            worker.process.join()
    left = trials.left()
    if left:
        said = "; ".join(sorted(set(reasons.values())))
        raise CompoundNetError(
            f"no process is left for {len(left)} points of the sweep: {said}. The same command goes on"
        )


def _start(job: Job, number: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_process, args=(job, one_gpu(number), send))
    process.start()
    send.close()  # this process's copy, so that the other end's death is seen
    return _Worker(process, receive)


def _process(job: Job, variables: dict[str, str], failure: Connection) -> None:
    os.environ.update(variables)
    parent = multiprocessing.parent_process()
    try:
        # Where the parent is gone, whoever continues the sweep starts processes of its own.
        work(job, job.open(), go_on=lambda: parent is not None and parent.is_alive())
    except (CompoundNetError, OSError) as error:
        failure.send(str(error))
        sys.exit(1)


def _tell_of_new(trials: Trials, told: set[Point], watcher: Watcher) -> set[Point]:
    scores = trials.scores()
    new = [point for point in scores if point not in told]
    for done, point in enumerate(new, start=len(told) + 1):
        watcher.notify(line(trials, point, scores[point], done))
    return set(scores)
