"""The largest network that fits a budget (Eq. 2), scaled by one coefficient (Eq. 3)."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from compoundnet.arch.costs import Cost, cost
from compoundnet.arch.latency import LatencyModel
from compoundnet.arch.memory import Precision
from compoundnet.arch.scaling import MAX_RESOLUTION_FACTOR, Coefficients, compound, scale
from compoundnet.arch.spec import MIN_RESOLUTION, Network
from compoundnet.base.errors import CompoundNetError

PHI_RANGE = 40.0  # 2^40 times the multiply-adds exceeds any machine
STEPS = 60
LATENCY = "latency in ms"


class Bound(msgspec.Struct, frozen=True):
    """One limit of a budget.

    Attributes:
        figure: The limited quantity, by its name for users: "macs", "params", "memory", "training memory" or "latency
            in ms".
        limit: The largest allowed value.
        of: Returns the figure of a network, given its cost.
    """

    figure: str
    limit: float
    of: Callable[[Network, Cost], float]


class Alternative(msgspec.Struct, frozen=True):
    """The largest network of the same budget that scales one dimension alone.

    Attributes:
        depth: Multiplier; 1 unless depth is the dimension.
        width: Multiplier; 1 unless width is the dimension.
        resolution: Side of the input, pixels.
        params: Trainable parameters.
        macs: Multiply-adds for one image.
        memory_bytes: Peak memory of inference, or of a training step if the budget bounds that.
    """

    depth: float
    width: float
    resolution: int
    params: int
    macs: int
    memory_bytes: int


class Plan(msgspec.Struct, frozen=True):
    """The solution of Eq. 2.

    Attributes:
        network: The largest network within every bound.
        phi: The exponent of Eq. 3.
        depth: Multiplier, alpha^phi.
        width: Multiplier, beta^phi.
        resolution: Side of the input, pixels.
        params: Trainable parameters.
        macs: Multiply-adds for one image.
        memory_bytes: Peak memory of inference, or of a training step if the budget bounds that.
        binding: The figure that the next larger network would exceed.
        alternatives: For "depth", "width" and "resolution" the network that scales this dimension alone; None if it
            cannot meet the budget this way, or does not change the bounded figures.
    """

    network: Network
    phi: float
    depth: float
    width: float
    resolution: int
    params: int
    macs: int
    memory_bytes: int
    binding: str
    alternatives: dict[str, Alternative | None]


def plan(
    network: Network,
    *,
    max_macs: float | None = None,
    max_params: float | None = None,
    max_memory: float | None = None,
    max_latency: float | None = None,
    latency: LatencyModel | None = None,
    batch: int = 1,
    training: bool = False,
    precision: Precision = "float32",
    coefficients: Coefficients | None = None,
) -> Plan:
    """Scale a network by the largest phi, which may be negative, within every given bound (Eq. 2, Eq. 3).

    Args:
        network: The baseline.
        max_macs: Multiply-adds for one image.
        max_params: Trainable parameters.
        max_memory: Bytes, of inference over `batch` images, or of a training step with `training`.
        max_latency: Milliseconds for one image, as predicted by `latency`; `runtime.plan_within` fits and checks the
            model.
        latency: The model that predicts milliseconds; required with `max_latency`.
        batch: Batch size for the memory figures.
        training: Whether to bound the memory of a training step instead of inference.
        precision: Of the memory figures.
        coefficients: alpha, beta and gamma; the paper's by default.

    Raises:
        CompoundNetError: no bound was given, or a bound is not a number above 0; or even the smallest network exceeds a
            bound; the message states the bound and the network's value.
    """
    coefficients = coefficients or Coefficients()
    bounds = _bounds(max_macs, max_params, max_memory, max_latency, latency, training)

    def measure(candidate: Network) -> Cost:
        return cost(candidate, batch=batch, precision=precision)

    def exceeded(candidate: Network) -> Bound | None:
        value = measure(candidate)
        return next((bound for bound in bounds if bound.of(candidate, value) > bound.limit), None)

    lowest = _lowest_phi(network, coefficients)
    least_of_all = smallest(network, coefficients)
    if (broken := exceeded(least_of_all)) is not None:
        least = broken.of(least_of_all, measure(least_of_all))
        raise CompoundNetError(
            f"no network of {network.name} fits: {broken.figure} of at most {_written(broken.limit)} was asked,"
            f" and the smallest (phi {lowest:.2f}, {least_of_all.resolution} px) needs {_written(least)}"
        )

    def at_phi(phi: float) -> Network:
        return compound(network, phi, coefficients)

    phi, blocked = _largest(at_phi, exceeded, lowest, _highest_phi(network, coefficients))
    if blocked is None:
        raise CompoundNetError(f"the given bounds do not limit {network.name}; give max_macs, the multiply-adds")
    found = at_phi(phi)
    value = measure(found)
    depth, width, _ = coefficients.multipliers(phi)
    return Plan(
        network=found,
        phi=phi,
        depth=depth,
        width=width,
        resolution=found.resolution,
        params=value.params,
        macs=value.macs,
        memory_bytes=value.training_memory_bytes if training else value.memory_bytes,
        binding=blocked.figure,
        alternatives={
            dimension: _alternative(network, dimension, exceeded, measure, training)
            for dimension in ("depth", "width", "resolution")
        },
    )


def smallest(network: Network, coefficients: Coefficients | None = None) -> Network:
    """Return the smallest network that `plan` can return; a budget that it exceeds has no solution."""
    coefficients = coefficients or Coefficients()
    return compound(network, _lowest_phi(network, coefficients), coefficients)


def _bounds(
    max_macs: float | None,
    max_params: float | None,
    max_memory: float | None,
    max_latency: float | None,
    latency: LatencyModel | None,
    training: bool,
) -> list[Bound]:
    if (max_latency is None) != (latency is None):
        raise CompoundNetError("max_latency goes with latency, the model that predicts it")

    def memory(_: Network, value: Cost) -> float:
        return value.training_memory_bytes if training else value.memory_bytes

    def milliseconds(candidate: Network, value: Cost) -> float:
        assert latency is not None
        return latency.milliseconds(candidate, value)

    asked: list[tuple[str, float | None, Callable[[Network, Cost], float]]] = [
        ("macs", max_macs, lambda _, value: value.macs),
        ("params", max_params, lambda _, value: value.params),
        ("training memory" if training else "memory", max_memory, memory),
        (LATENCY, max_latency, milliseconds),
    ]
    for figure, limit, _ in asked:
        if limit is not None and not (math.isfinite(limit) and limit > 0):
            raise CompoundNetError(f"the bound on {figure} must be a number above 0, got {limit}")
    bounds = [Bound(figure, limit, of) for figure, limit, of in asked if limit is not None]
    if not bounds:
        raise CompoundNetError("a budget needs at least one bound: max_macs, max_params, max_memory or max_latency")
    return bounds


def _written(value: float) -> str:
    """Format a figure: whole numbers and large ones in full, a few milliseconds with three digits."""
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.3g}"


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


def _lowest_phi(network: Network, coefficients: Coefficients) -> float:
    if coefficients.gamma == 1:
        return -PHI_RANGE
    lowest = math.log(MIN_RESOLUTION / network.resolution) / math.log(coefficients.gamma)
    return max(-PHI_RANGE, math.ceil(lowest * 1e4) / 1e4)


def _highest_phi(network: Network, coefficients: Coefficients) -> float:
    if coefficients.gamma == 1:
        return PHI_RANGE
    return min(PHI_RANGE, math.log(1e5 / network.resolution) / math.log(coefficients.gamma))


def _alternative(
    network: Network,
    dimension: str,
    exceeded: Callable[[Network], Bound | None],
    measure: Callable[[Network], Cost],
    training: bool,
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
        return scale(network, resolution=max(MIN_RESOLUTION, MAX_RESOLUTION_FACTOR + 1, math.floor(value + 1e-9)))

    if exceeded(build(low)) is not None:
        return None
    exponent, blocked = _largest(build, exceeded, low, high)
    if blocked is None:
        return None
    found = build(exponent)
    value = measure(found)
    multiplier = math.exp(exponent)
    return Alternative(
        depth=multiplier if dimension == "depth" else 1.0,
        width=multiplier if dimension == "width" else 1.0,
        resolution=found.resolution,
        params=value.params,
        macs=value.macs,
        memory_bytes=value.training_memory_bytes if training else value.memory_bytes,
    )
