"""A scaled network as the page shows it: its stages and cost beside the baseline's, and the command that scales it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from compoundnet import arch, base
from compoundnet.arch import Cost, Network, StageCost
from compoundnet.base import CompoundNetError, parse_count


class ScaledNetwork(msgspec.Struct, frozen=True):
    """A network scaled by phi, and its baseline.

    Attributes:
        name: The network's name.
        base: The baseline's name.
        rule: The name of the rule that scales it.
        phi: The rule's exponent, the compound coefficient in the paper.
        depth: Multiplier of the repeats.
        width: Multiplier of the channels.
        factor: Multiplier of the input side.
        resolution: Input side, pixels.
        cost: The network's cost.
        weights_bytes: The parameters as float32.
        base_resolution: The input side of the baseline, pixels.
        base_cost: The baseline's cost.
        base_weights_bytes: The baseline's parameters as float32.
        stages: The network's stages.
        command: The command line that does the same.
        binding: The bound that rules out a larger network; None if phi was given.
        note: One line about a rule that was chosen by itself; empty if there is nothing to say.
        alternatives: The largest networks within the same budget that are scaled in other ways (None if impossible);
            None if phi was given.
    """

    name: str
    base: str
    rule: str
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
    note: str = ""
    alternatives: dict[str, dict[str, Any] | None] | None = None


def baselines() -> dict[str, tuple[str, ...]]:
    """Return the names of the catalogue's networks, by family."""
    return {family: tuple(members) for family, members in arch.families().items()}


def rules() -> dict[str, str]:
    """Return what each rule of scaling does, by its name."""
    return {name: rule.about for name, rule in arch.known_rules().items()}


def scaled(base: str, phi: str, rule: str | None) -> ScaledNetwork:
    """Scale a baseline by `phi`, a number as text, and a rule; compound (Eq. 3) if it is None.

    Raises:
        CompoundNetError: there is no such baseline or rule, or `phi` is not a number or scales too far.
    """
    network, chosen = _baseline(base), arch.find_rule(rule or "compound")
    try:
        exponent = float(phi)
    except ValueError as error:
        raise CompoundNetError(f"phi must be a number, got {phi!r}") from error
    words = ["scale", base, "--phi", phi.strip(), *_option(rule)]
    return _shown(network, arch.scale_by(network, chosen, exponent), chosen, exponent, words)


def planned(base: str, bounds: Mapping[str, str], rule: str | None) -> ScaledNetwork:
    """Find the largest network within `max_macs` and `max_params`, one or both, as text such as `1.8G` or `12M`.

    Args:
        base: The baseline.
        bounds: The bounds by name.
        rule: The rule of scaling; None as in `arch.plan`.

    Raises:
        CompoundNetError: no network fits, both bounds are missing, or one is not a number.
    """
    network = _baseline(base)
    limits = {name: parse_count(bounds[name]) for name in ("max_macs", "max_params") if bounds.get(name)}
    if not limits:
        raise CompoundNetError("tick at least one bound: multiply-adds or parameters")
    found = arch.plan(network, max_macs=limits.get("max_macs"), max_params=limits.get("max_params"), rule=rule)
    options = [f"--{name.replace('_', '-')}={bounds[name].strip()}" for name in limits]
    shown = _shown(
        network, found.network, arch.find_rule(found.rule), found.phi, ["plan", base, *options, *_option(rule)]
    )
    note = f"{base} itself exceeds the budget, so the rule tiny (TinyNet's) scales it down."
    return msgspec.structs.replace(
        shown,
        binding=found.binding,
        alternatives=found.facts()["alternatives"],
        note=note if rule is None and found.rule == "tiny" else "",
    )


def _option(rule: str | None) -> list[str]:
    return [] if rule is None else [f"--rule={rule}"]


def _baseline(name: str) -> Network:
    """A network of the catalogue. `arch.network` is not used, because it also opens files, which the page must not
    do."""
    known = {key: network for members in arch.families().values() for key, network in members.items()}
    if name not in known:
        raise CompoundNetError(f"there is no network named {name!r}{base.did_you_mean(name, known)}")
    return known[name]


def _shown(base: Network, network: Network, rule: arch.ScalingRule, phi: float, words: list[str]) -> ScaledNetwork:
    depth, width, factor = rule.multipliers(phi)
    cost, base_cost = arch.cost(network), arch.cost(base)
    return ScaledNetwork(
        name=network.name,
        base=base.name,
        rule=rule.name,
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
