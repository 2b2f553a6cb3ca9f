"""A latency model of a network's family, fitted to scaled sizes of it that are timed on this machine once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np

from compoundnet.arch import LatencyModel, Network, scale
from compoundnet.arch.latency import FEATURES, features
from compoundnet.arch.spec import MIN_RESOLUTION
from compoundnet.base import CompoundNetError
from compoundnet.base.machine import instruction_sets, processor
from compoundnet.runtime.cache import stored
from compoundnet.runtime.sessions import BACKENDS, open_session
from compoundnet.runtime.timing.rounds import installed, time_rounds
from compoundnet.runtime.timing.subjects import of_network

_FILE = "latency.json"
# Multipliers of depth, width and resolution. Each dimension is scaled alone as well, which tells what a multiply-add
# costs from what a layer, an activation and a parameter cost.
_SIZES = ((1.0, 1.0, 1.0), (0.5, 1.0, 1.0), (1.0, 0.5, 1.0), (1.0, 1.0, 0.5), (0.5, 0.5, 0.5), (1.2, 1.2, 1.2))


def fitted_model(network: Network, *, backend: str, threads: int) -> LatencyModel:
    """The model of a network's family on this machine; fitted the first time, which takes a minute, then kept."""
    identity = {
        "network": network.dumps(),
        "processor": f"{processor()} {instruction_sets()}",
        "backend": backend,
        "threads": str(threads),
        **installed("compoundnet", BACKENDS[backend].package),
    }

    def make(folder: Path) -> None:
        (folder / _FILE).write_bytes(msgspec.json.encode(_time_and_fit(network, backend, threads)))

    doing = f"timing networks of its family on {backend}, for about a minute"
    with stored("latency", network.name, identity, make, doing) as folder:
        return msgspec.json.decode((folder / _FILE).read_bytes(), type=LatencyModel)


def fit_latency(networks: Sequence[Network], milliseconds: Sequence[float]) -> LatencyModel:
    """The model with the least sum of squared relative errors among those without a rate below 0.

    Raises CompoundNetError where there is nothing to fit, or a time is not above 0.
    """
    if not networks or min(milliseconds) <= 0:
        raise CompoundNetError("fitting a latency model takes at least one network, and times above 0")
    amounts = np.array([features(network) for network in networks], dtype=np.float64)
    units = amounts.max(axis=0)
    relative = amounts / units / np.array(milliseconds)[:, None]
    return LatencyModel(**dict(zip(FEATURES, (_least_squares(relative) / units).tolist(), strict=True)))


def _least_squares(
    rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The x >= 0 for which rows @ x is nearest to 1. The best one is the plain solution over the columns that it uses,
    and of four columns there are only 15 choices."""
    columns = range(rows.shape[1])
    best, least = np.zeros(rows.shape[1]), np.inf
    for used in (list(few) for count in range(1, len(columns) + 1) for few in combinations(columns, count)):
        found, *_ = np.linalg.lstsq(rows[:, used], np.ones(len(rows)), rcond=None)
        error = float(np.square(rows[:, used] @ found - 1).sum())
        # A column more must improve on fewer by more than rounding.
        if found.min() >= 0 and error < least - 1e-12:
            best, least = np.zeros(rows.shape[1]), error
            best[used] = found
    return best


def _time_and_fit(network: Network, backend: str, threads: int) -> LatencyModel:
    networks = [_scaled(network, *size) for size in _SIZES]
    calls = {}
    for index, one in enumerate(networks):
        run = open_session(of_network(one).source, backend, threads)
        shape = (1, one.in_channels, one.resolution, one.resolution)
        picture = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        calls[str(index)] = lambda run=run, picture=picture: run(picture)
    return fit_latency(networks, [latency.median for latency in time_rounds(calls).values()])


def _scaled(network: Network, depth: float, width: float, resolution: float) -> Network:
    pixels = max(MIN_RESOLUTION, round(network.resolution * resolution))
    return scale(network, depth=depth, width=width, resolution=pixels)
