"""The largest network that fits a budget (Eq. 2), scaled by a rule with one exponent (Eq. 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec

from compoundnet.arch.bounds import Bound, bounds_of
from compoundnet.arch.costs import Cost, cost
from compoundnet.arch.latency import LatencyModel
from compoundnet.arch.memory import Precision
from compoundnet.arch.scaling import scale
from compoundnet.arch.scaling_rules import (
    Coefficients,
    ScalingRule,
    find_rule,
    known_rules,
    scale_by,
    scaled_resolution,
)
from compoundnet.arch.spec import MIN_RESOLUTION, Network
from compoundnet.base.errors import CompoundNetError

STEPS = 60
# The figures of a rule that only shrinks need not fall evenly, so its exponents are searched in steps of this size.
_PHI_STEP = 0.1
_DECIMALS = 4  # of phi
DIMENSIONS = ("depth", "width", "resolution")


class LargestNetwork(msgspec.Struct, frozen=True):
    """The largest network of a budget that is scaled in one way.

    Attributes:
        network: The network.
        depth: Multiplier; alpha^phi in Eq. 3.
        width: Multiplier; beta^phi in Eq. 3.
        resolution: Side of the input, pixels.
        params: Trainable parameters.
        macs: Multiply-adds for one image.
        activations: Outputs of convolutions and fully connected layers for one image, elements.
        memory_bytes: Peak memory of inference, or of a training step if the budget bounds that.
        sram_bytes: int8 activations on a microcontroller.
        flash_bytes: int8 weights on a microcontroller.
    """

    network: Network
    depth: float
    width: float
    resolution: int
    params: int
    macs: int
    activations: int
    memory_bytes: int
    sram_bytes: int
    flash_bytes: int

    def facts(self) -> dict[str, Any]:
        """Return all but the network, for JSON."""
        return {field: getattr(self, field) for field in self.__struct_fields__ if field != "network"}


class Plan(LargestNetwork, frozen=True):
    """The solution of Eq. 2: the largest network within every bound, and what other ways of scaling give.

    Attributes:
        rule: The name of the rule that scales it.
        phi: The rule's exponent, as in Eq. 3.
        binding: The figure that the next larger network would exceed.
        alternatives: For "depth", "width" and "resolution" the network that scales this dimension alone, and for each
            other rule (see `known_rules`) its network; None if it cannot meet the budget this way, or does not change
            the bounded figures. A rule that only shrinks is left out where the baseline itself fits.
    """

    rule: str
    phi: float
    binding: str
    alternatives: dict[str, LargestNetwork | None]

    def facts(self) -> dict[str, Any]:
        """Return all but the networks, for JSON."""
        rows = {way: None if row is None else row.facts() for way, row in self.alternatives.items()}
        return super().facts() | {"alternatives": rows}


class _Budget(NamedTuple):
    """The bounds, and how the memory of a network is counted."""

    bounds: Sequence[Bound]
    batch: int
    training: bool
    precision: Precision

    def cost(self, candidate: Network) -> Cost:
        return cost(candidate, batch=self.batch, precision=self.precision)

    def exceeded(self, candidate: Network) -> Bound | None:
        """Return the first bound that a network exceeds."""
        return self._broken(candidate, self.cost(candidate))

    def exceeded_without_copies(self, candidate: Network) -> Bound | None:
        """Return the first bound that a network exceeds even if no padded copy of a map is counted.

        Inference on torch copies maps for "same" padding alone, and a microcontroller for "symmetric" padding alone.
        """
        value = self.cost(candidate)
        if any(bound.padded for bound in self.bounds):
            other = self.cost(candidate.replace(padding="symmetric" if candidate.padding == "same" else "same"))
            value = msgspec.structs.replace(
                value,
                memory_bytes=min(value.memory_bytes, other.memory_bytes),
                training_memory_bytes=min(value.training_memory_bytes, other.training_memory_bytes),
                sram_bytes=min(value.sram_bytes, other.sram_bytes),
            )
        return self._broken(candidate, value)

    def _broken(self, candidate: Network, value: Cost) -> Bound | None:
        return next((bound for bound in self.bounds if bound.of(candidate, value) > bound.limit), None)

    def figures(self, candidate: Network) -> dict[str, Any]:
        value = self.cost(candidate)
        memory = value.training_memory_bytes if self.training else value.memory_bytes
        return {
            "network": candidate, "resolution": candidate.resolution, "params": value.params, "macs": value.macs,
            "activations": value.activations, "memory_bytes": memory, "sram_bytes": value.sram_bytes,
            "flash_bytes": value.flash_bytes,
        }  # fmt: skip


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
        rule: The rule that scales, its name, or coefficients of Eq. 3. By default "compound" if that makes a network
            within the budget that is no smaller than the baseline, and "tiny" if it does not: compound scaling gives
            small networks too little resolution to learn from.

    Raises:
        CompoundNetError: no bound was given, or a bound is not a number above 0; or even the smallest network exceeds a
            bound, and the message states the bound and the network's value; or the rule makes no network as large.
    """
    bounds = bounds_of(
        max_macs=max_macs, max_params=max_params, max_activations=max_activations, max_memory=max_memory,
        max_sram=max_sram, max_flash=max_flash, max_latency=max_latency, latency=latency, training=training,
    )  # fmt: skip

    budget = _Budget(bounds, batch, training, precision)

    @cache
    def largest_phi(asked: ScalingRule) -> tuple[float, Bound | None] | None:
        return _largest_phi(network, asked, budget)

    if rule is None:
        answer = largest_phi(find_rule("compound"))
        rule = "compound" if answer is not None and answer[0] >= 0 else "tiny"
    chosen = find_rule(rule)
    answer = largest_phi(chosen)
    if answer is None:
        least = smallest(network, chosen)
        broken = budget.exceeded(least)
        assert broken is not None  # or it would be the answer
        needed = broken.of(least, budget.cost(least))
        raise CompoundNetError(
            f"no network of {network.name} fits by the rule {chosen.name}: {broken.figure} of at most"
            f" {_written(broken.limit)} was asked, and the smallest ({least.resolution} px) needs {_written(needed)}"
        )
    phi, blocked = answer
    if blocked is None and chosen.only_smaller:
        raise CompoundNetError(
            f"the rule {chosen.name} only makes networks smaller, and {network.name} is within the budget; use compound"
            " or fast"
        )
    if blocked is None:
        raise CompoundNetError(f"the given bounds do not limit {network.name}; give max_macs, the multiply-adds")
    depth, width, _ = chosen.multipliers(phi)
    alternatives = {dimension: _alone(network, dimension, budget) for dimension in DIMENSIONS}
    fits = budget.exceeded(network) is None
    for other in known_rules().values():
        if other.name != chosen.name and not (other.only_smaller and fits):
            alternatives[other.name] = _by_rule(network, other, largest_phi(other), budget)
    return Plan(
        rule=chosen.name, phi=phi, depth=depth, width=width, binding=blocked.figure, alternatives=alternatives,
        **budget.figures(scale_by(network, chosen, phi)),
    )  # fmt: skip


def smallest(network: Network, rule: ScalingRule | Coefficients | str | None = None) -> Network:
    """Return the smallest network that `plan` can return; a budget that it exceeds has no solution."""
    chosen = find_rule("tiny" if rule is None else rule)
    return scale_by(network, chosen, chosen.phi_range(network)[0])


def _written(value: float) -> str:
    """Format a figure: whole numbers and large ones in full, a few milliseconds with three digits."""
    return f"{value:,.0f}" if value == int(value) or value >= 999.5 else f"{value:.3g}"


def _largest(
    build: Callable[[float], Network],
    pixels: Callable[[float], int],
    budget: _Budget,
    low: float,
    high: float,
    step: float = math.inf,
) -> tuple[float, Bound | None] | None:
    """Return the largest value within the budget, and the bound that the next one exceeds; None if no value is.

    At one resolution every figure grows with the value, since each rounding rule is monotone. Memory does not grow
    steadily with the resolution: before a strided convolution a map with an even side is copied to be padded, and one
    with an odd side is not. So the value is first bisected by the figures without such copies, which grow, and then the
    resolution falls pixel by pixel to the first that fits with them. If the strides multiply to s, a network of
    m * s + 1 px has no copies, so that this takes at most s steps.

    Args:
        build: Makes the network of a value.
        pixels: The resolution of that network, which does not fall as the value grows.
        budget: The bounds.
        low: The least value.
        high: The largest value.
        step: How far one step goes down from `high` before the bisection; given where the figures without copies need
            not grow either.
    """

    def with_copies(value: float) -> Bound | None:
        return budget.exceeded(build(value))

    def without_copies(value: float) -> Bound | None:
        return budget.exceeded_without_copies(build(value))

    blocked = with_copies(high)
    if blocked is None:
        return high, None
    if without_copies(low) is not None:
        return None
    if (broken := without_copies(high)) is not None:
        while high - step > low and (nearer := without_copies(high - step)) is not None:
            high, broken = high - step, nearer
        high, blocked = _bisected(without_copies, max(low, high - step), high, broken)
    while True:
        edge, below = _edge(pixels, low, high)
        broken = with_copies(edge)
        if broken is None:
            break
        if below is None:
            return None
        high, blocked = below, broken
    if (broken := with_copies(high)) is not None:
        high, blocked = _bisected(with_copies, edge, high, broken)
    for short in (round(high, _DECIMALS), math.floor(high * 10**_DECIMALS) / 10**_DECIMALS):
        if low <= short and pixels(short) == pixels(high) and with_copies(short) is None:
            return short + 0.0, blocked  # never -0.0
    return high, blocked


def _bisected(
    exceeded: Callable[[float], Bound | None], low: float, high: float, blocked: Bound
) -> tuple[float, Bound]:
    """Return the largest value that exceeds no bound, and the bound that the next one exceeds.

    `low` exceeds no bound, and `high` exceeds `blocked`.
    """
    for _ in range(STEPS):
        if high - low < 1e-7:
            break
        middle = (low + high) / 2
        broken = exceeded(middle)
        if broken is None:
            low = middle
        else:
            high, blocked = middle, broken
    return low, blocked


def _edge(pixels: Callable[[float], int], low: float, high: float) -> tuple[float, float | None]:
    """Return the least value from `low` on that has the resolution of `high`, and the largest below it, if any."""
    if pixels(low) == pixels(high):
        return low, None
    below, edge = low, high
    while below < (middle := (below + edge) / 2) < edge:
        below, edge = (middle, edge) if pixels(middle) < pixels(high) else (below, middle)
    return edge, below


def _largest_phi(network: Network, rule: ScalingRule, budget: _Budget) -> tuple[float, Bound | None] | None:
    """Return the largest phi of a rule within the budget, and the bound that the next exceeds; None if no phi is."""
    low, high = rule.phi_range(network)
    if budget.exceeded(network) is None:
        low = 0.0
    return _largest(
        lambda phi: scale_by(network, rule, phi),
        lambda phi: scaled_resolution(network, rule, phi),
        budget, low, high, _PHI_STEP if rule.only_smaller else math.inf,
    )  # fmt: skip


def _by_rule(
    network: Network, rule: ScalingRule, answer: tuple[float, Bound | None] | None, budget: _Budget
) -> LargestNetwork | None:
    if answer is None or answer[1] is None:
        return None
    phi, _ = answer
    depth, width, _ = rule.multipliers(phi)
    return LargestNetwork(depth=depth, width=width, **budget.figures(scale_by(network, rule, phi)))


def _alone(network: Network, dimension: str, budget: _Budget) -> LargestNetwork | None:
    if dimension == "resolution":
        low, high = math.log(MIN_RESOLUTION), math.log(1e5)
    else:
        low, high = math.log(1e-3), math.log(1e5)

    def pixels(exponent: float) -> int:
        if dimension != "resolution":
            return network.resolution
        return max(MIN_RESOLUTION, math.floor(math.exp(exponent)))

    def build(exponent: float) -> Network:
        value = math.exp(exponent)
        if dimension == "depth":
            return scale(network, depth=value)
        if dimension == "width":
            return scale(network, width=value)
        return scale(network, resolution=pixels(exponent))

    answer = _largest(build, pixels, budget, low, high)
    if answer is None or answer[1] is None:
        return None
    exponent, _ = answer
    multiplier = math.exp(exponent)
    return LargestNetwork(
        depth=multiplier if dimension == "depth" else 1.0,
        width=multiplier if dimension == "width" else 1.0,
        **budget.figures(build(exponent)),
    )
