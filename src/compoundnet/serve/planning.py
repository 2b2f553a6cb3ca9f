"""What the page shows of a scaled network: its stages and cost beside the baseline's, and the command for the same."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import msgspec

from compoundnet import arch, base
from compoundnet.arch import Alternative, Cost, Network, StageCost
from compoundnet.base import CompoundNetError, parse_count


class Scaled(msgspec.Struct, frozen=True):
    """A network scaled by phi, and its baseline.

    depth, width, factor   multipliers of the repeats, the channels and the input side
    weights_bytes          the parameters as float32
    binding, alternatives  of a plan: the figure that stops a larger network, and the largest networks of the same
                           budget that scale one dimension alone (None where it cannot); None where phi was given
    command                the command line that does the same
    """

    name: str
    base: str
    phi: float
    depth: float
    width: float
    factor: float
    resolution: int
    cost: Cost
    weights_bytes: int
    base_resolution: int
    base_cost: Cost
    base_weights_bytes: int
    stages: tuple[StageCost, ...]
    command: str
    binding: str | None = None
    alternatives: dict[str, Alternative | None] | None = None


def baselines() -> dict[str, tuple[str, ...]]:
    """Names of the catalogue's networks, by family."""
    return {family: tuple(members) for family, members in arch.families().items()}


def scaled(base: str, phi: str) -> Scaled:
    """The baseline scaled by `phi`, a number as text (Eq. 3). Raises CompoundNetError where it is not, or too far."""
    network = _baseline(base)
    try:
        exponent = float(phi)
    except ValueError as error:
        raise CompoundNetError(f"phi must be a number, got {phi!r}") from error
    return _shown(network, arch.compound(network, exponent), exponent, ["scale", base, "--phi", phi.strip()])


def planned(base: str, bounds: Mapping[str, str]) -> Scaled:
    """The largest network within `max_macs` and `max_params`, one or both, as people write them: `1.8G`, `12M`.

    Raises CompoundNetError where no network fits, or a bound is missing or not a number.
    """
    network = _baseline(base)
    limits = {name: parse_count(bounds[name]) for name in ("max_macs", "max_params") if bounds.get(name)}
    if not limits:
        raise CompoundNetError("tick at least one bound: multiply-adds or parameters")
    found = arch.plan(network, max_macs=limits.get("max_macs"), max_params=limits.get("max_params"))
    options = [f"--{name.replace('_', '-')}={bounds[name].strip()}" for name in limits]
    shown = _shown(network, found.network, found.phi, ["plan", base, *options])
    return msgspec.structs.replace(shown, binding=found.binding, alternatives=found.alternatives)


def _baseline(name: str) -> Network:
    """A network of the catalogue. Not `arch.network`, which opens files too: a page has no business with those."""
    known = {key: network for members in arch.families().values() for key, network in members.items()}
    if name not in known:
        raise CompoundNetError(f"there is no network named {name!r}{base.did_you_mean(name, known)}")
    return known[name]


def _shown(base: Network, network: Network, phi: float, words: list[str]) -> Scaled:
    depth, width, factor = arch.Coefficients().multipliers(phi)
    cost, base_cost = arch.cost(network), arch.cost(base)
    return Scaled(
        name=network.name,
        base=base.name,
        phi=phi,
        depth=depth,
        width=width,
        factor=factor,
        resolution=network.resolution,
        cost=cost,
        weights_bytes=4 * cost.params,
        base_resolution=base.resolution,
        base_cost=base_cost,
        base_weights_bytes=4 * base_cost.params,
        stages=arch.stage_costs(network),
        command=shlex.join(["compoundnet", *words]),
    )
