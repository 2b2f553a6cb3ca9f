"""Trainings that end in time: shortened where an epoch takes longer than was planned, and ended when the time is up."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from compoundnet.base import CompoundNetError, Notify, is_out_of_memory, write_whole
from compoundnet.train import Epoch, Task, Watcher
from compoundnet.train.checkpoints import DamagedError
from compoundnet.train.interruptions import DivergedError
from compoundnet.train.run import run_folder
from compoundnet.train.schedule import frozen_steps, total_steps

# The part of a training's steps after which it is finished although the time is up.
_NEARLY = 0.9
# A training is shortened if the time suffices for less than this part of the steps that are left, and to this part of
# those that it suffices for.
_SLACK = 0.95
_Made = TypeVar("_Made")


class TimeIsUpError(CompoundNetError):
    """A training was ended because the time is up. It goes on from its checkpoint."""


def reason_of(error: CompoundNetError) -> str:
    """Return why a training ended, without advice on options of `train`, which a fit does not have."""
    return "training diverged" if isinstance(error, DivergedError) else str(error)


class _TooLongError(Exception):
    """A training would not end in time; `steps` is what it may have in all."""

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.steps = steps


class InTime(Watcher):
    """Passes events on, and ends a training that takes too long.

    When the time is up it ends at once, and loses what it did since its checkpoint, unless it is nearly over. An epoch
    that took so long that the rest would not end in time ends it too, to go on with fewer steps.

    Args:
        until: The time, by `time.time`.
        steps: The steps of the training.
        frozen: How many of them, the first, train the classifier alone, which says nothing of the others.
        shorten: Whether it may be shortened: it is to be trained to its end.
        watcher: Receives the events.
    """

    def __init__(self, until: float, steps: int, frozen: int, watcher: Watcher, *, shorten: bool = True) -> None:
        self._until, self._steps, self._frozen, self._watcher = until, steps, frozen, watcher
        self._shorten, self._said = shorten, False
        self._step, self._at = 0, 0.0

    @classmethod
    def of_task(cls, until: float, task: Task, epoch_steps: int, watcher: Watcher, *, shorten: bool = True) -> InTime:
        """Return the watcher of a task with so many steps an epoch; the other arguments as for the class."""
        steps, frozen = total_steps(task.recipe, epoch_steps), frozen_steps(task.recipe, epoch_steps)
        return cls(until, steps, frozen, watcher, shorten=shorten)

    def started(self, step: int, steps: int, batch: int) -> None:
        self._step, self._at = step, time.time()
        self._watcher.started(step, steps, batch)

    def stepped(self, step: int, loss: float) -> None:
        self._watcher.stepped(step, loss)
        if time.time() <= self._until:
            return
        if step < _NEARLY * self._steps:
            raise TimeIsUpError(f"the time was up after step {step}")
        if not self._said:
            self._watcher.notify(f"the time is up after step {step} of {self._steps}, so near the end that it goes on")
            self._said = True

    def epoch_ended(self, epoch: Epoch) -> None:
        self._watcher.epoch_ended(epoch)
        now, since, steps = time.time(), self._at, epoch.step - self._step
        frozen, self._step, self._at = self._step < self._frozen, epoch.step, now
        left = self._steps - epoch.step
        if not self._shorten or frozen or steps <= 0 or left <= 0:
            return
        possible = max(0.0, self._until - now) * steps / max(1e-6, now - since)
        if possible < _SLACK * left:
            raise _TooLongError(epoch.step + int(_SLACK * possible))

    def notify(self, text: str) -> None:
        self._watcher.notify(text)


def _shortened(place: Path, task: Task) -> Task:
    """Return the task of a training in a folder, of the length to which it was shortened, if it was."""
    kept = _length_file(place)
    return task if not kept.exists() else _of_length(task, float(kept.read_text()))


def train_in_time(place: Path, task: Task, epoch_steps: int, train: Callable[[Task], _Made], notify: Notify) -> _Made:
    """Train under `InTime`, and go on with fewer epochs as often as it says that the time does not suffice.

    The learning rate follows the schedule of the new length from there on, so that it falls as low as it would have.
    The length is kept beside the folder.

    One whose checkpoints are all damaged begins anew.

    Args:
        place: The model folder of the training.
        task: The task, of the length that was planned.
        epoch_steps: Steps of an epoch.
        train: Trains, or goes on from the last checkpoint; called again with each shorter task.
        notify: Called with a line for each time that it is shortened.
    """
    while True:
        now = _shortened(place, task)
        try:
            with memory_errors():
                return train(now)
        except DamagedError:
            notify(f"the checkpoints of {place.name} are damaged, so that it begins anew")
            shutil.rmtree(run_folder(place))
        except _TooLongError as error:
            epochs = error.steps / epoch_steps
            write_whole(_length_file(place), f"{epochs!r}\n".encode())
            notify(
                f"an epoch takes longer than was planned, so that this training has {epochs:.3g} of"
                f" {now.recipe.epochs:.3g} epochs"
            )


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Raise CompoundNetError where there is not enough memory to train."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise CompoundNetError("there is not enough memory to train; give smaller models as --candidate") from error


def _length_file(place: Path) -> Path:
    return place.with_name(f"{place.name}.epochs")


def _of_length(task: Task, epochs: float) -> Task:
    return msgspec.structs.replace(task, recipe=task.recipe.replace(epochs=epochs))
