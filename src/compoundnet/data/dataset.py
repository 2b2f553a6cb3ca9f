"""A data set as a value: its classes, and for each split which pictures with which labels."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.data.sources import Encoded, Source

Metric = Literal["top1", "mean_per_class"]

# The label of a picture whose class is not published (ImageNet's test pictures).
UNKNOWN = -1


class Split(msgspec.Struct, frozen=True, eq=False):
    """Pictures with their labels.

    name     of the split: train, val, test, minival
    classes  class names by label
    labels   int64[N], UNKNOWN where the class is not published
    source   where the pictures are
    members  int64[N], the pictures' numbers in `source`; None where the split is all of it, in its order
    """

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    source: Source
    members: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def picture_name(self, index: int) -> str:
        """What picture `index` is called, for messages and for rules that depend on the name."""
        return self.source.name(self._member(index))

    def read(self, index: int) -> Encoded:
        """Picture `index` before it is decoded. Raises OSError."""
        return self.source.read(self._member(index))

    def subset(self, indices: NDArray[np.int64], name: str | None = None) -> Split:
        """The pictures of these numbers in this order; `name` is the new split's."""
        members = indices if self.members is None else self.members[indices]
        return Split(name or self.name, self.classes, self.labels[indices], self.source, members)

    def counts(self) -> NDArray[np.int64]:
        """int64[classes]: how many pictures each class has."""
        return np.bincount(self.labels[self.labels != UNKNOWN], minlength=len(self.classes))

    def _member(self, index: int) -> int:
        return index if self.members is None else int(self.members[index])


class Dataset(msgspec.Struct, frozen=True, eq=False):
    """What `open_dataset` returns.

    name     as in the catalogue, or the folder's
    splits   by name: train, val, test, as far as there are
    metric   what the paper reports on it
    notes    what a person should know about how it was opened (a split made by seed, pictures that are missing)
    """

    name: str
    splits: dict[str, Split]
    metric: Metric = "top1"
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label; the same in every split."""
        return next(iter(self.splits.values())).classes

    @property
    def evaluation(self) -> str:
        """The name of the split that results are reported on: test where there is one, else val."""
        return next((name for name in ("test", "val") if name in self.splits), next(iter(self.splits)))

    def split(self, name: str) -> Split:
        """A split by name, or a CompoundNetError with those there are."""
        if name not in self.splits:
            raise CompoundNetError(f"{self.name} has no split named {name!r}{did_you_mean(name, self.splits)}")
        return self.splits[name]
