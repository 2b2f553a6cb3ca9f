"""The latency model of a family of networks, fitted to scaled networks that are timed once on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from scipy.optimize import nnls

from compoundnet.arch import LatencyModel, Network, scale
from compoundnet.arch.latency import FEATURES, features
from compoundnet.arch.spec import MIN_RESOLUTION
from compoundnet.base import CompoundNetError
from compoundnet.base.machine import instruction_sets, processor
from compoundnet.runtime.backends.registry import Backend
from compoundnet.runtime.backends.session import open_session
from compoundnet.runtime.cache import stored
from compoundnet.runtime.timing.rounds import installed, time_rounds
from compoundnet.runtime.timing.subjects import of_network

_FILE = "latency.json"
# Multipliers of depth, width and resolution. Each dimension is also scaled alone, to separate the cost of a
# multiply-add from those of a layer, an activation and a parameter.
_SIZES = ((1.0, 1.0, 1.0), (0.5, 1.0, 1.0), (1.0, 0.5, 1.0), (1.0, 1.0, 0.5), (0.5, 0.5, 0.5), (1.2, 1.2, 1.2))


def fitted_model(network: Network, *, backend: Backend, threads: int) -> LatencyModel:
    """Return the latency model of a network's family on this machine; fitted once, in a minute, then cached."""
    identity = {
        "network": network.dumps(),
        "processor": f"{processor()} {instruction_sets()}",
        "backend": backend.name,
        "threads": str(threads),
        **installed("compoundnet", backend.package),
    }

    def make(folder: Path) -> None:
        (folder / _FILE).write_bytes(msgspec.json.encode(_time_and_fit(network, backend, threads)))

    doing = f"timing networks of its family on {backend.name}, for about a minute"
    with stored("latency", network.name, identity, make, doing) as folder:
        return msgspec.json.decode((folder / _FILE).read_bytes(), type=LatencyModel)


def fit_latency(networks: Sequence[Network], milliseconds: Sequence[float]) -> LatencyModel:
    """Fit the latency model with non-negative rates that minimises the sum of squared relative errors.

    Args:
        networks: The timed networks.
        milliseconds: Their times, each above 0.

    Raises:
        CompoundNetError: There is nothing to fit, or a time is not above 0.
    """
    if not networks or min(milliseconds) <= 0:
        raise CompoundNetError("fitting a latency model takes at least one network, and times above 0")
    amounts = np.array([features(network) for network in networks], dtype=np.float64)
    units = amounts.max(axis=0)
    relative = amounts / units / np.array(milliseconds)[:, None]
    rates, _ = nnls(relative, np.ones(len(relative)))
    return LatencyModel(**dict(zip(FEATURES, (rates / units).tolist(), strict=True)))


def _time_and_fit(network: Network, backend: Backend, threads: int) -> LatencyModel:
    networks = [_scaled(network, *size) for size in _SIZES]
    calls = {}
    for index, one in enumerate(networks):
        source = of_network(one).source
        calls[str(index)] = partial(open_session(source, backend, threads), source.probe())
    return fit_latency(networks, [latency.median for latency in time_rounds(calls).values()])


def _scaled(network: Network, depth: float, width: float, resolution: float) -> Network:
    pixels = max(MIN_RESOLUTION, round(network.resolution * resolution))
    return scale(network, depth=depth, width=width, resolution=pixels)
