"""ImageNet as ILSVRC 2012 unpacks it: train/ and val/ with a folder a synset, and test images without classes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from compoundnet.base import CompoundNetError
from compoundnet.data.catalogue import DatasetFacts
from compoundnet.data.class_folders import read_class_folders
from compoundnet.data.dataset import UNKNOWN, Split
from compoundnet.data.folders import find_images
from compoundnet.data.sources import Files, Strings
from compoundnet.models.labels import label_set

_SYNSET = re.compile(r"n\d{8}")


def imagenet_splits(facts: DatasetFacts, root: Path) -> dict[str, Split]:
    """Return training and validation images. Classes have the labels of the pretrained models, in the order of
    synsets."""
    splits: dict[str, Split] = {}
    for name in ("train", "val"):
        folder = root / name
        if not folder.is_dir():
            raise CompoundNetError(f"{facts.title} is not in {root}: there is no {name}/ and no shards. {facts.get}")
        splits[name] = read_class_folders(folder, name, splits["train"].classes if splits else None)
    synsets, names = splits["train"].classes, label_set("imagenet-1k")
    # The label set is in the order of the sorted synsets, as the folders are.
    if len(synsets) == len(names) and all(map(_SYNSET.fullmatch, synsets)):
        return {key: Split(key, names, split.labels, split.source) for key, split in splits.items()}
    return splits


def imagenet_test_splits(facts: DatasetFacts, root: Path) -> dict[str, Split]:
    """Return the test images in the order of their names, in which the ImageNet server expects results."""
    folder = root / "test" if (root / "test").is_dir() else root
    if not folder.is_dir():
        raise CompoundNetError(f"{facts.title}: there is no folder {folder}. {facts.get}")
    names = sorted(path.relative_to(folder).as_posix() for path in find_images([folder]))
    labels = np.full(len(names), UNKNOWN, np.int64)
    return {"test": Split("test", label_set("imagenet-1k"), labels, Files(str(folder), Strings.of(names)))}
