"""What a person names as data, as a Dataset."""

from __future__ import annotations

import os
from pathlib import Path

from compoundnet.arch import canonical
from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.cache import cache_folder
from compoundnet.data.birdsnap import birdsnap_splits
from compoundnet.data.catalogue import DatasetFacts, check_sizes, known_datasets
from compoundnet.data.class_folders import open_folder
from compoundnet.data.dataset import Dataset, Split
from compoundnet.data.imagenet import imagenet_splits, imagenet_test_splits
from compoundnet.data.library_sets import digits_splits, torchvision_splits
from compoundnet.data.manifest import SUFFIXES, open_manifest
from compoundnet.data.shards import is_shards, open_shards


def open_dataset(
    data: str | os.PathLike[str],
    *,
    download: bool = False,
    allow_missing: bool = False,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """The data set that `data` names. No picture is opened, so this is as fast as listing the files.

    data           a name of the catalogue (`digits`, `cifar10`), with `:FOLDER` where it lies (`food101:/data`; else
                   the cache folder); a folder of class folders, with train/, val/ or test/ or without; a folder
                   that `write_shards` wrote; or a manifest .csv or .parquet of path, label and perhaps split
    download       fetch it where torchvision can and it is not there
    allow_missing  accept counts that differ from the published ones; `Dataset.notes` then says so
    test_fraction  of each class, held out by `seed` where a folder or manifest has no test split; 0 makes none

    Raises CompoundNetError that says what was expected, and how to get data that needs a licence or a network.
    """
    text = os.fspath(data)
    name, colon, folder = text.partition(":")
    facts = known_datasets().get(canonical(name))
    path = Path(text).expanduser()
    if facts is not None and (colon or not path.exists()):
        root = Path(folder).expanduser().absolute() if folder else cache_folder() / "data"
        return _known(facts, root, download, allow_missing)
    if not path.exists():
        raise CompoundNetError(
            f"there is no file or folder {text}, nor a data set of that name{did_you_mean(name, known_datasets())}"
        )
    path = path.absolute()
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise CompoundNetError(
                f"{text}: expected a folder of class folders, or a manifest that ends in {' or '.join(SUFFIXES)}"
            )
        return open_manifest(path, test_fraction=test_fraction, seed=seed)
    if is_shards(path):
        return open_shards(path)
    return open_folder(path, path.name, test_fraction=test_fraction, seed=seed)


def _known(facts: DatasetFacts, root: Path, download: bool, allow_missing: bool) -> Dataset:
    splits = _splits(facts, root, download)
    notes = check_sizes(facts, splits, str(root), allow_missing)
    return Dataset(facts.name, splits, facts.metric, notes)


def _splits(facts: DatasetFacts, root: Path, download: bool) -> dict[str, Split]:
    if facts.name == "digits":
        return digits_splits()
    if is_shards(root):
        return open_shards(root).splits
    match facts.name:
        case "birdsnap":
            return birdsnap_splits(facts, root)
        case "imagenet":
            return imagenet_splits(facts, root)
        case "imagenet-test":
            return imagenet_test_splits(facts, root)
    return torchvision_splits(facts, root, download)
