"""Held-out training images: how many there are, and what their evaluation after an epoch says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from compoundnet.base import CompoundNetError
from compoundnet.data.holdout import hold_out
from compoundnet.train.counts import Counts, Tolerance, count
from compoundnet.train.several_labels import LabelPredictions, count_labels

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from compoundnet.base import Notify, Progress
    from compoundnet.data import Dataset, Split
    from compoundnet.models import Preprocess
    from compoundnet.nn import ConvNet
    from compoundnet.train.recipe import Recipe

# What `minival = "auto"` holds out, and the number of images from which on they are enough to calibrate probabilities:
# the standard error of an accuracy of 80 % on 100 images is 4 points.
HELD_OUT = 0.1
ENOUGH = 100


class Divided(NamedTuple):
    """What is trained on, and what decides.

    Attributes:
        recipe: The recipe; its `minival` stays "auto" only if validation images decide.
        train: The training images.
        held: The held-out images; None if there are none.
        whole: Both, if the recipe trains on all of them at the end (`refit`).
        notes: Remarks for the user.
    """

    recipe: Recipe
    train: Split
    held: Split | None
    whole: Split | None
    notes: tuple[str, ...]


def divide(recipe: Recipe, dataset: Dataset, seed: int, *, calibrated: bool = True) -> Divided:
    """Divide the training images as the recipe says; with `minival = "auto"`, validation images beside test images are
    the held-out ones, and all training images are trained on.

    Args:
        recipe: The recipe.
        dataset: The data.
        seed: Of the choice of training images that are held out.
        calibrated: Whether held-out images calibrate the probabilities.
    """
    every, validation = dataset.split("train"), _validation(dataset)
    if validation is not None and recipe.minival == "auto" and recipe.has_steps:
        note = (
            f"the {len(validation):,} validation images are the held-out ones: epochs are evaluated on them, and no"
            " training image is held out"
        )
        return Divided(recipe, every, validation, every.joined(validation) if recipe.refit else None, (note,))
    chosen, none_held = choose_held_out(recipe, every, calibrated=calibrated)
    notes = tuple(filter(None, [none_held, None if validation is None else _unused(validation, chosen)]))
    if not chosen.minival:
        return Divided(chosen, every, None, None, notes)
    try:
        train, held = hold_out(every, float(chosen.minival), seed)
    except CompoundNetError as error:
        if recipe.minival != "auto" or _decides(recipe):
            raise
        none_held = f"no training images are held out, so all are trained on: {error}"
        return Divided(chosen.replace(minival=0), every, None, None, (none_held, *notes))
    return Divided(chosen, train, held, every if recipe.refit else None, notes)


def _validation(dataset: Dataset) -> Split | None:
    """The validation images; None where they are the test images, because there are no others."""
    return None if dataset.evaluation == "val" else dataset.splits.get("val")


def _unused(validation: Split, recipe: Recipe) -> str:
    """Return a remark on validation images that decide nothing."""
    if not recipe.has_steps:
        why = "a probe is judged and calibrated by cross-validation"
    elif recipe.minival:
        why = f"minival = {recipe.minival:g} holds out training images; --set minival=auto takes the validation images"
    else:
        why = "minival = 0 holds nothing out; --set minival=auto takes them as the held-out images"
    return f"the {len(validation):,} validation images are not used: {why}"


def choose_held_out(recipe: Recipe, train: Split, *, calibrated: bool = True) -> tuple[Recipe, str | None]:
    """Return the recipe with a number for `minival = "auto"`, and a remark for the user if it holds nothing out.

    Held-out images decide which epoch is best (`select`) or when to stop (`patience`), and after training the threshold
    of each label, of images with several, or else how the probabilities are calibrated. For the last a few images show
    nothing, and training can use them.
    """
    if recipe.minival != "auto":
        return recipe, None
    enough = calibrated and len(train) * HELD_OUT >= ENOUGH
    if _decides(recipe) or train.multilabel or enough:
        return recipe.replace(minival=HELD_OUT), None
    few = f"{HELD_OUT:.0%} of {len(train):,} would be too few to decide anything"
    return recipe.replace(minival=0), (
        f"no training images are held out: {few if calibrated else 'they would decide nothing'}, so all are trained on"
    )


def _decides(recipe: Recipe) -> bool:
    """Whether held-out images are needed during training."""
    return recipe.select == "best" or recipe.patience > 0


def evaluate_held_out(
    net: ConvNet,
    held: Split,
    preprocess: Preprocess,
    fabric: Fabric,
    recipe: Recipe,
    *,
    workers: int,
    progress: Progress,
    notify: Notify,
) -> Counts | LabelPredictions:
    """Evaluate the network on the held-out images, as many at a time as in training. All processes call it together.

    Up to `max_bad` unreadable images are left out, and named to `notify`.

    Raises:
        CompoundNetError: there are more unreadable images.
    """
    batch = max(1, recipe.batch // fabric.world_size // recipe.accumulate)
    tolerance = Tolerance(recipe.max_bad, "held-out", notify)
    counting = count_labels if held.multilabel else count
    return counting(net, held, preprocess, fabric, batch=batch, workers=workers, progress=progress, tolerance=tolerance)


def score(found: Counts | LabelPredictions, recipe: Recipe) -> float:
    """Return the figure by which epochs are compared: the mean per class if training is balanced."""
    return found.mean_per_class if isinstance(found, Counts) and recipe.balance != "none" else found.score


def epoch_values(found: Counts | LabelPredictions | None) -> dict[str, float | None]:
    """Return the fields of an `Epoch` that the evaluation gives."""
    if found is None:
        return {}
    values: dict[str, float | None] = {"held_loss": found.loss, "held_top1": found.top1}
    if isinstance(found, Counts):
        return values | {"held_mean_per_class": found.mean_per_class}
    return values | {"held_map": found.mean_average_precision}
