"""The networks that are available by name: one TOML file for each family, in `baselines/`.

A file holds whole networks (the baselines) and variants (a baseline and its published multipliers). A new family only
needs a new file.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import resources

import msgspec

from compoundnet.arch.scaling import scale
from compoundnet.arch.spec import Network, _Part
from compoundnet.base.errors import CompoundNetError, did_you_mean


class Variant(_Part, frozen=True):
    """A network defined by its published multipliers.

    Attributes:
        name: The name of the network.
        base: The network of the same file, listed or not, from which it is scaled.
        depth: Multiplier.
        width: Multiplier.
        resolution: In pixels; None for that of the base.
        dropout: Probability; None for that of the base.
    """

    name: str
    base: str
    depth: float = 1.0
    width: float = 1.0
    resolution: int | None = None
    dropout: float | None = None


class Repeated(_Part, frozen=True):
    """A network that equals its base except for the repeats of its stages (ResNet-101 of ResNet-50)."""

    name: str
    base: str
    repeats: tuple[int, ...]


class Family(_Part, frozen=True):
    """One file of `baselines/`.

    Attributes:
        family: The name of the family.
        source: The source of the figures.
        networks: The baselines, completely defined.
        bases: Networks from which variants are scaled, but which are not of the family: TinyNet's is EfficientNet-B0.
        repeated: Networks that differ from a baseline in repeats only.
        variants: Networks that are scaled from a baseline.
    """

    family: str
    source: str
    networks: tuple[Network, ...] = ()
    bases: tuple[Network, ...] = ()
    repeated: tuple[Repeated, ...] = ()
    variants: tuple[Variant, ...] = ()


@cache
def families() -> dict[str, dict[str, Network]]:
    """Return every network of the catalogue, by family and name."""
    files = resources.files("compoundnet.arch").joinpath("baselines").iterdir()
    found: dict[str, dict[str, Network]] = {}
    for file in sorted(files, key=lambda entry: entry.name.removesuffix(".toml")):
        family = msgspec.toml.decode(file.read_bytes(), type=Family)
        found[family.family] = _expand(family)
    return found


def networks() -> dict[str, Network]:
    """Return every network of the catalogue by name, family after family."""
    return {name: network for members in families().values() for name, network in members.items()}


def network(name: str | os.PathLike[str]) -> Network:
    """Return a network by name, or from a TOML file.

    Args:
        name: Underscores and capitals are accepted (`efficientnet_b0`, `EfficientNet-B0`). A name that ends in `.toml`
            or contains a path separator is a file.

    Raises:
        CompoundNetError: there is no such network, with the nearest names; or the file cannot be read.
    """
    if means_file(name):
        return Network.load(name)
    wanted, known = canonical(str(name)), networks()
    if wanted not in known:
        raise CompoundNetError(f"there is no network named {str(name)!r}{did_you_mean(wanted, known)}")
    return known[wanted]


def canonical(name: str) -> str:
    """Return a name in the form used by catalogues: lower case, words joined by hyphens."""
    return name.strip().lower().replace("_", "-")


def means_file(name: str | os.PathLike[str]) -> bool:
    """Return whether the text denotes a file rather than a name of the catalogue."""
    return not isinstance(name, str) or name.endswith(".toml") or "/" in name or "\\" in name


def _expand(family: Family) -> dict[str, Network]:
    """Return the networks of a family by name: each baseline, and after it those that are made of it."""
    members: dict[str, Network] = {}
    for base in (*family.bases, *family.networks):
        if base not in family.bases:
            members[base.name] = base
        for item in family.repeated:
            if item.base == base.name:
                members[item.name] = _repeated(base, item)
        for variant in family.variants:
            if variant.base == base.name:
                members[variant.name] = _varied(base, variant)
    return members


def _repeated(base: Network, item: Repeated) -> Network:
    stages = tuple(
        msgspec.structs.replace(stage, repeats=repeats)
        for stage, repeats in zip(base.stages, item.repeats, strict=True)
    )
    return base.replace(name=item.name, stages=stages)


def _varied(base: Network, variant: Variant) -> Network:
    resolution = variant.resolution or base.resolution
    scaled = scale(base, depth=variant.depth, width=variant.width, resolution=resolution, name=variant.name)
    return scaled if variant.dropout is None else scaled.replace(dropout=variant.dropout)
