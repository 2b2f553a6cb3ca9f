"""Widths and heights of images from their headers, without decoding a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.base import CompoundNetError, check_file, limits
from compoundnet.base.images import image_formats, open_encoded, orientation
from compoundnet.data.dataset import Split
from compoundnet.data.sources import Files
from compoundnet.models import Preprocess
from compoundnet.models.preprocess import Fit

# The shares of a sample of this size are right to within 4 % (two standard deviations of one half), and reading the
# headers takes a fraction of a second from a disk.
SAMPLE = 500
# Mean over the images of shorter / longer side, which is the part of an image that its centre square shows: 3/4 and 2/3
# for photographs in the usual formats 4:3 and 3:2, on which pretrained networks were evaluated so; 0.56 for the screens
# and video of 16:9, 0.19 for 120 x 640 px. Below this, the centre square would lose more than two fifths.
_LEAST_SEEN = 0.6
# Images whose width / height differs by less than this factor (between the first and the last tenth) have one shape.
# All of them are squashed alike then, which a network learns; with pad, most of the input would show nothing.
_ONE_SHAPE = 1.5


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


def file_sizes(paths: Sequence[Path], most: int = SAMPLE) -> NDArray[np.int64]:
    """Read the sizes of evenly spaced image files, as `image_sizes` does."""
    found = []
    for index in np.linspace(0, len(paths) - 1, min(most, len(paths)), dtype=int):
        try:
            found.append(_header(paths[index]))
        except Exception:  # whoever reads it reports it
            continue
    return np.array(found, np.int64).reshape(-1, 2)


def square_share(sizes: NDArray[np.int64]) -> float:
    """Return the part of the images that their centre squares show on average; 1 without images."""
    return float((sizes.min(1) / sizes.max(1)).mean()) if len(sizes) else 1.0


def choose_fit(sizes: NDArray[np.int64]) -> Fit:
    """Choose how images become square: crop if the centre squares show enough of them; otherwise squash images of one
    shape, and pad those of several."""
    if square_share(sizes) >= _LEAST_SEEN:
        return "crop"
    narrow, wide = np.quantile(sizes[:, 0] / sizes[:, 1], (0.1, 0.9))
    return "squash" if wide / narrow < _ONE_SHAPE else "pad"


def cropped_off(how: Preprocess, sizes: NDArray[np.int64]) -> str | None:
    """Return a remark for the user if a model crops so long images that it does not see most of them; else None."""
    if how.fit != "crop" or choose_fit(sizes) == "crop":
        return None
    seen = square_share(sizes) * how.crop**2
    return (
        f"the model sees {seen:.0%} of these images on average: their centre squares (fit crop). `compoundnet train` on"
        " such images pads or squashes them instead"
    )


def _size(split: Split, index: int) -> tuple[int, int] | None:
    try:
        if isinstance(split.source, Files):  # not read whole: PIL stops behind the header
            return _header(Path(split.source.root, split.image_name(index)))
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


def _header(path: Path) -> tuple[int, int]:
    check_file(path, limits.IMAGE_BYTES)
    with Image.open(path, formats=image_formats()) as image:
        return _upright(image)


def _upright(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    # The orientations 5 to 8 lie on their side.
    lying = orientation(image) in (5, 6, 7, 8)
    return (height, width) if lying else (width, height)
