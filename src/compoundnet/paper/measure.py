"""Size and cost of any network that is known here: of the catalogue, of a TOML file, of the comparison networks."""

from __future__ import annotations

import msgspec

from compoundnet import arch, base, zoo


class Measured(msgspec.Struct, frozen=True):
    """`resolution` in pixels; `macs` multiply-adds for one image. `cost` is None for a comparison network, of which
    parameters and multiply-adds are all that is known without building it."""

    name: str
    resolution: int
    params: int
    macs: int
    cost: arch.Cost | None = None


def measure(name: str) -> Measured:
    """The network of that name or TOML file. Raises CompoundNetError with the nearest names. Never imports torch."""
    wanted = arch.canonical(name)
    comparison = zoo.entries()
    if wanted in comparison:
        found = comparison[wanted]
        return Measured(found.name, found.resolution, found.params, found.macs)
    catalogue = {key for members in arch.families().values() for key in members}
    is_file = name.endswith(".toml") or "/" in name or "\\" in name
    if wanted not in catalogue and not is_file:
        nearest = base.did_you_mean(wanted, [*catalogue, *comparison])
        raise base.CompoundNetError(f"there is no network named {name!r}{nearest}")
    return measure_network(arch.network(name))


def measure_network(network: arch.Network) -> Measured:
    """A network value, in closed form."""
    cost = arch.cost(network)
    return Measured(network.name, network.resolution, cost.params, cost.macs, cost)
