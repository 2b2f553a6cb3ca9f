"""The data sets that libraries provide: scikit-learn's digits, and those that torchvision can download.

Of torchvision's data sets only the lists are read; images stay on disk.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compoundnet.base import CompoundNetError
from compoundnet.data.catalogue import DatasetFacts
from compoundnet.data.dataset import Split
from compoundnet.data.holdout import hold_out_by_class
from compoundnet.data.sources import Arrays, Files, Strings

# There is no official split of digits; this one is the same for everyone.
_TEST_FRACTION, _SEED = 0.2, 0
# Each pixel of digits counts the black pixels of a 4 x 4 block, so 16 is the maximum.
_FULL = 16


class _Known(NamedTuple):
    """The class of torchvision, and its splits with the paper's training and test images."""

    kind: str
    train: tuple[str, ...] = ("train",)
    test: tuple[str, ...] = ("test",)


_IN_MEMORY = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
_IN_FILES = {
    "stanford-cars": _Known("StanfordCars"),
    "flowers": _Known("Flowers102", train=("train", "val")),
    "fgvc-aircraft": _Known("FGVCAircraft", train=("trainval",)),
    "oxford-iiit-pets": _Known("OxfordIIITPet", train=("trainval",)),
    "food101": _Known("Food101"),
}


def digits_splits() -> dict[str, Split]:
    """Return 1,797 grey images of 8 x 8 pixels, white on black, in 10 classes; they come with scikit-learn."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  takes a second, and only digits needs it

    loaded = load_digits()
    pixels = np.rint(loaded.images * (255 / _FULL)).astype(np.uint8)
    whole = Split("train", tuple("0123456789"), loaded.target.astype(np.int64), Arrays("digits", pixels))
    train, test = hold_out_by_class(whole, _TEST_FRACTION, _SEED)
    return {"train": train, "test": test}


def torchvision_splits(facts: DatasetFacts, root: Path, download: bool) -> dict[str, Split]:
    """Return the published splits. Raises CompoundNetError, saying how to get the data, if it is not in `root`."""
    download = download and facts.downloads
    try:
        if facts.name in _IN_MEMORY:
            return {name: _in_memory(facts.name, name, root, download) for name in ("train", "test")}
        known = _IN_FILES[facts.name]
        return {
            name: _in_files(
                name, [_torchvision(known.kind)(str(root), split=part, download=download) for part in parts], root
            )
            for name, parts in (("train", known.train), ("test", known.test))
        }
    except (RuntimeError, OSError) as error:  # for data that is missing, or a failed download
        if download:
            raise CompoundNetError(
                f"{facts.title} cannot be downloaded into {root}: {error}. Where there is no network, fetch it on"
                " another machine and copy that folder"
            ) from error
        reason = str(error) if isinstance(error, OSError) else "it is missing or incomplete"
        raise CompoundNetError(f"{facts.title} cannot be read from {root}: {reason}. {facts.get}") from error


def _in_memory(name: str, split: str, root: Path, download: bool) -> Split:
    made = _torchvision(_IN_MEMORY[name])(str(root), train=split == "train", download=download)
    return Split(split, tuple(made.classes), np.array(made.targets, np.int64), Arrays(f"{name}/{split}", made.data))


def _in_files(split: str, parts: list[Any], root: Path) -> Split:
    paths: list[str | os.PathLike[str]] = []
    labels: list[int] = []
    for made in parts:
        # torchvision has no public list of paths and labels, and iteration would decode every image.
        if hasattr(made, "_samples"):  # StanfordCars
            paths += [path for path, _ in made._samples]
            labels += [label for _, label in made._samples]
        else:
            paths += made._images if hasattr(made, "_images") else made._image_files
            labels += made._labels
    names = Strings.of(Path(path).relative_to(root).as_posix() for path in paths)
    return Split(split, tuple(parts[0].classes), np.array(labels, np.int64), Files(str(root), names))


def _torchvision(kind: str) -> Any:
    from torchvision import datasets  # noqa: PLC0415  takes a second, and most data does not need it

    return getattr(datasets, kind)
