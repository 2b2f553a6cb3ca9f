"""Copies of images in a data set: of equal bytes, or that show nearly the same."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.data.dataset import UNKNOWN, Dataset
from compoundnet.data.image_facts import ImageFacts, digest
from compoundnet.data.sources import Files

# Near copies differ in at most 6 of the 64 bits of their hash, and their thumbnails correlate. Of 12,000 images of
# CIFAR-10 all pairs within these bounds showed the same photo.
_MOST_BITS, _LEAST_CORRELATION = 6, 0.9
# Of 7 bands of the bits, two hashes that differ in at most 6 bits have one in common.
_BANDS = _MOST_BITS + 1
# What `copies_across_splits` looks at most, images and bytes: it delays the start of training.
_CHEAP_IMAGES, _CHEAP_BYTES = 50_000, 1 << 29


class Copies(msgspec.Struct, frozen=True):
    """Images that are copies of each other.

    Attributes:
        images: (split, number in it) of each image.
        near: Whether they only look alike; otherwise their bytes are equal.
    """

    images: tuple[tuple[str, int], ...]
    near: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the copies."""
        return tuple(dict.fromkeys(split for split, _ in self.images))

    def disagrees(self, dataset: Dataset) -> bool:
        """Whether the copies are of several classes, or have several sets of labels; of unpublished ones nothing is
        known."""
        labels = [dataset.splits[split].labels[index] for split, index in self.images]
        known = {label.tobytes() for label in labels if label.ndim or label != UNKNOWN}
        return len(known) > 1


def exact_copies(facts: Mapping[str, ImageFacts]) -> list[Copies]:
    """Return the groups of images with equal bytes, in the order of the data. Images that cannot be read are none."""
    groups: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for split, of in facts.items():
        for index in np.flatnonzero(of.width > 0).tolist():
            groups[of.digest[index].tobytes()].append((split, index))
    return [Copies(tuple(images)) for images in groups.values() if len(images) > 1]


def near_copies(facts: Mapping[str, ImageFacts], exact: Iterable[Copies]) -> list[Copies]:
    """Return the groups of images that show nearly the same, but do not all have equal bytes.

    Args:
        facts: With hashes and thumbnails.
        exact: The exact copies, of which one stands for all.
    """
    places = [(split, index) for split, of in facts.items() for index in range(len(of.width))]
    hashes = np.concatenate([of.hash for of in facts.values() if of.hash is not None])
    thumbs = np.concatenate([of.thumb for of in facts.values() if of.thumb is not None])
    number = {place: row for row, place in enumerate(places)}
    parent = np.arange(len(places))
    alike: dict[int, list[int]] = {}  # by the row that stands for all
    for group in exact:
        same = [number[place] for place in group.images]
        alike[same[0]] = same
    represented = {row for rows in alike.values() for row in rows[1:]}
    usable = np.array([row for row in np.flatnonzero(thumbs.any(axis=1)).tolist() if row not in represented], np.int64)
    for first, second in _close_pairs(hashes, thumbs, usable):
        a, b = _root(parent, first), _root(parent, second)
        parent[max(a, b)] = min(a, b)
    members: dict[int, list[int]] = defaultdict(list)
    for row in usable.tolist():
        members[_root(parent, row)].append(row)
    groups = []
    for rows in members.values():
        if len(rows) > 1:
            every = sorted(row for stand_in in rows for row in alike.get(stand_in, [stand_in]))
            groups.append(Copies(tuple(places[row] for row in every), near=True))
    return groups


def _close_pairs(
    hashes: NDArray[np.uint64], thumbs: NDArray[np.float32], rows: NDArray[np.int64]
) -> Iterable[tuple[int, int]]:
    """Yield the pairs of rows whose hashes are close and whose thumbnails correlate; some twice."""
    edges = np.linspace(0, 64, _BANDS + 1, dtype=np.uint64)
    for low, high in pairwise(edges):
        band = (hashes[rows] >> low) & ((np.uint64(1) << (high - low)) - np.uint64(1))
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order][:1] + np.uint64(1)))
        for bucket in np.split(rows[order], starts[1:]):
            for place, row in enumerate(bucket[:-1]):
                others = bucket[place + 1 :]
                close = others[_bits(hashes[others] ^ hashes[row]) <= _MOST_BITS]
                for other in close[thumbs[close] @ thumbs[row] >= _LEAST_CORRELATION].tolist():
                    yield int(row), other


_BITS = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


def _bits(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return uint8[N], the number of bits that are set."""
    counted: NDArray[np.uint8] = _BITS[values.view(np.uint16).reshape(-1, 4)].sum(axis=1, dtype=np.uint8)
    return counted


def _root(parent: NDArray[np.int64], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = int(parent[row])
    return row


def copies_across_splits(dataset: Dataset) -> list[Copies] | None:
    """Return the exact copies that are in several splits or classes, if that is cheap to find out.

    Only files of equal size are read.

    Returns:
        The groups; None if there are more than 50,000 images, more than half a gigabyte would have to be read, or the
        images are not files.
    """
    if sum(map(len, dataset.splits.values())) > _CHEAP_IMAGES:
        return None
    by_size: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for name, split in dataset.splits.items():
        if not isinstance(split.source, Files):
            return None
        root = split.source.root
        for index in range(len(split)):
            try:
                size = os.stat(os.path.join(root, split.image_name(index))).st_size  # noqa: PTH116, PTH118  a million times
            except OSError:
                continue  # reading it reports the error
            by_size[size].append((name, index))
    alike = {size: places for size, places in by_size.items() if len(places) > 1 and size}
    if sum(size * len(places) for size, places in alike.items()) > _CHEAP_BYTES:
        return None
    groups: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for places in alike.values():
        for name, index in places:
            try:
                content = dataset.splits[name].read(index)
            except OSError:
                continue  # as above
            groups[digest(content)].append((name, index))
    found = [Copies(tuple(images)) for images in groups.values() if len(images) > 1]
    return [group for group in found if len(group.splits) > 1 or group.disagrees(dataset)]


def copies_remark(dataset: Dataset) -> str | None:
    """Return one line on copies in several splits or classes, where it is cheap to find them; None without any."""
    groups = copies_across_splits(dataset)
    if not groups:
        return None
    count = sum(len(group.images) for group in groups)
    first = " = ".join(f"{split}/{dataset.splits[split].image_name(index)}" for split, index in groups[0].images[:3])
    return (
        f"{count:,} images are copies of each other in two splits or classes, such as {first}: results on held-out"
        " images are too good, or classes cannot be told apart; `compoundnet data check` lists them"
    )
