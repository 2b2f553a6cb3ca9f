"""A list of images: a table with a column of paths, one of classes and optionally one of splits, as text or Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import msgspec
import numpy as np

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.text import LATIN_1
from compoundnet.data.classes import with_test
from compoundnet.data.columns import Columns, find_columns, flagged_split, flagged_splits, is_yes, split_values
from compoundnet.data.dataset import Dataset, Labels, Split, Understanding
from compoundnet.data.label_cells import LabelsPerImage, RowLabels, read_cells, read_indicators
from compoundnet.data.list_paths import Located, locate
from compoundnet.data.names import SPLITS
from compoundnet.data.sources import Files, Strings
from compoundnet.data.tables import ListTable, read_table


class ImageList(msgspec.Struct, frozen=True, eq=False):
    """What a list says.

    Attributes:
        splits: By name, those that occur; all images are in train if the list tells of no splits.
        remarks: How it was read, for the user.
        understanding: The same as facts.
    """

    splits: dict[str, Split]
    remarks: tuple[str, ...]
    understanding: Understanding


def open_list(
    path: Path,
    *,
    test_fraction: float,
    seed: int,
    allow_missing: bool = False,
    labels: LabelsPerImage | None = None,
) -> Dataset:
    """Open a list of images, see `read_list`; without a test or val split, hold a test split out.

    A list without training images that exist can be used only for evaluation.
    """
    read = read_list(path, allow_missing=allow_missing, labels=labels)
    return with_test(read.splits, path.stem, test_fraction, seed, read.remarks, read.understanding)


def read_list(path: Path, *, allow_missing: bool = False, labels: LabelsPerImage | None = None) -> ImageList:
    """Read a list of images. Paths are relative to its folder, or absolute; see `locate`.

    Args:
        path: A text file (.csv, .tsv, .txt), .jsonl or .parquet.
        allow_missing: Leave out rows whose file does not exist.
        labels: "one" class an image, or "several" labels; by default decided by the list, see `label_cells`.

    Raises:
        CompoundNetError: the table is malformed, its columns are not understood, or images are missing; the message
            names the columns that were found, or the row.
    """
    table = read_table(path)
    found = find_columns(table.headings, table.columns, str(path))
    images = table.columns[found.image]
    if not images:
        raise CompoundNetError(f"{path}: there are no rows below the header")
    splits = _splits(table, found, path)
    for row, value in enumerate(images, start=1):
        if not value:
            raise CompoundNetError(f"{path}: row {row}: path is empty")
        _check_inside(value, row, path)
    located = locate(images, path.parent)
    kept = _existing(located, images, path, allow_missing)
    remarks = [*_guesses(table), *found.remarks, *located.remarks]
    if len(kept) < len(images):
        remarks.append(
            f"{len(images) - len(kept):,} of {len(images):,} images that the list names do not exist, and were left out"
        )
    read = _row_labels(table, found, located.names, kept, labels, path)
    places, repeated = _without_repeats(located.names, splits, kept)
    remarks += [*read.remarks, *repeated]
    kept, numbers = [kept[place] for place in places], read.labels[places]
    every = np.array([splits[row] for row in kept])
    if "train" in every:
        _check_classes(read.classes, numbers, every, kept, path)
    source = Files(str(located.folder), Strings.of(filter(None, (located.names[row] for row in kept))))
    whole = Split("train", read.classes, numbers, source)
    divided = {name: whole.subset(np.flatnonzero(every == name), name) for name in SPLITS if name in every}
    return ImageList(divided, tuple(remarks), _understanding(table, found, splits, located.folder))


def _row_labels(
    table: ListTable,
    found: Columns,
    images: Sequence[object],
    rows: Sequence[int],
    wanted: LabelsPerImage | None,
    path: Path,
) -> RowLabels:
    """Read the classes or labels of some rows of a list."""
    if found.indicators:
        columns = {
            table.headings[place] if table.headings is not None else f"label {number}": [
                table.columns[place][row] for row in rows
            ]
            for number, place in enumerate(found.indicators, start=1)
        }
        return read_indicators(columns, [images[row] for row in rows], rows, wanted, str(path))
    cells = table.columns[found.label]
    return read_cells([cells[row] for row in rows], [images[row] for row in rows], rows, wanted, str(path))


def _guesses(table: ListTable) -> list[str]:
    """Return remarks on how the text was read where the file does not say it."""
    guesses = []
    if table.comments:
        lines = "line that starts" if table.comments == 1 else f"{table.comments} lines that start"
        guesses.append(f"the first {lines} with # {'was' if table.comments == 1 else 'were'} left out")
    if table.encoding == LATIN_1:
        guesses.append("the list is not in UTF-8, so it was read as Latin-1: if names look wrong, save it in UTF-8")
    return guesses if table.headings is not None else [*guesses, "the list has no headings: its first line is an image"]


def _splits(table: ListTable, found: Columns, path: Path) -> list[str]:
    """Return the split of each row; "train" if no column says it."""
    if table.headings is not None and found.flags:
        headings = [table.headings[place] for place in found.flags]
        splits = flagged_splits(headings, [table.columns[place] for place in found.flags])
        wrong = f"none of {', '.join(headings)} says yes; write 1 in one of them"
        return [_known(split, path, row, wrong) for row, split in enumerate(splits, start=1)]
    if found.split is None:
        return ["train"] * len(table.columns[0])
    values = table.columns[found.split]
    return [
        _known(split, path, row, f"split must be train, val or test, got {value!r}")
        for row, (value, split) in enumerate(zip(values, split_values(values), strict=True), start=1)
    ]


def _known(split: str | None, path: Path, row: int, wrong: str) -> str:
    if split is None:
        raise CompoundNetError(f"{path}: row {row}: {wrong}")
    return split


def _check_inside(value: str, row: int, path: Path) -> None:
    parts = PureWindowsPath(value).parts if "\\" in value else PurePosixPath(value).parts
    if ".." in parts and not value.startswith("/"):
        raise CompoundNetError(
            f"{path}: row {row}: {value} leads out of the list's folder; write images elsewhere as absolute paths"
        )


def _existing(located: Located, images: Sequence[str], path: Path, allow_missing: bool) -> list[int]:
    """Return the rows whose files exist. Raises CompoundNetError, naming the first that does not, unless allowed."""
    kept = [row for row, name in enumerate(located.names) if name is not None]
    if len(kept) == len(images) or (allow_missing and kept):
        return kept
    first = next(row for row, name in enumerate(located.names) if name is None)
    missing = len(images) - len(kept)
    raise CompoundNetError(
        f"{path}: row {first + 1}: there is no file {images[first]} in {located.folder}; {missing:,} of {len(images):,}"
        f" images that the list names are missing. Paths start at the list's folder: correct them"
        + (", or leave these rows out with --allow-missing" if kept else "")
    )


def _without_repeats(
    names: Sequence[str | None], splits: Sequence[str], rows: Sequence[int]
) -> tuple[list[int], list[str]]:
    """Return the places in `rows` without those that repeat an image of the same split, and remarks on them."""
    first: dict[str | None, int] = {}
    leaking: set[tuple[str | None, str]] = set()  # images and their further splits
    kept, repeats = [], 0
    for place, row in enumerate(rows):
        known = first.setdefault(names[row], row)
        if known == row:
            kept.append(place)
        elif splits[known] == splits[row] or (names[row], splits[row]) in leaking:
            repeats += 1
        else:
            leaking.add((names[row], splits[row]))
            kept.append(place)
    leaks = len({name for name, _ in leaking})
    remarks = [f"{repeats:,} rows repeat an image of another row, and were left out"] if repeats else []
    if leaks:
        remarks.append(f"{leaks:,} images are listed in two splits: what is measured on them is not held out")
    return kept, remarks


def _check_classes(
    classes: tuple[str, ...],
    labels: Labels,
    splits: np.ndarray[tuple[int], np.dtype[np.str_]],
    rows: Sequence[int],
    path: Path,
) -> None:
    """Raise CompoundNetError for a class that only other splits than train have."""
    several = labels.ndim == 2
    training = labels[splits == "train"]
    known = set(np.flatnonzero(training.any(axis=0)).tolist() if several else training.tolist())
    for place, row in enumerate(labels):
        for number in np.flatnonzero(row).tolist() if several else [int(row)]:
            if number not in known:
                names = [classes[label] for label in known]
                raise CompoundNetError(
                    f"{path}: row {rows[place] + 1}: the {'label' if several else 'class'} {classes[number]!r} is not"
                    f" among those of the training images{did_you_mean(classes[number], names)}"
                )


def _understanding(table: ListTable, found: Columns, splits: Sequence[str], folder: Path) -> Understanding:
    known = table.headings or [""] * len(table.columns)
    headings = tuple(heading or f"column {place}" for place, heading in enumerate(known, start=1))
    labels = found.indicators or (found.label,)
    said = found.flags if found.split is None else (found.split,)
    named = {"image": headings[found.image], "class": ", ".join(headings[place] for place in labels)}
    if said:
        named["split"] = ", ".join(headings[place] for place in said)
    used = {found.image, *labels, *said}
    return Understanding(
        "list",
        str(folder),
        _names_of_splits(table, found, splits, headings),
        named,
        tuple(heading for place, heading in enumerate(headings) if place not in used),
        table.encoding,
        table.delimiter,
    )


def _names_of_splits(
    table: ListTable, found: Columns, splits: Sequence[str], headings: Sequence[str]
) -> dict[str, str]:
    """Return how the list says each split, where it does not use our word."""
    names: dict[str, str] = {}
    if found.split is not None:
        for value, split in dict(zip(table.columns[found.split], splits, strict=True)).items():
            if value.casefold() != split:
                names[split] = f"{headings[found.split]} {value}"
    for split in dict.fromkeys(splits) if found.flags else ():
        row = splits.index(split)
        of_split = [place for place in found.flags if flagged_split(headings[place]) == split]
        yes = [place for place in of_split if is_yes(table.columns[place][row])]
        names[split] = ", ".join(
            f"{headings[place]} {table.columns[place][row]}".strip() for place in yes or found.flags
        )
    return names
