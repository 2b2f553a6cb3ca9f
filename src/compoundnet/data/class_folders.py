"""Folders of class folders: the images of a class are in a folder named after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.images import image_suffixes
from compoundnet.data.dataset import Dataset, Split
from compoundnet.data.folders import visible
from compoundnet.data.holdout import hold_out_by_class
from compoundnet.data.sources import Files, Strings

# Folder names that denote a split.
_SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


def open_folder(root: Path, name: str, *, test_fraction: float, seed: int) -> Dataset:
    """Open a folder of class folders, or one with class folders in some of train/, val/ and test/.

    If there are only training images, a fraction of each class, chosen by seed, becomes the test split. Without
    training images the data can be used only for evaluation.
    """
    folders = split_folders(root)
    if "train" not in folders:
        if folders:
            only: dict[str, Split] = {}
            for split, folder in folders.items():
                known = next(iter(only.values())).classes if only else None
                only[split] = read_class_folders(folder, split, known)
            return Dataset(name, only)
        return with_test({"train": read_class_folders(root, "train")}, name, test_fraction, seed)
    train = read_class_folders(folders["train"], "train")
    splits, notes = {"train": train}, []
    for split in ("val", "test"):
        if split in folders:
            splits[split] = read_class_folders(folders[split], split, train.classes)
            missing = [train.classes[label] for label in np.flatnonzero(splits[split].counts() == 0)]
            if missing:
                notes.append(f"{folders[split]}: no images of {_some(missing)}")
    made = with_test(splits, name, test_fraction, seed)
    return Dataset(name, made.splits, notes=(*notes, *made.notes))


def with_test(splits: dict[str, Split], name: str, test_fraction: float, seed: int) -> Dataset:
    """Make the data set; if it has neither test nor val, hold out a test split from the training images."""
    if not test_fraction and len(splits) == 1:
        return Dataset(name, splits)
    check_classes(splits["train"], name)
    if len(splits) > 1:
        return Dataset(name, splits)
    rest, test = hold_out_by_class(splits["train"], test_fraction, seed)
    note = (
        f"{name}: there is no test split, so {len(test):,} of {len(test) + len(rest):,} images were held out for it"
        f" ({test_fraction:.0%} of each class, seed {seed})"
    )
    return Dataset(name, {"train": rest, "test": test}, notes=(note,))


def split_folders(root: Path) -> dict[str, Path]:
    """Find the folders of the splits. A folder with such a name that contains images directly is a class (trains,
    say)."""
    found = {}
    for split, names in _SPLIT_FOLDERS.items():
        for name in names:
            folder = root / name
            if folder.is_dir() and _subfolders(folder):
                found[split] = folder
    return found


def read_class_folders(folder: Path, split: str, classes: tuple[str, ...] | None = None) -> Split:
    """Read the images of a folder's class folders, sorted by name.

    Args:
        folder: with one folder a class.
        split: the new split's name.
        classes: The classes that may occur; by default those of the folder.

    Raises:
        CompoundNetError: there are no class folders, an unknown class, or a class without images.
    """
    own = _subfolders(folder)
    if not own:
        raise CompoundNetError(
            f"{folder}: there are no class folders here; expected one folder a class with its images inside"
        )
    given = tuple(own) if classes is None else classes
    unknown = [name for name in own if name not in set(given)]
    if unknown:
        raise CompoundNetError(
            f"{folder}: the class {_some(unknown)} is not among those of the training images: rename the folder, or"
            f" remove it{did_you_mean(unknown[0], given)}"
        )
    labels, names = [], []
    for label, name in enumerate(given):
        images = list(_images(folder / name, name)) if name in own else []
        if name in own and not images and classes is None:
            raise CompoundNetError(f"class {name!r} is empty: no images in {folder / name}; add some, or remove it")
        names += images
        labels += [label] * len(images)
    return Split(split, given, np.array(labels, np.int64), Files(str(folder), Strings.of(names)))


def check_classes(train: Split, name: str, or_else: str = "") -> None:
    """Raise CompoundNetError for fewer than two classes, or a class without training images; `or_else` adds advice."""
    if not train.classes:
        raise CompoundNetError(f"{name}: no training image has a label")
    if len(train.classes) < 2 and not train.multilabel:  # of several labels, one alone is a yes or no
        raise CompoundNetError(f"{name}: there is only the class {train.classes[0]!r}; a classifier needs at least two")
    empty = [train.classes[label] for label in np.flatnonzero(train.counts() == 0)]
    if empty:
        raise CompoundNetError(f"{name}: no training images of {_some(empty)}; add some, or remove the class{or_else}")


def _subfolders(folder: Path) -> list[str]:
    return [entry.name for entry in visible(folder) if entry.is_dir()]


def _images(folder: Path, prefix: str) -> Iterator[str]:
    """Yield the names of all images below, sorted at each level. Links to folders are not followed: they may loop."""
    for entry in visible(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _images(Path(entry.path), f"{prefix}/{entry.name}")
        elif os.path.splitext(entry.name)[1].lower() in image_suffixes():  # noqa: PTH122  # called a million times
            yield f"{prefix}/{entry.name}"


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
