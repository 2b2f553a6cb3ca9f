"""Training images as files, for the calibration of a reduced precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compoundnet.base import make_folder
from compoundnet.base.images import UnreadableImageError
from compoundnet.data import Split

# Enough for the ranges of activations.
MOST = 200


def write_calibration_images(images: Split, folder: Path, most: int = MOST) -> Path:
    """Write some images of a split, evenly spaced, as PNG files, and return their folder."""
    target = make_folder(folder / "calibration")
    for index in np.linspace(0, len(images) - 1, min(most, len(images)), dtype=int):
        try:
            images.image(int(index)).save(target / f"{index}.png")
        except UnreadableImageError:  # screening has named it
            continue
    return target
