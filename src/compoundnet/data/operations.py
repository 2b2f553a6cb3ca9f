"""The sixteen image operations of AutoAugment and RandAugment, as the authors' TensorFlow code computes them.

Each takes an RGB image and an argument (see augment.toml; 0 if it has none). Areas left empty by a moved image are
filled with grey 128. Pixels are moved without interpolation, and computed values are truncated, not rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

_GREY = (128, 128, 128)
_LEVELS = np.arange(256)
_FLOATS = _LEVELS.astype(np.float32)  # as the reference computes, so that truncation agrees


def autocontrast(image: Image.Image, _: float) -> Image.Image:
    """Stretch each channel to 0..255."""
    filled = _histograms(image) > 0
    low, high = filled.argmax(axis=1)[:, None], 255 - filled[:, ::-1].argmax(axis=1)[:, None]
    scale = (255 / np.maximum(high - low, 1)).astype(np.float32)
    return _looked_up(image, np.where(high > low, _cut(_FLOATS * scale - low * scale), _LEVELS))


def equalize(image: Image.Image, _: float) -> Image.Image:
    """Flatten each channel's histogram."""
    counts = _histograms(image)
    sums = counts.cumsum(axis=1)
    # All pixels but those of the highest value that occurs, divided among the other 255.
    highest = 255 - (counts[:, ::-1] > 0).argmax(axis=1)
    step = (sums[:, -1:] - counts[np.arange(3), highest][:, None]) // 255
    tables = np.zeros_like(counts)
    tables[:, 1:] = ((sums[:, :-1] + step // 2) // np.maximum(step, 1)).clip(0, 255)
    return _looked_up(image, np.where(step > 0, tables, _LEVELS))


def invert(image: Image.Image, _: float) -> Image.Image:
    """255 - value."""
    return _looked_up(image, 255 - _LEVELS)


def posterize(image: Image.Image, bits: float) -> Image.Image:
    """Keep the highest bits of each value: 0 bits make the image black, 8 or more leave it unchanged."""
    kept = 8 - min(int(bits), 8)
    return _looked_up(image, _LEVELS >> kept << kept)


def solarize(image: Image.Image, threshold: float) -> Image.Image:
    """Invert values at and above the threshold."""
    return _looked_up(image, np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS))


def solarize_add(image: Image.Image, added: float) -> Image.Image:
    """Brighten values below 128."""
    return _looked_up(image, np.where(_LEVELS < 128, (_LEVELS + int(added)).clip(0, 255), _LEVELS))


def color(image: Image.Image, factor: float) -> Image.Image:
    """Move colours away from grey (factor above 1) or towards it (below 1)."""
    return Image.blend(image.convert("L").convert("RGB"), image, factor)


def contrast(image: Image.Image, factor: float) -> Image.Image:
    """Move values away from a constant or towards it: pixels / 256 (196 at 224 px), where a mean was intended."""
    constant = min(image.width * image.height // 256, 255)
    return _looked_up(image, _cut(constant + np.float32(factor) * (_FLOATS - constant)))


def brightness(image: Image.Image, factor: float) -> Image.Image:
    """Move values away from black or towards it."""
    return _looked_up(image, _cut(np.float32(factor) * _FLOATS))


def sharpness(image: Image.Image, factor: float) -> Image.Image:
    """Move values away from a smoothed image or towards it; the outermost pixels stay unchanged."""
    return Image.blend(image.filter(ImageFilter.SMOOTH), image, factor)


def rotate(image: Image.Image, degrees: float) -> Image.Image:
    """Rotate about the centre."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = image.width / 2, image.height / 2
    return _moved(image, (cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y))


def shear_x(image: Image.Image, level: float) -> Image.Image:
    """Move each row by `level` times its number. TensorFlow counts from pixels' centres, PIL from their corners."""
    return _moved(image, (1, level, -level / 2, 0, 1, 0))


def shear_y(image: Image.Image, level: float) -> Image.Image:
    """Move each column by `level` times its number."""
    return _moved(image, (1, 0, 0, level, 1, -level / 2))


def translate_x(image: Image.Image, pixels: float) -> Image.Image:
    """Move sideways."""
    return _moved(image, (1, 0, pixels, 0, 1, 0))


def translate_y(image: Image.Image, pixels: float) -> Image.Image:
    """Move up or down."""
    return _moved(image, (1, 0, 0, 0, 1, pixels))


def cutout(image: Image.Image, half: float, x: int, y: int) -> Image.Image:
    """Cover a square around the pixel (x, y), `2 * half` wide, with grey, as far as it is inside the image."""
    left, top, right, bottom = x - int(half), y - int(half), x + int(half), y + int(half)
    covered = image.copy()
    covered.paste(_GREY, (max(0, left), max(0, top), min(image.width, right), min(image.height, bottom)))
    return covered


OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    "Posterize": posterize,
    "Solarize": solarize,
    "SolarizeAdd": solarize_add,
    "Color": color,
    "Contrast": contrast,
    "Brightness": brightness,
    "Sharpness": sharpness,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
}


def _histograms(image: Image.Image) -> NDArray[np.int64]:
    """int64[3, 256]."""
    return np.array(image.histogram(), np.int64).reshape(3, 256)


def _looked_up(image: Image.Image, table: NDArray[Any]) -> Image.Image:
    """Replace each value by the table's: [256] for all channels, or [3, 256]."""
    return image.point(np.broadcast_to(table, (3, 256)).ravel().tolist())


def _moved(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """Take the pixel at (x, y) from matrix * (x, y, 1)."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=_GREY)


def _cut(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return values.clip(0, 255).astype(np.uint8)
