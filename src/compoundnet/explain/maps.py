"""The map of a class in coordinates of the whole image, with its peak, box and probability."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.models.preprocess import Box, inside
from compoundnet.runtime import ClassProbability

Array: TypeAlias = NDArray[np.float32]

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
        frame: The box that became the network's input, pixels of the image: `Preprocess.box`. It reaches beyond the
            image where the image was padded.
        peak: (x, y) of the map's maximum in the image, pixels.
        box: The largest region above BOX_SHARE of the maximum; None if no value is positive.
        threshold: Of a model of several labels an image: the image has the label from this probability on; else None.
    """

    index: int
    label: str
    probability: float
    logit: float
    grid: Array
    size: tuple[int, int]
    frame: Box
    peak: tuple[int, int]
    box: Box | None
    threshold: float | None = None

    @property
    def seen(self) -> Box:
        """The part of the image that the network received, pixels."""
        return inside(self.frame, *self.size)

    @property
    def maximum(self) -> float:
        """The largest value in the image: of the cells of the map that are not all padding."""
        rows, columns = _cells(self.grid, self.frame, self.size)
        return float(self.grid[rows, columns].max())

    @property
    def heat(self) -> Array:
        """The map over the whole image, float32[height, width]; NaN outside `seen`."""
        return over_image(self.grid, self.frame, self.size)

    def facts(self) -> dict[str, Any]:
        """Return all fields except arrays, as plain data."""
        facts = {name: getattr(self, name) for name in ("index", "label", "probability", "logit", "peak", "box")}
        return facts if self.threshold is None else facts | {"threshold": self.threshold}


class Explanation(msgspec.Struct, frozen=True, eq=False):
    """The most probable classes of an image, best first, and a map of each requested class.

    Attributes:
        path: The file of the image; None for an image from memory.
        model: The model's name.
        method: cam or gradcam.
        image: The image, upright RGB.
        predictions: The most probable classes.
        maps: The map of each requested class.
        damage: The damage of a truncated file that is used as far as it can be decoded; None for others.
    """

    path: str | None
    model: str
    method: str
    image: Image.Image
    predictions: tuple[ClassProbability, ...]
    maps: tuple[ClassMap, ...]
    damage: str | None = None


def class_map(
    index: int,
    label: str,
    probability: float,
    output: NetworkOutput,
    size: tuple[int, int],
    frame: Box,
    threshold: float | None = None,
) -> ClassMap:
    """Return the map of one class, from the output of a network for the box `frame` of an image of `size`."""
    grid = np.ascontiguousarray(output.map_of(index), dtype=np.float32)
    logit = float(output.logits[index])
    return ClassMap(
        index, label, probability, logit, grid, size, frame, peak(grid, frame, size), box(grid, frame, size), threshold
    )


def over_image(grid: Array, frame: Box, size: tuple[int, int], drawn: tuple[int, int] | None = None) -> Array:
    """Undo the preprocessing: upsample a map of the network's input bilinearly over the image.

    The map is stretched over `frame`, with another scale across than down where the image was squashed, and what lies
    in the padding is left out.

    Args:
        grid: The map, float32[h, w].
        frame: The box that became the network's input, pixels of the image.
        size: Width and height of the image, pixels.
        drawn: Width and height of the drawn image; `size` by default.

    Returns:
        float32[height, width]; NaN where the network saw nothing.
    """
    width, height = drawn or size
    left, right = (round(x * width / size[0]) for x in (frame[0], frame[2]))
    top, bottom = (round(y * height / size[1]) for y in (frame[1], frame[3]))
    frame = left, top, max(right, left + 1), max(bottom, top + 1)
    left, top, right, bottom = inside(frame, width, height)
    whole = np.full((height, width), np.nan, np.float32)
    if left < right and top < bottom:
        whole[top:bottom, left:right] = _resized(grid, right - left, bottom - top, frame, (left, top, right, bottom))
    return whole


def peak(grid: Array, frame: Box, size: tuple[int, int]) -> tuple[int, int]:
    """Return (x, y) of the maximum in pixels of the image: the centre of its cell, where a bilinear map has its
    peak. Cells that are all padding do not count, and a centre in the padding is moved to the edge of the image."""
    rows, columns = _cells(grid, frame, size)
    cells = grid[rows, columns]
    row, column = divmod(int(cells.argmax()), cells.shape[1])
    left, top, right, bottom = frame
    x = left + int((columns.start + column + 0.5) / grid.shape[1] * (right - left))
    y = top + int((rows.start + row + 0.5) / grid.shape[0] * (bottom - top))
    seen = inside(frame, *size)
    return min(max(x, seen[0]), seen[2] - 1), min(max(y, seen[1]), seen[3] - 1)


def box(grid: Array, frame: Box, size: tuple[int, int]) -> Box | None:
    """Return the largest connected region above BOX_SHARE of the maximum, as a box on the image.

    None if no value in the image is positive.
    """
    from scipy import ndimage  # noqa: PLC0415  slow to import, and only the box needs it

    seen = left, top, right, bottom = inside(frame, *size)
    # At least the map's size, or a peak may vanish.
    wide, tall = (
        max(min(side, _FINEST), cells) for side, cells in ((right - left, grid.shape[1]), (bottom - top, grid.shape[0]))
    )
    enlarged = _resized(grid, wide, tall, frame, seen)
    if enlarged.max() <= 0:
        return None
    regions, _ = ndimage.label(enlarged >= BOX_SHARE * enlarged.max())
    across, down = (right - left) / wide, (bottom - top) / tall
    sizes = np.bincount(regions.ravel())[1:]
    rows, columns = ndimage.find_objects(regions)[int(sizes.argmax())]
    return (
        left + math.floor(columns.start * across),
        top + math.floor(rows.start * down),
        left + math.ceil(columns.stop * across),
        top + math.ceil(rows.stop * down),
    )


def _cells(grid: Array, frame: Box, size: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and columns of the map of which some part lies in the image."""
    left, top, right, bottom = _on_grid(grid, frame, inside(frame, *size))
    return slice(math.floor(top), math.ceil(bottom)), slice(math.floor(left), math.ceil(right))


def _on_grid(grid: Array, frame: Box, part: Box) -> tuple[float, float, float, float]:
    """A part of a frame, in cells of its map."""
    # Multiplied first, so that all of the frame is all of the map exactly.
    x, y = (
        [(place - frame[axis]) * grid.shape[1 - axis] / (frame[axis + 2] - frame[axis]) for place in part[axis::2]]
        for axis in (0, 1)
    )
    return x[0], y[0], x[1], y[1]


def _resized(grid: Array, width: int, height: int, frame: Box, part: Box) -> Array:
    """A part of the map of a frame, float32[height, width], bilinear."""
    image = Image.fromarray(np.ascontiguousarray(grid, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=_on_grid(grid, frame, part)))
