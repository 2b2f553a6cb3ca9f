"""The labels of a list's rows: one class an image, or several labels, told from the cells.

Several labels an image come as one cell (`cat,dog`, `cat|dog`, `cat;dog`, `['cat', 'dog']`), as several rows of one
image, or as a column a label with 0 and 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from compoundnet.base import CompoundNetError
from compoundnet.data.columns import is_indicator, is_yes
from compoundnet.data.dataset import Labels
from compoundnet.data.names import class_name, natural_order, some

# "one": a cell is one class, whatever it holds; "several": an image may have several labels, or none.
LabelsPerImage: TypeAlias = Literal["one", "several"]

# The share of images in several rows with different classes from which several labels are meant; below it, a mistake.
_REPEATED = 0.01
_LIST = re.compile(r"[\[({](.*)[\])}]", re.DOTALL)
# Label Studio writes one choice as it is, and several so.
_CHOICES = re.compile(r'\{"choices": *(\[.*\])\}', re.DOTALL)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")


class RowLabels(msgspec.Struct, frozen=True, eq=False):
    """The labels of rows.

    Attributes:
        classes: In natural order.
        labels: int64[N], or bool[N, classes] for several labels an image.
        remarks: What was decided, for the user.
    """

    classes: tuple[str, ...]
    labels: Labels
    remarks: tuple[str, ...] = ()


def read_cells(
    cells: Sequence[str], images: Sequence[object], rows: Sequence[int], wanted: LabelsPerImage | None, source: str
) -> RowLabels:
    """Read one cell of labels for each row.

    Args:
        cells: The cells.
        images: What each row's image is; rows of the same image belong together.
        rows: The number of each row in the list, from 0, for messages.
        wanted: What the user says; None decides by the cells.
        source: The list's name for messages.

    Returns:
        The labels of each row: of an image of several rows those of all its rows.

    Raises:
        CompoundNetError: a cell is empty, or an image has two classes, though it must have exactly one class; or the
            cells say yes or no of labels that they do not name.
    """
    separator = None if wanted == "one" else _separator(cells, wanted)
    repeated = _images_with_different_cells(cells, images)
    remarks = []
    if wanted is None and separator is None and any("," in cell for cell in cells):
        example = next(cell for cell in cells if "," in cell)
        remarks.append(
            f"a comma is taken as part of a class name, as in {example!r}; --several-labels splits such cells"
        )
    elif wanted is None and separator is None and _have_few_words(cells):
        example = max(cells, key=lambda cell: len(cell.split()))
        remarks.append(
            f"a space is taken as part of a class name, as in {example!r}; --several-labels splits such cells"
        )
    many = len(repeated) >= _REPEATED * len(set(images)) > 0
    if wanted != "one":
        _refuse_yes_and_no(cells, rows, separator or " ", source)
    if wanted == "several" or separator is not None or (repeated and many and wanted is None):
        if wanted is None:
            remarks.append(_why(cells, separator, repeated, len(set(images))))
        return _several(cells, images, _BY_SEPARATOR[separator or ","], remarks)
    for row, cell in zip(rows, cells, strict=True):
        if not cell:
            raise CompoundNetError(
                f"{source}: row {row + 1}: label is empty; if images without any label are meant, --several-labels"
                " takes them"
            )
    if repeated:
        image, (first, second) = next(iter(repeated.items()))
        raise CompoundNetError(
            f"{source}: row {rows[second] + 1}: {image} has the class {cells[second]!r} here and {cells[first]!r} in"
            f" row {rows[first] + 1}; correct the list, or take both as labels of the image with --several-labels"
        )
    names = [class_name(cell) for cell in cells]
    classes = natural_order(set(names))
    index = {name: label for label, name in enumerate(classes)}
    return RowLabels(classes, np.array([index[name] for name in names], np.int64), tuple(remarks))


def read_indicators(
    columns: Mapping[str, Sequence[str]],
    images: Sequence[object],
    rows: Sequence[int],
    wanted: LabelsPerImage | None,
    source: str,
) -> RowLabels:
    """Read a column of 0 and 1 for each label; the columns keep their order.

    Args:
        columns: The cells of each label; all of them are `is_indicator`.
        images: What each row's image is; an image of several rows has the labels of all its rows.
        rows: The number of each row in the list, from 0, for messages.
        wanted: What the user says. None: one class an image if each row has exactly one 1.
        source: The list's name for messages.

    Raises:
        CompoundNetError: a row does not have exactly one class, though the user says that it has.
    """
    classes = tuple(map(class_name, columns))
    labels = np.array([[is_yes(cell) for cell in cells] for cells in columns.values()], np.bool_).T
    places: dict[object, list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image, []).append(place)
    for same in places.values():
        labels[same] = labels[same].any(axis=0)
    counts = labels.sum(axis=1)
    if wanted != "several" and (counts == 1).all():
        return RowLabels(
            classes, labels.argmax(axis=1).astype(np.int64), (f"one column a class, with 0 and 1: {some(classes)}",)
        )
    if wanted == "one":
        place = int(np.flatnonzero(counts != 1)[0])
        raise CompoundNetError(
            f"{source}: row {rows[place] + 1} has a 1 in {counts[place]} columns; with one class an image it is one"
        )
    remark = f"several labels an image: one column a label, with 0 and 1: {some(classes)}"
    return RowLabels(classes, labels, (remark,))


def _separator(cells: Sequence[str], wanted: LabelsPerImage | None) -> str | None:
    """Return what separates labels in a cell; None if a cell is one class."""
    distinct = set(cells) - {""}
    if distinct and (all(map(_LIST.fullmatch, distinct)) or any(map(_CHOICES.fullmatch, distinct))):
        return "list"
    for separator in "|;":
        if any(separator in cell for cell in distinct):
            return separator
    several = [cell for cell in distinct if "," in cell]
    if not several:
        return " " if _have_few_words(cells) and (wanted == "several" or _combine_words(distinct)) else None
    # A comma may be part of a name, as in "tench, Tinca tinca". Between labels, most cells share a label with another.
    uses: dict[str, int] = {}
    for cell in distinct:
        for label in set(_between(",")(cell)):
            uses[label] = uses.get(label, 0) + 1
    shared = sum(any(uses[label] > 1 for label in _between(",")(cell)) for cell in several)
    if 2 * shared > len(several) or not any(re.search(r",\s", cell) for cell in several):
        return ","
    return None


def _have_few_words(cells: Sequence[str]) -> bool:
    """Whether cells are made of fewer words than there are different cells, and differ in the number of words.

    Labels that are combined are so; most class names are not, but those that combine a plant and its disease are.
    """
    words = [cell.split() for cell in set(cells) - {""}]
    return len(set().union(*words)) < len(set(cells)) and len(set(map(len, words))) > 1


def _combine_words(cells: Collection[str]) -> bool:
    """Whether the words of cells are labels, not parts of class names.

    In names such as "Potato Early blight" and "Tomato healthy" a word has one place, counted from the start or the end,
    and is no name alone. A label has many places; and half of the cells with several labels have one such, or more.
    """
    words = [cell.split() for cell in cells]
    starts, ends = _places(words), _places([row[::-1] for row in words])
    alone = {row[0] for row in words if len(row) == 1}
    if all(word.isdigit() for word in starts):  # nobody names a class "1 3"
        return True
    labels = alone | {word for word in starts if len(starts[word]) > 1 and len(ends[word]) > 1}
    several = [row for row in words if len(row) > 1]
    return 2 * sum(not labels.isdisjoint(row) for row in several) >= len(several)


def _places(rows: Sequence[Sequence[str]]) -> dict[str, set[int]]:
    places: dict[str, set[int]] = {}
    for row in rows:
        for place, word in enumerate(row):
            places.setdefault(word, set()).add(place)
    return places


def _between(separator: str) -> Callable[[str], list[str]]:
    return lambda cell: [label for part in cell.split(separator) if (label := class_name(part))]


def _of_list(cell: str) -> list[str]:
    """The labels of a list as Python, JSON, NumPy or Label Studio write it."""
    choices = _CHOICES.fullmatch(cell)
    cell = choices[1] if choices else cell
    matched = _LIST.fullmatch(cell)
    inner = matched[1] if matched else cell
    quoted = [first or second for first, second in _QUOTED.findall(inner)]
    parts = quoted or re.split(r"[,\s]+" if matched else ",", inner)
    return [label for part in parts if (label := class_name(part))]


_BY_SEPARATOR: dict[str, Callable[[str], list[str]]] = {"list": _of_list} | {mark: _between(mark) for mark in "|;, "}


def _refuse_yes_and_no(cells: Sequence[str], rows: Sequence[int], separator: str, source: str) -> None:
    """Raise CompoundNetError if every cell says yes or no of each label, as `[1, 0, 0]` does, which names none."""
    split = [_BY_SEPARATOR[separator](cell) for cell in dict.fromkeys(cells) if cell]
    found = {label.rstrip(".") for labels in split for label in labels}  # NumPy writes [1. 0. 0.]
    lengths = set(map(len, split))
    if len(lengths) != 1 or lengths <= {0, 1} or len(found) > 2 or not is_indicator(found):
        return
    row, cell = next((row, cell) for row, cell in zip(rows, cells, strict=True) if cell)
    raise CompoundNetError(
        f"{source}: row {row + 1}: {cell!r} says yes or no without naming a label; write the names of the labels that"
        " the image has, or a column of 0 and 1 for each label, with its name as the heading"
    )


def _images_with_different_cells(cells: Sequence[str], images: Sequence[object]) -> dict[object, tuple[int, int]]:
    """Return two places with different cells for each image that has such."""
    first: dict[object, int] = {}
    found: dict[object, tuple[int, int]] = {}
    for place, (cell, image) in enumerate(zip(cells, images, strict=True)):
        known = first.setdefault(image, place)
        if cells[known] != cell:
            found.setdefault(image, (known, place))
    return found


def _why(cells: Sequence[str], separator: str | None, repeated: Mapping[object, object], images: int) -> str:
    if separator is None:
        return (
            f"several labels an image, because {len(repeated):,} of {images:,} images are in several rows with"
            " different labels; --one-class refuses them"
        )
    example = next(cell for cell in cells if (_LIST.fullmatch(cell) if separator == "list" else separator in cell))
    return f"several labels an image, as in {example!r}; --one-class takes such a cell as one class"


def _several(
    cells: Sequence[str], images: Sequence[object], split: Callable[[str], list[str]], remarks: Sequence[str]
) -> RowLabels:
    together: dict[object, set[str]] = {}
    for cell, image in zip(cells, images, strict=True):
        together.setdefault(image, set()).update(split(cell))
    classes = natural_order(set().union(*together.values()))
    index = {name: label for label, name in enumerate(classes)}
    labels = np.zeros((len(cells), len(classes)), np.bool_)
    for row, image in enumerate(images):
        labels[row, [index[name] for name in together[image]]] = True
    return RowLabels(classes, labels, tuple(remarks))
