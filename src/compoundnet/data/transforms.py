"""Evaluation preprocessing as the authors' preprocessing.py has it: centre crop, resize, normalise."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.models import Preprocess

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def preprocess(image: Image.Image, how: Preprocess) -> NDArray[np.float32]:
    """What the network reads of an RGB picture: float32[3, size, size], contiguous.

    The order is the authors', crop before resize, so that nothing outside the crop reaches a pixel. The resize is
    PIL's, which averages over what it shrinks, as in timm and torchvision; TensorFlow 1's does not average.
    """
    cropped = image.crop(crop_box(image.width, image.height, how.crop))
    resized = cropped.resize((how.size, how.size), _FILTERS[how.interpolation])
    return _normalised(np.asarray(resized), how)


def crop_box(width: int, height: int, crop: float) -> tuple[int, int, int, int]:
    """The centre square: left, top, right, bottom in pixels. An odd rest leaves one pixel more on the left and top."""
    # In float32 and cut off, as TensorFlow computes it. A crop of less than a pixel is one pixel.
    side = max(1, int(np.float32(crop) * np.float32(min(width, height))))
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    return left, top, left + side, top + side


def _normalised(pixels: NDArray[np.uint8], how: Preprocess) -> NDArray[np.float32]:
    """uint8[H, W, 3] as float32[3, H, W]."""
    tables = _tables(how.mean, how.std)
    planes = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel, table in enumerate(tables):
        table.take(pixels[..., channel], out=planes[channel], mode="clip")
    return planes


@cache
def _tables(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """The normalised value of each of the 256 pixel values, float32[3, 256]: computed once, and correctly rounded."""
    mean_of, std_of = (np.broadcast_to(np.asarray(values, np.float64), 3)[:, None] for values in (mean, std))
    tables: NDArray[np.float32] = ((np.arange(256) / 255 - mean_of) / std_of).astype(np.float32)
    return tables
