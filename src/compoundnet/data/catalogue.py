"""The data sets that are known by name: the paper's Table 6, ImageNet and digits, from catalogue.toml."""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from compoundnet.arch import canonical
from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.data.dataset import Metric, Split


class DatasetFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The published facts about a data set.

    Attributes:
        name: The name for `open_dataset`.
        title: The full name.
        classes: Number of classes.
        sizes: Number of images of each split.
        metric: The metric that the paper reports.
        source: Publication and address.
        licence: Of the images.
        get: How to obtain it.
        downloads: Whether `open_dataset` can download it.
        printed: Sizes that the paper prints differently.
    """

    name: str
    title: str
    classes: int
    sizes: dict[str, int]
    metric: Metric
    source: str
    licence: str
    get: str
    downloads: bool = False
    printed: dict[str, int] = {}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    datasets: tuple[DatasetFacts, ...]


@cache
def known_datasets() -> dict[str, DatasetFacts]:
    """Return every data set of the catalogue, by name."""
    content = resources.files("compoundnet.data").joinpath("catalogue.toml").read_bytes()
    return {facts.name: facts for facts in msgspec.toml.decode(content, type=_File).datasets}


def dataset_facts(name: str) -> DatasetFacts:
    """Return one entry by name, or raise a CompoundNetError with the closest names."""
    known, wanted = known_datasets(), canonical(name)
    if wanted not in known:
        raise CompoundNetError(f"there is no data set named {name!r}{did_you_mean(wanted, known)}")
    return known[wanted]


def check_sizes(facts: DatasetFacts, splits: dict[str, Split], where: str, allow_missing: bool) -> tuple[str, ...]:
    """Compare a data set with its published sizes.

    Args:
        facts: The published facts.
        splits: The splits that were found.
        where: The folder, for messages.
        allow_missing: Report differences instead of raising.

    Returns:
        Notes on the differences.

    Raises:
        CompoundNetError: there are differences, and `allow_missing` is false.
    """
    differing = []
    classes = len(next(iter(splits.values())).classes)
    if classes != facts.classes:
        differing.append(f"{classes:,} classes, published are {facts.classes:,}")
    for name, published in facts.sizes.items():
        found = len(splits[name]) if name in splits else 0
        if found != published:
            printed = f" (the paper prints {facts.printed[name]:,})" if name in facts.printed else ""
            differing.append(f"{found:,} {name} images, published are {published:,}{printed}")
    if not differing:
        return ()
    message = f"{where}: {facts.title} here has {'; '.join(differing)}"
    if not allow_missing:
        raise CompoundNetError(f"{message}. Complete it, or use it as it is with --allow-missing")
    return (message,)
