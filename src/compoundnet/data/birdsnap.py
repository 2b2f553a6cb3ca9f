"""Birdsnap: published lists of 49,829 images on the web, many of which no longer exist. Existing files are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compoundnet.base import CompoundNetError
from compoundnet.base.text import read_text
from compoundnet.data.catalogue import DatasetFacts
from compoundnet.data.dataset import Split
from compoundnet.data.sources import Files, Strings

_LISTS = ("species.txt", "images.txt", "test_images.txt")
# The folders used by get_birdsnap.py of the distribution, and by other tools.
_FOLDERS = ("download/images", "images")


def birdsnap_splits(facts: DatasetFacts, root: Path) -> dict[str, Split]:
    """Return the listed images that exist. Raises CompoundNetError if a list is missing or altered."""
    for name in _LISTS:
        if not (root / name).is_file():
            raise CompoundNetError(f"{facts.title} is not in {root}: there is no {name}. {facts.get}")
    folder = next((folder for folder in _FOLDERS if (root / folder).is_dir()), None)
    if folder is None:
        raise CompoundNetError(f"{facts.title} is not in {root}: there is no images/. {facts.get}")
    species = sorted(_rows(root / "species.txt", ("id", "common")), key=lambda row: int(row[0]))
    labels = {number: label for label, (number, _) in enumerate(species)}
    classes = tuple(common for _, common in species)
    test = {path for (path,) in _rows(root / "test_images.txt", ("path",))}
    listed = _rows(root / "images.txt", ("path", "species_id"))
    there = [(path, labels[number]) for path, number in listed if (root / folder / path).is_file()]
    return {
        split: _split(split, classes, root / folder, [row for row in there if (row[0] in test) == (split == "test")])
        for split in ("train", "test")
    }


def _split(name: str, classes: tuple[str, ...], folder: Path, rows: list[tuple[str, int]]) -> Split:
    names = Strings.of(path for path, _ in rows)
    return Split(name, classes, np.array([label for _, label in rows], np.int64), Files(str(folder), names))


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Read columns of a tab-separated list whose first line names them."""
    header, *lines = read_text(path)[0].splitlines() or [""]
    names = header.split("\t")
    missing = [column for column in columns if column not in names]
    if missing:
        raise CompoundNetError(f"{path}: there is no column {missing[0]!r}; found {', '.join(names)}")
    places = [names.index(column) for column in columns]
    return [tuple(line.split("\t")[place] for place in places) for line in lines if line]
