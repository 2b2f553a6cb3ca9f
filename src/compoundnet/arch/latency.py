"""The latency of one image as a linear function of a network's cost."""

from __future__ import annotations

import msgspec

from compoundnet.arch.costs import Cost, cost
from compoundnet.arch.segments import segments
from compoundnet.arch.spec import Network

FEATURES = ("macs", "activations", "params", "layers")


class LatencyModel(msgspec.Struct, frozen=True):
    """Milliseconds for each multiply-add, activation, parameter and layer.

    No rate is negative, so a network that is larger in every respect is never predicted to be faster.
    `runtime.fit_latency` fits a model to timed networks.
    """

    macs: float = 0.0
    activations: float = 0.0
    params: float = 0.0
    layers: float = 0.0

    def __post_init__(self) -> None:
        for feature in FEATURES:
            if not getattr(self, feature) >= 0:
                raise ValueError(f"{feature} must be at least 0 ms each, got {getattr(self, feature)}")

    def milliseconds(self, network: Network, value: Cost | None = None) -> float:
        """Predict the latency of one image in milliseconds.

        Args:
            network: The network.
            value: Its cost, if that is already known.
        """
        found = features(network, value)
        each = (self.macs, self.activations, self.params, self.layers)
        return sum(rate * amount for rate, amount in zip(each, found, strict=True))


def features(network: Network, value: Cost | None = None) -> tuple[int, ...]:
    """Return a network's multiply-adds, activations, parameters and layers, in the order of `FEATURES`."""
    value = value or cost(network)
    layers = sum(run.repeats * len(run.group.layers) for run in segments(network))
    return value.macs, value.activations, value.params, layers
