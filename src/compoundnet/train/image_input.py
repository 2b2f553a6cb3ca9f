"""The square input of the network, chosen by the training images: fit, resolution and crop."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.arch import Network, cost, training_memory
from compoundnet.data.image_sizes import choose_fit, image_sizes, square_share
from compoundnet.models import ModelFolder, Preprocess

if TYPE_CHECKING:
    from compoundnet.data import Split
    from compoundnet.models.preprocess import Fit
    from compoundnet.train.recipe import Recipe

# Images are enlarged to at most this many times their own size in fine-tuning. benchmarks/bench_input.py
_ENLARGED = 4
# Pretrained features mean little on a smaller input, whatever the images. benchmarks/bench_input.py
_SMALLEST = 96
# Images of at most this share of the model's own resolution are evaluated whole: those of 8 and 32 px gain by it, those
# of 25 px lose no more than the noise, and those of 200 px lose 2 to 9 points. benchmarks/bench_input.py
_NO_MARGIN = 0.5
# The resolution is a multiple of the networks' stride.
_STRIDE = 32


class ImageInput(NamedTuple):
    """The input of a network.

    Attributes:
        recipe: The recipe with the choices in place of "auto".
        preprocess: The preprocessing of evaluation.
        notes: A sentence for each choice that differs from what the model does with its own images.
    """

    recipe: Recipe
    preprocess: Preprocess
    notes: tuple[str, ...]


def choose_input(recipe: Recipe, images: Split, network: Network, start: ModelFolder | None) -> ImageInput:
    """Choose the input of a network by the recipe and, where that says "auto", by a sample of the training images.

    Args:
        recipe: The recipe.
        images: The training images.
        network: The network, at its own resolution.
        start: The model that is fine-tuned; None for new weights.
    """
    base = Preprocess.authors(network.resolution) if start is None else start.preprocess
    asked = (recipe.fit, recipe.resolution, recipe.crop)
    sizes = image_sizes(images) if "auto" in asked else np.empty((0, 2), np.int64)
    known, notes = len(sizes) > 0, []

    fit: Fit = base.fit if recipe.fit is None or recipe.fit == "auto" else recipe.fit
    if recipe.fit == "auto" and fit == "crop" and known:
        fit, note = _fit(sizes)
        notes += note
    size = recipe.resolution if isinstance(recipe.resolution, int) else base.size
    small = bool(known and _side(sizes, fit) <= _NO_MARGIN * base.size)
    if recipe.resolution == "auto" and start is not None and known:
        size, note = _resolution(sizes, fit, base.size, network, recipe)
        notes += note
    crop, note = _crop(recipe, base, fit, size, small)
    notes += note
    chosen = {
        name: value
        for name, value, given in zip(("fit", "resolution", "crop"), (fit, size, crop), asked, strict=True)
        if given == "auto"
    }
    return ImageInput(
        recipe.replace(**chosen) if chosen else recipe,
        msgspec.structs.replace(base, size=size, crop=crop, fit=fit),
        tuple(notes),
    )


def _fit(sizes: NDArray[np.int64]) -> tuple[Fit, list[str]]:
    fit = choose_fit(sizes)
    if fit == "crop":
        return fit, []
    why, other = ("they have one shape", "pad") if fit == "squash" else ("their shapes differ", "squash")
    return fit, [
        f"fit {fit}: the centre square would show {square_share(sizes):.0%} of the images on average (such as"
        f" {_middle(sizes)}), and {why}; --set fit=crop or fit={other} overrides"
    ]


def _resolution(
    sizes: NDArray[np.int64], fit: Fit, own: int, network: Network, recipe: Recipe
) -> tuple[int, list[str]]:
    """The model's own resolution, or less for images that would be enlarged more than is of use."""
    wanted = -(-_ENLARGED * _side(sizes, fit) // _STRIDE) * _STRIDE
    size = min(own, max(_SMALLEST, wanted))
    if size == own:
        return own, []
    smaller, larger = (network.replace(resolution=side) for side in (size, own))
    work = cost(larger).macs / cost(smaller).macs
    memory = training_memory(larger, recipe.batch) / training_memory(smaller, recipe.batch)
    return size, [
        f"resolution {size} px: the images are small ({_middle(sizes)}). The model's own {own} px would take {work:.1f}"
        f" times the work and {memory:.1f} times the memory for little gain (--set resolution={own})"
    ]


def _crop(recipe: Recipe, base: Preprocess, fit: Fit, size: int, small: bool) -> tuple[float, list[str]]:
    """The crop in evaluation: all of an image if it is padded or squashed, or small.

    Pad and squash are for images of which every part matters. Small images were cut out or reduced by someone, who left
    no margin around the object.
    """
    if isinstance(recipe.crop, float | int):
        return recipe.crop, []
    if fit == "crop":
        rule = base.crop if size == base.size and base.fit == "crop" else Preprocess.authors(size).crop
    else:  # at any resolution: the authors' rule is one for centre squares
        rule = base.crop if fit == base.fit else 1.0
    if recipe.crop == "auto" and small and rule < 1:
        return 1.0, [
            "crop 1: evaluation sees all of a square image, because small images have no margin to cut off"
            f" (--set crop={rule:.3g} overrides)"
        ]
    return rule, []


def _side(sizes: NDArray[np.int64], fit: Fit) -> int:
    """The side that becomes the network's resolution, of the image in the middle."""
    return int(np.median(sizes.min(1) if fit == "crop" else sizes.max(1)))


def _middle(sizes: NDArray[np.int64]) -> str:
    """The size of the image in the middle by area."""
    width, height = sizes[np.argsort(sizes.prod(1), kind="stable")[len(sizes) // 2]]
    return f"{width} x {height} px"
