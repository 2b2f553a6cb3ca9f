"""The training transform as a value: random crop, resize, flip, augmentation, colour jitter."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np

from compoundnet.data.augment import AutoAugment, ColorJitter, RandAugment, TrivialAugment
from compoundnet.data.randomness import below
from compoundnet.models import Preprocess
from compoundnet.models.preprocess import Box, Fit, crop_box


class TrainingTransform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The authors' preprocessing for training ("Inception crop"), with their defaults.

    With `fit` crop, boxes are drawn on the image, as the authors do. A box of an image of 120 x 640 px is then at most
    160 px tall: no training step sees a larger part, although the network gets the whole image in evaluation. With pad
    and squash, boxes are therefore drawn on the square that evaluation makes of the image: on the image with its
    padding, or on the image squashed to a square. So a box may hold all of the image, and shows it as evaluation does,
    at up to 1 / sqrt(area[0]) times the scale.

    (timm draws boxes on the image itself whatever the `crop_mode` of evaluation, unless `train_crop_mode` is rkrc or
    rkrr, which scale the whole image by a random factor and pad it. Ultralytics draws boxes on the image too, and
    evaluates on the centre square.)

    Attributes:
        size: Side of the square input of the network, pixels.
        area: Lowest and highest area of the crop, as a fraction of the image's.
        aspect: Lowest and highest width / height of the crop.
        covered: The crop must hold this fraction of the image, whatever `area` allows (min_object_covered).
        attempts: Number of attempts before the centre crop of evaluation is used instead.
        flip: Swap left and right in half of the images.
        interpolation: Filter of the resize.
        fit: How an image that is not square becomes square, as in `Preprocess`.
        padding: Colour around the image with `fit` pad, RGB.
        augment: AutoAugment(), RandAugment(), TrivialAugment() or None; applied after crop and flip.
        jitter: ColorJitter() or None; applied last.
        second: Side of a second version of the same crop with the same augmentation, for a teacher; 0: there is none.
    """

    size: int
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    covered: float = 0.1
    attempts: int = 10
    flip: bool = True
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    fit: Fit = "crop"
    padding: tuple[int, int, int] = (0, 0, 0)
    augment: AutoAugment | RandAugment | TrivialAugment | None = None
    jitter: ColorJitter | None = None
    second: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1 px, got {self.size}")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area must rise from above 0 to at most 1, got {list(self.area)}")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(f"aspect must rise from above 0, got {list(self.aspect)}")
        if not 0 <= self.covered <= 1 or self.attempts < 1:
            raise ValueError("covered must be from 0 to 1, and attempts at least 1")

    def crop(self, width: int, height: int, random: np.random.Generator) -> Box:
        """Draw a random box of an image: left, top, right, bottom in pixels. With `fit` pad it may reach beyond it."""
        match self.fit:
            case "crop":
                box = self._draw(width, height, random)
                return box or crop_box(width, height, Preprocess.authors(self.size).crop)
            case "pad":
                return self._padded(width, height, random)
            case "squash":
                side = max(width, height)
                return _scaled(self._draw(side, side, random) or (0, 0, side, side), width, height, side)

    def _padded(self, width: int, height: int, random: np.random.Generator) -> Box:
        """Draw a box of the image with its padding that holds enough of the image itself."""
        side = max(width, height)
        x, y = (side - width) // 2, (side - height) // 2
        least = max(self.area[0], self.covered) * width * height
        for _ in range(self.attempts):
            left, top, right, bottom = self._draw(side, side, random) or (0, 0, side, side)
            box = left - x, top - y, right - x, bottom - y
            wide, tall = min(width, box[2]) - max(0, box[0]), min(height, box[3]) - max(0, box[1])
            if wide > 0 and tall > 0 and wide * tall >= least:
                return box
        return -x, -y, side - x, side - y

    def _draw(self, width: int, height: int, random: np.random.Generator) -> Box | None:
        """Draw a random box of a rectangle; None if no attempt fits."""
        for _ in range(self.attempts):
            box = self._attempt(width, height, random)
            if box is not None:
                return box
        return None

    def _attempt(self, width: int, height: int, random: np.random.Generator) -> Box | None:
        """Follow TensorFlow's sample_distorted_bounding_box: an aspect, then a height, each uniform over what fits."""
        aspect = self.aspect[0] + random.random() * (self.aspect[1] - self.aspect[0])
        least, most = (fraction * width * height for fraction in self.area)
        lowest = round(math.sqrt(least / aspect))
        highest = round(math.sqrt(most / aspect))
        if round(highest * aspect) > width:
            highest = int((width + 0.5) / aspect)
            highest -= round(highest * aspect) > width
        highest = min(highest, height)
        tall = min(lowest, highest)
        tall += below(random, highest - tall + 1)
        wide = round(tall * aspect)
        # Rounding alone must not break the limits.
        if wide * tall < least:
            tall += 1
        elif wide * tall > most:
            tall -= 1
        wide = round(tall * aspect)
        inside = 0 < wide <= width and 0 < tall <= height
        if not inside or not max(least, self.covered * width * height) <= wide * tall <= most:
            return None
        # As in TensorFlow, the last row and column are never reached unless the crop is as large as the image.
        top = below(random, height - tall) if tall < height else 0
        left = below(random, width - wide) if wide < width else 0
        return left, top, left + wide, top + tall


def _scaled(box: Box, width: int, height: int, side: int) -> Box:
    """A box of a square as a box of the image that was squashed to it, at least 1 px wide and tall."""
    left, top = box[0] * width // side, box[1] * height // side
    right, bottom = -(-box[2] * width // side), -(-box[3] * height // side)
    return left, top, max(right, left + 1), max(bottom, top + 1)
