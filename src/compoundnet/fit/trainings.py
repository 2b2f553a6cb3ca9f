"""The fine-tunings of a fit: each candidate's in a folder of its own, judged on the same held-out training images.

A training follows the schedule of its whole length from the start. It may pause after any epoch and goes on from its
checkpoint, so that a rung of the race costs only the epochs that are new.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from compoundnet.base import Notify
from compoundnet.base.machine import torch_threads
from compoundnet.data import Dataset
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.in_time import InTime, memory_errors, train_in_time
from compoundnet.models import ModelFolder, read_folder
from compoundnet.models.folder import POSTPROCESS
from compoundnet.train import Epoch, Hardware, Recipe, Task, Watcher, find_recipe, launch, plan_task, train
from compoundnet.train.checkpoints import Checkpoints
from compoundnet.train.decoding import decoding_processes
from compoundnet.train.engine import Engine
from compoundnet.train.frozen import early_stages
from compoundnet.train.interruptions import DivergedError
from compoundnet.train.logs import Logs
from compoundnet.train.recipe_parts import Distillation
from compoundnet.train.run import run_folder
from compoundnet.train.schedule import steps_of_epoch

# The fraction of the training images on which trainings, and the probe, are compared; and that where one candidate is
# trained alone, which is compared with the probe only.
HELD_OUT, _ALONE = 0.2, 0.1
# With fewer held-out images the difference between two trainings is chance: one of 20 is five points.
LEAST_HELD_OUT = 100
# Epochs of a training from pretrained weights, and of one from inherited or new weights, which have more to learn; and
# the steps that a training has at the least, which is more epochs where images are few: 10 images a class of CIFAR-10
# at 64 px have 51 % after 10 epochs, 30 steps, 52 % after 20 and 54 % after 40 (two sets of images).
EPOCHS, EPOCHS_SCALED = 10, 30
LEAST_STEPS = 100
# The learning rate where images are so few, as a fraction of the usual one. The same images: 50.4 and 48.8 % after 40
# epochs at the usual rate, 51.9 and 51.7 % at half of it; after 100 epochs 50.8 and 50.4, 53.4 and 52.1, and 53.4 and
# 52.0 % at a quarter. At 32 px 41.4 and 39.1, 40.9 and 38.8 %; at 112 px 60.1 and 64.5 % for the first set. 100 images
# a class at 64 px have 72.6 and 72.0 % after ten epochs at the usual rate and half of it.
_FEW_RATE = 0.5
FEW_IMAGES = (
    f"the images are few, so that trainings have {LEAST_STEPS} steps at the least, at {_FEW_RATE:g} times the usual"
    " learning rate"
)
# What all are trained by; how the folder of a training on all images is named, before its epochs, and before that the
# number of one from the start.
_RECIPE, _ALL, _AGAIN = "finetune", "-all-", "-again-"
# The learning rate of a training that goes on with a trained network, as a fraction of that from the start.
_GOING_ON = 0.3


class Trained(msgspec.Struct, frozen=True):
    """A training after some epochs.

    Attributes:
        accuracy: Fraction of the held-out images that is classified correctly; the mean per class if training is
            balanced; 0 if training diverged.
        seconds: What was trained now took.
        epochs: How many it has had: fewer than were planned if the time would not have sufficed.
        epochs_now: How many of these were trained now, and not before a kill or in an earlier rung.
    """

    accuracy: float
    seconds: float
    epochs: float
    epochs_now: float


class Lesson(NamedTuple):
    """A teacher, and its name in that of a training's folder."""

    teacher: ModelFolder
    named: str

    def place(self, place: Path) -> Path:
        """Return the folder of a training with this teacher, by that of the training without."""
        return place.with_name(f"{place.name}-taught-{self.named}")


class Trainings(NamedTuple):
    """The fine-tunings of a fit, in the form passed to each process of the race.

    Attributes:
        dataset: The data; only training images are used.
        folder: The folder of the trainings.
        starts: The model that each candidate starts from, by its key.
        fresh: The keys of the candidates whose weights are inherited or new.
        threads: Threads of each training on a CPU.
        until: The time, by `time.time`, at which trainings end.
        seed: Of the trainings.
        length: The length of the schedule as a fraction of the usual one, for a short time.
        held_out: The fraction of the training images that is held out.
        flip: Whether training may mirror the images.
    """

    dataset: Dataset
    folder: Path
    starts: Mapping[str, ModelFolder]
    fresh: frozenset[str]
    threads: int
    until: float
    seed: int = 0
    length: float = 1.0
    held_out: float = HELD_OUT
    flip: bool = True

    @property
    def images(self) -> int:
        """The images that a training of the race sees: those that are not held out."""
        whole = len(self.dataset.split("train"))
        return whole - round(self.held_out * whole)

    def usual(self, candidate: Candidate) -> int:
        """Return the usual length of the schedule in epochs."""
        epochs = EPOCHS_SCALED if candidate.key in self.fresh else EPOCHS
        return max(epochs, math.ceil(LEAST_STEPS / _epoch_steps(find_recipe(_RECIPE), self.images)))

    def is_of_few(self, candidate: Candidate) -> bool:
        """Return whether its images are so few that a candidate is trained for more epochs, at a lower rate."""
        return candidate.key not in self.fresh and self.usual(candidate) > EPOCHS

    def epochs(self, candidate: Candidate) -> int:
        """Return the length of the schedule in epochs."""
        return round(self.length * self.usual(candidate))

    def task(self, candidate: Candidate) -> Task:
        """Return the task of fine-tuning a candidate."""
        return self._task(self._recipe(candidate, self.epochs(candidate)), self.starts[candidate.key])

    def place(self, candidate: Candidate) -> Path:
        """Return the model folder of a training, whether it exists or not."""
        schedule = f"{self.epochs(candidate)}-epochs-{round(100 * self.held_out)}-percent-held-out"
        upright = "" if self.flip else "-never-mirrored"
        return self.folder / f"{candidate.key}-{schedule}{upright}-seed-{self.seed}"

    def _recipe(self, candidate: Candidate, epochs: int) -> Recipe:
        fresh, start = candidate.key in self.fresh, self.starts[candidate.key].network
        recipe = recipe_of(candidate.resolution, epochs, 0 if fresh else early_stages(start), fresh=fresh)
        if self.is_of_few(candidate):
            recipe = recipe.replace(lr=_FEW_RATE * recipe.lr)
        return recipe.replace(minival=self.held_out, seed=self.seed, flip=recipe.flip and self.flip)

    def _task(self, recipe: Recipe, start: ModelFolder, teacher: ModelFolder | None = None) -> Task:
        if teacher is not None:
            recipe = recipe.replace(distillation=Distillation(weight=0.5, temperature=2.0, view="whole"))
        task = plan_task(recipe, self.dataset, start=start, teacher=teacher, holdout_seed=0)
        return msgspec.structs.replace(task, test=None)

    def estimate(self, candidate: Candidate) -> float:
        """Return about how many seconds the whole training of a candidate takes, from a few images that are timed."""
        with memory_errors(), self._engine(self.task(candidate), self.place(candidate), Watcher()) as engine:
            seconds = engine.summary().seconds
        assert seconds is not None
        return seconds.total

    def train_until(self, candidate: Candidate, epochs: int, watcher: Watcher | None = None) -> Trained:
        """Train a candidate until it has had so many epochs, and save a checkpoint.

        One that is trained to its end gets fewer where the time would not suffice; see `train_in_time`.

        Raises:
            TimeIsUpError: The time would be over before that.
            InterruptedRunError: This process was asked to stop; a checkpoint is saved.
        """
        began, place, seen = time.monotonic(), self.place(candidate), watcher or Watcher()
        last = epochs == self.epochs(candidate)
        first: list[int] = []  # the step at which it goes on now; again at a later one where it is shortened

        def train_on(task: Task) -> Trained:
            with self._engine(task, place, self._in_time(task, seen, shorten=last)) as engine:
                engine.resume()
                first.append(engine.step)
                engine.stop_after(epochs * engine.epoch_steps)
                try:
                    engine.run()
                except DivergedError:
                    seconds = time.monotonic() - began
                    return Trained(0.0, seconds, epochs, max(0.0, epochs - first[0] / engine.epoch_steps))
                # A training that has gone further already is judged by what it was after these epochs.
                row = next(row for row in reversed(engine.history) if row.epoch <= epochs)
                now = max(0, row.step - first[0]) / engine.epoch_steps
            seconds = time.monotonic() - began
            return Trained(held_score(row, task.recipe), seconds, row.step / engine.epoch_steps, now)

        task = self.task(candidate)
        return train_in_time(place, task, _task_steps(task), train_on, seen.notify)

    def finish(self, candidate: Candidate, notify: Notify) -> ModelFolder:
        """Train a candidate to the end, or go on with that, and return the model, with its temperature fitted.

        Args:
            candidate: The candidate.
            notify: Called with what training has to say.

        Raises:
            TimeIsUpError: The time would be over before that.
            InterruptedRunError: This process was asked to stop; a checkpoint is saved.
        """
        return self._trained(candidate, self.task(candidate), self.place(candidate), notify)

    def taught(self, candidate: Candidate, model: ModelFolder, lesson: Lesson, notify: Notify) -> ModelFolder:
        """Train a network further, for as long as before, with a teacher; as `finish`.

        Args:
            candidate: The candidate.
            model: The network, from `finish`.
            lesson: The teacher.
            notify: Called with what training has to say.
        """
        recipe = _going_on(self._recipe(candidate, self.epochs(candidate)))
        task = self._task(recipe, model, lesson.teacher)
        return self._trained(candidate, task, self._place_taught(candidate, lesson), notify)

    def on_all(
        self, candidate: Candidate, model: ModelFolder, epochs: int, notify: Notify, lesson: Lesson | None = None
    ) -> ModelFolder:
        """Train a network further on all images, the held-out ones too; as `finish`.

        Args:
            candidate: The candidate.
            model: The network, from `finish` or `taught`, whose temperature the result gets.
            epochs: For how long. A training that was begun before, by another call, keeps its length.
            notify: Called with what training has to say.
            lesson: The teacher, if it had one.
        """
        epochs = self.begun_on_all(candidate, lesson) or epochs
        task = self._task(_going_on(self._recipe(candidate, epochs)), model, None if lesson is None else lesson.teacher)
        return self._on_all(candidate, task, self._place_of_all(candidate, lesson), model, notify)

    def again(
        self,
        candidate: Candidate,
        number: int,
        model: ModelFolder,
        epochs: int,
        notify: Notify,
        lesson: Lesson | None = None,
    ) -> ModelFolder:
        """Train a candidate once more from its start, on all images and with another seed; as `on_all`.

        Args:
            candidate: The candidate.
            number: Which of these trainings it is, from 1, which decides its seed.
            model: The network of before, whose temperature the result gets.
            epochs: For how long. A training that was begun before keeps its length.
            notify: Called with what training has to say.
            lesson: The teacher, if the network of before had one.
        """
        epochs = self.begun_on_all(candidate, lesson, number) or epochs
        recipe = self._recipe(candidate, epochs).replace(seed=self.seed + number)
        task = self._task(recipe, self.starts[candidate.key], None if lesson is None else lesson.teacher)
        return self._on_all(candidate, task, self._place_of_all(candidate, lesson, number), model, notify)

    def begun_on_all(self, candidate: Candidate, lesson: Lesson | None = None, number: int = 0) -> int | None:
        """Return the epochs of a training on all images that was begun before; None if there was none.

        Args:
            candidate: The candidate.
            lesson: Its teacher.
            number: Of a training from the start; 0 for that which went on.
        """
        place = self._place_of_all(candidate, lesson, number)
        begun = sorted(place.parent.glob(f"{place.name}{_ALL}*"))
        return int(begun[0].name.removeprefix(f"{place.name}{_ALL}").partition(".")[0]) if begun else None

    def _on_all(self, candidate: Candidate, task: Task, place: Path, model: ModelFolder, notify: Notify) -> ModelFolder:
        """Train on all images by a task that holds some out; the result gets the temperature of the model."""
        whole = self.dataset.read_with(task.train.reading).split("train")
        recipe = task.recipe.replace(minival=0, select="last")
        task = msgspec.structs.replace(task, recipe=recipe, train=whole, held=None, calibrated=False, notes=())
        place = place.with_name(f"{place.name}{_ALL}{recipe.epochs:.0f}")
        found = self._trained(candidate, task, place, notify)
        if found.postprocess != model.postprocess:
            model.postprocess.save(found.folder / POSTPROCESS)
        return read_folder(found.folder, found.name)

    def _place_of_all(self, candidate: Candidate, lesson: Lesson | None, number: int = 0) -> Path:
        """The folder of a training on all images, without its epochs."""
        place = self._place_taught(candidate, lesson)
        return place.with_name(f"{place.name}{_AGAIN}{number}") if number else place

    def _place_taught(self, candidate: Candidate, lesson: Lesson | None) -> Path:
        place = self.place(candidate)
        return place if lesson is None else lesson.place(place)

    def _trained(self, candidate: Candidate, task: Task, place: Path, notify: Notify) -> ModelFolder:
        def train_on(task: Task) -> None:
            watcher = self._in_time(task, _Lines(notify))
            resume = run_folder(place).exists()
            train(task, place, resume=resume, watcher=watcher, loggers=[])

        if not place.exists():
            with self._threads():
                train_in_time(place, task, _task_steps(task), train_on, notify)
        return read_folder(place, f"{candidate}, fine-tuned")

    def _in_time(self, task: Task, watcher: Watcher, *, shorten: bool = True) -> InTime:
        """Pass the events of a task on, and end it in time."""
        return InTime.of_task(self.until, task, _task_steps(task), watcher, shorten=shorten)

    @contextlib.contextmanager
    def _engine(self, task: Task, place: Path, watcher: Watcher) -> Iterator[Engine]:
        folder = run_folder(place)
        fabric = launch(Hardware(devices=1), task.recipe)
        with self._threads():
            checkpoints = Checkpoints(folder / "checkpoints", task.recipe.keep)
            workers = decoding_processes(task, self.threads)
            yield Engine(task, fabric, checkpoints, Logs(None), workers=workers, watcher=watcher)

    def _threads(self) -> contextlib.AbstractContextManager[None]:
        return torch_threads(self.threads)


def held_out_alone(images: int) -> float:
    """Return the fraction of so many images that is held out where one candidate is trained alone: a tenth, unless a
    fifth would be enough to tell and a tenth would not."""
    tells = HELD_OUT * images >= LEAST_HELD_OUT
    few = _ALONE * images < (LEAST_HELD_OUT if tells else 1)
    return HELD_OUT if few else _ALONE


def recipe_of(resolution: int, epochs: int, frozen: int, *, fresh: bool) -> Recipe:
    """Return the recipe of a fine-tuning.

    Args:
        resolution: Side of the input, pixels.
        epochs: The length of the schedule.
        frozen: The stages that stay as they are in the model, with the stem.
        fresh: Whether the weights are inherited or new: then batch norms learn their statistics, and all layers at one
            rate.
    """
    recipe = find_recipe(_RECIPE).replace(
        resolution=resolution, epochs=epochs, frozen_stages=frozen, save_minutes=1.0, keep=1
    )
    if fresh:
        recipe = recipe.replace(norm="train", norm_momentum=0.1, layer_decay=1.0, frozen_epochs=0, lr=2e-3)
    return recipe


def _epoch_steps(recipe: Recipe, images: int) -> int:
    return steps_of_epoch(images, recipe, 1, recipe.batch)


def _task_steps(task: Task) -> int:
    return _epoch_steps(task.recipe, len(task.train))


def _going_on(recipe: Recipe) -> Recipe:
    """The recipe for a network that it has trained before."""
    return recipe.replace(lr=_GOING_ON * recipe.lr, warmup_epochs=0, frozen_epochs=0)


def fresh_keys(candidates: Sequence[Candidate], from_scratch: Callable[[Candidate], bool]) -> frozenset[str]:
    """Return the keys of the candidates whose weights are inherited or new."""
    return frozenset(one.key for one in candidates if one.scaled or from_scratch(one))


def held_score(epoch: Epoch, recipe: Recipe) -> float:
    """Return the figure by which epochs are compared: the mean per class if training is balanced."""
    balanced = recipe.balance != "none" and epoch.held_mean_per_class is not None
    found = epoch.held_mean_per_class if balanced else epoch.held_top1
    assert found is not None
    return found


class _Lines(Watcher):
    """Passes on what training has to say."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify

    def notify(self, text: str) -> None:
        self._notify(text)
