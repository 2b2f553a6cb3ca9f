"""What can be timed by name: a model folder, an exported file, a network of the catalogue, the zoo or a TOML file.

Weights do not change how long a network takes, so one that is named without them gets random ones, the same each time.
Nothing that is compiled of those is kept in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compoundnet import arch, zoo
from compoundnet.runtime.exported import is_exported
from compoundnet.runtime.sources import Source, find_source

if TYPE_CHECKING:
    from torch import nn

FLOAT32 = "float32"
_SEED = 0


class Subject(msgspec.Struct, frozen=True):
    """One network to time. `weights`: "random" or "trained"; `size`: side of the input, pixels; `macs`: of an image."""

    name: str
    weights: str
    size: int
    params: int
    macs: int
    source: Source

    @property
    def precision(self) -> str:
        exported = self.source.exported
        return FLOAT32 if exported is None else exported.precision


def subject(name: str) -> Subject:
    """The network, model folder or exported file of that name.

    Raises CompoundNetError with the nearest names where there is none.
    """
    wanted = arch.canonical(name)
    comparison = zoo.entries()
    if is_exported(name) or Path(name).is_dir():
        return _of_model(name)
    if wanted in comparison:
        return _of_comparison(comparison[wanted])
    if Path(name).suffix != ".toml" and not any(wanted in members for members in arch.families().values()):
        known = [*(key for members in arch.families().values() for key in members), *comparison]
        raise arch.CompoundNetError(f"there is no network named {name!r}{arch.did_you_mean(wanted, known)}")
    return of_network(arch.network(name))


def of_network(network: arch.Network) -> Subject:
    """A network with random weights, batch norms folded."""

    def module() -> nn.Module:
        from compoundnet import nn as layers

        with _seeded():
            return layers.build(network).eval().fuse()

    cost = arch.cost(network)
    source = Source(network.name, network.in_channels, network.resolution, network, None, module=module)
    return Subject(network.name, "random", network.resolution, cost.params, cost.macs, source)


def _of_comparison(entry: zoo.ZooNetwork) -> Subject:
    def module() -> nn.Module:
        with _seeded():
            return entry.build().eval()

    source = Source(entry.name, 3, entry.resolution, None, None, module=module)
    return Subject(entry.name, "random", entry.resolution, entry.params, entry.macs, source)


def _of_model(name: str) -> Subject:
    source = find_source(name)
    assert source.network is not None
    size = source.input_size
    cost = arch.cost(source.network.replace(resolution=size))
    return Subject(source.name, "trained", size, cost.params, cost.macs, source)


@contextmanager
def _seeded() -> Iterator[None]:
    """torch's random numbers start at the same place inside, and go on outside as if nothing had been."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        yield
