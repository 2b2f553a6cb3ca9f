"""Random numbers that depend on the position of an image, not on earlier draws.

The random choices for image `index` in epoch `epoch` depend only on the seed and these two numbers: not on the worker
that reads the image, the images read before, or the step at which training resumed. Philox is a function from (key,
counter) to random bits, so each image has its own counter. Only raw bits and `Generator.random` are used, which NumPy
keeps the same between versions, so that a seed gives the same training everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WORD = (1 << 64) - 1
_ORDER = _WORD  # the counter for the order of an epoch; no image has this number


def image_random(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator of one image in one epoch.

    Args:
        seed: of the training.
        epoch: from 0.
        index: the image's number in its split.
    """
    return np.random.Generator(_philox(seed, epoch, index))


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return int64[count], a permutation: the order of one 64-bit draw for each image."""
    drawn: NDArray[np.uint64] = _philox(seed, epoch, _ORDER).random_raw(count)
    return np.argsort(drawn, kind="stable")


def below(random: np.random.Generator, count: int) -> int:
    """Draw a whole number from 0 to count - 1, uniformly."""
    return int(random.random() * count)


def _philox(seed: int, epoch: int, counter: int) -> np.random.Philox:
    key = np.array([seed & _WORD, epoch & _WORD], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, counter], np.uint64))
