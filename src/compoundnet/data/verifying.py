"""Opens every picture of a data set, and says which cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from compoundnet.data.dataset import Dataset, Split
from compoundnet.data.decoding import read_picture
from compoundnet.data.images import UnreadableImageError

_CHUNK = 256


class BadPicture(msgspec.Struct, frozen=True):
    """A picture that cannot be used, and why."""

    split: str
    name: str
    reason: str


class Verified(msgspec.Struct, frozen=True):
    """How many pictures each split has, and those that cannot be read."""

    counts: dict[str, int]
    bad: tuple[BadPicture, ...]


def verify(
    dataset: Dataset, *, workers: int | None = None, progress: Callable[[int], object] = lambda _: None
) -> Verified:
    """Decode every picture on `workers` threads. `progress` is called with how many more are done."""
    jobs = [
        (split, range(start, min(start + _CHUNK, len(split))))
        for split in dataset.splits.values()
        for start in range(0, len(split), _CHUNK)
    ]
    bad: list[BadPicture] = []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for done, found in pool.map(_check, *zip(*jobs, strict=True)):
            bad += found
            progress(done)
    return Verified({name: len(split) for name, split in dataset.splits.items()}, tuple(bad))


def _check(split: Split, indices: range) -> tuple[int, list[BadPicture]]:
    bad = []
    for index in indices:
        try:
            read_picture(split, index)
        except UnreadableImageError as error:
            bad.append(BadPicture(split.name, error.path, error.reason))
    return len(indices), bad
