"""Held-out images, chosen by seed and name, in each class or label the same share: the same on every machine.

An image's draw is BLAKE2b of the seed and its name; the lowest draws of each class are held out. The choice does not
depend on the state of a generator, the version of a library or the order of a file system, and adding an image does not
reshuffle the rest.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError
from compoundnet.data.dataset import Labels, Split

# By what images are held out: a part of the identity of data, since what is judged on others cannot be compared.
RULE = "by class"


def hold_out(split: Split, amount: int | float, seed: int = 0, name: str = "minival") -> tuple[Split, Split]:
    """Hold out images from a split, of each class its share, rounded. Both parts keep its order.

    Of a class with few images none may be held out; `hold_out_by_class` holds out one of each.

    Args:
        split: The split to divide.
        amount: How many to hold out, or a fraction below 1; of images with several labels approximately.
        seed: Of the choice.
        name: Of the split of held-out images.

    Returns:
        The remaining images, and the held-out ones.

    Raises:
        CompoundNetError: no images would be held out, or none would remain.
    """
    count = round(amount * len(split)) if 0 < amount < 1 else int(amount)
    if not 0 < count < len(split):
        raise CompoundNetError(
            f"cannot hold {amount:,g} of {len(split):,} {split.name} images out as {name}: give a count from 1 to"
            f" {len(split) - 1:,}, or a fraction from {1 / len(split):.1g} to below 1"
        )
    drawn = draws(split, seed)
    chosen = (_by_label if split.multilabel else _by_class)(split.labels, drawn, count)
    if not len(chosen):
        raise CompoundNetError(
            f"cannot hold {amount:,g} of {len(split):,} {split.name} images out as {name}: each has a label that no"
            " other image has; add images of these labels"
        )
    return _divide(split, chosen, name)


def hold_out_by_class(split: Split, fraction: float, seed: int = 0, name: str = "test") -> tuple[Split, Split]:
    """Hold out the same fraction of each class, at least one image, so that a small class is in both parts.

    Args and returns as `hold_out`. Raises CompoundNetError if a class has fewer than two images. A label of images with
    several labels may have a single image, which is not held out.
    """
    if split.multilabel:
        return hold_out(split, min(max(1, round(fraction * len(split))), len(split) - 1), seed, name)
    drawn = draws(split, seed)
    chosen = []
    for label, count in enumerate(split.counts().tolist()):
        if count < 2:
            raise CompoundNetError(
                f"class {split.classes[label]!r} has {count} image{'s' * (count != 1)}: at least 2 are needed to make"
                f" a {name} split; add images, or remove the class"
            )
        members = np.flatnonzero(split.labels == label)
        held = min(max(1, round(fraction * count)), count - 1)
        chosen.append(members[np.argsort(drawn[members], kind="stable")[:held]])
    return _divide(split, np.concatenate(chosen), name)


def _by_class(labels: Labels, drawn: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """Choose `count` images that have each class in the same share: whole numbers, and one more of the classes with the
    largest remainders, of which it leaves one.

    Args:
        labels: int64[N].
        drawn: uint64[N], from `draws`.
        count: How many to hold out.

    Returns:
        int64[count].
    """
    counts = np.bincount(labels)
    whole, remainder = np.divmod(counts * count, len(labels))
    rank = np.empty(len(labels), np.int64)  # of an image in its class, by draw
    rank[np.lexsort((drawn, labels))] = np.arange(len(labels))
    rank -= (counts.cumsum() - counts)[labels]
    following = np.flatnonzero(rank == whole[labels])
    last = rank[following] + 1 == counts[labels[following]]
    order = np.lexsort((drawn[following], -remainder[labels[following]], last))
    return np.concatenate([np.flatnonzero(rank < whole[labels]), following[order[: count - whole.sum()]]])


def _by_label(labels: Labels, drawn: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """Choose about `count` images that have each label in the same share, at least once if two images have it.

    Iterative stratification (Sechidis et al. 2011): label by label, the rarest among the images that are left first,
    each of its images, by draw, goes to the part that lacks more of that label.

    Args:
        labels: bool[N, labels].
        drawn: uint64[N], from `draws`.
        count: How many to hold out.

    Returns:
        int64[about count].
    """
    total = labels.sum(axis=0, dtype=np.int64)
    lacking = np.empty((2, len(total)))  # of each label: in the part that is held out, and in the rest
    lacking[0] = np.clip(np.rint(count / len(labels) * total), total >= 2, np.maximum(total - 1, 0))
    lacking[1] = total - lacking[0]
    order = np.argsort(drawn, kind="stable")
    left, held = np.ones(len(labels), np.bool_), np.zeros(len(labels), np.bool_)
    remaining = total.copy()
    while remaining.any():
        label = int(np.where(remaining > 0, remaining, len(labels) + 1).argmin())
        for image in order[left[order] & labels[order, label]].tolist():
            part = 0 if lacking[0, label] > lacking[1, label] else 1
            held[image], left[image] = part == 0, False
            lacking[part] -= labels[image]
            remaining -= labels[image]
    without = order[left[order]]  # images without any label
    held[without[: max(0, min(count - int(held.sum()), len(without)))]] = True
    # Labels of images that rarer labels have all taken away.
    for lost in np.flatnonzero((total > 0) & ~labels[~held].any(axis=0)):
        held[order[held[order] & labels[order, lost]][:1]] = False
    return np.flatnonzero(held)


def draws(split: Split, seed: int) -> NDArray[np.uint64]:
    """Return uint64[N]: of each image BLAKE2b of the text "SEED/NAME", 8 bytes read as big-endian."""
    prefix = hashlib.blake2b(f"{seed}/".encode(), digest_size=8)
    digests = bytearray()
    for index in range(len(split)):
        digest = prefix.copy()
        digest.update(split.image_name(index).encode("utf-8", "surrogateescape"))
        digests += digest.digest()
    return np.frombuffer(bytes(digests), ">u8").astype(np.uint64)


def _divide(split: Split, chosen: NDArray[np.int64], name: str) -> tuple[Split, Split]:
    held = np.zeros(len(split), bool)
    held[chosen] = True
    return split.subset(np.flatnonzero(~held)), split.subset(np.flatnonzero(held), name)
