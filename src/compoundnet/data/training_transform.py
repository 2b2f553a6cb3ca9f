"""The training transform as a value: random crop, resize, flip, augmentation."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np

from compoundnet.data.augment import AutoAugment, RandAugment
from compoundnet.data.randomness import below
from compoundnet.models import Preprocess
from compoundnet.models.preprocess import crop_box

Box = tuple[int, int, int, int]


class TrainingTransform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The authors' preprocessing for training ("Inception crop"), with their defaults.

    Attributes:
        size: Side of the square input of the network, pixels.
        area: lowest and highest area of the crop, as a fraction of the image's.
        aspect: lowest and highest width / height of the crop.
        covered: the crop must hold this fraction of the image, whatever `area` allows (min_object_covered).
        attempts: Number of attempts before the centre crop of evaluation is used instead.
        flip: swap left and right in half of the images.
        interpolation: Filter of the resize.
        augment: AutoAugment(), RandAugment() or None; applied last.
    """

    size: int
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    covered: float = 0.1
    attempts: int = 10
    flip: bool = True
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    augment: AutoAugment | RandAugment | None = None

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
        """Draw a random box of an image: left, top, right, bottom in pixels."""
        for _ in range(self.attempts):
            box = self._attempt(width, height, random)
            if box is not None:
                return box
        return crop_box(width, height, Preprocess.authors(self.size).crop)

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
