"""Class names, by index.

ImageNet's are the first English name of each WordNet synset of ILSVRC 2012, in the order of its classes; six of them,
which would be equal or ambiguous, are written out (`crane (bird)`, `Pembroke Welsh corgi`).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.table_files import utf8
from compoundnet.base.text import LATIN_1, read_text


def label_set(name: str) -> tuple[str, ...]:
    """A label set that ships with the package: `imagenet-1k`."""
    folder = resources.files("compoundnet.models").joinpath("label_sets")
    known = {Path(entry.name).stem: entry for entry in folder.iterdir()}
    if name not in known:
        raise CompoundNetError(f"there is no label set named {name!r}{did_you_mean(name, known)}")
    return _lines(known[name].read_text(encoding="utf-8"))


def read_labels(path: Path, num_classes: int) -> tuple[str, ...]:
    """Read one class per line, in the order of the logits. Their number must be that of the network's classes.

    The text is UTF-8, UTF-16 or UTF-32, with or without a byte-order mark, with the line ends of any system; blank
    lines at the end do not count.

    Raises:
        CompoundNetError: the file cannot be read, is not in these encodings, or does not have one label per class.
    """
    text, encoding = read_text(path)
    if encoding == LATIN_1:
        raise CompoundNetError(f"{path}: is not UTF-8 text; save it in UTF-8")
    labels = _lines(text)
    check_labels(labels, num_classes, str(path))
    return labels


def check_labels(labels: tuple[str, ...], num_classes: int, source: str) -> None:
    """Raise if the number of labels is not the network's number of classes, or one of them is blank."""
    if len(labels) != num_classes:
        raise CompoundNetError(f"{source}: holds {len(labels)} labels, and the network has {num_classes} classes")
    unreadable = [label for label in labels if utf8(label) != label]
    if unreadable:
        raise CompoundNetError(
            f"{source}: the label {utf8(unreadable[0])} has bytes that are not UTF-8; rename the class (convmv renames"
            " files of old systems)"
        )
    blank = [index for index, label in enumerate(labels) if not label.strip() or "\n" in label]
    if blank:
        raise CompoundNetError(f"{source}: the label of class {blank[0]} is empty or longer than a line")


def stated_labels(value: Any, notes: list[str]) -> tuple[str, ...] | None:
    """Class names from a list, or from a dictionary by index or to it; None if there are none, or mere numbers.

    Args:
        value: What a file states.
        notes: Receives a sentence if the names say nothing.
    """
    if isinstance(value, Mapping):
        pairs = list(value.items())
        if all(isinstance(index, int) for index in value.values()):
            pairs = [(index, name) for name, index in pairs]
        try:
            by_index = {int(index): name for index, name in pairs}
        except (ValueError, TypeError):
            by_index = {}
        value = [by_index[index] for index in sorted(by_index)] if set(by_index) == set(range(len(by_index))) else None
    if not isinstance(value, list | tuple) or not any(isinstance(name, str) for name in value):
        return None
    names = tuple(" ".join(str(name).split()) for name in value)
    if all(name == f"LABEL_{index}" for index, name in enumerate(names)):
        notes.append("the labels are LABEL_0, LABEL_1 and so on, which name nothing; none were taken")
        return None
    return names


def _lines(text: str) -> tuple[str, ...]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(lines)
