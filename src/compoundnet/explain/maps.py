"""A class's map over a picture, and what of it a person reads: its peak, its box, its probability."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.explain.undo import Box, box, over_picture, peak
from compoundnet.runtime import ClassProbability

Array: TypeAlias = NDArray[np.float32]


class Seen(NamedTuple):
    """What a network made of one input: logits float32[classes], and the map float32[h, w] of a class by its index."""

    logits: Array
    map_of: Callable[[int], Array]


# Of pixels float32[3, size, size], as preprocessing gives them.
Method: TypeAlias = Callable[[Array], Seen]


class ClassMap(msgspec.Struct, frozen=True, eq=False):
    """Where a picture speaks for a class.

    probability  0 to 1
    grid         the map as the network gives it, float32[h, w] over its input. Of method cam its mean and the
                 classifier's bias are the logit; values below 0 speak against the class
    size         width and height of the picture, pixels
    seen         the box of it that preprocessing cut out, and the network saw
    peak         (x, y) of the map's largest value, pixels of the picture
    box          of what is above BOX_SHARE of the largest value; None where nothing speaks for the class
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
        """The map over the whole picture, float32[height, width]; NaN where the network has not seen it."""
        return over_picture(self.grid, self.seen, self.size)

    def facts(self) -> dict[str, Any]:
        """What is no array, as plain data."""
        return {name: getattr(self, name) for name in ("index", "label", "probability", "logit", "peak", "box")}


class Explanation(msgspec.Struct, frozen=True, eq=False):
    """A picture's most probable classes, best first, and a map of each class that was asked for.

    path    None where the picture came from memory
    model   the model's name
    method  cam or gradcam
    """

    path: str | None
    model: str
    method: str
    picture: Image.Image
    predictions: tuple[ClassProbability, ...]
    maps: tuple[ClassMap, ...]


def class_map(index: int, label: str, probability: float, seen: Seen, size: tuple[int, int], crop: Box) -> ClassMap:
    """The map of one class of what a network saw in the box `crop` of a picture of `size`."""
    grid = np.ascontiguousarray(seen.map_of(index), dtype=np.float32)
    logit = float(seen.logits[index])
    return ClassMap(index, label, probability, logit, grid, size, crop, peak(grid, crop), box(grid, crop))
