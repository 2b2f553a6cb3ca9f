"""Tables written to files row by row: CSV for people and spreadsheets, Parquet for programs.

Rows are not kept, so a table may have a million of them. A file appears when its last row is written, or not at all.
Names of files are bytes and need not be UTF-8, which both formats are: such bytes are written as `\\xNN`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import TextIO

from compoundnet.base.extras import need
from compoundnet.base.files import whole_file

# Called with one row: a value, or None, for each column.
WriteRow = Callable[[Sequence[object]], object]
# The name of each column with the type of its values: str, PurePath (the name of a file), int, float or bool.
Columns = Sequence[tuple[str, type]]

# A spreadsheet computes a cell that starts with one of these (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
# Rows that Parquet keeps in memory, and writes as a group.
_GROUP = 20_000


@contextmanager
def csv_file(path: str | os.PathLike[str], columns: Columns) -> Iterator[WriteRow]:
    """Write a CSV file in UTF-8, with a heading; the block calls the yielded function with each row.

    A text that a spreadsheet would compute gets a `'` before it, the name of a file a `./`. A value of None is an empty
    cell.

    Args:
        path: The file.
        columns: The columns.

    Raises:
        UnwritableError: The file cannot be written. An old file stays, as it does if the block raises.
    """
    with whole_file(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        # Python before 3.13 quotes a carriage return only if it is part of the end of a line.
        writer = csv.writer(_Lines(file), lineterminator="\r\n")
        writer.writerow(_cell(name, str) for name, _ in columns)
        yield lambda row: writer.writerow(_cell(value, kind) for value, (_, kind) in zip(row, columns, strict=True))


@contextmanager
def parquet_file(
    path: str | os.PathLike[str], columns: Columns, metadata: Mapping[str, str] | None = None
) -> Iterator[WriteRow]:
    """Write a Parquet file as `csv_file` writes a CSV file, with text as it is.

    Args:
        path: The file.
        columns: The columns.
        metadata: Texts to keep in the file, by key; `parquet_metadata` reads them.

    Raises:
        MissingLibraryError: pyarrow is not installed.
        UnwritableError: The file cannot be written.
    """
    need("pyarrow", "writing Parquet files")
    import pyarrow  # type: ignore[import-untyped]  # noqa: PLC0415  optional
    from pyarrow import parquet  # noqa: PLC0415

    types = {str: pyarrow.string(), PurePath: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(),
             bool: pyarrow.bool_()}  # fmt: skip
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns], metadata=dict(metadata or {}))
    rows: list[Sequence[object]] = []
    with whole_file(path) as scratch, parquet.ParquetWriter(scratch, schema) as writer:

        def flush() -> None:
            values = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in columns]
            writer.write_table(pyarrow.Table.from_arrays(list(map(pyarrow.array, values, schema.types)), schema=schema))
            rows.clear()

        def write(row: Sequence[object]) -> None:
            rows.append([utf8(value) if isinstance(value, str) else value for value in row])
            if len(rows) == _GROUP:
                flush()

        yield write
        flush()


def parquet_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the metadata of a Parquet file; empty if it has none, or is no Parquet file."""
    need("pyarrow", "reading Parquet files")
    import pyarrow  # noqa: PLC0415  optional
    from pyarrow import parquet  # noqa: PLC0415

    try:
        found = parquet.read_schema(path).metadata or {}
    except (OSError, pyarrow.ArrowException):
        return {}
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in found.items()}


class _Lines:
    """A text file that receives lines of CSV, one at a time, and ends them with a newline alone."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


def utf8(text: str) -> str:
    """Return text with bytes that are not UTF-8, which Python keeps as surrogates, written as `\\xNN`."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as JSON may hold
        return text.encode("utf-8", "backslashreplace").decode()


def _cell(value: object, kind: type) -> str:
    if value is None:
        return ""
    if kind is bool:
        return str(value).lower()
    if kind in (int, float):
        return str(value)
    text = utf8(str(value))
    if text.startswith(_FORMULA):
        return f"./{text}" if kind is PurePath else f"'{text}"
    return text
