"""Which column of a list holds the images, the classes and the splits: by its heading, or by what is in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import msgspec

from compoundnet.base import CompoundNetError
from compoundnet.base.images import image_suffixes
from compoundnet.data.names import split_name

# Headings, in lower case without spaces and signs. Where several occur, the first of these is taken.
_IMAGE = (
    "path", "filepath", "imagepath", "imgpath", "relativepath", "relpath", "fullpath", "absolutepath", "filename",
    "filenames", "imagefilename", "imgfilename", "imagefile", "imgfile", "file", "files", "fname", "imagename",
    "imgname", "image", "images", "img", "imageuri", "uri", "photo", "picture", "location", "imageid", "imgid",
    "photoid", "id", "name", "url", "imageurl",
)  # fmt: skip
_LABEL = (
    "label", "labels", "class", "classes", "classname", "classlabel", "labelname", "category", "categories",
    "categoryname", "target", "targets", "groundtruth", "gt", "truth", "annotation", "annotations", "y", "tag", "tags",
    "tagname", "choice", "choices",
    "classid", "classindex", "classidx", "labelid", "labelindex", "labelidx", "categoryid", "targetid", "species",
    "breed", "diagnosis", "dx", "disease", "variety", "emotion", "kind", "type",
)  # fmt: skip
# The others are a label's own name if their column says yes or no, and another column does so too.
_NAMED_LABEL = frozenset(_LABEL[: _LABEL.index("species")])
# These may tell of the image beside columns of labels: of an X-ray whether it is AP or PA, of a picture whether it is
# drawn. So may a heading that ends in "category", such as that of an age.
_OFTEN_OF_IMAGES = ("kind", "type", "category", "categories")
# So many columns of yes and no are labels beside such a one.
_MANY = 3
# Words in other headings: "Finding Labels", "true_class".
_LABEL_WORDS = frozenset(("label", "labels", "class", "category", "categories"))
_SPLIT = "split"
# These denote splits only if every value of theirs does.
_PERHAPS_SPLIT = (
    "datasplit",
    "set",
    "subset",
    "partition",
    "phase",
    "usage",
    "dataset",
    "fold",
    "group",
    "part",
    "mode",
)
# Columns of yes and no for one split: fastai's is_valid, is_training_image of CUB-200-2011.
_FLAGS = {
    f"is{word}{ending}": split
    for word, split in {
        "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
        "testing": "test",
    }.items()
    for ending in ("", "image", "img", "set")
} | {"test": "test", "testing": "test", "validation": "val"}  # fmt: skip
_TRUE, _FALSE = ("true", "1", "1.0", "yes", "t", "y"), ("false", "0", "0.0", "no", "f", "n")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_WHOLE = re.compile(r"\d+(\.0*)?")
_MOST = 0.8  # the share of values that decides where no heading does


class Columns(msgspec.Struct, frozen=True):
    """The columns of a list, by position.

    Attributes:
        image: The column of the images.
        label: The column of the classes.
        split: The column of the splits, if there is one.
        remarks: What was decided without a heading.
        indicators: The columns that say yes or no of one label each, in place of `label`; empty otherwise.
        flags: The columns that say yes or no of one split each, in place of `split`, such as `is_valid`; empty
            otherwise.
    """

    image: int
    label: int
    split: int | None
    remarks: tuple[str, ...] = ()
    indicators: tuple[int, ...] = ()
    flags: tuple[int, ...] = ()


def heading_key(heading: str) -> str:
    """Return a heading in the form in which it is looked up: `Image Path` and `image_path` are `imagepath`."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", heading).casefold())


def known_headings(headings: Sequence[str]) -> int:
    """Return how many of image and label are known by a heading; 0 for a row with an image file, which is data even if
    its class is called `disease` or `photo`."""
    if any(map(is_image_name, headings)):
        return 0
    keys = {heading_key(heading) for heading in headings}
    return sum(bool(keys.intersection(known)) for known in (_IMAGE, _LABEL))


def is_image_name(value: str) -> bool:
    """Whether a cell ends like the name of an image file."""
    return PurePosixPath(value.replace("\\", "/")).suffix.lower() in image_suffixes()


def is_image_heading(heading: str) -> bool:
    """Whether a column is headed as images: `file_name` and `image` are, and `jpg`."""
    key = heading_key(heading)
    return key in _IMAGE or f".{key}" in image_suffixes()


def hold_image_names(values: Sequence[str]) -> bool:
    """Whether most cells of a column end like the name of an image file."""
    some = values[:: max(1, len(values) // 1000)]
    return bool(some) and sum(map(is_image_name, some)) >= _MOST * len(some)


def find_columns(headings: Sequence[str] | None, columns: Sequence[Sequence[str]], source: str) -> Columns:
    """Find the columns of a list.

    Args:
        headings: The headings; None if the list has none.
        columns: The values of each column.
        source: The list's name for messages.

    Raises:
        CompoundNetError: it is not clear which column is which; the message names the columns.
    """
    keys = [heading_key(heading) for heading in headings] if headings is not None else [""] * len(columns)
    shown = [heading or f"column {place}" for place, heading in enumerate(headings or [""] * len(columns), start=1)]
    remarks: list[str] = []
    split = _find_split(keys, columns)
    flags = _find_flags(keys, columns)
    free = [place for place in range(len(columns)) if place not in (split, *flags)]
    flags = flags if split is None else ()
    image = _find_image(keys, columns, free)
    if image is None:
        by_content = [place for place in free if hold_image_names(columns[place])]
        why = "its values are image files"
        if not by_content and len(free) == 2:
            by_content, why = _beside_label(keys, columns, free), "no other is left"
        if len(by_content) != 1:
            raise _unclear(source, "image", headings, shown)
        image = by_content[0]
        if headings is not None:
            remarks.append(f"the column {shown[image]!r} is taken for the images, because {why}")
    free.remove(image)
    named = _named_label(keys, columns, free)
    label = named if named is not None or headings is None else _worded_label(headings, columns, free)
    indicators = [
        place
        for place in free
        if is_indicator(columns[place]) and (headings is None or headings[place]) and keys[place] not in _IMAGE
    ]
    # Under a sure heading such as "label", 0 and 1 are two classes, whatever flags stand beside them.
    sure = label is not None and keys[label] in _NAMED_LABEL
    if label is None or (not sure and _give_way(label, shown, columns, indicators)):
        _refuse_uncertain([place for place in free if place not in indicators], indicators, columns, shown, source)
        if len(indicators) > 1:
            remarks += _on_indicators(indicators, label, columns, shown)
            return Columns(image, indicators[0], split, tuple(remarks), tuple(indicators), flags)
    why = "of its heading"
    if label is None:
        label, why = _label_of_the_rest(headings, keys, columns, shown, free, source)
    if named is None and headings is not None:
        remarks.append(f"the column {shown[label]!r} is taken for the classes, because {why}")
    if len(indicators) > 1 and not sure:
        remarks.append(
            f"the column {shown[label]!r} is taken for the classes, and the {len(indicators)} columns of yes and no are"
            " not used: to train on these as labels, remove it"
        )
    return Columns(image, label, split, tuple(remarks), flags=flags)


def _refuse_uncertain(
    others: Sequence[int],
    indicators: Sequence[int],
    columns: Sequence[Sequence[str]],
    shown: Sequence[str],
    source: str,
) -> None:
    """Raise CompoundNetError if one of several columns of yes and no has a third value."""
    uncertain = [place for place in others if _is_uncertain(columns[place])]
    if uncertain and len(indicators) + len(uncertain) > 1:
        raise CompoundNetError(
            f"{source}: the column {shown[uncertain[0]]!r} has -1 beside 0 and 1; an image has a label or not: write 0"
            " or 1, or leave the row out"
        )


def _on_indicators(
    indicators: Sequence[int], label: int | None, columns: Sequence[Sequence[str]], shown: Sequence[str]
) -> list[str]:
    """Remarks where columns of yes and no are the labels: on blank cells, and on a column that may have been meant."""
    remarks = []
    blank = sum("" in columns[place] for place in indicators)
    if blank:
        remarks.append(f"{blank:,} columns of labels have blank cells, which count as no")
    if label is not None and label not in indicators:
        remarks.append(
            f"the {len(indicators)} columns of yes and no are taken for labels, and {shown[label]!r} is not used: to"
            " train on that, head it 'class'"
        )
    return remarks


def _label_of_the_rest(
    headings: Sequence[str] | None,
    keys: Sequence[str],
    columns: Sequence[Sequence[str]],
    shown: Sequence[str],
    free: Sequence[int],
    source: str,
) -> tuple[int, str]:
    """Return the column of the classes where no heading names one, and why it is taken."""
    left = [
        place for place in free if (keys[place] not in _IMAGE or len(free) == 1) and not _counts_rows(columns[place])
    ]
    if len(left) == 1:
        return left[0], "no other is left"
    worded = [place for place in left if _LABEL_WORDS.intersection(re.findall(r"[a-z]+", shown[place].casefold()))]
    if len(worded) == 1 and headings is not None:
        return worded[0], "of its heading"
    raise _unclear(source, "class", headings, shown)


def _give_way(label: int, shown: Sequence[str], columns: Sequence[Sequence[str]], indicators: Sequence[int]) -> bool:
    """Whether columns of yes and no are the labels, and not a column that is headed less surely than by "label"."""
    if not names_labels(columns[label]):
        return True  # "disease,healthy" are two labels
    if len(indicators) < 2:
        return False
    said = [[place for place in indicators if is_yes(columns[place][row])] for row in range(len(columns[label]))]
    if all(len(one) == 1 for one in said):  # one class each; perhaps that column names it too
        return not _one_to_one(columns[label], [shown[place] for (place,) in said])
    words = re.findall(r"[a-z]+", shown[label].casefold())
    return len(indicators) >= _MANY and bool(words) and words[-1] in _OFTEN_OF_IMAGES


def is_indicator(values: Iterable[str]) -> bool:
    """Whether a column says yes or no of each row, or nothing; -1 stands for no where there is no 0."""
    found = {value.casefold() for value in values} - {""}
    return bool(found) and (found <= {*_TRUE, *_FALSE} or found <= {"1", "-1"} or found <= {"1.0", "-1.0"})


def _is_uncertain(values: Iterable[str]) -> bool:
    """Whether a column has a third value beside yes and no, as in CheXpert."""
    found = {value.removesuffix(".0") for value in values} - {""}
    return {"0", "-1"} <= found <= {"1", "0", "-1"}


def names_labels(values: Iterable[str], heading: str = "label") -> bool:
    """Whether a column may name labels: in words, or by whole numbers under a heading of labels.

    Yes and no name none, nor do probabilities and measurements.
    """
    found = set(values) - {""}
    if not found or is_indicator(found) or _is_uncertain(found):
        return False
    if not are_measured(found):
        return True
    return heading_key(heading) in _LABEL and all(_WHOLE.fullmatch(value) for value in found)


def are_measured(values: Iterable[str]) -> bool:
    """Whether a column holds nothing but numbers of any kind."""
    return all(_NUMBER.fullmatch(value) for value in set(values) - {""})


def is_yes(value: str) -> bool:
    """Whether a cell of an indicator says yes."""
    return value.casefold() in _TRUE


def split_values(values: Sequence[str]) -> list[str | None]:
    """Return the split that each value of a column denotes, None where it denotes none."""
    known = {value: split_name(value) for value in set(values)}
    return [read.split if (read := known[value]) is not None and not read.rest else None for value in values]


def flagged_split(heading: str) -> str:
    """Return the split that one of the `flags` tells of, by its heading."""
    return _FLAGS[heading_key(heading)]


def flagged_splits(headings: Sequence[str], flags: Sequence[Sequence[str]]) -> list[str | None]:
    """Return the split of each row by columns of yes and no; None where each split has a column, and none says yes.

    An image with yes for several splits is not trained on. One without is in the split that has no column: training,
    else test, else validation.

    Args:
        headings: The heading of each column.
        flags: Its cells.
    """
    named = [flagged_split(heading) for heading in headings]
    rest = next((split for split in ("train", "test", "val") if split not in named), None)
    rows = ({split for split, cell in zip(named, row, strict=True) if is_yes(cell)} for row in zip(*flags, strict=True))
    return [next((split for split in ("test", "val", "train") if split in said), rest) for said in rows]


def _find_split(keys: Sequence[str], columns: Sequence[Sequence[str]]) -> int | None:
    if _SPLIT in keys:
        return keys.index(_SPLIT)
    for key in _PERHAPS_SPLIT:
        if key in keys and None not in split_values(columns[keys.index(key)]):
            return keys.index(key)
    if not any(keys):  # no headings
        for place, values in enumerate(columns):
            if len(columns) > 2 and None not in split_values(values):
                return place
    return None


def _find_flags(keys: Sequence[str], columns: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """Return the columns of yes and no for one split each; `test` alone beside the images may be what is learned."""
    return tuple(
        place
        for place, key in enumerate(keys)
        if key in _FLAGS and (key.startswith("is") or len(keys) > 2) and is_indicator(columns[place])
    )


def _find_image(keys: Sequence[str], columns: Sequence[Sequence[str]], free: Sequence[int]) -> int | None:
    named = [place for key in _IMAGE for place in free if keys[place] == key]
    return next((place for place in named if hold_image_names(columns[place])), named[0] if named else None)


def _beside_label(keys: Sequence[str], columns: Sequence[Sequence[str]], free: Sequence[int]) -> list[int]:
    """Return the column beside that of the classes, if it may be that of the images: `id_code` beside `diagnosis`."""
    others = [place for place in free if keys[place] not in _LABEL]
    return [
        place
        for place in others
        if len(others) < len(free)
        and not are_measured(columns[place])
        and not any(" " in one for one in columns[place])
    ]


def _named_label(keys: Sequence[str], columns: Sequence[Sequence[str]], free: Sequence[int]) -> int | None:
    """Return the column with the first heading for labels; of "label" with numbers, the column that names each."""
    named = [place for key in _LABEL for place in free if keys[place] == key]
    if not named or not _are_numbers(columns[named[0]]):
        return named[0] if named else None
    numbers = columns[named[0]]
    names = (place for place in named[1:] if not _are_numbers(columns[place]))
    return next((place for place in names if _one_to_one(numbers, columns[place])), named[0])


def _one_to_one(first: Sequence[str], second: Sequence[str]) -> bool:
    return len(set(zip(first, second, strict=True))) == len(set(first)) == len(set(second))


def _worded_label(headings: Sequence[str], columns: Sequence[Sequence[str]], free: Sequence[int]) -> int | None:
    """Return the only column whose heading ends in a word for labels, as "Finding Labels" does and "label_source" does
    not, if its cells are words."""
    last_words = {place: re.findall(r"[a-z]+", headings[place].casefold())[-1:] for place in free}
    found = [place for place in free if _LABEL_WORDS.intersection(last_words[place])]
    return found[0] if len(found) == 1 and names_labels(columns[found[0]], headings[found[0]]) else None


def _are_numbers(values: Sequence[str]) -> bool:
    return all(value.isascii() and value.isdigit() for value in set(values))


def _counts_rows(values: Sequence[str]) -> bool:
    """Whether a column is the number of the row, as pandas and MXNet write it first."""
    if len(values) < 2 or not _are_numbers(values) or len(values[0]) > 9:
        return False
    start = int(values[0])
    return start < 2 and all(value == str(start + place) for place, value in enumerate(values))


def _unclear(source: str, what: str, headings: Sequence[str] | None, shown: Sequence[str]) -> CompoundNetError:
    if headings is None:
        return CompoundNetError(
            f"{source}: has {len(shown)} columns without headings, and it is not clear which holds the {what}: write"
            " path,label (and split, where there are splits) in that order as its first line"
        )
    return CompoundNetError(
        f"{source}: it is not clear which column holds the {what}; found {', '.join(shown) or 'nothing'}. Expected"
        " path, label and, where there are splits, split: rename the headings"
    )
