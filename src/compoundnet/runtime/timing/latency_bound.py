"""The largest network that a machine runs within a time limit: predicted by a fitted model, confirmed by timing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import msgspec

from compoundnet import arch, base
from compoundnet.arch.bounds import LATENCY
from compoundnet.arch.budget import smallest
from compoundnet.base.machine import check_threads
from compoundnet.runtime.backends.registry import Backend, find_backend
from compoundnet.runtime.backends.session import open_session
from compoundnet.runtime.timing.latency_fit import fitted_model
from compoundnet.runtime.timing.rounds import Latency, time_rounds
from compoundnet.runtime.timing.subjects import of_network

_TRIES = 6
# A latency of at least this fraction of the bound is accepted, because repeated latencies differ by as much.
_CLOSE = 0.95
# The fraction of the limit at which a correction aims.
_AIM = 0.98
Timed = Callable[[arch.Network], Latency]


class TimedPlan(msgspec.Struct, frozen=True):
    """A plan, with the timed and the predicted latency of its network in milliseconds, and the machine."""

    plan: arch.Plan
    latency: Latency
    predicted: float
    backend: str
    threads: int


def plan_within(
    network: arch.Network,
    max_latency: float,
    *,
    backend: str = "onnxruntime",
    threads: int = 1,
    max_macs: float | None = None,
    max_params: float | None = None,
    max_activations: float | None = None,
    max_memory: float | None = None,
    max_sram: float | None = None,
    max_flash: float | None = None,
    batch: int = 1,
    training: bool = False,
    rule: arch.ScalingRule | arch.Coefficients | str | None = None,
) -> TimedPlan:
    """Plan the largest network of a family within a latency on this machine: `arch.plan` with a latency bound.

    Args:
        network: The baseline of the family.
        max_latency: Latency bound for one image in milliseconds, for the median of 20 runs.
        backend: The backend that runs it.
        threads: Threads of the network.
        max_macs: Bound on the multiply-adds of one image.
        max_params: Bound on the parameters.
        max_activations: Bound on the activations of one image.
        max_memory: Bound on the memory, in bytes.
        max_sram: Bound on the int8 activations on a microcontroller, in bytes.
        max_flash: Bound on the int8 weights on a microcontroller, in bytes.
        batch: Images at a time, for `max_memory`.
        training: Whether `max_memory` bounds the memory of training.
        rule: The rule that scales, as in `arch.plan`.

    Raises:
        CompoundNetError: No network of the family is fast enough; the message states the latency of the smallest.
    """
    runner = find_backend(backend)
    threads = check_threads(threads)
    model = fitted_model(network, backend=runner, threads=threads)

    def plan(bound: float) -> arch.Plan:
        return arch.plan(
            network,
            max_latency=bound,
            latency=model,
            max_macs=max_macs,
            max_params=max_params,
            max_activations=max_activations,
            max_memory=max_memory,
            max_sram=max_sram,
            max_flash=max_flash,
            batch=batch,
            training=training,
            rule=rule,
        )

    # The predicted latency of the smallest network, with room for rounding, is the least bound for which a plan exists.
    floor = model.milliseconds(smallest(network, rule)) * (1 + 1e-9)
    found, latency = refine(plan, lambda one: time_network(one, runner, threads), max_latency, floor)
    return TimedPlan(found, latency, model.milliseconds(found.network), backend, threads)


def time_plan(found: arch.Plan, *, backend: str = "onnxruntime", threads: int = 1) -> dict[str, Latency]:
    """Time the network of a plan and those of its alternatives in interleaved rounds, with random weights.

    Args:
        found: The plan.
        backend: The backend that runs them.
        threads: Threads of each network.

    Returns:
        The latency of one image, in milliseconds, by the name of the rule or of the dimension.
    """
    runner, threads = find_backend(backend), check_threads(threads)
    rows = {found.rule: found, **found.alternatives}
    networks = {way: row.network for way, row in rows.items() if row is not None}
    calls = {}
    for way, one in networks.items():
        source = of_network(one).source
        calls[way] = partial(open_session(source, runner, threads), source.probe())
    return time_rounds(calls)


def refine(plan: Callable[[float], arch.Plan], timed: Timed, limit: float, floor: float) -> tuple[arch.Plan, Latency]:
    """The largest plan whose timed latency is within `limit`, found by varying the bound on the predicted latency.

    The bound starts at the limit, is then corrected by the error of the model, and finally bisected between the largest
    bound that met the limit and the smallest that did not; it is never below `floor`. The search stops at a plan close
    to the limit, or one that is stopped by another bound. Raises CompoundNetError if even the plan of `floor` exceeds
    the limit.
    """
    timed = cache(timed)  # near the result several bounds give the same network
    best: tuple[arch.Plan, Latency] | None = None
    low, high = 0.0, float("inf")
    bound = max(limit, floor)
    for tries_left in reversed(range(_TRIES)):
        found = plan(bound)
        latency = timed(found.network)
        if latency.median <= limit:
            low, best = bound, (found, latency)
            if latency.median >= _CLOSE * limit or found.binding != LATENCY:
                break
        elif bound <= floor:
            break
        else:
            high = bound
        corrected = bound * limit / latency.median * _AIM
        bound = max(floor, corrected if low < corrected < high else (low + high) / 2)
        if best is None and tries_left == 1:
            bound = floor
    if best is None:
        raise base.CompoundNetError(
            f"no network of the family runs within {limit:.3g} ms here: the smallest ({found.resolution} px) takes"
            f" {latency.median:.3g} ms"
        )
    return best


def time_network(network: arch.Network, backend: Backend, threads: int) -> Latency:
    """Return the latency of one image, with random weights."""
    source = of_network(network).source
    run, image = open_session(source, backend, threads), source.probe()
    return time_rounds({network.name: lambda: run(image)})[network.name]
