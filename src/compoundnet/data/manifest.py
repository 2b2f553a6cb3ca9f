"""A manifest: a table with the columns path, label and optionally split, as CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from compoundnet.base import CompoundNetError, did_you_mean, need
from compoundnet.data.class_folders import with_test
from compoundnet.data.dataset import Dataset, Split
from compoundnet.data.sources import Files, Strings

SUFFIXES = (".csv", ".parquet")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def open_manifest(path: Path, *, test_fraction: float, seed: int) -> Dataset:
    """Open a manifest. Paths are relative to its folder, or absolute.

    Classes are the labels, sorted: as numbers if all are whole numbers, else as text.

    Args:
        path: the .csv or .parquet file.
        test_fraction: Fraction of each class for a test split, if there is no split column.
        seed: Seed of that test split.

    Raises:
        CompoundNetError: the table is malformed, or its first image is missing; the message names the row.
    """
    columns = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    paths, labels = _column(columns, "path", path), _column(columns, "label", path)
    names = ["train"] * len(paths)
    if "split" in columns:
        names = [_split(value, row, path) for row, value in enumerate(_column(columns, "split", path), start=1)]
    if not paths:
        raise CompoundNetError(f"{path}: there are no rows below the header")
    for row, value in enumerate(paths, start=1):
        _check_inside(value, row, path)
    if not Path(path.parent, paths[0]).is_file():
        raise CompoundNetError(
            f"{path}: row 1: there is no file {Path(path.parent, paths[0])}; paths start at the manifest's folder"
        )
    if "train" not in names:
        raise CompoundNetError(f"{path}: no row has the split 'train'")
    training = {label for label, name in zip(labels, names, strict=True) if name == "train"}
    for row, label in enumerate(labels, start=1):
        if label not in training:
            raise CompoundNetError(
                f"{path}: row {row}: the class {label!r} is not among those of the training images"
                f"{did_you_mean(label, training)}"
            )
    classes = _sorted(training)
    index = {name: label for label, name in enumerate(classes)}
    numbers = np.array([index[label] for label in labels], np.int64)
    source = Files(str(path.parent), Strings.of(paths))
    every = np.array(names)
    whole = Split("train", classes, numbers, source)
    splits = {
        name: whole.subset(np.flatnonzero(every == name), name) for name in ("train", "val", "test") if name in every
    }
    return with_test(splits, path.stem, test_fraction, seed)


def _read_csv(path: Path) -> dict[str, list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise CompoundNetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CompoundNetError(f"{path}: is not a CSV file in UTF-8: {error}") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    body = [row for row in rows[1:] if row]
    for number, row in enumerate(body, start=1):
        if len(row) != len(header):
            raise CompoundNetError(f"{path}: row {number} has {len(row)} fields, and the header {len(header)}")
    return {name: [row[column].strip() for row in body] for column, name in enumerate(header)}


def _read_parquet(path: Path) -> dict[str, list[str]]:
    need("pyarrow", f"{path}: reading Parquet, unlike CSV,")
    from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]  # noqa: PLC0415  an extra; has no types

    try:
        table = parquet.read_table(path).to_pydict()
    except (OSError, ArrowException) as error:
        raise CompoundNetError(f"{path}: cannot be read as Parquet: {error}") from error
    return {name.lower(): ["" if value is None else str(value) for value in values] for name, values in table.items()}


def _column(columns: dict[str, Any], name: str, path: Path) -> list[str]:
    if name not in columns:
        raise CompoundNetError(
            f"{path}: there is no column {name!r}; expected path, label and, where there are splits, split;"
            f" found {', '.join(columns) or 'no header'}"
        )
    values: list[str] = columns[name]
    for row, value in enumerate(values, start=1):
        if not value:
            raise CompoundNetError(f"{path}: row {row}: {name} is empty")
    return values


def _split(value: str, row: int, path: Path) -> str:
    if value.lower() not in _SPLITS:
        raise CompoundNetError(f"{path}: row {row}: split must be train, val or test, got {value!r}")
    return _SPLITS[value.lower()]


def _check_inside(value: str, row: int, path: Path) -> None:
    given = PurePosixPath(value.replace("\\", "/"))
    if not given.is_absolute() and ".." in given.parts:
        raise CompoundNetError(
            f"{path}: row {row}: {value} leads out of the manifest's folder; write images elsewhere as absolute paths"
        )


def _sorted(labels: Iterable[str]) -> tuple[str, ...]:
    given = list(labels)
    if all(label.isascii() and label.isdigit() for label in given):
        return tuple(sorted(given, key=lambda label: (int(label), label)))
    return tuple(sorted(given))
