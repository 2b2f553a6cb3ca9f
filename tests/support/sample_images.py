"""Small images on disk, each of its own colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, number: int = 0, size: tuple[int, int] = (24, 18)) -> Path:
    """A smooth image that depends on `number`; the format is the path's."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    waves = np.stack([np.sin(6 * x + number), np.cos(5 * y + 2 * number), np.sin(4 * x * y + 3 * number)], axis=-1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((127 + 100 * waves).astype(np.uint8)).save(path)
    return path


def write_classes(
    folder: Path, count: int = 5, classes: tuple[str, ...] = ("cat", "dog"), suffix: str = ".jpg"
) -> Path:
    """FOLDER/CLASS/N.jpg, `count` of each class."""
    for label, name in enumerate(classes):
        for number in range(count):
            write_image(folder / name / f"{number}{suffix}", 100 * label + number)
    return folder


def write_noise(folder: Path, count: int) -> Path:
    """FOLDER/N.png, `count` of 50 x 40 px."""
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder
