"""Learning rate and EMA decay as functions of the step alone, so that resuming requires only the step."""

from __future__ import annotations

import math

from compoundnet.arch import Network, unroll
from compoundnet.base import CompoundNetError
from compoundnet.train.recipe import Recipe
from compoundnet.train.recipe_parts import Cosine, Staircase


def peak_lr(recipe: Recipe) -> float:
    """Return the learning rate that the schedule starts from, scaled linearly with the total batch."""
    return recipe.lr * recipe.batch / recipe.lr_batch if recipe.lr_batch else recipe.lr


def learning_rate(recipe: Recipe, step: int, total: int, epoch_steps: float) -> float:
    """Return the learning rate of one step.

    It follows build_learning_rate of utils.py: the schedule counts from step 0, and the warm-up, linear from 0,
    replaces its first part. Steps with a frozen trunk come before both.

    Args:
        recipe: The recipe with the schedule.
        step: The number of the step, from 0.
        total: Number of steps of the run.
        epoch_steps: Number of steps of an epoch.
    """
    frozen = frozen_steps(recipe, epoch_steps)
    if step < frozen:
        return peak_lr(recipe)
    step, total = step - frozen, max(1, total - frozen)
    warmup = int(recipe.warmup_epochs * epoch_steps)
    if step < warmup:
        return peak_lr(recipe) * step / warmup
    match recipe.schedule:
        case Staircase(factor, epochs):
            return peak_lr(recipe) * factor ** math.floor(step / (epochs * epoch_steps))
        case Cosine():
            return peak_lr(recipe) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
        case _:
            return peak_lr(recipe)


def steps_of_epoch(images: int, recipe: Recipe, world: int, asked_batch: int) -> int:
    """Return the number of steps of an epoch, in which every image is used once.

    The images are divided into steps of equal size, up to one image, of at most the recipe's batch. If a part of a step
    has one image on each process, there may not be enough images for one more step, and the steps are larger.

    Args:
        images: Number of training images.
        recipe: The recipe.
        world: Number of processes.
        asked_batch: The batch before it was made smaller to suit few images.

    Raises:
        CompoundNetError: the batch cannot be shared by the processes and parts, or there are too few images for them.
    """
    parts = world * recipe.accumulate
    if asked_batch % parts:
        raise CompoundNetError(
            f"a batch of {asked_batch} cannot be shared equally by {world} processes in {recipe.accumulate} parts; give"
            f" a multiple of {parts} (--set batch=...)"
        )
    if images < parts:
        raise CompoundNetError(
            f"{images} training images cannot be shared by {world} processes in {recipe.accumulate} parts: each needs"
            " one; take fewer (--devices, --set accumulate=...)"
        )
    return min(-(-images // recipe.batch), images // parts)


def check_norm(network: Network, recipe: Recipe, images: int, world: int) -> None:
    """Check that batch norm has more than one value for each channel: a map of one pixel needs two images.

    Args:
        network: The network, at the smallest resolution of the training images.
        recipe: The recipe.
        images: The fewest images in a part of a step on one process.
        world: Number of processes.

    Raises:
        CompoundNetError: there is one image, and a norm on a map of one pixel.
    """
    if images > 1 or recipe.norm != "train" or (world > 1 and recipe.sync_norm):
        return
    single = next((layer.name for layer in unroll(network) if layer.kind == "norm" and layer.out_size == 1), None)
    if single is not None:
        raise CompoundNetError(
            f"{network.name} has batch norm on a map of one pixel at {network.resolution} px ({single}), which cannot"
            " be trained on one image at a time: give a larger batch (--set batch=...), fewer parts or devices, or"
            " --set norm=frozen"
        )


def total_steps(recipe: Recipe, epoch_steps: int) -> int:
    """Return the number of steps of a run.

    Raises:
        CompoundNetError: there are fewer than phases of progressive learning.
    """
    steps = recipe.steps or max(1, round(recipe.epochs * epoch_steps))
    if steps < recipe.phases:
        raise CompoundNetError(
            f"{recipe.phases} phases of progressive learning need a step each, and the training has {steps}: train for"
            f" longer (--set epochs=...), or use --set progressive.phases={steps}"
        )
    return steps


def frozen_steps(recipe: Recipe, epoch_steps: float) -> int:
    """Return the number of steps at the start that train the classifier alone."""
    return int(recipe.frozen_epochs * epoch_steps)


def phase_of(step: int, total: int, phases: int) -> int:
    """Return the phase of progressive learning to which a step belongs: phases have equal length, up to one step."""
    return min(phases - 1, step * phases // total)


def average_decay(decay: float, steps: int) -> float:
    """Return the decay of the average after `steps` steps, as tf.train.ExponentialMovingAverage with num_updates."""
    return min(decay, (1 + steps) / (10 + steps))
