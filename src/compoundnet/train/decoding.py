"""How long training images take to decode, and how many processes decode them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from compoundnet.data.loader import most_workers
from compoundnet.data.workers import Decoder, Request

if TYPE_CHECKING:
    from compoundnet.train.task import Task

# Images that are timed, after one that loads the decoder, and the seconds of an epoch's decoding from which processes
# of their own pay: each evaluation starts some too.
_TIMED, _LONG = 8, 5.0


def decoding_seconds(task: Task) -> float:
    """Return about how many seconds a training image takes to read, decode and augment: the mean of a few."""
    decoder = Decoder(task.train, task.transform, task.augment, task.recipe.seed)
    few = np.linspace(0, len(task.train) - 1, _TIMED).astype(np.int64)  # of all classes
    decoder[Request(0, few[:1])]
    began = time.perf_counter()
    decoder[Request(0, few)]
    return (time.perf_counter() - began) / len(few)


def decoding_processes(task: Task, most: int | None = None) -> int:
    """Return the number of decoding processes for each process that trains: 0 for images that take little time.

    The batches are the same with any number.

    Args:
        task: The task.
        most: The most that there may be, if the cores are shared.
    """
    if len(task.train) * decoding_seconds(task) < _LONG:
        return 0
    return most_workers() if most is None else min(most_workers(), most)
