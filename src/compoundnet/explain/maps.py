"""The map of a class in coordinates of the whole image, with its peak, box and probability."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.runtime import ClassProbability

Array: TypeAlias = NDArray[np.float32]
# Left, top, right, bottom in pixels of the image; right and bottom are the first outside.
Box: TypeAlias = tuple[int, int, int, int]

# Zhou et al. 2016, section 3.2: an object lies where the map of its class exceeds this fraction of its maximum.
BOX_SHARE = 0.2
# Largest side in pixels of the map on which regions are searched; the map of a network has about ten cells per side.
_FINEST = 512


class NetworkOutput(NamedTuple):
    """A network's output for one input: logits float32[classes], and the map float32[h, w] of a class by its index."""

    logits: Array
    map_of: Callable[[int], Array]


# Called with pixels float32[3, size, size], as returned by preprocessing.
Method: TypeAlias = Callable[[Array], NetworkOutput]


class ClassMap(msgspec.Struct, frozen=True, eq=False):
    """The map of one class over an image.

    Attributes:
        index: The class's index.
        label: The class's label.
        probability: From 0 to 1.
        logit: The class's logit.
        grid: The original map of the network, float32[h, w] over its input. With the method cam the logit is the mean
            of the map plus the classifier's bias; negative values are evidence against the class.
        size: Width and height of the image, pixels.
        seen: The box of the image that preprocessing cropped, the only part that the network received.
        peak: (x, y) of the map's maximum, pixels of the image.
        box: The largest region above BOX_SHARE of the maximum; None if no value is positive.
    """

    index: int
    label: str
    probability: float
    logit: float
    grid: Array
    size: tuple[int, int]
    seen: Box
    peak: tuple[int, int]
    box: Box | None

    @property
    def heat(self) -> Array:
        """The map over the whole image, float32[height, width]; NaN outside the crop."""
        return over_image(self.grid, self.seen, self.size)

    def facts(self) -> dict[str, Any]:
        """Return all fields except arrays, as plain data."""
        return {name: getattr(self, name) for name in ("index", "label", "probability", "logit", "peak", "box")}


class Explanation(msgspec.Struct, frozen=True, eq=False):
    """The most probable classes of an image, best first, and a map of each requested class.

    Attributes:
        path: The file of the image; None for an image from memory.
        model: The model's name.
        method: cam or gradcam.
        image: The image, upright RGB.
        predictions: The most probable classes.
        maps: The map of each requested class.
    """

    path: str | None
    model: str
    method: str
    image: Image.Image
    predictions: tuple[ClassProbability, ...]
    maps: tuple[ClassMap, ...]


def class_map(
    index: int, label: str, probability: float, output: NetworkOutput, size: tuple[int, int], crop: Box
) -> ClassMap:
    """Return the map of one class, from the output of a network for the box `crop` of an image of `size`."""
    grid = np.ascontiguousarray(output.map_of(index), dtype=np.float32)
    logit = float(output.logits[index])
    return ClassMap(index, label, probability, logit, grid, size, crop, peak(grid, crop), box(grid, crop))


def over_image(grid: Array, seen: Box, size: tuple[int, int], drawn: tuple[int, int] | None = None) -> Array:
    """Upsample a map of the crop `seen` bilinearly over the whole image.

    Args:
        grid: The map, float32[h, w].
        seen: The crop, pixels of the image.
        size: Width and height of the image, pixels.
        drawn: Width and height of the drawn image; `size` by default.

    Returns:
        float32[height, width]; NaN outside the crop.
    """
    width, height = drawn or size
    left, right = (round(x * width / size[0]) for x in (seen[0], seen[2]))
    top, bottom = (round(y * height / size[1]) for y in (seen[1], seen[3]))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    whole = np.full((max(height, bottom), max(width, right)), np.nan, np.float32)
    whole[top:bottom, left:right] = _resized(grid, right - left, bottom - top)
    return whole[:height, :width]


def peak(grid: Array, seen: Box) -> tuple[int, int]:
    """Return (x, y) of the maximum in pixels of the image: the centre of its cell, where a bilinear map has its
    peak."""
    row, column = divmod(int(grid.argmax()), grid.shape[1])
    left, top, right, bottom = seen
    x, y = (column + 0.5) / grid.shape[1] * (right - left), (row + 0.5) / grid.shape[0] * (bottom - top)
    return left + int(x), top + int(y)


def box(grid: Array, seen: Box) -> Box | None:
    """Return the largest connected region above BOX_SHARE of the maximum, as a box on the image.

    None if no value is positive.
    """
    from scipy import ndimage  # noqa: PLC0415  slow to import, and only the box needs it

    if grid.max() <= 0:
        return None
    left, top, side = seen[0], seen[1], seen[2] - seen[0]
    fine = max(min(side, _FINEST), grid.shape[0])  # at least the map's size, or a peak may vanish
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


def _resized(grid: Array, width: int, height: int) -> Array:
    image = Image.fromarray(np.ascontiguousarray(grid, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
