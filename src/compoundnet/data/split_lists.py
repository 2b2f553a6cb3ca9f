"""A list in the folder of each split, beside its images: Roboflow's `train/_classes.csv`, Hugging Face's
`train/metadata.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.images import image_suffixes
from compoundnet.data.classes import with_test
from compoundnet.data.dataset import Dataset, Labels, Split
from compoundnet.data.folders import holds_images, listed
from compoundnet.data.image_list import ImageList, read_list
from compoundnet.data.label_cells import LabelsPerImage
from compoundnet.data.names import LIST_SUFFIXES, SPLITS, is_made_by_tools, some, split_name


def find_split_lists(root: Path) -> dict[str, Path] | None:
    """Return the list of each split, in `root` or below outer folders.

    None unless there is a folder of training images with one list and no class folders, and one folder of each split.
    """
    folders: dict[str, Path] = {}
    for entry in listed(_descend(root)):
        read = split_name(entry.name) if entry.is_dir() else None
        if read is None or "".join(read.rest).strip("0123456789"):
            continue
        if read.split in folders:
            return None
        folders[read.split] = Path(entry)
    lists = {split: _only_list(folders[split]) for split in SPLITS if split in folders}
    return {split: found for split, found in lists.items() if found is not None} if lists.get("train") else None


def open_split_lists(
    root: Path,
    lists: Mapping[str, Path],
    *,
    test_fraction: float,
    seed: int,
    allow_missing: bool = False,
    labels: LabelsPerImage | None = None,
) -> Dataset:
    """Open the lists of a folder's splits as one data set, with the classes of the training images.

    Args:
        root: The folder.
        lists: What `find_split_lists` returned.
        test_fraction: As in `open_dataset`.
        seed: As in `open_dataset`.
        allow_missing: As in `open_dataset`.
        labels: As in `open_dataset`; by default the training images' list decides for all.

    Raises:
        CompoundNetError: as `read_list`; a list has images of other splits; or it has a class that the training images
            do not have.
    """
    train = _read(lists["train"], "train", allow_missing, labels)
    classes, several = train.splits["train"].classes, train.splits["train"].multilabel
    reads = {"train": train} | {
        split: _read(path, split, allow_missing, "several" if several else "one")
        for split, path in lists.items()
        if split != "train"
    }
    splits = {split: _with_classes(read.splits[split], classes, lists[split]) for split, read in reads.items()}
    names = {split: path.relative_to(root).as_posix() for split, path in lists.items()}
    remarks = _joined({names[split]: read.remarks for split, read in reads.items()})
    for folder in _with_images(lists["train"].parent.parent):
        if folder not in {path.parent for path in lists.values()}:
            remarks.append(f"the folder {folder.relative_to(root)}/ has no list, so its images were left out")
    understanding = msgspec.structs.replace(
        train.understanding, layout="SPLIT/list", folder=str(root), splits=names if len(names) > 1 else {}
    )
    return with_test(splits, root.name, test_fraction, seed, tuple(remarks), understanding)


def _descend(folder: Path) -> Path:
    """Return the innermost folder that is not the only one with images in another; links may lead in a circle."""
    seen = set[Path]()
    while (place := folder.resolve()) not in seen:
        seen.add(place)
        inside = list(islice(_with_images(folder), 2))
        if len(inside) != 1 or split_name(inside[0].name) is not None:
            break
        folder = inside[0]
    return folder


def _with_images(folder: Path) -> Iterator[Path]:
    """Yield the folders in a folder that have images in them or below; hidden ones and those of tools are left out."""
    for entry in listed(folder):
        hidden = entry.name.startswith(".") or is_made_by_tools(entry.name, folder=True)
        if entry.is_dir() and not hidden and holds_images(entry.path):
            yield Path(entry)


def _only_list(folder: Path) -> Path | None:
    """Return the one list in a folder of images; None if there is none, or several, or there are class folders."""
    files = [Path(entry) for entry in listed(folder) if entry.is_file() and not entry.name.startswith(".")]
    images = any(file.suffix.lower() in image_suffixes() for file in files)
    lists = [file for file in files if file.suffix.lower() in LIST_SUFFIXES]
    if len(lists) != 1:
        return None
    inside = len(list(islice(_with_images(folder), 2)))
    return lists[0] if inside == (0 if images else 1) else None


def _read(path: Path, split: str, allow_missing: bool, labels: LabelsPerImage | None) -> ImageList:
    """Read the list of one split, whose name a column may repeat."""
    read = read_list(path, allow_missing=allow_missing, labels=labels)
    if "split" not in read.understanding.columns:
        whole = msgspec.structs.replace(read.splits["train"], name=split)
        return msgspec.structs.replace(read, splits={split: whole})
    if list(read.splits) != [split]:
        raise CompoundNetError(
            f"{path}: has images of other splits than {path.parent.name}/, its folder ({', '.join(read.splits)}): give"
            " this list as the data if it holds all images, or remove that column"
        )
    return read


def _joined(remarks: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the remarks on each list in one sequence: those on every list once, the others with the list's name."""
    every = dict.fromkeys(remark for own in remarks.values() for remark in own)
    joined = []
    for remark in every:
        named = [name for name, own in remarks.items() if remark in own]
        joined.append(remark if len(named) == len(remarks) else f"in {' and '.join(named)}: {remark}")
    return joined


def _with_classes(split: Split, classes: tuple[str, ...], path: Path) -> Split:
    """Return a split whose labels are numbers of the training images' classes."""
    if split.classes == classes:
        return split
    place = {name: number for number, name in enumerate(classes)}
    unknown = [name for name, count in zip(split.classes, split.counts(), strict=True) if count and name not in place]
    if unknown:
        raise CompoundNetError(
            f"{path}: the {'label' if split.multilabel else 'class'} {some(unknown)} is not among those of the training"
            f" images{did_you_mean(unknown[0], classes)}"
        )
    labels: Labels
    if split.multilabel:
        labels = np.zeros((len(split), len(classes)), np.bool_)
        for number, name in enumerate(split.classes):
            if name in place:
                labels[:, place[name]] = split.labels[:, number]
    else:
        labels = np.array([place.get(name, -1) for name in split.classes], np.int64)[split.labels]
    return msgspec.structs.replace(split, classes=classes, labels=labels)
