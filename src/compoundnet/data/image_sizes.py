"""Widths and heights of the images of a split, from their headers: no pixel is decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from compoundnet.base import CompoundNetError
from compoundnet.base.images import image_formats, open_encoded
from compoundnet.data.dataset import Split
from compoundnet.data.sources import Files

# The shares of a sample of this size are right to within 4 % (two standard deviations of one half), and reading the
# headers takes a fraction of a second from a disk.
SAMPLE = 500


def image_sizes(split: Split, most: int | None = SAMPLE) -> NDArray[np.int64]:
    """Read the sizes of evenly spaced images.

    Args:
        split: The images.
        most: The number of images that are read; None for all.

    Returns:
        int64[N, 2]: width and height of each upright image. Images that cannot be read are left out.
    """
    count = len(split) if most is None else min(most, len(split))
    found = (_size(split, int(index)) for index in np.linspace(0, len(split) - 1, count, dtype=int))
    return np.array([size for size in found if size is not None], np.int64).reshape(-1, 2)


def _size(split: Split, index: int) -> tuple[int, int] | None:
    source = split.source
    try:
        if isinstance(source, Files):  # not read whole: PIL stops behind the header
            path = Path(source.root, split.image_name(index))
            with Image.open(path, formats=image_formats()) as image:
                return _upright(image)
        encoded = split.read(index)
        if not isinstance(encoded, bytes):
            return encoded.shape[1], encoded.shape[0]
        with open_encoded(encoded) as image:
            return _upright(image)
    except Exception:
        pass
    try:
        return split.image(index).size  # its header has more text than PIL reads
    except CompoundNetError:  # training names every image that cannot be read
        return None


def _upright(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    # The orientations 5 to 8 lie on their side.
    lying = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return (height, width) if lying else (width, height)
