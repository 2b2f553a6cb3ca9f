"""Class names, by index.

ImageNet's are the first English name of each WordNet synset of ILSVRC 2012, in the order of its classes; six of them,
which would be equal or ambiguous, are written out (`crane (bird)`, `Pembroke Welsh corgi`).
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

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


def _lines(text: str) -> tuple[str, ...]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(lines)
