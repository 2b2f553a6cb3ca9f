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
_MIXED = _WORD - 1  # the counter for the order of an epoch's balanced draws


def image_random(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator of one image in one epoch.

    Args:
        seed: Of the training.
        epoch: From 0.
        index: The image's number in its split, or that of the draw (`balanced_order`).
    """
    return np.random.Generator(_philox(seed, epoch, index))


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return int64[count], a permutation: the order of one 64-bit draw for each image."""
    drawn: NDArray[np.uint64] = _philox(seed, epoch, _ORDER).random_raw(count)
    return np.argsort(drawn, kind="stable")


def balanced_order(labels: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return int64[count], the draw numbers of an epoch in which every class occurs equally often, up to one draw.

    Draw d is image `d % count`. A class of n images that is to be drawn q times has each image drawn q // n or
    q // n + 1 times (class-balanced sampling, Kang et al. 2020, arXiv:1910.09217, but without replacement, so that no
    image of a small class is missed and no image is drawn more often than needed). Which images of a large class are
    left out changes from epoch to epoch.

    Args:
        labels: int64[count], the class of each image.
        seed: Of the training.
        epoch: From 0.
    """
    count = len(labels)
    shuffled = epoch_order(count, seed, epoch)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, sizes = np.unique(labels, return_counts=True)
    # The draws that cannot be divided go to other classes in each epoch.
    extra = (np.arange(len(sizes)) - epoch) % len(sizes) < count % len(sizes)
    drawn = []
    for members, more in zip(np.split(by_class, np.cumsum(sizes)[:-1]), extra, strict=True):
        rounds, places = np.divmod(np.arange(count // len(sizes) + int(more)), len(members))
        drawn.append(members[places] + rounds * count)
    return np.concatenate(drawn)[np.argsort(_philox(seed, epoch, _MIXED).random_raw(count), kind="stable")]


def repeated_order(count: int, repeats: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return int64[count], the draw numbers of an epoch in which each image is drawn `repeats` times in a row.

    An epoch has as many draws as ever, so of `1 / repeats` of the images; the others have their turn in other epochs
    (repeated augmentation, Hoffer et al. 2020, arXiv:1901.09335; as in the code of DeiT, Touvron et al. 2021).
    """
    images = np.repeat(epoch_order(count, seed, epoch)[: -(-count // repeats)], repeats)[:count]
    return images + np.arange(count) % repeats * count


def below(random: np.random.Generator, count: int) -> int:
    """Draw a whole number from 0 to count - 1, uniformly."""
    return int(random.random() * count)


def _philox(seed: int, epoch: int, counter: int) -> np.random.Philox:
    key = np.array([seed & _WORD, epoch & _WORD], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, counter], np.uint64))
