"""From a map over the network's input back to the picture: preprocessing's crop and resize undone."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Left, top, right, bottom in pixels of the picture; right and bottom are the first outside.
Box: TypeAlias = tuple[int, int, int, int]

# Zhou et al. 2016, section 3.2: a class lies where its map is above this share of its largest value.
BOX_SHARE = 0.2
# Regions are looked for on a map of so many pixels a side at most; a map has some ten cells a side.
_FINEST = 512


def over_picture(
    grid: NDArray[np.float32], seen: Box, size: tuple[int, int], drawn: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """A map float32[h, w] of the crop `seen`, upsampled bilinearly over the whole picture: float32[height, width].

    size   width and height of the picture, pixels
    drawn  width and height to draw it at, where that is not the picture's own

    NaN outside the crop: the network has not seen it.
    """
    width, height = drawn or size
    left, right = (round(x * width / size[0]) for x in (seen[0], seen[2]))
    top, bottom = (round(y * height / size[1]) for y in (seen[1], seen[3]))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    whole = np.full((max(height, bottom), max(width, right)), np.nan, np.float32)
    whole[top:bottom, left:right] = _resized(grid, right - left, bottom - top)
    return whole[:height, :width]


def peak(grid: NDArray[np.float32], seen: Box) -> tuple[int, int]:
    """(x, y) of the largest value in pixels of the picture: the middle of its cell, where bilinear maps are largest."""
    row, column = divmod(int(grid.argmax()), grid.shape[1])
    left, top, right, bottom = seen
    x, y = (column + 0.5) / grid.shape[1] * (right - left), (row + 0.5) / grid.shape[0] * (bottom - top)
    return left + int(x), top + int(y)


def box(grid: NDArray[np.float32], seen: Box) -> Box | None:
    """The largest connected region above BOX_SHARE of the largest value, as a box on the picture.

    None where no value is above 0: nothing speaks for the class.
    """
    from scipy import ndimage

    if grid.max() <= 0:
        return None
    left, top, side = seen[0], seen[1], seen[2] - seen[0]
    fine = max(min(side, _FINEST), grid.shape[0])  # of a picture smaller than the map too: shrunk, a peak may vanish
    enlarged = _resized(grid, fine, fine)
    if enlarged.max() <= 0:
        return None
    regions, count = ndimage.label(enlarged >= BOX_SHARE * enlarged.max())
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    rows, columns = ndimage.find_objects(regions)[int(sizes.argmax())]
    scale = side / fine
    return (
        left + math.floor(columns.start * scale),
        top + math.floor(rows.start * scale),
        left + math.ceil(columns.stop * scale),
        top + math.ceil(rows.stop * scale),
    )


def _resized(grid: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(grid, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
