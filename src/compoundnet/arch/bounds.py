"""The bounds of a budget: which figures of a network may be limited, and what they are."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from compoundnet.arch.costs import Cost
from compoundnet.arch.latency import LatencyModel
from compoundnet.arch.spec import Network
from compoundnet.base.errors import CompoundNetError

LATENCY = "latency in ms"


class Bound(msgspec.Struct, frozen=True):
    """One limit of a budget.

    Attributes:
        figure: The limited quantity, by its name for users: "macs", "params", "activations", "memory", "training
            memory", "sram", "flash" or "latency in ms".
        limit: The largest allowed value.
        of: Returns the figure of a network, given its cost.
    """

    figure: str
    limit: float
    of: Callable[[Network, Cost], float]

    @property
    def padded(self) -> bool:
        """Whether the figure counts padded copies of maps, which even sides need and odd ones do not."""
        return self.figure in ("memory", "training memory", "sram")


def bounds_of(
    *,
    max_macs: float | None,
    max_params: float | None,
    max_activations: float | None,
    max_memory: float | None,
    max_sram: float | None,
    max_flash: float | None,
    max_latency: float | None,
    latency: LatencyModel | None,
    training: bool,
) -> list[Bound]:
    """Return the bounds that were given; arguments as in `plan`.

    Raises:
        CompoundNetError: no bound was given, or one is not a number above 0.
    """
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
        ("activations", max_activations, lambda _, value: value.activations),
        ("training memory" if training else "memory", max_memory, memory),
        ("sram", max_sram, lambda _, value: value.sram_bytes),
        ("flash", max_flash, lambda _, value: value.flash_bytes),
        (LATENCY, max_latency, milliseconds),
    ]
    for figure, limit, _ in asked:
        if limit is not None and not (math.isfinite(limit) and limit > 0):
            raise CompoundNetError(f"the bound on {figure} must be a number above 0, got {limit}")
    bounds = [Bound(figure, limit, of) for figure, limit, of in asked if limit is not None]
    if not bounds:
        raise CompoundNetError(
            "a budget needs at least one bound: max_macs, max_params, max_activations, max_memory, max_sram, max_flash"
            " or max_latency"
        )
    return bounds
