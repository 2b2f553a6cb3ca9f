"""A data set as a value: its classes, and the images and labels of each split."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, Literal, SupportsIndex, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.base import CompoundNetError, Notify, did_you_mean, ignore, shortened
from compoundnet.base.image_values import FoundRange, Range, find_range
from compoundnet.base.images import Encoded, Reading, decode, image_errors, open_encoded
from compoundnet.data.folders import LeftOut
from compoundnet.data.sources import Arrays, ImageSource, Joined

Metric = Literal["top1", "mean_per_class"]

# int64[N], the class of each image; or bool[N, classes], the labels of each, several or none.
Labels: TypeAlias = NDArray[np.int64] | NDArray[np.bool_]

# The label of an image whose class is not published (ImageNet's test images).
UNKNOWN = -1


class Split(msgspec.Struct, frozen=True, eq=False):
    """Images with their labels: a map-style data set that `torch.utils.data.DataLoader` reads.

    `split[index]` is the pair (image, label): an upright 8-bit RGB PIL image, or the result of the
    split's transform, and an int; or bool[classes] if the images have several labels. For batches, set a transform that
    returns tensors:

        DataLoader(split.with_transform(preprocess), batch_size=32)

    Training uses `compoundnet.data.loader.loader` instead, whose order and random choices can be resumed at any batch.

    Attributes:
        name: train, val, test or minival.
        classes: Class names by label.
        labels: int64[N], the class of each image, UNKNOWN where it is not published; or bool[N, classes], the labels of
            each image, several or none.
        source: Where the images are.
        members: int64[N], the numbers of the images in `source`; None if the split is all of it, in its order.
        transform: The transform that `split[index]` applies to the PIL image; None leaves it unchanged.
        reading: How its image files are read.
    """

    name: str
    classes: tuple[str, ...]
    labels: Labels
    source: ImageSource
    members: NDArray[np.int64] | None = None
    transform: Callable[[Image.Image], Any] | None = None
    reading: Reading = Reading()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.labels.ndim == 2

    def __getitem__(self, index: SupportsIndex) -> tuple[Any, Any]:
        """Return (image, label) of one image.

        Raises:
            IndexError: there is no image of that number.
            UnreadableImageError: the image cannot be read.
        """
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"the {self.name} split has {len(self):,} images, and no number {number}")
        number %= len(self)
        image = self.image(number)
        label = self.labels[number] if self.multilabel else int(self.labels[number])
        return image if self.transform is None else self.transform(image), label

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        classes = "1 class" if len(self.classes) == 1 else f"{len(self.classes):,} classes"
        transform = "" if self.transform is None else f", transform={self.transform!r}"
        return f"<Split {self.name!r}: {len(self):,} images of {classes}{transform}>"

    def with_transform(self, transform: Callable[[Image.Image], Any] | None) -> Split:
        """Return the same split with another transform, which must be picklable if worker processes read it."""
        return msgspec.structs.replace(self, transform=transform)

    def image(self, index: int, *, damaged: Notify = ignore) -> Image.Image:
        """Return image `index` as upright 8-bit RGB, by the rules of `read_image`. Raises UnreadableImageError."""
        with image_errors(lambda: self.image_name(index)):
            return decode(self.read(index), self.reading, damaged=damaged)

    def find_range(self) -> FoundRange | None:
        """Find the range of images with more than 8 bits a value; None if there are none."""
        if isinstance(self.source, Arrays):
            return None

        def opened(index: int) -> Image.Image | None:
            try:
                encoded = self.read(index)
                return open_encoded(encoded) if isinstance(encoded, bytes) else None
            except Exception:  # whoever reads it reports it
                return None

        return find_range(map(self.image_name, range(len(self))), opened)

    def image_name(self, index: int) -> str:
        """Return the name of image `index`, for messages and for rules that depend on it."""
        return self.source.name(self._member(index))

    def label_text(self, index: int) -> str:
        """Return the class number of image `index`, or the numbers of its labels."""
        if self.multilabel:
            return " ".join(map(str, np.flatnonzero(self.labels[index])))
        return str(self.labels[index])

    def read(self, index: int) -> Encoded:
        """Return image `index` before it is decoded. Raises OSError."""
        return self.source.read(self._member(index))

    def subset(self, indices: NDArray[np.int64], name: str | None = None) -> Split:
        """Return the images of these numbers in this order.

        Args:
            indices: int64[M].
            name: Of the new split; this one's by default.
        """
        members = indices if self.members is None else self.members[indices]
        return msgspec.structs.replace(self, name=name or self.name, labels=self.labels[indices], members=members)

    def joined(self, other: Split) -> Split:
        """Return these images and then those of another split of the same classes, under this one's name."""
        members = [
            np.arange(len(split), dtype=np.int64) if split.members is None else split.members for split in (self, other)
        ]
        return msgspec.structs.replace(
            self,
            labels=np.concatenate([self.labels, other.labels]),
            source=Joined(self.source, other.source),
            members=np.concatenate([members[0], members[1] + len(self.source)]),
        )

    def counts(self) -> NDArray[np.int64]:
        """Return int64[classes]: the number of images of each class, or with each label."""
        if self.multilabel:
            counts: NDArray[np.int64] = self.labels.sum(axis=0, dtype=np.int64)
            return counts
        return np.bincount(self.labels[self.labels != UNKNOWN], minlength=len(self.classes))

    def with_several_labels(self) -> Split:
        """Return the same images as images of several labels: those of one class have one label.

        Raises:
            CompoundNetError: the class of an image is not published.
        """
        if self.multilabel:
            return self
        if (self.labels == UNKNOWN).any():
            raise CompoundNetError(f"the classes of the {self.name} images are not published")
        labels = np.zeros((len(self), len(self.classes)), np.bool_)
        labels[np.arange(len(self)), self.labels] = True
        return msgspec.structs.replace(self, labels=labels)

    def _member(self, index: int) -> int:
        return index if self.members is None else int(self.members[index])


class Understanding(msgspec.Struct, frozen=True):
    """How a folder or list was read: what `open_dataset` understood of it.

    Attributes:
        layout: CLASS, SPLIT/CLASS or CLASS/SPLIT of folders; "list", or "SPLIT/list".
        folder: Where the names of images start.
        splits: The folder of each split, or its name in the list.
        columns: Of a list (of lists, that of the training images): the headings of image, label and split; a number
            where there are no headings.
        unused_columns: Of a list: the other headings.
        encoding: Of a list in text.
        delimiter: Of a list in text: the name of what separates its columns.
        left_out: What is not part of the data, by reason.
    """

    layout: str
    folder: str
    splits: dict[str, str] = {}
    columns: dict[str, str] = {}
    unused_columns: tuple[str, ...] = ()
    encoding: str | None = None
    delimiter: str | None = None
    left_out: tuple[LeftOut, ...] = ()

    def text(self) -> str:
        """Return the layout in words."""
        if not self.columns:
            return {
                "CLASS": "one folder of images per class",
                "SPLIT/CLASS": "class folders in a folder per split",
                "CLASS/SPLIT": "a folder per split in each class folder",
            }[self.layout]
        names = {"image": "images", "class": "classes", "split": "splits"}
        columns = ", ".join(f"{names[role]} in {heading!r}" for role, heading in self.columns.items())
        unused = f", not used: {', '.join(map(repr, self.unused_columns))}" if self.unused_columns else ""
        how = f" in {self.encoding}, separated by {self.delimiter}" if self.encoding else ""
        if self.layout == "SPLIT/list":
            return f"lists{how}, one in the folder of each split ({columns}{unused})"
        return f"a list{how} ({columns}{unused})"


class Dataset(msgspec.Struct, frozen=True, eq=False):
    """The splits of a data set; `open_dataset` returns one.

    Attributes:
        name: The name in the catalogue, or that of the folder.
        splits: By name: train, val and test, or those of them that exist.
        metric: The metric that the paper reports on it.
        notes: Remarks for the user about how it was opened: a split made by seed, or missing images.
        understanding: How a folder or list was read; None for other data.
    """

    name: str
    splits: dict[str, Split]
    metric: Metric = "top1"
    notes: tuple[str, ...] = ()
    understanding: Understanding | None = None

    def __repr__(self) -> str:
        splits = ", ".join(f"{len(split):,} {name}" for name, split in self.splits.items())
        return f"<Dataset {self.name!r}: {splits} images of {len(self.classes):,} classes, metric {self.metric}>"

    def reading(self, *, value_range: Range | None = None, allow_truncated: bool = False) -> tuple[Reading, str | None]:
        """Return how to read the images, and a note for the user if the range of their values had to be found.

        Args:
            value_range: The values that become 0 and 255 in images with more than 8 bits a value; None finds them,
                among the training images if there are any.
            allow_truncated: Whether truncated images are used as far as they can be decoded.
        """
        if value_range is not None:
            return Reading(value_range, allow_truncated), None
        found = next(iter(self.splits.values())).find_range()
        if found is None:
            return Reading(None, allow_truncated), None
        return Reading((found.low, found.high), allow_truncated), str(found)

    def read_with(self, reading: Reading) -> Dataset:
        """Return the same data set, whose images are read in another way."""
        splits = {name: msgspec.structs.replace(split, reading=reading) for name, split in self.splits.items()}
        return msgspec.structs.replace(self, splits=splits)

    def with_range(self, value_range: Range | None) -> tuple[Dataset, str | None]:
        """Return the same data set, read with one range for images with more than 8 bits a value, and a note for the
        user if the range had to be found.

        Args:
            value_range: That of a model. The range that the data set is read with already goes before it, and one that
                is found (`reading`) comes last.
        """
        now = next(iter(self.splits.values())).reading
        reading, found = self.reading(value_range=now.range or value_range, allow_truncated=now.allow_truncated)
        return self.read_with(reading), found

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label; the same in every split."""
        return next(iter(self.splits.values())).classes

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels, or none; the same in every split."""
        return next(iter(self.splits.values())).multilabel

    @property
    def evaluation(self) -> str:
        """The name of the split on which results are reported: test if there is one, otherwise val."""
        return next((name for name in ("test", "val") if name in self.splits), next(iter(self.splits)))

    def text(self) -> str:
        """Return in one paragraph what was understood of the data: layout, classes and splits, what was assumed, and
        what was left out."""
        layout = f"{self.understanding.text()}; " if self.understanding is not None else ""
        folders = self.understanding.splits if self.understanding is not None else {}
        words = {"train": "training", "val": "validation", "all": ""}
        splits = ", ".join(
            f"{len(split):,} {words.get(name, name)} image{'s' * (len(split) != 1)}".replace("  ", " ")
            + (f" ({folders[name]})" if folders.get(name, name) != name else "")
            for name, split in self.splits.items()
        )
        classes = f"{len(self.classes):,} class{'es' * (len(self.classes) != 1)}"
        if self.multilabel:
            every = np.concatenate([split.labels.sum(axis=1) for split in self.splits.values()])
            without = int((every == 0).sum())
            classes = f"{len(self.classes):,} label{'s' * (len(self.classes) != 1)}"
            classes += f", {every.mean():.2g} an image on average"
            classes += f", {without:,} image{'s' * (without != 1)} without any" if without else ""
        parts = [f"{self.name}: {layout}{classes} ({shortened(self.classes, 10)}); {splits}", *self.notes]
        if self.understanding is not None and self.understanding.left_out:
            parts.append(f"left out: {', '.join(out.text() for out in self.understanding.left_out)}")
        return ". ".join(part[0].upper() + part[1:] if place else part for place, part in enumerate(parts)) + "."

    def facts(self) -> dict[str, object]:
        """Return what `text` says as plain values for a JSON document."""
        splits = {
            name: {"count": len(split), "per_class": split.counts().tolist()} for name, split in self.splits.items()
        }
        return {
            "name": self.name,
            "metric": self.metric,
            "classes": list(self.classes),
            "several_labels": self.multilabel,
            "splits": splits,
            "notes": list(self.notes),
            "understanding": msgspec.to_builtins(self.understanding),
        }

    def split(self, name: str) -> Split:
        """Return a split by name, or raise a CompoundNetError that lists those that exist."""
        if name not in self.splits:
            raise CompoundNetError(f"{self.name} has no split named {name!r}{did_you_mean(name, self.splits)}")
        return self.splits[name]
