"""Images of 12 bits in files of 16 that do not state their range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

RANGE = (0.0, 4095.0)


def write_deep(folder: Path, classes: tuple[str, ...] = ("dark", "light"), count: int = 12) -> Path:
    """FOLDER/CLASS/N.png, each class lighter than the one before; the first image has the largest value, 4087."""
    random = np.random.default_rng(0)
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        level = 400 + 3200 * place // max(1, len(classes) - 1)
        for number in range(count):
            pixels = random.integers(level - 300, level + 300, (40, 40)).astype(np.uint16)
            pixels[0, 0] = 4087 if place == number == 0 else pixels[0, 0]
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder
