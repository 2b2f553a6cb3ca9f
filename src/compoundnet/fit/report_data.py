"""What the report of a fit says of the data: how many images each class has, and their sizes."""

from __future__ import annotations

import numpy as np

from compoundnet.data import Dataset, Split
from compoundnet.data.dataset import UNKNOWN
from compoundnet.data.image_sizes import SAMPLE, image_sizes

# Of more classes the table is left out, and so many of the smallest and of the largest are named.
_MOST, _NAMED = 20, 5
_WORDS = {"train": "training", "val": "validation"}


def counts_text(dataset: Dataset) -> str:
    """Return in words how many training images the classes have."""
    split = dataset.split("train")
    counts, word = split.counts(), "label" if split.multilabel else "class"
    order = np.argsort(counts, kind="stable")
    least, most = int(counts[order[0]]), int(counts[order[-1]])
    if least == most:
        return f"Each {word} has {_images(least)}."
    if len(counts) > _MOST:
        small, large = (
            ", ".join(f"{split.classes[place]} ({counts[place]:,})" for place in places)
            for places in (order[:_NAMED], order[::-1][:_NAMED])
        )
        middle = f"{np.median(counts):,.0f} in the median"
        return f"Training images: {middle}; the fewest have {small}; the most have {large}."
    smallest, largest = split.classes[order[0]], split.classes[order[-1]]
    return f"The smallest {word}, {smallest}, has {_images(least)}; the largest, {largest}, has {most:,}."


def counts_table(dataset: Dataset) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the headings and the rows of a table of the images of each class; no rows if the classes are many."""
    heading = "label" if dataset.multilabel else "class"
    known = {name: split for name, split in dataset.splits.items() if _is_known(split)}
    if len(dataset.classes) > _MOST:
        return [heading], []
    counts = [split.counts() for split in known.values()]
    rows = [(name, [f"{count[place]:,}" for count in counts]) for place, name in enumerate(dataset.classes)]
    return [heading, *(_WORDS.get(name, name) for name in known)], rows


def sizes_text(dataset: Dataset) -> str:
    """Return in words how large the training images are, by the headers of up to 500 of them."""
    split = dataset.split("train")
    sizes = image_sizes(split)
    if not len(sizes):
        return "No training image can be read."
    some = f" ({SAMPLE} evenly spaced training images were looked at)" if len(split) > SAMPLE else ""
    (wide, high), (widest, highest) = sizes.min(0).tolist(), sizes.max(0).tolist()
    if (wide, high) == (widest, highest):
        return f"All have {wide:,} x {high:,} px{some}."
    width, height = np.median(sizes, axis=0)
    return (
        f"They are {wide:,} to {widest:,} px wide (median {width:,.0f}) and {high:,} to {highest:,} px high (median"
        f" {height:,.0f}){some}."
    )


def _is_known(split: Split) -> bool:
    """Whether the classes of the images are published."""
    return split.multilabel or bool((split.labels != UNKNOWN).any())


def _images(count: int) -> str:
    return f"{count:,} training image{'s' * (count != 1)}"
