"""Folders of class folders: the images of a class are in a folder named after it.

Layouts that are understood, in any case and the usual spellings of the splits, each also below an outer folder:
CLASS/..., SPLIT/CLASS/..., SPLIT/SPLIT/CLASS/... and CLASS/SPLIT/...
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.images import image_suffixes, unread_suffixes
from compoundnet.data.classes import nested_remarks, with_test
from compoundnet.data.dataset import Dataset, Split, Understanding
from compoundnet.data.folders import LeftOutFiles, Visited, holds_images, images_below, is_wanted, listed
from compoundnet.data.names import (
    LIST_SUFFIXES,
    MAPS_FILE,
    SPLITS,
    class_name,
    is_made_by_tools,
    is_map_file,
    natural_order,
    some,
    split_name,
    written_by_compoundnet,
)
from compoundnet.data.sources import Files, Strings

_ADVICE = "put each image into a folder named after its class, or give a list (.csv) with the columns path and label"


def open_folder(root: Path, name: str, *, test_fraction: float, seed: int) -> Dataset:
    """Open a folder of class folders, with or without splits.

    If there are only training images, a fraction of each class, chosen by seed, becomes the test split. Without
    training images the data can be used only for evaluation.

    Raises:
        CompoundNetError: there are no class folders, two folders for one split, a class without images, or a class that
            training does not know; the message names the folders.
    """
    written = written_by_compoundnet(root.resolve().name, [entry.name for entry in listed(root)])
    if written is not None:
        raise CompoundNetError(f"{root}: compoundnet wrote this folder ({written}); give a folder of images")
    reader = _Reader(root)
    place = reader.descend("")
    folders = reader.split_folders(place)
    layout = "SPLIT/CLASS"
    if folders:
        places = {split: reader.descend(folder, in_split=True) for split, folder in folders.items()}
        splits = reader.read_splits(places)
        folders = {split: places[split] for split in splits}
    else:
        reader.remarks += [f"the class folders are in {place}/"] if place else []
        whole = reader.read(place, "train")
        splits = _by_class_and_split(whole, root / place)
        layout = "CLASS/SPLIT" if splits else "CLASS"
        splits = splits or {"train": whole}
    for first, again in reader.visited.shared[:5]:
        reader.remarks.append(f"the folder {again} is the same as {first}: its images are in the data twice")
    understanding = Understanding(layout, str(root / place), folders, left_out=reader.left.all())
    return with_test(splits, name, test_fraction, seed, tuple(reader.remarks), understanding)


def read_class_folders(folder: Path, split: str, classes: tuple[str, ...] | None = None) -> Split:
    """Read the images of a folder's class folders as one split.

    Args:
        folder: With one folder a class.
        split: The new split's name.
        classes: The classes that may occur; by default those of the folder, in natural order.

    Raises:
        CompoundNetError: there are no class folders, an unknown class, or a class without images.
    """
    return _Reader(folder).read("", split, classes)


class _Level(NamedTuple):
    """The entries of one folder: the names of folders to read, of lists, and the number of images directly in it."""

    folders: tuple[str, ...]
    lists: tuple[str, ...]
    images: int


class _Reader:
    """Reads one folder of class folders. Names are paths below `root` with `/`, the root's own is empty."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left = LeftOutFiles()
        self.visited = Visited(root)
        self.remarks: list[str] = []
        self._levels: dict[str, _Level] = {}

    def level(self, name: str) -> _Level:
        if name not in self._levels:
            folders, lists, images = [], [], 0
            entries = listed(self.root / name)
            beside_maps = any(entry.name == MAPS_FILE for entry in entries)
            for entry in entries:
                if entry.is_dir():
                    if is_wanted(entry, _join(name, entry.name), self.left):
                        folders.append(entry.name)
                elif beside_maps and is_map_file(entry.name):
                    self.left.add("written beside images", _join(name, entry.name))
                elif not entry.name.startswith(".") and not is_made_by_tools(entry.name, folder=False):
                    suffix = Path(entry.name).suffix.lower()
                    images += suffix in image_suffixes()
                    lists += [entry.name] if suffix in LIST_SUFFIXES else []
            self._levels[name] = _Level(tuple(folders), tuple(lists), images)
        return self._levels[name]

    def descend(self, name: str, *, in_split: bool = False) -> str:
        """Return the innermost folder that holds the class folders.

        A folder is an outer one if it has no images itself, and only one of its folders has images, none of them
        directly: WEB/animals/{cat,dog}, seg_train/seg_train/{cat,dog}.
        """
        while True:
            here = self.level(name)
            inner = self._only_folder_with_images(name) if not here.images else None
            if inner is None or (not in_split and split_name(inner) is not None):
                break
            below = self.level(_join(name, inner))
            if below.images or not below.folders:
                break
            for folder in here.folders:
                if folder != inner:
                    self.left.add("without images", _join(name, folder))
            name = _join(name, inner)
        return name

    def _only_folder_with_images(self, name: str) -> str | None:
        """Return the one folder with images below it; None if there are several, or a folder that is quite empty."""
        only = None
        for folder in self.level(name).folders:
            path = self.root / name / folder
            if holds_images(path):
                if only is not None:
                    return None
                only = folder
            elif not any(files for _, _, files in os.walk(path)):
                return None  # a class whose images are missing
        return only

    def split_folders(self, name: str) -> dict[str, str]:
        """Return the folders of the splits, by split; none if the folders are classes.

        A folder with such a name that contains images directly is a class (trains, say). Words that say nothing of the
        split are accepted if two splits share them: pets_train and pets_test.

        Raises:
            CompoundNetError: two folders are the same split, or it is not clear whether the folders are splits.
        """
        level = self.level(name)
        groups: dict[tuple[str, ...], dict[str, list[str]]] = {}
        flat: dict[str, str] = {}
        for folder in level.folders:
            read = split_name(folder)
            if read is None:
                continue
            if self.level(_join(name, folder)).folders:
                groups.setdefault(read.rest, {}).setdefault(read.split, []).append(folder)
            elif not "".join(read.rest).strip("0123456789") and self.level(_join(name, folder)).images:
                flat[read.split] = folder
        groups = {rest: found for rest, found in groups.items() if not rest or len(found) > 1}
        if not groups:
            if len(flat) > 1 or (flat and len(level.folders) == 1):
                lists = self._lists(name, *(_join(name, flat[split]) for split in SPLITS if split in flat))
                raise CompoundNetError(
                    f"{self.root / name}: {' and '.join(f'{folder}/' for folder in flat.values())}"
                    f" hold{'s' * (len(flat) == 1)} images without class folders: {_ADVICE}{lists}"
                )
            self.remarks += [
                f"the folder {_join(name, folder)}/ is taken for a class, not for a split, because there are no folders"
                " in it"
                for folder in flat.values()
            ]
            return {}
        chosen = max(groups.values(), key=len)
        self._check_splits(name, chosen, flat)
        folders = {split: _join(name, chosen[split][0]) for split in SPLITS if split in chosen}
        self._note_beside(name, folders)
        return folders

    def _check_splits(self, name: str, chosen: Mapping[str, list[str]], flat: Mapping[str, str]) -> None:
        for split, folders in chosen.items():
            if len(folders) > 1:
                word = {"train": "training", "val": "validation", "test": "test"}[split]
                raise CompoundNetError(
                    f"{self.root / name}: {' and '.join(f'{folder}/' for folder in folders)} are both {word} images by"
                    f" their names: merge them, or rename all but one; folders with a dot before the name, such as"
                    f" .{folders[-1]}/, are left out"
                )
        if "train" in chosen:
            return
        taken = {folder for folders in chosen.values() for folder in folders}
        beside = [
            folder
            for folder in self.level(name).folders
            if folder not in taken and holds_images(self.root / name / folder)
        ]
        if beside:
            hint = (
                f"{flat['train']}/ holds images without class folders: {_ADVICE}{self._lists(name)}"
                if "train" in flat
                else f"rename the one with the training images to train/{_like_train(beside)}; if"
                f" {min(taken)}/ is a class, rename it"
            )
            raise CompoundNetError(
                f"{self.root / name}: {' and '.join(f'{folder}/' for folder in sorted(taken))} is a split by its name,"
                f" and {some(beside)} beside it is none: {hint}"
            )

    def _note_beside(self, name: str, folders: Mapping[str, str]) -> None:
        for folder in self.level(name).folders:
            below = _join(name, folder)
            if below in folders.values():
                continue
            if not holds_images(self.root / below):
                self.left.add("without images", below)
            elif split_name(folder) is not None and not self.level(below).folders:
                self.left.add("no class folders", below)
            else:
                self.left.add("beside splits", below)

    def _lists(self, *names: str) -> str:
        """Name the lists that lie in folders, as the end of a message."""
        lists = [_join(name, found) for name in names for found in self.level(name).lists]
        return f"; if {some(lists)} is such a list, give {self.root / lists[0]} as the data" if lists else ""

    def read_splits(self, places: Mapping[str, str]) -> dict[str, Split]:
        """Read each split with images from its folder. The classes are those of the training or the first images."""
        splits: dict[str, Split] = {}
        for split, place in places.items():
            known = next(iter(splits.values())).classes if splits else None
            read = self.read(place, split, known)
            if not len(read):
                self.remarks.append(f"the folder {place}/ has no images, so there is no {split} split")
                continue
            splits[split] = read
            missing = [read.classes[label] for label in np.flatnonzero(read.counts() == 0)]
            if missing:
                self.remarks.append(f"the folder {place}/ has no images of {some(missing)}")
        return splits

    def read(self, place: str, split: str, classes: tuple[str, ...] | None = None) -> Split:
        """Read the class folders of `place`; see `read_class_folders`."""
        level, folder = self.level(place), self.root / place
        if not level.folders:
            raise CompoundNetError(self._no_class_folders(place))
        if level.images:
            self.left.add_many("outside classes", level.images, _join(place, "*"))
        own: dict[str, list[str]] = {}
        inside: dict[str, set[str]] = {}
        for name in level.folders:
            own.setdefault(class_name(name), []).append(name)
        given = natural_order(own) if classes is None else classes
        self.remarks += [f"the folders {some(same)} are one class" for same in own.values() if len(same) > 1]
        skip = len(f"{place}/") if place else 0
        labels: list[int] = []
        names: list[str] = []
        for label, name in enumerate(given):
            images = [
                image[skip:]
                for one in own.get(name, ())
                for image in images_below(self.root, _join(place, one), self.left, self.visited, f"{split}/{name}")
            ]
            if name in own and not images and classes is None:
                raise CompoundNetError(_empty(name, folder / own[name][0]))
            names += images
            labels += [label] * len(images)
            inside[name] = {image.split("/")[1] if image.count("/") > 1 else "" for image in images}
        self.remarks += nested_remarks(inside)
        self._check_known([name for name in own if name not in set(given)], place, own, given)
        return Split(split, given, np.array(labels, np.int64), Files(str(folder), Strings.of(names)))

    def _check_known(
        self, unknown: list[str], place: str, own: Mapping[str, list[str]], given: tuple[str, ...]
    ) -> None:
        """Raise for classes with images that are not among the training images'; leave empty folders out."""
        empty = [name for name in unknown if not any(holds_images(self.root / place / one) for one in own[name])]
        for name in empty:
            self.left.add("without images", _join(place, own[name][0]))
        unknown = [name for name in unknown if name not in empty]
        if unknown:
            raise CompoundNetError(
                f"{self.root / place}: the class {some(unknown)} is not among those of the training images: rename the"
                f" folder, or remove it{did_you_mean(unknown[0], given)}"
            )

    def _no_class_folders(self, place: str) -> str:
        level, where = self.level(place), self.root / place
        left = "".join(f"; left out: {out.text()}" for out in self.left.all())
        if level.images:
            return (
                f"{where}: there are no class folders here, only {level.images:,} image{'s' * (level.images != 1)}:"
                f" {_ADVICE}{self._lists(place)}{left}"
            )
        return (
            f"{where}: there are no class folders here; expected one folder a class with its images inside"
            f"{self._lists(place)}{left}"
        )


def _by_class_and_split(whole: Split, folder: Path) -> dict[str, Split]:
    """Divide images that lie in CLASS/SPLIT/; none if no class has such folders.

    Raises:
        CompoundNetError: only some of the images lie in such folders.
    """
    found = []
    for index in range(len(whole)):
        parts = whole.image_name(index).split("/")
        read = split_name(parts[1]) if len(parts) > 2 else None
        found.append(read.split if read is not None and not read.rest else None)
    splits = {split for split in found if split is not None}
    if len(splits) < 2:
        return {}
    if None in found:
        stray = whole.image_name(found.index(None))
        raise CompoundNetError(
            f"{folder}: images are in {' and '.join(sorted(splits))} folders inside the class folders, but {stray} is"
            " in none of them: move it, or move the splits to the top (train/CLASS, test/CLASS)"
        )
    every = np.array(found)
    return {split: whole.subset(np.flatnonzero(every == split), split) for split in SPLITS if split in splits}


def _empty(name: str, folder: Path) -> str:
    suffixes = Counter(
        Path(file).suffix.lower() or "without a suffix" for _, _, files in os.walk(folder) for file in files
    )
    advice = next((f": {how}" for suffix, how in unread_suffixes().items() if suffix in suffixes), "")
    held = ", ".join(f"{count:,} {suffix}" for suffix, count in suffixes.most_common(5))
    files = f" (its files: {held}{advice})" if held else ""
    return (
        f"class {name!r} is empty: no images in {folder}{files}; add some, or remove it. If it is no class, rename it"
        f" .{folder.name}"
    )


def _like_train(names: list[str]) -> str:
    guess = did_you_mean("train", names)
    return guess if guess.startswith("; did") else ""


def _join(name: str, entry: str) -> str:
    return f"{name}/{entry}" if name else entry
