"""What a run is about to do, and what it will need: said before the first step."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import psutil
import torch

from compoundnet.arch import training_memory
from compoundnet.base.machine import free_memory
from compoundnet.base.units import format_bytes, format_duration
from compoundnet.train.decoding import decoding_seconds
from compoundnet.train.frozen import freeze_stages, trained_share
from compoundnet.train.schedule import frozen_steps

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from compoundnet.nn import ConvNet
    from compoundnet.train.task import Task
    from compoundnet.train.teacher import Teacher

# Images of a side for a forward pass that is timed on a CPU; a GPU needs a whole batch to be busy.
_TIMED, _SIDE = 8, 224
# Of its passes the first also sets up, and the median of the others counts. Where a pass takes long, there are fewer.
_PASSES, _LONG = 4, 2.0
# On a GPU the backward pass, which computes gradients of inputs and of weights, takes about twice as long as the
# forward pass; on a CPU up to four times (Lite0 at 64 to 192 px: 2.4 to 3.8), so that it is timed.
_BACKWARD = 2
# The part of the memory that `checkpointing` needs (docs/training.md).
_CHECKPOINTING = 0.38


class Durations(msgspec.Struct, frozen=True):
    """Estimated seconds, from a few images that were decoded and classified before the first step.

    Attributes:
        frozen_step: One step that trains the classifier alone.
        step: One step that trains all layers that are ever trained.
        evaluation: One evaluation of the held-out images.
        test: The evaluation of the test images at the end.
        total: All that is left of the run.
    """

    frozen_step: float
    step: float
    evaluation: float
    test: float
    total: float


class RunSummary(msgspec.Struct, frozen=True):
    """A run before its first step.

    Attributes:
        network: Name of the network.
        start: The model whose weights training starts from; None: new weights.
        classes: Number of classes.
        images: Training images.
        held_out: Training or validation images that are held out for decisions.
        test: Test images.
        smallest_class: Training images of the smallest class.
        largest_class: Training images of the largest class.
        resolution: Side of the input in evaluation, pixels.
        train_resolutions: Side of the training images in each phase, pixels.
        fit: How images become square.
        crop: Crop in evaluation.
        balance: What makes up for classes of unequal size.
        batch: Images per step.
        accumulate: Parts of a batch on each process.
        processes: Number of processes.
        device: What each process computes on.
        decoders: The processes that decode images for each of them; 0: it decodes them itself.
        epoch_steps: Steps of an epoch.
        first_step: Steps that are done already, of a run that resumes.
        steps: Steps of the whole run.
        frozen_steps: How many of them train the classifier alone.
        frozen_stages: How many of the first stages are not trained, and the stem with them; 0: none of either.
        step_memory_bytes: Memory of a step on each process: weights, gradients, optimiser state and the activations
            that the backward pass needs (`training_memory`); of frozen stages too, though they need less.
        memory_bytes: The same with what the process holds already.
        free_memory_bytes: The memory that each process may use.
        seconds: Estimated durations; None if the weights are sharded.
        several_labels: Whether the images may have several labels, or none; classes are then labels.
        teacher: The model that teaches it; None if there is none.
    """

    network: str
    start: str | None
    classes: int
    images: int
    held_out: int
    test: int
    smallest_class: int
    largest_class: int
    resolution: int
    train_resolutions: tuple[int, ...]
    fit: str
    crop: float
    balance: str
    batch: int
    accumulate: int
    processes: int
    device: str
    decoders: int
    epoch_steps: int
    first_step: int
    steps: int
    frozen_steps: int
    frozen_stages: int
    step_memory_bytes: int
    memory_bytes: int
    free_memory_bytes: int
    seconds: Durations | None
    several_labels: bool = False
    teacher: str | None = None

    @property
    def fits(self) -> bool:
        """Whether the memory suffices."""
        return self.step_memory_bytes <= self.free_memory_bytes

    def lines(self) -> list[str]:
        """Return the summary in words."""
        what = f"training {self.network} from scratch"
        if self.start is not None:
            what = f"fine-tuning {self.start}" + ("" if self.start == self.network else f" ({self.network})")
        per_class = (
            f"{self.smallest_class:,} of each"
            if self.smallest_class == self.largest_class
            else f"{self.smallest_class:,} to {self.largest_class:,} of each"
        )
        held = f", {self.held_out:,} held out" if self.held_out else ", none held out"
        test = f"{self.test:,} test images" if self.test else "no test images"
        frozen = f", the first {self.frozen_steps:,} of the classifier alone" if self.frozen_steps else ""
        if self.frozen_steps == self.steps:
            frozen = ", each of the classifier alone (--set frozen_epochs=0 trains the network too)"
        if self.frozen_stages:
            count = f"{self.frozen_stages} stages" if self.frozen_stages > 1 else "stage"
            frozen += f"; the stem and the first {count} are not trained"
        parts = f" in {self.accumulate} parts" if self.accumulate > 1 else ""
        several = f" on {self.processes} processes" if self.processes > 1 else ""
        decoded = f"; {self.decoders} processes{' each' * (self.processes > 1)} decode images" if self.decoders else ""
        classes = "labels, several an image" if self.several_labels else "classes"
        if self.teacher is not None:
            what += f", taught by {self.teacher},"
        training = " ".join(map(str, dict.fromkeys(self.train_resolutions)))
        trained = "" if training == str(self.resolution) else f"training images of {training} px; evaluation at "
        about = "at most" if self.frozen_stages else "about"
        lines = [
            f"{what} on {self.images:,} images of {self.classes:,} {classes} ({per_class}){held}; {test}",
            f"{trained}{self.resolution} px (fit {self.fit}, crop {self.crop:.3g}), balance {self.balance}, batch"
            f" {self.batch:,}{parts}{several}: {self.epoch_steps:,} step{'s' * (self.epoch_steps != 1)} an epoch,"
            f" {self.steps:,} in all{frozen}",
            f"memory {about} {format_bytes(self.memory_bytes)} on {self.device}, of which a step takes"
            f" {format_bytes(self.step_memory_bytes)}; {format_bytes(self.free_memory_bytes)} free"
            + (f"; time about {format_duration(self.seconds.total)}" if self.seconds is not None else "")
            + decoded,
        ]
        if not self.fits:
            lines.append(
                "warning: a step needs more memory than is free; it needs less with --set"
                f" accumulate={2 * self.accumulate}, --checkpointing, --set batch={max(1, self.batch // 2)} or a lower"
                " --set resolution"
            )
        return lines


def summarise(
    task: Task,
    net: ConvNet | None,
    fabric: Fabric,
    *,
    epoch_steps: int,
    first_step: int,
    steps: int,
    workers: int,
    teacher: Teacher | None = None,
) -> RunSummary:
    """Return the summary of a run.

    Args:
        task: The task.
        net: The network in eval mode, which is timed on a few images; None if its weights are sharded.
        fabric: The processes.
        epoch_steps: Steps of an epoch.
        first_step: Steps that are done already.
        steps: Steps of the whole run.
        workers: Decoding processes of each process.
        teacher: The teacher, if there is one.
    """
    recipe, counts = task.recipe, task.train.counts()
    part = -(-len(task.train) // (epoch_steps * fabric.world_size * recipe.accumulate))
    sizes = tuple(task.transform_of(phase).size for phase in range(recipe.phases))
    largest = task.network.replace(resolution=max(sizes))
    step_memory = training_memory(largest, part, "bfloat16" if recipe.precision != "fp32" else "float32")
    if recipe.checkpointing:
        step_memory = int(step_memory * _CHECKPOINTING)
    on_gpu = fabric.device.type == "cuda"
    held = torch.cuda.memory_allocated(fabric.device) if on_gpu else psutil.Process().memory_info().rss
    free = torch.cuda.mem_get_info(fabric.device)[0] if on_gpu else free_memory() // fabric.world_size
    frozen = min(steps, frozen_steps(recipe, epoch_steps))
    return RunSummary(
        network=task.network.name,
        start=task.start.name if task.start is not None else None,
        classes=len(task.train.classes),
        images=len(task.train),
        held_out=len(task.held) if task.held is not None else 0,
        test=len(task.test) if task.test is not None else 0,
        smallest_class=int(counts.min()),
        largest_class=int(counts.max()),
        resolution=task.preprocess.size,
        train_resolutions=sizes,
        fit=task.preprocess.fit,
        crop=task.preprocess.crop,
        balance=recipe.balance,
        batch=recipe.batch,
        accumulate=recipe.accumulate,
        processes=fabric.world_size,
        device=torch.cuda.get_device_name(fabric.device) if on_gpu else "the CPU",
        decoders=workers,
        epoch_steps=epoch_steps,
        first_step=first_step,
        steps=steps,
        frozen_steps=frozen,
        frozen_stages=recipe.frozen_stages,
        step_memory_bytes=step_memory,
        memory_bytes=held + step_memory,
        free_memory_bytes=free,
        seconds=_durations(task, net, fabric, part, epoch_steps, first_step, steps, frozen, workers, teacher)
        if net
        else None,
        several_labels=task.multilabel,
        teacher=task.teacher.name if task.teacher is not None else None,
    )


def _durations(
    task: Task,
    net: ConvNet,
    fabric: Fabric,
    part: int,
    epoch_steps: int,
    first: int,
    steps: int,
    frozen: int,
    workers: int,
    teacher: Teacher | None,
) -> Durations:
    """Time a few images; a run of `part` images at a time, between steps `first` and `steps`, takes multiples of it."""
    recipe = task.recipe
    decoding = decoding_seconds(task)
    # Few small images would take nearly as long as a batch.
    timed = round(_TIMED * max(1.0, (_SIDE / task.preprocess.size) ** 2))
    count = part if fabric.device.type == "cuda" else min(part, timed)
    images = torch.zeros(count, 3, task.preprocess.size, task.preprocess.size, device=fabric.device)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), fabric.autocast():
        forward = _seconds_of(lambda: net(images).sum().item()) / count  # item() waits for a GPU
    stepping = forward * (1 + _BACKWARD * trained_share(task.network, recipe.frozen_stages))
    if fabric.device.type == "cpu":
        trained = copy.deepcopy(net).requires_grad_(True)
        freeze_stages(trained, recipe.frozen_stages)
        with fabric.autocast():
            stepping = _seconds_of(lambda: trained(images).sum().backward()) / count

    how = recipe.distillation
    taught = _teaching(teacher) if teacher is not None else 0.0
    with_each, before = (taught, 0.0) if how is not None and how.view == "same" else (0.0, taught * len(task.train))
    # Training images may be smaller than those of evaluation.
    sizes = [task.transform_of(phase).size for phase in range(recipe.phases)]
    smaller = sum(size**2 for size in sizes) / len(sizes) / task.preprocess.size**2

    def per_image(computing: float) -> float:
        return max(computing, decoding / workers) if workers else computing + decoding

    in_step = part * recipe.accumulate
    frozen_step = in_step * per_image(forward * smaller + with_each)
    step = in_step * per_image(stepping * smaller + with_each)
    share = per_image(forward) / fabric.world_size
    evaluation = share * len(task.held) if task.held is not None else 0.0
    test = share * len(task.test) if task.test is not None else 0.0
    evaluations = (steps - first) / epoch_steps / recipe.evaluate_epochs
    left_frozen = max(0, frozen - first)
    training = left_frozen * frozen_step + (steps - first - left_frozen) * step
    total = before / fabric.world_size + training + evaluations * evaluation + test
    return Durations(frozen_step, step, evaluation, test, total)


def _teaching(teacher: Teacher) -> float:
    """Return the seconds that the teacher takes for an image."""
    few = torch.zeros(_TIMED, 3, teacher.preprocess.size, teacher.preprocess.size, device=teacher.device)
    return _seconds_of(lambda: teacher.teach(few).logits.sum().item()) / _TIMED


def _seconds_of(run: Callable[[], object]) -> float:
    """Return the seconds that a pass takes."""
    passes: list[float] = []
    while len(passes) < _PASSES and sum(passes) < _LONG:
        began = time.perf_counter()
        run()
        passes.append(time.perf_counter() - began)
    return float(np.median(passes[1:] or passes))
