"""The batches of a run: on the device, normalised, erased, mixed, and with what the teacher says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from compoundnet.data.loader import loader, normalise
from compoundnet.train.batch_augmentation import BatchMix, draw_mix, erase, one_hot
from compoundnet.train.counts import Tolerance
from compoundnet.train.schedule import phase_of
from compoundnet.train.teacher import Teacher

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from compoundnet.base import Notify, Progress
    from compoundnet.data.loader import Loader
    from compoundnet.data.workers import Batch
    from compoundnet.train.task import Task

# The key of the random choices for a batch, apart from those of dropout, which have the same seed.
_BATCH_CHOICES = 1


class TrainingBatch(NamedTuple):
    """A batch on the device of the network.

    Attributes:
        images: float32[N, 3, S, S], normalised, erased and mixed.
        labels: int64[N], the class with the largest share of each image; of several labels float32[N, labels].
        targets: What the loss compares with: `labels`, or of mixed images float32[N, classes].
        taught: float32[N, classes], the teacher's probabilities at the temperature of the recipe; None without one.
        features: float32[N, F], the teacher's features; None if they are not asked for.
    """

    images: Tensor
    labels: Tensor
    targets: Tensor
    taught: Tensor | None = None
    features: Tensor | None = None


class TrainingBatches:
    """The batches of the training images of a task on one process.

    Args:
        task: The task.
        fabric: The processes.
        epoch_steps: Steps of an epoch.
        steps: Steps of the run.
        workers: Decoding processes for each process.

    Attributes:
        recipe: The recipe of the phase (`Recipe.phase`).
        skipped: The images so far that this process could not read, so that others took their place: name and reason.
    """

    def __init__(self, task: Task, fabric: Fabric, *, epoch_steps: int, steps: int, workers: int) -> None:
        self._task, self._fabric, self._workers = task, fabric, workers
        self._epoch_steps, self._steps = epoch_steps, steps
        how = task.recipe.distillation
        self.teacher = None
        if task.teacher is not None and how is not None:
            self.teacher = Teacher(task.teacher, task.train, fabric, features=how.features > 0)
        self.skipped = set[str]()
        self._phase = -1
        self.enter_phase(0)

    def see_whole_images(self, kept: Path, progress: Progress, notify: Notify) -> None:
        """Let the teacher see every image once, if that is how it teaches; see `Teacher.see_whole_images`."""
        if self.teacher is not None and not self._consistent:
            tolerance = Tolerance(self._task.recipe.max_bad, "training", notify)
            self.teacher.see_whole_images(kept, workers=self._workers, progress=progress, tolerance=tolerance)

    def enter_phase(self, phase: int) -> None:
        """Go on in a phase, with a loader of its own if it is another one."""
        if phase == self._phase:
            return
        task, fabric = self._task, self._fabric
        self._phase, self.recipe = phase, task.recipe.phase(phase)
        self._loader: Loader = loader(
            task.train, task.transform_of(phase), batch=self.recipe.batch, augment=task.augment, seed=self.recipe.seed,
            workers=self._workers, rank=fabric.global_rank, world=fabric.world_size, max_bad=self.recipe.max_bad,
            pin_memory=fabric.device.type == "cuda", pieces=self._epoch_steps * self.recipe.accumulate,
            balanced=self.recipe.balance == "sampler", repeats=self.recipe.repeats, left_out=self.skipped.add,
        )  # fmt: skip

    def phase_of(self, step: int) -> int:
        """Return the phase of a step."""
        return phase_of(step, self._steps, self._task.recipe.phases)

    def size(self, step: int, part: int) -> int:
        """Return the number of images in a part of a step, over all processes together."""
        return self._loader.order.size(step % self._epoch_steps * self.recipe.accumulate + part)

    def from_step(self, step: int) -> Iterator[Batch]:
        """Iterate over the parts of the steps from `step` to the end of its epoch, as the loader has them."""
        epoch, within = divmod(step, self._epoch_steps)
        return iter(self._loader.at(epoch, within * self.recipe.accumulate))

    def prepare(self, batch: Batch, seed: int) -> TrainingBatch:
        """Bring a batch to the device, and erase and mix its images.

        Args:
            batch: From `from_step`.
            seed: Of the random choices.
        """
        task, recipe, device = self._task, self.recipe, self._fabric.device
        labels = batch.labels.to(device, non_blocking=True)
        if task.multilabel:
            labels = labels.float()
        images = normalise(batch.images.to(device, non_blocking=True), task.preprocess)
        mix = None
        if recipe.erase or recipe.mixup or recipe.cutmix:
            random = np.random.Generator(np.random.Philox(key=np.array([seed, _BATCH_CHOICES], np.uint64)))
            if recipe.erase:
                images = erase(images, recipe.erase, random)
            mix = draw_mix(recipe.mixup, recipe.cutmix, images.shape[-1], random)
        targets = labels
        if mix is not None:
            images, targets = mix.images(images), mix.targets(one_hot(labels, len(task.train.classes)))
            labels = targets.argmax(1)
        if recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.teacher is None:
            return TrainingBatch(images, labels, targets)
        return TrainingBatch(images, labels, targets, *self._teach(self.teacher, batch, mix))

    @property
    def _consistent(self) -> bool:
        """Whether the teacher sees what the student sees."""
        how = self._task.recipe.distillation
        return how is not None and how.view == "same"

    def _teach(self, teacher: Teacher, batch: Batch, mix: BatchMix | None) -> tuple[Tensor, Tensor | None]:
        """Return the teacher's probabilities and features."""
        how = self._task.recipe.distillation
        assert how is not None
        if len(batch.seconds):
            pixels = teacher.teach_pixels(batch.seconds)
            logits, features = teacher.teach(pixels if mix is None else mix.images(pixels))
            return (logits / how.temperature).softmax(1), features
        logits, features = teacher.recall(batch.indices)
        taught = (logits / how.temperature).softmax(1)
        # It saw the images one by one.
        if mix is None:
            return taught, features
        return mix.targets(taught), None if features is None else mix.targets(features)
