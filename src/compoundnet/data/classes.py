"""The classes of a data set: whether they can be trained on, what is odd about their names, and a test split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from compoundnet.base import CompoundNetError
from compoundnet.data.dataset import Dataset, Split, Understanding
from compoundnet.data.holdout import hold_out_by_class
from compoundnet.data.names import some, split_name

# Training balances the classes if the largest has at least this many times the images of the smallest. On Lite0's
# features of 10 classes of up to 100 images of CIFAR-10 (5 seeds), balancing gains 0.1 points at a factor of 1.5, 0.6
# at 2, 1.4 at 3 and 4.4 at 5.
UNEQUAL = 2.0


class UndividedError(CompoundNetError):
    """Images cannot be divided into training and test images."""


def with_test(
    splits: dict[str, Split],
    name: str,
    test_fraction: float,
    seed: int,
    notes: tuple[str, ...] = (),
    understanding: Understanding | None = None,
) -> Dataset:
    """Make the data set; if it has neither test nor val, hold out a test split from the training images.

    Without training images it can be used only for evaluation, and a note says so.

    Raises:
        UndividedError: no test split can be held out.
        CompoundNetError: the training images cannot be trained on.
    """
    if "train" not in splits:
        only = "there are no training images: this data can only be evaluated on"
        return Dataset(name, splits, notes=(*notes, only), understanding=understanding)
    notes = (*notes, *alike_remarks(splits["train"].classes))
    if len(splits) > 1:
        check_classes(splits["train"], name)
        return Dataset(name, splits, notes=notes, understanding=understanding)
    if not test_fraction:
        return Dataset(name, splits, notes=notes, understanding=understanding)
    try:
        check_classes(splits["train"], name)
        rest, test = hold_out_by_class(splits["train"], test_fraction, seed)
    except CompoundNetError as error:
        raise UndividedError(str(error)) from error
    note = (
        f"there is no test split, so {len(test):,} of {len(test) + len(rest):,} images were held out for it"
        f" ({test_fraction:.0%} of each {'label' if test.multilabel else 'class'}, seed {seed})"
    )
    return Dataset(name, {"train": rest, "test": test}, notes=(note, *notes), understanding=understanding)


def check_classes(train: Split, name: str, or_else: str = "") -> None:
    """Raise CompoundNetError for fewer than two classes, or a class without training images; `or_else` adds advice."""
    if not train.classes:
        raise CompoundNetError(f"{name}: no training image has a label")
    if len(train.classes) < 2 and not train.multilabel:  # of several labels, one alone is a yes or no
        raise CompoundNetError(f"{name}: there is only the class {train.classes[0]!r}; a classifier needs at least two")
    empty = [train.classes[label] for label in np.flatnonzero(train.counts() == 0)]
    if empty:
        raise CompoundNetError(f"{name}: no training images of {some(empty)}; add some, or remove the class{or_else}")


def alike_remarks(classes: Iterable[str]) -> list[str]:
    """Return a remark on classes whose names differ only in case or spaces."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(" ".join(name.casefold().replace("_", " ").split()), []).append(name)
    return [
        f"the classes {some(names)} differ only in case or spaces: merge them if they are one"
        for names in groups.values()
        if len(names) > 1
    ]


def nested_remarks(inside: Mapping[str, set[str]]) -> list[str]:
    """Return remarks on folders inside the class folders that may be the classes.

    Args:
        inside: By class, the names of the folders in its folder that hold images; "" for images directly in it.
    """
    remarks = [
        f"the class {name!r} holds folders named like classes ({some(sorted(nested))}): all images in them are {name!r}"
        for name, folders in inside.items()
        if (nested := folders.intersection(inside))
    ]
    common = set.intersection(*inside.values()) if len(inside) > 1 else set()
    shared = {name for name in common if split_name(name) is None}
    if shared and "" not in shared.union(*inside.values()) and not remarks:
        remarks.append(
            f"every class folder holds {some(sorted(shared))}: if these are the classes, put them at the top"
        )
    return remarks
