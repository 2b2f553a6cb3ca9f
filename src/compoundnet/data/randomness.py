"""Random numbers by position, not by history.

What happens to image `index` in epoch `epoch` depends on the seed and on these two numbers alone: not on which worker
reads it, what was read before, or where training resumed. Philox is a function from (key, counter) to random bits, so
each image has a counter of its own. Only raw bits and `Generator.random` are used, which NumPy keeps the same between
versions, so that the same seed means the same training everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WORD = (1 << 64) - 1
_ORDER = _WORD  # the counter of an epoch's order; no image has this number


def image_random(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one image in one epoch."""
    return np.random.Generator(_philox(seed, epoch, index))


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of `count` images: the order of one 64-bit draw for each."""
    drawn: NDArray[np.uint64] = _philox(seed, epoch, _ORDER).random_raw(count)
    return np.argsort(drawn, kind="stable")


def below(random: np.random.Generator, count: int) -> int:
    """A whole number from 0 to count - 1, each as likely."""
    return int(random.random() * count)


def _philox(seed: int, epoch: int, counter: int) -> np.random.Philox:
    key = np.array([seed & _WORD, epoch & _WORD], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, counter], np.uint64))
