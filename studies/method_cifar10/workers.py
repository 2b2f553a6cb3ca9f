"""Trainings in several processes on one device.

The seeds of a job are trained side by side in one process, which prepares the network's kernels once. Several processes
keep a GPU busy while one of them prepares; on a CPU one is enough, and a job has one seed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import NamedTuple

import torch

from compoundnet.arch import Network
from compoundnet.base.errors import first_line
from compoundnet.search.study.lines import Multipliers
from compoundnet.train.recipe import Recipe
from studies.method_cifar10.resident import Images, Trained, Training, run


class Job(NamedTuple):
    """Trainings of one network with one recipe, one for each of these seeds, for a stage of the study."""

    stage: str
    multipliers: Multipliers
    network: Network
    recipe: Recipe
    seeds: tuple[int, ...]


Finished = tuple[Job, list[tuple[int, Trained]]]
_images: list[Images] = []  # of a worker process: training, held-out and test images, on its device


def train_all(
    jobs: Sequence[Job], images: Sequence[Images], device: torch.device, workers: int, until: float
) -> Iterator[Finished]:
    """Train the networks in this order, and yield each job as it ends.

    A job that fails is named, and the others go on; its error is raised at the end.

    Args:
        jobs: The jobs.
        images: Training, held-out and test images, on the CPU.
        device: The device to train on.
        workers: The number of processes; 0 trains in this one.
        until: The value of time.monotonic() after which no job is begun.
    """
    waiting = list(jobs)
    if workers == 0:
        _receive(images, device)
        while waiting and time.monotonic() < until:
            job = waiting.pop(0)
            yield job, _train(job)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _receive, (images, device)) as pool:
        running: dict[Future[list[tuple[int, Trained]]], Job] = {}
        failed: BaseException | None = None
        while running or (waiting and time.monotonic() < until):
            while waiting and len(running) < workers and time.monotonic() < until:
                job = waiting.pop(0)
                running[pool.submit(_train, job)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, error = running.pop(future), future.exception()
                if error is None:
                    yield job, future.result()
                else:
                    failed = failed or error
                    print(f"{job.network.name}: {first_line(error)}", file=sys.stderr, flush=True)
        if failed is not None:
            raise failed


def _receive(images: Sequence[Images], device: torch.device) -> None:
    _images[:] = [part.to(device) for part in images]


def _train(job: Job) -> list[tuple[int, Trained]]:
    train, held, test = _images
    return run({seed: Training(job.network, job.recipe, seed, train) for seed in job.seeds}, held, test)
