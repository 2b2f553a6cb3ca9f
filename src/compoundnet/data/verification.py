"""Verification of a data set: opens every image and reports unreadable ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec

from compoundnet.base import Progress, ignore
from compoundnet.base.images import UnreadableImageError
from compoundnet.base.machine import check_threads
from compoundnet.data.dataset import Dataset, Split

_CHUNK = 256


class BadImage(msgspec.Struct, frozen=True):
    """An image that cannot be read."""

    split: str
    name: str
    reason: str


class Verification(msgspec.Struct, frozen=True):
    """The number of images of each split, and those that cannot be read.

    Attributes:
        counts: By split.
        bad: The images that cannot be read.
        damaged: The truncated or damaged images that are used as far as they can be decoded, where that is allowed.
    """

    counts: dict[str, int]
    bad: tuple[BadImage, ...]
    damaged: tuple[BadImage, ...] = ()


def verify(dataset: Dataset, *, workers: int | None = None, progress: Progress = ignore) -> Verification:
    """Decode every image on `workers` threads, by default one per core; `progress` is called with the number just
    finished."""
    jobs = [
        (split, range(start, min(start + _CHUNK, len(split))))
        for split in dataset.splits.values()
        for start in range(0, len(split), _CHUNK)
    ]
    bad: list[BadImage] = []
    damaged: list[BadImage] = []
    with ThreadPoolExecutor(check_threads(workers)) as pool:
        for done, unreadable, partial in pool.map(_check, *zip(*jobs, strict=True)):
            bad += unreadable
            damaged += partial
            progress(done)
    counts = {name: len(split) for name, split in dataset.splits.items()}
    return Verification(counts, tuple(bad), tuple(damaged))


def _check(split: Split, indices: range) -> tuple[int, list[BadImage], list[BadImage]]:
    bad: list[BadImage] = []
    damaged: list[BadImage] = []
    for index in indices:
        damage: list[str] = []
        try:
            split.image(index, damaged=damage.append)
        except UnreadableImageError as error:
            bad.append(BadImage(split.name, error.path, error.reason))
        damaged += [BadImage(split.name, split.image_name(index), text) for text in damage]
    return len(indices), bad, damaged
