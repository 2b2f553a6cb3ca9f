"""The largest network that fits a budget (Eq. 2), scaled by a rule with one exponent (Eq. 3)."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from compoundnet.arch.bounds import Bound, bounds_of
from compoundnet.arch.costs import Cost, cost
from compoundnet.arch.latency import LatencyModel
from compoundnet.arch.memory import Precision
from compoundnet.arch.scaling import scale
from compoundnet.arch.scaling_rules import Coefficients, ScalingRule, find_rule, known_rules, scale_by
from compoundnet.arch.spec import MIN_RESOLUTION, Network
from compoundnet.base.errors import CompoundNetError

STEPS = 60
# The figures of a rule that only shrinks need not fall evenly, so its exponents are searched in steps of this size.
_PHI_STEP = 0.1
DIMENSIONS = ("depth", "width", "resolution")


class Alternative(msgspec.Struct, frozen=True):
    """The largest network of the same budget that is scaled in another way: one dimension alone, or another rule.

    Attributes:
        depth: Multiplier.
        width: Multiplier.
        resolution: Side of the input, pixels.
        params: Trainable parameters.
        macs: Multiply-adds for one image.
        activations: Outputs of convolutions and fully connected layers for one image, elements.
        memory_bytes: Peak memory of inference, or of a training step if the budget bounds that.
        sram_bytes: int8 activations on a microcontroller.
        flash_bytes: int8 weights on a microcontroller.
    """

    depth: float
    width: float
    resolution: int
    params: int
    macs: int
    activations: int
    memory_bytes: int
    sram_bytes: int
    flash_bytes: int


class Plan(msgspec.Struct, frozen=True):
    """The solution of Eq. 2.

    Attributes:
        network: The largest network within every bound.
        rule: The name of the rule that scales it.
        phi: The rule's exponent, as in Eq. 3.
        depth: Multiplier; alpha^phi in Eq. 3.
        width: Multiplier; beta^phi in Eq. 3.
        resolution: Side of the input, pixels.
        params: Trainable parameters.
        macs: Multiply-adds for one image.
        activations: Outputs of convolutions and fully connected layers for one image, elements.
        memory_bytes: Peak memory of inference, or of a training step if the budget bounds that.
        sram_bytes: int8 activations on a microcontroller.
        flash_bytes: int8 weights on a microcontroller.
        binding: The figure that the next larger network would exceed.
        alternatives: For "depth", "width" and "resolution" the network that scales this dimension alone, and for each
            other rule (see `known_rules`) its network; None if it cannot meet the budget this way, or does not change
            the bounded figures. A rule that only shrinks is left out where the baseline itself fits.
    """

    network: Network
    rule: str
    phi: float
    depth: float
    width: float
    resolution: int
    params: int
    macs: int
    activations: int
    memory_bytes: int
    sram_bytes: int
    flash_bytes: int
    binding: str
    alternatives: dict[str, Alternative | None]


def plan(
    network: Network,
    *,
    max_macs: float | None = None,
    max_params: float | None = None,
    max_activations: float | None = None,
    max_memory: float | None = None,
    max_sram: float | None = None,
    max_flash: float | None = None,
    max_latency: float | None = None,
    latency: LatencyModel | None = None,
    batch: int = 1,
    training: bool = False,
    precision: Precision = "float32",
    rule: ScalingRule | Coefficients | str | None = None,
) -> Plan:
    """Scale a network by the largest phi, which may be negative, within every given bound (Eq. 2, Eq. 3).

    Args:
        network: The baseline.
        max_macs: Multiply-adds for one image.
        max_params: Trainable parameters.
        max_activations: Outputs of convolutions and fully connected layers for one image, elements.
        max_memory: Bytes, of inference over `batch` images, or of a training step with `training`.
        max_sram: Bytes of int8 activations on a microcontroller.
        max_flash: Bytes of int8 weights on a microcontroller.
        max_latency: Milliseconds for one image, as predicted by `latency`; `runtime.plan_within` fits and checks the
            model.
        latency: The model that predicts milliseconds; required with `max_latency`.
        batch: Batch size for the memory figures.
        training: Whether to bound the memory of a training step instead of inference.
        precision: Of the memory figures.
        rule: The rule that scales, its name, or coefficients of Eq. 3. By default "compound" if the baseline is within
            the budget, and "tiny" if it is not: compound scaling gives small networks too little resolution to learn
            from.

    Raises:
        CompoundNetError: no bound was given, or a bound is not a number above 0; or even the smallest network exceeds a
            bound, and the message states the bound and the network's value; or the rule makes no network as large.
    """
    bounds = bounds_of(
        max_macs=max_macs, max_params=max_params, max_activations=max_activations, max_memory=max_memory,
        max_sram=max_sram, max_flash=max_flash, max_latency=max_latency, latency=latency, training=training,
    )  # fmt: skip

    def measure(candidate: Network) -> Cost:
        return cost(candidate, batch=batch, precision=precision)

    def exceeded(candidate: Network) -> Bound | None:
        value = measure(candidate)
        return next((bound for bound in bounds if bound.of(candidate, value) > bound.limit), None)

    def figures(candidate: Network) -> dict[str, int]:
        value = measure(candidate)
        memory = value.training_memory_bytes if training else value.memory_bytes
        return {
            "resolution": candidate.resolution, "params": value.params, "macs": value.macs,
            "activations": value.activations, "memory_bytes": memory, "sram_bytes": value.sram_bytes,
            "flash_bytes": value.flash_bytes,
        }  # fmt: skip

    fits = exceeded(network) is None
    chosen = find_rule(rule if rule is not None else "compound" if fits else "tiny")
    least_of_all = smallest(network, chosen)
    if (broken := exceeded(least_of_all)) is not None:
        least = broken.of(least_of_all, measure(least_of_all))
        raise CompoundNetError(
            f"no network of {network.name} fits by the rule {chosen.name}: {broken.figure} of at most"
            f" {_written(broken.limit)} was asked, and the smallest ({least_of_all.resolution} px) needs"
            f" {_written(least)}"
        )
    phi, blocked = _largest_phi(network, chosen, exceeded)
    if blocked is None and chosen.only_smaller:
        raise CompoundNetError(
            f"the rule {chosen.name} only makes networks smaller, and {network.name} is within the budget; use compound"
            " or fast"
        )
    if blocked is None:
        raise CompoundNetError(f"the given bounds do not limit {network.name}; give max_macs, the multiply-adds")
    found = scale_by(network, chosen, phi)
    depth, width, _ = chosen.multipliers(phi)
    alternatives = {dimension: _alone(network, dimension, exceeded, figures) for dimension in DIMENSIONS}
    for other in known_rules().values():
        if other.name != chosen.name and not (other.only_smaller and fits):
            alternatives[other.name] = _by_rule(network, other, exceeded, figures)
    return Plan(
        network=found, rule=chosen.name, phi=phi, depth=depth, width=width, binding=blocked.figure,
        alternatives=alternatives, **figures(found),
    )  # fmt: skip


def smallest(network: Network, rule: ScalingRule | Coefficients | str | None = None) -> Network:
    """Return the smallest network that `plan` can return; a budget that it exceeds has no solution."""
    chosen = find_rule("tiny" if rule is None else rule)
    return scale_by(network, chosen, chosen.phi_range(network)[0])


def _written(value: float) -> str:
    """Format a figure: whole numbers and large ones in full, a few milliseconds with three digits."""
    return f"{value:,.0f}" if value == int(value) or value >= 999.5 else f"{value:.3g}"


def _largest(
    build: Callable[[float], Network], exceeded: Callable[[Network], Bound | None], low: float, high: float
) -> tuple[float, Bound | None]:
    """Bisect for the largest value within the bounds, to four decimals, and the bound that the next one exceeds.

    `low` must be within the bounds. Every figure grows with the value, since each rounding rule is monotone.
    """
    blocked = exceeded(build(high))
    if blocked is None:
        return high, None
    for _ in range(STEPS):
        if high - low < 1e-7:
            break
        middle = (low + high) / 2
        broken = exceeded(build(middle))
        if broken is None:
            low = middle
        else:
            high, blocked = middle, broken
    short = math.floor(low * 1e4) / 1e4
    return (short if exceeded(build(short)) is None else low), blocked


def _largest_phi(
    network: Network, rule: ScalingRule, exceeded: Callable[[Network], Bound | None]
) -> tuple[float, Bound | None]:
    """Return the largest phi of a rule within the bounds, and the bound that the next one exceeds.

    The smallest network must be within the bounds.
    """
    low, high = rule.phi_range(network)

    def at_phi(phi: float) -> Network:
        return scale_by(network, rule, phi)

    if rule.only_smaller and exceeded(at_phi(high)) is not None:
        while high - _PHI_STEP > low and exceeded(at_phi(high - _PHI_STEP)) is not None:
            high -= _PHI_STEP
        low = max(low, high - _PHI_STEP)
    return _largest(at_phi, exceeded, low, high)


def _by_rule(
    network: Network,
    rule: ScalingRule,
    exceeded: Callable[[Network], Bound | None],
    figures: Callable[[Network], dict[str, int]],
) -> Alternative | None:
    if exceeded(smallest(network, rule)) is not None:
        return None
    phi, blocked = _largest_phi(network, rule, exceeded)
    if blocked is None:
        return None
    depth, width, _ = rule.multipliers(phi)
    return Alternative(depth=depth, width=width, **figures(scale_by(network, rule, phi)))


def _alone(
    network: Network,
    dimension: str,
    exceeded: Callable[[Network], Bound | None],
    figures: Callable[[Network], dict[str, int]],
) -> Alternative | None:
    if dimension == "resolution":
        low, high = math.log(MIN_RESOLUTION), math.log(1e5)
    else:
        low, high = math.log(1e-3), math.log(1e5)

    def build(exponent: float) -> Network:
        value = math.exp(exponent)
        if dimension == "depth":
            return scale(network, depth=value)
        if dimension == "width":
            return scale(network, width=value)
        return scale(network, resolution=max(MIN_RESOLUTION, math.floor(value)))

    if exceeded(build(low)) is not None:
        return None
    exponent, blocked = _largest(build, exceeded, low, high)
    if blocked is None:
        return None
    found, multiplier = build(exponent), math.exp(exponent)
    return Alternative(
        depth=multiplier if dimension == "depth" else 1.0,
        width=multiplier if dimension == "width" else 1.0,
        **figures(found),
    )
