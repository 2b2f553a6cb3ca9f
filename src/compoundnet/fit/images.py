"""The images of a fit: which of them are used, and what tells whether earlier results are of the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec
import numpy as np

from compoundnet.base.images import UnreadableImageError
from compoundnet.data import Dataset, Split
from compoundnet.data.holdout import RULE
from compoundnet.data.sources import Files, TarMembers
from compoundnet.runtime.feature_cache import image_digest


def identity_of(dataset: Dataset) -> str:
    """Return a digest of the images' names and labels, of each file's size and date, or of pixels in memory, and of the
    rule by which images are held out.

    Files are not read: their features are kept by content in any case.
    """
    digest = hashlib.sha256("\0".join((RULE, *dataset.classes)).encode())
    for name, split in sorted(dataset.splits.items()):
        digest.update(f"\0{name}\0".encode())
        for index, state in enumerate(_states(split)):
            line = f"{split.image_name(index)}\t{split.label_text(index)}\t{state}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:24]


def without(dataset: Dataset, names: Collection[str], part: str = "train") -> Dataset:
    """Return a data set without the images of these names in a split."""
    if not names:
        return dataset
    split = dataset.split(part)
    kept = [index for index in range(len(split)) if split.image_name(index) not in names]
    return msgspec.structs.replace(dataset, splits={**dataset.splits, part: split.subset(np.array(kept, np.int64))})


def unreadable(split: Split) -> tuple[str, ...]:
    """Return the names of the images that cannot be read; each is decoded."""
    found = []
    for index in range(len(split)):
        try:
            split.image(index)
        except UnreadableImageError:
            found.append(split.image_name(index))
    return tuple(found)


def left_out(names: Collection[str], kind: str) -> str:
    """Return a line that names images of a kind, such as "training", that cannot be read."""
    what = f"{kind} image cannot be read and is" if len(names) == 1 else f"{kind} images cannot be read and are"
    return f"{len(names)} {what} left out: {', '.join(names)}"


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
