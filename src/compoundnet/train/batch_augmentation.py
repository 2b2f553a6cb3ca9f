"""The augmentation of whole batches on the device of the network: random erasing, mixup and CutMix.

The random choices of a batch depend on the seed, the step, the part of the batch and the process, as dropout does.
(torchvision's MixUp and CutMix draw from torch's global generator, and a CutMix box in pixels: a teacher that sees the
images at another resolution needs the same box there.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional as F

from compoundnet.data.randomness import below

# The rectangle of random erasing: its share of the image's area, the ratio of its sides, and the number of attempts to
# draw one that fits (timm/data/random_erasing.py; Zhong et al. 2017, section 5.1.1, with 0.4 for the largest area).
_AREA, _ASPECT, _ATTEMPTS = (0.02, 1 / 3), (0.3, 1 / 0.3), 10


class BatchMix(NamedTuple):
    """How each image of a batch is mixed with the one before it, the first with the last.

    Attributes:
        share: The share of the image itself in the label.
        box: CutMix: left, top, right and bottom of what is pasted, as fractions of the side; None: mixup.
    """

    share: float
    box: tuple[float, float, float, float] | None = None

    def images(self, images: Tensor) -> Tensor:
        """Mix float32[N, 3, S, S]."""
        others = images.roll(1, 0)
        if self.box is None:
            return torch.lerp(others, images, self.share)
        left, top, right, bottom = _pixels(self.box, images.shape[-1])
        mixed = images.clone(memory_format=torch.preserve_format)
        mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return mixed

    def targets(self, targets: Tensor) -> Tensor:
        """Mix float32[N, classes], the probabilities of classes."""
        return torch.lerp(targets.roll(1, 0), targets, self.share)


def draw_mix(mixup: float, cutmix: float, size: int, random: np.random.Generator) -> BatchMix | None:
    """Draw how a batch of images of `size` px is mixed; None if neither is above 0.

    Args:
        mixup: Parameter of the beta distribution of mixup's share.
        cutmix: Parameter of the beta distribution of CutMix's share. If both are given, each has half of the batches.
        size: Side of the images: the share of a CutMix label is that of the pixels.
        random: The generator.
    """
    if not mixup and not cutmix:
        return None
    cut = bool(cutmix) and (not mixup or random.random() < 0.5)
    alpha = cutmix if cut else mixup
    share = float(betaincinv(alpha, alpha, random.random()))
    if not cut:
        return BatchMix(share)
    # The middle is anywhere in the image; what is outside of it is cut off, and the share corrected.
    half, x, y = math.sqrt(1 - share) / 2, random.random(), random.random()
    box = max(0.0, x - half), max(0.0, y - half), min(1.0, x + half), min(1.0, y + half)
    left, top, right, bottom = _pixels(box, size)
    return BatchMix(1 - (right - left) * (bottom - top) / size**2, box)


def _pixels(box: tuple[float, float, float, float], size: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(edge * size) for edge in box)
    return left, top, right, bottom


def erase(images: Tensor, probability: float, random: np.random.Generator) -> Tensor:
    """Fill a random rectangle of each image, with that probability, with noise.

    Args:
        images: float32[N, 3, S, S], normalised; it is changed in place.
        probability: Of each image.
        random: The generator.
    """
    size = images.shape[-1]
    noise = torch.Generator(images.device).manual_seed(below(random, 1 << 32))
    for image in images:
        box = _rectangle(size, random) if random.random() < probability else None
        if box is not None:
            left, top, right, bottom = box
            image[:, top:bottom, left:right].normal_(generator=noise)
    return images


def _rectangle(size: int, random: np.random.Generator) -> tuple[int, int, int, int] | None:
    for _ in range(_ATTEMPTS):
        area = (_AREA[0] + random.random() * (_AREA[1] - _AREA[0])) * size**2
        low, high = (math.log(aspect) for aspect in _ASPECT)
        aspect = math.exp(low + random.random() * (high - low))
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if wide < size and tall < size:
            top, left = below(random, size - tall + 1), below(random, size - wide + 1)
            return left, top, left + wide, top + tall
    return None


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return float32[N, classes], the probabilities of labels int64[N]."""
    return F.one_hot(labels, classes).float()
