"""Tables as people save them: any usual encoding and delimiter, with or without headings; JSON Lines; and Parquet."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import msgspec

from compoundnet.base import CompoundNetError, check_file, format_bytes, limits, need
from compoundnet.base.text import read_text
from compoundnet.data.columns import (
    are_measured,
    hold_image_names,
    is_image_heading,
    is_image_name,
    known_headings,
    names_labels,
)
from compoundnet.data.json_lines import read_json_lines
from compoundnet.data.names import split_name

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_EXPECTED = "expected the columns path, label and, where there are splits, split"
_SAMPLE = 200  # lines that decide about the delimiter


class ListTable(msgspec.Struct, frozen=True):
    """A table of text.

    Attributes:
        headings: None if the first line is data already.
        columns: The cells of each column, without spaces around them.
        encoding: UTF-8, UTF-16, UTF-32 or Latin-1; None for JSON Lines and Parquet.
        delimiter: The name of what separates columns; None for JSON Lines and Parquet.
        comments: How many lines above the headings start with # and were left out.
    """

    headings: tuple[str, ...] | None
    columns: tuple[list[str], ...]
    encoding: str | None = None
    delimiter: str | None = None
    comments: int = 0


def read_table(path: Path) -> ListTable:
    """Read a table from a text file, JSON Lines or Parquet.

    Raises:
        CompoundNetError: the file cannot be read, is not text, or a row has too many or too few fields.
    """
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    if path.suffix.lower() == ".jsonl":
        return _with_headings(read_json_lines(path), path)
    text, encoding = read_text(path, limits.LIST_BYTES)
    text, comments = _without_comments(text)
    rows, delimiter = _rows(text, path)
    body = [[cell.strip("\ufeff \t\r\n\xa0") for cell in row] for row in rows]
    body = [row for row in body if any(row)]
    if not body:
        raise CompoundNetError(f"{path}: is empty; {_EXPECTED}")
    first, headings = body[0], None
    if not any(map(is_image_name, first)):
        headings, body = tuple(first), body[1:]
    width = len(first) if headings is None or len(headings) != 2 else 2
    if headings is not None and _are_numbered(headings, body):
        headings, width = (headings[0], _without_number(headings[1])), 2  # image, tag1, tag2, ...
    lead = int(headings is None and all(split_name(row[0]) is not None for row in body))  # a split before the image
    if (headings is None or width == 2) and _hold_labels([row[lead:] for row in body], width - lead, headings):
        # As many labels as an image has, without quotes around them.
        body = [[*row[: lead + 1], "|".join(filter(None, row[lead + 1 :]))] for row in body]
        width = lead + 2
    if headings is not None and not any(map(is_image_heading, headings)) and _have_one_more(body, width):
        headings, width = ("", *headings), width + 1
    for number, row in enumerate(body, start=1):
        while len(row) > width and not row[-1]:
            row.pop()
        if len(row) != width:
            raise CompoundNetError(
                f"{path}: row {number} has {len(row)} fields, and the {'header' if headings else 'first row'} {width}"
            )
    columns = tuple([row[place] for row in body] for place in range(width))
    return ListTable(headings, columns, encoding, delimiter, comments)


def _hold_labels(body: Sequence[Sequence[str]], width: int, headings: Sequence[str] | None) -> bool:
    """Whether all columns after the image hold its labels: their number differs, or columns share values."""
    if not all(is_image_name(row[0]) for row in body):
        return False
    if any(len(row) != width for row in body):
        return True
    columns = [set(column) - {""} for column in zip(*body, strict=True)][1:]
    if headings is not None or len(columns) < 2 or not any(map(names_labels, columns)):
        return False
    if len({are_measured(column) for column in columns if column}) > 1:  # a class beside the corners of a box, say
        return False
    return sum(map(len, columns)) > len(set().union(*columns))


def _have_one_more(body: Sequence[Sequence[str]], width: int) -> bool:
    """Whether each row has an image before what the headings name, as CelebA's attributes have."""
    return bool(body) and all(len(row) == width + 1 and is_image_name(row[0]) for row in body)


def _are_numbered(headings: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Whether the columns after the image are `tag_1`, `tag_2` and so on, and hold labels; in a one-hot list such
    columns say yes or no."""
    names = {_without_number(heading) for heading in headings[1:]}
    if len(headings) < 3 or len(names) > 1:
        return False
    return any(names_labels(column, *names) for column in list(zip_longest(*body, fillvalue=""))[1:])


def _without_number(heading: str) -> str:
    """Return the heading of a column that is one of several: `tag_1` and `Tag 2` are `tag`."""
    return re.sub(r"[\W_]*\d+$", "", heading.casefold())


def _without_comments(text: str) -> tuple[str, int]:
    """Leave out lines at the top that start with #, and count them; the last one may be the headings, without its #."""
    if not text.startswith("#"):
        return text, 0
    lines = text.splitlines(keepends=True)
    count = next((number for number, line in enumerate(lines) if not _is_comment(line)), len(lines))
    if count == len(lines):
        return text, 0
    delimiter = next((one for one in _DELIMITERS if one in lines[count]), None)
    heading = lines[count - 1].lstrip("# ")
    above, below = heading.strip().split(delimiter), lines[count].strip().split(delimiter)
    if len(above) == len(below) and known_headings(above) > known_headings(below):
        count -= 1
        lines[count] = heading
    return "".join(lines[count:]), count


def _is_comment(line: str) -> bool:
    """Whether a line starts with #, and not with an image of such a name."""
    return line.startswith("#") and not is_image_name(re.split(r"[,;|\s]", line)[0])


def _rows(text: str, path: Path) -> tuple[list[list[str]], str]:
    declared = re.match(r"sep=(.)\r?\n", text)  # Excel's first line
    if declared:
        text = text[declared.end() :]
    counted = re.match(r"(\d+)\s*\n", text)  # CelebA's and DeepFashion's first line: the number of images
    if counted and len(text.splitlines()) - int(counted[1]) in (1, 2):
        text = text[counted.end() :]
    sample = "\n".join(islice((line for line in text.splitlines() if line.strip()), _SAMPLE))
    try:
        delimiter = declared[1] if declared else _delimiter(sample)
        if delimiter is not None:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True))
            return rows, _DELIMITERS.get(delimiter, repr(delimiter))
    except csv.Error as error:
        raise CompoundNetError(f"{path}: is not a table: {error}") from error
    return _split_at_spaces([line.strip() for line in text.splitlines() if line.strip()]), "spaces"


def _delimiter(sample: str) -> str | None:
    """Return the delimiter that gives known headings, image names and rows of one length; None if none gives two
    columns."""
    best: tuple[tuple[bool, int, bool, float], str] | None = None
    for delimiter in _DELIMITERS:
        rows = [row for row in csv.reader(sample.splitlines(), delimiter=delimiter, skipinitialspace=True) if row]
        if not rows or len(rows[0]) < 2:
            continue
        equal = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        images = any(is_image_name(cell.strip()) for row in rows[:3] for cell in row)
        score = (equal > 0.5, known_headings(rows[0]), images, equal)
        if best is None or score > best[0]:
            best = score, delimiter
    return best[1] if best else None


def _split_at_spaces(lines: Sequence[str]) -> list[list[str]]:
    """Split lines at several spaces; else at single ones. Of names with spaces the last words are the other columns."""
    if all(is_image_name(line.split()[0]) for line in lines) and len({len(line.split()) for line in lines}) > 1:
        return [line.split(maxsplit=1) for line in lines]
    words = [line.split() for line in lines]
    if words and _have_one_more(words[1:], len(words[0])):
        return words
    for pattern in (r"\s{2,}", r"\s+"):
        rows = [re.split(pattern, line) for line in lines]
        if len(set(map(len, rows))) == 1 and len(rows[0]) > 1:
            return rows
    width = Counter(len(line.split()) for line in lines).most_common(1)[0][0] if lines else 0
    width = len(lines[0].split()) if lines and known_headings(lines[0].split()) == 2 else min(width, 2)
    return [line.rsplit(maxsplit=max(0, width - 1)) for line in lines]


def _read_parquet(path: Path) -> ListTable:
    need("pyarrow", f"{path}: reading Parquet, unlike CSV,")
    from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]  # noqa: PLC0415  an extra; has no types

    check_file(path, limits.LIST_BYTES)
    try:
        metadata, schema = parquet.read_metadata(path), parquet.read_schema(path)
        size, packed = _unpacked(metadata), path.stat().st_size
        most = min(limits.LIST_BYTES, max(limits.METADATA_BYTES, limits.LIST_UNPACKED * packed))
        if size > most:
            raise CompoundNetError(
                f"{path}: unpacks to {format_bytes(size)}, and the limit is {format_bytes(most)} for a file of its size"
            )
        images = [field.name for field in schema if _holds_images(field.name, field.type)]
        kept = [name for name in schema.names if name not in images]
        table = parquet.read_table(path, columns=kept if images else None).to_pydict()
    except (OSError, ArrowException) as error:
        raise CompoundNetError(f"{path}: cannot be read as Parquet: {error}") from error
    columns = {
        str(name): ["" if value is None else str(value).strip() for value in values] for name, values in table.items()
    }
    _refuse_images(images, columns, path)
    return _with_headings(columns, path)


def _with_headings(columns: Mapping[str, list[str]], path: Path) -> ListTable:
    if not columns:
        raise CompoundNetError(f"{path}: is empty; {_EXPECTED}")
    return ListTable(tuple(columns), tuple(columns.values()))


def _holds_images(heading: str, kind: Any) -> bool:
    """Whether a column of Parquet holds bytes, or is headed as images and holds arrays of numbers.

    Args:
        heading: Its name.
        kind: Its pyarrow.DataType.
    """
    from pyarrow import types  # noqa: PLC0415  an extra

    leaves = _leaves(kind)
    if any(map(types.is_binary, leaves)) or any(map(types.is_large_binary, leaves)):
        return True
    numbers = all(types.is_integer(leaf) or types.is_floating(leaf) for leaf in leaves)
    return types.is_nested(kind) and numbers and is_image_heading(heading)


def _leaves(kind: Any) -> list[Any]:
    """The types that a pyarrow.DataType is made of, in its order."""
    waiting, leaves = [kind], []
    while waiting:
        first = waiting.pop()
        if first.num_fields:
            waiting += [first.field(place).type for place in range(first.num_fields)]
        else:
            leaves.append(getattr(first, "value_type", first))  # a dictionary's
    return leaves


def _refuse_images(images: Sequence[str], columns: Mapping[str, Sequence[str]], path: Path) -> None:
    """Raise CompoundNetError if columns hold images, as those of Hugging Face do, and no other column their paths."""
    if not images or any(map(hold_image_names, columns.values())):
        return
    sure = [heading for heading in images if is_image_heading(heading)]
    if sure or not any(map(is_image_heading, columns)):
        raise CompoundNetError(
            f"{path}: the column {[*sure, *images][0]!r} holds images themselves, as bytes or numbers, not their paths;"
            " write each image to a file in a folder of its class, and give the folder of these folders"
        )


def _unpacked(metadata: Any) -> int:
    """About how many bytes a Parquet file takes in memory: a column of one repeated value is tiny in the file."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return int(max(sum(group.total_byte_size for group in groups), 8 * metadata.num_rows * metadata.num_columns))
