"""This package's own names: a state dict of `build(network)`, as training with another program stores it."""

from __future__ import annotations

from collections.abc import Iterator

from compoundnet.arch import Network, unroll
from compoundnet.models.layouts.base import Layout, Module


def _modules(network: Network) -> Iterator[Module]:
    for layer in unroll(network):
        match layer.kind:
            case "conv":
                yield Module(layer.name, layer.name, "squeeze" if layer.bias else "conv")
            case "norm":
                yield Module(layer.name, layer.name, "norm")
            case "linear":
                yield Module(layer.name, layer.name, "dense")


LAYOUT = Layout("compoundnet", "compoundnet", lambda network: network, _modules, hidden_head=True)
