"""The subjects of timing by name: a network of the catalogue, the zoo or a TOML file, a model, an exported file.

Weights do not affect the latency, so a network named without weights gets random ones, the same each time. Graphs
compiled from those are not kept in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compoundnet import arch, base, zoo
from compoundnet.models import catalogue
from compoundnet.models.downloads import is_fetched
from compoundnet.models.exported import is_exported
from compoundnet.models.hub import is_hub_name
from compoundnet.runtime.session_source import SessionSource, find_source

if TYPE_CHECKING:
    from torch import nn

_SEED = 0


class TimedSubject(msgspec.Struct, frozen=True):
    """One network to time. `weights`: "random" or "trained"; `size`: side of the input, pixels; `macs`: of an image."""

    name: str
    weights: str
    size: int
    params: int
    macs: int
    source: SessionSource


def subject(name: str, *, trained: bool = False) -> TimedSubject:
    """The network, model or exported file of that name. A name that is both a network and a model is the network.

    With `trained` such a name is the model, if it is fetched already.
    As for a model, a known name takes precedence over files in the current folder; `./name` stands for a folder of that
    name. Raises CompoundNetError with the nearest names if there is none.
    """
    wanted = arch.canonical(name)
    networks = {**arch.networks(), **zoo.entries()}
    entry = catalogue.entry(name)
    if (wanted not in networks and _is_model(name)) or (trained and entry is not None and is_fetched(entry)):
        return _of_model(name)
    if wanted in networks or Path(name).suffix == ".toml":
        found = zoo.find_network(name)
        return _of_comparison(found) if isinstance(found, zoo.ZooNetwork) else of_network(found)
    known = [*networks, *(entry.name for entry in catalogue.entries())]
    raise base.CompoundNetError(f"there is no network or model named {name!r}{base.did_you_mean(wanted, known)}")


def _is_model(name: str) -> bool:
    return is_exported(name) or is_hub_name(name) or catalogue.entry(name) is not None or Path(name).is_dir()


def of_network(network: arch.Network) -> TimedSubject:
    """A network with random weights, batch norms folded."""

    def module() -> nn.Module:
        from compoundnet import nn as layers  # noqa: PLC0415  imports torch, which exported files are timed without

        with _seeded():
            return layers.build(network).eval().fuse()

    cost = arch.cost(network)
    source = SessionSource(network.name, network.in_channels, network.resolution, network, None, module=module)
    return TimedSubject(network.name, "random", network.resolution, cost.params, cost.macs, source)


def _of_comparison(entry: zoo.ZooNetwork) -> TimedSubject:
    def module() -> nn.Module:
        with _seeded():
            return entry.build().eval()

    source = SessionSource(entry.name, 3, entry.resolution, None, None, module=module)
    return TimedSubject(entry.name, "random", entry.resolution, entry.params, entry.macs, source)


def _of_model(name: str) -> TimedSubject:
    source = find_source(name)
    assert source.network is not None
    size = source.input_size
    cost = arch.cost(source.network.replace(resolution=size))
    return TimedSubject(source.name, "trained", size, cost.params, cost.macs, source)


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed the random numbers of torch inside the context, and restore their state afterwards."""
    import torch  # noqa: PLC0415  as above

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)  # torch.manual_seed would seed the GPUs too
        yield
