"""How long trainings take on a CPU, where they take days: from a few steps that are timed there."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence

from compoundnet.arch import cost
from studies.method_cifar10.resident import Images, Training
from studies.method_cifar10.workers import Job

_STEPS = 4  # without the first, in which libraries choose their algorithms, three are counted
_BACKWARD = 3  # a step of training costs as much as so many evaluations


def seconds(jobs: Sequence[Job], train: Images, evaluated: int) -> float:
    """Return about how many seconds the jobs take, one training after another.

    Times steps of the cheapest and of the most expensive network; the others are taken to lie on the line between them.

    Args:
        jobs: The jobs, at least one.
        train: The training images.
        evaluated: The number of images on which each network is evaluated.
    """
    by_cost = sorted(jobs, key=lambda job: cost(job.network).macs)
    low, high = cost(by_cost[0].network).macs, cost(by_cost[-1].network).macs
    start = _of_an_image(by_cost[0], train)
    slope = (_of_an_image(by_cost[-1], train) - start) / (high - low) if high > low else 0.0
    total = 0.0
    for job in jobs:
        images = job.recipe.epochs * len(train) + evaluated / _BACKWARD
        total += len(job.seeds) * images * (start + slope * (cost(job.network).macs - low))
    return total


def _of_an_image(job: Job, train: Images) -> float:
    """Return the seconds of training on one image."""
    training = Training(job.network, job.recipe, 0, train)
    moments = [time.monotonic()]
    for _ in range(min(_STEPS, training.steps)):
        training.advance()
        moments.append(time.monotonic())
    steps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    return statistics.median(steps[1:] or steps) / job.recipe.batch
