"""Lookup of a data set by what the user names: a name of the catalogue, a folder, a list or shards."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from compoundnet.arch import canonical
from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.images import image_suffixes
from compoundnet.base.machine import cache_folder
from compoundnet.data.birdsnap import birdsnap_splits
from compoundnet.data.catalogue import DatasetFacts, check_sizes, known_datasets
from compoundnet.data.class_folders import open_folder
from compoundnet.data.classes import UndividedError
from compoundnet.data.dataset import Dataset, Split
from compoundnet.data.image_list import open_list
from compoundnet.data.imagenet import imagenet_splits, imagenet_test_splits
from compoundnet.data.label_cells import LabelsPerImage
from compoundnet.data.library_sets import digits_splits, torchvision_splits
from compoundnet.data.names import LIST_SUFFIXES
from compoundnet.data.shards import is_shards, open_shards
from compoundnet.data.split_lists import find_split_lists, open_split_lists


def open_dataset(
    data: str | os.PathLike[str],
    *,
    download: bool = False,
    allow_missing: bool = False,
    test_fraction: float = 0.2,
    seed: int = 0,
    labels: LabelsPerImage | None = None,
) -> Dataset:
    """Open the data set that `data` names. No image is opened, so it is as fast as listing the files.

    Args:
        data: A name of the catalogue (`digits`, `cifar10`), with `:FOLDER` if it is not in the cache folder
            (`food101:/data`); a folder of class folders, with or without train/, val/ or test/; a folder that
            `write_shards` wrote; a list of images (.csv, .tsv, .txt, .jsonl or .parquet) with the columns path,
            label and perhaps split; or a folder whose train/ (and val/, test/) has images and such a list.
        download: Fetch it if it is missing and torchvision can.
        allow_missing: Accept counts that differ from the published ones, and a list of which some files do not exist;
            `Dataset.notes` then says so.
        test_fraction: Fraction of each class, held out by `seed` if a folder or list has no test split; 0 makes
            none.
        seed: Seed of that test split.
        labels: "one" class an image, or "several" labels, or none. By default a list decides by its cells, and
            `Dataset.notes` says how; other data have one class an image.

    Raises:
        CompoundNetError: the data is missing or not as expected; the message says how to get data that needs a licence
            or a network.
    """
    text = os.fspath(data)
    name, colon, folder = text.partition(":")
    facts = known_datasets().get(canonical(name))
    path = Path(text).expanduser()
    if facts is not None and (colon or not path.exists()):
        root = Path(folder).expanduser().absolute() if folder else cache_folder() / "data"
        return _with_labels(_known(facts, root, download, allow_missing), labels)
    if not path.exists():
        raise CompoundNetError(
            f"there is no file or folder {text}, nor a data set of that name{did_you_mean(name, known_datasets())}"
        )
    path = path.absolute()
    if path.is_file():
        if path.suffix.lower() not in LIST_SUFFIXES:
            raise CompoundNetError(
                f"{text}: expected a folder of class folders, or a list of images that ends in"
                f" {', '.join(LIST_SUFFIXES)}{_instead(path.suffix.lower())}"
            )
        return open_list(path, test_fraction=test_fraction, seed=seed, allow_missing=allow_missing, labels=labels)
    if not path.is_dir():
        raise CompoundNetError(f"{text}: is neither a folder nor a regular file")
    if is_shards(path):
        return _with_labels(open_shards(path), labels)
    if lists := find_split_lists(path):
        return open_split_lists(
            path, lists, test_fraction=test_fraction, seed=seed, allow_missing=allow_missing, labels=labels
        )
    return _with_labels(open_folder(path, path.name, test_fraction=test_fraction, seed=seed), labels)


def _with_labels(dataset: Dataset, labels: LabelsPerImage | None) -> Dataset:
    """Return the data set with as many labels an image as the user says."""
    if labels == "one" and dataset.multilabel:
        raise CompoundNetError(f"{dataset.name}: its images have several labels each, not one class")
    if labels != "several" or dataset.multilabel:
        return dataset
    splits = {name: split.with_several_labels() for name, split in dataset.splits.items()}
    return msgspec.structs.replace(dataset, splits=splits)


def open_for_evaluation(
    data: str | os.PathLike[str],
    split: str | None = None,
    *,
    download: bool = False,
    allow_missing: bool = False,
    labels: LabelsPerImage | None = None,
) -> Dataset:
    """Open a data set with only the split to evaluate.

    Args:
        data: As `open_dataset` takes it.
        split: Its name; test by default, or val where there is no test split. "all": every image of a folder or
            list that has no splits.
        download: As in `open_dataset`.
        allow_missing: As in `open_dataset`.
        labels: As in `open_dataset`.

    Raises:
        CompoundNetError: as `open_dataset`; there is no such split; or "all" of data that is divided.
    """
    if split == "all":
        whole = open_dataset(data, download=download, allow_missing=allow_missing, test_fraction=0, labels=labels)
        if len(whole.splits) > 1:
            raise CompoundNetError(
                f"{whole.name} is divided into {', '.join(whole.splits)}: give one of them as --split"
            )
        chosen = msgspec.structs.replace(whole.split(whole.evaluation), name="all")
    else:
        try:
            whole = open_dataset(data, download=download, allow_missing=allow_missing, labels=labels)
        except UndividedError as error:
            raise CompoundNetError(f"{error}. `--split all` evaluates every image as it is") from error
        chosen = whole.split(split or whole.evaluation)
    return msgspec.structs.replace(whole, splits={chosen.name: chosen})


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


def _instead(suffix: str) -> str:
    """Return what to do with another file, as the end of a message."""
    if suffix in {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}:
        return ". Unpack this archive, and give its folder"
    if suffix in {".xlsx", ".xls", ".ods", ".numbers"}:
        return ". Save this sheet as CSV"
    return ". `compoundnet predict` takes single images" if suffix in image_suffixes() else ""
