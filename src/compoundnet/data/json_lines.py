"""Lists of images in JSON Lines, an object a line: Hugging Face's `metadata.jsonl`, and what labelling tools export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, limits
from compoundnet.base.text import read_text

_DEPTH = 8


def read_json_lines(path: Path) -> dict[str, list[str]]:
    """Read a file as columns of text, by the names of the fields, in the order in which they appear.

    A field that a line lacks, or that is null, is empty; a list is written as Python writes it, and the fields of an
    object inside have its name before theirs (`annotation.label`).

    Raises:
        CompoundNetError: A line is no JSON object, or the lines have too many different fields.
    """
    text, _ = read_text(path, limits.LIST_BYTES)
    columns: dict[str, list[str]] = {}
    count = 0
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        for name, value in _fields(_row(line, number, path), (), f"{path}: line {number}"):
            column = columns.setdefault(name, [])
            column += [""] * (count - len(column)) + [value]
        count += 1
        if len(columns) > limits.LIST_FIELDS:
            raise CompoundNetError(
                f"{path}: line {number}: the lines have more than {limits.LIST_FIELDS:,} different fields"
            )
    return {name: column + [""] * (count - len(column)) for name, column in columns.items()}


def _row(line: str, number: int, path: Path) -> dict[str, object]:
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        raise CompoundNetError(f"{path}: line {number} is no JSON: {reason}") from error
    if not isinstance(row, dict):
        raise CompoundNetError(
            f'{path}: line {number} is no JSON object: expected one a line, such as {{"path": "a.jpg", "label": "cat"}}'
        )
    return row


def _fields(row: dict[str, object], outer: tuple[str, ...], where: str) -> Iterator[tuple[str, str]]:
    if len(outer) > _DEPTH:
        raise CompoundNetError(f"{where}: objects are nested more than {_DEPTH} deep")
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _fields(value, (*outer, name), where)
        else:
            yield ".".join((*outer, name)), "" if value is None else str(value).strip()
