"""The images of a fit: which of them are used, and what tells whether earlier results are of the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec
import numpy as np

from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Files, TarMembers
from compoundnet.runtime.feature_cache import image_digest


def identity_of(dataset: Dataset) -> str:
    """Return a digest of the images' names and labels, and of each file's size and date, or of pixels in memory.

    Files are not read: their features are kept by content in any case.
    """
    digest = hashlib.sha256("\0".join(dataset.classes).encode())
    for name, split in sorted(dataset.splits.items()):
        digest.update(f"\0{name}\0".encode())
        for index, state in enumerate(_states(split)):
            line = f"{split.image_name(index)}\t{split.label_text(index)}\t{state}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:24]


def without(dataset: Dataset, names: Collection[str]) -> Dataset:
    """Return a data set without the training images of these names."""
    if not names:
        return dataset
    train = dataset.split("train")
    kept = [index for index in range(len(train)) if train.image_name(index) not in names]
    return msgspec.structs.replace(dataset, splits={**dataset.splits, "train": train.subset(np.array(kept, np.int64))})


def _states(split: Split) -> Iterator[str]:
    source = split.source
    if isinstance(source, TarMembers):
        shards = [_state(Path(source.root, shard)) for shard in source.shards]
        members = range(len(source)) if split.members is None else split.members.tolist()
        yield from (shards[source.shard[member]] for member in members)
        return
    for index in range(len(split)):
        if isinstance(source, Files):
            yield _state(Path(source.root, split.image_name(index)))
        else:
            yield image_digest(split.read(index)).hex()


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError as error:  # whoever reads it says so
        return type(error).__name__
    return f"{found.st_size} {found.st_mtime_ns}"
