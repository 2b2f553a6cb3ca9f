"""Lookup of any NETWORK by name or file, whether this package or another library builds it, and of its cost."""

from __future__ import annotations

import os

import msgspec

from compoundnet import arch
from compoundnet.arch.catalogue import means_file
from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.zoo.catalogue import ZooNetwork, entries


class NetworkSize(msgspec.Struct, frozen=True):
    """Size and cost of a network at its default resolution.

    Attributes:
        name: The name of the network.
        resolution: Side of the square input, pixels.
        params: Trainable parameters.
        macs: Multiply-adds for one image.
        cost: The full cost of a network of stages; None for a comparison network, of which only parameters and
            multiply-adds are known without building it.
    """

    name: str
    resolution: int
    params: int
    macs: int
    cost: arch.Cost | None = None


def find_network(name: str | os.PathLike[str]) -> arch.Network | ZooNetwork:
    """Find a network by name or TOML file, without importing torch.

    Args:
        name: Of the catalogue (`compoundnet list`) or of a comparison network of Table 2, capitals and underscores
            accepted; or a TOML file. A name that ends in `.toml` or holds a path separator is a file.

    Raises:
        CompoundNetError: there is no such network, with the nearest names; or the file cannot be read.
    """
    if means_file(name):
        return arch.Network.load(name)
    wanted = arch.canonical(str(name))
    known: dict[str, arch.Network | ZooNetwork] = {**arch.networks(), **entries()}
    if wanted not in known:
        raise CompoundNetError(f"there is no network named {str(name)!r}{did_you_mean(wanted, known)}")
    return known[wanted]


def find_scalable(name: str | os.PathLike[str]) -> arch.Network:
    """Find a network that consists of stages: only those can be scaled, built by `nn.build`, trained and searched.

    Raises:
        CompoundNetError: as `find_network`; also for a comparison network.
    """
    found = find_network(name)
    if isinstance(found, ZooNetwork):
        raise CompoundNetError(
            f"{found.name} is a comparison network that {found.source} builds: it is not made of stages that could be"
            " described, scaled or trained here; `compare` and `benchmark` take it"
        )
    return found


def network_size(network: str | os.PathLike[str] | arch.Network | ZooNetwork) -> NetworkSize:
    """Return size and cost of a network; a name or file is looked up as in `find_network`.
    Does not import torch."""
    found = network if isinstance(network, arch.Network | ZooNetwork) else find_network(network)
    if isinstance(found, ZooNetwork):
        return NetworkSize(found.name, found.resolution, found.params, found.macs)
    cost = arch.cost(found)
    return NetworkSize(found.name, found.resolution, cost.params, cost.macs, cost)
