"""Held-out images, chosen by seed and name, so that every machine and every year chooses the same.

An image's draw is BLAKE2b of the seed and its name; the lowest draws are held out. No generator's state or library
version takes part, nor the order in which a file system lists its files; adding an image does not reshuffle the rest.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError
from compoundnet.data.dataset import Split


def hold_out(split: Split, amount: int | float, seed: int = 0, name: str = "minival") -> tuple[Split, Split]:
    """The split without the held-out images, and those: `amount` of them, or that fraction where it is below 1.

    Both keep the split's order. Raises CompoundNetError where nothing would be held out, or nothing left.
    """
    count = round(amount * len(split)) if 0 < amount < 1 else int(amount)
    if not 0 < count < len(split):
        raise CompoundNetError(
            f"cannot hold {amount} of {len(split)} {split.name} images out as {name}: give a count from 1 to"
            f" {len(split) - 1}, or a fraction between 0 and 1"
        )
    return _divide(split, np.argsort(draws(split, seed), kind="stable")[:count], name)


def hold_out_by_class(split: Split, fraction: float, seed: int = 0, name: str = "test") -> tuple[Split, Split]:
    """The same fraction of each class, at least one image, so that a small class is in both parts."""
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


def draws(split: Split, seed: int) -> NDArray[np.uint64]:
    """uint64[N]: BLAKE2b, 8 bytes read big-endian, of the text "SEED/NAME"."""
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
