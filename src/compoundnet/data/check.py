"""The check of a data set: what is wrong with its images, and what training does about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from compoundnet.base import Progress, ignore
from compoundnet.data.classes import UNEQUAL
from compoundnet.data.copies import Copies, exact_copies, near_copies
from compoundnet.data.dataset import UNKNOWN, Dataset, Split
from compoundnet.data.image_facts import BadImage, ImageFacts, image_facts
from compoundnet.data.image_sizes import choose_fit, square_share
from compoundnet.data.names import some

# Training stops; training goes on, but its result may not be what is wanted; good to know.
Level = Literal["stop", "warning", "note"]

_EXAMPLES = 20
# `max_bad` of the included recipes: so many unreadable images of a split are left out of a training.
_MOST_BAD = 10
# A class of fewer training images than this is learned poorly, and its few held-out images do not show how poorly.
_FEW = 10
# The longer side is this many times the shorter: the centre square shows at most half of the image.
_LONG = 2
# What PIL's modes are to a reader.
_MODES = {
    "RGB": "colour", "L": "grey", "RGBA": "colour with transparency", "LA": "grey with transparency",
    "P": "palette", "PA": "palette with transparency", "1": "black and white", "CMYK": "CMYK (print colours)",
    "I": "more than 8 bits a value", "F": "floating point", "YCbCr": "YCbCr", "LAB": "Lab", "HSV": "HSV",
    "RGBX": "colour",
}  # fmt: skip


class Finding(msgspec.Struct, frozen=True):
    """Something about the data that matters to training.

    Attributes:
        kind: The kind of finding, for programs.
        level: Whether training stops.
        count: The number of images, classes or folders.
        text: What was found.
        training: What training does about it, and what to do.
        examples: The first of them: names of images, and of copies all names of a group.
        images: (split, number in it) of the images in `examples` that can be shown.
    """

    kind: str
    level: Level
    count: int
    text: str
    training: str = ""
    examples: tuple[tuple[str, ...], ...] = ()
    images: tuple[tuple[tuple[str, int], ...], ...] = ()


class Sizes(msgspec.Struct, frozen=True):
    """The sizes of all images that can be read, in pixels: least, median and largest of each.

    Attributes:
        width: Of the upright images.
        height: Of the upright images.
        aspect: Width / height.
    """

    width: tuple[int, int, int]
    height: tuple[int, int, int]
    aspect: tuple[float, float, float]


class DataCheck(msgspec.Struct, frozen=True, eq=False):
    """The result of `check_data`.

    Attributes:
        dataset: The data.
        facts: The facts on the images of each split.
        sizes: None if no image can be read.
        formats: The number of images of each format.
        modes: The number of images of each colour mode, in words.
        findings: What was found, the worst first.
        near: Whether near copies were looked for.
    """

    dataset: Dataset
    facts: dict[str, ImageFacts]
    sizes: Sizes | None
    formats: dict[str, int]
    modes: dict[str, int]
    findings: tuple[Finding, ...]
    near: bool

    @property
    def trains(self) -> bool:
        """Whether training by an included recipe would run to its end and measure its model."""
        return all(finding.level != "stop" for finding in self.findings)

    def fields(self) -> dict[str, Any]:
        """Return everything but the facts on single images as plain values for a JSON document."""
        return self.dataset.facts() | {
            "images": sum(map(len, self.dataset.splits.values())),
            "sizes": msgspec.to_builtins(self.sizes),
            "formats": self.formats,
            "modes": self.modes,
            "near": self.near,
            "trains": self.trains,
            "findings": [
                {name: value for name, value in msgspec.to_builtins(finding).items() if name != "images"}
                for finding in self.findings
            ],
        }

    def sizes_text(self) -> str:
        """Return sizes, formats and modes in one line."""
        if self.sizes is None:
            return "no image can be read"
        (wide, _, widest), (high, _, highest) = self.sizes.width, self.sizes.height
        if (wide, high) == (widest, highest):
            size = f"all {wide:,} x {high:,} px"
        else:
            width, height, aspect = self.sizes.width, self.sizes.height, self.sizes.aspect
            size = (
                f"width {width[0]:,} to {width[2]:,} px (median {width[1]:,}), height {height[0]:,} to {height[2]:,} px"
                f" (median {height[1]:,}), width / height {aspect[0]:.2f} to {aspect[2]:.2f} (median {aspect[1]:.2f})"
            )
        return f"{size}; {_counted(self.formats)}; {_counted(self.modes)}"


def check_data(
    dataset: Dataset, *, near: bool = False, workers: int | None = None, progress: Progress = ignore
) -> DataCheck:
    """Read and decode every image of a data set, and compare them with each other.

    Args:
        dataset: The data; damaged images are accepted if its images are read so (`Dataset.read_with`).
        near: Whether to look for near copies too: the same photo resized, compressed again or brightened.
        workers: Threads, or for many images processes, that decode; one per core by default.
        progress: Called with the number of images that were just finished.
    """
    facts = image_facts(dataset, near=near, workers=workers, progress=progress)
    exact = exact_copies(facts)
    findings = [
        *_unreadable(facts),
        *_copies(dataset, exact, near=False),
        *(_copies(dataset, near_copies(facts, exact), near=True) if near else ()),
        *_classes(dataset),
        *_shapes(dataset, facts),
        *_modes(facts),
        *_left_out(dataset),
    ]
    levels: Sequence[Level] = ("stop", "warning", "note")
    return DataCheck(
        dataset=dataset,
        facts=facts,
        sizes=_sizes(facts),
        formats=_sum(((form, count) for (_, form), count in _kinds(facts))),
        modes=_sum(((_mode(mode), count) for (mode, _), count in _kinds(facts))),
        findings=tuple(sorted(findings, key=lambda finding: levels.index(finding.level))),
        near=near,
    )


def _unreadable(facts: Mapping[str, ImageFacts]) -> Iterable[Finding]:
    bad = [image for of in facts.values() for image in of.bad]
    too_many = any(len(of.bad) > _MOST_BAD for of in facts.values())
    training = (
        f"training stops if more than {_MOST_BAD} images of an epoch or of those held out are unreadable, and does not"
        " measure its model if more test images are: repair or remove them, or allow for N with --set max_bad=N"
        if too_many
        else f"training leaves out up to {_MOST_BAD} unreadable images of a split and names them, and evaluate stops at"
        " one: repair or remove them"
    )
    for kind, name, one, many in (
        ("empty", "empty files", "has no bytes", "have no bytes"),
        ("damaged", "damaged images", "is truncated or damaged", "are truncated or damaged"),
        ("unreadable", "unreadable images", "cannot be read", "cannot be read"),
    ):
        of_kind = [image for image in bad if image.kind == kind]
        if of_kind:
            yield Finding(
                name,
                "stop" if too_many else "warning",
                len(of_kind),
                f"{_images(len(of_kind))} {one if len(of_kind) == 1 else many}",
                training + ("; --allow-truncated takes damaged ones as far as they go" if kind == "damaged" else ""),
                _bad_examples(of_kind),
            )
    damaged = [image for of in facts.values() for image in of.damaged]
    if damaged:
        yield Finding(
            "damaged images", "warning", len(damaged),
            f"{_images(len(damaged))} {'is' if len(damaged) == 1 else 'are'} truncated or damaged",
            "taken as far as they can be decoded, as --allow-truncated says; the rest of them is grey",
            _bad_examples(damaged),
        )  # fmt: skip


def _bad_examples(images: Sequence[BadImage]) -> tuple[tuple[str, ...], ...]:
    return tuple((f"{image.split}/{image.name}: {image.reason}",) for image in images[:_EXAMPLES])


def _copies(dataset: Dataset, groups: Sequence[Copies], *, near: bool) -> Iterable[Finding]:
    """Each group once: by the worst that it does."""
    two_classes, leaks, others = list[Copies](), list[Copies](), list[Copies]()
    for group in groups:
        (two_classes if group.disagrees(dataset) else leaks if len(group.splits) > 1 else others).append(group)
    word = "near copies" if near else "copies"
    held = " and ".join(name for name in dataset.splits if name != "train") or "test"
    for kind, chosen, place, training in (
        ("in two classes", two_classes, "with different classes or labels",
         "the model is taught two answers for one image: keep one"),
        ("in two splits", leaks, "in two splits or more",
         f"what is measured on {held} counts images that were trained on: remove them from one split"),
        ("", others, "in one class and split", "each counts as an image of its own"),
    ):  # fmt: skip
        if chosen:
            count = sum(len(group.images) for group in chosen)
            level: Level = "warning" if kind else "note"
            yield Finding(
                f"{word} {kind}".strip(), level, count,
                f"{_images(count)} {'is' if count == 1 else 'are'} {word} of each other {place}"
                f" ({len(chosen):,} group{'s' * (len(chosen) != 1)})",
                training, tuple(_shown(dataset, group) for group in chosen[:_EXAMPLES]),
                tuple(group.images[:_EXAMPLES] for group in chosen[:_EXAMPLES]),
            )  # fmt: skip


def _shown(dataset: Dataset, group: Copies) -> tuple[str, ...]:
    """Return SPLIT/NAME of each copy, with the class where the name does not begin with it."""
    return tuple(_named(dataset.splits[split], index) for split, index in group.images[:_EXAMPLES])


def _named(split: Split, index: int) -> str:
    shown = f"{split.name}/{split.image_name(index)}"
    if split.multilabel:
        labels = [split.classes[label] for label in np.flatnonzero(split.labels[index])]
        return f"{shown} ({', '.join(labels) or 'no label'})"
    label = int(split.labels[index])
    return (
        shown if label == UNKNOWN or split.classes[label] in shown.split("/") else f"{shown} ({split.classes[label]})"
    )


def _classes(dataset: Dataset) -> Iterable[Finding]:
    if "train" not in dataset.splits:
        yield Finding(
            "no training images",
            "stop",
            0,
            "there are no training images",
            "this data can be evaluated on, not trained on",
        )
        return
    split = dataset.splits["train"]
    counts = split.counts()
    few = [split.classes[label] for label in np.flatnonzero(counts < _FEW)]
    if few:
        yield Finding(
            "small classes", "warning", len(few),
            f"{len(few):,} class{'es have' if len(few) != 1 else ' has'} fewer than {_FEW} training images:"
            f" {some(few)}",
            "small classes are learned poorly, and a few held-out images cannot show how poorly",
            tuple((f"{split.classes[label]}: {counts[label]:,}",) for label in np.argsort(counts)[:_EXAMPLES]
                  if counts[label] < _FEW),
        )  # fmt: skip
    least, most = int(counts.argmin()), int(counts.argmax())
    if not split.multilabel and counts[most] >= UNEQUAL * max(1, counts[least]):
        yield Finding(
            "unequal classes", "warning", len(counts),
            f"{split.classes[most]!r} has {counts[most]:,} training images, {split.classes[least]!r} {counts[least]:,}",
            "fine-tuning makes up for it, other recipes with --set balance=loss; see the mean per class beside top-1",
        )  # fmt: skip


_FIT_ADVICE = {
    "crop": "training takes the centre squares all the same: most images lose little (--set fit=pad loses nothing)",
    "pad": "training pads the images to squares, because their shapes differ (fit pad)",
    "squash": "training squashes the images to squares, because they have one shape (fit squash)",
}


def _shapes(dataset: Dataset, facts: Mapping[str, ImageFacts]) -> Iterable[Finding]:
    of = facts.get("train")
    if of is None:
        return
    long = np.maximum(of.width, of.height) >= _LONG * np.maximum(np.minimum(of.width, of.height), 1)
    count = int(long.sum())
    sizes = np.stack([of.width, of.height], axis=1)[of.width > 0].astype(np.int64)
    fit = choose_fit(sizes)
    if count or fit != "crop":
        total = int((of.width > 0).sum())
        split = dataset.splits["train"]
        yield Finding(
            "long images", "warning" if count > total / 10 else "note", count,
            f"{count:,} of {total:,} training images are at least {_LONG} times as long as wide or as wide as long; the"
            f" centre square shows {square_share(sizes):.0%} of an image on average",
            _FIT_ADVICE[fit],
            tuple((f"{_named(split, index)}: {of.width[index]:,} x {of.height[index]:,} px",)
                  for index in np.flatnonzero(long)[:_EXAMPLES].tolist()),
            tuple((("train", index),) for index in np.flatnonzero(long)[:_EXAMPLES].tolist()),
        )  # fmt: skip


def _modes(facts: Mapping[str, ImageFacts]) -> Iterable[Finding]:
    counts = _sum(((_mode(mode), count) for (mode, _), count in _kinds(facts)))
    if len(counts) > 1:
        yield Finding(
            "modes", "note", sum(counts.values()), f"the images are {_counted(counts)}",
            "all are converted to 8-bit RGB; transparency is dropped",
        )  # fmt: skip
    animated = sum(count for (_, form), count in _kinds(facts) if "animated" in form)
    if animated:
        yield Finding(
            "animated", "note", animated, f"{_images(animated)} with several frames", "the first frame is taken"
        )


def _left_out(dataset: Dataset) -> Iterable[Finding]:
    if dataset.understanding is None:
        return
    for out in dataset.understanding.left_out:
        meant = out.reason in ("hidden with images", "beside splits", "no class folders", "cannot be read here",
                               "outside classes", "hidden images", "not downloaded", "no suffix")  # fmt: skip
        level: Level = "warning" if meant else "note"
        yield Finding(f"left out: {out.reason}", level, out.count, f"left out: {out.text()}")


def _kinds(facts: Mapping[str, ImageFacts]) -> list[tuple[tuple[str, str], int]]:
    """Return how many images have each mode and format."""
    return [(kind, int((of.kind == place).sum())) for of in facts.values() for place, kind in enumerate(of.kinds)]


def _mode(mode: str) -> str:
    return _MODES["I"] if mode.startswith("I;16") else _MODES.get(mode, mode)


def _sum(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    summed: Counter[str] = Counter()
    for name, count in pairs:
        summed[name] += count
    return dict(summed.most_common())


def _sizes(facts: Mapping[str, ImageFacts]) -> Sizes | None:
    width = np.concatenate([of.width[of.width > 0] for of in facts.values()])
    height = np.concatenate([of.height[of.width > 0] for of in facts.values()])
    if not len(width):
        return None
    aspect = width / height
    middle = [sorted(values.tolist())[len(values) // 2] for values in (width, height, aspect)]
    return Sizes(
        (int(width.min()), middle[0], int(width.max())),
        (int(height.min()), middle[1], int(height.max())),
        (float(aspect.min()), middle[2], float(aspect.max())),
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"
