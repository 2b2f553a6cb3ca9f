"""From the bytes of an image to the pixels of a batch. The training path takes most of the loader's time.

simplejpeg decodes plain JPEGs with the same libjpeg-turbo as PIL, to the same pixels, but directly into an array.
(torchvision's decoder is as fast, and is being withdrawn.) torch resizes uint8 pixels in their memory layout in a
quarter of the time that PIL takes with the same filter. Other formats are read as for prediction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from simplejpeg import decode_jpeg  # type: ignore[import-untyped]  # has no types
from torch.nn import functional as F

from compoundnet.base import Notify, ignore
from compoundnet.base.images import Encoded, Reading, decode, open_encoded, to_rgb
from compoundnet.data.augment import Augmentation
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.models import Preprocess
from compoundnet.models.preprocess import Box, visible

_AS_IT_IS = Reading()


def evaluation_pixels(
    encoded: Encoded, how: Preprocess, reading: Reading = _AS_IT_IS, *, damaged: Notify = ignore
) -> torch.Tensor:
    """Return float32[3, size, size], normalised: the same values as in prediction. Raises the exceptions of PIL.

    The range of the reading goes before that of the preprocessing.
    """
    reading = Reading(reading.range or how.range, reading.allow_truncated)
    return torch.from_numpy(how.pixels(decode(encoded, reading, damaged=damaged)))


def cropped_pixels(
    encoded: Encoded,
    how: TrainingTransform,
    random: np.random.Generator,
    reading: Reading = _AS_IT_IS,
    *,
    damaged: Notify = ignore,
) -> torch.Tensor:
    """Crop, resize and flip: uint8[3, size, size], channels last in memory. Raises the exceptions of PIL.

    `damaged` is called with the damage of an image that is used as far as it can be decoded.
    """
    cropped, (wide, tall), (x, y) = _cropped(encoded, how, random, reading, damaged)
    # Viewed as a batch of one before the axes are permuted, so that torch recognises and keeps the channels-last
    # format.
    planes = torch.from_numpy(cropped)[None].permute(0, 3, 1, 2)
    resized = F.interpolate(planes, size=(tall, wide), mode=how.interpolation, antialias=True)[0]
    if (wide, tall) != (how.size, how.size):
        padded = torch.tensor(how.padding, dtype=torch.uint8).expand(how.size, how.size, 3).clone().permute(2, 0, 1)
        padded[:, y : y + tall, x : x + wide] = resized
        resized = padded
    return resized.flip(-1) if how.flip and random.random() < 0.5 else resized


def augmented_pixels(
    pixels: torch.Tensor, augmentations: Iterable[Augmentation | None], random: np.random.Generator
) -> torch.Tensor:
    """Augment the result of `cropped_pixels` by those of the augmentations that there are, in their order."""
    steps = [step for step in augmentations if step is not None]
    if not steps:
        return pixels
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    for step in steps:
        image = step.apply(image, random)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class _Cropped(NamedTuple):
    """The part of a random box that lies in the image, uint8[h, w, 3], and its place in the square of the network."""

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    corner: tuple[int, int]


def _cropped(
    encoded: Encoded, how: TrainingTransform, random: np.random.Generator, reading: Reading, damaged: Notify
) -> _Cropped:
    """Read a random box of the image."""
    place = random.bit_generator.state
    try:
        cropped = _plain_jpeg(encoded, how, random) if isinstance(encoded, bytes) else None
    except Exception:  # damaged, or with large text: as in prediction
        cropped = None
        random.bit_generator.state = place
    if cropped is not None:
        return cropped
    image = decode(encoded, reading, damaged=damaged)
    part, size, corner = _place(image.width, image.height, how, random)
    return _Cropped(np.array(image.crop(part)), size, corner)


def _plain_jpeg(encoded: bytes, how: TrainingTransform, random: np.random.Generator) -> _Cropped | None:
    """The same for an upright JPEG in RGB or grey, without decoding more than is needed; None for other images."""
    with open_encoded(encoded) as image:  # reads no pixels yet
        if image.format != "JPEG" or image.mode not in ("RGB", "L") or _is_turned(image):
            return None
        part, size, corner = _place(image.width, image.height, how, random)
        left, top, right, bottom = part
        shrink = min((right - left) // size[0], (bottom - top) // size[1])
        if shrink >= 2:
            smaller = _decode_smaller(image, shrink, part)
            return _Cropped(np.array(to_rgb(image).crop(smaller)), size, corner)
        pixels: NDArray[np.uint8] = decode_jpeg(encoded)
        return _Cropped(pixels[top:bottom, left:right], size, corner)


def _place(
    width: int, height: int, how: TrainingTransform, random: np.random.Generator
) -> tuple[Box, tuple[int, int], tuple[int, int]]:
    """Draw a box; return its part in the image, and the size and left top corner of that part in the square."""
    box = how.crop(width, height, random)
    part, (wide, tall) = visible(box, width, height, how.size)
    x = min(how.size - wide, round((part[0] - box[0]) * how.size / (box[2] - box[0])))
    y = min(how.size - tall, round((part[1] - box[1]) * how.size / (box[3] - box[1])))
    return part, (wide, tall), (x, y)


def _decode_smaller(image: Image.Image, shrink: int, box: Box) -> Box:
    """Let PIL decode a JPEG at 1/2, 1/4 or 1/8 of its size, if the crop is much larger than the result.

    It averages blocks of pixels without the weights of the resize: the result is slightly softer, but takes a fraction
    of the time for an image from a camera. Only training uses it.

    Returns:
        The box in the smaller image.
    """
    width, height = image.size
    image.draft(None, (width // shrink, height // shrink))
    x, y = image.width / width, image.height / height
    left, top, right, bottom = box
    return int(left * x), int(top * y), math.ceil(right * x), math.ceil(bottom * y)


def _is_turned(image: Image.Image) -> bool:
    try:
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)
    except Exception:  # damaged EXIF data, which `to_rgb` ignores
        return True
