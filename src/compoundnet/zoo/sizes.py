"""Size and cost of any network that is known here: of the catalogue, of a TOML file, of the comparison networks."""

from __future__ import annotations

import msgspec

from compoundnet import arch
from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.zoo.catalogue import entries


class NetworkSize(msgspec.Struct, frozen=True):
    """Size and cost of a network.

    Attributes:
        name: The network's name.
        resolution: Input side, pixels.
        params: Trainable parameters.
        macs: Multiply-adds of one image.
        cost: All that is known; None for a comparison network, which would have to be built.
    """

    name: str
    resolution: int
    params: int
    macs: int
    cost: arch.Cost | None = None


def network_size(name: str) -> NetworkSize:
    """Return the size of the network of that name or TOML file, without importing torch.

    Raises:
        CompoundNetError: there is no such network; the message names the nearest.
    """
    wanted = arch.canonical(name)
    comparison = entries()
    if wanted in comparison:
        found = comparison[wanted]
        return NetworkSize(found.name, found.resolution, found.params, found.macs)
    catalogue = {key for members in arch.families().values() for key in members}
    is_file = name.endswith(".toml") or "/" in name or "\\" in name
    if wanted not in catalogue and not is_file:
        raise CompoundNetError(f"there is no network named {name!r}{did_you_mean(wanted, [*catalogue, *comparison])}")
    return size_of(arch.network(name))


def size_of(network: arch.Network) -> NetworkSize:
    """Return the size of a network, in closed form."""
    cost = arch.cost(network)
    return NetworkSize(network.name, network.resolution, cost.params, cost.macs, cost)
