"""Class names, by index.

ImageNet's are the first English name of each WordNet synset of ILSVRC 2012, in the order of its classes; six of them,
which would be equal or ambiguous, are written out (`crane (bird)`, `Pembroke Welsh corgi`).
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from compoundnet.base import CompoundNetError, did_you_mean


def label_set(name: str) -> tuple[str, ...]:
    """A label set that ships with the package: `imagenet-1k`."""
    folder = resources.files("compoundnet.models").joinpath("label_sets")
    known = {Path(entry.name).stem: entry for entry in folder.iterdir()}
    if name not in known:
        raise CompoundNetError(f"there is no label set named {name!r}{did_you_mean(name, known)}")
    return _lines(known[name].read_text(encoding="utf-8"))


def read_labels(path: Path, num_classes: int) -> tuple[str, ...]:
    """Read one class per line, in the order of the logits. Their number must be that of the network's classes."""
    try:
        labels = _lines(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CompoundNetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CompoundNetError(f"{path}: is not UTF-8 text: {error}") from error
    check_labels(labels, num_classes, str(path))
    return labels


def check_labels(labels: tuple[str, ...], num_classes: int, source: str) -> None:
    """Raise if the number of labels is not the network's number of classes, or one of them is blank."""
    if len(labels) != num_classes:
        raise CompoundNetError(f"{source}: holds {len(labels)} labels, and the network has {num_classes} classes")
    blank = [index for index, label in enumerate(labels) if not label.strip() or "\n" in label]
    if blank:
        raise CompoundNetError(f"{source}: the label of class {blank[0]} is empty or longer than a line")


def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.removesuffix("\n").split("\n")) if text else ()
